"""What every record store must do. A store's test subclasses this and gives the `store` fixture."""

import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from exp_pool import Experience, _clock
from exp_pool.filters import holds, parse_where
from exp_pool.protocols import (
    SCAN_ORDERS,
    EvictionOrder,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    RecordStore,
    Settlement,
    Touch,
    Usage,
)
from exp_pool.records import Duty, Vector, to_record

NASTY = [
    "",
    " ",
    "\0",
    "a\0b",
    "\x1a0000",
    "\ud800",
    "a\udfff\ud83d",
    "'; DROP TABLE experiences; --",
    '%_*$."\\',
    "日本語 🤷",
    "\x1a",
]


def row(request="r", response="a", namespace="n", **fields):
    """A row of the function f; fields of Record replace what an Experience makes of it."""
    fields = {"origin": "automatic", **fields}
    of_exp = {
        k: fields.pop(k)
        for k in list(fields)
        if k in Experience.model_fields and k not in ("id", "created_at", "expires_at")
    }
    record = to_record(Experience(**{"function": "f", "request": request, "response": response, **of_exp}), namespace)
    return replace(record, **fields)


def put(store, *rows, **how):
    return store.put_many([Put(r, **how) for r in rows])


def vector(*values, embedder="e", whole=True):
    import numpy as np

    return Vector(embedder, np.asarray(values, dtype="<f4").tobytes(), whole)


class RecordStoreContract:
    def test_it_is_a_record_store(self, store):
        assert isinstance(store, RecordStore)

    # Rows

    def test_what_is_put_is_got_by_key_and_by_id(self, store):
        a, b = row("a"), row("b")
        assert put(store, a, b) == [PutStatus.CURRENT, PutStatus.CURRENT]
        assert store.get_many("n", [b.key, "nothing", a.key]) == [b, None, a]
        assert store.get_many("n", [a.id, "nothing", b.id], by="id") == [a, None, b]

    def test_a_batch_may_be_empty(self, store):
        assert store.put_many([]) == []
        assert store.get_many("n", []) == []
        assert store.delete_many("n", []) == []
        store.settle_many([])
        store.touch_many("n", [])

    @pytest.mark.parametrize("text", NASTY)
    def test_any_text_comes_back_as_it_was(self, store, text):
        kept = row(
            text or "-",
            text,
            namespace=text or "-",
            function=text.strip() and text or "f",
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

    def test_a_large_row_survives_and_harms_no_other(self, store):
        small, large = row("small"), row("x" * 5_000_000, "y" * 5_000_000)
        put(store, small, large)
        assert store.get_many("n", [small.key, large.key]) == [small, large]

    # Current and history

    def test_the_new_row_of_a_key_is_current_and_the_old_one_history(self, store):
        old, new = row(response="old"), row(response="new")
        put(store, old), put(store, new)
        assert store.get_many("n", [old.key]) == [new]
        (was,) = store.get_many("n", [old.id], by="id")
        assert (was.is_current, was.superseded_by, was.response, was.revision) == (False, new.id, old.response, 2)
        assert (was.embed_due, was.index_due, was.score_due) == (None, None, None)
        assert store.count(RecordQuery("n")) == 1
        assert store.count(RecordQuery("n", history=True)) == 2

    def test_deleting_the_current_row_does_not_promote_history(self, store):
        old, new = row(response="old"), row(response="new")
        put(store, old), put(store, new)
        assert store.delete_many("n", [new.id, "nothing", new.id]) == [new.id]
        assert store.get_many("n", [old.key]) == [None]
        assert store.count(RecordQuery("n", history=True)) == 1

    def test_an_automatic_row_never_replaces_an_annotated_one(self, store):
        annotated = row(expected="right")
        put(store, annotated)
        for origin in ("automatic", "refined"):
            late = row(response="late", origin=origin)
            assert put(store, late) == [PutStatus.HISTORY]
            (was,) = store.get_many("n", [late.id], by="id")
            assert (was.is_current, was.superseded_by, was.embed_due) == (False, annotated.id, None)
        assert store.get_many("n", [annotated.key]) == [annotated]
        by_hand = row(response="by hand", origin="manual")
        assert put(store, by_hand) == [PutStatus.CURRENT]
        assert store.get_many("n", [annotated.key]) == [by_hand]

    def test_an_id_is_taken_once_in_a_namespace(self, store):
        first = row("a")
        again = replace(row("b"), id=first.id)
        elsewhere = replace(first, namespace="other")
        assert put(store, first, again, elsewhere) == [PutStatus.CURRENT, PutStatus.CONFLICT, PutStatus.CURRENT]
        assert store.get_many("n", [again.key]) == [None]
        assert store.get_many("n", [first.key]) == [first]

    def test_history_can_be_put_beside_the_current_row(self, store):
        current, old = row(response="now"), row(response="then", is_current=False)
        assert put(store, current, old) == [PutStatus.CURRENT, PutStatus.HISTORY]
        assert store.get_many("n", [current.key]) == [current]

    # Updates

    def test_an_update_needs_the_revision_that_it_read(self, store):
        before = row()
        put(store, before)
        changed = replace(before, response='"changed"', trust="quarantined")
        assert put(store, changed, mode=PutMode.UPDATE, expected_revision=1) == [PutStatus.CURRENT]
        assert put(store, before, mode=PutMode.UPDATE, expected_revision=1) == [PutStatus.CONFLICT]
        assert store.get_many("n", [before.key]) == [replace(changed, revision=2)]
        assert put(store, row("gone"), mode=PutMode.UPDATE, expected_revision=1) == [PutStatus.CONFLICT]

    def test_an_update_leaves_alone_what_is_not_content(self, store):
        before = row(created_at=5)
        put(store, before)
        store.settle_many([Settlement("n", before.id, Duty.EMBED, vector=vector(1, 0))])
        store.touch_many("n", [Touch(before.id, 3, 7)])
        stale = replace(before, request="other", key="other", created_at=9, function="g", is_current=False)
        put(store, stale, mode=PutMode.UPDATE, expected_revision=1)
        assert store.get_many("n", [before.key]) == [
            replace(before, revision=2, embed_due=None, access_count=3, last_access=7)
        ]

    def test_of_many_concurrent_updates_of_one_revision_one_wins(self, store):
        before = row()
        put(store, before)
        changes = [Put(replace(before, model=str(i)), PutMode.UPDATE, expected_revision=1) for i in range(8)]
        with ThreadPoolExecutor(8) as threads:
            statuses = [s for (s,) in threads.map(lambda change: store.put_many([change]), changes)]
        assert sorted(statuses) == [PutStatus.CONFLICT] * 7 + [PutStatus.CURRENT]

    def test_of_many_concurrent_inserts_of_one_key_one_is_current(self, store):
        rows = [row(response=str(i)) for i in range(16)]
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda r: put(store, r), rows))
        everything = list(store.scan(RecordQuery("n", history=True)))
        assert len(everything) == 16
        assert sum(r.is_current for r in everything) == 1

    # Deleting

    def test_a_deleted_key_may_be_stored_again_and_a_deleted_id_too(self, store):
        first = row()
        put(store, first)
        store.delete_many("n", [first.id])
        assert put(store, first) == [PutStatus.CURRENT]
        assert store.get_many("n", [first.key]) == [first]

    def test_another_pool_does_not_bring_back_what_was_deleted(self, store):
        gone, old = row("gone"), row("old", created_at=1)
        put(store, gone)
        store.delete_many("n", [gone.id])
        assert put(store, gone, mode=PutMode.REPLICATE) == [PutStatus.DELETED]
        assert put(store, old, mode=PutMode.REPLICATE) == [PutStatus.CURRENT]
        assert store.clear("n") == 1
        assert put(store, old, mode=PutMode.REPLICATE) == [PutStatus.DELETED]
        fresh = row("fresh", created_at=_clock.now_us() + 10)
        assert put(store, fresh, mode=PutMode.REPLICATE) == [PutStatus.CURRENT]

    def test_clear_takes_history_and_no_other_namespace(self, store):
        put(store, row(response="1")), put(store, row(response="2"), row(namespace="other"))
        assert store.clear("n") == 2
        assert store.count(RecordQuery("n", history=True)) == 0
        assert store.count(RecordQuery("other")) == 1

    # Queries

    def test_nothing_crosses_a_namespace(self, store):
        mine, other = row("same"), row("same", namespace="other")
        put(store, mine, other)
        assert store.get_many("n", [other.id], by="id") == [None]
        assert store.delete_many("n", [other.id]) == []
        assert list(store.scan(RecordQuery("n"))) == [mine]
        store.touch_many("n", [Touch(other.id, 1, 1)])
        store.settle_many([Settlement("n", other.id, Duty.EMBED)])
        assert store.get_many("other", [other.key]) == [other]
        assert store.get_vectors("n", [other.id]) == [None]

    def test_expired_quarantined_and_owed_rows_are_told_apart(self, store):
        now = _clock.now_us()
        fresh, expired = row("fresh", expires_at=now + 10**9), row("expired", expires_at=now - 1)
        quarantined, later = row("q", trust="quarantined"), row("later", embed_due=now + 10**9)
        put(store, fresh, expired, quarantined, later)

        def requests(**how):
            return {r.request for r in store.scan(RecordQuery("n", **how))}

        assert requests() == {"fresh", "expired", "q", "later"}
        assert requests(expired=False) == {"fresh", "q", "later"}
        assert requests(quarantined=False) == {"fresh", "expired", "later"}
        assert requests(owed=Duty.EMBED) == {"fresh", "expired", "q"}
        assert requests(owed=Duty.SCORE) == set()
        assert store.count(RecordQuery(None)) == 4

    def test_scans_are_ordered_limited_and_unaffected_by_what_happens_meanwhile(self, store):
        rows = [row(f"r{i}", created_at=i // 2, score=[None, 0.5, 0.25][i % 3]) for i in range(1200)]
        put(store, *rows)
        assert list(store.scan(RecordQuery("n"))) == rows  # ties in the order of insertion
        assert list(store.scan(RecordQuery("n"), limit=3)) == rows[:3]
        scores = [r.score for r in store.scan(RecordQuery("n"), order_by="score", descending=True)]
        assert scores == sorted([s for s in scores if s is not None], reverse=True) + [None] * 400
        assert [r.score for r in store.scan(RecordQuery("n"), order_by="score")][:400] == [None] * 400
        for order in SCAN_ORDERS:
            assert len(list(store.scan(RecordQuery("n"), order_by=order))) == 1200
        seen, deleted = [], rows[1100]
        for record in store.scan(RecordQuery("n")):
            if not seen:
                store.delete_many("n", [deleted.id])
                put(store, row("new", created_at=10**6))
            seen.append(record.id)
        assert len(seen) == len(set(seen)) in (1199, 1200)

    def test_counting_stops_at_the_limit(self, store):
        put(store, *[row(f"r{i}") for i in range(10)])
        assert store.count(RecordQuery("n"), limit=3) == 3
        assert store.count(RecordQuery("n"), limit=30) == 10

    def test_where_means_what_filters_say(self, store):
        """Every operator over every kind of value, against the one definition of their meaning."""
        chance = random.Random(7)
        values = [
            None,
            True,
            False,
            0,
            1,
            1.0,
            2.5,
            -3,
            "",
            "1",
            "true",
            "abc",
            "a%c",
            "é",
            ["abc", 1],
            [],
            {"a": 1},
            "x.y",
        ]
        rows = [
            row(
                f"r{i}",
                metadata={name: chance.choice(values) for name in chance.sample(["a", "b c", "d.e", "é"], 3)},
                model=chance.choice([None, "gpt", "gp_", ""]),
                score=chance.choice([None, 0.0, 0.5, 1.0]),
                scores={},
                expected=chance.choice(["x", "y"]) if i % 3 else None,
                access_count=chance.randrange(3),
                kind=chance.choice(["success", "failure"]),
                version=chance.choice(["", "1"]),
            )
            for i in range(120)
        ]
        put(store, *rows)
        scalars = [v for v in values if not isinstance(v, list | dict)]
        wheres = [
            {f"metadata.{name}": {op: v}}
            for name in ("a", "b c", "d.e", "é", "none")
            for v in scalars
            for op in ("eq", "ne", "contains")
        ]
        wheres += [
            {f"metadata.{name}": {op: v}} for name in ("a", "é") for v in (0, 1.5, "abc", "") for op in ("gte", "lte")
        ]
        wheres += [{"metadata.a": {"in": scalars[:n]}} for n in (0, 1, 5, 12)] + [
            {"metadata.a": {"exists": e}} for e in (True, False)
        ]
        wheres += [{"model": {op: v}} for v in ("gpt", "gp_", "", "p") for op in ("eq", "ne", "contains", "gte", "lte")]
        wheres += [{"model": {"exists": e}} for e in (True, False)] + [
            {"score": {op: v}} for v in (0, 0.5, 1) for op in ("eq", "ne", "gte", "lte")
        ]
        wheres += [
            {"annotated": True},
            {"annotated": {"ne": True}},
            {"annotated": {"in": [True, False]}},
            {"access_count": {"gte": 1, "lte": 1}},
        ]
        wheres += [
            {"request": "r7"},
            {"request": {"ne": "r7"}},
            {"request": {"in": ["r1", "r2"]}},
            {"version": "1", "kind": "failure"},
        ]
        for where in wheres:
            conditions = parse_where(where)
            expected = {r.id for r in rows if all(holds(c, r) for c in conditions)}
            assert {r.id for r in store.scan(RecordQuery("n", conditions))} == expected, where
            assert store.count(RecordQuery("n", conditions)) == len(expected), where

    # Upkeep

    def test_touches_add_up_and_change_no_revision(self, store):
        used = row()
        put(store, used)
        store.touch_many("n", [Touch(used.id, 2, 50), Touch("nothing", 1, 1)])
        store.touch_many("n", [Touch(used.id, 1, 40)])
        assert store.get_many("n", [used.key]) == [replace(used, access_count=3, last_access=50)]

    def test_duties_are_settled_put_off_and_owed_again(self, store):
        owing = row(score_due=1)
        put(store, owing)
        store.settle_many([Settlement("n", owing.id, Duty.SCORE, done=False, retry_at=99)])
        store.settle_many([Settlement("n", owing.id, Duty.SCORE, done=False, retry_at=100)])
        (now,) = store.get_many("n", [owing.key])
        assert (now.score_due, now.score_tries, now.revision) == (100, 2, 1)
        store.settle_many([Settlement("n", owing.id, Duty.SCORE), Settlement("n", "nothing", Duty.SCORE)])
        store.settle_many([Settlement("n", owing.id, Duty.EMBED, vector=vector(1, 0), then_index=True)])
        (now,) = store.get_many("n", [owing.key])
        assert (now.score_due, now.score_tries, now.embed_due) == (None, 0, None)
        assert now.index_due is not None
        store.settle_many([Settlement("n", owing.id, Duty.INDEX, generation="g1")])
        (now,) = store.get_many("n", [owing.key])
        assert (now.index_due, now.index_generation) == (None, "g1")
        assert store.owe(RecordQuery("n"), Duty.INDEX) == 1
        assert store.count(RecordQuery("n", owed=Duty.INDEX)) == 1
        assert store.owe(RecordQuery("other"), Duty.INDEX) == 0

    def test_a_duty_that_is_not_owed_is_not_settled(self, store):
        current = row()
        put(store, current)
        store.settle_many([Settlement("n", current.id, Duty.EMBED, vector=vector(1, 0))])
        store.settle_many([Settlement("n", current.id, Duty.EMBED, vector=vector(0, 1))])
        assert store.get_vectors("n", [current.id]) == [vector(1, 0)]
        put(store, row(response="newer"))
        store.settle_many([Settlement("n", current.id, Duty.EMBED, vector=vector(0, 1))])
        assert store.get_vectors("n", [current.id]) == [None]

    # Vectors

    def test_vectors_are_kept_beside_their_rows(self, store):
        with_one, without = row("a"), row("b")
        store.put_many([Put(with_one, vector=vector(1, 0, whole=False)), Put(without)])
        assert store.get_vectors("n", [without.id, with_one.id, "nothing"]) == [None, vector(1, 0, whole=False), None]

    def test_readers_of_vectors_hear_of_everything_in_order(self, store):
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

    # Leases

    def test_one_claims_and_the_others_wait(self, store):
        lease = store.claim("n", "k", "me", 60).lease
        assert lease is not None
        assert store.claim("n", "k", "you", 60).lease is None
        assert store.claim("other", "k", "you", 60).lease is not None
        assert store.renew(lease, 60) is not None
        store.release(lease)
        assert store.claim("n", "k", "you", 60).lease is not None
        assert store.renew(lease, 60) is None
        store.release(lease)  # harmless: it is somebody else's now
        assert store.claim("n", "k", "me", 60).lease is None

    def test_a_claim_of_what_is_stored_gets_the_row(self, store):
        stored = row()
        put(store, stored)
        claim = store.claim("n", stored.key, "me", 60)
        assert (claim.record, claim.lease) == (stored, None)
        expired = row("x", expires_at=1)
        put(store, expired)
        claim = store.claim("n", expired.key, "me", 60)
        assert claim.record is None
        assert claim.lease is not None

    def test_tokens_grow_and_who_was_taken_over_is_refused(self, store):
        mine = row()
        first = store.claim("n", mine.key, "me", -1).lease  # expired already
        second = store.claim("n", mine.key, "you", 60).lease
        assert second.token > first.token
        assert put(store, mine, lease=first) == [PutStatus.STALE]
        assert store.get_many("n", [mine.key]) == [None]
        assert put(store, row(response="yours"), lease=second) == [PutStatus.CURRENT]
        store.release(second)
        assert put(store, mine, lease=first) == [PutStatus.STALE]

    def test_of_many_who_claim_at_once_one_gets_the_lease(self, store):
        barrier = threading.Barrier(12)

        def claim(i):
            barrier.wait()
            return store.claim("n", "k", f"owner {i}", 60).lease

        with ThreadPoolExecutor(12) as threads:
            assert sum(lease is not None for lease in threads.map(claim, range(12))) == 1

    # Eviction

    @pytest.mark.parametrize(("order", "first"), [("lru", "b"), ("lfu", "b"), ("fifo", "a"), ("ttl", "a")])
    def test_eviction_spares_the_protected_and_leaves_no_tombstone(self, store, order, first):
        rows = {name: row(name, created_at=at) for at, name in enumerate("abc", 1)}
        mine = [row("m", origin="manual"), row("e", expected="x"), row("i", kind="insight"), row("p", expires_at=1)]
        put(store, *rows.values(), *mine)
        store.touch_many("n", [Touch(rows["a"].id, 2, 9)])
        assert store.usage("n") == Usage(7, sum(r.size_bytes for r in (*rows.values(), *mine)))
        assert [gone.id for gone in store.evict("n", EvictionOrder(order), 2)] == [mine[3].id, rows[first].id]
        assert len(store.evict("n", EvictionOrder(order), 99)) == 2
        assert (store.usage("n").rows, store.usage("other")) == (3, Usage(0, 0))
        assert put(store, rows["a"], mode=PutMode.REPLICATE) == [PutStatus.CURRENT]

    # States and logs

    def test_states_are_compared_and_swapped(self, store):
        assert store.read_state("n", "s") is None
        assert not store.write_state("n", "s", "x", 1)
        assert store.write_state("n", "s", "one \ud800", None)
        assert not store.write_state("n", "s", "x", None)
        assert store.write_state("n", "s", "two", 1)
        state = store.read_state("n", "s")
        assert (state.value, state.revision) == ("two", 2)
        assert store.read_state("other", "s") is None

    def test_logs_are_read_from_a_position(self, store):
        last = store.append_log("n", "l", ["a", "b\0"])
        store.append_log("n", "other", ["x"]), store.append_log("other", "l", ["y"])
        assert store.append_log("n", "l", ["c"]) > last
        entries = store.read_log("n", "l")
        assert [e.entry for e in entries] == ["a", "b\0", "c"]
        assert [e.entry for e in store.read_log("n", "l", after=entries[0].position, limit=1)] == ["b\0"]

    def test_closing_twice_is_fine(self, store):
        put(store, row(id=uuid.uuid4().hex))
        store.close()
        store.close()
