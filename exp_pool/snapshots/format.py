"""JSON form of a snapshot entry: written, read as untrusted input, and merged with another one of the same id.

``{"result": ..., "metadata": {...}}``, with a format version and a checksum of its own, so that files can be taken
apart and merged. Vectors, leases and pending tasks are not in it: they are made anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from exp_pool.core.experience import Trust
from exp_pool.core.record import Record, sized, to_experience
from exp_pool.core.record_fields import FIELD_KINDS, FieldKind, audit_texts, fits_field
from exp_pool.errors import DecodingError
from exp_pool.runtime.clock import now_us, to_us
from exp_pool.snapshots.entries import LOADED, SnapshotDeletion, SnapshotEntry, merged_trust, restored_at, revision_of

FORMAT = 2
_TASKS = frozenset(f"{task}_{what}" for task in ("embed", "score") for what in ("due", "tries"))
_LEFT_OUT = _TASKS | {"response", "namespace"}
_FIELDS = FIELD_KINDS.keys() - _LEFT_OUT
_MAX_NUMBER = 2**53
_MAX_REVISION = 2**40  # nobody changes a row so often, and all that come after it are still numbers
_AHEAD_US = 24 * 3600 * 10**6  # what a clock may be wrong by: what is said from the future would be the last word


def fingerprint(secret: bytes | None) -> str | None:
    """Fingerprint of a key secret, which does not give it away; None where there is none."""
    return hmac.new(secret, b"exp_pool snapshots", hashlib.sha256).hexdigest()[:16] if secret else None


def write_row(record: Record, log: Sequence[str], secret: str | None) -> dict[str, Any]:
    """Entry of a row of this pool. The response stands apart, for people who read the files.

    Args:
        record: the row.
        log: entries of its audit log, oldest first.
        secret: the fingerprint of the key secret; None: there is none.
    """
    metadata = {name: value for name, value in asdict(record).items() if name not in _LEFT_OUT}
    metadata["revision"] = max(1, revision_of(record, log))
    if record.response is None:
        metadata["no_result"] = True
    if secret is not None:
        metadata["key_secret"] = secret
    entries = [entry for entry in map(json.loads, log) if entry["what"] != LOADED]
    if entries:
        metadata["said"] = entries
    return _sealed(None if record.response is None else json.loads(record.response), metadata)


def write_deletion(gone: SnapshotDeletion) -> dict[str, Any]:
    """Entry of a deletion."""
    return _sealed(None, {"deleted_at": gone.at})


def secret_of(entry: Any) -> str | None:
    """Fingerprint of the key secret that made the key of an entry's row."""
    metadata = entry.get("metadata") if isinstance(entry, dict) else None
    found = metadata.get("key_secret") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def read(id_: str, entry: Any) -> SnapshotEntry | SnapshotDeletion:
    """Read and check an entry.

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
        _check("created_at", metadata["deleted_at"], "deleted_at")
        return SnapshotDeletion(id_, _past("deleted_at", metadata["deleted_at"]))
    metadata.pop("key_secret", None)
    metadata.setdefault("source", "")  # what earlier versions wrote does not say
    log = audit_texts(metadata.pop("said", []), _check_entry)
    response = None if metadata.pop("no_result", False) else json.dumps(entry["result"], separators=(",", ":"))
    if metadata.keys() != _FIELDS or metadata["id"] != id_ or not id_:
        raise ValueError("its fields are not those of a record")
    for name, value in metadata.items():
        _check(name, value)
    record = sized(Record(**metadata, namespace="", response=response))  # eviction goes by it
    try:
        experience = to_experience(record)
    except DecodingError as err:
        raise ValueError(str(err)) from err
    if not record.function or not isinstance(experience.metadata, dict) or not isinstance(experience.arguments, dict):
        raise ValueError("it is no experience: its function, arguments or metadata cannot be")
    if not isinstance(experience.parents, list) or not all(isinstance(parent, str) for parent in experience.parents):
        raise ValueError(f"its parents are {record.parents:.40}")
    return SnapshotEntry(record, log)


def merge_entries(one: Any, other: Any, id_: str) -> Any:
    """Merge two entries of one id: the later state with the audit logs of both, or a deletion that was not undone.

    Args:
        one: an entry.
        other: likewise.
        id_: of both.

    Raises:
        ValueError: one of them is damaged.
    """
    first, second = read(id_, one), read(id_, other)
    match first, second:
        case SnapshotDeletion(), SnapshotDeletion():
            return one if first.at >= second.at else other
        case SnapshotDeletion(), SnapshotEntry():
            return one if first.at >= restored_at(second.log) else other
        case SnapshotEntry(), SnapshotDeletion():
            return other if second.at >= restored_at(first.log) else one
        case SnapshotEntry(), SnapshotEntry():
            state = one if first.rank >= second.rank else other
            log = sorted({*first.log, *second.log}, key=lambda text: (json.loads(text)["at"], text))
            metadata = {name: value for name, value in state["metadata"].items() if name not in ("format", "checksum")}
            superseded_by = {first.record.superseded_by, second.record.superseded_by} - {None}
            metadata["superseded_by"] = max(map(str, superseded_by), default=None)
            metadata["trust"] = merged_trust(log, first.record.trust, second.record.trust)
            if log:
                metadata["said"] = list(map(json.loads, log))
            return _sealed(state["result"], metadata)


def _sealed(result: Any, metadata: dict[str, Any]) -> dict[str, Any]:
    metadata["format"] = FORMAT
    metadata["checksum"] = _checksum(result, metadata)
    return {"result": result, "metadata": metadata}


def _checksum(result: Any, metadata: Mapping[str, Any]) -> str:
    text = json.dumps([result, metadata], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check(column: str, value: Any, name: str = "") -> None:
    kind = FIELD_KINDS[column]
    right = fits_field(column, value)
    if right and value is not None and kind in (FieldKind.COUNT, FieldKind.TIME):
        right = 0 <= value < (_MAX_REVISION if column == "revision" else _MAX_NUMBER)
    elif right and value is not None and kind is FieldKind.NUMBER:
        right = abs(value) < _MAX_NUMBER
    if not right:
        raise ValueError(f"its {name or column} is {value!r:.40}")


def _past(name: str, moment: int) -> int:
    if moment > now_us() + _AHEAD_US:
        raise ValueError(f"its {name} is more than a day from now; look at the clock of the machine that saved it")
    return moment


def _check_entry(entry: Mapping[str, Any], moment: datetime) -> None:
    if entry["what"] == LOADED or not _means_something(entry):
        raise ValueError(f"an entry is {entry!r:.80}")
    _past("at", to_us(moment))


def _means_something(entry: Mapping[str, Any]) -> bool:
    """Whether an entry can be used: feedback is a number of 0 to 1, trust one of its words."""
    value = entry.get("value")
    rated = isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1
    return (rated or entry["what"] != "feedback") and entry.get("trust", Trust.TRUSTED) in {t.value for t in Trust}
