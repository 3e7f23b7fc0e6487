"""Contract of a record store about maintenance: pending tasks, vectors, leases, states, logs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from exp_pool.core.contracts.plugs import (
    Claim,
    Completion,
    Lease,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    RecordStore,
    Touch,
)
from exp_pool.core.record import TaskKind
from exp_pool.runtime import clock
from exp_pool.testing.factories import put, row, vector


class MaintenanceRules:
    """Pending tasks are completed once, index syncs see every vector, and one process has the lease."""

    # Maintenance

    def test_touches_add_up_and_change_no_revision(self, store: RecordStore) -> None:
        used = row()
        put(store, used)
        store.touch_many("n", [Touch(used.id, 2, 50), Touch("nothing", 1, 1)])
        store.touch_many("n", [Touch(used.id, 1, 40)])
        assert store.get_many("n", [used.key]) == [replace(used, access_count=3, last_access=50)]

    def test_duties_are_settled_put_off_and_owed_again(self, store: RecordStore) -> None:
        owing = row(score_due=1)
        put(store, owing)
        store.complete_many([Completion("n", owing.id, TaskKind.SCORE, done=False, retry_at=99)])
        store.complete_many([Completion("n", owing.id, TaskKind.SCORE, done=False, retry_at=100)])
        (now,) = store.get_many("n", [owing.key])
        assert (now.score_due, now.score_tries, now.revision) == (100, 2, 1)
        store.complete_many([Completion("n", owing.id, TaskKind.SCORE), Completion("n", "nothing", TaskKind.SCORE)])
        store.complete_many([Completion("n", owing.id, TaskKind.EMBED, vector=vector(1, 0))])
        (now,) = store.get_many("n", [owing.key])
        assert (now.score_due, now.score_tries, now.embed_due) == (None, 0, None)
        assert store.enqueue(RecordQuery("n"), TaskKind.EMBED) == 1
        assert store.count(RecordQuery("n", pending=TaskKind.EMBED)) == 1
        assert store.enqueue(RecordQuery("other"), TaskKind.EMBED) == 0

    def test_a_duty_that_is_not_owed_is_not_settled(self, store: RecordStore) -> None:
        current = row()
        put(store, current)
        store.complete_many([Completion("n", current.id, TaskKind.EMBED, vector=vector(1, 0))])
        store.complete_many([Completion("n", current.id, TaskKind.EMBED, vector=vector(0, 1))])
        assert store.get_vectors("n", [current.id]) == [vector(1, 0)]
        put(store, row(response="newer"))
        store.complete_many([Completion("n", current.id, TaskKind.EMBED, vector=vector(0, 1))])
        assert store.get_vectors("n", [current.id]) == [None]

    # Vectors

    def test_vectors_are_kept_beside_their_rows(self, store: RecordStore) -> None:
        with_one, without = row("a"), row("b")
        store.put_many([Put(with_one, vector=vector(1, 0, whole=False)), Put(without)])
        assert store.get_vectors("n", [without.id, with_one.id, "nothing"]) == [None, vector(1, 0, whole=False), None]

    def test_readers_of_vectors_hear_of_everything_in_order(self, store: RecordStore) -> None:
        rows = [row(f"r{i}", function="g", version="v") for i in range(5)]
        store.put_many([Put(r, vector=vector(i, 1)) for i, r in enumerate(rows)])
        first = store.vectors_after("n", "e", 0, 3)
        rest = store.vectors_after("n", "e", first[-1].position, 100)
        assert [r.id for r in first + rest] == [r.id for r in rows]
        assert [r.vector for r in first] == [vector(i, 1) for i in range(3)]
        assert {(r.function, r.version, r.reuse_scope, r.namespace) for r in first} == {
            ("g", "v", rows[0].reuse_scope, "n")
        }
        position = rest[-1].position
        assert store.vectors_after("n", "e", position, 100) == []
        assert store.vectors_after("n", "other", 0, 100) == []
        assert store.vectors_after("other", "e", 0, 100) == []
        newer = row("r0", "newer", function="g", version="v")
        store.put_many([Put(newer, vector=vector(9, 9))])
        store.delete_many("n", [rows[1].id])
        changes = store.vectors_after("n", "e", position, 100)
        assert {r.id: r.vector for r in changes} == {rows[0].id: None, newer.id: vector(9, 9), rows[1].id: None}
        assert [r.position for r in changes] == sorted({r.position for r in changes})
        position = changes[-1].position
        store.clear("n")
        assert {r.id for r in store.vectors_after("n", "e", position, 100)} == {newer.id, *(r.id for r in rows[2:])}
        assert all(r.vector is None for r in store.vectors_after("n", "e", position, 100))

    def test_spaces_are_counted(self, store: RecordStore) -> None:
        rows = [row(f"r{i}") for i in range(5)]
        store.put_many([Put(r, vector=vector(i, 1, embedder="e" if i else "f")) for i, r in enumerate(rows)])
        store.put_many([Put(row(namespace="m"), vector=vector(1))])
        assert store.partitions() == {("n", "e"): 4, ("n", "f"): 1, ("m", "e"): 1}
        store.delete_many("n", [rows[1].id])
        assert store.partitions("n") == {("n", "e"): 3, ("n", "f"): 1}

    def test_readers_hear_of_a_vector_that_another_embedder_took(self, store: RecordStore) -> None:
        moved = row()
        put(store, moved)
        for embedder in ("old", "new"):
            store.enqueue(RecordQuery("n"), TaskKind.EMBED)
            store.complete_many([Completion("n", moved.id, TaskKind.EMBED, vector=vector(1, embedder=embedder))])
        assert [(r.id, r.vector) for r in store.vectors_after("n", "old", 0, 9)] == [(moved.id, None)]
        assert [(r.id, r.vector) for r in store.vectors_after("n", "new", 0, 9)] == [
            (moved.id, vector(1, embedder="new"))
        ]
        assert store.partitions() == {("n", "new"): 1}

    def test_deletions_are_remembered_for_a_time(self, store: RecordStore) -> None:
        gone = row()
        store.put_many([Put(gone, vector=vector(1))])
        store.delete_many("n", [gone.id])
        store.tidy(0)
        assert put(store, gone, mode=PutMode.REPLICATE) == [PutStatus.DELETED]
        assert [r.id for r in store.vectors_after("n", "e", 0, 9)] == [gone.id]
        store.tidy(clock.now_us() + 1)
        assert store.vectors_after("n", "e", 0, 9) == []
        assert put(store, gone, mode=PutMode.REPLICATE) == [PutStatus.CURRENT]

    # Leases

    def test_one_claims_and_the_others_wait(self, store: RecordStore) -> None:
        lease = store.claim("n", "k", "me", 60).lease
        assert lease is not None
        assert store.claim("n", "k", "you", 60).lease is None
        assert store.claim("other", "k", "you", 60).lease is not None
        assert store.renew(lease, 60) is not None
        store.release(lease)
        assert store.claim("n", "k", "you", 60).lease is not None
        assert store.renew(lease, 60) is None
        store.release(lease)  # harmless: another owner has it now
        assert store.claim("n", "k", "me", 60).lease is None

    def test_a_claim_of_what_is_stored_gets_the_row(self, store: RecordStore) -> None:
        stored = row()
        put(store, stored)
        claim = store.claim("n", stored.key, "me", 60)
        assert (claim.record, claim.lease) == (stored, None)
        expired = row("x", expires_at=1)
        put(store, expired)
        claim = store.claim("n", expired.key, "me", 60)
        assert claim.record is None
        assert claim.lease is not None

    def test_a_claim_may_pass_by_a_row_that_does_not_answer(self, store: RecordStore) -> None:
        old = row()
        put(store, old)
        mine = store.claim("n", old.key, "me", 60, old.id).lease
        assert mine is not None
        assert store.claim("n", old.key, "you", 60, old.id) == Claim()
        assert store.claim("n", old.key, "you", 60, "another").record == old
        new = row(response="new")
        assert put(store, new, lease=mine) == [PutStatus.CURRENT]
        assert store.claim("n", old.key, "you", 60, old.id).record == new

    def test_tokens_grow_and_who_was_taken_over_is_refused(self, store: RecordStore) -> None:
        mine = row()
        first = store.claim("n", mine.key, "me", -1).lease  # expired already
        second = store.claim("n", mine.key, "you", 60).lease
        assert second.token > first.token
        assert put(store, mine, lease=first) == [PutStatus.STALE]
        assert store.get_many("n", [mine.key]) == [None]
        assert put(store, row(response="yours"), lease=second) == [PutStatus.CURRENT]
        store.release(second)
        assert put(store, mine, lease=first) == [PutStatus.STALE]

    def test_of_many_who_claim_at_once_one_gets_the_lease(self, store: RecordStore) -> None:
        barrier = threading.Barrier(12)

        def claim(i: int) -> Lease | None:
            barrier.wait()
            return store.claim("n", "k", f"owner {i}", 60).lease

        with ThreadPoolExecutor(12) as threads:
            assert sum(lease is not None for lease in threads.map(claim, range(12))) == 1

    # States and logs

    def test_states_are_compared_and_swapped(self, store: RecordStore) -> None:
        assert store.read_state("n", "s") is None
        assert not store.write_state("n", "s", "x", 1)
        assert store.write_state("n", "s", "one \ud800", None)
        assert not store.write_state("n", "s", "x", None)
        assert store.write_state("n", "s", "two", 1)
        state = store.read_state("n", "s")
        assert (state.value, state.revision) == ("two", 2)
        assert store.read_state("other", "s") is None

    def test_logs_are_read_from_a_position(self, store: RecordStore) -> None:
        last = store.append_log("n", "l", ["a", "b\0"])
        store.append_log("n", "other", ["x"]), store.append_log("other", "l", ["y"])
        assert store.append_log("n", "l", ["c"]) > last
        entries = store.read_log("n", "l")
        assert [e.entry for e in entries] == ["a", "b\0", "c"]
        assert [e.entry for e in store.read_log("n", "l", after=entries[0].position, limit=1)] == ["b\0"]
        store.drop_logs("n", ["l", "nothing"])
        assert store.read_log("n", "l") == []
        assert store.append_log("n", "l", ["d"]) > entries[-1].position
        assert len(store.read_log("n", "other")) == 1
        store.clear("n")
        assert (store.read_log("n", "other"), len(store.read_log("other", "l"))) == ([], 1)
