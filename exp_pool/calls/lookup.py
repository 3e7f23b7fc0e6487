"""Finds what may answer a call: the row of its key, or a similar one that the judge accepts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from exp_pool.calls.degrade import degrades
from exp_pool.calls.policy import Mode, Policy
from exp_pool.calls.request import Request
from exp_pool.calls.steps import (
    AskJudge,
    Claimed,
    ClaimLease,
    FindSimilar,
    Flow,
    Judgement,
    LookUp,
    Recall,
    ReportStaleSource,
    TrainJudge,
)
from exp_pool.core.contracts.plugs import Question, Verdict
from exp_pool.core.record import Match, Record, to_experience
from exp_pool.core.results import Hit
from exp_pool.errors import DecodingError


@degrades("look for an answer", default=None)
def claim_or_look_up(request: Request, policy: Policy, *, claim: bool) -> Flow[Claimed]:
    """The current row of the key; where there is none that may answer, perhaps the lease to compute it.

    Args:
        request: the call.
        policy: the options of the function's decorator.
        claim: take the lease, because this call may store its answer.
    """
    if not claim:
        return Claimed((yield LookUp(request)))
    claimed: Claimed = yield ClaimLease(request, wait=not policy.stale_s)
    if claimed.busy:
        expired: Record | None = yield LookUp(request)
        if expired is None or not policy.lets_answer(expired, request.source, policy.stale_s):
            claimed = yield ClaimLease(request)
        else:
            return Claimed(expired, busy=True)
    if claimed.record is not None and not claimed.record.made_by(request.source):
        yield ReportStaleSource(request)
        claimed = yield ClaimLease(request, passing=claimed.record.id)
    elif claimed.record is not None and not policy.returns(claimed.record):
        claimed = yield ClaimLease(request, passing=claimed.record.id)
    return claimed


@degrades("look for an answer", default=Judgement())
def judge(request: Request, policy: Policy, mode: Mode, found: Claimed) -> Flow[Judgement]:
    """What may answer the call, given the row of its key.

    Args:
        request: the call.
        policy: the options of the function's decorator.
        mode: what this call may do with the pool.
        found: the row of the call's key.
    """
    # An expired row is for calls that come while another one, here or elsewhere, renews it.
    late_s = policy.stale_s if found.busy else 0.0
    # A judge that learns has to count the calls that it lets similar rows answer.
    similar_too = not policy.learns or (mode.write and not mode.replay)
    return (yield from best_match(request, policy, found.record, late_s, similar_too=similar_too))


def best_match(
    request: Request, policy: Policy, record: Record | None, late_s: float = 0.0, *, similar_too: bool = True
) -> Flow[Judgement]:
    """What may answer the call now.

    Args:
        request: the call.
        policy: the options of the function's decorator.
        record: the row of the call's key.
        late_s: how long ago (seconds) a row may have expired.
        similar_too: whether rows of other keys are looked for, where the row of this key may not answer.
    """
    usable = record is not None and policy.lets_answer(record, request.source, late_s)
    exact = Match(record, 1.0, "exact") if usable and record is not None else None
    if policy.judge is None:
        return Judgement(exact)
    similar: list[Match] = []
    # Without a request text only an identical call is in the same reuse scope, and that one was just looked up.
    if exact is None and similar_too and policy.judge.candidates and request.parameter is not None:
        similar = yield FindSimilar(request, policy.judge.candidates, min_similarity=-1.0, to_answer=True)
    matches = [
        match
        for match in (exact, *similar)
        if match is not None and policy.lets_answer(match.record, request.source, late_s)
    ]
    if not matches:
        return Judgement(why=_why_nothing(request, policy))
    hits = tuple(readable(matches))
    memory = (yield Recall(request, policy.judge)) if policy.learns and exact is None else None
    verdict: Verdict = yield AskJudge(policy.judge, Question(request.function, request.text, hits, memory))
    match, considered = _match_of(matches, verdict.hit), _match_of(matches, verdict.considered)
    if verdict.example is None or considered is None:
        return Judgement(match, why=verdict.reason, shown=tuple(matches))
    training = TrainJudge(request, policy.judge, verdict.example, considered.record, policy.codec)
    return Judgement(match, training, verdict.live, verdict.reason, (considered, *matches))


def _why_nothing(request: Request, policy: Policy) -> str:
    """Why there is nothing to judge, for people."""
    why = "nothing similar is stored that may answer"
    if policy.judge is not None and policy.judge.candidates and request.parameter is None:
        return f"{why}: no argument is known to hold the text of the request, name it with request="
    score = "" if policy.min_score is None else f", with a score of {policy.min_score:g} at least"
    return f"{why}: the same call but for the request text, read whole by the embedder{score}"


def _match_of(matches: Sequence[Match], hit: Hit | None) -> Match | None:
    return next((match for match in matches if hit and match.record.id == hit.experience.id), None)


def readable(matches: Sequence[Match]) -> list[Hit]:
    """Hits of those rows that can be read: a damaged row among them takes nothing from the others."""
    hits = []
    for match in matches:
        with suppress(DecodingError):
            hits.append(Hit(to_experience(match.record), match.similarity, match.found_by))
    return hits


def judge_only(request: Request, policy: Policy) -> Flow[Judgement]:
    """What the judge says of this call now. The function does not run, no observer is notified, nothing is learned."""
    return (yield from best_match(request, policy, (yield LookUp(request))))


def lookup(request: Request, policy: Policy) -> Flow[Match | None]:
    """What would answer this call now. The function does not run, no observer is notified."""
    match = (yield from judge_only(request, policy)).match
    return None if match is None or policy.misfit(match.record) else match
