"""Regression test of functions: annotated experiences are run again and compared with the expected answers."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from exp_pool.api.cached_function import Decorated, decorated
from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.experience import MISSING, Experience, json_form
from exp_pool.core.filters import parse_where
from exp_pool.core.identity.arguments import BY_NAME
from exp_pool.core.record import Record, to_experience
from exp_pool.core.values.codec_stamp import is_typed
from exp_pool.core.values.deep_equal import difference
from exp_pool.core.values.redaction import REDACTED
from exp_pool.curation.change_set import brief, table
from exp_pool.curation.frames import recover_unfinished
from exp_pool.curation.optional_packages import package
from exp_pool.errors import ExpPoolError, InvalidInputError
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.progress import bar

if TYPE_CHECKING:
    import pandas as pd

    from exp_pool.api.manager import ExpManager

Same: TypeAlias = Callable[[Any, Any], bool | Awaitable[bool]]
"""Whether what came back is as good as what was expected: called with (expected, actual)."""

_SHOWN = 50  # rows, when it is printed


class RerunOutcome(StrEnum):
    """Result of running one experience again."""

    PASSED = "passed"
    FAILED = "failed"  # it gave something else
    RAISED = "raised"
    SKIPPED = "skipped"  # it could not be run


@dataclass(frozen=True, slots=True)
class Verified:
    """One experience that was run again. `difference`: what differs, or why it could not be compared."""

    id: str
    function: str
    request: str
    outcome: RerunOutcome
    expected: Any
    actual: Any = MISSING
    difference: str = ""


class Verification(list[Verified]):
    """Results of `verify` as a table. Truthy if there are some and each passed."""

    def count(self, outcome: RerunOutcome | str) -> int:  # type: ignore[override]
        """Number of results with this outcome."""
        return sum(row.outcome == outcome for row in self)

    def __bool__(self) -> bool:
        return len(self) > 0 and self.count(RerunOutcome.PASSED) == len(self)

    def __repr__(self) -> str:
        lines = [
            f"{row.outcome:8}{row.id}  {row.function}({brief(row.request)})"
            + (f"\n        {row.difference}" if row.difference else "")
            for row in self._worst_first()
        ]
        return "\n".join([self._headline(), *lines])

    def _repr_html_(self) -> str:
        """HTML for notebooks. Stored text is escaped."""
        rows = (
            (*(row.outcome, row.id, row.function), *map(brief, (row.request, row.expected, row.actual)), row.difference)
            for row in self._worst_first()
        )
        head = ("", "id", "function", "request", "expected", "actual", "difference")
        return f"<p>{self._headline()}</p>" + table(head, rows)

    def to_frame(self) -> pd.DataFrame:
        """The table as a pandas frame.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        columns = Verified.__slots__
        frame: pd.DataFrame = package("pandas", "curation").DataFrame(
            [[getattr(row, name) for name in columns] for row in self], columns=list(columns), dtype=object
        )
        return frame

    def _headline(self) -> str:
        return ", ".join(f"{self.count(outcome):,} {outcome}" for outcome in RerunOutcome)

    def _worst_first(self) -> list[Verified]:
        return sorted(self, key=lambda row: row.outcome is RerunOutcome.PASSED)[:_SHOWN]


def verify(
    manager: ExpManager,
    functions: Mapping[str, Callable[..., Any]] | Callable[..., Any] | None = None,
    where: Mapping[str, Any] | None = None,
    *,
    same: Same | None = None,
) -> Verification:
    """Run the function of every annotated experience again, without the pool, and compare with the expected answer.

    Nothing is stored, and nothing is imported because a stored record names it: a function is run if it is decorated
    in this process, or given here. What was redacted or left out when the call was stored cannot be run again: skipped.

    Args:
        manager: whose pool.
        functions: by their stored names, or one that is decorated; by default those decorated in this process. Methods
            are given bound: ``{"shop.Agent.answer": agent.answer}``.
        where: conditions, as in queries.
        same: whether an answer will do, for functions that say the same in other words each time; by default the
            answers must be equal, types too.

    Returns:
        a row for each experience.

    Raises:
        InvalidInputError: `where` or `functions` cannot be.
        StoreError: the store failed.
    """
    pool = manager.sync
    recover_unfinished(pool)
    known = _known(functions)
    query = RecordQuery(pool.namespace, parse_where({**(where or {}), "annotated": True}))
    found = Verification()
    with bar("verifying", pool.store.count(query)) as done:
        for record in pool.store.scan(query):
            found.append(_verified(record, known.get(record.function), same))
            done("")
    return found


def _known(functions: Mapping[str, Callable[..., Any]] | Callable[..., Any] | None) -> Mapping[str, Callable[..., Any]]:
    if functions is None:
        return cast("dict[str, Callable[..., Any]]", dict(decorated.items()))
    if isinstance(functions, Mapping):
        if wrong := [name for name, function in functions.items() if not callable(function)]:
            raise InvalidInputError(f"functions[{wrong[0]!r}] cannot be called")
        return functions
    name = getattr(functions, "__exp_function__", None)
    if name is None:
        raise InvalidInputError(
            f"functions={functions!r:.80} is not decorated, so its stored name is unknown; give {{name: function}}"
        )
    return {name: functions}


def _verified(record: Record, function: Callable[..., Any] | None, same: Same | None) -> Verified:
    experience = to_experience(record)
    expected = experience.expected

    def row(outcome: RerunOutcome, actual: Any = MISSING, why: str = "") -> Verified:
        return Verified(record.id, record.function, record.request, outcome, expected, actual, why)

    if function is None:
        return row(RerunOutcome.SKIPPED, why="this process has no such function; import it first, or give functions=")
    try:
        if REDACTED in record.arguments:
            raise TypeError("an argument was redacted")
        call = _call_of(function, experience)
    except (ExpPoolError, TypeError, ValueError) as err:
        return row(RerunOutcome.SKIPPED, why=f"it cannot be called again: {err}")
    try:
        actual = _result_of(call())
    except Exception as err:  # whatever the function raises is what came of it
        return row(RerunOutcome.RAISED, why=repr(err))
    try:
        if isinstance(function, Decorated) and not is_typed(record.codec):
            expected = _typed(function, record, streamed=isinstance(actual, _RerunChunks))
        else:
            actual = json_form(list(actual) if isinstance(actual, _RerunChunks) else actual)
        differs = difference(expected, actual)
        if same is not None:
            differs = None if resolve(same(expected, actual)) else (differs or "same() says it differs")
    except Exception as err:
        return row(RerunOutcome.FAILED, actual, f"it cannot be compared: {err}")
    return row(RerunOutcome.FAILED if differs else RerunOutcome.PASSED, actual, differs or "")


def _call_of(function: Callable[..., Any], experience: Experience) -> Callable[[], Any]:
    """Call that was stored, without the pool.

    Raises:
        TypeError: the arguments do not fit, or are not all of them.
    """
    original = function.original if isinstance(function, Decorated) else function
    signature = inspect.signature(original)
    bound = _bound(signature, experience.arguments)
    if isinstance(function, Decorated):
        batched = function._setup.batch  # noqa: SLF001
        if batched:
            bound.arguments[batched] = [bound.arguments[batched]]
            return lambda: _only(_result_of(original(*bound.args, **bound.kwargs)))
        if function.key(*bound.args, **bound.kwargs) != experience.key:
            raise TypeError("not all of what was asked is stored (redacted, or made by key=), or its version differs")
    return lambda: original(*bound.args, **bound.kwargs)


def _bound(signature: inspect.Signature, arguments: Mapping[str, Any]) -> inspect.BoundArguments:
    args: list[Any] = []
    left = dict(arguments)
    said = left.get(BY_NAME)
    by_name: list[str] = said if isinstance(said, list) else []  # where that counted
    kwargs: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            args += left.pop(name, ())
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            kwargs |= left.pop(name, {})
            kwargs |= {key: value for key, value in left.items() if not key.startswith("<")}
        elif name not in left:
            continue
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY or name in by_name:
            kwargs[name] = left.pop(name)
        else:
            args.append(left.pop(name))
    ordered = [name for name in by_name if name in kwargs]
    return signature.bind(*args, **{name: kwargs[name] for name in (*ordered, *kwargs)})


def _result_of(result: Any) -> Any:
    """Result of a coroutine, or the chunks of a generator."""
    if inspect.isawaitable(result):
        return resolve(result)
    if isinstance(result, AsyncIterable):
        chunks: Any = _all(result)
        return _RerunChunks(resolve(chunks))
    return _RerunChunks(result) if isinstance(result, Iterator) else result


class _RerunChunks(list[Any]):
    """Chunks of a stream."""


async def _all(chunks: AsyncIterable[Any]) -> list[Any]:
    return [chunk async for chunk in chunks]


def _only(answers: Any) -> Any:
    (answer,) = answers
    return answer


def _typed(function: Decorated[..., Any], record: Record, *, streamed: bool) -> Any:
    """The expected answer as the function would have given it."""
    codec = function._policy.codec  # noqa: SLF001
    text = record.expected or "null"
    value = codec.read(text, record.codec, given=True)
    return _RerunChunks(value) if streamed else value
