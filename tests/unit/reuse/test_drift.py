"""The alarm for answers that go wrong more often than was predicted: late rather than false, and not too late."""

import random

import pytest

from exp_pool.reuse import drift
from exp_pool.reuse.drift import DriftDetector

STREAMS, LENGTH = 40, 3000

PREDICTIONS = {
    "low": lambda coin: coin.uniform(0, 0.05),
    "none": lambda coin: 0.0,
    "all": lambda coin: coin.random(),
    "alike": lambda coin: 0.2,
    "sure and unsure": lambda coin: coin.choice((0.001, 0.45)),
}


def raised(seed, predict, wrong, length=LENGTH):
    """After how many labels the alarm is raised; None if it is not."""
    coin, alarm = random.Random(seed), DriftDetector()
    for number in range(1, length + 1):
        predicted = predict(coin)
        if alarm.raised_by(predicted, wrong=coin.random() < wrong(predicted, number)):
            return number
    return None


@pytest.mark.parametrize("predictions", PREDICTIONS)
def test_no_alarm_while_predictions_hold(predictions):
    assert {raised(seed, PREDICTIONS[predictions], lambda p, _: p) for seed in range(STREAMS)} == {None}


@pytest.mark.parametrize("predictions", PREDICTIONS)
def test_no_alarm_where_answers_are_better_than_predicted(predictions):
    assert {raised(seed, PREDICTIONS[predictions], lambda p, _: p / 2) for seed in range(STREAMS)} == {None}


@pytest.mark.parametrize("predictions", PREDICTIONS)
def test_no_alarm_in_an_order_of_right_ones_first(predictions):
    """However long all went well, what comes then is judged by itself: neither held back nor hurried."""
    after = 1000
    for seed in range(STREAMS):
        assert raised(seed, PREDICTIONS[predictions], lambda p, number: p if number > after else 0.0) is None


@pytest.mark.parametrize("when", [1, 500, 2500])
def test_an_alarm_soon_after_a_shift(when):
    for seed in range(STREAMS):
        at = raised(seed, PREDICTIONS["low"], lambda p, number: p if number < when else 0.6)
        assert at is not None
        assert when <= at < when + 200, seed


def test_a_small_shift_is_found_too():
    for seed in range(STREAMS):
        at = raised(seed, PREDICTIONS["low"], lambda p, number: p if number < 500 else p + 0.2)
        assert at is not None
        assert 500 <= at


def test_what_nobody_relies_on_raises_nothing():
    alarm = DriftDetector()
    assert not any(alarm.raised_by(0.97, wrong=True) for _ in range(5000))


def test_the_game_is_fair_or_worse_at_what_is_expected():
    """On average no better gains by a label whose chance is at most what is expected of it."""
    for predicted in (0.0, 0.01, 0.1, 0.3, 0.5):
        won, lost = DriftDetector(), DriftDetector()
        won.raised_by(predicted, wrong=True), lost.raised_by(predicted, wrong=False)
        for up, down in zip(won._wealth, lost._wealth, strict=True):
            assert up > 1 > down > 0
            assert predicted * up + (1 - predicted) * down <= 1
            expected = min(drift._FACTOR * predicted + drift._SLACK, 0.95)
            assert expected * up + (1 - expected) * down <= 1 + 1e-12
