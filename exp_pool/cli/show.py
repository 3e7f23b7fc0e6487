"""Commands that only look: stats, list, show, query, history, config, duplicates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from exp_pool.api.manager import ExpManager
from exp_pool.cli.common import (
    IdArgument,
    IndexOption,
    JsonOption,
    NamespaceOption,
    StoreOption,
    WhereOption,
    conditions,
    moment_of,
    opened,
    said,
    whole_id,
)
from exp_pool.cli.output import Column, as_json, err, facts, line, moment, number, out, short, shown, table
from exp_pool.core import ttl
from exp_pool.core.config import LIMITED_DURATIONS, LIMITED_SIZES, SIZES, TIMEOUTS, ExpPoolConfig, project_root
from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.experience import Experience
from exp_pool.core.results import HistoryEntry, QueryType
from exp_pool.core.values.encoding import to_plain
from exp_pool.runtime import sizes
from exp_pool.runtime.urls import without_password
from exp_pool.stores.change_notes import ChangeNote

app = typer.Typer()
_ROWS = 100  # that a terminal is shown, unless asked for more

_ID, _FUNCTION = Column("id"), Column("function", flexible=True)
_REQUEST, _ANSWER = Column("request", flexible=True), Column("answer", flexible=True, least=60)
_SCORE = Column("score", right=True, least=60)
_LISTED = (
    _ID,
    Column("created", least=100),
    Column("function", flexible=True, least=80),
    _REQUEST,
    _ANSWER,
    _SCORE,
    Column("used", right=True, least=100),
    Column("marks", flexible=True, least=80),
)


@dataclass(slots=True)
class _Totals:
    """What a function's experiences come to."""

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
        """The mean of the scores there are."""
        return self.score_sum / self.scored if self.scored else None


@app.command()
def stats(store: StoreOption = None, namespace: NamespaceOption = None, json_: JsonOption = False) -> None:
    """What the pool holds, for each function, and what its answers have saved.

    Example: exp-pool stats
    """
    with opened(store, namespace) as manager:
        totals = _totals(manager)
        whole = _Totals()
        for each in totals.values():
            for name in _Totals.__slots__:
                setattr(whole, name, getattr(whole, name) + getattr(each, name))
        place, space = without_password(manager.config.store), manager.sync.space
    if json_:
        functions = {name: _plain_totals(each) for name, each in totals.items()}
        as_json({"namespace": space, "store": place, **_plain_totals(whole), "functions": functions})
        return
    columns = (
        _FUNCTION,
        Column("experiences", right=True),
        Column("history", right=True, least=100),
        Column("annotated", right=True, least=60),
        Column("quarantined", right=True, least=100),
        _SCORE,
        Column("used", right=True),
        Column("saved", right=True, least=60),
        Column("USD", right=True, least=100),
        Column("size", right=True, least=100),
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


@app.command("list")
def list_(
    where: WhereOption = None,
    function: Annotated[str | None, typer.Option(help="Only of this function.")] = None,
    since: Annotated[str | None, typer.Option(help="Only since then, in UTC: 2026-11-30, or how long ago: 2d.")] = None,
    below: Annotated[float | None, typer.Option(help="Only with a score below this.")] = None,
    order: Annotated[str, typer.Option(help="A field to sort by; -FIELD: falling.")] = "-created_at",
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"How many; by default {_ROWS} in a terminal, else all.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Earlier answers, too.")] = False,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Experiences, the newest first; with --json one in each line.

    Example: exp-pool list --function app.ask --since 7d --below 0.5
    """
    wanted = conditions(where) or {}
    narrower = {
        "function": function,
        "created_at": None if since is None else {"gte": moment_of(since, "--since")},
        "score": None if below is None else {"lt": below},
    }
    for name, condition in narrower.items():
        if condition is not None:
            if name in wanted:
                raise typer.BadParameter(f"--where has {name!r} already", param_hint="--where")
            wanted[name] = condition
    with opened(store, namespace) as manager:
        most = _ROWS if limit is None and out.is_terminal and not json_ else limit
        found = manager.sync.iter_exps(wanted, order_by=order, limit=most, history=history)
        if json_:
            for experience in found:
                as_json(experience.to_dict(), lines=True)
            return
        rows = map(_listed, found)
        first = next(rows, None)
        if first is None:
            line("no experiences")
            return
        table(_LISTED, chain([first], rows))
        if most is not None and limit is None and (rest := manager.sync.get_exps_count(wanted) - most) > 0:
            line(f"{rest:,} more: say --limit")


def _listed(experience: Experience) -> list[str]:
    e = experience
    marks = [
        mark
        for mark, has in (
            ("annotated", e.annotated),
            (e.trust.value, e.trust.value != "trusted"),
            (e.kind.value, e.kind.value != "success"),
        )
        if has
    ]
    return [
        short(e.id),
        moment(e.created_at),
        e.function,
        e.request,
        shown(e.value),
        number(e.score.value if e.score else None),
        f"{e.access_count:,}",
        ", ".join(marks),
    ]


@app.command()
def show(
    id_: IdArgument, store: StoreOption = None, namespace: NamespaceOption = None, json_: JsonOption = False
) -> None:
    """Everything that an experience holds.

    Example: exp-pool show 1f0c9a3e
    """
    with opened(store, namespace) as manager:
        experience = manager.sync.get_exp(whole_id(manager, id_))
        assert experience is not None
    plain = experience.to_dict()
    if json_:
        as_json(plain)
        return
    facts((name, _indented(name, value)) for name, value in plain.items())


def _indented(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2 if value else None)
    return text.replace("\n", "\n" + " " * 4) if name else text


@app.command()
def query(
    request: Annotated[str, typer.Argument(help="The text.")],
    type_: Annotated[
        QueryType, typer.Option("--type", "-t", help="Equal, near in meaning, in words, or both.")
    ] = QueryType.SEMANTIC,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many at most.")] = 5,
    function: Annotated[str | None, typer.Option(help="Only of this function.")] = None,
    min_similarity: Annotated[float | None, typer.Option(min=-1, max=1, help="The least similarity.")] = None,
    where: WhereOption = None,
    store: StoreOption = None,
    index: IndexOption = None,
    namespace: NamespaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Experiences whose request is equal or similar, the most similar first.

    Example: exp-pool query "I forgot my password" --type hybrid
    """
    wanted = conditions(where)
    plain = type_ in (QueryType.EXACT, QueryType.LEXICAL)
    with (
        opened(store, namespace, index="none://" if plain else index, embedder="none" if plain else None) as manager,
        err.status("searching"),
    ):
        hits = manager.sync.search(
            request, function=function, query_type=type_, top_k=top_k, min_similarity=min_similarity, where=wanted
        )
    if json_:
        for hit in hits:
            as_json({"similarity": hit.similarity, "found_by": hit.found_by, **hit.experience.to_dict()}, lines=True)
        return
    if not hits:
        line("nothing was found")
        return
    columns = (
        Column("similarity", right=True),
        Column("found by", least=100),
        _ID,
        Column("function", flexible=True, least=100),
        _REQUEST,
        _ANSWER,
        _SCORE,
    )
    rows = []
    for hit in hits:
        id_, _, name, asked, answer, score, *_ = _listed(hit.experience)
        rows.append([f"{hit.similarity:.3f}", hit.found_by, id_, name, asked, answer, score])
    table(columns, rows)


@app.command()
def history(
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="The experience's id, or its end.")] = None,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
    json_: JsonOption = False,
) -> None:
    """What happened to an experience; without an id, the changes that curators made, which can be undone.

    Example: exp-pool history 1f0c9a3e
    """
    from exp_pool import curation

    with opened(store, namespace) as manager:
        if id_ is None:
            notes = curation.history(manager)
            entries = []
        else:
            notes = []
            entries = manager.sync.history(whole_id(manager, id_))
    if id_ is None:
        _changes(notes, json_=json_)
    else:
        _happened(entries, json_=json_)


def _changes(notes: Sequence[ChangeNote], *, json_: bool) -> None:
    if json_:
        for each in notes:
            as_json(asdict(each), lines=True)
        return
    if not notes:
        line("no changes")
        return
    columns = (
        Column("change"),
        Column("at", least=100),
        Column("what"),
        Column("who", flexible=True, least=60),
        Column("added", right=True),
        Column("changed", right=True),
        Column("deleted", right=True),
        Column("standing"),
        Column("why", flexible=True, least=80),
    )
    rows = []
    for n in notes:
        counts = [f"{count:,}" for count in (n.added, n.changed, n.deleted)]
        rows.append([short(n.id), n.at[:16].replace("T", " "), n.what, n.who, *counts, n.standing.value, n.why])
    table(columns, rows)


def _happened(entries: Sequence[HistoryEntry], *, json_: bool) -> None:
    if json_:
        for entry in entries:
            plain = {"at": entry.at.isoformat(), "what": entry.what, "id": entry.id}
            as_json({**plain, "detail": to_plain(dict(entry.detail))}, lines=True)
        return
    columns = (Column("at"), Column("what"), Column("id"), Column("detail", flexible=True))
    table(columns, ([moment(e.at), e.what, short(e.id), _detail(e.detail)] for e in entries))


def _detail(detail: Any) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in detail.items())


@app.command()
def config(
    store: StoreOption = None,
    index: IndexOption = None,
    namespace: NamespaceOption = None,
    json_: JsonOption = False,
) -> None:
    """The settings that hold here, and where each comes from. Passwords and secrets are not shown.

    Example: exp-pool config --json
    """
    given = {name: v for name, v in (("store", store), ("index", index), ("namespace", namespace)) if v is not None}
    with said():
        settings = ExpPoolConfig(**given)  # type: ignore[arg-type]
    rows = list(_settings(settings, given))
    if json_:
        as_json({name: {"value": value, **_origin(source)} for name, value, source in rows})
        return
    columns = (Column("setting"), Column("value", flexible=True), Column("from", flexible=True))
    here = f"{project_root()}/"
    table(columns, ([name, _readable(name, value), source.replace(here, "")] for name, value, source in rows))


def _settings(settings: ExpPoolConfig, given: dict[str, str]) -> Iterator[tuple[str, Any, str]]:
    for name, source in settings.sources.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = "***"
        value = without_password(value) if isinstance(value, str) else value
        yield name, value, "option" if name in given else source


def _origin(source: str) -> dict[str, str]:
    """For scripts: which kind of source, and of a file its path."""
    if source.startswith("environment"):
        return {"from": "environment"}
    return {"from": source} if source in ("option", "default") else {"from": "file", "file": source}


def _readable(name: str, value: Any) -> str:
    if value is not None and name in (*TIMEOUTS, *LIMITED_DURATIONS):
        return ttl.as_text(value)
    if value is not None and name in (*SIZES, *LIMITED_SIZES):
        return sizes.as_text(value)
    return shown(value)


@app.command()
def duplicates(
    by: Annotated[str, typer.Option(help="exact, letters or meaning.")] = "letters",
    min_similarity: Annotated[float | None, typer.Option(help="0 to 1; by default 0.8, by meaning 0.95.")] = None,
    within: Annotated[str, typer.Option(help="What is compared: scope, function or pool.")] = "scope",
    where: WhereOption = None,
    store: StoreOption = None,
    index: IndexOption = None,
    namespace: NamespaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Experiences whose requests say the same, in groups, the best of each first. Nothing is changed.

    Example: exp-pool duplicates --by exact
    """
    from exp_pool.curation.review import duplicates as find

    wanted = conditions(where)
    meaning = by == "meaning"
    with opened(
        store, namespace, index=index if meaning else "none://", embedder=None if meaning else "none"
    ) as manager:
        frame = find(manager, wanted, by=by, min_similarity=min_similarity, within=within)
        rows = frame[["id", "found.group", "found.keep", "found.similarity", "found.same_answer", "request"]].values
    names = ("id", "group", "keep", "similarity", "same_answer", "request")
    found = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    if json_:
        for each in found:
            as_json(each, lines=True)
    elif not found:
        line("no duplicates")
    else:
        columns = (
            Column("group", right=True),
            Column("keep"),
            _ID,
            Column("similarity", right=True, least=60),
            Column("same answer", least=80),
            _REQUEST,
        )
        yes = {True: "yes", False: ""}
        table(
            columns,
            (
                [str(e["group"]), yes[e["keep"]], short(e["id"]), number(e["similarity"]), yes[e["same_answer"]],
                 e["request"]]
                for e in found
            ),
        )  # fmt: skip
