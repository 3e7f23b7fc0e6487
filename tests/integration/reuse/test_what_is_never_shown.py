"""Other tenants', other functions', quarantined, expired: what must not be shown never is; trust is inherited."""

import pytest
from conftest import letters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.agents import Agent, seed

from exp_pool import Inject, SimpleContextBuilder, bypass, in_namespace
from exp_pool.protocols import Neighbour, Put, PutMode, RecordQuery
from exp_pool.stores.memory import MemoryStore


@pytest.fixture
def manager(make_manager, tmp_path):
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db")
    manager.sync.create_exps([seed(n) for n in range(8)])
    manager.sync.flush()
    return manager


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
    second.sync._worker.stop(0)  # it would embed them anew, which is not the point here
    agent = Agent("sync", second, inject=Inject("experiences", min_similarity=-1))
    agent.call("abb")
    assert agent.seen == {"made-0": []}


# Failures and insights


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
