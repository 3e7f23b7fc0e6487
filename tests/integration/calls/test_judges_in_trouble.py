"""Guarantee 4: a judge that hangs, or raises, has abstained; the call goes on."""

import asyncio
import contextvars
import threading

import pytest

from exp_pool import (
    Experience,
    PerfectJudge,
    Score,
    any_of,
    bypass,
)
from exp_pool.protocols import Verdict


class Hangs:
    """Judges once it is let go; says when it has begun and when it has ended."""

    candidates = 1

    def __init__(self):
        self.release, self.begun, self.asked = threading.Event(), threading.Event(), 0

    def judge(self, question):
        self.asked += 1
        self.begun.set()
        self.release.wait(60)
        return Verdict(question.hits[0])


class HangsLater(Hangs):
    async def judge(self, question):
        self.asked += 1
        self.begun.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("kind", [Hangs, HangsLater])
@pytest.mark.parametrize("together", [False, True], ids=["alone", "any_of"])
def test_a_judge_that_hangs_costs_its_time_out_and_the_call_goes_on(make_manager, kind, together):
    manager, judge = make_manager(judge_timeout=0.05), kind()
    asked = any_of(judge) if together else judge

    @manager.exp_cache(name="f", judge=asked)
    def f(req):
        return "live"

    @manager.exp_cache(name="f", judge=asked)
    async def later(req):
        return "live"

    manager.sync.create_exp(Experience(function="f", request="x", arguments={"req": "x"}, response="stored"))
    with bypass(read=False):
        assert f("x") == "live"
        assert judge.begun.is_set()
        assert asyncio.run(later("x")) == "live"
    assert judge.asked == 2
    assert manager.stats().degraded >= 2
    judge.release.set()


def test_a_judge_that_hangs_again_and_again_is_not_asked_until_it_comes_back(make_manager):
    manager, judge = make_manager(judge_timeout=0.05), Hangs()

    @manager.exp_cache(name="f", judge=judge)
    def f(req):
        return "live"

    @manager.exp_cache(name="f", judge=PerfectJudge(0.0))
    def other(req):
        return "other"

    manager.sync.create_exp(
        Experience(function="f", request="x", arguments={"req": "x"}, response="stored", scores={"s": Score(value=1)})
    )
    before = threading.active_count()
    for _ in range(20):
        with bypass(read=False):
            assert f("x") == "live"
    assert judge.asked == 4
    assert threading.active_count() <= before + 4 + 1
    assert other("x") == "stored", "other judges are asked all the same"
    hung = [thread for thread in threading.enumerate() if thread.name == "exp_pool-judge"]
    judge.release.set()
    for thread in hung:
        thread.join(60)
    with bypass(read=False):
        assert f("x") == "stored"
    assert judge.asked == 5


def test_a_judge_on_its_own_thread_sees_the_callers_context(make_manager):
    tenant, seen = contextvars.ContextVar("tenant"), []

    class Looks:
        candidates = 1

        def judge(self, question):
            seen.append((tenant.get(), threading.current_thread() is not threading.main_thread()))
            return Verdict(question.hits[0])

    manager = make_manager()

    @manager.exp_cache(judge=Looks())
    def f(req):
        return "live"

    tenant.set("acme")
    assert [f("x"), f("x")] == ["live", "live"]
    assert seen == [("acme", True)]


def test_a_judge_that_raises_a_time_out_of_its_own_has_abstained(make_manager):
    class Gives:
        candidates = 1

        def judge(self, question):
            raise TimeoutError("its own")

    @make_manager().exp_cache(judge=Gives())
    def f(req):
        return "live"

    assert [f("x"), f("x")] == ["live", "live"]
