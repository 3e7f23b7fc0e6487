"""Judges tried on labelled pairs: what is counted, in which order, and what a judge that learns makes of an order."""

import asyncio
import math

import numpy as np
import pytest
from conftest import letters
from support.judged_calls import labelled

from exp_pool import ExactJudge, ThresholdJudge, VerifiedJudge
from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.evaluation import Evaluation, Tally, evaluate
from exp_pool.protocols import Verdict


def angles(texts):
    """What stands in a text behind the @ is its direction, in degrees."""
    turned = [math.radians(float(text.rpartition("@")[2])) for text in texts]
    return np.array([[math.cos(angle), math.sin(angle)] for angle in turned])


# (a, b, same), similarity: 1.0 (identical), 1.0, 0.98, 0.94, 0.87, 0.5, 0.98
PAIRS = [
    ("one@0", "one@0", True),
    ("one@0", "two@0", True),
    ("one@0", "two@10", False),
    ("one@0", "two@20", True),
    ("one@0", "two@30", False),
    ("one@0", "two@60", 0),
    ("two@10", "one@0", 1),
]
IN_ORDER = [range(len(PAIRS))]


def tally(judge, **settings):
    (found,) = evaluate(judge, PAIRS, **{"embedder": angles, "orders": IN_ORDER, **settings})
    return found.total, found.answered, found.wrong, found.explored


@pytest.mark.parametrize(
    ("least", "answered", "wrong"), [(0.999, 2, 0), (0.97, 4, 1), (0.9, 5, 1), (0.8, 6, 2), (0.0, 7, 3)]
)
def test_a_threshold_answers_what_is_similar_enough(least, answered, wrong):
    assert tally(ThresholdJudge(least, guard=False)) == (7, answered, wrong, 0)


def test_an_exact_judge_answers_what_is_identical():
    assert tally(ExactJudge()) == tally("exact") == (7, 1, 0, 0)
    (found,) = evaluate(ExactJudge(), [("one@0", "one@0", False)], embedder=angles)
    assert (found.answered, found.wrong) == (1, 1), "an identical request that nevertheless wants another answer"


class Second:
    """Takes what is less similar than 0.95, and remembers what it was asked."""

    candidates = 3

    def __init__(self):
        self.asked = []

    def judge(self, question):
        self.asked.append((question.request, [hit.experience.request for hit in question.hits]))
        return Verdict(next((hit for hit in question.hits if hit.similarity < 0.95), None))


class Later(Second):
    async def judge(self, question):
        await asyncio.sleep(0)
        return super().judge(question)


@pytest.mark.parametrize("kind", [Second, Later])
def test_a_judge_of_ones_own_is_asked_about_each_pair_in_turn(kind):
    judge = kind()
    assert tally(judge) == (7, 3, 2, 0)
    assert judge.asked == [(b, [a]) for a, b, _ in PAIRS]


def test_a_judge_that_raises_is_told_to_who_tries_it():
    class Raises:
        candidates = 1

        def judge(self, question):
            raise ZeroDivisionError("broken")

    with pytest.raises(ZeroDivisionError, match="broken"):
        tally(Raises())


def test_a_judge_that_names_what_it_was_not_shown_has_abstained():
    class Forges:
        candidates = 1

        def judge(self, question):
            hit = question.hits[0]
            return Verdict(type(hit)(hit.experience.clone(id="another"), 1.0, "exact"))

    assert tally(Forges()) == (7, 0, 0, 0)


def test_what_the_embedder_does_not_read_whole_is_not_answered():
    class Short:
        identity = "short"

        def embed(self, texts):
            return np.ones((len(texts), 2))

        def fits(self, texts):
            return [len(text) < 10 for text in texts]

    pairs = [("short", "other", True), ("short", "long " * 9, True), ("long " * 9, "short", True)]
    (found,) = evaluate(ThresholdJudge(0.5, guard=False), pairs, embedder=Short())
    assert (found.total, found.answered, found.wrong) == (3, 1, 0)


# ── Orders ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_so_many_random_orders_and_the_same_again_with_the_same_seed():
    def asked(**settings):
        judge = Second()
        found = evaluate(judge, PAIRS, embedder=angles, **settings)
        return found, judge.asked

    (three, asked_3), (again, asked_again), (other, asked_other) = (
        asked(orders=3),
        asked(orders=3),
        asked(orders=3, seed=9),
    )
    assert three == again
    assert asked_3 == asked_again != asked_other
    assert len(three) == len(other) == 3
    for part in range(3):
        assert sorted(asked_3[7 * part : 7 * part + 7]) == sorted((b, [a]) for a, b, _ in PAIRS)
    assert asked_3[:7] != asked_3[7:14] != asked_3[14:]


@pytest.mark.parametrize("order", [[6, 0], [2, 2, 2], [], range(7), (5,)])
def test_an_order_of_ones_own(order):
    judge = Second()
    (found,) = evaluate(judge, PAIRS, embedder=angles, orders=[order])
    assert judge.asked == [(PAIRS[place][1], [PAIRS[place][0]]) for place in order]
    assert found.total == len(order)


@pytest.mark.parametrize("order", [range(7), [6, 5, 4, 3, 2, 1], [3], []])
def test_halves_add_up(order):
    (found,) = evaluate(ThresholdJudge(0.9, guard=False), PAIRS, embedder=angles, orders=[order])
    first, second = found.halves
    for name in ("total", "answered", "wrong", "explored"):
        assert getattr(first, name) + getattr(second, name) == getattr(found, name)
    assert abs(first.total - second.total) <= 1
    (alone,) = evaluate(ThresholdJudge(0.9, guard=False), PAIRS, embedder=angles, orders=[list(order)[: first.total]])
    assert Tally(alone.total, alone.answered, alone.wrong, alone.explored) == first


def test_shares_are_of_all_requests():
    found = Evaluation(8, 4, 1, 2, (Tally(4, 1, 0, 1), Tally(4, 3, 1, 1)))
    assert (found.answered_share, found.error_rate) == (0.5, 0.125)
    assert (Tally(0, 0, 0, 0).answered_share, Tally(0, 0, 0, 0).error_rate) == (0.0, 0.0)


BAD = {
    "no pairs": ({"pairs": []}, InvalidInputError, "no pairs"),
    "two texts": ({"pairs": [("a@0", "b@0")]}, InvalidInputError, "no labelled pair"),
    "a label in words": ({"pairs": [("a@0", "b@0", "yes")]}, InvalidInputError, "no labelled pair"),
    "a label of 2": ({"pairs": [("a@0", "b@0", 2)]}, InvalidInputError, "no labelled pair"),
    "no text": ({"pairs": [(1, "b@0", True)]}, InvalidInputError, "no labelled pair"),
    "a text": ({"pairs": ["abc"]}, InvalidInputError, "no labelled pair"),
    "no orders": ({"orders": 0}, InvalidInputError, "orders=0"),
    "fewer": ({"orders": -3}, InvalidInputError, "orders=-3"),
    "beyond": ({"orders": [[0, 7]]}, InvalidInputError, "position 7"),
    "before": ({"orders": [[-1]]}, InvalidInputError, "position -1"),
    "no judge": ({"judge": "surely"}, ConfigurationError, "no judge"),
    "no embedder": ({"embedder": "none"}, ConfigurationError, "embedder='none'"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_tried_is_refused(bad):
    given, error, match = BAD[bad]
    settings = {"judge": ExactJudge(), "pairs": PAIRS, "embedder": angles, **given}
    with pytest.raises(error, match=match):
        evaluate(settings.pop("judge"), settings.pop("pairs"), **settings)


# ── A judge that learns ───────────────────────────────────────────────────────────────────────────────────────────────

LEARNABLE = labelled(1600)
RATE = 0.2
ORDERS = {
    "random": np.random.default_rng(1).permutation(1600),
    "positives first": sorted(range(1600), key=lambda place: not LEARNABLE[place][2]),
    "negatives first": sorted(range(1600), key=lambda place: LEARNABLE[place][2]),
    "sorted by class": sorted(range(1600), key=lambda place: LEARNABLE[place][1]),
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_judge_that_learns_stays_within_its_rate_in_any_order(order):
    (found,) = evaluate(VerifiedJudge(RATE), LEARNABLE, embedder=letters, orders=[list(map(int, ORDERS[order]))])
    assert found.wrong <= RATE * found.total
    assert found.answered + found.explored <= found.total
    if order == "random":
        assert found.answered > 100
        assert found.explored > 0
        assert found.halves[1].answered > found.halves[0].answered
        assert found.alarms == ()


def test_it_learns_anew_in_each_order_and_the_same_from_the_same():
    order = list(range(700))
    judge = VerifiedJudge(RATE)
    twice = [evaluate(judge, LEARNABLE, embedder=letters, orders=[order], seed=5)[0] for _ in range(2)]
    assert twice[0] == twice[1]
    first, second = evaluate(judge, LEARNABLE, embedder=letters, orders=[order, order], seed=5)
    assert first == twice[0]
    assert second.total == first.total
    assert second.halves[0].answered <= first.halves[0].answered + 50, "it begins with nothing again"


def test_its_own_idea_of_the_same_is_not_asked():
    def same(stored, live):
        raise AssertionError("the labels are given")

    order = [list(range(500))]
    plain = evaluate(VerifiedJudge(RATE), LEARNABLE, embedder=letters, orders=order)
    assert evaluate(VerifiedJudge(RATE, same=same), LEARNABLE, embedder=letters, orders=order) == plain


def test_the_alarm_is_raised_where_what_was_learned_holds_no_longer():
    shifted = [(a, b, False) for a, b, same in labelled(3000, seed=5, easy=1.0) if same]
    easy = LEARNABLE[:1000]
    (found,) = evaluate(VerifiedJudge(RATE), easy + shifted, embedder=letters, orders=[range(1000 + len(shifted))])
    assert found.alarms
    assert found.alarms[0] > 1000
    assert found.alarms[0] < 1000 + len(shifted) / 2
    assert found.wrong <= RATE * found.total


def test_a_judge_that_was_taught_answers_sooner():
    order = [list(range(300))]
    pairs = labelled(300, seed=7)
    (untaught,) = evaluate(VerifiedJudge(0.4), pairs, embedder=letters, orders=order)
    (taught,) = evaluate(VerifiedJudge.fit(LEARNABLE, max_error_rate=0.4), pairs, embedder=letters, orders=order)
    assert taught.answered > untaught.answered
    assert taught.wrong <= 0.4 * taught.total
