"""What can be asked of a decorated function and of the manager: explain, refresh, prefill, info, replay, savings."""

import asyncio
import inspect

import pytest

from exp_pool import ThresholdJudge, bypass, record
from exp_pool.errors import ExpPoolWarning, ReplayMissError

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return make_manager(store=store, **PLAIN)


class Both:
    """A decorated function and what is asked of it, sync or async, as plain calls."""

    def __init__(self, manager, of_async, function, **options):
        self.of_async = of_async
        if of_async:

            async def twin(q, model="small"):
                return function(q, model)

            self.cached = manager.exp_cache(name="ask", **options)(twin)
        else:
            self.cached = manager.exp_cache(name="ask", **options)(function)

    def __call__(self, *args, **kwargs):
        return self.settle(self.cached(*args, **kwargs))

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.settle(getattr(self.cached, name)(*args, **kwargs))

    def settle(self, result):
        async def main():
            return await result

        return asyncio.run(main()) if inspect.isawaitable(result) else result


@pytest.fixture(params=["sync", "async"])
def ask(request, manager):
    runs = []

    def answer(q, model="small"):
        runs.append(q)
        if q == "bad":
            raise ValueError("boom")
        return f"{model}: {q} {len(runs)}"

    both = Both(manager, request.param == "async", answer)
    both.runs = runs
    return both


def test_explain_names_the_argument_in_which_the_call_differs(ask):
    assert ask.explain("hi") == "ask: nothing is stored for it in namespace 'default'"
    ask("hi")
    ask("hello there", model="large")
    assert ask.explain("hello", model="large") == (
        'ask: the nearest stored call differs in q: "hello" here, "hello there" there'
    )
    assert 'model: "tiny" here, "small" there' in ask.explain("hi", model="tiny")
    assert "this call is stored and answers" in ask.explain("hi")
    assert "1 here" in ask.explain(1)
    assert ask.explain() == "this call runs uncached: missing a required argument: 'q'"
    assert "no stable identity" in ask.explain(object())


def test_explain_embeds_what_was_stored_a_moment_ago(make_manager):
    manager = make_manager()

    @manager.exp_cache(judge=ThresholdJudge(0.5))
    def answer(req):
        return req

    answer("the first")
    manager.sync.flush()  # from now on what calls store is embedded by the worker, later
    answer("zzz zzz")
    assert "similarity 1.000" in answer.explain("zzz zzzz") or "lets" in answer.explain("zzz zzzz")


def test_long_values_are_shortened_around_the_difference(ask):
    ask("x" * 500 + "A" + "y" * 500)
    explained = ask.explain("x" * 500 + "B" + "y" * 500)
    assert "xB" in explained
    assert "xA" in explained
    assert len(explained) < 300


def test_explain_knows_versions_expiry_and_quarantine(manager):
    old = manager.exp_cache(name="f", version="1")(lambda q: 1)
    old("q")
    new = manager.exp_cache(name="f", version="2")(lambda q: 2)
    assert "the nearest stored call is of version '1', this one of '2'" in new.explain("q")
    stored = next(manager.sync.iter_exps())
    manager.sync.update_exp(stored.id, trust="quarantined")
    assert "quarantined" in old.explain("q")


def test_secrets_are_not_in_explanations(manager):
    @manager.exp_cache(name="f")
    def f(q, api_key):
        return 1

    f("q", api_key="abc")
    assert "differ in what is not shown" in f.explain("q", api_key="xyz")
    assert "xyz" not in f.explain("other", api_key="xyz")


def test_refresh_runs_and_replaces_but_not_what_people_annotated(ask, manager):
    assert ask("q") == "small: q 1"
    answer = ask.refresh("q")
    assert (answer.value, answer.found_by) == ("small: q 2", None)
    assert ask("q") == "small: q 2"
    manager.sync.annotate(ask.lookup("q").experience.id, expected="right")
    assert ask.refresh("q").value == "small: q 3"
    assert ask("q") == "right"


def test_prefill_runs_what_is_missing(ask, manager):
    ask("a")
    assert ask.prefill(["a", ("b",), {"q": "c", "model": "large"}, "b"]) == 2
    assert ask.runs == ["a", "b", "c"]
    with pytest.raises(ExceptionGroup, match="1 calls of ask failed; 1 ran") as failed:
        ask.prefill(["bad", "d"])
    assert [type(err) for err in failed.value.exceptions] == [ValueError]


def test_prefill_shows_a_bar_to_those_who_watch(manager, monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ask = manager.exp_cache(name="watched")(lambda q: q)
    assert ask.prefill(range(12)) == 12
    assert "watched" in capsys.readouterr().err


def test_cache_info_and_clear(ask, manager):
    manager.exp_cache(name="other")(lambda q: q)("q")
    ask("a"), ask("a"), ask("b")
    info = ask.cache_info()
    assert (info.hits, info.misses, info.coalesced, info.currsize) == (1, 2, 0, 2)
    ask.refresh("a")
    assert ask.cache_clear() == 3, "history too"
    assert ask.cache_info().currsize == 0
    assert manager.sync.get_exps_count() == 1


def test_what_hits_saved_is_summed(manager):
    @manager.exp_cache
    def ask(q):
        record(tokens_in=10, tokens_out=5, money_usd=0.25)
        return q

    ask("a"), ask("a"), ask("a"), ask("b")
    stats = manager.stats()
    assert (stats.saved_calls, stats.saved_tokens_in, stats.saved_tokens_out) == (2, 20, 10)
    assert stats.saved_money_usd == 0.5
    assert stats.saved_time_s > 0


def test_in_replay_a_miss_is_an_error_and_nothing_runs(ask, manager):
    ask("a")
    manager.replay = True
    assert ask("a") == "small: a 1"
    with pytest.raises(ReplayMissError, match='q: "b" here, "a" there. Replay is on, so it does not run'):
        ask("b")
    with pytest.raises(ReplayMissError, match="ask is uncached"):
        with pytest.warns(ExpPoolWarning):
            ask(object())
    assert ask.runs == ["a"]
    with bypass():
        assert ask("b") == "small: b 2"
    manager.replay = False
    assert ask("b") == "small: b 3"


@pytest.mark.parametrize("kind", ["generator", "async generator", "batch"])
def test_replay_holds_for_every_kind(manager, kind):
    def generator(q):
        yield q

    async def agenerator(q):
        yield q

    function, options = {
        "generator": (generator, {}),
        "async generator": (agenerator, {}),
        "batch": (lambda q: list(q), {"batch": "q"}),
    }[kind]
    cached = manager.exp_cache(name="f", **options)(function)

    async def read(q):
        return [chunk async for chunk in cached([q])]

    def call(q):
        return asyncio.run(read(q)) if kind == "async generator" else list(cached([q]))

    call(1)
    manager.replay = True
    assert len(call(1)) == 1
    with pytest.raises(ReplayMissError):
        call(2)
