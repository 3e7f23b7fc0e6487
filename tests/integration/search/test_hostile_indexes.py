"""What every index but exact scan is told and asked: whatever the texts, each finds its own row or says that it cannot."""

import os
import threading

import pytest
from support.hostile_texts import HOSTILE

from exp_pool.core.record import Vector
from exp_pool.errors import VectorIndexError
from exp_pool.protocols import IndexPartition, RenewableIndex, VectorQuery, VectorRow
from exp_pool.search.indexes.chroma import ChromaIndex
from exp_pool.search.indexes.chroma_server import ChromaServerIndex
from exp_pool.testing.factories import unit

FULL = os.environ.get("EXP_POOL_FULL") == "1"


@pytest.fixture(params=["chroma", "chroma server", "milvus lite", "milvus"])
def index(request, tmp_path):
    if request.param.startswith("milvus"):
        request.getfixturevalue("milvus_lite")
    from exp_pool.search.indexes.milvus import MilvusIndex
    from exp_pool.search.indexes.milvus_lite import MilvusLiteIndex

    kind, where = {
        "chroma": lambda: (ChromaIndex, tmp_path / "index"),
        "chroma server": lambda: (ChromaServerIndex, request.getfixturevalue("chroma_url")),
        "milvus lite": lambda: (MilvusLiteIndex, tmp_path / "index.db"),
        "milvus": lambda: (MilvusIndex, request.getfixturevalue("milvus_url")),
    }[request.param]()
    index = kind(where, timeout_s=30)
    index.pool = str(tmp_path)  # each test has one of its own on a server that all use
    yield index
    index.close()


def put(index, space, ids, labels):
    index.generation(space, index.pool)
    vectors = unit(3, len(ids))
    index.upsert_many(
        space,
        [
            VectorRow(id_, space.namespace, *label, 0, Vector(space.embedder, vector.tobytes()))
            for id_, label, vector in zip(ids, labels, vectors, strict=True)
        ],
    )
    if isinstance(index, RenewableIndex):
        index.complete(space)


def ask(index, space, limit=10, **scope):
    return [near.id for near in index.search(VectorQuery(*space, unit(3), limit, **scope))[0]]


def test_hostile_ids_and_filters_find_their_own_row_only(index):
    assert len(HOSTILE) == 500
    space, other = IndexPartition("n", "e"), IndexPartition("m", "e")
    put(index, space, [value or "empty" for value in HOSTILE], [(value, value, value) for value in HOSTILE])
    put(index, other, ["foreign"] * 1, [("", "", "")])
    for value in HOSTILE if FULL else HOSTILE[::50]:
        for scope in ("function", "version", "reuse_scope"):
            assert ask(index, space, **{scope: value}) == [value or "empty"]
        assert ask(index, space, function=value, version=value, reuse_scope=value) == [value or "empty"]
        assert ask(index, space, function=value, version=value + "x") == []
    assert ask(index, other) == ["foreign"]
    index.delete_many(space, [value or "empty" for value in HOSTILE[1:]])
    assert ask(index, space) == [HOSTILE[0]]


def test_hostile_namespaces_and_embedders_hold_their_own_rows_only(index):
    values = HOSTILE if FULL and not isinstance(index, RenewableIndex) else HOSTILE[:11:2]
    spaces = [IndexPartition(value or "n", "e") for value in values] + [
        IndexPartition("n", value or "f") for value in values
    ]
    spaces = list(dict.fromkeys(spaces))
    for number, space in enumerate(spaces):
        put(index, space, [f"row {number}"], [("f", "", "")])
    for number, space in enumerate(spaces):
        assert ask(index, space) == [f"row {number}"]
    index.clear(values[0], index.pool)
    left = [number for number, space in enumerate(spaces) if space.namespace != values[0]]
    assert [ask(index, spaces[number]) for number in left] == [[f"row {number}"] for number in left]
    assert ask(index, spaces[0]) == []


def test_an_id_of_a_million_characters_is_found_or_refused(index):
    space, long = IndexPartition("n", "e"), "é" * 1_000_000
    try:
        put(index, space, [long], [("f", "", "")])
    except VectorIndexError:
        return
    assert ask(index, space) == [long]


def test_several_threads_ask_and_feed_at_once(index):
    space, failed = IndexPartition("n", "e"), []
    put(index, space, ["r0"], [("f", "", "")])

    def work(number):
        try:
            for turn in range(5):
                row = f"r{number}-{turn}"
                vector = Vector("e", unit(number)[0].tobytes())
                index.upsert_many(space, [VectorRow(row, "n", "f", "", "", 0, vector)])
                assert row in ask(index, space, 100)
        except BaseException as err:
            failed.append(err)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
