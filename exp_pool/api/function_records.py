"""What is stored of one function: how many answers, deleting them, those of its earlier source, why a call misses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from exp_pool.api.deleter import Deleter
from exp_pool.api.namespaces import Namespaces
from exp_pool.calls.explain import explain
from exp_pool.calls.request import Request
from exp_pool.calls.similar_calls import calls_like
from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus, RecordQuery, RecordStore
from exp_pool.core.filters import Condition
from exp_pool.core.identity.argument_source import AND_ARGUMENTS
from exp_pool.core.record import ANY_ARGUMENTS, Match, Record, function_source
from exp_pool.maintenance.pending_scores import reasons
from exp_pool.runtime.call_context import current_namespace
from exp_pool.runtime.notices import Notices
from exp_pool.runtime.progress import bar
from exp_pool.runtime.switches import PoolSwitches

_MANY = 1000  # outdated answers that are counted: to know more costs a call time
_BATCH = 500


@dataclass(kw_only=True, eq=False)
class FunctionRecords:
    """What is stored of functions, and why nothing stored answers a call; see the methods of decorated functions."""

    store: RecordStore  # where it lives
    switches: PoolSwitches  # whether anything may be asked, or changed
    namespaces: Namespaces  # whose are meant
    notices: Notices  # for what a developer should act on
    deleter: Deleter  # deletes what is stored of a function

    def namespaces_of(self, function: str, namespace: str | None, *, varying: bool = False) -> list[str]:
        """The namespaces in which what is asked of a function holds: that of the block, else its own, else ours.

        Args:
            function: its name.
            namespace: its own, if it has one.
            varying: each call says which, so it may be any where something of it is stored.
        """
        if (here := current_namespace()) is not None:
            return [here]
        if not varying:
            return [self.namespaces.of(namespace)]
        return [space for space in self.store.namespaces() if self.count(function, [space])]

    def clear(self, function: str, namespaces: Sequence[str]) -> int:
        """Delete everything of a function, its history too. Returns the number of rows."""
        return sum(
            self.deleter.delete_matching(RecordQuery(namespace, _of(function), history=True))
            for namespace in namespaces
        )

    def count(self, function: str, namespaces: Sequence[str]) -> int:
        """How many answers of a function are stored."""
        self.switches.check_open()
        return sum(self.store.count(RecordQuery(namespace, _of(function))) for namespace in namespaces)

    def explain(
        self,
        request: Request,
        min_score: float | None = None,
        nearest: Match | None = None,
        misfit: Callable[[Record], str] | None = None,
    ) -> str:
        """Why nothing stored answers a call, whatever a judge says.

        Args:
            request: the call.
            min_score: what the function wants of an answer.
            nearest: the stored call to compare it with; by default the one that is most like it.
            misfit: says why the function would not return the answer of a row now; "" where it would.
        """
        (current,) = self.store.get_many(request.namespace, [request.key])
        rows = (
            [] if current is not None else [nearest.record] if nearest is not None else calls_like(request, self.store)
        )
        said = explain(request, current, rows, min_score, misfit)
        if nearest is not None and nearest.found_by != "exact" and current is None:
            said = f"{said} (similarity {nearest.similarity:.3f})"
        why = [] if current is None or current.score is not None else reasons(self.store, request.namespace, current.id)
        return f"{said}; unscored: {why[-1]}" if why else said

    def outdated(self, request: Request) -> None:
        """Say, once for each source of a function, that answers of its earlier source are not given any more."""
        topic = f"source:{request.namespace}:{request.function}:{request.source}"
        if self.notices.was_warned(topic):
            return
        query = RecordQuery(request.namespace, _outdated(request.function, request.source))
        # Answers of the same source to other arguments are no earlier ones.
        same = Condition("source", "", "prefix", f"{function_source(request.source)}{AND_ARGUMENTS}")
        found = self.store.count(query, limit=_MANY)
        count = found - (self.store.count(replace(query, where=(*query.where, same)), limit=found) if found else 0)
        what = "its source" if count else "the source of a function or class that it was given"
        how_many = f"{count or 1} of its answers" if found < _MANY else f"at least {count:,} of its answers"
        self.notices.warn_once(
            topic,
            f"{request.function}: {what} has changed since {how_many} were stored. They do not answer any more: "
            "the function is asked anew, and they stay for search until its new answers take their place. If the "
            "change makes no difference, give them to the new source with .adopt(); to look after changes yourself, "
            'use version=, or source="ignore"',
            request.spec.function,
        )

    def adopt(self, function: str, source: str, namespaces: Sequence[str], *, progress: bool = True) -> int:
        """Let answers of a function's earlier source answer again. Returns the number of rows.

        What the functions and classes among their arguments did then does not count any more, either.
        Each row is changed by itself; interrupted, the same call goes on where this one ended.

        Args:
            function: its name.
            source: the digest of its source now; "": for any.
            namespaces: those of the rows.
            progress: show a bar, in a terminal or a notebook.
        """
        self.switches.check_writable()
        whatever = f"{source}{AND_ARGUMENTS}{ANY_ARGUMENTS}" if source else ""
        outdated = (
            row
            for namespace in namespaces
            for row in self.store.scan(RecordQuery(namespace, _outdated(function, source)))
        )
        found = [row for row in outdated if row.source != whatever]
        adopted = 0
        with bar(f"adopting answers of {function}", -(-len(found) // _BATCH), show=progress) as done:
            for start in range(0, len(found), _BATCH):
                rows = found[start : start + _BATCH]
                adopting = [replace(row, source=whatever if AND_ARGUMENTS in row.source else source) for row in rows]
                puts = [Put(row, PutMode.UPDATE, expected_revision=row.revision) for row in adopting]
                adopted += sum(status is not PutStatus.CONFLICT for status in self.store.put_many(puts))
                done("")
        return adopted


def _of(function: str) -> tuple[Condition, ...]:
    return (Condition("function", "", "eq", function),)


def _outdated(function: str, source: str) -> tuple[Condition, ...]:
    """Current answers that other source of a function gave, and nobody vouched for."""
    others = (Condition("source", "", "ne", each) for each in {"", source})
    return (*_of(function), *others, Condition("annotated", "", "eq", False))
