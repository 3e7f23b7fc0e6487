"""``python -m exp_pool doctor|reindex|backup|restore|vacuum|migrate|prefill``: a pool looked after from outside.

Exit codes: 0 all is well, 1 something is damaged or could not be done (it says what), 2 the command was not understood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from exp_pool.capture import in_namespace
from exp_pool.cli.prefilling import decorated_function, prefill_from
from exp_pool.errors import ConfigurationError, ExpPoolError
from exp_pool.filters import TIME_FIELDS
from exp_pool.manager import ExpManager
from exp_pool.migration import migrate as move
from exp_pool.urls import without_password

app = typer.Typer(
    name="exp_pool",
    help="Look after an experience pool. Without options: the pool of the project in which you are.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out, _err = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True, highlight=False)

StoreOption = Annotated[str | None, typer.Option(help="URL of the store, such as sqlite:///.exp_pool/pool.db.")]
IndexOption = Annotated[str | None, typer.Option(help="URL of the index, such as chroma:///.exp_pool/chroma.")]


@app.command()
def doctor(
    store: StoreOption = None,
    index: IndexOption = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend it: see above.")] = False,
) -> None:
    """Say what is there, what is owed and what is damaged. Exit code 1: something is damaged.

    With --fix, a damaged index is built anew from the store. A damaged store is set aside under another name, beside a
    new one that holds whatever could be read.
    """
    with _pool(store, index) as manager, _bar("building the index") as progress:
        report = manager.sync.doctor(fix=fix, progress=progress)
    places = {"store": without_password(manager.config.store), "index": without_password(manager.config.index)}
    for name, fact in {**places, **report.facts}.items():
        _out.print(f"[bold]{escape(name)}[/bold]: {escape(fact)}")
    for done in report.done:
        _out.print(f"[green]mended[/green]: {escape(done)}")
    for problem in report.problems:
        _out.print(f"[red]problem[/red]: {escape(problem)}")
    if not report.sound:
        raise typer.Exit(1)
    _out.print("nothing is damaged")


@app.command()
def reindex(store: StoreOption = None, index: IndexOption = None) -> None:
    """Build the index anew from the store, beside the old one, which answers meanwhile."""
    with _pool(store, index) as manager, _bar("building the index") as progress:
        rows = manager.sync.reindex(progress)
        least = manager.config.index_from
    if rows:
        _out.print(f"the index was built anew: {rows} rows")
    else:
        _out.print(f"no index is in use: no namespace has {least} vectors (index_from), so exact scan answers")


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")],
    store: StoreOption = None,
) -> None:
    """Copy the pool's store to a file, as it is at one moment, while others go on using it."""
    with _pool(store) as manager:
        manager.sync.backup(target)
    _out.print(f"copied to {escape(str(target))}")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A file that was written by backup.")], store: StoreOption = None
) -> None:
    """Put a copy of a backup in the place of the pool's store; the present one is set aside, not overwritten."""
    with _pool(store, existing=False) as manager:
        aside = manager.sync.restore(source)
    _out.print(f"restored from {escape(str(source))}")
    if aside is not None:
        _out.print(f"what was there is now {escape(str(aside))}")


@app.command()
def vacuum(store: StoreOption = None) -> None:
    """Give the space of what was deleted back to the disk. Others wait meanwhile."""
    with _pool(store) as manager:
        place = manager.sync.place
        before = place.stat().st_size if place and place.is_file() else 0
        manager.sync.vacuum()
        after = place.stat().st_size if place and place.is_file() else 0
    _out.print(f"{before - after:,} bytes were given back")


@app.command(
    epilog="Examples: exp_pool migrate sqlite:///.exp_pool/pool.db json:///pool\n\n"
    "exp_pool migrate json:///pool sqlite:////srv/pool.db --namespace team --dry-run\n\n"
    """exp_pool migrate sqlite:///a.db sqlite:///b.db --where '{"function": "app.answer", "score": {"gte": 0.8}}'"""
)
def migrate(
    source: Annotated[str, typer.Argument(metavar="SRC", help="URL of the store to move from; it is only read.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="URL of the store to move to; what it holds stays.")],
    namespace: Annotated[str | None, typer.Option(help="Only this namespace; by default all.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="JSON", help="Only experiences that match, without deletions and states.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, say what would be moved.")] = False,
) -> None:
    """Move a pool to another store, history and deletions included, and verify it.

    Started again it continues. Relative paths are relative to the project's root.
    """
    conditions = None if where is None else _conditions(where)
    with _said():
        moved = move(source, target, conditions, namespace=namespace, dry_run=dry_run)
    if moved.before:
        _out.print(f"the target held {moved.before:,} rows before")
    _out.print(escape(f"{without_password(source)} -> {without_password(target)}: {moved}"))


@app.command(
    epilog="Each line is one call: a JSON object of named arguments, an array of positional ones, or the only argument."
)
def prefill(
    function: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="A decorated function, as imported here.")],
    items: Annotated[Path, typer.Argument(metavar="ITEMS.JSONL", help="The calls, one in a line.")],
    concurrency: Annotated[int, typer.Option(help="Calls at a time.")] = 1,
    namespace: Annotated[str | None, typer.Option(help="Whose pool; by default the function's.")] = None,
) -> None:
    """Make calls of a function that the pool has no answer for yet. Interrupted, the same command goes on.

    Exit code 1: some calls failed; the others were made.
    """
    with _said():
        decorated = decorated_function(function)
        try:
            with in_namespace(namespace) if namespace else nullcontext():
                ran = prefill_from(decorated, items, concurrency=concurrency)
        except ExceptionGroup as failed:
            for err in failed.exceptions:
                _err.print(f"[red]failed[/red]: {escape(repr(err))} {escape(' '.join(getattr(err, '__notes__', [])))}")
            _err.print(f"[red]error[/red]: {escape(failed.message)}")
            raise typer.Exit(1) from failed
    _out.print(f"{ran} calls of {escape(function)} ran; the pool had the answers of the others")


def _conditions(text: str) -> dict[str, Any]:
    """JSON as `where`; times as ISO 8601, which JSON has no type for."""
    try:
        where = json.loads(text)
        for name in where.keys() & TIME_FIELDS:
            where[name] = {op: t if op == "exists" else datetime.fromisoformat(t) for op, t in where[name].items()}
    except (ValueError, AttributeError, TypeError) as err:
        example = """'{"function": "f", "created_at": {"gte": "2026-01-31T00:00:00+00:00"}}'"""
        raise typer.BadParameter(f"{err}; write JSON such as {example}", param_hint="--where") from err
    return dict(where)


@contextmanager
def _pool(store: str | None, index: str | None = None, *, existing: bool = True) -> Iterator[ExpManager]:
    """A manager that embeds nothing."""
    given: dict[str, Any] = {name: url for name, url in (("store", store), ("index", index)) if url is not None}
    with _said(), ExpManager(embedder="none", **given) as manager:
        place = manager.sync.place
        if existing and place is not None and not place.exists():
            raise ConfigurationError(f"there is no pool at {place}; say where it is with --store")
        yield manager


@contextmanager
def _said() -> Iterator[None]:
    """What goes wrong becomes a message and an exit code."""
    try:
        yield
    except (ValidationError, ExpPoolError, OSError) as err:
        _err.print(f"[red]error[/red]: {escape(str(err))}")
        raise typer.Exit(1) from err


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the terminal's error stream, shown from the first news on."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True) as bar:
        tasks: list[Any] = []

        def show(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bar.add_task(what, total=total))
            bar.update(tasks[0], completed=done, total=total)

        yield show


def main() -> None:
    """The command line."""
    app()
