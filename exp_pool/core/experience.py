"""The data model: `Experience` and what it consists of. What calls and queries give back stands in `results`."""

from __future__ import annotations

import functools
import inspect
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from exp_pool.core.identity.arguments import bind
from exp_pool.core.identity.closures import closed_over
from exp_pool.core.identity.keys import make_key
from exp_pool.core.identity.names import function_name
from exp_pool.core.identity.request_text import request_text, text_of
from exp_pool.core.values.encoding import from_plain, to_plain
from exp_pool.errors import InvalidInputError
from exp_pool.runtime import clock
from exp_pool.runtime.display import Brief, Pairs, as_table


class Missing(Enum):
    """The type of `MISSING`: an enum, so that type checkers can narrow it. Compare with ``is``."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return self.value

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING
"""Nothing is here; ``None``, ``0``, ``""`` and ``[]`` are values like any other."""


class ExperienceKind(StrEnum):
    """What an experience records."""

    SUCCESS = "success"
    FAILURE = "failure"
    INSIGHT = "insight"


class Origin(StrEnum):
    """How an experience came into the pool."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"
    IMPORTED = "imported"
    REFINED = "refined"


class Trust(StrEnum):
    """Whether an experience may be used; a quarantined one is seen by curators only."""

    TRUSTED = "trusted"
    QUARANTINED = "quarantined"


_ALWAYS_WRITTEN = ("id", "function", "key", "arguments", "request", "created_at")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def _pairs(self) -> Pairs:
        for name, described in type(self).model_fields.items():
            value = getattr(self, name)
            unset = described.get_default(call_default_factory=True, validated_data={})
            if described.is_required() or value != unset:
                yield name, value

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        return ((name, Brief(value)) for name, value in self._pairs())

    def _repr_html_(self) -> str:
        return as_table(type(self).__qualname__, self._pairs())


class Score(_Frozen):
    """A scorer's rating of one experience: 0 (useless) to 1 (perfect), with a reason."""

    value: float = Field(ge=0, le=1, allow_inf_nan=False, strict=True)
    reason: str = ""
    scorer: str = ""
    version: str = ""


class Metric(_Frozen):
    """What the call cost."""

    time_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    money_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    tokens_in: int | None = Field(default=None, ge=0)
    tokens_out: int | None = Field(default=None, ge=0)


class Step(_Frozen):
    """One step of an agent's trajectory."""

    plan: str = ""
    action: str = ""
    observation: str = ""
    reward: float | None = Field(default=None, allow_inf_nan=False)


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} is naive; give it a time zone, for example datetime.now(timezone.utc)")
    return moment.astimezone(UTC)


UtcTime = Annotated[datetime, AfterValidator(_utc)]


def new_id() -> str:
    """A new id: 128 bits in hex, the milliseconds first (UUID version 7, RFC 9562).

    Ids of one time stand together in every index: at 100,000 rows random ones cost a third of a write.
    """
    stamp = clock.now_us() // 1000
    bits = stamp << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return f"{bits:032x}"


class Experience(_Frozen):
    """One stored (function, request, response) with its scores and provenance.

    Needed: `function`, `request` or `arguments`, `response` or `expected`. Given only a request, `arguments` is
    ``{"req": request}``; given only arguments, the request text is derived as for a call. `response` of a model or
    dataclass is its JSON form. Times are aware UTC. Instances are frozen: methods return copies.

    Raises:
        pydantic.ValidationError: a field has a wrong value, or one that is needed is missing.
        UnkeyableError: an argument has no stable identity, so the experience could answer nothing.
    """

    id: str = Field(default_factory=new_id, min_length=1)
    namespace: str | None = None
    function: str
    version: str = ""
    key: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    request: str = ""
    response: Any = MISSING
    codec: str = "json"
    expected: Any = MISSING
    kind: ExperienceKind = ExperienceKind.SUCCESS
    origin: Origin = Origin.MANUAL
    trust: Trust = Trust.TRUSTED
    scores: dict[str, Score] = Field(default_factory=dict)
    metric: Metric = Field(default_factory=Metric)
    trajectory: list[Step] = Field(default_factory=list)
    model: str | None = None
    strategy: str | None = None
    parents: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: UtcTime = Field(default_factory=clock.now)
    expires_at: UtcTime | None = None
    last_access: UtcTime | None = None
    access_count: int = Field(default=0, ge=0)
    schema_version: int = 1

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """Derive what was not given: arguments, request text, key; bring values into their JSON form."""
        if not isinstance(data, Mapping):
            return data
        given = dict(data)
        if "function" in given and callable(given["function"]):
            given["function"] = function_name(given["function"])
        if not isinstance(given.get("function"), str) or not given["function"].strip():
            raise ValueError("function is needed: the name under which calls are stored, not empty")
        request, arguments = given.get("request"), given.get("arguments")
        if request is None and arguments is None:
            raise ValueError("give request= (text) or arguments= (a dict): an experience needs what was asked")
        if request is not None and not isinstance(request, str):
            raise ValueError(
                f"request must be text, got {type(request).__name__}; structured input goes into arguments="
            )
        if given.get("response", MISSING) is MISSING and given.get("expected", MISSING) is MISSING:
            raise ValueError("give response= or expected=: an experience needs an answer (None is one)")
        if arguments is None:
            given["arguments"] = arguments = {"req": request}
        elif not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
            raise ValueError(f"arguments must be a dict from parameter names to values, got {arguments!r:.80}")
        if request is None:
            given["request"] = request_text(arguments)[1]
        for name in ("response", "expected"):
            if name in given:
                given[name] = json_form(given[name])
        if not given.get("key"):
            given["key"] = make_key(given["function"], given.get("version", ""), arguments)
        return given

    def _pairs(self) -> Pairs:
        yield "function", self.function
        yield "request", self.request
        if self.response is not MISSING:
            yield "response", self.response
        if self.annotated:
            yield "expected", self.expected
        if self.kind is not ExperienceKind.SUCCESS:
            yield "kind", self.kind.value
        if self.trust is not Trust.TRUSTED:
            yield "trust", self.trust.value
        if self.score is not None:
            yield "score", self.score.value
        yield "id", self.id

    @property
    def value(self) -> Any:
        """What answers a call: `expected` where a person set it, else `response`."""
        return self.response if self.expected is MISSING else self.expected

    @property
    def annotated(self) -> bool:
        """Whether a person said what the answer should be."""
        return self.expected is not MISSING

    @property
    def score(self) -> Score | None:
        """The deciding score: scores are kept in order, that of the configured scorer last, else the newest last."""
        return next(reversed(self.scores.values()), None)

    def annotate(self, *, expected: Any = MISSING, metadata: Mapping[str, Any] | None = None) -> Experience:
        """A copy with the answer it should have given (by default: the one it gave) and more metadata; same id."""
        return self._with(
            expected=self.response if expected is MISSING else expected, metadata={**self.metadata, **(metadata or {})}
        )

    def clone(self, **changes: Any) -> Experience:
        """A new experience (its own id) that differs in these fields.

        The key is made anew where they are part of it.
        """
        if "request" in changes and "arguments" not in changes:
            changes["arguments"] = None  # or it would keep answering the old request
        if changes.keys() & {"function", "version", "arguments"}:
            changes.setdefault("key", "")
        return self._with(**{"id": new_id(), **changes})

    def _with(self, **changes: Any) -> Experience:
        unknown = changes.keys() - type(self).model_fields.keys()
        if unknown:
            raise InvalidInputError(
                f"an experience has no field {min(unknown)!r}; fields: {', '.join(type(self).model_fields)}"
            )
        return Experience.model_validate({**{name: getattr(self, name) for name in type(self).model_fields}, **changes})

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe and exact: `from_dict` gives an equal experience. What is unset is omitted."""
        plain: dict[str, Any] = {}
        for name, unset in _unset_fields().items():
            value = getattr(self, name)
            if name not in _ALWAYS_WRITTEN and value == unset:
                continue
            if isinstance(value, BaseModel):
                plain[name] = value.model_dump(exclude_defaults=True)
            elif name == "scores":
                plain[name] = {scorer: score.model_dump(exclude_defaults=True) for scorer, score in value.items()}
            elif name == "trajectory":
                plain[name] = [step.model_dump(exclude_defaults=True) for step in value]
            elif isinstance(value, datetime):
                plain[name] = value.isoformat()
            else:
                plain[name] = value.value if isinstance(value, StrEnum) else to_plain(value)
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Experience:
        """The experience that `to_dict` wrote.

        Raises:
            pydantic.ValidationError: a field is unknown or wrong.
            DecodingError: a value holds a tag that this version does not know.
        """
        decoded = {
            name: from_plain(value)
            for name, value in data.items()
            if name in ("arguments", "response", "expected", "metadata")
        }
        return cls.model_validate({**data, **decoded})

    @classmethod
    def from_call(
        cls,
        func: Callable[..., Any] | str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        response: Any = MISSING,
        expected: Any = MISSING,
        exclude: Sequence[str] = (),
    ) -> Experience:
        """The experience of one call. Of a decorated function it is the one that answers this call.

        Args:
            func: the function, or its stored name.
            args: positional arguments; none where `func` is a name.
            kwargs: named arguments.
            response: what the function gave.
            expected: what it should have given.
            exclude: parameters that do not count. A decorated function's own options decide instead.
        """
        given = dict(kwargs or {})
        decorated = getattr(func, "__exp_call__", None)
        if decorated is not None:
            fields = decorated(tuple(args), given, response if expected is MISSING else expected)
            return cls(**fields, response=response, expected=expected)
        if isinstance(func, str):
            if args:
                raise InvalidInputError(f"{func!r} is a name: its parameters are unknown; pass kwargs=, not args=")
            arguments = {name: value for name, value in given.items() if name not in exclude}
        else:
            arguments = bind(inspect.signature(func), args, given, exclude) | closed_over(func, exclude)
        return cls(function=function_name(func), arguments=arguments, response=response, expected=expected)

    @classmethod
    def from_metagpt(cls, data: Mapping[str, Any], *, function: str | None = None) -> Experience:
        """An experience of MetaGPT's exp_pool: req (text or a message list), resp, tag, metric, traj and the rest.

        Args:
            data: the dict as MetaGPT writes it. Its score of 1 to 10 becomes one of 0.1 to 1.
            function: the name to store it under where the record has no tag.
        """
        req, name = data.get("req"), function or data.get("tag")
        if not name:
            raise InvalidInputError("this record has no tag; say whose experience it is with function=")
        text = text_of(req)
        if text is None:
            raise InvalidInputError(f"req must be text or a message list with a user turn, got {req!r:.80}")
        metric = data.get("metric") or {}
        score, trajectory = metric.get("score"), data.get("traj")
        fields: dict[str, Any] = {
            "function": name,
            "request": text,
            "arguments": {"req": req},
            "response": data.get("resp", MISSING),
            "kind": data.get("exp_type", "success"),
            "origin": data.get("entry_type", "manual"),
            "metric": Metric(time_s=metric.get("time_cost") or None, money_usd=metric.get("money_cost") or None),
        }
        if score:
            rated = Score(value=score["val"] / 10, reason=score.get("reason", ""), scorer="metagpt")
            fields["scores"] = {"metagpt": rated}
        if trajectory:
            step = {name: said for name, said in trajectory.items() if name in Step.model_fields and said is not None}
            fields["trajectory"] = [Step(**step)]
        if data.get("uuid"):
            fields["id"] = str(data["uuid"])
        if data.get("timestamp"):
            fields["created_at"] = datetime.fromtimestamp(float(data["timestamp"]), UTC)
        return cls(**fields)

    @classmethod
    def from_agentheaven(cls, data: Mapping[str, Any]) -> Experience:
        """An entry of AgentHeaven's cache: func, inputs, output, expected, metadata."""
        return cls(
            function=data.get("func", ""),
            arguments=data.get("inputs", {}),
            response=data.get("output", MISSING),
            expected=data.get("expected", MISSING),
            metadata=data.get("metadata") or {},
        )


@functools.cache
def _unset_fields() -> dict[str, Any]:
    """What each field is where it is not set. Asked for once: pydantic inspects a factory's signature each time."""
    fields = Experience.model_fields.items()
    return {name: spec.get_default(call_default_factory=True, validated_data={}) for name, spec in fields}


def json_form(value: Any) -> Any:
    """The value with models and dataclasses, at any depth, in their JSON form; everything else as it is."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return json_form(asdict(value))
    kind = type(value)
    try:
        if kind is list or kind is tuple:
            return kind(json_form(item) for item in value)
        if kind is dict:
            return {name: json_form(item) for name, item in value.items()}
    except RecursionError as err:
        raise ValueError("the value is nested too deeply, or in a circle; at most 200 levels can be stored") from err
    return value
