"""Guarantee 7: deleted is deleted: from store, index and disk copies, after reopening, and nothing brings it back.

In more detail: `tests/contract` (every store), `integration/snapshots`, `integration/stores/test_sqlite_file.py` (of what
was erased no byte is left), `integration/curation/test_curation_changes.py` (`erase`).
"""

import time
from types import SimpleNamespace

import pytest

from exp_pool import snapshots

ONE_ROW = {"delete_exp", "delete_exps"}  # not those before it, which stay as history

WAYS = {
    "delete_exp": lambda manager, ask: manager.sync.delete_exp(ask.lookup("a secret").experience.id),
    "delete_exps": lambda manager, ask: manager.sync.delete_exps({"request": "a secret"}),
    "delete_all_exps": lambda manager, ask: manager.sync.delete_all_exps(),
    "clear_by_key": lambda manager, ask: manager.sync.clear_by_key(ask.key("a secret")),
    "invalidate": lambda manager, ask: ask.invalidate("a secret"),
    "cache_clear": lambda manager, ask: ask.cache_clear(),
}


@pytest.fixture(params=["sqlite", "json"])
def reopened(request, make_manager, tmp_path):
    """One pool on disk, opened as often as it is called, with an index beside it that answers."""
    url = {"sqlite": f"sqlite:///{tmp_path}/pool/pool.db", "json": f"json:///{tmp_path}/pool"}[request.param]
    opened = []

    def again():
        for manager in opened:
            manager.sync.close()
        opened.append(make_manager(store=url, index=f"chroma:///{tmp_path}/chroma", index_from=0))
        return opened[-1]

    return again


def asked(manager):
    """A decorated function of the pool, and what it was really asked."""
    runs = []

    @manager.exp_cache(name="ask")
    def ask(q):
        runs.append(q)
        return f"answer to {q}"

    return ask, runs


def everything(manager):
    """All that the pool says of its rows, in every way to ask."""
    found = [
        e.request
        for kind in ("exact", "semantic", "lexical", "hybrid")
        for e in manager.sync.query_exps("a secret", query_type=kind, top_k=10)
    ]
    return [*found, *(e.request for e in manager.sync.iter_exps(history=True))]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_deleted_is_nowhere_and_stays_away(reopened, tmp_path, monkeypatch, way):
    manager = reopened()
    ask, _ = asked(manager)
    ask("a secret")
    ask.refresh("a secret")  # the first answer is history now, which goes too
    manager.sync.flush()
    assert "a secret" in everything(manager)
    gone = [e.id for e in manager.sync.iter_exps(history=way not in ONE_ROW)]
    snapshots.save(manager, tmp_path / "before")

    WAYS[way](manager, ask)
    manager.sync.flush()
    manager = reopened()
    an_hour_ago = SimpleNamespace(time_ns=lambda: time.time_ns() - 3600 * 10**9, monotonic=time.monotonic)
    monkeypatch.setattr("exp_pool.runtime.clock.time", an_hour_ago)  # the clock steps back
    snapshots.load(manager, tmp_path / "before")
    assert [manager.sync.get_exp(id_) for id_ in gone] == [None] * len(gone)
    if way not in ONE_ROW:
        assert everything(manager) == []
    ask, runs = asked(manager)
    assert ask("a secret") == "answer to a secret"
    assert runs == ["a secret"], "a key that was deleted misses, and may be stored again"
    assert ask.lookup("a secret") is not None
