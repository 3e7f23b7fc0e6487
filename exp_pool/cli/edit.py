"""Editing commands: add, annotate, feedback, promote, quarantine, delete, undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from exp_pool.cli.common import (
    SHORTEST,
    IdArgument,
    PoolOptions,
    WhereOption,
    YesOption,
    confirm,
    json_object,
    json_value,
    resolve_id,
    with_options,
)
from exp_pool.cli.output import line, note, short_id
from exp_pool.cli.prefill import decorated_function
from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.experience import MISSING, Experience, ExperienceKind, Trust
from exp_pool.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager
    from exp_pool.curation import Change

app = typer.Typer()

MetadataOption = Annotated[
    dict[str, Any] | None, typer.Option(parser=json_object, metavar="JSON", help="An object; its entries are added.")
]
ExpectedOption = Annotated[str | None, typer.Option(help="What the answer should be, as text.")]
ExpectedJsonOption = Annotated[str | None, typer.Option(metavar="JSON", help="Likewise, any JSON value.")]


@app.command()
@with_options()
def add(
    options: PoolOptions,
    function: Annotated[
        str,
        typer.Option(help="The name under which calls are stored; or module:function, whose defaults are filled in."),
    ],
    request: Annotated[str | None, typer.Option(help="The text of the request.")] = None,
    arguments: Annotated[
        dict[str, Any] | None,
        typer.Option(
            parser=json_object, metavar="JSON", help="""The call's arguments, such as '{"question": "..."}'."""
        ),
    ] = None,
    response: Annotated[str | None, typer.Option(help="The answer, as text.")] = None,
    response_json: Annotated[str | None, typer.Option(metavar="JSON", help="Likewise, any JSON value.")] = None,
    expected: ExpectedOption = None,
    expected_json: ExpectedJsonOption = None,
    version: Annotated[str, typer.Option(help="The function's version.")] = "",
    kind: Annotated[ExperienceKind, typer.Option(help="What it records.")] = ExperienceKind.SUCCESS,
    trust: Annotated[Trust, typer.Option(help="Whether it may be used.")] = Trust.TRUSTED,
    metadata: MetadataOption = None,
) -> None:
    """Store an experience by hand. From now on it answers its call.

    A call is found by all its arguments. By a name alone nobody knows the defaults of those that are left out here;
    module:function is imported, and fills them in.

    Example: exp-pool add --function app.ask --arguments '{"question": "Where is the office?"}' --response "In Bern."
    """
    fields: dict[str, Any] = {
        "function": function,
        "version": version,
        "kind": kind,
        "trust": trust,
        "metadata": metadata or {},
    }
    given = {"request": request, "arguments": arguments}
    fields |= {name: value for name, value in given.items() if value is not None}
    fields |= _value("response", response, response_json) | _value("expected", expected, expected_json)
    with options.opened(existing=False) as manager:
        experience = _experience_of_call(fields) if ":" in function.replace(".py:", "") else Experience(**fields)
        id_ = manager.sync.create_exp(experience)
        missing = _missing_arguments(manager, experience)
    if missing:
        note(
            "warning",
            f"other calls of {experience.function} also have {', '.join(missing)}: this one answers calls without. "
            "Name them in --arguments, or say --function module:function, which fills in their defaults",
            "yellow",
        )
    options.answer({"id": id_}, f"stored as {id_}")


def _experience_of_call(fields: dict[str, Any]) -> Experience:
    """Experience of a call of an importable function, with its defaults."""
    function = decorated_function(fields["function"])
    if "arguments" not in fields:
        raise InvalidInputError("module:function needs the call's arguments: --arguments '{...}'")
    values = {name: fields[name] for name in ("response", "expected") if name in fields}
    try:
        made = Experience.from_call(function, kwargs=fields["arguments"], **values)
    except (TypeError, AttributeError) as err:
        raise InvalidInputError(
            f"--arguments do not fit {fields['function']}: {err}; of a method, whose self they lack, give the name "
            "under which its calls are stored (see list) and all arguments as they are stored there"
        ) from err
    said = {name: fields[name] for name in ("kind", "trust")} | {"metadata": {**made.metadata, **fields["metadata"]}}
    return made.model_copy(update=said)


def _missing_arguments(manager: ExpManager, added: Experience) -> list[str]:
    """Arguments that the newest other call of the function has, and this one lacks."""
    pool = manager.sync
    others = pool.iter_exps({"function": added.function, "id": {"ne": added.id}}, order_by="-created_at", limit=1)
    return sorted({name for other in others for name in other.arguments} - added.arguments.keys() - {"req"})


def _value(name: str, text: str | None, as_json_: str | None) -> dict[str, Any]:
    if text is not None and as_json_ is not None:
        raise typer.BadParameter(f"say --{name} or --{name}-json, not both", param_hint=f"--{name}")
    if as_json_ is not None:
        return {name: json_value(as_json_, f"--{name}-json")}
    return {} if text is None else {name: text}


@app.command()
@with_options()
def annotate(
    options: PoolOptions,
    id_: IdArgument,
    expected: ExpectedOption = None,
    expected_json: ExpectedJsonOption = None,
    metadata: MetadataOption = None,
) -> None:
    """Say what the answer should be; without --expected, that it was right. From now on that answers.

    Example: exp-pool annotate 1f0c9a3e --expected "Use the link on the login page."
    """
    value = _value("expected", expected, expected_json).get("expected", MISSING)
    with options.opened() as manager:
        after = manager.sync.annotate(resolve_id(manager, id_), expected=value, metadata=metadata)
    options.answer(after.to_dict(), f"{after.id} is annotated")


@app.command()
@with_options("store", "namespace")
def feedback(
    options: PoolOptions,
    id_: IdArgument,
    value: Annotated[float, typer.Argument(help="0: it failed, to 1: all that was wanted.")],
    reason: Annotated[str, typer.Option(help="Why, for people.")] = "",
) -> None:
    """Say how well the call went that gave an experience.

    Example: exp-pool feedback 1f0c9a3e 0.2 --reason "the link was dead"
    """
    with options.opened() as manager:
        whole = resolve_id(manager, id_)
        manager.sync.feedback(whole, value, reason)
    line(f"{whole} got {value:g}")


IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, or their ends.")]


@app.command()
@with_options()
def promote(
    options: PoolOptions,
    ids: IdsArgument = None,
    where: WhereOption = None,
    why: Annotated[str, typer.Option(help="For the history.")] = "",
    yes: YesOption = False,
) -> None:
    """Take quarantined experiences into use, such as those that were imported, after saying how many and asking.

    Example: exp-pool promote --where '{"origin": "imported", "trust": "quarantined"}' --why "looked through"
    """
    from exp_pool import curation

    with options.opened(index=True) as manager:
        chosen = _chosen(manager, ids, where, "in use", yes=yes)
        change = curation.promote(manager, chosen, why=why)
    _print_change(options, change, "promoted")


@app.command()
@with_options()
def quarantine(
    options: PoolOptions,
    reason: Annotated[str, typer.Option(help="Why; whoever looks at them later will want to know.")],
    ids: IdsArgument = None,
    where: WhereOption = None,
    descendants: Annotated[
        bool, typer.Option("--descendants", help="Also what was drawn from them, and from that.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Take experiences out of use, after saying how many and asking: they are kept, but answer nothing.

    Example: exp-pool quarantine 1f0c9a3e --reason "it names a customer"
    """
    from exp_pool import curation

    with options.opened(index=True) as manager:
        will_be = "out of use, and all that was drawn from them" if descendants else "out of use"
        chosen = _chosen(manager, ids, where, will_be, yes=yes)
        change = curation.quarantine(manager, chosen, reason, descendants=descendants)
    _print_change(options, change, "quarantined")


def _chosen(
    manager: ExpManager, ids: list[str] | None, where: dict[str, Any] | None, will_be: str, *, yes: bool
) -> list[str]:
    if bool(ids) == (where is not None):
        raise typer.BadParameter("name ids, or say --where", param_hint="which experiences")
    if where is None:
        chosen = _resolve_ids(manager, ids)
    else:
        chosen = [experience.id for experience in manager.sync.iter_exps(where)]
    if chosen:
        confirm(f"{_many(len(chosen))} of namespace {manager.sync.namespace!r} will be {will_be}.", yes=yes)
    return chosen


def _resolve_ids(manager: ExpManager, ids: list[str] | None) -> list[str]:
    return list(dict.fromkeys(resolve_id(manager, id_) for id_ in ids or []))


def _many(count: int) -> str:
    return "1 experience" if count == 1 else f"{count:,} experiences"


def _print_change(options: PoolOptions, change: Change, what: str) -> None:
    back = f"; exp-pool undo {short_id(change.id)} takes it back" if change.id else ""
    options.answer({what: len(change.changed), "change": change.id}, f"{len(change.changed):,} {what}{back}")


@app.command()
@with_options()
def delete(
    options: PoolOptions,
    ids: IdsArgument = None,
    where: WhereOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything in the namespace, history too.")] = False,
    yes: YesOption = False,
) -> None:
    """Delete experiences, after saying how many and asking. It cannot be undone.

    Example: exp-pool delete --where '{"function": "app.old"}'
    """
    if bool(ids) + (where is not None) + all_ != 1:
        raise typer.BadParameter("name ids, or say --where or --all", param_hint="what to delete")
    if where == {}:
        raise typer.BadParameter("there is no condition; say --all to delete everything", param_hint="--where")
    with options.opened(index=True) as manager:
        pool = manager.sync
        whole = _resolve_ids(manager, ids)
        count = len(whole) or (
            pool.store.count(RecordQuery(pool.namespace, history=True)) if all_ else pool.get_exps_count(where)
        )
        many = f"{count:,} rows, history too," if all_ else _many(count)
        if count:
            confirm(f"{many} of namespace {pool.namespace!r} will be deleted.", yes=yes)
        deleted = (
            pool.delete_all_exps()
            if all_
            else pool.delete_exps(where)
            if where is not None
            else sum(map(pool.delete_exp, whole))
        )
    options.answer({"deleted": deleted}, f"{deleted:,} deleted")


@app.command()
@with_options()
def undo(
    options: PoolOptions,
    change: Annotated[str, typer.Argument(metavar="CHANGE", help="Its id, or the end: exp-pool history lists them.")],
    why: Annotated[str, typer.Option(help="For the history.")] = "",
    partly: Annotated[bool, typer.Option("--partly", help="Leave out what others changed since.")] = False,
    yes: YesOption = False,
) -> None:
    """Take a curator's change back, after saying what it was and asking. It can be undone itself.

    Example: exp-pool undo 5d2b77e0 --why "the wrong column"
    """
    from exp_pool import curation

    with options.opened(index=True) as manager:
        notes = curation.history(manager) if len(change) >= SHORTEST else []
        found = [note for note in notes if note.id.endswith(change)]
        if len(found) != 1:
            many = f"several changes end in {change!r}" if found else f"no change {change!r}"
            raise NotFoundError(f"{many} in namespace {manager.sync.namespace!r}; exp-pool history lists them")
        note = found[0]
        did = f"{note.added:,} added, {note.changed:,} changed, {note.deleted:,} deleted"
        confirm(f"{note.what} {note.id} by {note.who} ({did}) will be taken back.", yes=yes)
        undone = curation.undo(manager, note.id, why=why, partly=partly)
    options.answer({"id": undone.id, "of": note.id}, f"undone; to undo that: exp-pool undo {undone.id}")
