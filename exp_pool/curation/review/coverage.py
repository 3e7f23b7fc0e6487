"""Coverage: which requests the pool has no experience for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from exp_pool.core.experience import Experience
from exp_pool.core.identity.names import function_name
from exp_pool.core.results import Hit
from exp_pool.curation.columns import FOUND
from exp_pool.curation.optional_packages import package
from exp_pool.curation.review.frame import at_least, one_of, short
from exp_pool.errors import InvalidInputError
from exp_pool.runtime.progress import progress

if TYPE_CHECKING:
    import pandas as pd

    from exp_pool.api.manager import ExpManager


def coverage(
    manager: ExpManager,
    requests: Iterable[str | Mapping[str, Any]],
    function: str | Callable[..., Any],
    *,
    min_similarity: float = 0.7,
    query_type: str = "semantic",
    where: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Requests for which the pool has nothing; the farthest from all stored ones first.

    Found means: by `ExpManager.search`, an experience in use. That a request is covered does not say that it would be
    answered: by default only an identical one is.

    Args:
        manager: whose pool.
        requests: what is asked, or will be: texts, or dicts of arguments. These are embedded, the pool is not.
        function: of which function; a name, or a decorated function.
        min_similarity: how near something must be to count; -1 to 1.
        query_type: ``"semantic"``, ``"lexical"`` (which needs no embedder), ``"hybrid"`` or ``"exact"``.
        where: conditions for what counts.

    Returns:
        a frame with `function`, `request`, ``found.reason``, ``found.similarity`` and ``found.nearest`` (the id of what
        comes nearest, if anything), and an empty `expected`: write the answers there, drop the rows without one, and
        `apply_frame` adds them. Requests that were given as dicts have `arguments`. Share covered: ``1 - len(frame) /
        len(requests)``, as each request is listed once.

    Raises:
        InvalidInputError: a request is neither text nor a dict, or a value that cannot be.
        EmbedderError, StoreError: see `ExpManager.search`.
    """
    pandas = package("pandas", "curation")
    at_least("min_similarity", min_similarity, -1.0, 1.0)
    one_of("query_type", query_type, ("semantic", "lexical", "hybrid", "exact"))
    pool, name = manager.sync, function_name(function)
    asked = {experience.key: (given, experience) for given, experience in _calls_of(requests, name)}
    found: list[tuple[float, dict[str, Any]]] = []
    for given, experience in progress(asked.values(), "looking for what is missing"):
        hits = pool.search(experience.request, function=name, query_type=query_type, top_k=1, where=where)
        nearest: Hit | None = hits[0] if hits else None
        if nearest is not None and nearest.similarity >= min_similarity:
            continue
        row = {
            "id": None,
            FOUND + "reason": "nothing is stored"
            if nearest is None
            else f"the nearest ({nearest.similarity:.2f}) is {short(nearest.experience.request)}",
            FOUND + "similarity": None if nearest is None else nearest.similarity,
            FOUND + "nearest": None if nearest is None else nearest.experience.id,
            "function": name,
            "request": experience.request,
        }
        if isinstance(given, Mapping):
            row["arguments"] = dict(given)
        found.append((-2.0 if nearest is None else nearest.similarity, row | {"expected": None}))
    found.sort(key=lambda each: each[0])
    names = ["id", *(FOUND + n for n in ("reason", "similarity", "nearest")), "function", "request"]
    names += ["arguments"] if any("arguments" in row for _, row in found) else []
    frame: pd.DataFrame = pandas.DataFrame([row for _, row in found], columns=[*names, "expected"])
    return frame.astype({"id": object, "expected": object, FOUND + "similarity": "float64"})


def _calls_of(
    requests: Iterable[str | Mapping[str, Any]], name: str
) -> Iterable[tuple[str | Mapping[str, Any], Experience]]:
    if isinstance(requests, str | Mapping):
        raise InvalidInputError(f"requests={requests!r:.80} must be a list of requests, such as [{requests!r:.40}]")
    for given in requests:
        if isinstance(given, str):
            yield given, Experience(function=name, request=given, response=None)
        elif isinstance(given, Mapping):
            yield given, Experience(function=name, arguments=dict(given), response=None)
        else:
            raise InvalidInputError(f"requests holds {given!r:.80}; give texts, or dicts of arguments")
