"""What a snapshot says of one experience, or of one that was deleted; and which of two states of it is the later one.

An entry is ``{"result": ..., "metadata": {...}}`` with a format version and a checksum of its own, so that files can be
taken apart and merged. Vectors, leases and what is owed are not in it: they are made anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from exp_pool._clock import to_us
from exp_pool.encoding import from_plain
from exp_pool.errors import DecodingError
from exp_pool.experience import Trust
from exp_pool.records import Record, to_experience
from exp_pool.rows import audit_entry

FORMAT = 2
LOADED = "loaded"  # what audit logs say of a state that came from a snapshot; it stays on this node
_OWED = frozenset(f"{duty}_{what}" for duty in ("embed", "score") for what in ("due", "tries"))
_LEFT_OUT = _OWED | {"response", "namespace"}
_TYPES = {f.name: f.type for f in fields(Record) if f.name not in _LEFT_OUT}
_MAX_NUMBER = 2**53
# What may change about a row without its becoming another one.
CHANGEABLE = (
    "expires_at response expected codec kind trust scores score metric trajectory model strategy parents metadata"
).split()


@dataclass(frozen=True, slots=True)
class Entry:
    """A row as it stands in a file.

    Attributes:
        record: without a namespace; its `revision` is that of the state, which all nodes count alike.
        said: what people and rules said and changed about it, as audit logs keep it, oldest first.
    """

    record: Record
    said: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[int, bool, int, str]:
        """See `rank`."""
        return rank(self.record, self.said, self.record.revision)


@dataclass(frozen=True, slots=True)
class Gone:
    """A row that was deleted; `id` ``""``: everything that was created up to then."""

    id: str
    at: int  # microseconds


def rank(record: Record, said: Sequence[str], revision: int) -> tuple[int, bool, int, str]:
    """Which of two states of one row is the later one: a total order that no journey between nodes changes.

    What a person changed last is the latest, then what a person annotated, then what was changed more often. Trust has
    no part in it: see `settled_trust`.
    """
    content = json.dumps([_plain(record, name) for name in CHANGEABLE if name != "trust"], separators=(",", ":"))
    return (last(said, _by_a_person), record.annotated, revision, hashlib.sha256(content.encode()).hexdigest())


def _plain(record: Record, name: str) -> Any:
    """A column; of the response the JSON value, because a file does not keep how its text was written."""
    value = getattr(record, name)
    return json.loads(value) if name == "response" and value is not None else value


def revision_of(record: Record, said: Sequence[str]) -> int:
    """How often a row of this pool was changed, on all nodes: a state that came from another one was counted there."""
    for text in reversed(said):
        entry = json.loads(text)
        if entry["what"] == LOADED:
            return int(entry["revision"]) + record.revision - int(entry["here"])
    return record.revision


def loaded(id_: str, revision: int, here: int) -> str:
    """The entry of the audit log which says that the row's state, `here` of that revision, came from another node."""
    return audit_entry(LOADED, id_, revision=revision, here=here)


def settled_trust(said: Iterable[str], *trusts: str) -> str:
    """Whether states of a row are trusted, together: what was said of its trust last, whoever changed what else since.

    An edit of other fields on one node would otherwise lift the quarantine that another one set meanwhile. Where nobody
    said anything, one state that is not trusted is enough.
    """
    words = [
        (datetime.fromisoformat(entry["at"]), entry["trust"] != Trust.TRUSTED)
        for entry in map(json.loads, said)
        if "trust" in entry
    ]
    out_of_use = max(words)[1] if words else any(trust != Trust.TRUSTED for trust in trusts)
    return (Trust.QUARANTINED if out_of_use else Trust.TRUSTED).value


def restored_at(said: Sequence[str]) -> int:
    """When a deletion of the row was undone last (microseconds), 0 if never."""
    return last(said, lambda entry: entry.get("deed") == "restore")


def last(said: Sequence[str], which: Any) -> int:
    """When one of these entries was written last (microseconds), 0 if there is none."""
    moments = (datetime.fromisoformat(entry["at"]) for entry in map(json.loads, said) if which(entry))
    return max(map(to_us, moments), default=0)


def _by_a_person(entry: Mapping[str, Any]) -> bool:
    return entry["what"] in ("annotate", "update") or ("change" in entry and entry.get("fields") != ["trust"])


def fingerprint(secret: bytes | None) -> str | None:
    """What tells key secrets apart without saying what they are; None where there is none."""
    return hmac.new(secret, b"exp_pool snapshots", hashlib.sha256).hexdigest()[:16] if secret else None


# ── As JSON ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_row(record: Record, said: Sequence[str], secret: str | None) -> dict[str, Any]:
    """A row of this pool. The response stands apart, for those who read the files."""
    metadata = {name: value for name, value in asdict(record).items() if name not in _LEFT_OUT}
    metadata["revision"] = revision_of(record, said)
    if record.response is None:
        metadata["no_result"] = True
    if secret is not None:
        metadata["key_secret"] = secret
    told = [entry for entry in map(json.loads, said) if entry["what"] != LOADED]
    if told:
        metadata["said"] = told
    return _sealed(None if record.response is None else json.loads(record.response), metadata)


def write_gone(gone: Gone) -> dict[str, Any]:
    """A deletion."""
    return _sealed(None, {"deleted_at": gone.at})


def secret_of(entry: Any) -> str | None:
    """The fingerprint of the key secret under which a row's key was made."""
    metadata = entry.get("metadata") if isinstance(entry, dict) else None
    found = metadata.get("key_secret") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def read(id_: str, entry: Any) -> Entry | Gone:
    """What an entry says.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("metadata"), dict) or "result" not in entry:
        raise ValueError("it is no entry")
    metadata = dict(entry["metadata"])
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is {metadata.get('format')!r:.40}, this version reads {FORMAT}")
    if metadata.pop("checksum", None) != _checksum(entry["result"], metadata):
        raise ValueError("its checksum is wrong")
    del metadata["format"]
    if metadata.keys() == {"deleted_at"}:
        return Gone(id_, _number("deleted_at", metadata["deleted_at"]))
    metadata.pop("key_secret", None)
    said = _said(metadata.pop("said", []))
    response = None if metadata.pop("no_result", False) else json.dumps(entry["result"], separators=(",", ":"))
    if metadata.keys() != _TYPES.keys() or metadata["id"] != id_ or not id_:
        raise ValueError("its fields are not those of a record")
    for name, value in metadata.items():
        _check(name, value)
    record = Record(**metadata, namespace="", response=response)
    try:
        to_experience(record)
    except DecodingError as err:
        raise ValueError(str(err)) from err
    return Entry(record, said)


def later(one: Any, other: Any, id_: str) -> Any:
    """Of two entries of one id what counts: the later state, with all that was said, or a deletion not undone since.

    Raises:
        ValueError: one of them is damaged.
    """
    first, second = read(id_, one), read(id_, other)
    match first, second:
        case Gone(), Gone():
            return one if first.at >= second.at else other
        case Gone(), Entry():
            return one if first.at >= restored_at(second.said) else other
        case Entry(), Gone():
            return other if second.at >= restored_at(first.said) else one
        case Entry(), Entry():
            state = one if first.rank >= second.rank else other
            said = sorted({*first.said, *second.said}, key=lambda text: (json.loads(text)["at"], text))
            metadata = {name: value for name, value in state["metadata"].items() if name not in ("format", "checksum")}
            metadata["trust"] = settled_trust(said, first.record.trust, second.record.trust)
            if said:
                metadata["said"] = list(map(json.loads, said))
            return _sealed(state["result"], metadata)


def _sealed(result: Any, metadata: dict[str, Any]) -> dict[str, Any]:
    metadata["format"] = FORMAT
    metadata["checksum"] = _checksum(result, metadata)
    return {"result": result, "metadata": metadata}


def _checksum(result: Any, metadata: Mapping[str, Any]) -> str:
    text = json.dumps([result, metadata], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check(name: str, value: Any) -> None:
    kind = str(_TYPES[name])
    if value is None and "None" in kind:
        return
    if "int" in kind:
        _number(name, value)
        return
    allowed = (bool,) if "bool" in kind else (float, int) if "float" in kind else (str,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and "bool" not in kind):
        raise ValueError(f"its {name} is {value!r:.40}")


def _number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_NUMBER:
        raise ValueError(f"its {name} is {value!r:.40}")
    return value


def _said(entries: Any) -> tuple[str, ...]:
    try:
        for entry in entries:
            from_plain(entry)
            names = isinstance(entry["what"], str) and isinstance(entry["id"], str) and entry["what"] != LOADED
            if not names or datetime.fromisoformat(entry["at"]).tzinfo is None:
                raise ValueError(f"an entry is {entry!r:.80}")
        return tuple(json.dumps(entry, ensure_ascii=True) for entry in entries)
    except (TypeError, LookupError) as err:
        raise ValueError(f"it says of itself what is no list of what happened: {err!r:.80}") from err
