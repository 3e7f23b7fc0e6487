"""What the function saw is what is stored as `parents`, always; and what must not be shown never is."""

import asyncio
import contextvars
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import letters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exp_pool import Experience, Inject, Refine, SimpleContextBuilder, Ttl, _clock, bypass, in_namespace
from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.protocols import Neighbour, Put, PutMode, RecordQuery
from exp_pool.reuse.context import ActionNodeContextBuilder, RoleZeroContextBuilder
from exp_pool.reuse.selection import Selective, selection_of
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
SAID = re.compile(r"\b(?:seed|made)-\d+")


class Agent:
    """A function of one kind; `seen` says for each answer that it made which answers it was shown."""

    def __init__(self, kind, manager, fails=lambda n: False, gate=None, **options):
        self.kind, self.manager, self.seen, self.fails, self.gate = kind, manager, {}, fails, gate
        self._chance = any(selection_of(o).holdout for o in options.values() if isinstance(o, Selective))
        self._lock = threading.Lock()
        self.decorate = manager.exp_cache(name="act", **options)
        self.act = getattr(self, kind.replace(" ", "_"))()

    def answer(self, q, experiences):
        said = sorted({*SAID.findall(q), *(SAID.search(str(e.value))[0] for e in experiences)})
        with self._lock:
            n = len(self.seen)
            self.seen[f"made-{n}"] = said
        if self.gate is not None:
            self.gate()
        if self.fails(n):
            raise ValueError(f"made-{n}")
        return f"made-{n}"

    def sync(self):
        @self.decorate
        def act(q, experiences=()):
            return self.answer(q, experiences)

        return act

    def async_(self):
        @self.decorate
        async def act(q, experiences=()):
            await asyncio.sleep(0)
            return self.answer(q, experiences)

        return act

    def generator(self):
        @self.decorate
        def act(q, experiences=()):
            yield self.answer(q, experiences)

        return act

    def async_generator(self):
        @self.decorate
        async def act(q, experiences=()):
            await asyncio.sleep(0)
            yield self.answer(q, experiences)

        return act

    def method(self):
        agent = self

        class Actor:
            @agent.decorate
            def act(self, q, experiences=()):
                return agent.answer(q, experiences)

        return Actor().act

    def classmethod(self):
        class Actor:
            @classmethod
            @self.decorate
            def act(cls, q, experiences=()):
                return self.answer(q, experiences)

        return Actor.act

    def staticmethod(self):
        class Actor:
            @self.decorate
            @staticmethod
            def act(q, experiences=()):
                return self.answer(q, experiences)

        return Actor.act

    async def acall(self, q, **given):
        if self.kind == "async generator":
            return [chunk async for chunk in self.act(q, **given)][0]
        return await self.act(q, **given)

    def call(self, q, **given):
        if self.kind.startswith("async"):
            return asyncio.run(self.acall(q, **given))
        return next(iter(list(self.act(q, **given)))) if self.kind == "generator" else self.act(q, **given)

    def check(self, rows, least=0):
        """Every row's parents are what its call saw; so many ids at least, where nothing is left to chance."""
        stored = list(self.manager.sync.iter_exps(history=True))
        said = {e.id: SAID.search(json.dumps(e.to_dict()["response"]))[0] for e in stored}
        made = [e for e in stored if said[e.id] in self.seen]
        for experience in made:
            assert sorted(said[id_] for id_ in experience.parents) == self.seen[said[experience.id]]
        assert len(made) == rows
        count = sum(len(experience.parents) for experience in made)
        assert count >= least or self._chance
        return count


Agent.async_.__name__ = "async"
setattr(Agent, "async", Agent.async_)


@pytest.fixture
def manager(make_manager, tmp_path):
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db")
    manager.sync.create_exps([seed(n) for n in range(8)])
    manager.sync.flush()
    return manager


def seed(n, **fields):
    given = {"function": "act", "arguments": {"q": f"q{'ab' * n}"}, "response": f"seed-{n}"}
    return Experience(**{**given, **fields})


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


# What is never shown

SHOWABLE = {"seed-0", "seed-1"}
STRANGERS = {
    "another function's": {"function": "other"},
    "another version's": {"version": "2"},
    "quarantined": {"trust": "quarantined"},
    "expired": {"expires_at": "2001-01-01T00:00:00Z"},
}
_choices = {
    "top_k": st.integers(1, 50),
    "min_similarity": st.sampled_from([-1.0, 0.0, 0.9]),
    "holdout": st.sampled_from([0.0, 0.5]),
    "diversity": st.sampled_from([0.0, 0.5, 1.0]),
    "failures": st.booleans(),
    "min_score": st.sampled_from([None, 0.0, 0.7]),
}


class FindsEverything:
    """An index that knows no scope: every row of the store is as near as can be."""

    derived = False

    def __init__(self, store):
        self.store = store

    def search(self, query):
        rows = self.store.scan(RecordQuery(None, history=True))
        return [[Neighbour(row.id, 1.0) for row in rows][: query.limit] for _ in query.vectors]

    def generation(self, space, pool):
        return "g"

    def upsert_many(self, space, rows): ...

    def delete_many(self, space, ids): ...

    def clear(self, namespace, pool): ...

    def close(self): ...


@pytest.fixture(params=["exact", "finds everything"])
def crowded(request, make_manager):
    """Three of everything that must not be shown, closer to what is asked than what may be."""
    store = MemoryStore()
    manager = make_manager(store=store, index="exact://" if request.param == "exact" else FindsEverything(store))
    rows, changes = [seed(0, scores={"s": {"value": 0.9}}), seed(1)], []
    for of, fields in enumerate(STRANGERS.values(), 1):
        later = {name: value for name, value in fields.items() if name in ("trust", "expires_at")}
        made = [seed(10 * of + n, arguments={"q": f"abb{of}{n}"}, **(fields if not later else {})) for n in range(3)]
        changes += [(experience.id, later) for experience in made if later]
        rows += made
    rows += [seed(90, arguments={"q": "abb90"}, kind="failure", response={"error": "E", "message": "seed-90"})]
    manager.sync.create_exps(rows)
    with in_namespace("another"):
        manager.sync.create_exps([seed(60 + n, arguments={"q": f"abb{n}"}) for n in range(3)])
        manager.sync.flush()
    manager.sync.flush()
    for id_, later in changes:  # they have their vectors: what is quarantined from the first is not embedded
        manager.sync.update_exp(id_, **later)
    return manager


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({}, optional=_choices), st.booleans(), st.text("ab", max_size=4))
def test_strangers_are_never_shown(crowded, options, by_builder, text):
    failures, least = options.get("failures", False), options.get("min_score")
    if by_builder:
        given_options = {"limit" if name == "top_k" else name: value for name, value in options.items()}
        agent = Agent("sync", crowded, context_builder=SimpleContextBuilder(**given_options))
    else:
        agent = Agent("sync", crowded, inject=Inject("experiences", **options))
    with bypass(read=False):  # nothing is stored, so the next example finds the same
        agent.act(f"abb{text}!")
    seen = set(agent.seen["made-0"])
    allowed = ({"seed-0"} if least is not None else SHOWABLE) | ({"seed-90"} if failures else set())
    assert seen <= allowed
    if not options.get("holdout") and options.get("top_k", 5) >= len(allowed) and options.get("min_similarity", 0) <= 0:
        assert seen == allowed


@pytest.mark.parametrize("index", ["exact://", FindsEverything], ids=["exact", "finds everything"])
def test_of_another_embedder_nothing_is_shown(make_manager, index):
    store = MemoryStore()
    first = make_manager(store=store)
    first.sync.create_exps([seed(n) for n in range(4)])
    first.sync.flush()

    def backwards(texts):
        return letters(texts)[:, ::-1]

    second = make_manager(store=store, embedder=backwards, index=index if isinstance(index, str) else index(store))
    second.sync._upkeep.stop(0)  # it would embed them anew, which is not the point here
    agent = Agent("sync", second, inject=Inject("experiences", min_similarity=-1))
    agent.call("abb")
    assert agent.seen == {"made-0": []}


# Failures and insights


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


# Trust is inherited


def quarantine(manager, id_):
    manager.sync.update_exp(id_, trust="quarantined")


def test_what_is_made_from_a_quarantined_experience_is_quarantined(manager):
    """It was trusted when it was shown, and no longer when the answer was stored."""
    (poisoned,) = (e for e in manager.sync.iter_exps() if e.response == "seed-3")
    agent = Agent("sync", manager, gate=lambda: quarantine(manager, poisoned.id), inject=Inject("experiences", top_k=8))
    agent.call("abab")
    agent.call("baba")
    first, second = (e for e in manager.sync.iter_exps() if e.response.startswith("made"))
    assert poisoned.id in first.parents
    assert first.trust == "quarantined"
    assert poisoned.id not in second.parents
    assert second.trust == "trusted"
    assert first.id not in second.parents
    assert agent.act.lookup("abab") is None


def test_what_is_stored_by_hand_is_trusted_no_more_than_its_parents(make_manager):
    manager = make_manager()
    pool = manager.sync
    bad, good = pool.create_exps([seed(0, trust="quarantined"), seed(1)])
    of_both = pool.create_exp(seed(2, parents=[good, bad]))
    of_good = pool.create_exp(seed(3, parents=[good, "gone"]))
    chain = [seed(4, id="c", parents=["b"]), seed(5, id="b", parents=["a"]), seed(6, id="a", trust="quarantined")]
    pool.create_exps(chain)
    trust = {id_: pool.get_exp(id_).trust.value for id_ in (bad, good, of_both, of_good, "a", "b", "c")}
    assert trust == dict.fromkeys((bad, of_both, "a", "b", "c"), "quarantined") | dict.fromkeys(
        (good, of_good), "trusted"
    )
    assert pool.update_exp(of_good, parents=[bad]).parents == [bad]
    assert pool.get_exp(of_good).trust == "quarantined"
    with in_namespace("another"):  # where these parents are nobody
        assert pool.get_exp(pool.create_exp(seed(7, parents=[bad]))).trust == "trusted"


def test_neither_a_score_nor_an_annotation_gives_trust_back(make_manager):
    from exp_pool import Score

    manager = make_manager()
    pool = manager.sync
    bad = pool.create_exp(seed(0, trust="quarantined"))

    @manager.exp_cache(name="act", scorer=lambda context: Score(value=1.0))
    def act(q):
        return q

    act("x")
    made = pool.create_exp(seed(1, parents=[bad]))
    (row,) = pool.store.get_many("default", [made], by="id")
    row.score_due = row.created_at
    pool.store.put_many([Put(row, PutMode.UPDATE, expected_revision=row.revision)])
    pool.flush()
    assert pool.get_exp(made).score.value == 1.0
    pool.annotate(made, expected="better")
    pool.update_exp(made, scores={"s": Score(value=1)}, metadata={"checked": True})
    assert pool.get_exp(made).trust == "quarantined"
    assert pool.update_exp(made, trust="trusted").trust == "trusted", "a person may"
