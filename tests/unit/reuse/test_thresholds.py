"""Exact, perfect and threshold judges: which hit answers, and that a reason is given."""

import pytest

from exp_pool import Experience, Hit, PerfectJudge, Score, ThresholdJudge
from exp_pool.protocols import Question
from exp_pool.reuse.judges import ExactJudge


def hit(similarity, score=None, found_by="semantic"):
    scores = {} if score is None else {"s": Score(value=score)}
    return Hit(Experience(function="f", request="r", response=1, scores=scores), similarity, found_by)


@pytest.mark.parametrize(
    ("judge", "hits", "chosen"),
    [
        (ExactJudge(), [hit(0.99)], None),
        (ExactJudge(), [hit(1.0, found_by="exact"), hit(0.9)], 0),
        (PerfectJudge(0.8), [hit(1.0, 0.8, "exact")], 0),
        (PerfectJudge(0.8), [hit(1.0, None, "exact"), hit(1.0, 1.0)], None),
        (ThresholdJudge(0.9), [hit(0.89)], None),
        (ThresholdJudge(0.9), [hit(0.9), hit(0.95)], 0),
        (ThresholdJudge(0.9, min_score=0.5), [hit(0.99), hit(0.95, 0.4), hit(0.91, 0.5)], 2),
        (ThresholdJudge(0.9), [], None),
    ],
)
def test_judges(judge, hits, chosen):
    verdict = judge.judge(Question("f", "r", tuple(hits)))
    assert verdict.hit is (None if chosen is None else hits[chosen])
    assert verdict.reason
