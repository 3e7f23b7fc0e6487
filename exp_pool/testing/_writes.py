"""Contract of a record store about writes: insert, update, delete, evict."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from exp_pool.core.contracts.plugs import (
    Completion,
    EvictionOrder,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    RecordStore,
    Touch,
    Usage,
)
from exp_pool.core.filters import parse_where
from exp_pool.core.record import TaskKind
from exp_pool.runtime import clock
from exp_pool.testing.factories import NASTY_TEXTS, put, row, vector


class WriteRules:
    """Rows come back as they were, one is current, and what was deleted stays so."""

    # Rows

    def test_what_is_put_is_got_by_key_and_by_id(self, store: RecordStore) -> None:
        a, b = row("a"), row("b")
        assert put(store, a, b) == [PutStatus.CURRENT, PutStatus.CURRENT]
        assert store.get_many("n", [b.key, "nothing", a.key]) == [b, None, a]
        assert store.get_many("n", [a.id, "nothing", b.id], by="id") == [a, None, b]

    @pytest.mark.parametrize("text", NASTY_TEXTS)
    def test_any_text_comes_back_as_it_was(self, store: RecordStore, text: str) -> None:
        kept = row(
            text or "-",
            text,
            namespace=text or "-",
            function=(text.strip() and text) or "f",
            version=text,
            model=text,
            strategy=text,
            id=text or "id",
            principal=text,
            metadata={"k": text, text: 1},
        )
        put(store, kept)
        assert store.get_many(kept.namespace, [kept.key]) == [kept]
        assert store.get_many(kept.namespace, [kept.id], by="id") == [kept]
        found = store.scan(RecordQuery(kept.namespace, parse_where({"request": kept.request, "version": text})))
        assert list(found) == [kept]

    def test_a_large_row_survives_and_harms_no_other(self, store: RecordStore) -> None:
        small, large = row("small"), row("x" * 5_000_000, "y" * 5_000_000)
        put(store, small, large)
        assert store.get_many("n", [small.key, large.key]) == [small, large]

    # Current and history

    def test_the_new_row_of_a_key_is_current_and_the_old_one_history(self, store: RecordStore) -> None:
        old, new = row(response="old"), row(response="new")
        put(store, old), put(store, new)
        assert store.get_many("n", [old.key]) == [new]
        (was,) = store.get_many("n", [old.id], by="id")
        assert (was.is_current, was.superseded_by, was.response, was.revision) == (False, new.id, old.response, 2)
        assert (was.embed_due, was.score_due) == (None, None)
        assert store.count(RecordQuery("n")) == 1
        assert store.count(RecordQuery("n", history=True)) == 2

    def test_deleting_the_current_row_does_not_promote_history(self, store: RecordStore) -> None:
        old, new = row(response="old"), row(response="new")
        put(store, old), put(store, new)
        assert store.delete_many("n", [new.id, "nothing", new.id]) == [new.id]
        assert store.get_many("n", [old.key]) == [None]
        assert store.count(RecordQuery("n", history=True)) == 1

    def test_an_automatic_row_never_replaces_an_annotated_one(self, store: RecordStore) -> None:
        annotated = row(expected="right")
        put(store, annotated)
        for origin in ("automatic", "refined", "imported"):
            late = row(response="late", origin=origin)
            assert put(store, late) == [PutStatus.HISTORY]
            (was,) = store.get_many("n", [late.id], by="id")
            assert (was.is_current, was.superseded_by, was.embed_due) == (False, annotated.id, None)
        assert store.get_many("n", [annotated.key]) == [annotated]
        by_hand = row(response="by hand", origin="manual")
        assert put(store, by_hand) == [PutStatus.CURRENT]
        assert store.get_many("n", [annotated.key]) == [by_hand]

    def test_an_id_is_taken_once_in_a_namespace(self, store: RecordStore) -> None:
        first = row("a")
        again = replace(row("b"), id=first.id)
        elsewhere = replace(first, namespace="other")
        assert put(store, first, again, elsewhere) == [PutStatus.CURRENT, PutStatus.CONFLICT, PutStatus.CURRENT]
        assert store.get_many("n", [again.key]) == [None]
        assert store.get_many("n", [first.key]) == [first]

    def test_history_can_be_put_beside_the_current_row(self, store: RecordStore) -> None:
        current, old = row(response="now"), row(response="then", is_current=False)
        assert put(store, current, old) == [PutStatus.CURRENT, PutStatus.HISTORY]
        assert store.get_many("n", [current.key]) == [current]

    # Updates

    def test_an_update_needs_the_revision_that_it_read(self, store: RecordStore) -> None:
        before = row()
        put(store, before)
        changed = replace(before, response='"changed"', trust="quarantined")
        assert put(store, changed, mode=PutMode.UPDATE, expected_revision=1) == [PutStatus.CURRENT]
        assert put(store, before, mode=PutMode.UPDATE, expected_revision=1) == [PutStatus.CONFLICT]
        assert store.get_many("n", [before.key]) == [replace(changed, revision=2)]
        assert put(store, row("gone"), mode=PutMode.UPDATE, expected_revision=1) == [PutStatus.CONFLICT]

    def test_an_update_leaves_alone_what_is_not_content(self, store: RecordStore) -> None:
        before = row(created_at=5)
        put(store, before)
        store.complete_many([Completion("n", before.id, TaskKind.EMBED, vector=vector(1, 0))])
        store.touch_many("n", [Touch(before.id, 3, 7)])
        stale = replace(before, request="other", key="other", created_at=9, function="g", is_current=False)
        put(store, stale, mode=PutMode.UPDATE, expected_revision=1)
        assert store.get_many("n", [before.key]) == [
            replace(before, revision=2, embed_due=None, access_count=3, last_access=7)
        ]

    def test_of_many_concurrent_updates_of_one_revision_one_wins(self, store: RecordStore) -> None:
        before = row()
        put(store, before)
        changes = [Put(replace(before, model=str(i)), PutMode.UPDATE, expected_revision=1) for i in range(8)]
        with ThreadPoolExecutor(8) as threads:
            statuses = [s for (s,) in threads.map(lambda change: store.put_many([change]), changes)]
        assert sorted(statuses) == [PutStatus.CONFLICT] * 7 + [PutStatus.CURRENT]

    def test_of_many_concurrent_inserts_of_one_key_one_is_current(self, store: RecordStore) -> None:
        rows = [row(response=str(i)) for i in range(16)]
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda r: put(store, r), rows))
        everything = list(store.scan(RecordQuery("n", history=True)))
        assert len(everything) == 16
        assert sum(r.is_current for r in everything) == 1

    # Deleting

    def test_a_deleted_key_may_be_stored_again_and_a_deleted_id_too(self, store: RecordStore) -> None:
        first = row()
        put(store, first)
        store.delete_many("n", [first.id])
        assert put(store, first) == [PutStatus.CURRENT]
        assert store.get_many("n", [first.key]) == [first]

    def test_another_pool_does_not_bring_back_what_was_deleted(self, store: RecordStore) -> None:
        gone, old = row("gone"), row("old", created_at=1)
        put(store, gone)
        store.delete_many("n", [gone.id])
        assert put(store, gone, mode=PutMode.REPLICATE) == [PutStatus.DELETED]
        assert put(store, old, mode=PutMode.REPLICATE) == [PutStatus.CURRENT]
        assert store.clear("n") == 1
        assert put(store, old, mode=PutMode.REPLICATE) == [PutStatus.DELETED]
        fresh = row("fresh", created_at=clock.now_us() + 10)
        assert put(store, fresh, mode=PutMode.REPLICATE) == [PutStatus.CURRENT]

    def test_clear_takes_history_and_no_other_namespace(self, store: RecordStore) -> None:
        put(store, row(response="1")), put(store, row(response="2"), row(namespace="other"))
        assert store.clear("n") == 2
        assert store.count(RecordQuery("n", history=True)) == 0
        assert store.count(RecordQuery("other")) == 1

    # Eviction

    @pytest.mark.parametrize(("order", "first"), [("lru", "b"), ("lfu", "b"), ("fifo", "a"), ("ttl", "a")])
    def test_eviction_spares_the_protected_and_leaves_no_tombstone(
        self, store: RecordStore, order: str, first: str
    ) -> None:
        rows = {name: row(name, created_at=at) for at, name in enumerate("abc", 1)}
        mine = [row("m", origin="manual"), row("e", expected="x"), row("i", kind="insight"), row("p", expires_at=1)]
        put(store, *rows.values(), *mine)
        store.touch_many("n", [Touch(rows["a"].id, 2, 9)])
        assert store.usage("n") == Usage(7, sum(r.size_bytes for r in (*rows.values(), *mine)))
        assert [gone.id for gone in store.evict("n", EvictionOrder(order), 2)] == [mine[3].id, rows[first].id]
        assert len(store.evict("n", EvictionOrder(order), 99)) == 2
        assert (store.usage("n").rows, store.usage("other")) == (3, Usage(0, 0))
        assert put(store, rows["a"], mode=PutMode.REPLICATE) == [PutStatus.CURRENT]
