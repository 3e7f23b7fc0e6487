"""The flow of one call, from request to answer. READ THIS FIRST.

`flow` is a plain generator. It yields steps (dataclasses of `steps` that say what is to be done) and is sent the result
of each. It does no I/O, and knows neither threads nor event loops: `drivers` perform the steps for each kind of
function, so the order of operations is written once, and a test drives it by sending literals.

0. **Local cache.** Plain calls that were answered a moment ago are answered from memory (`local_cache`), before the
   flow begins.
1. **Bind.** `request.bind_call` has made the call a `Request`.
2. **Coalesce.** Of concurrent identical calls one drives the rest of the flow; the others get copies of its result.
3. **Look up** by key (`lookup`). A row that is found, fresh and good enough is decoded and returned; nothing is
   embedded, no index is opened. A miss takes the key's lease in the same step, where the store is shared, so that other
   processes wait.
4. **Find similar** experiences, only if the judge or the context wants them.
5. **Judge**: may one of them answer? Only those of the same reuse scope are judged.
6. **Run** the function, with similar experiences injected (`injection`) where it wants them.
7. **Store** its answer (`store_result`) in one transaction, and return the live value.
8. **Later**, off the caller's path (`maintenance`): embed, index, score. The row itself records what is pending.

A part that is decorated with `degrades` never fails the call: what goes wrong there is yielded as `Degraded`, and the
flow goes on as if the part had found nothing. Only the function's own outcome is the caller's.
"""

from __future__ import annotations

import copy
import functools
from contextlib import suppress
from dataclasses import replace
from typing import Any

from exp_pool.calls.degrade import degrades
from exp_pool.calls.injection import inject
from exp_pool.calls.lookup import best_match, claim_or_look_up, judge
from exp_pool.calls.policy import Mode, Policy
from exp_pool.calls.request import Request
from exp_pool.calls.steps import (
    AskFeeds,
    CallResult,
    Coalesce,
    Coalesced,
    Degraded,
    Explain,
    Flow,
    Found,
    HasWaiters,
    Judgement,
    LogRun,
    LookUp,
    NotFound,
    Outcome,
    Refinement,
    Renew,
    Run,
    Shared,
    StartRefinement,
    TrainJudge,
)
from exp_pool.calls.store_result import accepts, store_failure, store_result
from exp_pool.core.contracts.plugs import Lease
from exp_pool.core.record import Match, Record
from exp_pool.core.results import Answer
from exp_pool.core.values.codec_stamp import read_stamp
from exp_pool.errors import EncodingError, MisfitError, ReplayMissError
from exp_pool.reuse.refine import Refine
from exp_pool.reuse.selection import InjectedExperiences
from exp_pool.runtime.clock import now_us

_NOTHING_INJECTED = InjectedExperiences()


# ── One call ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def flow(request: Request, policy: Policy, mode: Mode = Mode()) -> Flow[CallResult]:  # noqa: B008  (frozen)
    """One call, from request to answer.

    Args:
        request: the bound call.
        policy: the options of the function's decorator.
        mode: what this call may do with the pool.
    """
    if mode.read:
        fed = yield from _ask_feeds(request)
        if fed is not ...:
            return CallResult(Answer(fed, found_by="feed"))
        if policy.single_flight:
            result = yield from _single_flight(request, policy, mode)
            if result is not None:
                return result
    return (yield from _uncoalesced(request, policy, mode, claim=False))


def _single_flight(request: Request, policy: Policy, mode: Mode) -> Flow[CallResult | None]:
    """The result that this call shares with concurrent identical ones; None if it has to go alone."""
    part = functools.partial(_uncoalesced, request, policy, mode, claim=mode.write)
    shared: Shared | None = None
    if policy.stale_s:
        shared = yield from _coalesce(request, Coalesce(request, part, mode.write, wait=False))
        if shared is None:  # an identical call is renewing the answer
            stale = yield from _stored_answer(request, policy, policy.stale_s)
            if stale is not None:
                return stale
    if shared is None:
        shared = yield from _coalesce(request, Coalesce(request, part, mode.write))
    if shared is None or shared.led:
        return None if shared is None else shared.result
    return (yield from _copied(request, policy, shared.result))


def _uncoalesced(request: Request, policy: Policy, mode: Mode, *, claim: bool) -> Flow[CallResult]:
    """Run the flow for one caller, without coalescing: look up, judge, run, store."""
    as_called, injected, lease = request, _NOTHING_INJECTED, None
    judgement = Judgement()
    if mode.read:
        found = yield from claim_or_look_up(request, policy, claim=claim)
        if found is not None:
            lease = found.lease
            judgement = yield from judge(request, policy, mode, found)
            result = yield from _give(request, policy, None if judgement.live else judgement.match)
            if result is not None:
                if judgement.training is not None:
                    yield from _train_judge(request, judgement.training)
                if _expires_soon(policy, mode, judgement.match):
                    yield from _renew_early(request, policy)
                return result
        if policy.inject is not None or policy.context_builder is not None:
            request, injected = (yield from inject(request, policy, judgement)) or (request, injected)
    if mode.write:
        yield from _describe(as_called)
    if mode.replay:
        why = yield from _explain_miss(as_called, policy)
        return CallResult(Answer(None), ReplayMissError(f"{why}. Replay is on, so it does not run: {mode.remedy}"))
    yield NotFound(as_called)
    refinement = None
    if policy.refine is not None and mode.write:
        refinement = yield from _start_refinement(as_called, request, policy, policy.refine)
    try:
        while (outcome := (yield Run(request, refinement))) is None:
            if mode.read:  # an identical call was stored since the look-up
                result = yield from _stored_answer(as_called, policy)
                if result is not None:
                    return result
        if refinement is None or refinement.outcome is None:
            result = yield from _finish(as_called, policy, mode, outcome, injected, lease, judgement)
            if judgement.training is not None and result.encoded is not None and outcome.error is None:
                yield from _train_judge(as_called, judgement.training, result.encoded)
            return result
        outcome = refinement.outcome  # the better answer came first
        refinement.decide(None)
        refinement = None
        return (yield from _finish(as_called, policy, mode, outcome, injected, lease))
    finally:
        if refinement is not None:
            refinement.decide(lambda refined: _finish(as_called, policy, mode, refined, injected, None))


# ── Coalescing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@degrades("ask the feeds", default=...)
def _ask_feeds(request: Request) -> Flow[Any]:
    return (yield AskFeeds(request))


@degrades("wait for the same call", default=None)
def _coalesce(_: Request, once: Coalesce) -> Flow[Shared | None]:
    shared: Shared | None = yield once
    return shared


@degrades("copy the answer", default=None)
def _copied(request: Request, policy: Policy, result: CallResult) -> Flow[CallResult | None]:
    """The result of an identical call as this caller's own; None where there is no copy to be had."""
    if result.error is not None:
        yield Coalesced(request)
        return CallResult(Answer(None, parents=result.answer.parents), own_exception(result.error))
    found_by = result.answer.found_by
    # Functions may share a name and differ in what they reuse; a live answer is everybody's.
    stricter = policy.min_score is not None or (policy.judge is None and found_by != "exact")
    if result.encoded is None or (found_by is not None and stricter):
        return None
    try:
        value = policy.codec.read(*result.encoded)
    except MisfitError:  # of a function of the same name that returns something else
        return None
    yield Coalesced(request)
    answer = Answer(value, result.answer.id, "coalesced", result.answer.similarity, result.answer.parents)
    return CallResult(answer, encoded=result.encoded)


def own_exception(error: Exception) -> Exception:
    """A copy with the same traceback, so that callers who raise it do not write into each other's.

    The exception itself where copying, which calls its class, does not give its like.
    """
    try:
        own = copy.copy(error)
        same = type(own) is type(error) and own.args == error.args and own is not error
    except Exception:
        return error
    if not same:
        return error
    own.__cause__, own.__context__ = error.__cause__, error.__context__
    own.__suppress_context__ = error.__suppress_context__
    return own.with_traceback(error.__traceback__)


# ── A hit ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@degrades("look for an answer", default=None)
def _give(request: Request, policy: Policy, match: Match | None) -> Flow[CallResult | None]:
    """The answer of a row, decoded; None where the function as it is now would not return it."""
    if match is None or match.record.answer is None:
        return None
    record = match.record
    encoded = (match.record.answer, record.codec)
    by_people = record.by_people
    try:
        value = policy.codec.read(*encoded, given=by_people)
    except MisfitError as err:
        if by_people:  # an answer that was merely computed is computed anew, which needs no message
            yield Degraded(request, "give the answer that was written for it", _misfit(record, err))
        return None
    decode = functools.partial(policy.codec.read, given=True) if by_people else policy.codec.decode
    yield Found(request, match, functools.partial(decode, *encoded), policy.renew_at(record))
    return CallResult(Answer(value, record.id, match.found_by, match.similarity), encoded=encoded)


def _misfit(record: Record, why: MisfitError) -> MisfitError:
    """The message about an answer that people wrote, and that does not fit the function's return type."""
    return MisfitError(
        f"The experience {record.id} does not fit what the function returns now: {why}; correct it by "
        f"annotate({record.id!r}, expected=...), or delete it"
    )


@degrades("look for an answer", default=None)
def _stored_answer(request: Request, policy: Policy, late_s: float = 0.0) -> Flow[CallResult | None]:
    """What the pool has for this call now. The row may have expired up to `late_s` seconds ago."""
    record: Record | None = yield LookUp(request)
    judgement = yield from best_match(request, policy, record, late_s, similar_too=not policy.learns)
    return (yield from _give(request, policy, judgement.match))


def _expires_soon(policy: Policy, mode: Mode, match: Match | None) -> bool:
    """Whether the row that answered is to be renewed in the background, before it expires."""
    if match is None or match.found_by != "exact" or not mode.write or mode.replay:
        return False
    renew_at = policy.renew_at(match.record)
    return renew_at is not None and now_us() >= renew_at and not match.record.annotated


@degrades("renew the answer early", default=None)
def _renew_early(request: Request, policy: Policy) -> Flow[None]:
    """Have the answer computed anew in the background."""
    again = request.captured()
    yield Renew(request, lambda: flow(again, policy, Mode(read=False)))


@degrades("learn from the call", default=None)
def _train_judge(_: Request, training: TrainJudge, live: tuple[str, str] | None = None) -> Flow[None]:
    yield training if live is None else replace(training, live=live)


# ── A miss ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@degrades("describe the call", default=None)
def _describe(request: Request) -> Flow[None]:
    yield from ()
    request.describe()


@degrades("explain the miss", default="no explanation")
def _explain_miss(request: Request, policy: Policy) -> Flow[str]:
    why: str = yield Explain(request, policy.misfit)
    return why


@degrades("refine the answer", default=None)
def _start_refinement(_: Request, request: Request, policy: Policy, refine: Refine) -> Flow[Refinement]:
    """Start the better function, with the experiences that were injected for the quick one."""
    accepted = functools.partial(accepts, request, policy)
    refinement: Refinement = yield StartRefinement(request.captured(), refine.func, refine.timeout, accepted)
    return refinement


def _finish(
    request: Request,
    policy: Policy,
    mode: Mode,
    outcome: Outcome,
    injected: InjectedExperiences,
    lease: Lease | None,
    judgement: Judgement | None = None,
) -> Flow[CallResult]:
    """The function has run: store what is to be stored, and give the result.

    Args:
        request: the call as it was made, without injected experiences.
        policy: the options of the function's decorator.
        mode: what this call may do with the pool.
        outcome: what the function returned or raised.
        injected: the experiences that it was shown.
        lease: of the key, where this call holds it.
        judgement: what might have answered; None where the judge learns nothing from this outcome.
    """
    if outcome.error is not None:
        return (yield from _failed(request, policy, mode, outcome, injected))
    yield from _log(request, outcome)
    # Of a stream, which was encoded as it came, `cache_if` sees no chunks unless all of them are there.
    streamed, asks = policy.first_stays, mode.write and not outcome.refined
    if asks and not streamed and not (yield from _accepts(request, policy, outcome)):
        encoded = yield from _encoded_for_others(request, policy, outcome, judgement)
        return CallResult(Answer(outcome.value, parents=injected.parents), encoded=encoded)
    stored = None
    encoded = yield from _encode(request, policy, outcome)
    if asks and streamed and encoded is not None and not (yield from _accepts(request, policy, outcome)):
        return CallResult(Answer(outcome.value, parents=injected.parents), encoded=encoded)
    if mode.write and encoded is not None:
        stored = yield from store_result(request, policy, mode, outcome, injected, lease, *encoded)
    return CallResult(Answer(outcome.value, id=stored, parents=injected.parents), encoded=encoded)


def _failed(
    request: Request, policy: Policy, mode: Mode, outcome: Outcome, injected: InjectedExperiences
) -> Flow[CallResult]:
    """The function raised: store the failure for people, or give an expired answer, where the options ask for that."""
    error = outcome.error
    assert error is not None
    if mode.write and policy.record_failures:
        yield from store_failure(request, policy, outcome, injected)
    if mode.read and policy.if_error_s:
        expired = yield from _stored_answer(request, policy, policy.if_error_s)
        if expired is not None:
            yield Degraded(request, "get a new answer, so it gave one that has expired", error)
            return expired
    return CallResult(Answer(None, parents=injected.parents), error)


@degrades("log the call", default=None)
def _log(request: Request, outcome: Outcome) -> Flow[None]:
    yield LogRun(request, outcome)


_accepts = degrades("store the answer", default=False)(accepts)


@degrades("store the answer", default=None)
def _encode(_: Request, policy: Policy, outcome: Outcome) -> Flow[tuple[str, str]]:
    yield from ()
    return _encoded(policy, outcome)


def _encoded(policy: Policy, outcome: Outcome) -> tuple[str, str]:
    text, codec = policy.codec.encode(outcome.value)
    return text, str(read_stamp(codec)._replace(whole=outcome.whole)) if outcome.whole else codec


def _encoded_for_others(
    request: Request, policy: Policy, outcome: Outcome, judgement: Judgement | None
) -> Flow[tuple[str, str] | None]:
    """An answer that is not to be stored, encoded only where an identical call or the judge wants a copy."""
    if (judgement is not None and judgement.training is not None) or (yield HasWaiters(request)):
        with suppress(EncodingError):
            return _encoded(policy, outcome)
    return None
