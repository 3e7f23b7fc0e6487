"""Which experiences help? Simulated agents, whose calls leave some experiences out at random and say how they went.

Of twelve pieces of advice three help, two hurt and seven do nothing. Who counts how calls went that were shown a piece
of advice credits its company; leaving each out of one call in five tells them apart. What demonstrably hurts is
quarantined by the pool itself. (Reward in real life: did the tests pass, did the user take the answer.)
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from exp_pool import Experience, ExpManager, Inject

EFFECTS = {
    "run the tests first": +0.25,
    "quote the line that fails": +0.20,
    "read the traceback from its end": +0.15,
    "delete the test that fails": -0.35,
    "retry until it works": -0.25,
    **{f"mind house rule {number}": 0.0 for number in range(1, 8)},
}
ADVICE, CALLS, TOGETHER = list(EFFECTS), 1_200, 4
chance = random.Random(8)  # noqa: S311


def meaning(texts: Sequence[str]) -> np.ndarray:
    """A stand-in for an embedder: a bug is near the pieces of advice that it is about, and far from other bugs."""
    vectors = np.zeros((len(texts), len(ADVICE) + CALLS))
    for vector, text in zip(vectors, texts, strict=True):
        bug, _, about = text.rpartition(": ")
        vector[[ADVICE.index(advice) for advice in about.split(", ")]] = 0.15
        if bug:
            vector[len(ADVICE) + int(bug.removeprefix("bug "))] = 1.0
    return vectors


def fix(bug: str, experiences: Sequence[Experience] = ()) -> str:
    return f"a patch of {bug}, having read {len(experiences)} pieces of advice"  # your agent


def main() -> None:
    with ExpManager(store="memory://", index="exact://", embedder=meaning) as manager:
        pool = manager.sync
        pool.create_exps([Experience(function="fix", request=advice, response=advice) for advice in ADVICE])
        pool.flush()
        worth = {experience.id: EFFECTS[experience.request] for experience in pool.iter_exps()}

        shown = Inject("experiences", top_k=TOGETHER, min_similarity=0.12, holdout=0.2)
        agent = manager.exp_cache(name="fix", request="bug", inject=shown)(fix)
        for number in range(CALLS):
            answer = agent.call(f"bug {number}: {', '.join(chance.sample(ADVICE, TOGETHER))}")
            success = 0.5 + sum(worth[id_] for id_ in answer.parents)
            pool.feedback(answer.id, float(chance.random() < success), reason="simulated")
            if number % 100 == 0:
                pool.flush()  # the background worker looks when it has time; here it looks every hundred calls
        pool.flush()

        print(pool.report())
        for experience in pool.iter_exps({"trust": "quarantined"}):
            print(f"\n{experience.request}:\n  {pool.history(experience.id)[-1].detail['reason']}")


if __name__ == "__main__":
    main()
