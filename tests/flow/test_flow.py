"""The flow, driven by sending it literals: no store, no thread, no mock."""

import json
from dataclasses import replace

import pytest

from exp_pool import Answer, Experience, Inject, PerfectJudge, SimpleContextBuilder, ThresholdJudge
from exp_pool.calls.call_spec import CallSpec
from exp_pool.calls.flow import flow, own_exception
from exp_pool.calls.lookup import lookup
from exp_pool.calls.policy import Mode, Policy
from exp_pool.calls.request import bind_call
from exp_pool.calls.steps import (
    AskFeeds,
    AskJudge,
    CallResult,
    CallUserCallback,
    Claimed,
    ClaimLease,
    Coalesce,
    Coalesced,
    Degraded,
    Explain,
    FindSimilar,
    Found,
    HasWaiters,
    LogRun,
    LookUp,
    NotFound,
    Outcome,
    Run,
    Shared,
    StoreRow,
)
from exp_pool.calls.store_result import failure_key
from exp_pool.core.capture import Capture
from exp_pool.core.codecs.typed import ResponseCodec, TypedCodec, codec_for
from exp_pool.core.record import Match, to_record
from exp_pool.core.ttl import Ttl
from exp_pool.errors import ReplayMissError
from exp_pool.protocols import Lease, Verdict


def ask(req, model="a", experiences=()):
    raise AssertionError("the flow runs nothing itself")


SPEC = CallSpec(ask, name="ask", inject="experiences")
REQUEST = bind_call(SPEC, ("hi",), {}, "n", None)
ALONE = Policy(codec_for(ask), single_flight=False)
TOGETHER = Policy(codec_for(ask))


def record(request="hi", answer="hello", **fields):
    kept = to_record(
        Experience(function="ask", arguments={"req": request, "model": "a"}, response=answer), "n", key=REQUEST.key
    )
    return replace(kept, **fields)


def drive(call, *results):
    """The steps that the flow yields, given the result of each in turn, and the flow's result."""
    steps, answers = [], iter(results)
    try:
        step = next(call)
        while True:
            if isinstance(step, LogRun):  # for the log; it has no result
                step = call.send(None)
                continue
            steps.append(step)
            given = next(answers)
            step = call.throw(given) if isinstance(given, Exception) else call.send(given)
    except StopIteration as end:
        assert next(answers, "all used") == "all used"
        return steps, end.value


def kinds(steps):
    return [type(step) for step in steps]


def test_an_exact_hit_asks_for_nothing_but_the_lookup():
    steps, result = drive(flow(REQUEST, ALONE), ..., record(), None)
    assert kinds(steps) == [AskFeeds, LookUp, Found]
    assert (result.answer.value, result.answer.found_by, result.answer.similarity) == ("hello", "exact", 1.0)


def test_a_miss_runs_and_keeps():
    outcome = Outcome("hello", capture=Capture(model="m", strategy="s", tokens_in=3, metadata={"k": 1}), time_s=0.5)
    steps, result = drive(
        flow(REQUEST, replace(ALONE, ttl=Ttl(60), metadata={"team": "x"})), ..., None, None, outcome, True
    )
    assert kinds(steps) == [AskFeeds, LookUp, NotFound, Run, StoreRow]
    kept = steps[-1].record
    assert (kept.key, kept.response, kept.codec, kept.model, kept.strategy) == (
        REQUEST.key,
        '"hello"',
        "json",
        "m",
        "s",
    )
    assert kept.metric == '{"time_s":0.5,"tokens_in":3}'
    assert kept.metadata == '{"team":"x","k":1}'
    assert kept.expires_at - kept.created_at == 60_000_000
    assert kept.arguments == '{"req":"hi","model":"a"}'
    assert kept.embed_due is not None
    assert kept.score_due is None
    assert (result.answer.value, result.answer.id, result.answer.found_by) == ("hello", kept.id, None)


def test_an_identical_call_that_was_stored_before_the_function_began_answers():
    steps, result = drive(flow(REQUEST, ALONE), ..., None, None, None, record(), None)
    assert kinds(steps) == [AskFeeds, LookUp, NotFound, Run, LookUp, Found]
    assert (result.answer.value, result.answer.found_by) == ("hello", "exact")
    came = [..., None, None, None, record(expires_at=1), None, OSError("disk"), None, Outcome("live"), True]
    steps, result = drive(flow(REQUEST, ALONE), *came)
    assert kinds(steps) == [AskFeeds, LookUp, NotFound, Run, LookUp, Run, LookUp, Degraded, Run, StoreRow]
    assert result.answer.value == "live"
    steps, result = drive(flow(REQUEST, ALONE, Mode(read=False)), None, None, Outcome("live"), True)
    assert kinds(steps) == [NotFound, Run, Run, StoreRow], "who reads nothing does not look again either"


@pytest.mark.parametrize(
    "unusable",
    [
        {"trust": "quarantined"},
        {"expires_at": 1},
        {"kind": "failure"},
        {"kind": "insight"},
        {"response": None},
        {"response": "{"},
        {"codec": "other"},
    ],
    ids=str,
)
def test_what_may_not_answer_is_a_miss(unusable):
    call = flow(REQUEST, ALONE, Mode(write=False))
    came = [
        ...,
        record(**unusable),
        *([None] if {"response": "{"} == unusable or "codec" in unusable else []),
        None,
        Outcome("live"),
    ]
    steps, result = drive(call, *came)
    assert (result.answer.value, result.answer.found_by, result.answer.id) == ("live", None, None)
    assert Found not in kinds(steps)


def test_a_correction_answers_instead_of_the_response():
    _, result = drive(flow(REQUEST, ALONE), ..., record(expected='"right"'), None)
    assert result.answer.value == "right"


@pytest.mark.parametrize(("score", "answered"), [(None, False), (0.7, False), (0.8, True), (1.0, True)])
def test_a_least_score(score, answered):
    _, result = drive(lookup(REQUEST, replace(ALONE, min_score=0.8)), record(score=score))
    assert (result is not None) == answered


def test_a_feed_answers_and_nothing_is_stored():
    steps, result = drive(flow(REQUEST, ALONE), None)
    assert kinds(steps) == [AskFeeds]
    assert (result.answer.value, result.answer.found_by) == (None, "feed")


def test_without_reading_nothing_is_looked_up():
    steps, _ = drive(flow(REQUEST, ALONE, Mode(read=False)), None, Outcome("x"), True)
    assert kinds(steps) == [NotFound, Run, StoreRow]


def test_without_writing_nothing_is_kept():
    steps, result = drive(flow(REQUEST, ALONE, Mode(write=False)), ..., None, None, Outcome("x"))
    assert kinds(steps) == [AskFeeds, LookUp, NotFound, Run]
    assert result.answer.id is None


def test_the_functions_exception_is_the_end_and_nothing_is_kept():
    error = ValueError("boom")
    steps, result = drive(flow(REQUEST, ALONE), ..., None, None, Outcome(error=error))
    assert kinds(steps) == [AskFeeds, LookUp, NotFound, Run]
    assert result.error is error


def healthy(step):
    match step:
        case AskFeeds():
            return ...
        case LookUp() | Found() | NotFound() | Degraded():
            return None
        case FindSimilar():
            return [Match(record("hey"), 0.95, "semantic")]
        case AskJudge():
            return Verdict(None)
        case Run():
            return Outcome("live")
        case StoreRow():
            return True


@pytest.mark.parametrize("broken", range(7))
def test_whatever_step_breaks_the_function_runs_once_and_its_value_is_the_answer(broken):
    policy = replace(ALONE, judge=ThresholdJudge(0.99), inject=Inject("experiences"))
    call, steps = flow(REQUEST, policy), []
    step = next(call)
    with pytest.raises(StopIteration) as end:
        while True:
            steps.append(step)
            works = isinstance(step, Run | NotFound | Degraded) or len(steps) - 1 != broken
            step = call.send(healthy(step)) if works else call.throw(RuntimeError("broken"))
    assert kinds(steps).count(Run) == 1
    assert end.value.value.answer.value == "live"
    pool_steps = [AskFeeds, LookUp, FindSimilar, AskJudge, FindSimilar, NotFound, Run]
    expected_trouble = 0 if pool_steps[broken] in (NotFound, Run) else 1
    assert kinds(steps).count(Degraded) == expected_trouble


def test_a_store_that_breaks_while_keeping_changes_nothing_for_the_caller():
    steps, result = drive(flow(REQUEST, ALONE), ..., None, None, Outcome("live"), OSError("disk full"), None)
    assert kinds(steps)[-2:] == [StoreRow, Degraded]
    assert (result.answer.value, result.answer.id) == ("live", None)


def test_an_answer_that_cannot_be_encoded_is_trouble_not_an_error():
    value = object()
    steps, result = drive(flow(REQUEST, ALONE), ..., None, None, Outcome(value), None)
    assert kinds(steps)[-1] is Degraded
    assert result.answer.value is value


def test_similar_requests_are_only_looked_for_if_the_judge_wants_them():
    steps, match = drive(lookup(REQUEST, replace(ALONE, judge=PerfectJudge())), record(score=1.0), Verdict(None))
    assert kinds(steps) == [LookUp, AskJudge]
    assert match is None


def test_the_judge_decides_among_hits_of_the_scope():
    policy = replace(ALONE, judge=ThresholdJudge(0.9, candidates=3))
    similar = record("hey", "similar")
    call = lookup(REQUEST, policy)
    assert isinstance(call.send(None), LookUp)
    wanted = call.send(None)
    assert (type(wanted), wanted.limit, wanted.to_answer) == (FindSimilar, 3, True)
    asked = call.send([Match(similar, 0.95, "semantic"), Match(record("x", trust="quarantined"), 0.94, "semantic")])
    assert [hit.similarity for hit in asked.question.hits] == [0.95]
    with pytest.raises(StopIteration) as end:
        call.send(asked.judge.judge(asked.question))
    assert end.value.value.record is similar


def test_an_exact_match_is_not_searched_beyond():
    policy = replace(ALONE, judge=ThresholdJudge(0.9))
    steps, _ = drive(lookup(REQUEST, policy), record(), Verdict(None))
    assert kinds(steps) == [LookUp, AskJudge]


def test_a_judge_that_names_somebody_elses_hit_has_abstained():
    from exp_pool import Hit

    stranger = Hit(Experience(function="ask", request="x", response=1), 1.0, "exact")
    _, match = drive(lookup(REQUEST, replace(ALONE, judge=PerfectJudge())), record(), Verdict(stranger))
    assert match is None


def test_injected_experiences_are_parents_and_reach_the_function():
    policy = replace(ALONE, inject=Inject("experiences", top_k=2, min_similarity=0.3))
    similar = record("hey")
    steps, result = drive(flow(REQUEST, policy), ..., None, [Match(similar, 0.9, "semantic")], None, Outcome("x"), True)
    assert kinds(steps) == [AskFeeds, LookUp, FindSimilar, NotFound, Run, StoreRow]
    assert (steps[2].limit, steps[2].min_similarity, steps[2].to_answer) == (2, 0.3, False)
    given = steps[4].request.spec.signature.bind(*steps[4].request.args, **steps[4].request.kwargs).arguments
    assert [e.id for e in given["experiences"]] == [similar.id]
    assert result.answer.parents == (similar.id,)
    assert steps[5].record.parents == f'["{similar.id}"]'
    assert steps[5].record.key == REQUEST.key


def test_a_caller_who_brings_experiences_keeps_them():
    request = bind_call(SPEC, ("hi",), {"experiences": ["mine"]}, "n", None)
    assert request.key == REQUEST.key
    policy = replace(ALONE, inject=Inject("experiences"))
    steps, _ = drive(flow(request, policy), ..., None, None, Outcome("x"), True)
    assert FindSimilar not in kinds(steps)
    assert steps[3].request.kwargs == {"experiences": ["mine"]}


def test_a_context_builder_rewrites_the_text_but_not_what_is_stored():
    policy = replace(ALONE, context_builder=SimpleContextBuilder(limit=1))
    similar = record("hey", "you")
    steps, result = drive(flow(REQUEST, policy), ..., None, [Match(similar, 0.9, "semantic")], None, Outcome("x"), True)
    assert steps[4].request.args[0].startswith("hi\n")
    assert "hey" in steps[4].request.args[0]
    assert steps[5].record.request == "hi"
    assert result.answer.parents == (similar.id,)


def test_what_is_left_out_by_chance_is_kept_with_the_answer(monkeypatch):
    draws = iter([0.05, 0.1, 0.9])
    monkeypatch.setattr("random.random", lambda: next(draws))
    policy = replace(ALONE, inject=Inject("experiences", top_k=3, holdout=0.1), metadata={"team": "x"})
    found = [Match(record(f"hey {n}"), 0.9 - n / 10, "semantic") for n in range(3)]
    ids = [match.record.id for match in found]
    steps, result = drive(flow(REQUEST, policy), ..., None, found, None, Outcome("x"), True)
    assert result.answer.parents == (ids[1], ids[2])
    assert json.loads(steps[5].record.metadata) == {"team": "x", "exp_pool": {"holdout": 0.1, "left_out": [ids[0]]}}


def test_answers_are_looked_for_and_failures_where_asked():
    def searches(inject):
        steps, _ = drive(flow(REQUEST, replace(ALONE, inject=inject)), ..., None, *came, None, Outcome("x"), True)
        return [[(c.field, c.operator, c.value) for c in step.where] for step in steps if type(step) is FindSimilar]

    came = [[]]
    answers, good = ("kind", "in", ("success", "insight")), ("score", "gte", 0.5)
    assert searches(Inject("experiences")) == [[answers]]
    assert searches(Inject("experiences", min_score=0.5)) == [[answers, good]]
    assert searches(Inject("experiences", failures=True)) == [[]]
    came = [[], []]
    assert searches(Inject("experiences", min_score=0.5, failures=True)) == [
        [answers, good],
        [("kind", "eq", "failure")],
    ]


def test_with_both_the_builder_writes_of_what_is_injected():
    policy = replace(ALONE, inject=Inject("experiences", top_k=2), context_builder=SimpleContextBuilder(limit=1))
    found = [Match(record("hey", "you"), 0.9, "semantic"), Match(record("ho", "there"), 0.8, "semantic")]
    steps, result = drive(flow(REQUEST, policy), ..., None, found, None, Outcome("x"), True)
    assert steps[2].limit == 2
    given = steps[4].request.spec.signature.bind(*steps[4].request.args, **steps[4].request.kwargs).arguments
    assert [e.request for e in given["experiences"]] == ["hey", "ho"]
    assert "you" in given["req"]
    assert "there" not in given["req"]
    assert result.answer.parents == tuple(match.record.id for match in found)


def test_with_nothing_found_the_call_is_unchanged():
    policy = replace(ALONE, context_builder=SimpleContextBuilder())
    steps, _ = drive(flow(REQUEST, policy), ..., None, [], None, Outcome("x"), True)
    assert steps[4].request.args == ("hi",)


# Together with others

LEASE = Lease("n", REQUEST.key, "me", 1, 0)


def test_of_identical_calls_one_drives_the_flow_and_the_others_get_copies():
    steps, result = drive(
        flow(REQUEST, TOGETHER), ..., Shared(CallResult(Answer([1], "id"), encoded=("[1]", "json")), led=False), None
    )
    assert kinds(steps) == [AskFeeds, Coalesce, Coalesced]
    assert (result.answer.value, result.answer.id, result.answer.found_by) == ([1], "id", "coalesced")
    led = CallResult(Answer([1]))
    _, result = drive(flow(REQUEST, TOGETHER), ..., Shared(led, led=True))
    assert result is led


def test_the_part_driven_once_claims_the_key_and_writes_under_the_lease():
    call = flow(REQUEST, TOGETHER)
    assert isinstance(call.send(None), AskFeeds)
    once = call.send(...)
    steps, result = drive(once.part(), Claimed(lease=LEASE), None, Outcome("x"), True)
    assert kinds(steps) == [ClaimLease, NotFound, Run, StoreRow]
    assert steps[-1].lease is LEASE
    assert result.encoded == ('"x"', "json")
    steps, result = drive(once.part(), Claimed(record()), None)
    assert kinds(steps) == [ClaimLease, Found]


@pytest.mark.parametrize("shared", [None, Shared(CallResult(Answer(object())), led=False)], ids=["alone", "no copy"])
def test_who_cannot_share_goes_alone_without_a_lease(shared):
    steps, result = drive(flow(REQUEST, TOGETHER), ..., shared, None, None, Outcome("x"), True)
    assert kinds(steps) == [AskFeeds, Coalesce, LookUp, NotFound, Run, StoreRow]
    assert steps[-1].lease is None
    assert result.answer.value == "x"


def test_a_copy_that_cannot_be_read_is_trouble_and_the_call_goes_alone():
    broken = Shared(CallResult(Answer(1), encoded=("{", "json")), led=False)
    steps, _ = drive(flow(REQUEST, TOGETHER), ..., broken, None, None, None, Outcome("x"), True)
    assert kinds(steps) == [AskFeeds, Coalesce, Degraded, LookUp, NotFound, Run, StoreRow]


def test_an_exception_reaches_those_who_wait_as_their_own():
    error = ValueError("boom")
    _, result = drive(flow(REQUEST, TOGETHER), ..., Shared(CallResult(Answer(None), error), led=False), None)
    assert (type(result.error), result.error.args) == (ValueError, ("boom",))
    assert result.error is not error


def test_an_exception_that_cannot_be_copied_is_shared():
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__("only one")

    error = Odd(1, 2)
    assert own_exception(error) is error


def test_a_row_of_another_type_counts_as_if_it_were_not_there():
    """So that processes which share the store run the function once for all of them."""
    other = record(codec="json@0123456789ab", origin="automatic", id="other")
    call = flow(REQUEST, replace(TOGETHER, codec=OfModels()))
    next(call)
    steps, result = drive(call.send(...).part(), Claimed(other), Claimed(lease=LEASE), None, Outcome(5), True)
    assert kinds(steps) == [ClaimLease, ClaimLease, NotFound, Run, StoreRow]
    assert steps[1].passing == "other"
    assert steps[-1].lease is LEASE


class OfModels(ResponseCodec):
    """A codec that gives nothing of what is stored."""

    def __init__(self):
        super().__init__((TypedCodec(),))

    def gives(self, name):
        return False


def test_an_answer_that_is_not_to_be_stored_still_reaches_those_who_wait():
    policy = replace(TOGETHER, cache_if=lambda call, value: False)
    call = flow(REQUEST, policy)
    next(call)
    part = call.send(...).part
    steps, result = drive(part(), Claimed(lease=LEASE), None, Outcome("x"), False, True)
    assert kinds(steps) == [ClaimLease, NotFound, Run, CallUserCallback, HasWaiters]
    assert (result.answer.id, result.encoded) == (None, ('"x"', "json"))
    steps, result = drive(part(), Claimed(lease=LEASE), None, Outcome("x"), False, False)
    assert (result.answer.value, result.encoded) == ("x", None), "there is nobody to encode it for"


def test_stale_is_served_while_somebody_renews_it_here_or_in_another_process():
    policy = replace(TOGETHER, ttl=Ttl(60, stale="1w"))
    old = record(expires_at=record().created_at)
    steps, result = drive(flow(REQUEST, policy), ..., None, old, None)
    assert kinds(steps) == [AskFeeds, Coalesce, LookUp, Found]
    assert not steps[1].wait
    assert result.answer.value == "hello"
    call = flow(REQUEST, policy)
    next(call)
    steps, result = drive(call.send(...).part(), Claimed(busy=True), old, None)
    assert kinds(steps) == [ClaimLease, LookUp, Found]


def test_too_stale_is_waited_for():
    policy = replace(TOGETHER, ttl=Ttl(60, stale=1))
    old = record(expires_at=1)
    shared = Shared(CallResult(Answer(1), encoded=("1", "json")), led=False)
    steps, result = drive(flow(REQUEST, policy), ..., None, old, shared, None)
    assert kinds(steps) == [AskFeeds, Coalesce, LookUp, Coalesce, Coalesced]
    assert result.answer.value == 1


def test_what_has_expired_answers_in_place_of_an_exception_where_that_is_allowed():
    old, error = record(expires_at=record().created_at), ValueError("down")
    policy = replace(ALONE, ttl=Ttl(60, if_error="1w"))
    steps, result = drive(flow(REQUEST, policy), ..., old, None, Outcome(error=error), old, None, None)
    assert kinds(steps) == [AskFeeds, LookUp, NotFound, Run, LookUp, Found, Degraded]
    assert (result.answer.value, result.error) == ("hello", None)
    steps, result = drive(flow(REQUEST, policy), ..., None, None, Outcome(error=error), record(expires_at=1))
    assert result.error is error


def test_a_failure_is_kept_under_a_key_of_its_own():
    policy = replace(ALONE, record_failures=True)
    error = ValueError("no sk-abcdefghijklmnopqrstuvwxyz0123")
    steps, result = drive(flow(REQUEST, policy), ..., None, None, Outcome(error=error), True)
    kept = steps[-1].record
    assert (kept.kind, kept.key) == ("failure", failure_key(REQUEST.key))
    assert kept.response == '{"error":"ValueError","message":"no [redacted]"}'
    assert "sk-abc" not in kept.metadata
    assert result.error is error


def test_in_replay_a_miss_is_an_error_and_nothing_runs():
    steps, result = drive(flow(REQUEST, ALONE, Mode(replay=True)), ..., None, "the model differs")
    assert kinds(steps) == [AskFeeds, LookUp, Explain]
    assert isinstance(result.error, ReplayMissError)
    assert "the model differs" in str(result.error)


def test_the_ttl_may_depend_on_the_response():
    policy = replace(ALONE, ttl=lambda value: "1m" if value == "x" else None)
    steps, _ = drive(flow(REQUEST, policy), ..., None, None, Outcome("x"), "1m", True)
    assert kinds(steps)[-2:] == [CallUserCallback, StoreRow]
    assert steps[-1].record.expires_at - steps[-1].record.created_at == 60_000_000


def test_jitter_shortens_only():
    policy = replace(ALONE, ttl=Ttl(100, jitter=0.5))
    lasting = set()
    for _ in range(20):
        steps, _ = drive(flow(REQUEST, policy), ..., None, None, Outcome("x"), True)
        lasting.add(steps[-1].record.expires_at - steps[-1].record.created_at)
    assert len(lasting) > 1
    assert all(50_000_000 <= us <= 100_000_000 for us in lasting)


@pytest.mark.parametrize(
    ("policy", "found_by"),
    [
        (TOGETHER, "semantic"),
        (replace(TOGETHER, min_score=0.5), "exact"),
        (replace(TOGETHER, min_score=0.5), "semantic"),
    ],
)
def test_what_another_functions_judge_found_is_not_taken_over(policy, found_by):
    reused = CallResult(Answer(1, "id", found_by), encoded=("1", "json"))
    steps, result = drive(flow(REQUEST, policy), ..., Shared(reused, led=False), None, None, Outcome("x"), True)
    assert kinds(steps) == [AskFeeds, Coalesce, LookUp, NotFound, Run, StoreRow]
    assert result.answer.value == "x"
