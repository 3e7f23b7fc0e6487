"""Guarantee 1: a stored, fresh request is found every time, at any size, with the embedder off, regardless of top_k."""

import pytest

from exp_pool import Experience, ExpManager, ThresholdJudge


def refuses(texts):
    raise AssertionError("an exact hit embeds nothing")


@pytest.mark.parametrize("url", ["memory://", "sqlite:///pool.db"])
def test_metagpts_case_500_of_500(make_manager, url):
    """100 requests under 5 names each: a top-2 search that is filtered afterwards finds 200."""
    manager = make_manager(store=url)
    exps = [
        Experience(function=name, request=f"how do I open door {i}", response=f"{name}{i}")
        for i in range(100)
        for name in "abcde"
    ]
    manager.sync.create_exps(exps)
    found = [manager.sync.query_exps(e.request, function=e.function, query_type="exact", top_k=1) for e in exps]
    assert sum([f.id for f in fs] == [e.id] for fs, e in zip(found, exps, strict=True)) == 500


@pytest.mark.parametrize("url", ["memory://", "sqlite:///pool.db"])
def test_10_000_of_10_000_with_index_and_embedder_off(make_manager, url):
    manager = make_manager(store=url, index="none://", embedder="none")
    manager.sync.create_exps([Experience(function="f", request=f"question {i}", response=i) for i in range(10_000)])

    @manager.exp_cache(name="f")
    def f(req):
        raise AssertionError(f"{req} is stored")

    assert sum(f(f"question {i}") == i for i in range(10_000)) == 10_000
    found = (manager.sync.query_exps(f"question {i}", query_type="exact", top_k=1) for i in range(10_000))
    assert sum([e.response for e in exps] == [i] for i, exps in enumerate(found)) == 10_000


def test_an_exact_query_is_not_limited_by_top_k(make_manager):
    manager = make_manager()
    manager.sync.create_exps([Experience(function=f"f{i}", request="same", response=i) for i in range(20)])
    found = manager.sync.query_exps("same", query_type="exact", top_k=1)
    assert [e.response for e in found] == list(range(19, -1, -1))


def test_an_exact_hit_embeds_nothing_and_opens_no_index(tmp_path):
    """Even under a judge that would take similar ones, and after the process that stored it is gone."""
    settings = {"store": f"sqlite:///{tmp_path}/pool.db", "index": f"chroma:///{tmp_path}/chroma"}
    with ExpManager(**settings, embedder="none") as manager:
        manager.sync.create_exp(Experience(function="f", request="hi", response="hello"))
    with ExpManager(**settings, embedder=refuses) as manager:

        @manager.exp_cache(name="f", judge=ThresholdJudge(0.9))
        def f(req):
            raise AssertionError("stored")

        assert f("hi") == "hello"
        assert f.call("hi").found_by == "exact"
    assert not (tmp_path / "chroma").exists()


def test_an_expired_or_quarantined_one_is_not_found_by_calls_or_queries(make_manager):
    from datetime import UTC, datetime, timedelta

    manager = make_manager()
    past = datetime.now(UTC) - timedelta(seconds=1)
    manager.sync.create_exp(Experience(function="f", request="old", response=1, expires_at=past))
    manager.sync.create_exp(Experience(function="f", request="bad", response=1, trust="quarantined"))

    @manager.exp_cache(name="f")
    def f(req):
        return "live"

    for text in ("old", "bad"):
        assert manager.sync.query_exps(text, query_type="exact") == []
        assert manager.sync.query_exps(text) == []
    assert manager.sync.get_exps_count() == 2
    assert (f("old"), f("bad")) == ("live", "live")
