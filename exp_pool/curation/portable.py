"""Portable row: a row of a pool as a JSON object and back, for JSON lines and Parquet.

The object is what `Experience.to_dict` writes, with a member ``exp_pool`` for what an experience does not hold: whether
the row is current, its audit log, and its key if it cannot be made from the arguments in the file (they were redacted,
or the function has `key=`). Such a key holds for exactly the arguments and request it was written with. If a line was
edited by hand, its key is made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from exp_pool.calls.store_result import failure_key
from exp_pool.core.experience import MISSING, Experience, ExperienceKind
from exp_pool.core.identity.keys import make_key
from exp_pool.core.record import Record, to_experience, to_record
from exp_pool.core.record_fields import audit_texts, fits_field
from exp_pool.core.values.encoding import from_plain, json_dumps, to_plain
from exp_pool.core.values.redaction import redacted
from exp_pool.errors import EncodingError, InvalidInputError, UnkeyableError

FORMAT = 1
_MEMBER = "exp_pool"
_OF_A_CALL = ("function", "version", "arguments", "request")


class PortableRow(NamedTuple):
    """Row, entries of its audit log (`rows.audit_entry`), and whether its answer was redacted."""

    record: Record
    log: tuple[str, ...] = ()
    answer_redacted: bool = False


def to_line(record: Record, log: Sequence[str], secret: bytes | None, *, redact: bool) -> dict[str, Any]:
    """JSON object of a row of the pool.

    Args:
        record: the row.
        log: what was said and changed about it.
        secret: the manager's key secret; it decides whether the key can be made again.
        redact: leave out secrets, of the answer, too.

    Raises:
        DecodingError: the row holds something that this process cannot read.
    """
    whole = to_experience(record)
    shown = without_secrets(whole) if redact else whole
    line = shown.to_dict()
    for name in ("namespace", "key", "schema_version"):
        line.pop(name, None)
    ours: dict[str, Any] = {"format": FORMAT, "namespace": record.namespace}
    if _derived_identity(shown, secret) != (record.key, record.reuse_scope):
        ours |= {"key": record.key, "reuse_scope": record.reuse_scope, "of": _digest(line)}
    if shown.response is not whole.response or shown.expected is not whole.expected:
        ours["answer_redacted"] = True
    if not record.is_current:
        ours |= {"is_current": False, "superseded_by": record.superseded_by}
    if record.source:
        ours["source"] = record.source
    if record.principal is not None:
        ours["principal"] = record.principal
    if log:
        ours["log"] = [redacted(json.loads(entry)) if redact else json.loads(entry) for entry in log]
    return {**line, _MEMBER: ours}


def from_line(line: Mapping[str, Any], namespace: str, secret: bytes | None, *, believe_key: bool) -> PortableRow:
    """Row of a JSON object.

    Args:
        line: what `to_line` gave; one without the member ``exp_pool`` is what `Experience.to_dict` gives.
        namespace: where it goes.
        secret: the manager's key secret.
        believe_key: the line is trusted to say which call it answers, where its arguments do not.

    Raises:
        pydantic.ValidationError: a field is unknown or wrong.
        DecodingError, EncodingError, InvalidInputError, UnkeyableError: something in it cannot be read or stored.
    """
    ours = line.get(_MEMBER, {})
    if not isinstance(ours, Mapping) or ours.get("format", FORMAT) != FORMAT:
        raise InvalidInputError(f"its {_MEMBER} member is {ours!r:.80}; this version reads format {FORMAT}")
    plain = {name: value for name, value in line.items() if name != _MEMBER}
    given = {name: value for name, value in plain.items() if name not in ("key", "namespace")}
    if believe_key and "key" in ours and ours.get("of") == _digest(given):
        identity = _columns(ours, "key", "reuse_scope", needed=True)
        experience = Experience.from_dict({**given, "key": identity["key"]})
        record = replace(to_record(experience, namespace, secret=secret), **identity)
    else:
        experience = Experience.from_dict(given)
        record = to_record(experience, namespace, key=derived_key(experience, secret), secret=secret)
    record = replace(record, **_columns(ours, "source", "principal"))
    if ours.get("is_current") is False:
        record = replace(record, **_columns(ours, "superseded_by"), is_current=False, embed_due=None)
    return PortableRow(record, _log(ours.get("log", []), record.id), bool(ours.get("answer_redacted", False)))


def namespace_of(line: Mapping[str, Any]) -> str | None:
    """Namespace from which a line was exported."""
    ours = line.get(_MEMBER)
    found = ours.get("namespace") if isinstance(ours, Mapping) else line.get("namespace")
    return found if isinstance(found, str) and found else None


def without_secrets(experience: Experience) -> Experience:
    """Experience without secrets (`redaction`), also in its answer: it leaves the pool."""
    texts: dict[str, Any] = {
        name: _without_secrets(getattr(experience, name))
        for name in ("request", "arguments", "response", "expected", "metadata", "model", "strategy")
    }
    texts["trajectory"] = [step.model_copy(update=redacted(step.model_dump())) for step in experience.trajectory]
    texts["scores"] = {
        name: score.model_copy(update={"reason": redacted(score.reason)}) for name, score in experience.scores.items()
    }
    return experience.model_copy(update=texts)


def _without_secrets(value: Any) -> Any:
    """Value without secrets; the same object where there were none. Sets are searched in their JSON form."""
    if value is MISSING or value is None:
        return value
    once = redacted(value)
    plain = to_plain(once)
    shown = redacted(plain)
    return once if shown is plain else from_plain(shown)


def derived_key(experience: Experience, secret: bytes | None) -> str:
    """Key that the arguments of an experience make under this secret; of a failure a key that answers no call.

    Raises:
        UnkeyableError: an argument has no stable identity.
    """
    key = make_key(experience.function, experience.version, experience.arguments, secret)
    return failure_key(key) if experience.kind is ExperienceKind.FAILURE else key


def _derived_identity(experience: Experience, secret: bytes | None) -> tuple[str, str] | None:
    """Key and reuse scope made from the experience alone; None where they cannot be."""
    try:
        record = to_record(experience, "", key=derived_key(experience, secret), secret=secret)
    except (UnkeyableError, EncodingError):
        return None
    return record.key, record.reuse_scope


def _digest(line: Mapping[str, Any]) -> str:
    call = json_dumps([line.get(name) for name in _OF_A_CALL])
    return hashlib.sha256(call.encode()).hexdigest()


def _columns(ours: Mapping[str, Any], *names: str, needed: bool = False) -> dict[str, Any]:
    """Columns of text that a line may have beside its experience; those that it has, or all that are needed."""
    found = {name: ours.get(name) for name in names if needed or ours.get(name) is not None}
    if wrong := [name for name, value in found.items() if not fits_field(name, value)]:
        raise InvalidInputError(f"its {_MEMBER}.{wrong[0]} is {found[wrong[0]]!r:.80}, which is no text")
    return found


def _log(entries: Any, id_: str) -> tuple[str, ...]:
    try:
        return audit_texts(entries)
    except ValueError as err:
        raise InvalidInputError(f"its {_MEMBER}.log is no list of what happened to {id_!r}: {err}") from err
