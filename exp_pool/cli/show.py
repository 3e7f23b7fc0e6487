"""Read-only commands: list, show, query, history, config, duplicates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from exp_pool.cli.common import (
    IdArgument,
    PoolOptions,
    WhereOption,
    error_messages,
    parse_moment,
    resolve_id,
    with_options,
)
from exp_pool.cli.output import TableColumn, as_json, err, facts, line, moment, number, out, short_id, shown, table
from exp_pool.core import ttl
from exp_pool.core.config import LIMITED_DURATIONS, LIMITED_SIZES, SIZES, TIMEOUTS, ExpPoolConfig, project_root
from exp_pool.core.experience import Experience
from exp_pool.core.results import HistoryEntry, Hit, QueryType
from exp_pool.core.values.encoding import to_plain
from exp_pool.runtime import sizes
from exp_pool.runtime.display import without_password
from exp_pool.stores.change_history import ChangeNote

app = typer.Typer()
_ROWS = 100  # that a terminal is shown, unless asked for more

_ID, _REQUEST, _ANSWER = (
    TableColumn("id"),
    TableColumn("request", flexible=True),
    TableColumn("answer", flexible=True, least=60),
)
_SCORE, _SIMILARITY = TableColumn("score", right=True, least=60), TableColumn("similarity", right=True)
_LISTED = (
    _ID,
    TableColumn("created", least=100),
    TableColumn("function", flexible=True, least=80),
    _REQUEST,
    _ANSWER,
    _SCORE,
    TableColumn("used", right=True, least=100),
    TableColumn("marks", flexible=True, least=80),
)
_FOUND = (
    _SIMILARITY,
    TableColumn("found by", least=100),
    _ID,
    TableColumn("function", flexible=True, least=100),
    _REQUEST,
    _ANSWER,
    _SCORE,
)
_CHANGE = (
    TableColumn("change"),
    TableColumn("at", least=100),
    TableColumn("what"),
    TableColumn("who", flexible=True, least=60),
    *(TableColumn(name, right=True) for name in ("added", "changed", "deleted")),
    TableColumn("standing"),
    TableColumn("why", flexible=True, least=80),
)
_ENTRY = (TableColumn("at"), TableColumn("what"), TableColumn("id"), TableColumn("detail", flexible=True))
_DUPLICATE = (
    TableColumn("group", right=True),
    TableColumn("keep"),
    _ID,
    replace(_SIMILARITY, least=60),
    TableColumn("same answer", least=80),
    _REQUEST,
)


@app.command("list")
@with_options()
def list_(
    options: PoolOptions,
    where: WhereOption = None,
    function: Annotated[str | None, typer.Option(help="Only of this function.")] = None,
    since: Annotated[str | None, typer.Option(help="Only since then, in UTC: 2026-11-30, or how long ago: 2d.")] = None,
    below: Annotated[float | None, typer.Option(help="Only with a score below this.")] = None,
    order: Annotated[str, typer.Option(help="A field to sort by; -FIELD: falling.")] = "-created_at",
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"How many; by default {_ROWS} in a terminal, else all.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Earlier answers, too.")] = False,
) -> None:
    """Experiences, the newest first; with --json one in each line.

    Example: exp-pool list --function app.ask --since 7d --below 0.5
    """
    wanted = where or {}
    narrower = {
        "function": function,
        "created_at": None if since is None else {"gte": parse_moment(since, "--since")},
        "score": None if below is None else {"lt": below},
    }
    for name, condition in narrower.items():
        if condition is not None:
            if name in wanted:
                raise typer.BadParameter(f"--where has {name!r} already", param_hint="--where")
            wanted[name] = condition
    with options.opened() as manager:
        most = _ROWS if limit is None and out.is_terminal and not options.json else limit
        found = manager.sync.iter_exps(wanted, order_by=order, limit=most, history=history)
        options.answer_rows(_LISTED, found, Experience.to_dict, _listed, "no experiences")
        if most is not None and limit is None and (rest := manager.sync.get_exps_count(wanted) - most) > 0:
            line(f"{rest:,} more: say --limit")


def _listed(experience: Experience) -> list[str]:
    e = experience
    marks = ["annotated"] if e.annotated else []
    marks += [mark for mark in (e.trust.value, e.kind.value) if mark not in ("trusted", "success")]
    return [
        short_id(e.id),
        moment(e.created_at),
        e.function,
        e.request,
        shown(e.value),
        number(e.score.value if e.score else None),
        f"{e.access_count:,}",
        ", ".join(marks),
    ]


@app.command()
@with_options()
def show(options: PoolOptions, id_: IdArgument) -> None:
    """Everything that an experience holds.

    Example: exp-pool show 1f0c9a3e
    """
    with options.opened() as manager:
        experience = manager.sync.get_exp(resolve_id(manager, id_))
        assert experience is not None
    plain = experience.to_dict()
    if options.json:
        as_json(plain)
        return
    facts((name, _indented(name, value)) for name, value in plain.items())


def _indented(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2 if value else None)
    return text.replace("\n", "\n" + " " * 4) if name else text


@app.command()
@with_options("store", "namespace", "index", "json")
def query(
    options: PoolOptions,
    request: Annotated[str, typer.Argument(help="The text.")],
    type_: Annotated[
        QueryType, typer.Option("--type", "-t", help="Equal, near in meaning, in words, or both.")
    ] = QueryType.SEMANTIC,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many at most.")] = 5,
    function: Annotated[str | None, typer.Option(help="Only of this function.")] = None,
    min_similarity: Annotated[float | None, typer.Option(min=-1, max=1, help="The least similarity.")] = None,
    where: WhereOption = None,
) -> None:
    """Experiences whose request is equal or similar, the most similar first.

    Example: exp-pool query "I forgot my password" --type hybrid
    """
    by_meaning = type_ not in (QueryType.EXACT, QueryType.LEXICAL)
    with options.opened(by_meaning=by_meaning) as manager, err.status("searching"):
        hits = manager.sync.search(
            request, function=function, query_type=type_, top_k=top_k, min_similarity=min_similarity, where=where
        )

    def plain(hit: Hit) -> dict[str, Any]:
        return {"similarity": hit.similarity, "found_by": hit.found_by, **hit.experience.to_dict()}

    def cells(hit: Hit) -> list[str]:
        id_, _, name, asked, answer, score, *_ = _listed(hit.experience)
        return [f"{hit.similarity:.3f}", hit.found_by, id_, name, asked, answer, score]

    options.answer_rows(_FOUND, hits, plain, cells, "nothing was found")


@app.command()
@with_options()
def history(
    options: PoolOptions,
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="The experience's id, or its end.")] = None,
) -> None:
    """What happened to an experience; without an id, the changes that curators made, which can be undone.

    Example: exp-pool history 1f0c9a3e
    """
    from exp_pool import curation

    with options.opened() as manager:
        if id_ is None:
            options.answer_rows(_CHANGE, curation.history(manager), asdict, _change, "no changes")
        else:
            happened = manager.sync.history(resolve_id(manager, id_))
            options.answer_rows(_ENTRY, happened, _plain_entry, _entry, "no history")


def _change(note: ChangeNote) -> list[str]:
    n, counts = note, [f"{count:,}" for count in (note.added, note.changed, note.deleted)]
    return [short_id(n.id), n.at[:16].replace("T", " "), n.what, n.who, *counts, n.standing.value, n.why]


def _plain_entry(entry: HistoryEntry) -> dict[str, Any]:
    detail = to_plain(dict(entry.detail))
    return {"at": entry.at.isoformat(), "what": entry.what, "id": entry.id, "detail": detail}


def _entry(entry: HistoryEntry) -> list[str]:
    detail = ", ".join(f"{name} {shown(value)}" for name, value in entry.detail.items())
    return [moment(entry.at), entry.what, short_id(entry.id), detail]


@app.command()
@with_options("store", "namespace", "index", "json")
def config(options: PoolOptions) -> None:
    """The settings that hold here, and where each comes from. Passwords and secrets are not shown.

    Example: exp-pool config --json
    """
    given = {name: value for name, value in asdict(options).items() if value is not None and name != "json"}
    with error_messages():
        settings = ExpPoolConfig(**given)
    rows = list(_settings(settings, given))
    if options.json:
        as_json({name: {"value": value, **_origin(source)} for name, value, source in rows})
        return
    columns = (TableColumn("setting"), TableColumn("value", flexible=True), TableColumn("from", flexible=True))
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
    """Origin of a setting for scripts: its kind, and of a file its path."""
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
@with_options("store", "namespace", "index", "json")
def duplicates(
    options: PoolOptions,
    by: Annotated[str, typer.Option(help="exact, letters or meaning.")] = "letters",
    min_similarity: Annotated[float | None, typer.Option(help="0 to 1; by default 0.8, by meaning 0.95.")] = None,
    within: Annotated[str, typer.Option(help="What is compared: scope, function or pool.")] = "scope",
    where: WhereOption = None,
) -> None:
    """Experiences whose requests say the same, in groups, the best of each first. Nothing is changed.

    Example: exp-pool duplicates --by exact
    """
    from exp_pool.curation.review import duplicates as find

    with options.opened(by_meaning=by == "meaning") as manager:
        frame = find(manager, where, by=by, min_similarity=min_similarity, within=within)
        rows = frame[["id", "found.group", "found.keep", "found.similarity", "found.same_answer", "request"]].values
    names = ("id", "group", "keep", "similarity", "same_answer", "request")
    yes = {True: "yes", False: ""}

    def cells(row: list[Any]) -> list[str]:
        id_, group, keep, similarity, same_answer, request = row
        return [str(group), yes[keep], short_id(id_), number(similarity), yes[same_answer], request]

    options.answer_rows(
        _DUPLICATE, rows.tolist(), lambda row: dict(zip(names, row, strict=True)), cells, "no duplicates"
    )
