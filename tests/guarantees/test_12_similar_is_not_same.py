"""Guarantee 12: by default only an identical request is answered; reuse by similarity is asked for and stays in its scope."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pool import Experience, ExpManager, Hit, Inject, ThresholdJudge, all_of, any_of, bypass, guarded, in_namespace
from exp_pool.protocols import Verdict

EVERYTHING_ALIKE = {"embedder": lambda texts: np.ones((len(texts), 3))}


def test_by_default_only_an_identical_request_is_answered(make_manager):
    manager = make_manager(**EVERYTHING_ALIKE)

    @manager.exp_cache
    def ask(req):
        return f"about {req}"

    assert ask("cats") == "about cats"
    manager.sync.flush()
    assert ask("dogs") == "about dogs"
    assert ask.lookup("birds") is None


def test_reuse_is_asked_for_and_says_what_it_found(make_manager):
    manager = make_manager(**EVERYTHING_ALIKE)

    @manager.exp_cache(judge=ThresholdJudge(0.9, guard=False))
    def ask(req):
        return f"about {req}"

    first = ask.call("cats")
    manager.sync.flush()
    second = ask.call("dogs")
    assert (second.value, second.found_by, second.id) == ("about cats", "semantic", first.id)
    assert second.similarity == pytest.approx(1.0)
    assert isinstance(ask.lookup("dogs"), Hit)


DIFFERENT = {
    "another argument": lambda ask, call: ask("dogs", model="b"),
    "a redacted argument": lambda ask, call: ask("dogs", api_key="other"),
    "another conversation": lambda ask, call: call(
        [{"role": "system", "content": "be rude"}, {"role": "user", "content": "dogs"}]
    ),
}


@pytest.mark.parametrize("different", DIFFERENT)
def test_everything_but_the_text_must_be_equal(make_manager, different):
    manager = make_manager(**EVERYTHING_ALIKE)
    runs = []

    @manager.exp_cache(judge=ThresholdJudge(0.9, guard=False))
    def ask(req, model="a", api_key="mine"):
        runs.append(req)

    @manager.exp_cache(judge=ThresholdJudge(0.9, guard=False))
    def chat(messages):
        runs.append(messages)

    ask("cats"), chat([{"role": "system", "content": "be kind"}, {"role": "user", "content": "cats"}])
    manager.sync.flush()
    ask("horses"), chat([{"role": "system", "content": "be kind"}, {"role": "user", "content": "horses"}])
    assert len(runs) == 2, "the same scope is answered by similarity"
    DIFFERENT[different](ask, chat)
    assert len(runs) == 3


def test_other_functions_versions_namespaces_and_tenants_do_not_answer(make_manager):
    manager = make_manager(**EVERYTHING_ALIKE)

    def decorated(**options):
        @manager.exp_cache(**{"name": "f", "judge": ThresholdJudge(0.9), **options})
        def f(req):
            return options

        return f

    decorated()("cats")
    manager.sync.flush()
    assert decorated()("dogs") == {}
    for options in ({"name": "g"}, {"version": "2"}, {"namespace": "other"}):
        assert decorated(**options)("dogs") == options
    with in_namespace("tenant"):
        assert decorated(namespace="default").call("dogs").found_by is None, "the tenant around a call wins"
        assert manager.sync.query_exps("cats") == [] or {e.namespace for e in manager.sync.query_exps("cats")} == {
            "tenant"
        }


def test_nothing_without_a_request_text_is_answered_by_similarity(make_manager):
    manager = make_manager(**EVERYTHING_ALIKE)

    @manager.exp_cache(judge=ThresholdJudge(0.5))
    def add(a, b):
        return a + b

    assert add(1, 2) == 3
    manager.sync.flush()
    assert add(1, 3) == 4


def test_what_is_redacted_is_never_the_text(make_manager):
    manager = make_manager(**EVERYTHING_ALIKE)

    @manager.exp_cache(judge=ThresholdJudge(0.5), redact=("req",))
    def ask(req):
        return req.upper()

    assert ask("a") == "A"
    manager.sync.flush()
    assert ask("b") == "B"
    assert "a" not in {e.request for e in manager.sync.iter_exps()}


def test_quarantined_expired_history_and_other_embedders_do_not_answer(make_manager):
    manager = make_manager(**EVERYTHING_ALIKE)
    past = datetime.now(UTC) - timedelta(seconds=1)
    manager.sync.create_exp(
        Experience(function="f", request="good", arguments={"req": "good", "x": 1}, response="good")
    )
    for fields in ({"trust": "quarantined"}, {"expires_at": past}, {"kind": "failure"}):
        manager.sync.create_exp(Experience(function="f", request=str(fields), response="stored", **fields))
    for _ in range(2):
        manager.sync.create_exp(Experience(function="f", request="twice", response="history", expires_at=past))
    manager.sync.flush()
    shown = []

    def f(req, experiences):
        shown.append(sorted(e.value for e in experiences))
        return "live"

    def decorated(inject):
        return manager.exp_cache(name="f", judge=ThresholdJudge(0.5), inject=inject)(f)

    with bypass(read=False):
        assert decorated("experiences")("anything") == "live"
    assert decorated(Inject("experiences", failures=True))("anything") == "live"
    assert shown == [["good"], ["good", "stored"]], "a failure is shown to who asks for it, and answers nothing"
    assert sorted(e.value for e in manager.sync.query_exps("x", top_k=9)) == ["good", "live", "stored"]


def test_a_text_longer_than_the_embedder_reads_is_never_answered_by_similarity(make_manager):
    class Short:
        identity = "short"

        def embed(self, texts):
            return np.ones((len(texts), 3))

        def fits(self, texts):
            return [len(text) < 10 for text in texts]

    manager = make_manager(embedder=Short())

    @manager.exp_cache(judge=ThresholdJudge(0.5))
    def f(req):
        return req

    assert f("long" * 10) == "long" * 10
    assert f("short") == "short"
    manager.sync.flush()
    assert f("other") == "short"
    assert f("long" * 11) == "long" * 11
    assert len(manager.sync.search("long" * 12)) == 3, "people may still find it"


def test_requests_that_differ_in_a_word_that_matters_do_not_answer_each_other(make_manager):
    manager = make_manager(**EVERYTHING_ALIKE)

    @manager.exp_cache(judge=ThresholdJudge(0.9))
    def ask(req):
        return req

    ask("Can I swim with a fever?")
    manager.sync.flush()
    assert ask("Can I not swim with a fever?") == "Can I not swim with a fever?"
    manager.sync.flush()
    assert ask("can I swim, with a fever") == "Can I swim with a fever?"


class Lies:
    """Chooses what it wants, shown or not: any experience that there is, or one that it makes up."""

    candidates = 9

    def __init__(self, chosen):
        self.chosen, self.shown = chosen, []

    def judge(self, question):
        self.shown.extend(hit.experience for hit in question.hits)
        return Verdict(Hit(self.chosen, 1.0, "exact"), "trust me")


FOREIGN = {
    "namespace": {"namespace": "other"},
    "function": {"function": "g"},
    "version": {"version": "2"},
    "reuse scope": {"arguments": {"req": "stored", "model": "b"}},
    "trust": {"trust": "quarantined"},
    "kind": {"kind": "failure"},
    "expiry": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)},
    "a text cut off": {"arguments": {"req": "long " * 40, "model": "a"}, "request": "long " * 40},
}


class Short:
    identity = "short"

    def embed(self, texts):
        return np.ones((len(texts), 3))

    def fits(self, texts):
        return [len(text) < 100 for text in texts]


WRAPPED = {
    "alone": lambda judge: judge,
    "guarded": guarded,
    "all of": lambda judge: all_of(judge, judge),
    "any of": any_of,
}


@given(st.sampled_from(sorted(FOREIGN)), st.sampled_from(sorted(WRAPPED)), st.booleans(), st.booleans())
def test_reuse_stays_in_its_scope_whatever_the_judge_says(border, wrapping, forged, also_a_good_one):
    """A judge that names a row from beyond a border, or a forged copy of it with another's value, has abstained."""
    with ExpManager(store="memory://", index="exact://", embedder=Short()) as manager:
        fields = {
            "function": "f",
            "arguments": {"req": "stored", "model": "a"},
            "response": "foreign",
            **FOREIGN[border],
        }
        id_ = manager.sync.create_exp(Experience(**{"request": "stored", **fields}))
        manager.sync.flush()
        if also_a_good_one:
            good = {"function": "f", "arguments": {"req": "good", "model": "a"}, "request": "good", "response": "good"}
            manager.sync.create_exp(Experience(**good))
            manager.sync.flush()
        stored = Experience(id=id_, **{"request": "stored", **fields})
        judge = Lies(stored.clone(namespace="default", function="f", response="forged") if forged else stored)

        @manager.exp_cache(name="f", judge=WRAPPED[wrapping](judge))
        def f(req, model="a"):
            return "live"

        assert f("asked") == "live"
        assert "foreign" not in {experience.value for experience in judge.shown}
