"""What `ExpManager` offers, on memory and on SQLite."""

import asyncio
import functools
import inspect
from datetime import UTC, datetime, timedelta

import pytest

from exp_pool import MISSING, Experience, ExpManager, Score, exp_cache, in_namespace
from exp_pool.api.pool import Pool
from exp_pool.errors import (
    ClosedError,
    ConfigurationError,
    ConflictError,
    EncodingError,
    InvalidInputError,
    NotFoundError,
)


@pytest.fixture(params=["memory://", "sqlite:///pool.db"])
def manager(request, make_manager):
    return make_manager(store=request.param)


def exp(request="r", response="a", **fields):
    return Experience(**{"function": "f", "request": request, "response": response, **fields})


def test_create_get_update_delete(manager):
    made = exp(metadata={"k": 1}, scores={"s": Score(value=0.5)}, response={"x": (1, 2)})
    assert manager.sync.create_exp(made) == made.id
    assert manager.sync.get_exp(made.id) == made.model_copy(update={"namespace": "default"})
    changed = manager.sync.update_exp(made.id, model="m", trust="quarantined", metadata={})
    assert (changed.model, changed.metadata, changed.id) == ("m", {}, made.id)
    assert manager.sync.get_exp(made.id) == changed
    assert manager.sync.delete_exp(made.id)
    assert not manager.sync.delete_exp(made.id)
    assert manager.sync.get_exp(made.id) is None


@pytest.mark.parametrize(
    "field", ["id", "namespace", "function", "version", "key", "arguments", "request", "created_at"]
)
def test_what_an_experience_is_found_by_cannot_be_changed(manager, field):
    id_ = manager.sync.create_exp(exp())
    with pytest.raises(InvalidInputError, match=rf"{field} cannot be changed.*clone"):
        manager.sync.update_exp(id_, **{field: "x"})


def test_an_unknown_field_or_id_is_named(manager):
    id_ = manager.sync.create_exp(exp())
    with pytest.raises(InvalidInputError, match="no field 'colour'; fields: id"):
        manager.sync.update_exp(id_, colour="red")
    with pytest.raises(NotFoundError, match="'nobody'"):
        manager.sync.annotate("nobody")
    with pytest.raises(ValueError, match="kind"):
        manager.sync.update_exp(id_, kind="miracle")
    assert manager.sync.get_exp(id_).kind == "success"


def test_a_taken_id_is_refused_and_the_rest_is_stored(manager):
    first = exp("a")
    manager.sync.create_exp(first)
    with pytest.raises(ConflictError, match="1 of 2 were not stored.*update_exp.*clone"):
        manager.sync.create_exps([first, exp("b")])
    assert manager.sync.get_exps_count() == 2


def test_annotating_keeps_the_raw_response_and_the_id(manager):
    id_ = manager.sync.create_exp(exp())
    marked = manager.sync.annotate(id_, expected="better", metadata={"by": "me"})
    assert (marked.id, marked.response, marked.value, marked.metadata) == (id_, "a", "better", {"by": "me"})
    assert manager.sync.annotate(manager.sync.create_exp(exp("b"))).expected == "a"
    store = manager.sync._store
    assert ['"annotate"' in entry.entry for entry in store.read_log("default", f"audit:{id_}")] == [True]


def test_history_is_left_out_unless_asked_for(manager):
    manager.sync.create_exp(exp(response="old"))
    manager.sync.create_exp(exp(response="new"))
    assert [e.response for e in manager.sync.iter_exps()] == ["new"]
    assert [e.response for e in manager.sync.iter_exps(history=True)] == ["old", "new"]
    assert [e.response for e in manager.sync.query_exps("r", query_type="exact")] == ["new"]
    assert [e.response for e in manager.sync.query_exps("r")] == ["new"]
    assert manager.sync.clear_by_key(exp().key) == 2
    assert list(manager.sync.iter_exps(history=True)) == []


def test_expired_ones_are_counted_until_they_are_cleared(manager):
    manager.sync.create_exps([exp("a", expires_at=datetime.now(UTC) - timedelta(1)), exp("b")])
    assert manager.sync.get_exps_count() == 2
    assert manager.sync.clear_expired() == 1
    assert [e.request for e in manager.sync.iter_exps()] == ["b"]


def test_deleting_by_condition(manager):
    manager.sync.create_exps([exp(str(i), metadata={"team": "ab"[i % 2]}) for i in range(10)])
    assert manager.sync.delete_exps({"metadata.team": "a"}) == 5
    assert manager.sync.get_exps_count({"metadata.team": "b"}) == 5
    with pytest.raises(InvalidInputError, match="delete_all_exps"):
        manager.sync.delete_exps({})
    with pytest.raises(InvalidInputError, match="unknown field 'teem'"):
        manager.sync.delete_exps({"teem": "b"})
    assert manager.sync.delete_all_exps() == 5


def test_queries_are_filtered_ordered_and_limited(manager):
    manager.sync.create_exps([exp("aaa", 1), exp("aab", 2, function="g"), exp("xyz", 3, metadata={"team": "x"})])
    hits = manager.sync.search("aaa", top_k=2)
    assert [(hit.experience.response, hit.found_by) for hit in hits] == [(1, "semantic"), (2, "semantic")]
    assert hits[0].similarity == pytest.approx(1.0)
    assert [h.experience.response for h in manager.sync.search("aaa", function="g")] == [2]
    assert [h.experience.response for h in manager.sync.search("aaa", where={"metadata.team": "x"}, top_k=1)] == [3]
    assert [h.experience.response for h in manager.sync.search("aaa", min_similarity=0.9)] == [1]
    assert manager.sync.search("aaa", namespace="other") == []
    order = [e.response for e in manager.sync.iter_exps(order_by="-created_at", limit=2)]
    assert order == [3, 2]


def test_a_filter_that_few_meet_still_finds_them(manager):
    """The join drops most neighbours; the search widens until it has enough or has seen all."""
    manager.sync.create_exps([exp(f"a{'b' * (i % 50)} {i}", i, metadata={"rare": i % 100 == 0}) for i in range(400)])
    found = manager.sync.search("a", where={"metadata.rare": True}, top_k=5)
    assert {hit.experience.response for hit in found} == {0, 100, 200, 300}


def test_namespaces_do_not_see_each_other(manager):
    manager.sync.create_exp(exp("mine"))
    with in_namespace("other"):
        other = manager.sync.create_exp(exp("theirs"))
        assert [e.request for e in manager.sync.query_exps("mine")] == ["theirs"]
        assert manager.sync.get_exps_count() == 1
    assert manager.sync.get_exp(other) is None
    assert not manager.sync.delete_exp(other)
    assert [e.request for e in manager.sync.query_exps("theirs")] == ["mine"]
    assert [e.request for e in manager.sync.query_exps("x", namespace="other")] == ["theirs"]
    assert manager.sync.delete_all_exps() == 1
    with in_namespace("other"):
        assert manager.sync.get_exps_count() == 1


BAD = {
    "top_k=0 must be a whole number": {"top_k": 0},
    "top_k=True must be": {"top_k": True},
    "min_similarity=2 must be between": {"min_similarity": 2},
    "min_similarity='a' must be between": {"min_similarity": "a"},
    "query_type='fuzzy' is unknown; known: exact, semantic, lexical, hybrid": {"query_type": "fuzzy"},
    "reranker=3 must be the name or folder of a CrossEncoder": {"reranker": 3},
    "where: unknown field 'scoer'; did you mean 'score'": {"where": {"scoer": 1}},
    "unknown operator 'like'": {"where": {"score": {"like": 1}}},
    "namespace='' must be text": {"namespace": ""},
    "function name must not be empty": {"function": " "},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_queries_are_named(manager, message):
    manager.sync.create_exp(exp())
    with pytest.raises(InvalidInputError, match=message):
        manager.sync.search("r", **BAD[message])


def test_a_request_that_is_no_text_is_named(manager):
    with pytest.raises(InvalidInputError, match="request must be text, got int: 3"):
        manager.sync.query_exps(3)


def test_what_cannot_be_stored_is_named_and_nothing_is_lost(manager):
    nested = []
    for _ in range(10_000):
        nested = [nested]
    for bad in (exp(response=object()), exp("x", arguments={"a": 1}, metadata={"k": object()})):
        with pytest.raises(EncodingError, match=r"object could not be restored"):
            manager.sync.create_exps([exp("good"), bad])
    with pytest.raises(ValueError, match="nested"):
        exp(response=nested)
    strange = [exp(text, text) for text in ("\ud800", "\0", "a\0\ud800b", "x" * 5_000_000)]
    manager.sync.create_exps(strange)
    for e in strange:
        assert [f.response for f in manager.sync.query_exps(e.request, query_type="exact")] == [e.response]
    manager.sync.flush()
    assert manager.stats().embedded == 4


def test_one_without_an_index_says_what_to_do(make_manager):
    for settings, name in (({"index": "none://"}, "none://"), ({"embedder": "none"}, "embedder='none'")):
        manager = make_manager(**settings)
        manager.sync.create_exp(exp())
        with pytest.raises(InvalidInputError, match=f"{name}.*query_type='exact'"):
            manager.sync.query_exps("r")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"store": "mongo://x"},
            "store='mongo://x': unknown scheme; known: json:///folder, memory://, mysql://",
        ),
        ({"store": "pool.db"}, "unknown scheme"),
        ({"store": "sqlite://"}, "names no file"),
        ({"store": "memory://x"}, "takes no path"),
        ({"index": "chroma://"}, "names no file and no host; write chroma:///folder or chroma://host:port"),
        ({"index": "chroma://u:pw@host"}, "index='chroma://host': a Chroma server takes no user and password"),
        ({"index": "chroma://host:8000/tenant"}, "names a tenant only; write /tenant/database"),
        ({"index": "chroma://host:port"}, "the port must be a number"),
        ({"index": "milvus://u:pw@host?tls=1"}, "index='milvus://host': unknown option 'tls'; known: ssl"),
        ({"index": "mongo://u:pw@host"}, r"index='mongo://u:\*\*\*@host': unknown scheme"),
        (
            {"index": "faiss://"},
            "known: chroma:///folder, chroma://host:port, exact://, milvus:///file.db, milvus://host:port, none://",
        ),
        ({"embedder": "word2vec"}, "'sentence-transformers/NAME', 'none' or a callable"),
        ({"embedder": 3}, "embedder=3 is unknown"),
        ({"embedder": "x".join}, "has values bound to it"),
        ({"embedder": functools.partial(len)}, "has values bound to it"),
        ({"store": 5}, "store=5 is neither a URL nor a RecordStore"),
        ({"index": object()}, "is neither a URL nor a VectorIndex"),
    ],
)
def test_wrong_urls_raise_where_the_manager_is_made(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ExpManager(**{"store": "memory://", "index": "none://", **settings})


def test_a_closed_manager_says_so(manager):
    manager.sync.close()
    manager.sync.close()
    with pytest.raises(ClosedError):
        manager.sync.get_exps_count()


def test_everything_async_is_there_blocking_under_the_same_name():
    awaited = {
        name
        for name, member in inspect.getmembers(ExpManager)
        if not name.startswith("_") and (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member))
    }
    assert {"create_exp", "search", "iter_exps", "flush", "close"} <= awaited
    for name in awaited:
        ours, theirs = inspect.signature(getattr(ExpManager, name)), inspect.signature(getattr(Pool, name))
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name


def test_the_async_face(manager):
    async def main():
        async with manager as m:
            id_ = await m.create_exp(exp())
            await m.annotate(id_, expected="b")
            assert (await m.get_exp(id_)).value == "b"
            assert [e.request async for e in m.iter_exps()] == ["r"]
            assert len(await m.search("r")) == len(await m.query_exps("r", query_type="exact")) == 1
            assert (await m.update_exp(id_, model="m")).model == "m"
            assert await m.get_exps_count() == 1
            await m.flush()
            await m.create_exps([exp(str(i)) for i in range(450)])
            assert len([e async for e in m.iter_exps()]) == 451
            assert await m.delete_exps({"request": "7"}) == 1
            assert await m.clear_by_key(exp("8").key) == 1
            assert await m.clear_expired() == 0
            assert await m.delete_exp(id_)
            assert await m.delete_all_exps() == 448
            await m.warm_up()

    asyncio.run(main())


def test_a_secret_makes_other_keys_and_old_ones_are_not_found(tmp_path):
    url = f"sqlite:///{tmp_path}/pool.db"

    def ask(manager):
        @manager.exp_cache(name="f")
        def f(req):
            return "live"

        return f

    with ExpManager(store=url, index="none://") as manager:
        manager.sync.create_exp(exp())
        plain = ask(manager).key("r")
        assert ask(manager)("r") == "a"
    with ExpManager(store=url, index="none://", key_secret="s3cret") as manager:
        assert ask(manager).key("r") != plain
        assert ask(manager)("r") == "live"
        manager.sync.create_exp(exp(response="by hand"))
        assert ask(manager)("r") == "by hand"
        assert "s3cret" not in repr(manager.config)


def test_a_model_as_response_is_stored_in_its_json_form_and_comes_back_typed(manager):
    from pydantic import BaseModel

    class Point(BaseModel):
        x: int

    def locate(req) -> list[Point]:
        return [Point(x=1)]

    locate.__annotations__["return"] = list[Point]
    cached = exp_cache(manager=manager)(locate)
    assert cached("here") == [Point(x=1)]
    again = cached.call("here")
    assert (again.value, type(again.value[0]), again.found_by) == ([Point(x=1)], Point, "exact")
    stored = next(iter(manager.sync.iter_exps()))
    assert stored.response == [{"x": 1}]
    manager.sync.annotate(stored.id, expected=[Point(x=2)])
    assert cached("here") == [Point(x=2)]
    assert stored.expected is MISSING
