"""Maintenance commands: doctor, reindex, backup, restore, vacuum, migrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exp_pool.cli.common import PoolOptions, WhereOption, bar, error_messages, with_options
from exp_pool.cli.output import as_json, facts, line
from exp_pool.runtime.display import without_password
from exp_pool.snapshots.migration import migrate as move

app = typer.Typer()


@app.command()
@with_options("store", "index", "json")
def doctor(
    options: PoolOptions, fix: Annotated[bool, typer.Option("--fix", help="Mend it: see above.")] = False
) -> None:
    """Say what is there, what is pending and what is damaged. Exit code 1: something is damaged.

    With --fix, a damaged index is built anew from the store. A damaged store is set aside under another name, beside a
    new one that holds whatever could be read.
    """
    with options.opened(index=True) as manager, bar("building the index") as progress:
        report = manager.sync.doctor(fix=fix, progress=progress)
    places = {"store": without_password(manager.config.store), "index": without_password(manager.config.index)}
    if options.json:
        facts_ = {**places, **report.facts}
        told = {"facts": facts_, "namespaces": report.counts, "done": report.done, "problems": report.problems}
        as_json({"sound": report.sound, **told})
    else:
        facts({**places, **report.facts}.items())
        for done in report.done:
            line(f"mended: {done}", "green")
        for problem in report.problems:
            line(f"problem: {problem}", "red")
        if report.sound:
            line("nothing is damaged")
    if not report.sound:
        raise typer.Exit(1)


@app.command()
@with_options("store", "index")
def reindex(options: PoolOptions) -> None:
    """Build the index anew from the store, beside the old one, which answers meanwhile."""
    with options.opened(index=True) as manager, bar("building the index") as progress:
        rows = manager.sync.reindex(progress)
        least = manager.config.index_from
    if rows:
        line(f"the index was built anew: {rows} rows")
    else:
        line(f"no index is in use: no namespace has {least} vectors (index_from), so exact scan answers")


@app.command()
@with_options("store")
def backup(
    options: PoolOptions, target: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")]
) -> None:
    """Copy the pool's store to a file, as it is at one moment, while others go on using it."""
    with options.opened() as manager:
        manager.sync.backup(target)
    line(f"copied to {target}")


@app.command()
@with_options("store")
def restore(
    options: PoolOptions, source: Annotated[Path, typer.Argument(help="A file that was written by backup.")]
) -> None:
    """Put a copy of a backup in the place of the pool's store; the present one is set aside, not overwritten."""
    with options.opened(index=True, existing=False) as manager:
        aside = manager.sync.restore(source)
    line(f"restored from {source}")
    if aside is not None:
        line(f"what was there is now {aside}")


@app.command()
@with_options("store")
def vacuum(options: PoolOptions) -> None:
    """Give the space of what was deleted back to the disk. Others wait meanwhile."""
    with options.opened() as manager:
        place = manager.sync.place
        before = place.stat().st_size if place and place.is_file() else 0
        manager.sync.vacuum()
        after = place.stat().st_size if place and place.is_file() else 0
    line(f"{before - after:,} bytes were given back")


@app.command(
    epilog="Examples: exp-pool migrate sqlite:///.exp_pool/pool.db json:///pool\n\n"
    "exp-pool migrate json:///pool sqlite:////srv/pool.db --namespace team --dry-run\n\n"
    """exp-pool migrate sqlite:///a.db sqlite:///b.db --where '{"function": "app.answer", "score": {"gte": 0.8}}'"""
)
def migrate(
    source: Annotated[str, typer.Argument(metavar="SRC", help="URL of the store to move from; it is only read.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="URL of the store to move to; what it holds stays.")],
    namespace: Annotated[str | None, typer.Option(help="Only this namespace; by default all.")] = None,
    where: WhereOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, say what would be moved.")] = False,
) -> None:
    """Move a pool to another store, history and deletions included, and verify it.

    Started again it continues. Relative paths are relative to the project's root.
    """
    with error_messages():
        moved = move(source, target, where, namespace=namespace, dry_run=dry_run)
    if moved.before:
        line(f"the target held {moved.before:,} rows before")
    line(f"{without_password(source)} -> {without_password(target)}: {moved}")
