"""Similar calls: finds the stored calls nearest to a call that missed, expired ones included.

`explain` compares the call with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import nlargest

from exp_pool.calls.request import Request
from exp_pool.core.contracts.plugs import RecordQuery, RecordStore
from exp_pool.core.filters import Condition
from exp_pool.core.record import Record

# The newest calls of the function, and where there are more, those whose texts are most alike. To find these among
# 100,000 takes half a second and keeps nothing in memory; the index of words is faster, once it was built, in five.
_NEWEST, _ALIKE = 1000, 20
_PAGE = 1000
_COMPARED = 500  # characters of a text


def calls_like(request: Request, store: RecordStore) -> list[Record]:
    """The newest stored calls of the same function, in any version, and the most similar ones; no failures.

    Raises:
        StoreError: the store failed.
    """
    of = (Condition("function", "", "eq", request.function), Condition("kind", "", "ne", "failure"))
    rows = list(store.scan(RecordQuery(request.namespace, of), descending=True, limit=_NEWEST))
    if len(rows) == _NEWEST:
        best = nlargest(_ALIKE, _likenesses(request, store))
        found = store.get_many(request.namespace, [id_ for _, id_ in best], by="id")
        rows += [row for row in found if row is not None and row.is_current and row.kind != "failure"]
    return rows


def _likenesses(request: Request, store: RecordStore) -> Iterator[tuple[float, str]]:
    """How much the text of each stored call of the function has in common with this one's, and its id."""
    alike = _likeness_to(request.text)
    position = 0
    while page := store.requests_after(request.namespace, position, _PAGE):
        yield from ((alike(row.request), row.id) for row in page if row.function == request.function)
        position = page[-1].position


def _likeness_to(text: str) -> Callable[[str], float]:
    """The share of words that others have in common with this text: roughly, and in a microsecond or two.

    Where it is not in ASCII it is that of letters: not every script has spaces.
    """
    parts: Callable[[str], Iterable[str]] = str.split if text.isascii() else iter
    mine = set(parts(text[:_COMPARED].lower()))

    def alike(other: str) -> float:
        theirs = set(parts(other[:_COMPARED].lower()))
        return 2 * len(mine & theirs) / (len(mine) + len(theirs) or 1)

    return alike
