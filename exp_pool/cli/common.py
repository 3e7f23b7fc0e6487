"""What commands share: options, opening a manager, errors as messages, confirmation, a progress bar."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from inspect import Signature, signature
from itertools import chain, islice
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from exp_pool.api.manager import ExpManager
from exp_pool.cli.output import TableColumn, as_json, err, line, note, table
from exp_pool.core.ttl import to_seconds
from exp_pool.errors import (
    ConfigurationError,
    ExpPoolError,
    ExpPoolWarning,
    InvalidInputError,
    NamespaceError,
    NotFoundError,
)
from exp_pool.runtime import clock
from exp_pool.runtime.call_context import in_namespace

T = TypeVar("T")


def _conditions(text: str) -> dict[str, Any]:
    """Conditions of --where."""
    try:
        where = json.loads(text)
        if not isinstance(where, dict):
            raise TypeError("it is no JSON object")
        return where
    except (ValueError, TypeError, RecursionError) as error:
        example = """'{"function": "f", "created_at": {"gte": "2026-01-31"}}'"""
        raise typer.BadParameter(f"{error}; write JSON such as {example}", param_hint="--where") from error


def json_value(text: str, option: str | None = None) -> Any:
    """JSON value of an option."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{error}; text needs quotes in JSON", param_hint=option) from error


def json_object(text: str) -> dict[str, Any]:
    """JSON object of an option."""
    value = json_value(text)
    if not isinstance(value, dict):
        raise typer.BadParameter("it must be a JSON object")
    return value


StoreOption = Annotated[str | None, typer.Option(help="URL of the store, such as sqlite:///.exp_pool/pool.db.")]
IndexOption = Annotated[str | None, typer.Option(help="URL of the index, such as chroma:///.exp_pool/chroma.")]
NamespaceOption = Annotated[
    str | None, typer.Option(help="Whose experiences; by default the namespace of the settings.")
]
WhereOption = Annotated[
    dict[str, Any] | None,
    typer.Option(
        parser=_conditions, metavar="JSON", help="""Only experiences that match, such as '{"score": {"gte": 0.8}}'."""
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The experience's id, or its end, where that is enough.")]

_USUAL = ("store", "namespace", "json")
SHORTEST = 4  # characters of an id's end
_NAMED = 5
_options: dict[str, str] = {}  # of the command that is running: by the name of an argument how it is written here


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The options that most commands share: which pool, whose experiences, and how the command prints its result."""

    store: StoreOption = None
    index: IndexOption = None
    namespace: NamespaceOption = None
    json: JsonOption = False

    @contextmanager
    def opened(self, *, index: bool = False, by_meaning: bool = False, existing: bool = True) -> Iterator[ExpManager]:
        """Open the manager of these options; by default one that embeds nothing and needs no index.

        Args:
            index: with the index of the options or settings.
            by_meaning: with that index, and the embedder of the settings.
            existing: the pool must be there already.
        """
        given = {"store": self.store, "namespace": self.namespace}
        given |= {"index": self.index if index or by_meaning else "none://"}
        given |= {"embedder": None if by_meaning else "none"}
        settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        within = in_namespace(self.namespace) if self.namespace else nullcontext()
        with error_messages(), within, ExpManager(**settings) as manager:
            place = manager.sync.place
            if existing and place is not None and not place.exists():
                raise ConfigurationError(f"there is no pool at {place}; say where it is with --store")
            yield manager

    def answer(self, value: Any, *text: str) -> None:
        """Print the result of a command: the value for scripts, lines of text for people."""
        if self.json:
            as_json(value)
        for each in () if self.json else text:
            line(each)

    def answer_rows(
        self,
        columns: Sequence[TableColumn],
        items: Iterable[T],
        plain: Callable[[T], Any],
        cells: Callable[[T], Sequence[str]],
        none: str,
    ) -> None:
        """Print many results: one JSON value in each line for scripts, a table for people.

        Args:
            columns: of the table.
            items: the results.
            plain: makes the JSON value of one.
            cells: makes its row of the table.
            none: what people are told where there are no results.
        """
        if self.json:
            for each in items:
                as_json(plain(each), lines=True)
            return
        rows = map(cells, items)
        first = next(rows, None)
        if first is None:
            line(none)
        else:
            table(columns, chain([first], rows))


def with_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these shared options, by default `_USUAL`, after its own; it takes them as `options`."""
    every = signature(PoolOptions, eval_str=True).parameters
    shared = [option for name, option in every.items() if name in (names or _USUAL)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [each for each in signature(command, eval_str=True).parameters.values() if each.name != "options"]

        def run(**given: Any) -> None:
            command(PoolOptions(**{each.name: given.pop(each.name) for each in shared}), **given)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
        run.__signature__ = Signature([*own, *shared])  # type: ignore[attr-defined]  # what typer makes options of
        return run

    return decorate


@contextmanager
def error_messages() -> Iterator[None]:
    """Turn errors into messages and an exit code, and warnings into messages."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ExpPoolWarning)
        warnings.showwarning = lambda message, *_args, **_more: note("warning", str(message), "yellow")
        try:
            yield
        except BrokenPipeError:
            raise
        except ExceptionGroup as group:
            for each in group.exceptions:
                note("failed", f"{each!r} {' '.join(getattr(each, '__notes__', []))}", "red")
            note("error", group.message, "red")
            raise typer.Exit(1) from group
        except ValidationError as error:  # without the input, which may be long, or a secret
            for each in error.errors():
                where = ".".join(map(str, each["loc"]))
                note("error", f"{where}: {each['msg']}" if where else each["msg"], "red")
            raise typer.Exit(1) from error
        except NamespaceError as error:
            note("error", "require_namespace is set: say whose experiences are meant, with --namespace", "red")
            raise typer.Exit(1) from error
        except (ExpPoolError, OSError) as error:
            note("error", _in_options(str(error)), "red")
            raise typer.Exit(1) from error


def set_option_names(command: Any) -> None:
    """Use the option names of this command, or group of commands, in messages from now on."""
    _options.clear()
    for each in (command, *getattr(command, "commands", {}).values()):
        for parameter in each.params:
            name = (parameter.name or "").removesuffix("_")
            _options[name] = next((option for option in parameter.opts if option.startswith("--")), "")


def _in_options(message: str) -> str:
    """Message of the library in terms of options: ``--overwrite``, not ``overwrite=True``."""
    for name, option in _options.items():
        if option:
            message = re.sub(rf"\b{name}=(True\b)?", f"{option} ", message)
            message = re.sub(rf"{option} (?=[\s.,;:)]|$)", option, message)
    return message


def parse_moment(text: str, option: str) -> datetime:
    """Time: ISO 8601 text, in UTC where it names no zone; or how long ago, such as ``2d``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return clock.now() - timedelta(seconds=to_seconds(text, option) or 0)
        except ConfigurationError:
            what = "it must be a time such as 2026-11-30, or how long ago, such as 2d or 90m"
            raise typer.BadParameter(f"{text!r}: {what}", param_hint=option) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def resolve_id(manager: ExpManager, part: str) -> str:
    """Whole id of an id or its end.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: several ids end so.
    """
    if manager.sync.get_exp(part) is not None:
        return part
    if len(part) >= SHORTEST:
        like = manager.sync.iter_exps({"id": {"contains": part}}, history=True)
        found = list(islice((row.id for row in like if row.id.endswith(part)), _NAMED))
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidInputError(f"several ids end in {part!r}: {', '.join(found)}; write more of it")
    raise NotFoundError(
        f"no experience {part!r} in namespace {manager.sync.namespace!r}: give a whole id, or its end of at least "
        f"{SHORTEST} characters"
    )


def confirm(what: str, *, yes: bool) -> None:
    """Ask before something is destroyed. Without an answer it is not done.

    Raises:
        typer.Exit: the answer was no.
    """
    if yes:
        return
    try:
        if typer.confirm(f"{what} Go on?", err=True):
            return
    except typer.Abort:
        err.print()
        note("error", "nobody answered; say --yes to do it without being asked", "red")
        raise typer.Exit(1) from None
    note("error", "nothing was changed", "red")
    raise typer.Exit(1)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Progress bar on the error stream, shown from the first step on."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as shown:
        tasks: list[Any] = []

        def show(done: int, total: int) -> None:
            if not tasks:
                tasks.append(shown.add_task(what, total=total))
            shown.update(tasks[0], completed=done, total=total)

        yield show
