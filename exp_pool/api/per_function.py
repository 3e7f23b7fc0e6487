"""What the pool knows and does about one function as a whole: how much is stored, forgetting it, changed source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from exp_pool.calls.request import Request
from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus, RecordQuery, RecordStore
from exp_pool.core.filters import Condition
from exp_pool.core.identity.value_source import AND_ARGUMENTS
from exp_pool.core.record import ANY_ARGUMENTS, function_source
from exp_pool.runtime.call_context import current_namespace
from exp_pool.runtime.notices import Notices
from exp_pool.runtime.progress import bar
from exp_pool.runtime.switches import Switched

_MANY = 1000  # outdated answers that are counted: to know more costs a call time
_BATCH = 500


class PerFunction(Switched):
    """A half of the pool; see `ExpManager` and the methods of decorated functions."""

    notices: Notices
    _store: RecordStore

    def _delete_matching(self, query: RecordQuery) -> int:
        raise NotImplementedError

    def _namespace(self, given: str | None) -> str:
        raise NotImplementedError

    def spaces_of(self, function: str, namespace: str | None, *, varying: bool = False) -> list[str]:
        """The namespaces in which what is asked of a function holds: that of the block, else its own, else ours.

        Args:
            function: its name.
            namespace: its own, if it has one.
            varying: each call says which, so it may be any where something of it is stored.
        """
        if (here := current_namespace()) is not None:
            return [here]
        if not varying:
            return [self._namespace(namespace)]
        return [space for space in self._store.namespaces() if self.count_of(function, [space])]

    def clear_of(self, function: str, spaces: Sequence[str]) -> int:
        """Delete everything of a function, its history too; how many rows."""
        return sum(self._delete_matching(RecordQuery(space, _of(function), history=True)) for space in spaces)

    def count_of(self, function: str, spaces: Sequence[str]) -> int:
        """How many answers of a function are stored."""
        self.check_open()
        return sum(self._store.count(RecordQuery(space, _of(function))) for space in spaces)

    def outdated(self, request: Request) -> None:
        """Say, once for each source of a function, that answers of its earlier source are not given any more."""
        topic = f"source:{request.namespace}:{request.function}:{request.source}"
        if self.notices.said(topic):
            return
        query = RecordQuery(request.namespace, _outdated(request.function, request.source))
        # Answers of the same source to other arguments are no earlier ones.
        same = Condition("source", "", "prefix", f"{function_source(request.source)}{AND_ARGUMENTS}")
        found = self._store.count(query, limit=_MANY)
        count = found - (self._store.count(replace(query, where=(*query.where, same)), limit=found) if found else 0)
        what = "its source" if count else "the source of a function or class that it was given"
        how_many = f"{count or 1} of its answers" if found < _MANY else f"at least {count:,} of its answers"
        self.notices.once(
            topic,
            f"{request.function}: {what} has changed since {how_many} were stored. They do not answer any more: "
            "the function is asked anew, and they stay for search until its new answers take their place. If the "
            "change makes no difference, give them to the new source with .adopt(); to look after changes yourself, "
            'use version=, or source="ignore"',
            request.spec.function,
        )

    def adopt(self, function: str, source: str, spaces: Sequence[str], *, progress: bool = True) -> int:
        """Let what earlier source of a function answered answer for this one (a digest; "": for any); how many rows.

        What the functions and classes among their arguments did then does not count any more, either.
        Each row is changed by itself; interrupted, the same call goes on where this one ended.
        """
        self.check_writable()
        whatever = f"{source}{AND_ARGUMENTS}{ANY_ARGUMENTS}" if source else ""
        outdated = (
            row for space in spaces for row in self._store.scan(RecordQuery(space, _outdated(function, source)))
        )
        found = [row for row in outdated if row.source != whatever]
        adopted = 0
        with bar(f"adopting answers of {function}", -(-len(found) // _BATCH), show=progress) as done:
            for start in range(0, len(found), _BATCH):
                rows = found[start : start + _BATCH]
                adopting = [replace(row, source=whatever if AND_ARGUMENTS in row.source else source) for row in rows]
                puts = [Put(row, PutMode.UPDATE, expected_revision=row.revision) for row in adopting]
                adopted += sum(status is not PutStatus.CONFLICT for status in self._store.put_many(puts))
                done("")
        return adopted


def _of(function: str) -> tuple[Condition, ...]:
    return (Condition("function", "", "eq", function),)


def _outdated(function: str, source: str) -> tuple[Condition, ...]:
    """Current answers that other source of a function gave, and nobody vouched for."""
    others = (Condition("source", "", "ne", each) for each in {"", source})
    return (*_of(function), *others, Condition("annotated", "", "eq", False))
