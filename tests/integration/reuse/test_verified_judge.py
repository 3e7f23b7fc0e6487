"""A judge that learns what may be reused, in real calls: what it learns from, what it counts, and what it asks."""

import asyncio
import threading
import warnings

import pytest
from support.judged_calls import RATE, Asking, labelled

from exp_pool import (
    Inject,
    Refine,
    Score,
    VerifiedJudge,
    all_of,
    any_of,
    bypass,
    guarded,
)
from exp_pool.errors import ConfigurationError, ExpPoolWarning, InvalidInputError, ReplayMissError
from exp_pool.maintenance import judge_training
from exp_pool.maintenance.answer_comparison import equal_answers
from exp_pool.protocols import Question


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    return make_manager(store={"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param])


def taught(**settings):
    """A judge that knows from the start what may be reused, and has only to earn the bound."""
    return VerifiedJudge.fit(labelled(400), **{"max_error_rate": RATE, **settings})


def test_it_learns_what_may_be_reused_and_answers_that(manager):
    asking = Asking(manager)
    first = asking.go(60)
    assert {found for found, _ in first} == {None}, "nothing is known yet"
    asking.until_it_answers()
    results = asking.go(300)
    answered = [right for found, right in results if found == "semantic"]
    assert len(answered) > 60
    assert answered.count(False) <= RATE * len(results)
    assert len(asking.runs) + sum(found is not None for found, _ in results) <= asking.asked


def test_all_requests_are_counted_and_each_once(manager):
    asking = Asking(manager).until_it_answers()
    seen = asking.reuse()
    results = asking.go(200)
    answered = sum(found == "semantic" for found, _ in results)
    after = asking.reuse()
    assert after.requests - seen.requests == 200
    assert after.answered - seen.answered == answered
    assert after.requests == after.answered + after.explored + after.abstained
    assert after.allowed == RATE
    assert 0 <= after.error_rate <= after.at_most


def test_the_function_runs_at_times_although_it_would_be_answered(manager):
    asking = Asking(manager).until_it_answers()
    seen, runs, answered = asking.reuse(), len(asking.runs), 0
    for _ in range(4):
        answered += sum(found == "semantic" for found, _ in asking.go(50))
    explored = asking.reuse().explored - seen.explored
    assert 0 < explored <= 200 - answered
    assert len(asking.runs) - runs == 200 - answered, "what was explored has run"


def test_an_abstention_labels_its_pair_for_free(manager):
    asking = Asking(manager)
    asking.go(30)
    studied = manager.sync._judge_training.all("default")[0]
    assert 0 < len(studied.memory.labels) <= 30
    wrong = {label.wrong for label in studied.memory.labels}
    assert wrong == {False, True}


def test_an_identical_request_is_answered_and_counts_as_nothing(manager):
    asking = Asking(manager)
    asking.go(60)
    seen = asking.reuse()
    for known in list(asking.answers)[:20]:
        assert asking.ask.call(known).found_by == "exact"
    manager.sync.flush()
    assert asking.reuse() == seen


def test_looking_counts_as_nothing(manager):
    asking = Asking(manager).until_it_answers()
    seen = asking.reuse()
    hits = [asking.ask.lookup(asking.new()) for _ in range(100)]
    manager.sync.flush()
    assert any(hits), "it says what would be answered"
    assert asking.reuse() == seen


def not_writing(asking):
    asking.manager.is_writable = False
    return asking.ask.call


def not_storing(asking):
    def call(*args):
        with bypass(read=False):
            return asking.ask.call(*args)

    return call


def not_reading(asking):
    def call(*args):
        with bypass(write=False):
            return asking.ask.call(*args)

    return call


@pytest.mark.parametrize("way", [not_writing, not_storing, not_reading])
def test_where_nothing_can_be_counted_nothing_similar_is_answered(make_manager, way):
    asking = Asking(make_manager()).until_it_answers()
    seen, call = asking.reuse(), way(asking)
    assert {call(asking.new()).found_by for _ in range(60)} == {None}
    asking.manager.is_writable = True
    asking.manager.sync.flush()
    assert asking.reuse() == seen
    assert "semantic" in {found for found, _ in asking.go(60)}


def test_a_replay_answers_nothing_similar(make_manager):
    asking = Asking(make_manager()).until_it_answers()
    asking.manager.replay = True
    for _ in range(40):
        with pytest.raises(ReplayMissError):
            asking.ask(asking.new(easy=1.0))


def test_those_who_come_meanwhile_share_one_request(make_manager):
    manager = make_manager()
    asking = Asking(manager)
    asking.go(40)
    seen, gate, there = asking.reuse(), threading.Event(), threading.Barrier(4)

    @manager.exp_cache(name="ask", judge=VerifiedJudge(RATE))
    def slow(req):
        assert gate.wait(30)
        return "slow"

    def call():
        there.wait(30)
        found.append(slow.call("tell me about cats together").found_by)

    found, threads = [], [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    there.wait(30)
    gate.set()
    for thread in threads:
        thread.join(30)
    manager.sync.flush()
    assert None in found
    assert asking.reuse().requests == seen.requests + 1


def test_async_functions_learn_alike(make_manager):
    manager = make_manager()
    asking = Asking(manager, taught())

    @manager.exp_cache(judge=taught(), name="later", exclude=["asking"])
    async def later(req):
        await asyncio.sleep(0)
        return asking.answers[req]

    async def main():
        found = []
        for number in range(400):
            found.append((await later.call(asking.new())).found_by)
            if number % 20 == 19:
                await manager.flush()
        return found

    found = asyncio.run(main())
    report = {each.function: each.reuse for each in manager.sync.report().functions}["later"]
    assert "semantic" in found[-100:]
    assert report.answered == found.count("semantic")
    assert report.requests >= 380


def test_streams_learn_and_are_replayed(make_manager):
    manager = make_manager()
    asking = Asking(manager)

    @manager.exp_cache(judge=taught(), name="streamed", exclude=["asking"])
    def streamed(req):
        runs.append(req)
        yield from (asking.answers[req], "", "the end")

    runs, answered = [], 0
    for number in range(400):
        asked, before = asking.new(), len(runs)
        chunks = list(streamed(asked))
        if len(runs) == before:
            answered += 1
            assert chunks[1:] == ["", "the end"]
        else:
            assert chunks[0] == asking.answers[asked]
        if number % 20 == 19:
            manager.sync.flush()
    manager.sync.flush()
    report = {each.function: each.reuse for each in manager.sync.report().functions}["streamed"]
    assert report.answered == answered > 0


def test_batches_learn_item_by_item(make_manager):
    manager = make_manager()
    asking = Asking(manager)

    @manager.exp_cache(judge=taught(), name="many", batch="reqs", exclude=["asking"])
    def many(reqs):
        sizes.append(len(reqs))
        return [asking.answers[req] for req in reqs]

    sizes, asked, wrong = [], 0, 0
    for _ in range(40):
        wanted = [asking.new() for _ in range(10)]
        wrong += sum(said != asking.answers[req] for said, req in zip(many(wanted), wanted, strict=True))
        asked += 10
        manager.sync.flush()
    report = {each.function: each.reuse for each in manager.sync.report().functions}["many"]
    assert asked - sum(sizes) == report.answered > 0
    assert report.requests >= asked - 20
    assert wrong <= RATE * asked


def test_with_refinement_it_is_the_quick_answer_that_is_compared(make_manager):
    manager = make_manager()
    asking = Asking(manager, taught(), refine=Refine(lambda req: asking.answers[req], timeout=30))
    results = asking.go(300)
    assert all(right for found, right in results if found is None)
    reuse = asking.reuse()
    assert reuse.answered == sum(found == "semantic" for found, _ in results)
    assert reuse.requests <= 300


def test_a_function_that_raises_labels_nothing(make_manager):
    manager = make_manager()
    asking = Asking(manager)
    asking.go(40)
    seen = asking.reuse()

    @manager.exp_cache(name="ask", judge=VerifiedJudge(RATE))
    def fails(req):
        raise ZeroDivisionError(req)

    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            fails(asking.new())
    manager.sync.flush()
    assert asking.reuse() == seen


def test_the_function_does_not_see_what_its_answer_is_compared_with(make_manager):
    manager = make_manager(embedder=lambda texts: [[1.0, len(text) / 100] for text in texts])
    shown = []

    @manager.exp_cache(judge=VerifiedJudge(RATE), inject=Inject("experiences", top_k=5))
    def ask(req, experiences):
        shown.append([experience.request for experience in experiences])
        return req

    compared = []
    for length in range(12):
        ask("a " * (length + 1))
        manager.sync.flush()
        logs = [name for name in manager.sync.store.names("default").logs if name.startswith("verified:")]
        compared.append(sum(len(manager.sync.store.read_log("default", log)) for log in logs))
    assert compared == list(range(12)), "each was compared with one"
    assert [len(seen) for seen in shown[:5]] == [0, 0, 1, 2, 3], "all that there are, but for that one"


# ── What is the same ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("stored", "live", "same"),
    [
        ("Yes.", "yes", True),
        ("  two \n words", "Two words!", True),
        ("完整。", "完整", True),
        ("Ａ１", "a1", True),
        ("cafe\u0301", "caf\u00e9", True),
        ("yes", "no", False),
        ("1", 1, False),
        (1, 1.0, False),
        (True, 1, False),
        (None, None, True),
        ([1, "a"], [1, "a"], True),
        (["A"], ["a"], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ("10\u2075", "105", False),
        ("x\u00b2", "x2", False),
        ("about 5'", 'about 5"', False),
        ("?", "!", False),
        ("-5", "5", False),
        ("", " ", True),
        ("C++", "C", False),
        (float("nan"), float("nan"), False),
    ],
)
def test_what_is_plainly_the_same(stored, live, same):
    assert equal_answers(stored, live) is same
    assert equal_answers(live, stored) is same


def labels(manager, judge, stored="stored", live="live"):
    """What is written of one request like another."""
    answers = iter((stored, live))

    @manager.exp_cache(judge=judge, name="compared")
    def compared(req):
        return next(answers)

    compared("tell me about cats")
    manager.sync.flush()
    assert compared("tell me about the cats") == live
    manager.sync.flush()
    (studied,) = manager.sync._judge_training.all("default")
    return [label.wrong for label in studied.memory.labels]


async def same_later(stored, live):
    await asyncio.sleep(0)
    return stored == live.replace("LIVE", "stored")


SAME = {
    "a function that says yes": (lambda stored, live: True, [False]),
    "a function that says no": (lambda stored, live: False, [True]),
    "which is which": (lambda stored, live: (stored, live) == ("stored", "LIVE"), [False]),
    "an async function": (same_later, [False]),
    "a score": (lambda stored, live: Score(value=0.7), [False]),
    "a low score": (lambda stored, live: Score(value=0.3), [True]),
    "a number": (lambda stored, live: 0.5, [False]),
    "a scorer's name": ("exact", [True]),
    "by default": (None, [True]),
}


@pytest.mark.parametrize("same", SAME)
def test_same_says_whether_the_stored_answer_was_right(make_manager, same):
    asked, expected = SAME[same]
    assert labels(make_manager(), VerifiedJudge(same=asked), live="LIVE") == expected


def raises(stored, live):
    raise RuntimeError("broken")


NONSENSE = {
    "raises": raises,
    "says nothing": lambda stored, live: None,
    "says yes in words": lambda stored, live: "yes",
    "says 11": lambda stored, live: 11,
    "says NaN": lambda stored, live: float("nan"),
}


@pytest.mark.parametrize("same", NONSENSE)
def test_what_cannot_be_compared_is_no_label_and_said_once(make_manager, same):
    manager = make_manager()
    with pytest.warns(ExpPoolWarning, match="could not compare.*same="):
        assert labels(manager, VerifiedJudge(same=NONSENSE[same])) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert labels(manager, VerifiedJudge(same=NONSENSE[same])) == []


@pytest.mark.parametrize("same", ["exact", None])
def test_scorer_and_default_find_the_same_the_same(make_manager, same):
    assert labels(make_manager(), VerifiedJudge(same=same), "stored", "stored") == [False]


def test_a_function_that_answers_alike_requests_differently_is_said_to_need_same(make_manager):
    manager = make_manager()
    answers = iter(range(10**6))

    @manager.exp_cache(judge=VerifiedJudge(RATE))
    def moody(req):
        return f"in other words: {next(answers)}"

    with pytest.warns(ExpPoolWarning, match="nearly equal requests get different answers.*same=") as said:
        for number in range(3 * judge_training._ENOUGH_ALIKE):
            moody("tell me about cats" + " " * number)
            manager.sync.flush()
    assert sum("nearly equal" in str(each.message) for each in said) == 1


def test_a_function_that_answers_alike_is_not_warned_about(make_manager, recwarn):
    Asking(make_manager()).go(150)
    assert [each for each in recwarn if issubclass(each.category, ExpPoolWarning)] == []


def test_drift_is_said_once_and_what_was_learned_is_forgotten(make_manager):
    asking = Asking(make_manager()).until_it_answers()
    asking.drifted = True
    with pytest.warns(ExpPoolWarning, match="wrong more often") as said:
        while not asking.reuse().drifts:
            assert asking.asked < 4000, "it never notices"
            asking.go(20, easy=1.0)
    assert sum("wrong more often" in str(each.message) for each in said) == 1
    assert {found for found, _ in asking.go(20, easy=1.0)} == {None}
    reuse = asking.reuse()
    assert reuse.error_rate <= RATE, "over the whole run the promise holds"


# ── Taught, and badly told ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_judge_that_was_taught_answers_sooner(make_manager):
    untaught, quick = Asking(make_manager()), Asking(make_manager(), taught())
    assert not any(found for found, _ in untaught.go(150))
    results = quick.go(150)
    assert any(found == "semantic" for found, _ in results)
    assert all(found is None for found, _ in results[:5]), "the bound has to be earned"
    assert quick.reuse().requests <= 150, "what it was taught counts as no request"


BAD = {
    "no rate": {"max_error_rate": 0},
    "a negative rate": {"max_error_rate": -1},
    "a rate that is too high": {"max_error_rate": 0.6},
    "not a number": {"max_error_rate": float("nan")},
    "a text": {"max_error_rate": "x"},
    "a bool": {"max_error_rate": True},
    "nothing": {"max_error_rate": None},
    "confidence of one": {"confidence": 1},
    "confidence of a half": {"confidence": 0.5},
    "confidence not a number": {"confidence": float("nan")},
    "confidence as text": {"confidence": "0.95"},
    "no candidates": {"candidates": 0},
    "half a candidate": {"candidates": 1.5},
    "a bool of candidates": {"candidates": True},
    "same as a number": {"same": 1},
    "same as no name": {"same": ""},
}


@pytest.mark.parametrize("bad", BAD)
def test_settings_that_cannot_be_are_refused_by_name(bad):
    ((name, value),) = BAD[bad].items()
    with pytest.raises(ConfigurationError, match=name) as said:
        VerifiedJudge(**BAD[bad])
    assert repr(value) in str(said.value)
    with pytest.raises(ConfigurationError, match=name):
        VerifiedJudge.fit([("a", "b", True)], **BAD[bad])


@pytest.mark.parametrize(
    "pairs",
    [[("a", "b")], [("a", "b", 2)], [("a", None, True)], [("a", "b", "yes")], ["abc"], [None], [("a", "b", [])]],
)
def test_rubbish_teaches_nothing(pairs):
    with pytest.raises(InvalidInputError, match="no labelled pair"):
        VerifiedJudge.fit(pairs)


def test_it_stands_alone():
    judge = VerifiedJudge()
    for together in (all_of, any_of, guarded):
        with pytest.raises(ConfigurationError, match="stand alone"):
            together(judge)


def test_without_a_memory_it_abstains():
    from exp_pool import Experience, Hit

    hit = Hit(Experience(function="f", request="cats", response=1), 0.99, "semantic")
    verdict = VerifiedJudge().judge(Question("f", "dogs", (hit,)))
    assert verdict.hit is None
    assert verdict.example is None
    assert "nothing is known" in verdict.reason
