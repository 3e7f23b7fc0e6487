"""The story of one call, told once. READ THIS FIRST.

`story` is a plain generator: it yields steps (dataclasses that say what is to be done) and gets back what came of them.
It does no I/O, knows no thread and no event loop; `drivers.sync` and `drivers.aio` perform the steps for each kind of
function, so the story is never written twice, and a test tells it by feeding literals.

0. **Hot?** Plain calls that were answered a moment ago are answered from memory (`local_cache`), before the story
   begins.
1. **Bind.** `request.CallSpec` has made the call a `Request`.
2. **Once**: of concurrent identical calls one tells the rest of the story, the others get their copy of its end.
3. **Exact lookup**, by key. Found, fresh and good enough: decode and return. Nothing is embedded, no index is opened.
   Not found: the same step takes the key's lease, where the store is shared, so that other processes wait.
4. **Similar experiences**, only if the judge or the context wants them.
5. **Judge**: may one of them answer? Only one from the same reuse scope is asked about.
6. **Run** the function, with similar experiences where it wants them.
7. **Keep** (`store_result`) its answer in one transaction, and return the live value.
8. **Later**, off the caller's path (`maintenance`): embed, index, score. The record itself says what it is owed.

Whatever goes wrong with the pool is yielded as `Trouble` and the story goes on as if nothing had been found: a broken
pool never breaks the call. Only the function's own outcome is the caller's.
"""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from exp_pool.calls.request import Request
from exp_pool.calls.steps import (
    AskFeeds,
    AskJudge,
    Awaited,
    Better,
    Claim,
    Claimed,
    Coalesced,
    Ending,
    Explain,
    FindSimilar,
    FlowStep,
    Found,
    Improve,
    Judged,
    Learn,
    LookUp,
    Mode,
    NotFound,
    Once,
    Outcome,
    Outdated,
    Policy,
    Ran,
    Recall,
    Renew,
    Run,
    Shared,
    Story,
    Trouble,
)
from exp_pool.calls.store_result import accepted, keep, keep_failure
from exp_pool.core.contracts.plugs import ContextBuilder, Lease, Question, Verdict
from exp_pool.core.experience import Experience
from exp_pool.core.record import Match, Record, to_experience
from exp_pool.core.results import Answer, Hit
from exp_pool.core.values.codec_stamp import read_stamp
from exp_pool.errors import DecodingError, EncodingError, InvalidInputError, MisfitError, ReplayMissError
from exp_pool.reuse.selection import InjectedExperiences, selection_of
from exp_pool.runtime.clock import now_us

T = TypeVar("T")

_MICROSECONDS = 1_000_000
_NOTHING_SHOWN = InjectedExperiences()


# ── The story ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def story(request: Request, policy: Policy, mode: Mode = Mode()) -> Story[Ending]:  # noqa: B008  (frozen)
    """One call, from request to answer."""
    if mode.read:
        fed = yield from _attempt(request, "ask the feeds", _step(AskFeeds(request)), default=...)
        if fed is not ...:
            return Ending(Answer(fed, found_by="feed"))
        if policy.single_flight:
            ending = yield from _told_once(request, policy, mode)
            if ending is not None:
                return ending
    return (yield from _told(request, policy, mode, claim=False))


def _told_once(request: Request, policy: Policy, mode: Mode) -> Story[Ending | None]:
    """The end that this call shares with concurrent identical ones; None if it has to go alone."""
    part = functools.partial(_told, request, policy, mode, claim=mode.write)
    together = "wait for the same call"
    if policy.stale_s:
        alone = Once(request, part, mode.write, wait=False)
        shared: Shared | None = yield from _attempt(request, together, _step(alone), default=None)
        if shared is None:  # somebody is renewing it
            stale = yield from _attempt(
                request, "look for an answer", _stored_answer(request, policy, policy.stale_s), default=None
            )
            if stale is not None:
                return stale
    else:
        shared = None
    if shared is None:
        shared = yield from _attempt(request, together, _step(Once(request, part, mode.write)), default=None)
    if shared is None or shared.led:
        return None if shared is None else shared.ending
    return (yield from _attempt(request, "copy the answer", _copied(request, policy, shared.ending), default=None))


def _told(request: Request, policy: Policy, mode: Mode, *, claim: bool) -> Story[Ending]:
    """The call without its company: look, judge, run, keep."""
    as_called, shown, lease = request, _NOTHING_SHOWN, None
    judged = Judged()
    if mode.read:
        looking = _first_look(request, policy, claim=claim)
        looked = yield from _attempt(request, "look for an answer", looking, default=None)
        if looked is not None:
            lease = looked.lease
            judging = _judged(request, policy, mode, looked)
            judged = yield from _attempt(request, "look for an answer", judging, default=judged)
            giving = _given(request, policy, None if judged.live else judged.match)
            ending = yield from _attempt(request, "look for an answer", giving, default=None)
            if ending is not None:
                yield from _attempt(request, "learn from the call", _learned(judged.example), default=None)
                renewing = _renewed_early(request, policy, mode, judged.match)
                yield from _attempt(request, "renew the answer early", renewing, default=None)
                return ending
        showing, unseen = _with_context(request, policy, judged), (request, _NOTHING_SHOWN)
        request, shown = yield from _attempt(request, "show similar experiences", showing, default=unseen)
    if mode.write:
        yield from _attempt(as_called, "describe the call", _described(as_called), default=None)
    if mode.replay:
        why = yield from _attempt(
            as_called, "explain the miss", _step(Explain(as_called, policy.misfit)), default="no explanation"
        )
        return Ending(Answer(None), ReplayMissError(f"{why}. Replay is on, so it does not run: {mode.remedy}"))
    yield NotFound(as_called)
    better = yield from _attempt(as_called, "refine the answer", _begin_better(request, policy, mode), default=None)
    try:
        while (outcome := (yield Run(request, better))) is None:
            if mode.read:
                looking_again = _stored_answer(as_called, policy)
                ending = yield from _attempt(as_called, "look for an answer", looking_again, default=None)
                if ending is not None:
                    return ending
        if better is None or better.outcome is None:
            ending = yield from _concluded(as_called, policy, mode, outcome, shown, lease, judged)
            if ending.encoded is not None and outcome.error is None:
                learning = _learned(judged.example, ending.encoded)
                yield from _attempt(as_called, "learn from the call", learning, default=None)
            return ending
        outcome = better.outcome  # it was there first
        better.decide(None)
        better = None
        return (yield from _concluded(as_called, policy, mode, outcome, shown, lease))
    finally:
        if better is not None:
            better.decide(lambda refined: _concluded(as_called, policy, mode, refined, shown, None))


def _begin_better(request: Request, policy: Policy, mode: Mode) -> Story[Better | None]:
    if policy.refine is None or not mode.write:
        return None
    accepts = functools.partial(accepted, request, policy)
    better: Better = yield Improve(request.captured(), policy.refine.func, policy.refine.timeout, accepts)
    return better


def _concluded(
    request: Request,
    policy: Policy,
    mode: Mode,
    outcome: Outcome,
    shown: InjectedExperiences,
    lease: Lease | None,
    judged: Judged | None = None,
) -> Story[Ending]:
    """The function has run: keep what is to be kept."""
    if outcome.error is not None:
        return (yield from _failed(request, policy, mode, outcome, shown))
    yield from _attempt(request, "log the call", _step(Ran(request, outcome)), default=None)
    # Of a stream, which was encoded as it came, nobody sees the chunks unless all of them are there.
    streamed, asks = policy.first_stays, mode.write and not outcome.refined
    if asks and not streamed and not (yield from _wanted(request, policy, outcome)):
        encoded = yield from _for_others(request, policy, outcome, judged)
        return Ending(Answer(outcome.value, parents=shown.parents), encoded=encoded)
    stored = None
    encoded = yield from _attempt(request, "store the answer", _encoded(policy, outcome), default=None)
    if asks and streamed and encoded is not None and not (yield from _wanted(request, policy, outcome)):
        return Ending(Answer(outcome.value, parents=shown.parents), encoded=encoded)
    if mode.write and encoded is not None:
        keeping = keep(request, policy, mode, outcome, shown, lease, *encoded)
        stored = yield from _attempt(request, "store the answer", keeping, default=None)
    return Ending(Answer(outcome.value, id=stored, parents=shown.parents), encoded=encoded)


def _wanted(request: Request, policy: Policy, outcome: Outcome) -> Story[bool]:
    return (yield from _attempt(request, "store the answer", accepted(request, policy, outcome), default=False))


def _for_others(
    request: Request, policy: Policy, outcome: Outcome, judged: Judged | None
) -> Story[tuple[str, str] | None]:
    """An answer that is not to be stored, encoded only where somebody wants a copy; silently, if that cannot be."""
    if (judged is not None and judged.example is not None) or (yield Awaited(request)):
        with suppress(EncodingError):
            return (yield from _encoded(policy, outcome))
    return None


def _failed(
    request: Request, policy: Policy, mode: Mode, outcome: Outcome, shown: InjectedExperiences
) -> Story[Ending]:
    """The function raised: keep that for people, if they asked for it; serve what has expired, if they allowed that."""
    error = outcome.error
    assert error is not None
    if mode.write and policy.record_failures:
        keeping = keep_failure(request, policy, outcome, shown)
        yield from _attempt(request, "store the failure", keeping, default=None)
    if mode.read and policy.if_error_s:
        rescuing = _stored_answer(request, policy, policy.if_error_s)
        rescued = yield from _attempt(request, "look for an answer", rescuing, default=None)
        if rescued is not None:
            yield Trouble(request, "get a new answer, so it gave one that has expired", error)
            return rescued
    return Ending(Answer(None, parents=shown.parents), error)


def _described(request: Request) -> Story[None]:
    request.describe()
    yield from ()


def _encoded(policy: Policy, outcome: Outcome) -> Story[tuple[str, str]]:
    yield from ()
    text, codec = policy.codec.encode(outcome.value)
    return text, str(read_stamp(codec)._replace(whole=outcome.whole)) if outcome.whole else codec


# ── Looking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _first_look(request: Request, policy: Policy, *, claim: bool) -> Story[Claimed]:
    """The row of this key; where there is none, and it is to be computed, the right to do so."""
    if not claim:
        return Claimed((yield LookUp(request)))
    claimed: Claimed = yield Claim(request, wait=not policy.stale_s)
    if claimed.busy:
        expired: Record | None = yield LookUp(request)
        if expired is None or not policy.lets_answer(expired, request.source, policy.stale_s):
            claimed = yield Claim(request)
        else:
            return Claimed(expired, busy=True)
    if claimed.record is not None and not claimed.record.made_by(request.source):
        yield Outdated(request)
        claimed = yield Claim(request, passing=claimed.record.id)
    elif claimed.record is not None and not policy.returns(claimed.record):
        claimed = yield Claim(request, passing=claimed.record.id)
    return claimed


def judged_match(
    request: Request, policy: Policy, record: Record | None, late_s: float = 0.0, *, similar_too: bool = True
) -> Story[Judged]:
    """What would answer this call now, given the row of its key."""
    usable = record is not None and policy.lets_answer(record, request.source, late_s)
    exact = Match(record, 1.0, "exact") if usable and record is not None else None
    if policy.judge is None:
        return Judged(exact)
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
        return Judged(why=_nothing(request, policy))
    hits = tuple(Hit(experience, match.similarity, match.found_by) for match, experience in _readable(matches))
    memory = (yield Recall(request, policy.judge)) if policy.learns and exact is None else None
    verdict: Verdict = yield AskJudge(policy.judge, Question(request.function, request.text, hits, memory))
    match, considered = _of_hit(matches, verdict.hit), _of_hit(matches, verdict.considered)
    if verdict.example is None or considered is None:
        return Judged(match, why=verdict.reason, shown=tuple(matches))
    example = Learn(request, policy.judge, verdict.example, considered.record, policy.codec)
    return Judged(match, example, verdict.live, verdict.reason, (considered, *matches))


def _nothing(request: Request, policy: Policy) -> str:
    """Why there is nothing to judge, for people."""
    said = "nothing similar is stored that may answer"
    if policy.judge is not None and policy.judge.candidates and request.parameter is None:
        return f"{said}: no argument is known to hold the text of the request, name it with request="
    score = "" if policy.min_score is None else f", with a score of {policy.min_score:g} at least"
    return f"{said}: the same call but for the request text, read whole by the embedder{score}"


def _of_hit(matches: Sequence[Match], hit: Hit | None) -> Match | None:
    return next((match for match in matches if hit and match.record.id == hit.experience.id), None)


def considered(request: Request, policy: Policy) -> Story[Judged]:
    """What the judge says of this call now: nothing runs, nobody is told, nothing is learned."""
    return (yield from judged_match(request, policy, (yield LookUp(request))))


def look(request: Request, policy: Policy) -> Story[Match | None]:
    """What would answer this call now: nothing runs, nobody is told."""
    match = (yield from considered(request, policy)).match
    return None if match is None or policy.misfit(match.record) else match


def _judged(request: Request, policy: Policy, mode: Mode, looked: Claimed) -> Story[Judged]:
    # What has expired is for those who come while another call, here or elsewhere, renews it.
    late_s = policy.stale_s if looked.busy else 0.0
    # What a judge that learns could not count must not be answered by similarity.
    similar_too = not policy.learns or (mode.write and not mode.replay)
    return (yield from judged_match(request, policy, looked.record, late_s, similar_too=similar_too))


def _renewed_early(request: Request, policy: Policy, mode: Mode, match: Match | None) -> Story[None]:
    """What is asked for shortly before it expires is renewed in the background."""
    if match is None or match.found_by != "exact" or match.record.annotated or not mode.write or mode.replay:
        return
    renew_at = policy.renew_at(match.record)
    if renew_at is not None and now_us() >= renew_at:
        again = request.captured()
        yield Renew(request, lambda: story(again, policy, Mode(read=False)))


def _stored_answer(request: Request, policy: Policy, late_s: float = 0.0) -> Story[Ending | None]:
    """What the pool has for this call now, even if that has expired, but not for longer than this."""
    record: Record | None = yield LookUp(request)
    judged = yield from judged_match(request, policy, record, late_s, similar_too=not policy.learns)
    return (yield from _given(request, policy, judged.match))


def _learned(example: Learn | None, live: tuple[str, str] | None = None) -> Story[None]:
    if example is not None:
        yield replace(example, live=live)


def _given(request: Request, policy: Policy, match: Match | None) -> Story[Ending | None]:
    if match is None or match.record.answer is None:
        return None
    record = match.record
    encoded = (match.record.answer, record.codec)
    try:
        value = policy.codec.read(*encoded, given=record.by_people)
    except MisfitError as err:  # of what was merely computed it is said to nobody: it is computed anew
        if record.by_people:
            yield Trouble(request, "give the answer that was written for it", misfit(record, err))
        return None
    again = functools.partial(policy.codec.read, given=True) if record.by_people else policy.codec.decode
    yield Found(request, match, functools.partial(again, *encoded), policy.renew_at(record))
    return Ending(Answer(value, record.id, match.found_by, match.similarity), encoded=encoded)


def misfit(record: Record, why: MisfitError) -> MisfitError:
    """What is said of an answer that people wrote, and that the function's return type has no place for."""
    return MisfitError(
        f"The experience {record.id} does not fit what the function returns now: {why}; correct it by "
        f"annotate({record.id!r}, expected=...), or delete it"
    )


def _copied(request: Request, policy: Policy, ending: Ending) -> Story[Ending | None]:
    """The end of an identical call as this caller's own; None where there is no copy to be had."""
    if ending.error is not None:
        yield Coalesced(request)
        return Ending(Answer(None, parents=ending.answer.parents), own_exception(ending.error))
    found_by = ending.answer.found_by
    # Functions may share a name and differ in what they reuse; a live answer is everybody's.
    stricter = policy.min_score is not None or (policy.judge is None and found_by != "exact")
    if ending.encoded is None or (found_by is not None and stricter):
        return None
    try:
        value = policy.codec.read(*ending.encoded)
    except MisfitError:  # of a function of the same name that returns something else
        return None
    yield Coalesced(request)
    answer = Answer(value, ending.answer.id, "coalesced", ending.answer.similarity, ending.answer.parents)
    return Ending(answer, encoded=ending.encoded)


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


def _readable(matches: Sequence[Match]) -> list[tuple[Match, Experience]]:
    """Those that can be read: a damaged row among them takes nothing from the others."""
    readable = []
    for match in matches:
        with suppress(DecodingError):
            readable.append((match, to_experience(match.record)))
    return readable


def _with_context(request: Request, policy: Policy, judged: Judged) -> Story[tuple[Request, InjectedExperiences]]:
    """The call as the function gets it, and what it is shown there; a caller who brings experiences has the say."""
    # A function that saw what its own answer is to be compared with might copy it, and every label would be "same".
    compared = judged.example.considered.id if judged.example else None
    inject, builder = policy.inject, policy.context_builder
    wanting = inject if inject is not None else builder
    if wanting is None or request.brings_context or (inject is None and request.prompt is None):
        return request, _NOTHING_SHOWN
    selection = selection_of(wanting)
    hits: list[Hit] = []
    for where in selection.searches:
        matches: list[Match] = yield FindSimilar(
            request, selection.candidates, selection.min_similarity, to_answer=False, where=where
        )
        hits += [Hit(experience, match.similarity, match.found_by) for match, experience in _readable(matches)]
    hits = [hit for hit in hits if hit.experience.id != compared]
    shown = selection.choose(hits, random.random)
    rewritten = _rewritten(request, builder, shown.experiences)
    if inject is None and rewritten is None:
        left_out = shown.left_out or ()
        if shown.experiences or (left_out and _rewritten(request, builder, left_out) is None):
            return request, _NOTHING_SHOWN  # the builder has no place for any: nothing was left out by chance
    return request.with_context(None if inject is None else shown.experiences, rewritten), shown


def _rewritten(request: Request, builder: ContextBuilder | None, experiences: Sequence[Experience]) -> str | None:
    """The request text with these experiences; None where it stays as it is."""
    if builder is None or request.prompt is None or not experiences:
        return None
    rewritten = builder.build(request.prompt.text, experiences[: builder.limit])
    if not isinstance(rewritten, str):
        raise InvalidInputError(f"{builder!r} built {rewritten!r:.80}; a context builder gives text")
    return None if rewritten == request.prompt.text else rewritten


def _step(step: FlowStep) -> Story[Any]:
    """A story of one step."""
    return (yield step)


def _attempt(request: Request, what: str, part: Story[T], *, default: T) -> Story[T]:
    """What a part of the story comes to; the default where anything in it raised: the pool never fails the call."""
    try:
        return (yield from part)
    except Exception as err:
        yield Trouble(request, what, err)
        return default
