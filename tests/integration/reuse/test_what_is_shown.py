"""What the function saw is what is stored as `parents`, always."""

import asyncio
import contextvars
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.agents import SAID, Agent, seed

from exp_pool import Inject, Refine, SimpleContextBuilder, Ttl, bypass
from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.reuse.context import ActionNodeContextBuilder, RoleZeroContextBuilder
from exp_pool.runtime import clock as _clock
from exp_pool.stores.memory import MemoryStore

KINDS = ["sync", "async", "generator", "async generator", "method", "classmethod", "staticmethod"]
OPTIONS = {
    "inject": lambda: {"inject": Inject("experiences", top_k=3)},
    "inject, some left out": lambda: {"inject": Inject("experiences", top_k=4, holdout=0.4, diversity=0.3)},
    "builder": lambda: {"context_builder": SimpleContextBuilder(limit=3)},
    "builder before": lambda: {"context_builder": ActionNodeContextBuilder(limit=3, failures=True)},
    "builder at mask": lambda: {"context_builder": RoleZeroContextBuilder(limit=3, mask="#")},
    "builder, little room": lambda: {"context_builder": SimpleContextBuilder(limit=5, max_tokens=90, holdout=0.4)},
    "both": lambda: {
        "inject": Inject("experiences", top_k=4),
        "context_builder": SimpleContextBuilder(limit=2),
    },
}


@pytest.fixture
def manager(make_manager, tmp_path):
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db")
    manager.sync.create_exps([seed(n) for n in range(8)])
    manager.sync.flush()
    return manager


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=OPTIONS)
def options(request):
    return OPTIONS[request.param]()


def test_one_after_the_other(kind, options, manager):
    agent = Agent(kind, manager, **options)
    for n in range(6):
        agent.call(f"abb#{'b' * n}")
        manager.sync.flush()
    agent.check(rows=6, least=6)


def test_in_threads(kind, options, manager):
    agent = Agent(kind, manager, **options)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: agent.call(f"abb#{'b' * n}"), range(24)))
    agent.check(rows=24, least=24)


@pytest.mark.parametrize("kind", ["async", "async generator"])
def test_in_tasks(kind, options, manager):
    agent = Agent(kind, manager, **options)

    async def main():
        await asyncio.gather(*(agent.acall(f"abb#{'b' * n}") for n in range(24)))

    asyncio.run(main())
    agent.check(rows=24, least=24)


def test_in_another_context(options, manager):
    agent = Agent("sync", manager, **options)
    for n in range(4):
        contextvars.Context().run(agent.call, f"abb#{'b' * n}")
    agent.check(rows=4, least=4)


def test_failures_and_retries(kind, options, manager):
    """Each attempt is a call of its own; of the failures of one call the last is current, all are stored."""
    agent = Agent(kind, manager, fails=lambda n: n % 3 != 2, record_failures=True, **options)
    for n in range(3):
        for _ in range(2):
            with pytest.raises(ValueError, match="made-"):
                agent.call(f"abb#{'b' * n}")
            manager.sync.flush()
        agent.call(f"abb#{'b' * n}")
    agent.check(rows=9, least=9)
    assert manager.sync.get_exps_count({"kind": "failure"}) == 3


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_both_the_quick_and_the_better_answer(kind, options, manager):
    quick_done = threading.Event()
    better = Agent(kind, manager, gate=lambda: quick_done.wait(30))

    def refine(q, experiences=()):
        return better.answer(q, experiences).replace("made", "made-9")

    async def arefine(q, experiences=()):
        await asyncio.to_thread(quick_done.wait, 30)
        return better.answer(q, experiences).replace("made", "made-9")

    agent = Agent(kind, manager, refine=Refine(arefine if kind == "async" else refine), **options)

    async def main():
        await agent.acall("abb#")
        quick_done.set()
        await asyncio.to_thread(manager.sync.flush)

    if kind == "async":
        asyncio.run(main())
    else:
        agent.call("abb#")
        quick_done.set()
        manager.sync.flush()
    by_origin = {e.origin: e for e in manager.sync.iter_exps(history=True) if e.origin != "manual"}
    assert by_origin["refined"].parents == by_origin["automatic"].parents
    assert agent.seen["made-0"] == better.seen["made-0"]
    agent.check(rows=1, least=1)


def test_renewed_while_others_have_the_stale_answer(kind, options, manager, monkeypatch):
    agent = Agent(kind, manager, ttl=Ttl(60, stale=30), **options)
    agent.call("abb#")
    manager.sync.flush()
    real = _clock.time.time_ns
    clock = type("Clock", (), {"time_ns": lambda: real() + 61 * 10**9, "monotonic": _clock.time.monotonic})
    monkeypatch.setattr(_clock, "time", clock)
    agent.call("abb#")
    agent.check(rows=2, least=2)


@pytest.mark.parametrize("kind", ["sync", "async", "method", "classmethod", "staticmethod"])
def test_those_who_share_an_answer_share_its_parents(kind, options, manager):
    everybody = threading.Barrier(6, timeout=30)
    agent = Agent(kind, manager, **options)

    def call(_):
        everybody.wait()
        return asyncio.run(agent.act.call("abb#")) if kind == "async" else agent.act.call("abb#")

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(call, range(6)))
    agent.check(rows=1, least=1)
    (stored,) = (e for e in manager.sync.iter_exps() if e.response == "made-0")
    for answer in answers:
        assert (answer.value, answer.id) == ("made-0", stored.id)
        if answer.found_by in (None, "coalesced"):
            assert list(answer.parents) == stored.parents


@pytest.mark.parametrize("name", ["inject", "inject, some left out", "both"])
def test_a_caller_who_brings_experiences_is_shown_nothing_else(kind, name, manager):
    agent = Agent(kind, manager, **OPTIONS[name]())
    agent.call("abb", experiences=[seed(77)])
    assert agent.seen == {"made-0": ["seed-77"]}
    (stored,) = (e for e in manager.sync.iter_exps() if "made-0" in str(e.response))
    assert stored.parents == []
    assert "exp_pool" not in stored.metadata


def test_nothing_is_shown_where_the_pool_is_not_read(kind, options, manager):
    agent = Agent(kind, manager, **options)
    with bypass(write=False):
        agent.call("abb#")
    assert agent.seen == {"made-0": []}
    assert agent.check(rows=1) == 0


def test_a_builder_without_a_place_shows_nothing(manager):
    agent = Agent("sync", manager, context_builder=RoleZeroContextBuilder(mask="#", holdout=0.9))
    assert agent.call("no mask") == "made-0"
    assert agent.check(rows=1) == 0
    (stored,) = (e for e in manager.sync.iter_exps() if e.response == "made-0")
    assert "exp_pool" not in stored.metadata, "nothing was left out by chance"


def test_a_builder_writes_into_the_prompt_though_another_text_is_searched_by(manager):
    """`request=` puts a text together; the prompt is where it would be by default."""
    seen = []

    @manager.exp_cache(
        name="act", request=lambda prompt, state: f"abb {state}", context_builder=SimpleContextBuilder(limit=2)
    )
    def act(prompt, state):
        seen.append(prompt)
        return state

    answer = act.call("sk-abcdefghijklmnopqrstuvwx is my key", "b")
    assert seen[0].startswith("sk-abcdefghijklmnopqrstuvwx is my key\n\n"), "the function gets what it was called with"
    assert len(SAID.findall(seen[0])) == len(answer.parents) == 2
    seen.clear()

    @manager.exp_cache(name="act", context_builder=SimpleContextBuilder(limit=2))
    def only_string(question_of_mine):
        seen.append(question_of_mine)

    assert len(only_string.call("ab sk-abcdefghijklmnopqrstuvwx").parents) == len(SAID.findall(seen[0])) == 2
    assert seen[0].startswith("ab sk-abcdefghijklmnopqrstuvwx\n\n")

    @manager.exp_cache(name="act", context_builder=SimpleContextBuilder(limit=2))
    def open_ended(**kwargs):
        seen.append(kwargs["prompt"])

    assert len(open_ended.call(prompt="ab").parents) == len(SAID.findall(seen[1])) == 2

    builder = {"name": "act", "context_builder": SimpleContextBuilder(limit=2)}
    nowhere = {
        "no text": manager.exp_cache(**builder)(lambda n, k=3: seen.append((n, k))),
        "text, but no prompt": manager.exp_cache(**builder, request=lambda n, k: "abb")(
            lambda n, k: seen.append((n, k))
        ),
        "left out of the call": manager.exp_cache(**builder, exclude=["k"])(lambda n, k: seen.append((n, k))),
    }
    for act in nowhere.values():
        assert act.call(3, "en").parents == () if act is not nowhere["no text"] else act.call(3).parents == ()
    assert seen[2:] == [(3, 3), (3, "en"), (3, "en")]


@pytest.mark.parametrize("built", [None, 3, b"x", ["a"]], ids=str)
def test_a_builder_that_lies_changes_nothing(built, manager):
    class Lies:
        limit = 2

        def build(self, request, experiences):
            return built

    agent = Agent("sync", manager, context_builder=Lies())
    agent.call("abb")
    assert agent.seen == {"made-0": []}
    assert agent.check(rows=1) == 0
    assert manager.stats().degraded == 1


# Left out at random


def test_what_was_left_out_is_stored_with_the_answer(make_manager):
    manager = make_manager()
    manager.sync.create_exps([seed(n, id=str(n)) for n in range(3)])
    manager.sync.flush()
    shown = []

    @manager.exp_cache(
        name="act", inject=Inject("experiences", top_k=50, holdout=0.5), annotation={"team": "x"}, record_failures=True
    )
    def act(q, experiences=()):
        shown.append([e.id for e in experiences])
        if q == "fail":
            raise ValueError(q)
        return q

    for n in range(60):
        act(f"ab{n}")
    with pytest.raises(ValueError, match="fail"):
        act("fail")
    made = [e for e in manager.sync.iter_exps() if e.origin == "automatic"]
    assert len(made) == 61
    for experience, saw in zip(made, shown, strict=True):
        note = experience.metadata["exp_pool"]
        assert experience.metadata["team"] == "x"
        assert note["holdout"] == 0.5
        assert experience.parents == saw
        assert set(saw).isdisjoint(note["left_out"])
        assert {"0", "1", "2"} <= {*saw, *note["left_out"]}
    assert len({len({"0", "1", "2"} & set(saw)) for saw in shown}) > 2, "by chance: three in 10**8 runs see no third"


def test_without_holdout_there_is_no_note_and_with_it_always(make_manager):
    manager = make_manager()

    @manager.exp_cache(inject=Inject("experiences", holdout=0.2))
    def tried(q, experiences=()):
        return q

    @manager.exp_cache(inject="experiences")
    def plain(q, experiences=()):
        return q

    assert manager.sync.get_exp(tried.call("a").id).metadata == {"exp_pool": {"holdout": 0.2, "left_out": []}}
    assert manager.sync.get_exp(plain.call("a").id).metadata == {}


def test_the_entry_is_the_pools_own(make_manager):
    from exp_pool import record

    manager = make_manager()
    with pytest.raises(ConfigurationError, match="the entry 'exp_pool' is the pool's own"):
        manager.exp_cache(annotation={"exp_pool": 1})(lambda q: q)
    with pytest.raises(InvalidInputError, match="the entry 'exp_pool' is the pool's own"):
        record(metadata={"exp_pool": {"holdout": 0.5}})


def test_failures_are_shown_to_those_who_ask_for_them(make_manager):
    manager = make_manager()
    shown = []

    def body(q, experiences=()):
        shown.append([(e.kind.value, e.value) for e in experiences])
        if q == "ab":
            raise ValueError("no such thing")
        return q

    with pytest.raises(ValueError, match="no such thing"):
        manager.exp_cache(name="act", inject="experiences", record_failures=True)(body)("ab")
    manager.sync.flush()
    manager.exp_cache(name="act", inject="experiences")(body)("abb")
    manager.sync.flush()
    asked = manager.exp_cache(name="act", inject=Inject("experiences", failures=True, min_score=0.5))(body)
    answer = asked.call("abbb")
    assert shown[1] == [], "a function that takes them for examples does not get them"
    assert shown[2] == [("failure", {"error": "ValueError", "message": "no such thing"})]
    assert [manager.sync.get_exp(id_).kind for id_ in answer.parents] == ["failure"]


@pytest.mark.parametrize(("failures", "found"), [(100, ["seed-0"]), (1500, [])])
def test_a_crowd_of_failures_hides_no_answer_for_long_and_holds_up_no_call(make_manager, failures, found):
    """What is behind so many is not worth the wait: the call goes on without it."""
    read = []

    class Counting(MemoryStore):
        def get_many(self, namespace, keys, **how):
            read.append(len(keys))
            return super().get_many(namespace, keys, **how)

    manager = make_manager(store=Counting())
    crowd = [seed(0, key=str(n), kind="failure", response="x", arguments={"q": f"abb{n}"}) for n in range(failures)]
    manager.sync.create_exps([*crowd, seed(0, arguments={"q": "z" * 9})])
    manager.sync.flush()
    agent = Agent("sync", manager, inject="experiences")
    read.clear()
    agent.call("abb")
    assert agent.seen == {"made-0": found}
    assert sum(read) < 2000


def test_failures_are_written_as_warnings_and_share_the_limit(make_manager):
    manager = make_manager()
    fails = [seed(n, kind="failure", response={"error": "E", "message": f"seed-{n}"}) for n in (1, 2, 3)]
    manager.sync.create_exps([*fails, seed(0), seed(4)])
    manager.sync.flush()
    seen = []

    @manager.exp_cache(name="act", context_builder=SimpleContextBuilder(limit=3, failures=True, min_score=None))
    def act(q):
        seen.append(q)

    assert len(act.call("qabab").parents) == 3
    answers, failures = seen[0].split("<failures>")
    assert len(SAID.findall(answers)) + len(SAID.findall(failures)) == 3
    assert len(re.findall(r"Failed with: E: seed-", failures)) == 3 - len(SAID.findall(answers)) > 0


def test_an_insight_is_shown_and_is_a_parent(make_manager):
    manager = make_manager()
    manager.sync.create_exps([seed(0, id="a"), seed(1, id="b", kind="insight", parents=["a"])])
    manager.sync.flush()
    seen = []

    @manager.exp_cache(name="act", context_builder=SimpleContextBuilder())
    def act(q):
        seen.append(q)

    assert sorted(act.call("qab").parents) == ["a", "b"]
    assert "Insight: seed-1\n   Drawn from: a" in seen[0]


def test_recorded_steps_come_back_and_are_shown_as_a_plan(make_manager):
    from exp_pool import Step, record

    manager = make_manager()
    seen = []

    @manager.exp_cache(context_builder=SimpleContextBuilder(plan=True))
    def act(q):
        seen.append(q)
        record(step=Step(plan="find it", action="search(q)", observation="3 hits", reward=0.5))
        record(step=Step(action="answer"))
        return q

    first = act.call("ab")
    manager.sync.flush()
    act("abb")
    assert [step.action for step in manager.sync.get_exp(first.id).trajectory] == ["search(q)", "answer"]
    assert "Step 1. Plan: find it; Action: search(q); Observation: 3 hits; Reward: 0.5\n     Step 2." in seen[1]
