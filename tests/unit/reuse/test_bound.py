"""The bound on wrong answers: a fair game whatever the requests are, and what follows from that."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pool.reuse import bound as module
from exp_pool.reuse.bound import Bound
from exp_pool.reuse.judge_memory import JudgeMemory
from exp_pool.reuse.pair_features import PairFeatures
from exp_pool.reuse.training_examples import TrainingExample, answers_entry, label_entry

BETS = range(len(module._BETS))
PREDICTED = (0.0, 1e-6, 0.01, 0.3, 0.99, 1.0)
CONFIDENCE = 0.95


def least_chance(place):
    return Bound(given_up=place).least_chance


def wager(place, chance, predicted, wrong):
    """What one request does to exp(a S - W) of one bet: the factor if it is answered, and if it is explored."""
    a = module._BETS[place].a
    answered, explored = Bound(given_up=place), Bound(given_up=place)
    answered.answered(1, predicted, chance)
    explored.explored(chance, predicted, wrong=wrong)
    return math.exp(a * wrong - answered.weights[place]), math.exp(-explored.weights[place])


@pytest.mark.parametrize("place", BETS)
@pytest.mark.parametrize("wrong", [False, True])
def test_each_request_is_a_fair_game_whatever_the_label(place, wrong):
    for share, predicted in itertools.product((0.0, 0.01, 0.2, 0.7, 0.999), PREDICTED):
        chance = least_chance(place) + share * (1 - least_chance(place))
        answered, explored = wager(place, chance, predicted, wrong)
        assert (1 - chance) * answered + chance * explored == pytest.approx(1, abs=1e-12), (chance, predicted)
        assert answered > 0 < explored


@given(st.floats(1e-9, 0.999), st.sampled_from(PREDICTED), st.booleans())
def test_what_was_explored_less_often_than_any_bet_needs_is_no_gain_either(chance, predicted, wrong):
    last = BETS[-1]
    answered, explored = wager(last, chance, predicted, wrong)
    assert (1 - chance) * answered + chance * explored <= 1 + 1e-9


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.001, 1.0), st.integers(0, 2)), max_size=60))
def test_it_is_a_number_whatever_comes(entries):
    bound = Bound()
    for predicted, chance, kind in entries:
        if kind == 0:
            bound.answered(3, 3 * predicted, chance)
        elif chance < 1:
            bound.explored(chance, predicted, wrong=kind == 1)
        else:
            bound.abstained()
        bound.settle(CONFIDENCE)
        assert not any(map(math.isnan, bound.weights))
        most = bound.most_wrong(CONFIDENCE)
        assert 0 <= most < math.inf
        assert bound.room(0.02, CONFIDENCE) == pytest.approx(0.02 * (bound.requests + 1) - 1 - most)


def mixture(bound, wrong_answers):
    """exp(a S - W), mixed over the bets that are still used."""
    used = list(zip(module._BETS, bound.weights, strict=True))[bound.given_up :]
    return sum(bet.share * math.exp(bet.a * wrong_answers - weight) for bet, weight in used)


@pytest.mark.parametrize("confidence", [0.6, 0.95, 0.999])
def test_the_most_wrong_is_where_the_mixture_reaches_one_over_alpha(confidence):
    coin = random.Random(1)
    bound = Bound()
    assert sum(bet.share for bet in module._BETS) == pytest.approx(1), "or the mixture does not begin at 1"
    for _ in range(300):
        chance = max(bound.least_chance, coin.uniform(0.01, 0.9))
        if coin.random() < chance:
            bound.explored(chance, 0.02, wrong=coin.random() < 0.02)
        else:
            bound.answered(1, 0.02, chance)
        if bound.requests % 100 == 0:
            bound.settle(confidence)
        most = bound.most_wrong(confidence)
        assert mixture(bound, most) * (1 - confidence) == pytest.approx(1, rel=1e-6)


# ── Against an adversary, who knows everything but the next coin ──────────────────────────────────────────────────────

STREAMS, LENGTH, ALPHA = 4000, 150, 1 - CONFIDENCE


def played(limit, streams=STREAMS):
    """The share of streams whose mixture ever reaches the limit: all are wrong, until it has, and predicted as right.

    The bound's arithmetic written anew for many streams at once.
    """
    coin = np.random.default_rng(7)
    a, share = (np.array(values) for values in zip(*((bet.a, bet.share) for bet in module._BETS), strict=True))
    chance = Bound().least_chance
    lost = -np.log((1 - (1 - chance) * np.exp(a)) / chance)
    wrong_answers, weights, reached = np.zeros(streams), np.zeros((streams, len(a))), np.zeros(streams, bool)
    for _ in range(LENGTH):
        explored = coin.random(streams) < chance
        wrong_answers += ~explored & ~reached
        weights += np.outer(explored & ~reached, lost)
        reached |= (share * np.exp(a * wrong_answers[:, None] - weights)).sum(axis=1) >= limit
    return reached.mean()


def slack(streams):
    return 3 * math.sqrt(ALPHA * (1 - ALPHA) / streams)


def test_an_adversary_exceeds_the_bound_no_more_often_than_is_promised():
    assert 0.2 * ALPHA < played(1 / ALPHA) <= ALPHA + slack(STREAMS), "and the game is worth playing"


def test_a_bound_without_its_price_is_exceeded():
    assert played(1.0001) > 5 * ALPHA


def exceeded(confidence, strategy, streams=250, length=60):
    """The share of streams in which the class itself is ever wrong."""
    count = 0
    for number in range(streams):
        coin, bound, wrong_answers = random.Random(number), Bound(), 0
        for _ in range(length):
            wrong, predicted, chance = strategy(bound, wrong_answers, coin)
            if coin.random() < chance:
                bound.explored(chance, predicted, wrong=wrong)
            else:
                bound.answered(1, predicted, chance)
                wrong_answers += wrong
            if bound.requests % 7 == 0:
                bound.settle(CONFIDENCE)  # giving bets up in between is part of the game
            if wrong_answers >= bound.most_wrong(confidence) and wrong_answers:
                count += 1
                break
    return count / streams


STRATEGIES = {
    "all wrong": lambda bound, wrong_answers, coin: (True, 0.0, bound.least_chance),
    "wrong while it is behind": lambda bound, wrong_answers, coin: (
        wrong_answers + 2 < bound.most_wrong(CONFIDENCE),
        0.001,
        bound.least_chance,
    ),
    "wrong where it is rarely explored": lambda bound, wrong_answers, coin: (
        (True, 0.05, bound.least_chance) if coin.random() < 0.5 else (False, 0.001, 0.6)
    ),
    "wrong by chance": lambda bound, wrong_answers, coin: (coin.random() < 0.4, 0.01, bound.least_chance),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_exceeds_the_bound_more_often_than_is_promised(strategy):
    assert exceeded(CONFIDENCE, STRATEGIES[strategy]) <= ALPHA + slack(250)


def test_the_same_strategy_exceeds_a_bound_without_its_price():
    assert exceeded(0.0, STRATEGIES["all wrong"]) > 0.5


# ── Kept and read again ───────────────────────────────────────────────────────────────────────────────────────────────


def entries_of(seed, count=120):
    coin, bound, entries = random.Random(seed), Bound(), []
    for number in range(count):
        least = Bound(given_up=min(BETS[-1], number * len(BETS) // count)).least_chance
        chance = max(least, min(0.9, coin.random()))
        predicted = coin.uniform(0, 0.3)
        if coin.random() < 0.3:
            entries.append(label_entry(TrainingExample(PairFeatures((0.5,)), None, 1.0), wrong=coin.random() < 0.5))
        elif coin.random() < chance:
            entries.append(
                label_entry(TrainingExample(PairFeatures((0.5,)), predicted, chance), wrong=coin.random() < predicted)
            )
        else:
            entries.append(answers_entry(2, 2 * predicted, chance))
    assert bound.given_up == 0
    return entries


def state(memory):
    bound = memory.bound
    return (bound.requests, bound.given_up, memory.answered, memory.explored), (bound.estimate, *bound.weights)


@given(st.integers(0, 20), st.sets(st.integers(1, 119), max_size=6), st.sampled_from(["read on", "another process"]))
def test_however_the_log_is_read_the_same_is_known(seed, cuts, how):
    entries = entries_of(seed)
    at_once, in_parts = JudgeMemory(0.02, CONFIDENCE), JudgeMemory(0.02, CONFIDENCE)
    at_once.add(entries)
    given_up = 0
    for start, end in itertools.pairwise([0, *sorted(cuts), len(entries)]):
        in_parts.add(entries[start:end])
        assert in_parts.bound.given_up >= given_up, "what was given up stays so: it has missed something since"
        given_up = in_parts.bound.given_up
        if how == "another process":
            in_parts.mark()
            carried = in_parts.marked
            in_parts = JudgeMemory(0.02, CONFIDENCE)
            in_parts.resume(carried)
    (counts, numbers), (counts_in_parts, numbers_in_parts) = state(at_once), state(in_parts)
    assert counts_in_parts == counts
    assert numbers_in_parts == pytest.approx(numbers)
    assert at_once.bound.given_up > 0, "or this shows nothing"


def test_nobody_reads_what_was_worked_out_before_the_last_label():
    """Callers ask while the worker adds: what a caller began to work out before must not be taken for what is known."""
    bound = Bound()
    worked_out = bound._most
    bound.explored(0.9, 0.01, wrong=True)
    worked_out[CONFIDENCE, 0] = -1.0  # by a caller who began before
    assert bound.most_wrong(CONFIDENCE) > 0
    worked_out = bound._most
    bound.answered(1, 0.01, 0.9)
    worked_out[CONFIDENCE, 0] = -1.0
    assert bound.most_wrong(CONFIDENCE) > 0
