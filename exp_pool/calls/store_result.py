"""What the pool keeps of a call, once its function has run: the last part of the story that `flow` tells. Pure."""

from __future__ import annotations

import copy
import hashlib
import random
import traceback
import uuid
from dataclasses import replace
from typing import Any

from exp_pool.calls.request import Request
from exp_pool.calls.steps import Ask, Keep, LookUp, Mode, Outcome, Policy, Rate, Story
from exp_pool.core.capture import cost_of
from exp_pool.core.contracts.plugs import Lease
from exp_pool.core.experience import Metric
from exp_pool.core.record import OWN_METADATA, Record
from exp_pool.core.results import Call
from exp_pool.core.ttl import Ttl
from exp_pool.core.values.encoding import dumps, json_dumps
from exp_pool.core.values.redaction import redacted, redacted_text
from exp_pool.reuse.selection import InjectedExperiences

_MICROSECONDS = 1_000_000


def keep(
    request: Request,
    policy: Policy,
    mode: Mode,
    outcome: Outcome,
    shown: InjectedExperiences,
    lease: Lease | None,
    answer: str,
    codec: str,
) -> Story[str | None]:
    """The new row's id; None where it was not stored."""
    if policy.first_stays and mode.read:  # a call that read nothing was asked to renew it
        first: Record | None = yield LookUp(request)
        if first is not None and policy.lets_answer(first, request.source):
            return first.id
    ttl = policy.ttl
    if callable(ttl):
        ttl = Ttl.of((yield Ask(ttl, (_call_of(request, outcome), outcome.value))))
    record = _row(request, policy, outcome, shown, answer, codec, origin="refined" if outcome.refined else "automatic")
    if ttl is not None:
        lasting_s = ttl.after_s * (1 - ttl.jitter * random.random())  # noqa: S311  (it spreads load, it hides nothing)
        record.expires_at = record.created_at + int(lasting_s * _MICROSECONDS)
    if policy.scored:
        record.score_due = record.created_at
        if outcome.refined:
            record = yield from _not_worse(request, record)
    kept: bool = yield Keep(request, record, lease)
    return record.id if kept else None


def accepted(request: Request, policy: Policy, outcome: Outcome) -> Story[bool]:
    """Whether ``cache_if=`` lets the answer be stored."""
    if policy.cache_if is None:
        return True
    return bool((yield Ask(policy.cache_if, (_call_of(request, outcome), outcome.value))))


def _not_worse(request: Request, record: Record) -> Story[Record]:
    """A better answer that comes when the quick one is stored: scored now; as history, where that scores higher."""
    present: Record | None = yield LookUp(request)
    if present is None or present.annotated:  # nothing to compare with; or nothing that could be replaced
        return record
    record = yield Rate(request, record)
    if present.score is None:
        present = yield Rate(request, present)
    if present.score is not None and (record.score is None or record.score < present.score):
        return replace(record, is_current=False, superseded_by=present.id)
    return record


def _row(
    request: Request,
    policy: Policy,
    outcome: Outcome,
    shown: InjectedExperiences,
    answer: str,
    codec: str,
    **fields: Any,
) -> Record:
    capture = outcome.capture
    metadata = redacted({**policy.metadata, **capture.metadata})
    if shown.note:
        metadata = {**metadata, OWN_METADATA: shown.note}
    return request.to_record(
        uuid.uuid4().hex,
        answer,
        codec,
        model=capture.model,
        strategy=capture.strategy,
        metric=json_dumps(cost_of(capture, round(outcome.time_s, 6))),
        trajectory=json_dumps([redacted(step.model_dump(exclude_defaults=True)) for step in capture.steps]),
        metadata=dumps(metadata),
        parents=json_dumps(shown.parents),
        **fields,
    )


def keep_failure(request: Request, policy: Policy, outcome: Outcome, shown: InjectedExperiences) -> Story[None]:
    """A row for curators, under a key of its own: it takes the place of no answer, and no lookup finds it."""
    error = outcome.error
    assert error is not None
    what = {"error": type(error).__qualname__, "message": redacted_text(str(error))}
    trace = redacted_text("".join(traceback.format_exception(error)))
    capture = copy.copy(outcome.capture)
    capture.metadata = {**capture.metadata, "traceback": trace}
    described = Outcome(None, None, capture, outcome.time_s)
    record = _row(request, policy, described, shown, dumps(what), "json", kind="failure")
    record.key = failure_key(request.key)
    yield Keep(request, record)


def failure_key(key: str) -> str:
    """The key under which the failures of a call are kept."""
    return hashlib.sha256(f"failure:{key}".encode()).hexdigest()


def _call_of(request: Request, outcome: Outcome) -> Call:
    """The call with what was recorded while it ran."""
    capture = outcome.capture
    return Call(
        request.spec.function,
        request.function,
        request.named,
        model=capture.model,
        strategy=capture.strategy,
        metric=Metric.model_validate(cost_of(capture, outcome.time_s)),
        metadata=dict(capture.metadata),
    )
