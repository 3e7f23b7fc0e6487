"""What a decorated function is and what can be asked of it."""

import asyncio
import functools
import gc
import inspect
import threading
import weakref

import pytest

from exp_pool import (
    Answer,
    Experience,
    Inject,
    PerfectJudge,
    Score,
    Step,
    ThresholdJudge,
    bypass,
    exp_cache,
    in_namespace,
    record,
)
from exp_pool.errors import ConfigurationError, ExpPoolWarning, UnkeyableError


def counted(manager, **options):
    runs = []

    @manager.exp_cache(**options)
    def f(req, model="a", **more):
        """What f does."""
        runs.append((req, model, more))
        return f"{model}:{req}"

    f.runs = runs
    return f


def test_with_and_without_parentheses(make_manager):
    manager = make_manager()
    for decorate in (manager.exp_cache, manager.exp_cache(), exp_cache(manager=manager)):

        @decorate
        def f(x):
            return x

        assert f(1) == f(1) == 1


def test_it_looks_like_the_function(make_manager):
    f = counted(make_manager())
    assert (f.__name__, f.__doc__, f.__module__) == ("f", "What f does.", __name__)
    assert list(inspect.signature(f).parameters) == ["req", "model", "more"]
    assert f.__wrapped__ is f.original
    assert f.original("x") == "a:x"
    assert not inspect.iscoroutinefunction(f)

    @make_manager().exp_cache
    async def g(x): ...

    assert inspect.iscoroutinefunction(g)
    assert asyncio.iscoroutinefunction(g)


def test_equal_calls_are_one_call_however_written(make_manager):
    f = counted(make_manager())
    assert f("x") == f(req="x") == f("x", "a") == f(model="a", req="x")
    assert len(f.runs) == 1
    f("x", b=1, c=2), f("x", b=1, c=2)
    assert len(f.runs) == 2
    f("x", c=2, b=1), f("x", c=2, b=1)
    assert len(f.runs) == 3, "the function sees in which order its **kwargs came"


def test_values_of_other_types_are_other_calls(make_manager):
    f = counted(make_manager())
    for value in (1, True, "1", 1.0, b"1", [1], (1,), {1}, None, {"a": 1}, {"a": "1"}, {1: "a"}):
        assert f(value) == f(value) == f"a:{value}"
    assert len(f.runs) == 12


def test_excluded_and_redacted(make_manager):
    manager = make_manager()
    f = counted(manager, exclude=["model"], redact=["secret"])
    f("x", model="a"), f("x", model="b")
    assert len(f.runs) == 1
    f("x", api_key="2", secret="1"), f("x", api_key="2", secret="3"), f("x", api_key="2", secret="1")
    assert len(f.runs) == 3
    stored = [e.arguments for e in manager.sync.iter_exps()]
    assert stored == [{"req": "x"}] + [{"req": "x", "secret": "[redacted]", "api_key": "[redacted]"}] * 2


def test_parameters_named_like_secrets_are_not_stored(make_manager, tmp_path):
    manager = make_manager(store="sqlite:///pool.db")

    @manager.exp_cache
    def f(req, api_key, openai_api_key, token, password, max_tokens, authorization=None):
        return "ok"

    for other in ("one", "two"):
        f("x", f"K1{other}", f"K2{other}", f"K3{other}", f"K4{other}", 5, f"K5{other}")
    assert manager.sync.get_exps_count() == 2
    manager.sync.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"K1" not in everything and b"K4" not in everything and b"K5" not in everything
    assert b'"max_tokens":5' in everything


class Agent:
    def __init__(self, model):
        self.model, self.runs = model, []

    def ask(self, req):
        self.runs.append(req)
        return f"{self.model}:{req}"


def methods(manager, **options):
    return type("Agent", (Agent,), {"ask": manager.exp_cache(**options)(Agent.ask)})


def test_a_method_by_the_attributes_that_matter(make_manager):
    cls = methods(make_manager(), self_key=("model",))
    a, b, again = cls("a"), cls("b"), cls("a")
    assert (a.ask("x"), b.ask("x"), again.ask(req="x")) == ("a:x", "b:x", "a:x")
    assert again.runs == []
    assert a.ask.key("x") == again.ask.key("x") != b.ask.key("x")
    assert a.ask.lookup("x").experience.response == "a:x"
    assert a.ask.call("x").found_by == "exact"
    assert list(inspect.signature(a.ask).parameters) == ["req"]
    a.ask.invalidate("x")
    again.ask("x")
    assert again.runs == ["x"]


def test_a_method_of_an_object_with_state_runs_uncached_and_says_so(make_manager):
    manager = make_manager()
    agent = methods(manager)("a")
    with pytest.warns(ExpPoolWarning, match=r"self_key=\('model', 'runs'\).*self_key=\(\).*__exp_key__") as caught:
        assert [agent.ask("x"), agent.ask("x")] == ["a:x", "a:x"]
    assert (len(caught), agent.runs, manager.stats().uncached) == (1, ["x", "x"], 2)


def test_methods_without_state_classmethods_and_staticmethods(make_manager):
    manager = make_manager()
    runs = []

    class Base:
        @manager.exp_cache
        def plain(self, req):
            runs.append(req)
            return type(self).__name__

        @classmethod
        @manager.exp_cache
        def of_class(cls, req):
            runs.append(req)
            return cls.__name__

        @manager.exp_cache
        @staticmethod
        def static(req):
            runs.append(req)
            return req

    class Child(Base):
        pass

    for _ in range(2):
        assert (Base().plain("x"), Child().plain("x")) == ("Base", "Child")
        assert (Base.of_class("x"), Child.of_class("x")) == ("Base", "Child")
        assert (Base.static("x"), Child().static("x")) == ("x", "x")
    assert len(runs) == 5


def test_a_key_of_ones_own(make_manager):
    f = counted(make_manager(), key=lambda req, **_: req["id"])
    assert f({"id": 1, "noise": 5}) == f({"id": 1, "noise": 6})
    assert len(f.runs) == 1


def test_what_has_no_identity_runs_uncached_and_names_the_ways_out(make_manager):
    f = counted(make_manager())
    with pytest.warns(ExpPoolWarning, match="argument 'req'.*exclude=.*key=.*__exp_key__"):
        assert f(object()).startswith("a:<object")
    with pytest.raises(UnkeyableError, match="no stable identity"):
        f.key(object())


def test_an_experience_made_by_hand_answers_the_call_whatever_the_options(make_manager):
    for settings in ({}, {"key_secret": "s"}):
        manager = make_manager(**settings)
        f = counted(manager, exclude=["model"], version="2", name="f")
        g = counted(manager, key=lambda req, **_: req.lower(), name="g")
        method = methods(manager, self_key=("model",))("m").ask
        for decorated in (f, g, method):
            if decorated is g and settings:
                continue  # what key= gave cannot be given a secret afterwards
            manager.sync.create_exp(Experience.from_call(decorated, ("Q",), response="by hand"))
            assert decorated("Q") == "by hand"
        assert f("Q", model="other") == "by hand"


def test_plain_values_in_the_closure_belong_to_the_key(make_manager):
    manager = make_manager()

    def factory(n):
        @manager.exp_cache
        def f(req):
            return n

        return f

    assert [factory(1)("x"), factory(2)("x"), factory(1)("x")] == [1, 2, 1]
    assert manager.sync.get_exps_count() == 2


def test_an_answer_says_where_it_came_from(make_manager):
    f = counted(make_manager())
    first, second = f.call("x"), f.call("x")
    assert first == Answer("a:x", id=first.id)
    assert second == Answer("a:x", id=first.id, found_by="exact", similarity=1.0)
    assert f.lookup("y") is None
    assert f.invalidate("x") == 1
    assert f.lookup("x") is None


def test_what_is_recorded_comes_back_with_the_experience(make_manager):
    manager = make_manager()

    @manager.exp_cache(annotation={"team": "x"})
    def f(req):
        record(model="small", tokens_in=3, money_usd=0.5, step=Step(action="think"))
        record(
            model="large",
            strategy="s",
            tokens_in=4,
            money_usd=0.25,
            metadata={"k": 1},
            step=Step(action="act", reward=1.0),
        )
        return g(req)

    @manager.exp_cache
    def g(req):
        record(model="inner")
        return req

    f("x")
    inner, outer = manager.sync.iter_exps()
    assert (inner.model, inner.metric.tokens_in) == ("inner", None)
    assert (outer.model, outer.strategy, outer.metadata) == ("large", "s", {"team": "x", "k": 1})
    assert (outer.metric.tokens_in, outer.metric.money_usd, outer.metric.tokens_out) == (7, 0.75, None)
    assert outer.metric.time_s >= 0
    assert [step.action for step in outer.trajectory] == ["think", "act"]
    record(model="nobody listens")


def test_bypass_skips_reading_writing_or_both(make_manager):
    manager = make_manager()
    f = counted(manager)
    with bypass():
        f("x"), f("x")
    assert (len(f.runs), manager.sync.get_exps_count()) == (2, 0)
    with bypass(read=False):
        f("x")
    assert manager.sync.get_exps_count() == 0
    f("x")
    with bypass(write=False):
        f("x")
    assert (len(f.runs), manager.sync.get_exps_count()) == (5, 1)
    f("x")
    assert len(f.runs) == 5
    assert len(list(manager.sync.iter_exps(history=True))) == 2


def test_namespaces_of_calls(make_manager):
    manager = make_manager()
    f = counted(manager, namespace=lambda call: f"tenant-{call.arguments['model']}")
    f("x", "a"), f("x", "b")
    assert manager.sync.get_exps_count() == 0
    with in_namespace("tenant-a"):
        assert manager.sync.get_exps_count() == 1
        f("x", "a")
    assert len(f.runs) == 2


def test_ttl_in_its_forms_and_from_the_configuration(make_manager):
    from datetime import timedelta

    for manager, options, seconds in (
        (make_manager(), {"ttl": 90}, 90),
        (make_manager(), {"ttl": timedelta(minutes=2)}, 120),
        (make_manager(), {"ttl": "1h30m"}, 5400),
        (make_manager(), {"annotation": {"ttl": "2h"}}, 7200),
        (make_manager(default_ttl="1d"), {}, 86400),
        (make_manager(default_ttl="1d"), {"ttl": 5}, 5),
    ):
        counted(manager, **options)("x")
        (exp,) = manager.sync.iter_exps()
        assert (exp.expires_at - exp.created_at).total_seconds() == seconds


def test_an_expired_answer_is_replaced(make_manager, monkeypatch):
    from exp_pool.runtime import clock

    manager = make_manager()
    f = counted(manager, ttl=60)
    f("x")
    real = clock.time.time_ns
    monkeypatch.setattr(clock.time, "time_ns", lambda: real() + 61 * 10**9)
    f("x"), f("x")
    assert len(f.runs) == 2
    assert manager.sync.get_exps_count() == 1


def test_scores_decide_what_is_reused(make_manager):
    manager = make_manager()
    grades = iter([0.9, 0.1])

    def grade(context):
        assert (context.value, context.experience.response) == ("a:x", "a:x") or context.experience.request == "y"
        return Score(value=next(grades), reason="because")

    f = counted(manager, scorer=grade, min_score=0.5)
    f("x")
    f("x")
    assert len(f.runs) == 2, "unscored: not reused"
    manager.sync.flush()
    f("x")
    assert len(f.runs) == 2
    f("y")
    manager.sync.flush()
    f("y")
    assert len(f.runs) == 4
    exp = manager.sync.query_exps("x", query_type="exact")[0]
    assert exp.score == Score(value=0.9, reason="because", scorer="grade")
    assert manager.sync.get_exps_count({"score": {"gte": 0.5}}) == 1


def test_an_async_scorer_and_an_installed_one(make_manager):
    manager = make_manager()

    async def grade(context):
        await asyncio.sleep(0)
        return Score(value=0.4)

    f = counted(manager, scorer=grade)
    f("x")
    manager.sync.flush()
    assert next(iter(manager.sync.iter_exps())).score.value == 0.4
    g = counted(manager, scorer="exact", name="g")
    g("y")
    manager.sync.annotate(manager.sync.query_exps("y", query_type="exact")[0].id)
    manager.sync.flush()
    assert manager.sync.query_exps("y", query_type="exact")[0].scores["exact"].value == 1.0


def test_a_perfect_judge(make_manager):
    manager = make_manager()
    f = counted(manager, judge=PerfectJudge(min_score=0.8), name="f")
    manager.sync.create_exp(
        Experience(
            function="f", arguments={"req": "x", "model": "a"}, response="stored", scores={"s": Score(value=0.9)}
        )
    )
    manager.sync.create_exp(Experience(function="f", arguments={"req": "y", "model": "a"}, response="stored"))
    assert (f("x"), f("y")) == ("stored", "a:y")


def test_similar_experiences_are_shown_and_recorded(make_manager):
    manager = make_manager()
    shown = []

    @manager.exp_cache(inject=Inject("experiences", top_k=2, min_similarity=0.5))
    def act(req, experiences=None):
        shown.append([e.request for e in experiences])
        return req

    first = act.call("aaab")
    manager.sync.flush()
    second = act.call("aabb")
    manager.sync.flush()
    assert act.call("zzz").parents == ()
    assert act.call("aaab", experiences=["mine"]).found_by == "exact"
    assert shown == [[], ["aaab"], []]
    assert second.parents == (first.id,)
    assert manager.sync.get_exp(second.id).parents == [first.id]


def test_a_function_may_insist_on_experiences(make_manager):
    """The caller never passes them; without the pool the function gets none."""
    manager = make_manager()

    @manager.exp_cache(inject="experiences")
    def act(req, experiences):
        return [e.request for e in experiences]

    assert act("aaab") == []
    manager.sync.flush()
    assert act("aabb") == ["aaab"]
    assert act("abbb", [Experience(function="f", request="mine", response=1)]) == ["mine"]
    manager.enabled = False
    assert act("aaab") == []
    assert act.call("aaab").value == []


def test_many_threads_get_their_own_answers(make_manager):
    manager = make_manager(store="sqlite:///pool.db")
    f = counted(manager)
    wrong = []

    def work(n):
        for i in range(60):
            if f(f"{(i + n) % 20}") != f"a:{(i + n) % 20}":
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert wrong == []
    assert manager.stats().degraded == 0
    assert manager.sync.get_exps_count() == 20


def test_a_cancelled_caller_is_cancelled_and_stores_nothing(make_manager):
    manager = make_manager()
    started = []

    @manager.exp_cache
    async def slow(req):
        started.append(req)
        await asyncio.Event().wait()

    async def main():
        task = asyncio.ensure_future(slow("x"))
        while not started:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert manager.sync.get_exps_count() == 0


BAD = {
    "exclude names 'modle', which is no parameter of .*its parameters: req, model": {"exclude": ["modle"]},
    "exclude='model' must be a list": {"exclude": "model"},
    "redact names 'x'": {"redact": ["x"]},
    "request names 'prompt'": {"request": "prompt"},
    "request=3 must name": {"request": 3},
    "inject names 'experiences'": {"inject": "experiences"},
    "self_key=.*applies to methods": {"self_key": ("model",)},
    "key=5 must be a callable": {"key": 5},
    "judge='fuzzy' is no judge; use 'exact'": {"judge": "fuzzy"},
    "ttl='soon' is no duration; write for example '30s'": {"ttl": "soon"},
    "ttl=0 must be above zero": {"ttl": 0},
    "min_score=1.2 must be between 0 and 1": {"min_score": 1.2},
    "scorer='nobody' is not installed; installed: .*exact": {"scorer": "nobody"},
    "scorer=3 must be a callable": {"scorer": 3},
    "namespace='' must be text": {"namespace": ""},
    "context_builder=": {"context_builder": object()},
    "version=2 must be text": {"version": 2},
    "a function name must not be empty": {"name": ""},
    "is no ExpManager": {"manager": object()},
    "annotation=.*must be a dict that JSON can hold": {"annotation": {"x": object()}},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_options_are_named_when_they_are_given(message):
    def f(req, model="a"): ...

    with pytest.raises(ValueError, match=message):
        exp_cache(**BAD[message])(f)


def test_bad_values_of_judges_and_inject():
    for make in (
        functools.partial(ThresholdJudge, 1.5),
        functools.partial(ThresholdJudge, 0.5, candidates=0),
        functools.partial(PerfectJudge, -1),
        functools.partial(Inject, ""),
        functools.partial(Inject, "x", top_k=0),
        functools.partial(Inject, "x", min_similarity=2),
    ):
        with pytest.raises(ConfigurationError, match="must"):
            make()
    with pytest.raises(ConfigurationError, match="decorates functions"):
        exp_cache(int)


@pytest.mark.parametrize("how", ["a name of the text", "request=", "an annotation"])
def test_experiences_are_never_passed_in_the_place_of_the_question(make_manager, how):
    """That parameter does not count for the key, so every question would get the first one's answer."""
    manager = make_manager()

    def named(question, user="u"):
        return question

    def said(topic, experiences=()):
        return topic

    def annotated(q, other: str = ""):
        return q

    function, options = {
        "a name of the text": (named, {"inject": "question"}),
        "request=": (said, {"inject": "topic", "request": "topic"}),
        "an annotation": (annotated, {"inject": "other"}),
    }[how]
    with pytest.raises(ConfigurationError, match="names a parameter that holds part of the question"):
        manager.exp_cache(**options)(function)


def test_a_function_that_nobody_holds_any_more_is_freed_at_once(make_manager):
    """Without the garbage collector: requests that decorate closures would hold what these hold until it runs."""
    manager, alive = make_manager(), []
    gc.disable()
    try:
        for _ in range(3):
            ask = manager.exp_cache(name="ask")(lambda q: q)
            alive.append(weakref.ref(ask.original))
            del ask
        assert [ref() for ref in alive] == [None] * 3
    finally:
        gc.enable()
