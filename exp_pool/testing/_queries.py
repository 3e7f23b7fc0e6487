"""Contract of a record store about queries: namespaces, conditions, orders, limits."""

from __future__ import annotations

import random
from typing import Any

from exp_pool.core.contracts.plugs import SCAN_ORDERS, Completion, RecordQuery, RecordStore, Touch
from exp_pool.core.filters import holds, parse_where
from exp_pool.core.record import TaskKind
from exp_pool.runtime import clock
from exp_pool.testing.factories import put, row

_DAY = 1_767_312_000 * 10**6  # 2026-01-02, in microseconds


class QueryRules:
    """Queries mean what `filters` says, and nothing crosses a namespace."""

    # Queries

    def test_nothing_crosses_a_namespace(self, store: RecordStore) -> None:
        mine, other = row("same"), row("same", namespace="other")
        put(store, mine, other)
        assert store.get_many("n", [other.id], by="id") == [None]
        assert store.delete_many("n", [other.id]) == []
        assert list(store.scan(RecordQuery("n"))) == [mine]
        store.touch_many("n", [Touch(other.id, 1, 1)])
        store.complete_many([Completion("n", other.id, TaskKind.EMBED)])
        assert store.get_many("other", [other.key]) == [other]
        assert store.get_vectors("n", [other.id]) == [None]

    def test_expired_quarantined_and_owed_rows_are_told_apart(self, store: RecordStore) -> None:
        now = clock.now_us()
        fresh, expired = row("fresh", expires_at=now + 10**9), row("expired", expires_at=now - 1)
        quarantined, later = row("q", trust="quarantined"), row("later", embed_due=now + 10**9)
        put(store, fresh, expired, quarantined, later)

        def requests(**how: Any) -> set[str]:
            return {r.request for r in store.scan(RecordQuery("n", **how))}

        assert requests() == {"fresh", "expired", "q", "later"}
        assert requests(expired=False) == {"fresh", "q", "later"}
        assert requests(quarantined=False) == {"fresh", "expired", "later"}
        assert requests(pending=TaskKind.EMBED) == {"fresh", "expired", "q"}
        assert requests(pending=TaskKind.SCORE) == set()
        assert store.count(RecordQuery(None)) == 4

    def test_scans_are_ordered_limited_and_unaffected_by_what_happens_meanwhile(self, store: RecordStore) -> None:
        rows = [row(f"r{i}", created_at=i // 2, score=[None, 0.5, 0.25][i % 3]) for i in range(1200)]
        put(store, *rows)
        assert list(store.scan(RecordQuery("n"))) == rows  # ties in the order of insertion
        assert list(store.scan(RecordQuery("n"), limit=3)) == rows[:3]
        scores = [r.score for r in store.scan(RecordQuery("n"), order_by="score", descending=True)]
        assert scores == sorted([s for s in scores if s is not None], reverse=True) + [None] * 400
        assert [r.score for r in store.scan(RecordQuery("n"), order_by="score")][:400] == [None] * 400
        for order in SCAN_ORDERS:
            assert len(list(store.scan(RecordQuery("n"), order_by=order))) == 1200
        deleted = rows[1100]
        seen: list[str] = []
        for record in store.scan(RecordQuery("n")):
            if not seen:
                store.delete_many("n", [deleted.id])
                put(store, row("new", created_at=10**6))
            seen.append(record.id)
        assert len(seen) == len(set(seen)) in (1199, 1200)

    def test_counting_stops_at_the_limit(self, store: RecordStore) -> None:
        put(store, *[row(f"r{i}") for i in range(10)])
        assert store.count(RecordQuery("n"), limit=3) == 3
        assert store.count(RecordQuery("n"), limit=30) == 10

    def test_where_means_what_filters_say(self, store: RecordStore) -> None:
        """Every operator over every kind of value, against the one definition of their meaning."""
        chance = random.Random(7)
        values = [None, True, False, 0, 1, 1.0, 2.5, -3, "", "1", "true", "abc", "a%c", "é", ["abc", 1], [], {"a": 1}]
        values.append("x.y")
        rows = [
            row(
                f"r{i}",
                metadata={name: chance.choice(values) for name in chance.sample(["a", "b c", "d.e", "é"], 3)}
                | {"deep": {"x": {"y": i % 5}}},
                arguments={
                    "q": "long " * (20_000 if i == 7 else 1),  # compressed
                    "model": chance.choice(["small", "large", 1, None]),
                    "options": {"t": i / 120},
                },
                created_at=_DAY + i % 2 * 3600 * 10**6,
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
        wheres: list[dict[str, Any]] = [
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
        wheres += [{"model": {"not_in": v}} for v in ([], ["gpt"], ["gp_", ""])] + [
            {"metadata.a": {"not_in": scalars[:5]}}
        ]
        wheres += [{"metadata.a": {"not_in": []}}, {"score": {"gt": 0.5}}, {"score": {"lt": 0.5}}]
        wheres += [
            {name: {"prefix": v}} for name in ("model", "metadata.a", "request") for v in ("", "g", "gp_", "a%", "r1")
        ]
        wheres += [{f"metadata.{name}": {op: v}} for name in ("a", "é") for v in (0, 1, "abc") for op in ("gt", "lt")]
        wheres += [{"metadata.a.a": 1}, {"metadata.a.a": {"exists": False}}, {"metadata.d.e": {"exists": True}}]
        wheres += [
            {"metadata.deep.x.y": {"gte": 3}},
            {"metadata.deep.x": {"exists": True}},
            {"metadata.deep.x.z": {"ne": 1}},
        ]
        wheres += [{"arguments.model": v} for v in ("small", 1, None)] + [{"arguments.model": {"prefix": "sm"}}]
        wheres += [{"arguments.options.t": {"gt": 0.3}}, {"arguments.none": {"exists": False}}]
        wheres += [{"created_at": {op: "2026-01-02"}} for op in ("gt", "gte", "lt", "lte", "eq")]
        for where in wheres:
            conditions = parse_where(where)
            expected = {r.id for r in rows if all(holds(c, r) for c in conditions)}
            assert {r.id for r in store.scan(RecordQuery("n", conditions))} == expected, where
            assert store.count(RecordQuery("n", conditions)) == len(expected), where
