"""The story, told by feeding it literals: no store, no thread, no mock."""

from dataclasses import replace

import pytest

from exp_pool import Experience, Inject, PerfectJudge, SimpleContextBuilder, ThresholdJudge
from exp_pool.capture import Capture
from exp_pool.codecs import codec_for
from exp_pool.flow import (
    AskFeeds,
    AskJudge,
    FindSimilar,
    Found,
    Keep,
    LookUp,
    Match,
    NotFound,
    Outcome,
    Policy,
    Run,
    Trouble,
    match_to_answer,
    story,
)
from exp_pool.protocols import Verdict
from exp_pool.records import to_record
from exp_pool.request import CallSpec


def ask(req, model="a", experiences=()):
    raise AssertionError("the story runs nothing itself")


SPEC = CallSpec(ask, name="ask", inject="experiences")
REQUEST = SPEC.request(("hi",), {}, "n", None)
EXACT = Policy(codec_for(ask))


def record(request="hi", answer="hello", **fields):
    kept = to_record(
        Experience(function="ask", arguments={"req": request, "model": "a"}, response=answer), "n", key=REQUEST.key
    )
    return replace(kept, **fields)


def tell(telling, *came_of_it):
    """The steps that the story asks for, given what comes of each in turn, and its end."""
    steps, answers = [], iter(came_of_it)
    try:
        step = next(telling)
        while True:
            steps.append(step)
            given = next(answers)
            step = telling.throw(given) if isinstance(given, Exception) else telling.send(given)
    except StopIteration as end:
        assert next(answers, "all used") == "all used"
        return steps, end.value


def kinds(steps):
    return [type(step) for step in steps]


def test_an_exact_hit_asks_for_nothing_but_the_lookup():
    steps, ending = tell(story(REQUEST, EXACT), ..., record(), None)
    assert kinds(steps) == [AskFeeds, LookUp, Found]
    assert (ending.answer.value, ending.answer.found_by, ending.answer.similarity) == ("hello", "exact", 1.0)


def test_a_miss_runs_and_keeps():
    outcome = Outcome("hello", capture=Capture(model="m", strategy="s", tokens_in=3, metadata={"k": 1}), time_s=0.5)
    steps, ending = tell(
        story(REQUEST, replace(EXACT, ttl_s=60, metadata={"team": "x"})), ..., None, None, outcome, True
    )
    assert kinds(steps) == [AskFeeds, LookUp, NotFound, Run, Keep]
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
    assert (ending.answer.value, ending.answer.id, ending.answer.found_by) == ("hello", kept.id, None)


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
    telling = story(REQUEST, EXACT, write=False)
    came = [
        ...,
        record(**unusable),
        *([None] if {"response": "{"} == unusable or "codec" in unusable else []),
        None,
        Outcome("live"),
    ]
    steps, ending = tell(telling, *came)
    assert (ending.answer.value, ending.answer.found_by, ending.answer.id) == ("live", None, None)
    assert Found not in kinds(steps)


def test_a_correction_answers_instead_of_the_response():
    _, ending = tell(story(REQUEST, EXACT), ..., record(expected='"right"'), None)
    assert ending.answer.value == "right"


@pytest.mark.parametrize(("score", "answered"), [(None, False), (0.7, False), (0.8, True), (1.0, True)])
def test_a_least_score(score, answered):
    _, ending = tell(match_to_answer(REQUEST, replace(EXACT, min_score=0.8)), record(score=score))
    assert (ending is not None) == answered


def test_a_feed_answers_and_nothing_is_stored():
    steps, ending = tell(story(REQUEST, EXACT), None)
    assert kinds(steps) == [AskFeeds]
    assert (ending.answer.value, ending.answer.found_by) == (None, "feed")


def test_without_reading_nothing_is_looked_up():
    steps, _ = tell(story(REQUEST, EXACT, read=False), None, Outcome("x"), True)
    assert kinds(steps) == [NotFound, Run, Keep]


def test_without_writing_nothing_is_kept():
    steps, ending = tell(story(REQUEST, EXACT, write=False), ..., None, None, Outcome("x"))
    assert kinds(steps) == [AskFeeds, LookUp, NotFound, Run]
    assert ending.answer.id is None


def test_the_functions_exception_is_the_end_and_nothing_is_kept():
    error = ValueError("boom")
    steps, ending = tell(story(REQUEST, EXACT), ..., None, None, Outcome(error=error))
    assert kinds(steps) == [AskFeeds, LookUp, NotFound, Run]
    assert ending.error is error


def healthy(step):
    match step:
        case AskFeeds():
            return ...
        case LookUp() | Found() | NotFound() | Trouble():
            return None
        case FindSimilar():
            return [Match(record("hey"), 0.95, "semantic")]
        case AskJudge():
            return Verdict(None)
        case Run():
            return Outcome("live")
        case Keep():
            return True


@pytest.mark.parametrize("broken", range(7))
def test_whatever_step_breaks_the_function_runs_once_and_its_value_is_the_answer(broken):
    policy = replace(EXACT, judge=ThresholdJudge(0.99), inject=Inject("experiences"))
    telling, steps = story(REQUEST, policy), []
    step = next(telling)
    with pytest.raises(StopIteration) as end:
        while True:
            steps.append(step)
            works = isinstance(step, Run | NotFound | Trouble) or len(steps) - 1 != broken
            step = telling.send(healthy(step)) if works else telling.throw(RuntimeError("broken"))
    assert kinds(steps).count(Run) == 1
    assert end.value.value.answer.value == "live"
    pool_steps = [AskFeeds, LookUp, FindSimilar, AskJudge, FindSimilar, NotFound, Run]
    expected_trouble = 0 if pool_steps[broken] in (NotFound, Run) else 1
    assert kinds(steps).count(Trouble) == expected_trouble


def test_a_store_that_breaks_while_keeping_changes_nothing_for_the_caller():
    steps, ending = tell(story(REQUEST, EXACT), ..., None, None, Outcome("live"), OSError("disk full"), None)
    assert kinds(steps)[-2:] == [Keep, Trouble]
    assert (ending.answer.value, ending.answer.id) == ("live", None)


def test_an_answer_that_cannot_be_encoded_is_trouble_not_an_error():
    value = object()
    steps, ending = tell(story(REQUEST, EXACT), ..., None, None, Outcome(value), None)
    assert kinds(steps)[-1] is Trouble
    assert ending.answer.value is value


def test_similar_requests_are_only_looked_for_if_the_judge_wants_them():
    steps, match = tell(
        match_to_answer(REQUEST, replace(EXACT, judge=PerfectJudge())), record(score=1.0), Verdict(None)
    )
    assert kinds(steps) == [LookUp, AskJudge]
    assert match is None


def test_the_judge_decides_among_hits_of_the_scope():
    policy = replace(EXACT, judge=ThresholdJudge(0.9, candidates=3))
    similar = record("hey", "similar")
    telling = match_to_answer(REQUEST, policy)
    assert isinstance(telling.send(None), LookUp)
    wanted = telling.send(None)
    assert (type(wanted), wanted.limit, wanted.to_answer) == (FindSimilar, 3, True)
    asked = telling.send([Match(similar, 0.95, "semantic"), Match(record("x", trust="quarantined"), 0.94, "semantic")])
    assert [hit.similarity for hit in asked.question.hits] == [0.95]
    with pytest.raises(StopIteration) as end:
        telling.send(asked.judge.judge(asked.question))
    assert end.value.value.record is similar


def test_an_exact_match_is_not_searched_beyond():
    policy = replace(EXACT, judge=ThresholdJudge(0.9))
    steps, _ = tell(match_to_answer(REQUEST, policy), record(), Verdict(None))
    assert kinds(steps) == [LookUp, AskJudge]


def test_a_judge_that_names_somebody_elses_hit_has_abstained():
    from exp_pool import Hit

    stranger = Hit(Experience(function="ask", request="x", response=1), 1.0, "exact")
    _, match = tell(match_to_answer(REQUEST, replace(EXACT, judge=PerfectJudge())), record(), Verdict(stranger))
    assert match is None


def test_injected_experiences_are_parents_and_reach_the_function():
    policy = replace(EXACT, inject=Inject("experiences", top_k=2, min_similarity=0.3))
    similar = record("hey")
    steps, ending = tell(story(REQUEST, policy), ..., None, [Match(similar, 0.9, "semantic")], None, Outcome("x"), True)
    assert kinds(steps) == [AskFeeds, LookUp, FindSimilar, NotFound, Run, Keep]
    assert (steps[2].limit, steps[2].min_similarity, steps[2].to_answer) == (2, 0.3, False)
    given = steps[4].request.spec.signature.bind(*steps[4].request.args, **steps[4].request.kwargs).arguments
    assert [e.id for e in given["experiences"]] == [similar.id]
    assert ending.answer.parents == (similar.id,)
    assert steps[5].record.parents == f'["{similar.id}"]'
    assert steps[5].record.key == REQUEST.key


def test_a_caller_who_brings_experiences_keeps_them():
    request = SPEC.request(("hi",), {"experiences": ["mine"]}, "n", None)
    assert request.key == REQUEST.key
    policy = replace(EXACT, inject=Inject("experiences"))
    steps, _ = tell(story(request, policy), ..., None, None, Outcome("x"), True)
    assert FindSimilar not in kinds(steps)
    assert steps[3].request.kwargs == {"experiences": ["mine"]}


def test_a_context_builder_rewrites_the_text_but_not_what_is_stored():
    policy = replace(EXACT, context_builder=SimpleContextBuilder(limit=1))
    similar = record("hey", "you")
    steps, ending = tell(story(REQUEST, policy), ..., None, [Match(similar, 0.9, "semantic")], None, Outcome("x"), True)
    assert steps[4].request.args[0].startswith("hi\n")
    assert "hey" in steps[4].request.args[0]
    assert steps[5].record.request == "hi"
    assert ending.answer.parents == (similar.id,)


def test_with_nothing_found_the_call_is_unchanged():
    policy = replace(EXACT, context_builder=SimpleContextBuilder())
    steps, _ = tell(story(REQUEST, policy), ..., None, [], None, Outcome("x"), True)
    assert steps[4].request.args == ("hi",)
