"""Calls that were shown something, and what came of them."""

import random

from exp_pool import Experience

EFFECTS = {"bad": -0.6, "idle": 0.0, "dull": 0.0, "good": 0.1}


def candidate(pool, name, **fields):
    """An experience that calls may be shown."""
    fields = {"origin": "automatic", **fields}
    return pool.create_exp(Experience(function="act", request=f"how to {name}", response=name, id=name, **fields))


def called(pool, number, shown=(), left_out=(), holdout=0.3):
    """A call as the decorator stores it."""
    metadata = {"exp_pool": {"holdout": holdout, "left_out": list(left_out)}} if holdout else {}
    made = Experience(
        function="act",
        request=f"call {number}",
        response="done",
        parents=list(shown),
        metadata=metadata,
        origin="automatic",
    )
    return pool.create_exp(made)


def live(pool, effects, count, *, seed=0, base=0.5, holdout=0.3):
    """Calls that are shown these candidates, each worth so much, and feedback on each."""
    chance = random.Random(seed)
    for number in range(count):
        shown = [name for name in effects if chance.random() >= holdout]
        id_ = called(pool, f"{seed}.{number}", shown, [n for n in effects if n not in shown], holdout)
        success = base + sum(effects[name] for name in shown)
        pool.feedback(id_, float(chance.random() < success))


def lifts_of(pool):
    (function,) = pool.report().functions
    return {lift.id: lift for lift in function.lifts}


def unattended(pool):
    """Nothing is done later but by `flush`: tests say when the rule looks."""
    pool._worker._start = lambda: None
    return pool
