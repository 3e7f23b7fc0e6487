"""``exp-pool stats``: what a pool holds and what its answers have saved, for each function."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.filesize import decimal

from exp_pool.cli.common import PoolOptions, with_options
from exp_pool.cli.output import TableColumn, as_json, line, number, table
from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.record import Record
from exp_pool.runtime.display import without_password

app = typer.Typer()


@app.command()
@with_options()
def stats(options: PoolOptions) -> None:
    """What the pool holds, for each function, and what its answers have saved.

    Example: exp-pool stats
    """
    totals: dict[str, Counter[str]] = {}
    with options.opened() as manager:
        place, namespace = without_password(manager.config.store), manager.sync.namespace
        for row in manager.sync.store.scan(RecordQuery(namespace, history=True), order_by="function"):
            totals.setdefault(row.function, Counter()).update(_figures(row))
    whole: Counter[str] = Counter()
    for each in totals.values():
        whole.update(each)
    if options.json:
        functions = {name: _plain(each) for name, each in totals.items()}
        as_json({"namespace": namespace, "store": place, **_plain(whole), "functions": functions})
        return
    rows = totals | ({"all": whole} if len(totals) > 1 else {})
    line(f"namespace {namespace} in {place.replace(f'{Path.cwd()}/', '')}")
    if rows:
        columns = [TableColumn(heading, right=True, least=least) for heading, least, _ in _COLUMNS.values()]
        cells = (
            [name, *(write(_plain(each)[n]) for n, (*_, write) in _COLUMNS.items())] for name, each in rows.items()
        )
        table([TableColumn("function", flexible=True), *columns], cells)
    else:
        line("no experiences")


def _figures(row: Record) -> dict[str, Any]:
    """What a row adds to the totals of its function."""
    metric = json.loads(row.metric)
    return {
        "experiences": int(row.is_current),
        "history": int(not row.is_current),
        "annotated": int(row.annotated),
        "quarantined": int(row.trust == "quarantined"),
        "used": row.access_count,
        "scored": int(row.score is not None),
        "score_sum": row.score or 0.0,
        "saved_s": row.access_count * (metric.get("time_s") or 0.0),
        "saved_usd": row.access_count * (metric.get("money_usd") or 0.0),
        "bytes": row.size_bytes,
    }


def _plain(totals: Counter[str]) -> dict[str, Any]:
    """Totals for people and scripts: the mean of the scores instead of their sum."""
    mean = totals["score_sum"] / totals["scored"] if totals["scored"] else None
    return {name: mean if name == "score" else totals[name] for name in _COLUMNS}


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours:,} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{seconds:.1f} s"  # noqa: PLR2004, E501  # fmt: skip


def _size(count: int) -> str:
    return decimal(count).replace("bytes", "B")


_COLUMNS: dict[
    str, tuple[str, int, Callable[[Any], str]]
] = {  # heading, least width of the terminal, how it is written
    "experiences": ("experiences", 0, "{:,}".format),
    "history": ("history", 100, "{:,}".format),
    "annotated": ("annotated", 60, "{:,}".format),
    "quarantined": ("quarantined", 100, "{:,}".format),
    "score": ("score", 60, number),
    "used": ("used", 0, "{:,}".format),
    "saved_s": ("saved", 60, _duration),
    "saved_usd": ("USD", 100, "{:.2f}".format),
    "bytes": ("size", 100, _size),
}
