"""Judges together and behind the guard, asked by hand."""

import asyncio
import inspect
from dataclasses import replace

import pytest

from exp_pool import ExactJudge, Experience, Hit, PerfectJudge, ThresholdJudge, VerifiedJudge, all_of, any_of, guarded
from exp_pool.errors import ConfigurationError
from exp_pool.protocols import Question, Verdict
from exp_pool.reuse.judge_memory import JudgeMemory


def hit(request, similarity=0.95, found_by="semantic"):
    return Hit(Experience(function="f", request=request, response=1), similarity, found_by)


def question(request, *hits):
    return Question("f", request, tuple(hits))


class Takes:
    """Chooses the first hit whose request it likes; remembers what it was shown."""

    def __init__(self, *likes, candidates=5):
        self.likes, self.candidates, self.shown = likes, candidates, []

    def judge(self, question):
        self.shown.append([hit.experience.request for hit in question.hits])
        chosen = next((hit for hit in question.hits if hit.experience.request in self.likes), None)
        return Verdict(chosen, f"likes {self.likes}")


class TakesLater(Takes):
    async def judge(self, question):
        await asyncio.sleep(0)
        return super().judge(question)


class Raises:
    candidates = 1

    def judge(self, question):
        raise ZeroDivisionError("broken")


def decide(judge, asked):
    verdict = judge.judge(asked)
    if inspect.isawaitable(verdict):

        async def wait():
            return await verdict

        return asyncio.run(wait())
    return verdict


THREE, FIVE = hit("Give me 3 ideas", 0.99), hit("Give me 5 ideas", 0.97)


def test_a_threshold_judge_passes_over_what_the_guard_vetoes():
    verdict = ThresholdJudge(0.9).judge(question("Give me five ideas", THREE, FIVE))
    assert verdict.hit is FIVE
    verdict = ThresholdJudge(0.9).judge(question("Give me 7 ideas", THREE, FIVE))
    assert verdict.hit is None
    assert "similarity 0.990, but the numbers differ: 7 against 3" in verdict.reason
    assert ThresholdJudge(0.9, guard=False).judge(question("Give me 7 ideas", THREE, FIVE)).hit is THREE


SIXTH, NO_DAY, FIFTH = hit("flights on May 6", 0.99), hit("flights", 0.95), hit("what flights are there on May 5", 0.93)


@pytest.mark.parametrize("judge", [ThresholdJudge(0.9), guarded(ThresholdJudge(0.9, guard=False))], ids=repr)
def test_after_a_veto_the_next_answers_only_if_it_agrees_in_what_the_veto_was_about(judge):
    """The vetoed one shows what such requests are told apart by: what says nothing of that is no answer either."""
    assert decide(judge, question("flights on May 5", NO_DAY)).hit is NO_DAY, "alone it is only a hint"
    verdict = decide(judge, question("flights on May 5", SIXTH, NO_DAY))
    assert verdict.hit is None
    assert "the dates or times differ: May 5 against May 6" in verdict.reason
    assert "only one of them says May 5" in verdict.reason
    assert decide(judge, question("flights on May 5", SIXTH, NO_DAY, FIFTH)).hit is FIFTH
    assert decide(judge, question("flights on May 5", NO_DAY, SIXTH)).hit is NO_DAY, "it is the nearest"


def test_what_a_veto_was_about_does_not_speak_against_what_differs_in_something_else():
    numbers, dates = hit("3 flights on May 5", 0.99), hit("4 flights", 0.95)
    assert ThresholdJudge(0.9).judge(question("4 flights on May 5", numbers, dates)).hit is dates


def test_a_judge_that_learns_passes_over_the_same_ones():
    seen = []

    class Learned(JudgeMemory):
        def predict(self, pairs):
            seen.append(pairs)
            return [0.3, 0.1]

    memory = Learned(0.02, 0.95)
    asked = replace(question("flights on May 5", SIXTH, NO_DAY), memory=memory)
    verdict = VerifiedJudge(candidates=2).judge(asked)
    assert seen and verdict.hit is None
    assert verdict.reason.endswith("the dates or times differ: only one of them says May 5")


def test_an_identical_request_needs_no_guard():
    exact = hit("how requests are written is up to the user: 3", 1.0, "exact")
    asked = question("4", exact)
    assert ThresholdJudge(0.9).judge(asked).hit is exact
    assert decide(guarded(Takes(exact.experience.request)), asked).hit is exact


@pytest.mark.parametrize("kind", [Takes, TakesLater])
def test_a_guarded_judge_never_sees_what_the_guard_vetoes(kind):
    inner = kind("Give me 3 ideas", "Give me 5 ideas", candidates=3)
    judge = guarded(inner)
    assert judge.candidates == 3
    assert decide(judge, question("Give me five ideas", THREE, FIVE)).hit is FIVE
    assert inner.shown == [["Give me 5 ideas"]]
    verdict = decide(judge, question("Give me 7 ideas", THREE, FIVE))
    assert verdict.hit is None
    assert "the numbers differ: 7 against 3" in verdict.reason
    assert len(inner.shown) == 1, "where nothing is left nobody is asked"


def test_a_guarded_judge_cannot_name_what_it_was_not_shown():
    class Lies(Takes):
        def judge(self, question):
            return Verdict(THREE)

    assert decide(guarded(Lies()), question("Give me five ideas", THREE, FIVE)).hit is None


A, B, C = hit("a cat"), hit("a dog", 0.9), hit("a bird", 0.8)


@pytest.mark.parametrize("kinds", [(Takes, Takes), (TakesLater, Takes), (Takes, TakesLater), (TakesLater, TakesLater)])
def test_all_of_answers_with_the_first_hit_that_all_choose(kinds):
    first, second = kinds[0]("a cat", "a bird"), kinds[1]("a dog", "a bird")
    verdict = decide(all_of(first, second), question("x", A, B, C))
    assert verdict.hit is C
    assert second.shown == [["a cat"], ["a bird"]], "asked only about what the one before it chose"
    assert decide(all_of(kinds[0]("a cat"), kinds[1]("a dog")), question("x", A, B, C)).hit is None
    assert decide(all_of(first, second), question("x")).hit is None


@pytest.mark.parametrize("kinds", [(Takes, Takes), (TakesLater, Takes), (Takes, TakesLater), (TakesLater, TakesLater)])
def test_any_of_answers_with_the_first_judge_that_chooses(kinds):
    assert decide(any_of(kinds[0](), kinds[1]("a dog")), question("x", A, B)).hit is B
    assert decide(any_of(kinds[0]("a cat"), kinds[1]("a dog")), question("x", A, B)).hit is A
    verdict = decide(any_of(kinds[0]("y"), kinds[1]("z")), question("x", A, B))
    assert (verdict.hit, verdict.reason) == (None, "likes ('y',); likes ('z',)")


def test_one_judge_of_any_of_may_raise_and_of_all_of_not():
    assert decide(any_of(Raises(), TakesLater("a cat")), question("x", A)).hit is A
    for judge in (
        any_of(Raises(), TakesLater("y")),
        any_of(TakesLater("y"), Raises()),
        all_of(Takes("a cat"), Raises()),
    ):
        with pytest.raises(ZeroDivisionError, match="broken"):
            decide(judge, question("x", A))


def test_judges_together_want_as_many_candidates_as_the_greediest_and_each_sees_no_more_than_it_wants():
    few, many = Takes(candidates=1), Takes(candidates=3)
    assert any_of(few, many).candidates == all_of(many, few).candidates == 3
    decide(any_of(few, many, ExactJudge()), question("x", A, B, C))
    assert (len(few.shown[0]), len(many.shown[0])) == (1, 3)
    assert decide(any_of(ExactJudge(), PerfectJudge()), question("x", A, B, C)).hit is None


def test_judges_together_are_pure_where_all_are():
    assert any_of(ThresholdJudge(0.9), PerfectJudge()).pure
    assert not all_of(ThresholdJudge(0.9), Takes()).pure
    assert inspect.isawaitable(later := any_of(TakesLater()).judge(question("x", A)))
    asyncio.run(asyncio.wait_for(later, 5))


@pytest.mark.parametrize("make", [lambda: all_of(), lambda: any_of(0.9), lambda: guarded(ThresholdJudge)])
def test_what_is_no_judge_is_refused(make):
    with pytest.raises(ConfigurationError, match=r"at least one judge|is no judge"):
        make()
