"""Pools to curate, and everything that a change may have changed about one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from exp_pool import MISSING, Experience, Metric, Score, Step
from exp_pool.protocols import RecordQuery
from exp_pool.testing.factories import NASTY_TEXTS

ANSWERS = [
    "text",
    None,
    0,
    1.5,
    True,
    [],
    {"a": [1, {"b": None}]},
    (1, 2),
    b"\x00",
    {1, 2},
    datetime(2026, 1, 2, tzinfo=UTC),
]
METADATA = [
    {},
    {"n": 1, "team": "a"},
    {"n": 2**70, "a.b.c": "dots", "": "empty"},
    {"n": None, "mixed": 1, "tags": ["x"], "flag": True, "f": 1.5, "gap": 3},
    {"mixed": "text", "flag": False, "nan": float("nan"), "at": datetime(2026, 5, 1, tzinfo=UTC)},
]


def of_everything(count=24, function="ask", **fields):
    """Experiences with something of everything that a frame shows."""
    return [
        Experience(
            function=function,
            request=f"q{i} {NASTY_TEXTS[i % len(NASTY_TEXTS)]}",
            response=ANSWERS[i % len(ANSWERS)],
            expected=ANSWERS[(i + 1) % len(ANSWERS)] if i % 4 == 0 else MISSING,
            metadata=METADATA[i % len(METADATA)],
            scores={
                "exact": Score(value=i % 5 / 5, reason="why", scorer="exact", version="2"),
                "s.dot": Score(value=1.0),
            }
            if i % 3
            else {},
            metric=Metric(time_s=0.5, tokens_in=i) if i % 2 else Metric(),
            trajectory=[Step(plan="p", reward=1.0)] if i % 6 == 0 else [],
            model=NASTY_TEXTS[i % len(NASTY_TEXTS)] or None,
            created_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=i),
            expires_at=datetime(9000, 1, 1, tzinfo=UTC) if i % 5 == 0 else None,
            **fields,
        )
        for i in range(count)
    ]


def contents(pool, use=True):
    """Everything that people know of the pool's experiences, history too: as bytes, but for revisions.

    Without `use` also how often they were used, and when, which the worker counts a moment later.
    """
    rows = {row.id: row for row in pool.store.scan(RecordQuery(pool.namespace, history=True))}
    experiences = {exp.id: exp.to_dict() for exp in pool.iter_exps(history=True)}
    if not use:
        rows = {id_: replace(row, access_count=0) for id_, row in rows.items()}
        for experience in experiences.values():
            experience.pop("access_count", None)
            experience.pop("last_access", None)
    return {
        id_: (
            experiences[id_],
            *(row.response, row.expected, row.metadata, row.scores, row.score, row.size_bytes, row.reuse_scope),
            *(row.is_current, row.superseded_by, row.principal, row.access_count, row.score_due),
        )
        for id_, row in rows.items()
    }


def revisions(pool):
    return {row.id: row.revision for row in pool.store.scan(RecordQuery(pool.namespace, history=True))}


def filled(manager):
    """A pool with a bit of everything."""

    @manager.exp_cache(name="ask", record_failures=True)
    def ask(q):
        if q == "bad":
            raise ValueError("boom")
        return {"q": q, "tuple": (1, b"x", "\ud800")}

    for q in ("a", "b", "c"):
        ask(q)
    with pytest.raises(ValueError, match="boom"):
        ask("bad")
    ask.refresh("a")
    manager.sync.annotate(ask.lookup("b").experience.id, expected=["right"])
    manager.sync.update_exp(ask.lookup("c").experience.id, scores={"s": Score(value=0.5, reason="so so", scorer="s")})
    ask("b"), ask("c")
    manager.sync.create_exp(Experience(function="other", request="by hand", response=None, trust="quarantined"))
    manager.sync.flush()
    return ask
