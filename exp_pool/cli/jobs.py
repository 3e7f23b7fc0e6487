"""Long-running commands: score, prefill, adopt, bench."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from exp_pool import snapshots
from exp_pool.api.manager import ExpManager
from exp_pool.api.registry import made_scorer
from exp_pool.cli.common import PoolOptions, WhereOption, error_messages, json_object, with_options
from exp_pool.cli.output import TableColumn, as_json, line, note, table
from exp_pool.cli.prefill import decorated_function, prefill_from
from exp_pool.cli.snapshot import (
    Cache,
    CacheOption,
    EvictionOption,
    LoadCacheOption,
    MaxSizeOption,
    PersistDirOption,
    PersistOption,
)
from exp_pool.core.contracts.plugs import EvictionOrder
from exp_pool.errors import NotFoundError
from exp_pool.runtime.call_context import in_namespace
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.display import counted

app = typer.Typer()
_THREADS = 8  # of --cache multi


@app.command()
@with_options()
def score(
    options: PoolOptions,
    scorer: Annotated[
        str, typer.Argument(help="The name of an installed scorer, such as exact or llm; or module:scorer of your own.")
    ],
    settings: Annotated[
        dict[str, Any] | None,
        typer.Option(
            parser=json_object, metavar="JSON", help="""What it is made with: '{"model": "gpt-5", "rubric": "..."}'."""
        ),
    ] = None,
    where: WhereOption = None,
    again: Annotated[bool, typer.Option("--again", help="Also what has a score of this scorer and version.")] = False,
    concurrency: Annotated[int | None, typer.Option(min=1, help="How many at a time.")] = None,
) -> None:
    """Score experiences. What was interrupted is gone on with. Exit code 1: some could not be scored.

    Example: exp-pool score llm --settings '{"model": "gpt-5", "rubric": "Is it true?"}' --where '{"annotated": true}'
    """
    with options.opened() as manager:
        report = manager.sync.score_exps(
            made_scorer(scorer, settings or {}), where, again=again, concurrency=concurrency
        )
    if options.json:
        names = "scored skipped failed stopped tokens_in tokens_out money_usd time_s".split()
        as_json({name: getattr(report, name) for name in names})
    else:
        for id_, why in list(report.failed.items())[:5]:
            note("unscored", f"{id_}: {why}", "yellow")
        line(str(report))
    if report.failed or report.stopped:
        raise typer.Exit(1)


@app.command()
@with_options("json")
def prefill(
    options: PoolOptions,
    function: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="A decorated function, as imported here.")],
    items: Annotated[
        Path,
        typer.Argument(
            metavar="ITEMS.JSONL",
            help="A call in each line: an object of named arguments, an array of positional ones, or the only one.",
        ),
    ],
    concurrency: Annotated[int, typer.Option(help="Calls at a time.")] = 1,
    namespace: Annotated[str | None, typer.Option(help="Whose pool; by default the function's.")] = None,
) -> None:
    """Make calls of a function that the pool has no answer for yet. Interrupted, the same command goes on.

    Exit code 1: some calls failed; the others were made.

    Example: exp-pool prefill app.agents:answer questions.jsonl
    """
    with error_messages(), in_namespace(namespace) if namespace else nullcontext():
        ran = prefill_from(decorated_function(function), items, concurrency=concurrency)
    options.answer({"ran": ran}, f"{counted(ran, 'call')} of {function} ran; the pool had the answers of all others")


@app.command()
@with_options("json")
def adopt(
    options: PoolOptions,
    name: Annotated[
        str,
        typer.Argument(
            help="module:function, as imported here; or the name under which answers are stored (see list)."
        ),
    ],
    namespace: Annotated[str | None, typer.Option(help="Whose answers; by default the function's own.")] = None,
    store: Annotated[
        str | None, typer.Option(help="URL of the store, such as that of a recording; by default the function's own.")
    ] = None,
) -> None:
    """Let what earlier source of a function answered answer again, after a change that makes no difference.

    By module:function they are given to the source as it is now, so that the next change is noticed again. By the name
    under which answers are stored, for functions that cannot be imported here, they answer whatever the source is.

    Example: exp-pool adopt app.agents:answer
    """
    of_a_module = ":" in name and not name.partition(":")[0].endswith(".py")  # which stands in scripts' names
    with PoolOptions(store, namespace=namespace).opened() if store or not of_a_module else error_messages() as manager:
        pool = manager.sync if manager is not None else None
        if of_a_module or pool is None:
            with in_namespace(namespace) if namespace else nullcontext():
                adopted = decorated_function(name).adopt_in(pool)
        else:
            spaces = pool.functions.namespaces_of(name, namespace)
            if not pool.functions.count(name, spaces):
                raise NotFoundError(
                    f"nothing is stored under {name!r} in namespace {spaces[0]!r}: `exp-pool stats` names what is"
                )
            adopted = pool.functions.adopt(name, "", spaces)
    options.answer({"adopted": adopted}, _adoption_text(adopted, name, whatever=not of_a_module))


def _adoption_text(count: int, name: str, *, whatever: bool) -> str:
    if not count:
        return f"{name} has no answers of earlier source"
    again = f"{counted(count, 'answer')} of {name} {'answers' if count == 1 else 'answer'} again"
    if not whatever:
        return again
    return f"{again}, whatever its source is from now on; to have the next change noticed, say module:function"


@app.command()
@with_options("json")
def bench(
    options: PoolOptions,
    cache: CacheOption = Cache.SINGLE,
    persist: PersistOption = False,
    eviction: EvictionOption = EvictionOrder.LRU,
    max_size: MaxSizeOption = 1000,
    persist_dir: PersistDirOption = Path("./cache"),
    load_cache: LoadCacheOption = None,
    calls: Annotated[int, typer.Option(min=1, help="How many calls.")] = 20_000,
    tools: Annotated[int, typer.Option(min=1, help="How many different calls there are.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Which calls.")] = 0,
) -> None:
    """Measure a cache of tool calls in memory, with RL-Factory's options: some calls come often, most seldom.

    single: one thread asks; multi: eight at once. The project's own pool is not touched.

    Example: exp-pool bench --cache multi --eviction lfu --max-size 500
    """
    chance = random.Random(seed)  # noqa: S311  (a workload, no secret)
    numbers = chance.choices(range(tools), weights=[1 / (rank + 1) for rank in range(tools)], k=calls)
    settings: dict[str, Any] = {"store": "memory://", "index": "none://", "embedder": "none"}
    with error_messages(), ExpManager(**settings, max_entries=max_size, eviction=eviction.value) as manager:
        loaded = sum(snapshots.load(manager, source) for source in load_cache or [])

        @manager.exp_cache(name="exp_pool.bench.tool", ttl="1h" if eviction is EvictionOrder.TTL else None)
        def tool(number: int) -> dict[str, Any]:
            return {"number": number, "text": "x" * 200}

        began = monotonic()
        times = _timed_calls(tool, numbers, threads=_THREADS if cache is Cache.MULTI else 1)
        took = monotonic() - began
        manager.sync.flush()
        counted = manager.stats()
        kept = manager.sync.get_exps_count()
        files = snapshots.save(manager, persist_dir) if persist else []
    times.sort()
    result = {
        "calls": calls,
        "calls_per_s": round(calls / took),
        "hits": counted.hits + counted.coalesced,
        "misses": counted.misses,
        "hit_ratio": round((counted.hits + counted.coalesced) / calls, 4),
        "evicted": counted.evicted,
        "kept": kept,
        "p50_us": round(times[len(times) // 2] * 1e6, 1),
        "p99_us": round(times[len(times) * 99 // 100] * 1e6, 1),
        "loaded": loaded,
        "files": len(files),
    }
    if options.json:
        as_json(result)
    else:
        table(
            (TableColumn("what"), TableColumn("value", right=True)),
            ([name, f"{value:,}"] for name, value in result.items()),
        )


def _timed_calls(tool: Any, numbers: list[int], *, threads: int) -> list[float]:
    """Duration of each call, in seconds."""

    def ask(mine: list[int]) -> list[float]:
        times = []
        for number in mine:
            before = monotonic()
            tool(number)
            times.append(monotonic() - before)
        return times

    with ThreadPoolExecutor(threads) as pool:
        return [took for part in pool.map(ask, [numbers[at::threads] for at in range(threads)]) for took in part]
