"""Contract of a record store about migration: names, deletions and requests can all be read."""

from __future__ import annotations

from exp_pool.core.contracts.plugs import Deletion, Names, PutMode, PutStatus, RecordStore
from exp_pool.runtime import clock
from exp_pool.testing.factories import NASTY_TEXTS, put, row


class MigrationRules:
    """Everything that is kept can be read, and what another pool deleted stays deleted."""

    def test_readers_of_requests_hear_of_new_rows_in_order(self, store: RecordStore) -> None:
        rows = [row(f"r{i}", function="g", version="v") for i in range(5)]
        put(store, *rows, row("elsewhere", namespace="other"), row("old", is_current=False))
        first = store.requests_after("n", 0, 3)
        rest = store.requests_after("n", first[-1].position, 100)
        assert [(r.id, r.function, r.version, r.request) for r in first + rest] == [
            (r.id, "g", "v", r.request) for r in rows
        ]
        position = rest[-1].position
        assert store.requests_after("n", position, 100) == []
        newer = row("r0", "newer", function="g", version="v")
        put(store, newer)
        store.delete_many("n", [rows[1].id])
        assert [r.id for r in store.requests_after("n", position, 100)] == [newer.id]
        assert [r.request for r in store.requests_after("n", 0, 100)] == ["r2", "r3", "r4", "r0"]

    def test_everything_kept_has_a_name(self, store: RecordStore) -> None:
        assert (store.namespaces(), store.names("n")) == ([], Names([], []))
        for name in ("b", *NASTY_TEXTS):
            store.write_state("n", name, "1", None)
            store.append_log("n", name, ["x"])
        assert store.names("n") == Names(sorted(["b", *NASTY_TEXTS]), sorted(["b", *NASTY_TEXTS]))
        store.drop_logs("n", ["b"])
        assert "b" not in store.names("n").logs
        gone = row(namespace="gone")
        put(store, gone, row(namespace="rows"))
        store.delete_many("gone", [gone.id])
        store.clear("cleared")
        store.write_state("", "s", "1", None)
        assert store.namespaces() == ["cleared", "gone", "n", "rows"]

    def test_deletions_can_be_read_page_by_page(self, store: RecordStore) -> None:
        rows = [row(f"r{i}", id=f"{i}") for i in range(7)]
        put(store, *rows)
        before = clock.now_us()
        store.delete_many("n", [r.id for r in rows])
        first = store.deletions("n", limit=4)
        rest = store.deletions("n", after=first[-1].id)
        assert [d.id for d in first + rest] == [r.id for r in rows]
        assert all(before <= d.deleted_at <= clock.now_us() for d in first)
        assert (store.deletions("other"), store.cleared_at("n")) == ([], None)
        store.clear("n")
        assert before <= (store.cleared_at("n") or 0) <= clock.now_us()

    def test_what_another_pool_deleted_is_deleted_and_does_not_come_back(self, store: RecordStore) -> None:
        here, never_here, stays = row("here"), row("never here"), row("stays", created_at=5)
        put(store, here, stays, row(namespace="other", id=here.id))
        store.apply_tombstones("n", [Deletion(here.id, 7), Deletion(never_here.id, 8)], cleared_at=9)
        assert store.get_many("n", [here.id, stays.id], by="id") == [None, stays]
        assert store.get_many("other", [here.id], by="id") != [None]
        assert sorted(store.deletions("n")) == sorted([Deletion(here.id, 7), Deletion(never_here.id, 8)])
        assert put(store, here, never_here, mode=PutMode.REPLICATE) == [PutStatus.DELETED] * 2
        assert put(store, row("before", created_at=9), mode=PutMode.REPLICATE) == [PutStatus.DELETED]
        store.apply_tombstones("n", [], cleared_at=3)
        assert store.cleared_at("n") == 9
        assert put(store, here) == [PutStatus.CURRENT]
        assert [d.id for d in store.deletions("n")] == [never_here.id]
