"""Guarantee 12, the bound: on real questions wrong reuses stay within the rate, in any order, and many are answered.

The vectors are those of all-MiniLM-L6-v2 for the texts of the first 1,500 pairs, in their order, as whole numbers
(cosine to the originals at least 0.9999). `benchmarks/reuse.py` is the long form: 20,198 pairs, 20 orders.
"""

import random
from pathlib import Path

import numpy as np
import pytest

from exp_pool import ThresholdJudge, VerifiedJudge
from exp_pool.evaluation import evaluate

pytestmark = pytest.mark.slow

STORED = Path(__file__).parents[1] / "data" / "question_vectors.npz"
COUNT = 1500


class Stored:
    identity = "all-MiniLM-L6-v2, stored"

    def __init__(self, pairs):
        texts = dict.fromkeys(text for a, b, _ in pairs for text in (a, b))
        vectors = np.load(STORED)["vectors"].astype(np.float32)
        assert len(texts) == len(vectors)
        self.vectors = dict(zip(texts, vectors, strict=True))

    def embed(self, texts):
        return np.array([self.vectors[text] for text in texts])

    def fits(self, texts):
        return [True] * len(texts)


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
