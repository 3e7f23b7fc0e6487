"""Guarantee 12, the bound: on real questions wrong reuses stay within the rate, in any order, and many are answered.

`questions` has the vectors. `benchmarks/reuse.py` is the long form: 20,198 pairs, 20 orders.
"""

import random

import numpy as np
import pytest
from questions import COUNT, Stored

from exp_pool import ThresholdJudge, VerifiedJudge
from exp_pool.evaluation import evaluate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pairs(question_pairs):
    return question_pairs[:COUNT]


@pytest.fixture(scope="module")
def embedder(pairs):
    return Stored(pairs)


@pytest.fixture(scope="module")
def cosines(pairs, embedder):
    unit = {text: vector / np.linalg.norm(vector) for text, vector in embedder.vectors.items()}
    return [float(unit[a] @ unit[b]) for a, b, _ in pairs]


def shuffled(seed):
    places = list(range(COUNT))
    random.Random(seed).shuffle(places)
    return places


@pytest.mark.parametrize("seed", range(2))
def test_wrong_answers_stay_within_the_rate_and_many_are_answered(pairs, embedder, seed):
    (run,) = evaluate(VerifiedJudge(max_error_rate=0.05), pairs, embedder=embedder, orders=[shuffled(seed)], seed=seed)
    assert run.total == COUNT
    assert run.error_rate <= 0.05
    assert run.halves[1].answered_share > 0.05  # a threshold of 0.95 answers 8% of these
    assert run.explored > 0


def test_the_order_may_be_anyones(pairs, embedder, cosines):
    """All that is right first, all that is wrong first, by falling similarity: the coin knows nothing of it."""
    places = shuffled(7)
    orders = [
        sorted(places, key=lambda place: not pairs[place][2]),
        sorted(places, key=lambda place: bool(pairs[place][2])),
        sorted(places, key=lambda place: -cosines[place]),
    ]
    for run in evaluate(VerifiedJudge(max_error_rate=0.1), pairs, embedder=embedder, orders=orders):
        assert run.error_rate <= 0.1


def test_when_easy_questions_turn_hard_it_notices(pairs, embedder, cosines):
    """First near pairs are the same, then they are not: what was learned holds no longer."""
    near = [place for place in shuffled(3) if cosines[place] > 0.8]
    easy, hard = [p for p in near if pairs[p][2]], [p for p in near if not pairs[p][2]]
    far = [place for place in shuffled(4) if cosines[place] <= 0.6][: len(easy)]
    before = [place for two in zip(easy, far, strict=False) for place in two]
    (run,) = evaluate(VerifiedJudge(max_error_rate=0.1), pairs, embedder=embedder, orders=[before + hard])
    assert run.error_rate <= 0.1
    assert any(place > len(before) for place in run.alarms)
    assert not any(place <= len(before) for place in run.alarms)


def test_a_threshold_that_looks_careful_breaks_the_rate(pairs, embedder):
    """What the bound is for: the cosine that most people would choose answers more than it may."""
    (run,) = evaluate(ThresholdJudge(0.85), pairs, embedder=embedder, orders=[shuffled(0)])
    assert run.error_rate > 0.05
