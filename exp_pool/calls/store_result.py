"""Stores what a function returned, or that it failed: the last part of `flow`. Pure."""

from __future__ import annotations

import copy
import hashlib
import random
import traceback
import uuid
from dataclasses import replace
from typing import Any

from exp_pool.calls.degrade import degrades
from exp_pool.calls.policy import Mode, Policy
from exp_pool.calls.request import Request
from exp_pool.calls.steps import CallUserCallback, Flow, LookUp, Outcome, ScoreRow, StoreRow
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


@degrades("store the answer", default=None)
def store_result(
    request: Request,
    policy: Policy,
    mode: Mode,
    outcome: Outcome,
    injected: InjectedExperiences,
    lease: Lease | None,
    answer: str,
    codec: str,
) -> Flow[str | None]:
    """The new row's id; None where it was not stored.

    Args:
        request: the call as it was made.
        policy: the options of the function's decorator.
        mode: what this call may do with the pool.
        outcome: the run of the function.
        injected: the experiences that the function was shown.
        lease: of the key, where this call holds it.
        answer: the answer as JSON text.
        codec: the name of the codec that wrote it.
    """
    if policy.first_stays and mode.read:  # a call that read nothing was asked to renew it
        first: Record | None = yield LookUp(request)
        if first is not None and policy.lets_answer(first, request.source):
            return first.id
    ttl = policy.ttl
    if callable(ttl):
        ttl = Ttl.of((yield CallUserCallback(ttl, (_call_of(request, outcome), outcome.value))))
    record = _row(
        request, policy, outcome, injected, answer, codec, origin="refined" if outcome.refined else "automatic"
    )
    if ttl is not None:
        lasting_s = ttl.after_s * (1 - ttl.jitter * random.random())  # noqa: S311  (it spreads load, it hides nothing)
        record.expires_at = record.created_at + int(lasting_s * _MICROSECONDS)
    if policy.scored:
        record.score_due = record.created_at
        if outcome.refined:
            record = yield from _not_worse(request, record)
    stored: bool = yield StoreRow(request, record, lease)
    return record.id if stored else None


def accepts(request: Request, policy: Policy, outcome: Outcome) -> Flow[bool]:
    """Whether ``cache_if=`` lets the answer be stored.

    Args:
        request: the call.
        policy: the options of the function's decorator.
        outcome: the run of the function.
    """
    if policy.cache_if is None:
        return True
    return bool((yield CallUserCallback(policy.cache_if, (_call_of(request, outcome), outcome.value))))


def _not_worse(request: Request, record: Record) -> Flow[Record]:
    """A better answer that comes when the quick one is stored: scored now; as history, where that scores higher."""
    present: Record | None = yield LookUp(request)
    if present is None or present.annotated:  # nothing to compare with; or nothing that could be replaced
        return record
    record = yield ScoreRow(request, record)
    if present.score is None:
        present = yield ScoreRow(request, present)
    if present.score is not None and (record.score is None or record.score < present.score):
        return replace(record, is_current=False, superseded_by=present.id)
    return record


def _row(
    request: Request,
    policy: Policy,
    outcome: Outcome,
    injected: InjectedExperiences,
    answer: str,
    codec: str,
    **fields: Any,
) -> Record:
    capture = outcome.capture
    metadata = redacted({**policy.metadata, **capture.metadata})
    if injected.note:
        metadata = {**metadata, OWN_METADATA: injected.note}
    return request.to_record(
        uuid.uuid4().hex,
        answer,
        codec,
        model=capture.model,
        strategy=capture.strategy,
        metric=json_dumps(cost_of(capture, round(outcome.time_s, 6))),
        trajectory=json_dumps([redacted(step.model_dump(exclude_defaults=True)) for step in capture.steps]),
        metadata=dumps(metadata),
        parents=json_dumps(injected.parents),
        **fields,
    )


@degrades("store the failure", default=None)
def store_failure(request: Request, policy: Policy, outcome: Outcome, injected: InjectedExperiences) -> Flow[None]:
    """Store a row for curators, under a key of its own: the row replaces no answer, and no lookup finds it.

    Args:
        request: the call.
        policy: the options of the function's decorator.
        outcome: the run of the function, which raised.
        injected: the experiences that the function was shown.
    """
    error = outcome.error
    assert error is not None
    what = {"error": type(error).__qualname__, "message": redacted_text(str(error))}
    trace = redacted_text("".join(traceback.format_exception(error)))
    capture = copy.copy(outcome.capture)
    capture.metadata = {**capture.metadata, "traceback": trace}
    described = Outcome(None, None, capture, outcome.time_s)
    record = _row(request, policy, described, injected, dumps(what), "json", kind="failure")
    record.key = failure_key(request.key)
    yield StoreRow(request, record)


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
