"""Rows as stores keep them: plain columns and JSON text, no user objects; and the mapping to experiences and back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from exp_pool.core.experience import MISSING, Experience, ExperienceKind, Metric, Origin, Score, Step, Trust, json_form
from exp_pool.core.identity.argument_source import AND_ARGUMENTS
from exp_pool.core.identity.request_text import request_text, reuse_scope
from exp_pool.core.values.annotated import form_of
from exp_pool.core.values.codec_stamp import ANNOTATED, is_typed, read_stamp
from exp_pool.core.values.encoding import dumps, json_dumps, loads
from exp_pool.errors import DecodingError
from exp_pool.runtime.clock import now_us, to_datetime, to_us

SCHEMA_VERSION = 1
OWN_METADATA = "exp_pool"  # the entry of metadata that is ours: what was left out at random when the call was made


# In the place of the digest of what a row's arguments do: whatever that is.
ANY_ARGUMENTS = "*"


def function_source(source: str) -> str:
    """The part of a row's source that is its function's own."""
    return source.partition(AND_ARGUMENTS)[0]


class TaskKind(StrEnum):
    """What may be pending on a record: done later, off the caller's path, and remembered by the record itself."""

    EMBED = "embed"
    SCORE = "score"


@dataclass(slots=True, kw_only=False)
class Record:
    """One row. Times are microseconds since 1970 UTC; the columns named below as JSON hold JSON text.

    Treat it as immutable: `dataclasses.replace` makes a changed copy. (It is not frozen because building a frozen row
    of forty columns costs as much as reading it from SQLite.)
    """

    id: str
    namespace: str
    function: str
    version: str
    key: str
    request: str
    request_hash: str
    arguments: str  # JSON, typed encoding
    response: str | None  # JSON in the encoding of `codec`; None where there is none
    expected: str | None  # likewise; None where nobody annotated
    codec: str  # its name, stamped: see `stamps`
    kind: str = "success"
    origin: str = "automatic"
    trust: str = "trusted"
    scores: str = "{}"  # JSON, the deciding one last
    score: float | None = None
    metric: str = "{}"  # JSON
    trajectory: str = "[]"  # JSON
    model: str | None = None
    strategy: str | None = None
    parents: str = "[]"  # JSON
    metadata: str = "{}"  # JSON, typed encoding
    created_at: int = 0
    expires_at: int | None = None
    last_access: int | None = None
    access_count: int = 0
    schema_version: int = SCHEMA_VERSION
    reuse_scope: str = ""
    principal: str | None = None  # whose record this is
    size_bytes: int = 0
    revision: int = 1
    is_current: bool = True
    superseded_by: str | None = None
    embed_due: int | None = None  # when to try next; None: nothing is pending
    embed_tries: int = 0
    score_due: int | None = None
    score_tries: int = 0
    source: str = ""  # digest of the source of the function that gave the answer; "": nobody knows, or nobody asks

    @property
    def annotated(self) -> bool:
        """A person said what the answer should be."""
        return self.expected is not None

    @property
    def protected(self) -> bool:
        """Never evicted: what people annotated or added by hand, and insights."""
        return self.annotated or self.origin == "manual" or self.kind == "insight"

    @property
    def by_people(self) -> bool:
        """A person wrote the answer, here or elsewhere: it is taken for what was meant, whatever the type is now."""
        return self.annotated or self.origin in ("manual", "imported")

    @property
    def answer(self) -> str | None:
        """The JSON text that answers a call: what a person set, else what the function returned."""
        return self.response if self.expected is None else self.expected

    def made_by(self, source: str) -> bool:
        """Whether the answer may stand for what a function of this source would say; of what is unknown it may."""
        if not source or not self.source or self.source == source or self.annotated:
            return True
        given = self.source.partition(AND_ARGUMENTS)[2]
        return function_source(self.source) == function_source(source) and given in ("", ANY_ARGUMENTS)

    def expired(self, now: int) -> bool:
        """Whether the row may no longer answer at this time."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector as stored: float32, little endian, unit length. It belongs to one embedder.

    `whole` says that the embedder read the whole text; a truncated text is never answered by similarity.
    """

    embedder: str
    values: bytes
    whole: bool = True


def hash_text(text: str) -> str:
    """What exact lookup by request text is indexed by: engines limit the length of what they index."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def measure(*texts: str | None) -> int:
    """Bytes of UTF-8 in all of these."""
    return sum(len(t) if t.isascii() else len(t.encode("utf-8", "surrogatepass")) for t in texts if t)


def sized(record: Record) -> Record:
    """The row with the size of its texts, after one of them was changed."""
    r = record
    texts = (r.request, r.arguments, r.response, r.expected, r.metadata, r.trajectory, r.scores)
    return replace(r, size_bytes=measure(*texts))


def vouched_for(after: Record) -> Record:
    """The row once a person has written its answer, or trusts it: it answers whatever the function's source is now."""
    return replace(after, source="")


def to_record(experience: Experience, namespace: str, *, key: str | None = None, secret: bytes | None = None) -> Record:
    """The row of an experience.

    Args:
        experience: what is to be stored.
        namespace: whose row it is; the experience's own is not asked.
        key: replaces the experience's own.
        secret: of the configuration's `key_secret`; it goes into the reuse scope.

    Raises:
        EncodingError: the arguments, the response, the expected answer or the metadata cannot be restored from JSON.
    """
    arguments = dumps(experience.arguments)
    response = _encode(experience.response, experience.codec)
    expected = _encode(experience.expected, experience.codec)
    metadata = dumps(experience.metadata)
    parameter, text = request_text(experience.arguments)
    if text != experience.request:  # the text was given, not derived: no argument is known to hold it
        parameter = None
    scores = write_scores(experience.scores)
    trajectory = json_dumps([step.model_dump(exclude_defaults=True) for step in experience.trajectory])
    return Record(
        id=experience.id,
        namespace=namespace,
        function=experience.function,
        version=experience.version,
        key=key or experience.key,
        request=experience.request,
        request_hash=hash_text(experience.request),
        arguments=arguments,
        response=response,
        expected=expected,
        codec=experience.codec,
        kind=experience.kind.value,
        origin=experience.origin.value,
        trust=experience.trust.value,
        scores=scores,
        score=None if experience.score is None else experience.score.value,
        metric=json_dumps(experience.metric.model_dump(exclude_defaults=True)),
        trajectory=trajectory,
        model=experience.model,
        strategy=experience.strategy,
        parents=json_dumps(experience.parents),
        metadata=metadata,
        created_at=to_us(experience.created_at),
        expires_at=None if experience.expires_at is None else to_us(experience.expires_at),
        last_access=None if experience.last_access is None else to_us(experience.last_access),
        access_count=experience.access_count,
        reuse_scope=reuse_scope(experience.function, experience.version, experience.arguments, parameter, secret),
        size_bytes=measure(experience.request, arguments, response, expected, metadata, trajectory, scores),
        embed_due=now_us(),
    )


def with_answers_of(record: Record, seen: Experience, changed: Record) -> Record:
    """The changed row with the answers as they were written, where they are still what people saw of them.

    What people see is not all that may be written: which fields of a model are set stands beside its JSON form.

    Args:
        record: the row as it was.
        seen: its experience, as people saw it.
        changed: the row of the experience as they changed it.
    """
    kept = {
        name: getattr(record, name)
        for name in ("response", "expected")
        if getattr(record, name) != getattr(changed, name)
        and _encode(getattr(seen, name), record.codec) == getattr(changed, name)
    }
    return sized(replace(changed, **kept)) if kept else changed


def to_experience(record: Record) -> Experience:
    """The experience of a row.

    Raises:
        DecodingError: the row holds something that this version cannot read.
    """
    try:
        return Experience.model_construct(
            id=record.id,
            namespace=record.namespace,
            function=record.function,
            version=record.version,
            key=record.key,
            arguments=loads(record.arguments),
            request=record.request,
            response=read_answer(record.response, record.codec),
            codec=record.codec,
            expected=read_answer(record.expected, record.codec),
            kind=ExperienceKind(record.kind),
            origin=Origin(record.origin),
            trust=Trust(record.trust),
            scores=read_scores(record.scores),
            metric=Metric(**json.loads(record.metric)),
            trajectory=[Step(**step) for step in json.loads(record.trajectory)],
            model=record.model,
            strategy=record.strategy,
            parents=json.loads(record.parents),
            metadata=loads(record.metadata),
            created_at=to_datetime(record.created_at),
            expires_at=None if record.expires_at is None else to_datetime(record.expires_at),
            last_access=None if record.last_access is None else to_datetime(record.last_access),
            access_count=record.access_count,
            schema_version=record.schema_version,
        )
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as err:
        raise DecodingError(f"the record {record.id} cannot be read: {err}") from err


def read_scores(text: str) -> dict[str, Score]:
    """Scores by scorer, in their order."""
    return {name: Score(**score) for name, score in json.loads(text).items()}


def write_scores(scores: dict[str, Score]) -> str:
    """The JSON text of scores; order is kept, the deciding one is last."""
    return json_dumps({name: score.model_dump(exclude_defaults=True) for name, score in scores.items()})


def _encode(value: Any, codec: str) -> str | None:
    """Typed JSON for the package's own encoding; plain JSON for the form that a codec of the function's reads."""
    if value is MISSING:
        return None
    return dumps(value) if is_typed(codec) else json_dumps(json_form(value))


def read_answer(text: str | None, codec: str) -> Any:
    """A response or an expected answer, in JSON form where the function's own codec wrote it; `MISSING` for none."""
    if text is None:
        return MISSING
    if is_typed(codec):
        return loads(text)
    return form_of(text) if read_stamp(codec).codec == ANNOTATED else json.loads(text)


@dataclass(frozen=True, slots=True)
class Match:
    """A record that was found, how, and how similar its request is; see `Hit`."""

    record: Record
    similarity: float
    found_by: str
