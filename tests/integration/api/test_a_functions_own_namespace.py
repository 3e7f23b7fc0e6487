"""Guarantee 9: what is asked of a function holds in its own namespace, and nowhere else."""

import pytest

from exp_pool import Experience, in_namespace


@pytest.fixture
def manager(make_manager):
    return make_manager()


@pytest.fixture(params=["by name", "by a callable", "by a callable of what is excluded"])
def asked(request, manager):
    """A function of the tenant acme, and how it is called."""
    if request.param == "by name":

        @manager.exp_cache(namespace="acme")
        def ask_1(q, tenant="acme"):
            return f"answer to {q}"

        return ask_1

    if request.param == "by a callable":

        @manager.exp_cache(namespace=lambda call: call.arguments["tenant"])
        def ask_2(q, tenant="acme"):
            return f"answer to {q}"

        return ask_2

    @manager.exp_cache(namespace=lambda call: call.arguments["tenant"], exclude=["tenant"])
    def ask_3(q, tenant="acme"):
        return f"answer to {q}"

    return ask_3


def test_clearing_and_counting(manager, asked):
    asked("a")
    asked("b")
    assert asked.cache_info().currsize == 2
    assert asked.cache_clear() == 2
    assert asked.cache_info().currsize == 0
    assert asked.lookup("a") is None


def test_clearing_inside_of_a_block_is_about_that_namespace(manager, asked):
    asked("a")
    with in_namespace("another"):
        asked("a")
        assert asked.cache_info().currsize == 1
        assert asked.cache_clear() == 1
    assert asked.lookup("a") is not None


def test_clearing_by_key(manager, asked):
    asked("a")
    asked("b")
    assert manager.sync.clear_by_key(asked.key("a")) == 1
    assert asked.lookup("a") is None
    assert asked.lookup("b") is not None
    assert manager.sync.clear_by_key(str(asked.key("b"))) == 0  # plain text knows of no namespace


def test_answers_added_by_hand_answer_and_are_seen_by_nobody_else(manager, asked):
    manager.sync.create_exp(Experience.from_call(asked, ["a"], response="by hand"))
    assert asked("a") == "by hand"
    assert manager.sync.query_exps("a") == []
    with in_namespace("acme"):
        assert [e.response for e in manager.sync.query_exps("a")] == ["by hand"]


def test_adopting(manager, asked):
    asked("a")
    pool = manager.sync
    with in_namespace("acme"):
        (stored,) = pool.query_exps("a")
    function, source = stored.function, "1:another source"
    (row,) = pool.store.get_many("acme", [stored.id], by="id")
    assert row.source.startswith("1:")
    assert pool.functions.adopt(function, source, pool.functions.namespaces_of(function, "acme")) == 1
    assert asked.lookup("a") is None
    assert asked.adopt() == 1
    assert asked.lookup("a") is not None


def test_answers_added_by_hand_live_as_long_as_the_functions_own_and_say_the_same(manager):
    @manager.exp_cache(ttl="1h", annotation={"team": "x"})
    def ask(q):
        return q

    @manager.exp_cache(ttl=lambda value: "1d" if value == "long" else None)
    def other(q):
        return q

    made = Experience.from_call(ask, ["a"], response="by hand")
    assert (made.expires_at - made.created_at).total_seconds() == pytest.approx(3600, abs=5)
    assert made.metadata == {"team": "x"}
    assert Experience.from_call(other, ["a"], response="short").expires_at is None
    lasting = Experience.from_call(other, ["a"], response="long")
    assert (lasting.expires_at - lasting.created_at).total_seconds() == pytest.approx(86400, abs=5)
