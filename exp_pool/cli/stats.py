"""``exp-pool stats``: what a pool holds and what its answers have saved, for each function."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from exp_pool.api.manager import ExpManager
from exp_pool.cli.common import PoolOptions, with_options
from exp_pool.cli.output import TableColumn, as_json, line, number, table
from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.runtime.urls import without_password

app = typer.Typer()


@dataclass(slots=True)
class _Totals:
    """Totals of a function's experiences."""

    experiences: int = 0
    history: int = 0
    annotated: int = 0
    quarantined: int = 0
    used: int = 0
    scored: int = 0
    score_sum: float = 0.0
    saved_s: float = 0.0
    saved_usd: float = 0.0
    bytes: int = 0

    @property
    def score(self) -> float | None:
        """Mean of the scores."""
        return self.score_sum / self.scored if self.scored else None


@app.command()
@with_options()
def stats(options: PoolOptions) -> None:
    """What the pool holds, for each function, and what its answers have saved.

    Example: exp-pool stats
    """
    with options.opened() as manager:
        totals = _totals(manager)
        whole = _Totals()
        for each in totals.values():
            for name in _Totals.__slots__:
                setattr(whole, name, getattr(whole, name) + getattr(each, name))
        place, space = without_password(manager.config.store), manager.sync.space
    if options.json:
        functions = {name: _plain_totals(each) for name, each in totals.items()}
        as_json({"namespace": space, "store": place, **_plain_totals(whole), "functions": functions})
        return
    columns = (
        TableColumn("function", flexible=True),
        TableColumn("experiences", right=True),
        TableColumn("history", right=True, least=100),
        TableColumn("annotated", right=True, least=60),
        TableColumn("quarantined", right=True, least=100),
        TableColumn("score", right=True, least=60),
        TableColumn("used", right=True),
        TableColumn("saved", right=True, least=60),
        TableColumn("USD", right=True, least=100),
        TableColumn("size", right=True, least=100),
    )
    rows = [_totals_row(name, each) for name, each in totals.items()]
    if len(rows) > 1:
        rows.append(_totals_row("all", whole))
    line(f"namespace {space} in {place.replace(f'{Path.cwd()}/', '')}")
    if rows:
        table(columns, rows)
    else:
        line("no experiences")


def _totals(manager: ExpManager) -> dict[str, _Totals]:
    totals: dict[str, _Totals] = {}
    for row in manager.sync.store.scan(RecordQuery(manager.sync.space, history=True), order_by="function"):
        each = totals.setdefault(row.function, _Totals())
        metric = json.loads(row.metric)
        each.experiences += row.is_current
        each.history += not row.is_current
        each.annotated += row.annotated
        each.quarantined += row.trust == "quarantined"
        each.used += row.access_count
        each.scored += row.score is not None
        each.score_sum += row.score or 0.0
        each.saved_s += row.access_count * (metric.get("time_s") or 0)
        each.saved_usd += row.access_count * (metric.get("money_usd") or 0)
        each.bytes += row.size_bytes
    return totals


def _plain_totals(each: _Totals) -> dict[str, Any]:
    plain = {name: value for name, value in asdict(each).items() if name not in ("score_sum", "scored")}
    return {**plain, "score": each.score}


def _totals_row(name: str, each: _Totals) -> list[str]:
    return [
        name,
        f"{each.experiences:,}",
        f"{each.history:,}",
        f"{each.annotated:,}",
        f"{each.quarantined:,}",
        number(each.score),
        f"{each.used:,}",
        _lasting(each.saved_s),
        f"{each.saved_usd:.2f}",
        _size(each.bytes),
    ]


def _lasting(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours:,} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{seconds:.1f} s"  # noqa: PLR2004, E501  # fmt: skip


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":  # noqa: PLR2004
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError
