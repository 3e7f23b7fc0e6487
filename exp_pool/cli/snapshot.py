"""``exp-pool snapshot``: save, load and merge pools as files. Without a command: RL-Factory's cycle and its options."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from exp_pool import snapshots
from exp_pool.api.manager import ExpManager
from exp_pool.cli.common import PoolOptions, error_messages, with_options
from exp_pool.cli.output import line
from exp_pool.core.contracts.plugs import EvictionOrder
from exp_pool.errors import InvalidInputError

app = typer.Typer(help="Pools as files that nodes exchange.", invoke_without_command=True)


class Cache(StrEnum):
    """RL-Factory's cache modes."""

    SINGLE = "single"
    MULTI = "multi"


CacheOption = Annotated[Cache, typer.Option("--cache", help="single: of one node; multi: of several.")]
PersistOption = Annotated[bool, typer.Option("--persist", help="Write it to --persist-dir.")]
EvictionOption = Annotated[EvictionOrder, typer.Option("--eviction", help="What goes first.")]
MaxSizeOption = Annotated[int, typer.Option("--max-size", min=1, help="How many entries there may be.")]
PersistDirOption = Annotated[Path, typer.Option("--persist-dir", help="The folder to write.")]
LoadCacheOption = Annotated[
    list[Path] | None, typer.Option("--load-cache", help="A file or folder to load; of several nodes: again.")
]
PartitionOption = Annotated[int, typer.Option(min=1, help="Entries in one file at most.")]


@app.callback()
@with_options("json")
def cycle(
    options: PoolOptions,
    context: typer.Context,
    cache: CacheOption = Cache.SINGLE,
    persist: PersistOption = False,
    eviction: EvictionOption = EvictionOrder.LRU,
    max_size: MaxSizeOption = 1000,
    persist_dir: PersistDirOption = Path("./cache"),
    load_cache: LoadCacheOption = None,
) -> None:
    """Pools as files that nodes exchange. Without a command: put files together, evict, write.

    The project's own pool is not touched by that. What people annotated or added by hand is never evicted.

    Example: exp-pool snapshot --cache multi --load-cache a --load-cache b --max-size 1000 --persist
    """
    if context.invoked_subcommand is not None:
        return
    sources = load_cache or []
    with error_messages():
        if cache is Cache.SINGLE and len(sources) > 1:
            raise InvalidInputError(f"--cache single takes one --load-cache, not {len(sources)}; say --cache multi")
        settings = {"store": "memory://", "index": "none://", "embedder": "none"}
        with ExpManager(**settings, max_entries=max_size, eviction=eviction.value) as manager:  # type: ignore[arg-type]
            loaded = sum(snapshots.load(manager, source) for source in sources)
            manager.sync.flush()
            kept = sum(1 for _ in manager.sync.iter_exps(history=True))
            paths = snapshots.save(manager, persist_dir) if persist else []
    where = f"; {len(paths):,} files in {persist_dir}" if persist else "; say --persist to write it"
    options.answer(
        {"loaded": loaded, "kept": kept, "files": [str(path) for path in paths]},
        f"{loaded:,} rows loaded, {kept:,} kept ({eviction.value}, at most {max_size:,}){where}",
    )


@app.command()
@with_options()
def save(
    options: PoolOptions,
    folder: Annotated[Path, typer.Argument(help="The folder; made where it is not there.")] = Path("./cache"),
    partition_size: PartitionOption = 10_000,
    every: Annotated[str | None, typer.Option(help="Go on and save every so often, such as 10m, until Ctrl-C.")] = None,
) -> None:
    """Write the pool, history and deletions too, as files.

    Example: exp-pool snapshot save ./cache
    """
    with options.opened() as manager:
        if every is not None:
            try:
                with snapshots.saving(manager, folder, every, partition_size=partition_size):
                    line(f"saving to {folder} every {every}; Ctrl-C ends it")
                    while True:
                        time.sleep(3600)  # Ctrl-C ends a sleep on every system, and not every wait for an event
            except KeyboardInterrupt:  # it has saved once more by now
                line(f"saved to {folder}")
                return
        paths = snapshots.save(manager, folder, partition_size)
    options.answer([str(path) for path in paths], f"{len(paths):,} files in {folder}")


@app.command()
@with_options()
def load(
    options: PoolOptions,
    path: Annotated[Path, typer.Argument(help="A file, or a folder that save wrote.")],
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Only what is not there yet, and deletions.")
    ] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="Delete what is as old as what the other pool cleared.")
    ] = False,
) -> None:
    """Bring files into the pool. Rows that were deleted where they were saved are deleted here, too.

    Example: exp-pool snapshot load ./cache
    """
    with options.opened(existing=False) as manager:
        written = snapshots.load(manager, path, incremental, clear=clear)
    options.answer({"written": written}, f"{written:,} rows written")


@app.command()
def merge(
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write; it must not be there yet.")],
) -> None:
    """Put several files into one; of two states of one experience the later stays.

    Example: exp-pool snapshot merge a.cache b.cache --out both.cache
    """
    with error_messages():
        line(f"written to {snapshots.merge(paths, out)}")
