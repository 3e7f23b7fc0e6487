"""Contract of record stores: `RecordStoreContract`. A test subclasses it and gives the store."""

from __future__ import annotations

import uuid

from exp_pool.core.contracts.plugs import (
    Completion,
    EvictionOrder,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    RecordStore,
    Touch,
)
from exp_pool.core.record import TaskKind
from exp_pool.runtime import clock
from exp_pool.testing._maintenance import MaintenanceRules
from exp_pool.testing._migration import MigrationRules
from exp_pool.testing._queries import QueryRules
from exp_pool.testing._writes import WriteRules
from exp_pool.testing.factories import put, row


class RecordStoreShape:
    """Contract even for a store that keeps nothing: every method takes and gives what `RecordStore` says."""

    def test_it_is_a_record_store(self, store: RecordStore) -> None:
        assert isinstance(store, RecordStore)

    def test_a_batch_may_be_empty(self, store: RecordStore) -> None:
        assert store.put_many([]) == []
        assert store.get_many("n", []) == []
        assert store.delete_many("n", []) == []
        assert store.get_vectors("n", []) == []
        store.complete_many([])
        store.touch_many("n", [])
        store.drop_logs("n", [])

    def test_answers_have_one_item_for_each_question(self, store: RecordStore) -> None:
        assert store.get_many("n", ["a", "b"]) == [None, None]
        assert store.get_many("n", ["a", "b"], by="id") == [None, None]
        assert store.get_vectors("n", ["a", "b"]) == [None, None]
        assert [type(status) for status in put(store, row("a"), row("b"))] == [PutStatus, PutStatus]
        (status,) = store.put_many([Put(row("gone"), PutMode.UPDATE, expected_revision=1)])
        assert status is PutStatus.CONFLICT

    def test_what_is_not_there_can_be_asked_for_and_taken_away(self, store: RecordStore) -> None:
        everything = RecordQuery(None)
        assert (list(store.scan(everything)), store.count(everything), store.usage("n").rows) == ([], 0, 0)
        assert (store.partitions(), store.vectors_after("n", "e", 0, 10), store.clear("n")) == ({}, [], 0)
        assert (store.delete_many("n", ["a"]), store.evict("n", EvictionOrder.LRU, 3)) == ([], [])
        assert (store.read_state("n", "s"), store.read_log("n", "l"), store.enqueue(everything, TaskKind.SCORE)) == (
            None,
            [],
            0,
        )
        store.touch_many("n", [Touch("a", 1, 1)])
        store.complete_many([Completion("n", "a", TaskKind.EMBED)])
        store.drop_logs("n", ["l"])
        store.apply_tombstones("n", [])
        assert (store.requests_after("n", 0, 10), store.deletions("n"), store.names("m")) == ([], [], ([], []))

    def test_whoever_claims_first_may_compute(self, store: RecordStore) -> None:
        lease = store.claim("n", "k", "me", 60).lease
        assert lease is not None
        assert store.renew(lease, 60) is not None
        store.release(lease)

    def test_upkeep_may_come_at_any_time(self, store: RecordStore) -> None:
        store.tidy(clock.now_us())
        store.vacuum()
        assert store.check() == []
        put(store, row())
        store.tidy(0)
        store.vacuum()
        assert store.check() == []

    def test_closing_twice_is_fine(self, store: RecordStore) -> None:
        put(store, row(id=uuid.uuid4().hex))
        store.close()
        store.close()


class RecordStoreContract(RecordStoreShape, WriteRules, QueryRules, MaintenanceRules, MigrationRules):
    """Everything that `exp_pool.core.contracts.stores.RecordStore` promises.

    ::

        class TestMine(RecordStoreContract):
            @pytest.fixture
            def store(self):
                return MyStore()
    """
