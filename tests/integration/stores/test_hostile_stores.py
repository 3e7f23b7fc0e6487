"""What every store on a server is told and asked: hostile text is only ever text, in each place where text can stand."""

import os

import pytest
from support.hostile_texts import HOSTILE as OF_INDEXES
from support.pools import SERVERS, new_store

from exp_pool.core.filters import parse_where
from exp_pool.errors import InvalidInputError, StoreError
from exp_pool.protocols import Put, PutStatus, RecordQuery
from exp_pool.testing.factories import put, row, vector

FULL = os.environ.get("EXP_POOL_FULL") == "1"
OF_SQL = [
    "?",
    "%s",
    "%(x)s",
    "%%",
    "??",
    "$1",
    ":x",
    "--",
    "/*",
    "*/ OR 1=1",
    "' OR '1'='1",
    "`",
    "\\'",
    "x'; DELETE FROM",
]
OF_SQL += [
    "$[*]",
    "$.a",
    '$."a"',
    "a.b",
    "{n}:rows",
    "KEYS[1]",
    "\r\n*1\r\n",
    "a" * 100_000,
    "NULL",
    "1 OR 1=1",
    "a " * 3,
]
HOSTILE = list(dict.fromkeys([*OF_SQL, *OF_INDEXES]))[:500]


@pytest.fixture(scope="module", params=SERVERS)
def store(request, tmp_path_factory):
    with new_store(request.param, request, tmp_path_factory.mktemp("store")) as store:
        yield store


def some(step):
    return HOSTILE if FULL else [*HOSTILE[:10], *HOSTILE[10::step]]


@pytest.mark.timeout(1800)  # in full, Redis reads 500 rows, some of them long, for each of 9,500 questions
def test_as_conditions_it_finds_its_own_row_only(store):
    assert len(HOSTILE) == 500
    rows, others = [], []
    for number, text in enumerate(HOSTILE):
        fields = {
            "request": text,
            "model": text,
            "strategy": text,
            "principal": text,
            "metadata": {"m": "x" + text[:99]},
        }
        rows.append(row(namespace="conditions", id=f"id {number}", key=f"key {number}", **fields))
        others.append(row(namespace="others", id=f"id {number}", key=f"key {number}", **fields))
    put(store, *rows, *others)
    for number, text in enumerate(HOSTILE):
        if text not in some(80):
            continue
        for field in ("request", "model", "strategy", "principal"):
            query = RecordQuery("conditions", parse_where({field: text}))
            assert [r.id for r in store.scan(query)] == [f"id {number}"], (field, text[:99])
            assert store.count(RecordQuery("conditions", parse_where({field: {"in": [text, "no such"]}}))) == 1
            assert store.count(RecordQuery("conditions", parse_where({field: {"ne": text}}))) == len(HOSTILE) - 1
            containing = store.count(RecordQuery("conditions", parse_where({field: {"contains": text}})))
            assert 1 <= containing <= len(HOSTILE)
        for name in ("id", "key", "function", "version"):
            assert (
                store.count(RecordQuery("conditions", parse_where({name: text})))
                == (name == "version" and text == "") * 500
            )
        assert_typed(store, {"metadata.m": "x" + text[:99]}, least=1)
        assert_typed(store, {f"metadata.{text[:99]}": {"exists": True}}, least=0)
        assert_typed(store, {text: 1}, least=None)
        assert_typed(store, {"request": {text: 1}}, least=None)


def assert_typed(store, where, least):
    """A right answer, or an error that is ours. `least` None: an error."""
    try:
        found = [r.namespace for r in store.scan(RecordQuery("conditions", parse_where(where)))]
    except (StoreError, InvalidInputError):
        return
    assert least is not None, where
    assert len(found) >= least
    assert set(found) <= {"conditions"}


def test_as_names_it_names_one_thing_only(store):
    names = list({text[:200]: text for text in some(10) if text}.values())  # namespaces have 255 characters in MySQL
    kept = []
    for text in names:
        namespace = text[:200]
        mine = row("r", namespace=namespace, id=text, key=text)
        try:
            statuses = store.put_many([Put(mine, vector=vector(1, 0, embedder=text[:200]))])
        except StoreError as err:
            assert len(text) > 200, (text, err)  # engines limit what they index
            continue
        if statuses == [PutStatus.CURRENT]:
            kept.append(mine)
        assert store.write_state(namespace, text, text, None)
        store.append_log(namespace, text, [text])
    assert len(kept) > len(names) // 2
    for mine in kept:
        space, text = mine.namespace, mine.id
        assert [r and r.id for r in store.get_many(space, [text])] == [text]
        assert [v.id for v in store.vectors_after(space, text[:200], 0, 9)] == [text]
        assert store.read_state(space, text).value == text
        assert [entry for _, entry in store.read_log(space, text)] == [text]
        assert store.names(space) == ([text], [text])
        assert store.claim(space, text, text, 1).record is not None
        assert store.count(RecordQuery(space)) == store.usage(space).rows == 1
    assert {mine.namespace for mine in kept} <= set(store.namespaces())
    first, *rest = kept
    assert store.clear(first.namespace) == 1
    assert [store.count(RecordQuery(mine.namespace)) for mine in rest] == [1] * len(rest)
    for mine in rest[::2]:
        assert store.delete_many(mine.namespace, [mine.id]) == [mine.id]
        assert [d.id for d in store.deletions(mine.namespace)] == [mine.id]
    assert [store.count(RecordQuery(mine.namespace)) for mine in rest] == [n % 2 for n in range(len(rest))]
