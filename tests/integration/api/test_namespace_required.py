"""Guarantee 9: where a namespace is required nothing falls back to another, and the caller is told."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.tenants import namespaces_of, plain

from exp_pool import (
    Answer,
    Experience,
    carry,
    exp_cache,
    in_namespace,
)
from exp_pool.errors import ExpPoolError, ExpPoolWarning, NamespaceError

# ── A namespace is required ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def strict():
    with plain(require_namespace=True) as manager:
        yield manager


def test_a_call_without_a_namespace_runs_uncached_and_says_so_once(strict):
    runs = []

    @strict.exp_cache(name="asking")
    def ask(question: str) -> str:
        runs.append(question)
        return question

    with pytest.warns(ExpPoolWarning) as warned:
        for _ in range(3):
            assert ask("hi") == "hi"
        with ThreadPoolExecutor(1) as threads, in_namespace("acme"):
            threads.submit(ask, "hi").result()
    assert len(warned) == 1
    for part in ("asking", "in_namespace", "namespace=", "carry"):
        assert part in str(warned[0].message)
    assert len(runs) == 4
    assert strict.stats().uncached == 4
    assert "no namespace" in ask.explain("hi")
    assert namespaces_of(strict) == {}


def test_a_call_with_a_namespace_is_cached_as_ever(strict):
    runs = []

    @strict.exp_cache
    def ask(question: str) -> str:
        runs.append(question)
        return question

    @strict.exp_cache(namespace="fixed")
    def fixed(question: str) -> str:
        return question

    @strict.exp_cache(namespace=lambda call: call.arguments["tenant"])
    def asked(question: str, tenant: str) -> str:
        return question

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with in_namespace("acme"):
            assert ask("hi") == ask("hi")
        with carry(ThreadPoolExecutor(1)) as threads, in_namespace("acme"):
            threads.submit(ask, "hi").result()
        fixed("hi")
        asked("hi", "bolt")
    assert runs == ["hi"]
    assert namespaces_of(strict) == {"acme": ["hi"], "bolt": ["hi"], "fixed": ["hi"]}


QUERIES = {
    "search": lambda pool: pool.search("hi", query_type="exact"),
    "query_exps": lambda pool: pool.query_exps("hi", query_type="exact"),
    "get_exps_count": lambda pool: pool.get_exps_count(),
    "iter_exps": lambda pool: list(pool.iter_exps()),
    "create_exp": lambda pool: pool.create_exp(Experience(function="f", request="hi", response="yes")),
    "get_exp": lambda pool: pool.get_exp("id"),
    "update_exp": lambda pool: pool.update_exp("id", model="m"),
    "annotate": lambda pool: pool.annotate("id", expected="no"),
    "feedback": lambda pool: pool.feedback("id", 1.0),
    "history": lambda pool: pool.history("id"),
    "delete_exp": lambda pool: pool.delete_exp("id"),
    "delete_exps": lambda pool: pool.delete_exps({"function": "f"}),
    "delete_all_exps": lambda pool: pool.delete_all_exps(),
    "erase": lambda pool: pool.erase({"function": "f"}),
    "clear_expired": lambda pool: pool.clear_expired(),
    "clear_by_key": lambda pool: pool.clear_by_key("key"),
    "report": lambda pool: pool.report(),
    "why_unscored": lambda pool: pool.why_unscored("id"),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_what_is_asked_for_no_namespace_is_an_error_that_says_what_to_do(strict, query):
    with pytest.raises(NamespaceError, match=r"in_namespace.*namespace="):
        query(strict.sync)
    with in_namespace("acme"):
        try:
            query(strict.sync)
        except NamespaceError:
            pytest.fail("one is named here")
        except ExpPoolError:
            pass  # there is no such experience


def test_a_query_or_an_experience_may_name_it_itself(strict):
    made = strict.sync.create_exp(Experience(function="f", request="hi", response="yes", namespace="acme"))
    assert [found.id for found in strict.sync.query_exps("hi", query_type="exact", namespace="acme")] == [made]


def test_what_is_about_the_whole_pool_needs_none(strict):
    with in_namespace("acme"):
        strict.sync.create_exp(Experience(function="f", request="hi", response="yes"))
    strict.sync.flush()
    strict.sync.warm_up()
    assert not strict.sync.doctor().problems
    assert strict.sync.stats().stored == 1


def test_the_managers_own_namespace_is_what_nobody_falls_back_to():
    with plain(namespace="acme", require_namespace=True) as manager:
        with pytest.raises(NamespaceError):
            manager.sync.get_exps_count()


def test_the_processs_manager_may_require_it_by_its_environment(monkeypatch):
    from exp_pool import get_exp_manager, set_exp_manager

    for name, value in (("STORE", "memory://"), ("INDEX", "none://"), ("REQUIRE_NAMESPACE", "true")):
        monkeypatch.setenv(f"EXP_POOL_{name}", value)
    set_exp_manager(None)

    @exp_cache
    def ask(question: str) -> str:
        return question

    try:
        with pytest.warns(ExpPoolWarning, match="require_namespace is on"):
            ask("hi")
        with in_namespace("acme"):
            assert isinstance(ask.call("hi"), Answer)
            assert get_exp_manager().sync.get_exps_count() == 1
    finally:
        set_exp_manager(None)
