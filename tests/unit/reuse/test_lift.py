"""What showing experiences does, in worlds whose truth is known. Seeds are fixed; tolerances are three to four sigma."""

import itertools
import math

import numpy as np
import pytest

from exp_pool.reuse.lift import CallOutcome, LiftTable

SIZE, TOGETHER, TOPICS = 200, 5, 20


class World:
    """Topics differ in difficulty, and an experience comes with those of its topic: company, not merit, is what shows."""

    def __init__(self, seed, effect=0.2, share=0.2, base=(0.25, 0.65)):
        self.chance = np.random.default_rng(seed)
        self.topic = np.arange(SIZE) % TOPICS
        self.base = np.linspace(*base, TOPICS)
        self.effect = np.where(self.chance.random(SIZE) < share, effect, 0.0)
        self.truth = np.zeros((2, SIZE))  # calls, effects

    def calls(self, count, holdout=0.1):
        topic = self.chance.integers(TOPICS, size=count)
        of_topic = np.argpartition(self.chance.random((count, SIZE // TOPICS)), TOGETHER, axis=1)[:, :TOGETHER]
        rows = of_topic * TOPICS + topic[:, None]
        shown = self.chance.random(rows.shape) >= holdout
        effects = self.effect[rows]
        total = self.base[topic] + (shown * effects).sum(axis=1)
        without = total[:, None] - shown * effects
        change = np.clip(without + effects, 0, 1) - np.clip(without, 0, 1)
        self.truth += [np.bincount(rows.ravel(), weights, SIZE) for weights in (None, change.ravel())]
        value = (self.chance.random(count) < np.clip(total, 0, 1)).astype(float)
        return rows, shown.astype(float), np.full(count, holdout), value

    def true_lift(self):
        return self.truth[1] / np.maximum(self.truth[0], 1)


def empty():
    lifts = LiftTable()
    for number in range(SIZE):
        lifts.row(str(number))
    return lifts


def fold(lifts, rows, shown, holdout, value):
    lifts.fold_arrays(np.repeat(np.arange(len(rows)), TOGETHER), rows.ravel(), shown.ravel(), holdout, value)


@pytest.fixture(scope="module")
def learned():
    """Eight pools after 20,000 calls each: (world, effects, naive lifts)."""
    pools = []
    for seed in range(8):
        world, lifts = World(seed), empty()
        rows, shown, holdout, value = world.calls(20_000)
        fold(lifts, rows, shown, holdout, value)
        uses = np.bincount(rows.ravel(), shown.ravel(), SIZE)
        credit = np.bincount(rows.ravel(), (shown * value[:, None]).ravel(), SIZE) / uses
        pools.append((world, lifts.effects(), credit - value.mean()))
    return pools


def root_mean_square(errors):
    return float(np.sqrt(np.mean(np.square(errors))))


def test_95_percent_intervals_cover_the_truth_in_93_to_97_percent(learned):
    covered = [
        effect.low <= truth <= effect.high
        for world, effects, _ in learned
        for effect, truth in zip(effects, world.true_lift(), strict=True)
    ]
    assert len(covered) == 8 * SIZE
    assert 0.93 <= np.mean(covered) <= 0.97


def test_lifts_have_no_bias_and_credit_to_all_that_was_shown_has(learned):
    ours, naive = [], []
    for world, effects, credit in learned:
        harder = world.base[world.topic] < 0.45
        ours.append(np.mean((np.array([e.lift for e in effects]) - world.true_lift())[harder]))
        naive.append(np.mean((credit - world.true_lift())[harder]))
    assert abs(np.mean(ours)) < 0.01  # 800 lifts of error 0.07 each: a standard error of 0.0025
    assert np.mean(naive) < -0.05  # crediting everything that was shown blames what is shown to hard calls


def test_shrunken_estimates_are_nearer_to_the_truth_and_nearer_with_more_calls(learned):
    raw, at_20k = (
        np.mean([root_mean_square(np.array([getattr(e, name) for e in es]) - w.true_lift()) for w, es, _ in learned])
        for name in ("lift", "shrunken")
    )
    early = []
    for seed in range(4):
        world, lifts = World(seed), empty()
        fold(lifts, *world.calls(5_000))
        early.append(root_mean_square(np.array([e.shrunken for e in lifts.effects()]) - world.true_lift()))
    assert at_20k < 0.75 * raw
    assert at_20k <= 0.05 < np.mean(early) < 0.09


def test_the_five_surest_to_help_do(learned):
    found = [
        world.effect[int(effect.id)] > 0
        for world, effects, _ in learned
        for effect in sorted(effects, key=lambda e: -e.shrunken)[:5]
    ]
    assert np.mean(found) >= 0.9


def test_few_of_those_said_to_help_do_not(learned):
    named = [world.effect[int(e.id)] > 0 for world, effects, _ in learned for e in effects if e.verdict == "helps"]
    assert len(named) > 80
    assert np.mean(named) > 0.92
    assert (
        len([e for _, effects, _ in learned for e in effects if e.verdict == "hurts"]) <= 2
    )  # of 1,280 that do nothing


def test_without_a_hold_out_nothing_is_said_of_an_experience():
    lifts = LiftTable()
    lifts.fold([CallOutcome(float(number % 2), ("a", "b") if number % 3 else ()) for number in range(300)])
    for effect in lifts.effects():
        assert math.isnan(effect.lift)
        assert (effect.low, effect.high, effect.verdict, effect.shown) == (-1.0, 1.0, "unclear", 200)
        assert (effect.held_out, effect.against) == (0, 1.0)
    assert math.isnan(lifts.added_up()[0])
    assert (lifts.observed().calls_with, lifts.observed().calls_without) == (200, 100)


def test_hold_outs_that_change_with_the_times_do_not_pass_for_an_effect():
    """Good times with few left out, bad times with many: whoever is shown was mostly there in good times."""
    chance, lifts, outcomes = np.random.default_rng(1), LiftTable(), []
    for number in range(4_000):
        good = number % 1_000 < 500
        holdout, success = (0.05, 0.8) if good else (0.5, 0.2)
        shown = chance.random() >= holdout
        told = ("a",) if shown else ()
        outcomes.append(CallOutcome(float(chance.random() < success), told, () if shown else ("a",), holdout))
    lifts.fold(outcomes)
    seen = [o.value for o in outcomes if o.shown]
    unseen = [o.value for o in outcomes if not o.shown]
    (effect,) = lifts.effects()
    assert np.mean(seen) - np.mean(unseen) > 0.2
    assert effect.low <= 0 <= effect.high
    assert effect.high - effect.low < 0.3


def test_who_looks_often_is_not_deceived():
    """Nothing helps or hurts. A p-value that is looked at every 250 calls accuses many; the evidence accuses few."""
    accused, by_p_value = set(), set()
    for seed in range(2):
        world, lifts = World(seed, effect=0.0), empty()
        for _ in range(60):
            fold(lifts, *world.calls(250))
            assert lifts.hurting(0.95) == []
            assert lifts.suspects(0.95) == []
            accused |= {(seed, number) for number in np.flatnonzero(lifts.wealth() >= 20)}
            by_p_value |= {(seed, e.id) for e in lifts.effects() if e.held_out > 10 and e.high < 0}
    assert len(accused) <= 0.05 * 2 * SIZE
    assert len(by_p_value) > 0.05 * 2 * SIZE  # one-sided, so 2.5% in one look


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_poisoned_pool_is_found_out_as_a_whole(share):
    """Long before any single experience is: 200 share 5,000 calls."""
    for seed in range(3):
        world, lifts = World(seed, effect=-0.2, share=share, base=(0.5, 0.5)), empty()
        for _ in range(100):
            fold(lifts, *world.calls(50))
            if suspects := lifts.suspects(0.95):
                break
        assert len(suspects) > 0.9 * SIZE
        lifts.take_out(suspects)
        lifts.alarm()
        fold(lifts, *world.calls(1_000))  # late feedback on calls of before says nothing of those who are left
        assert lifts.suspects(0.95) == []


def test_an_experience_that_hurts_is_found_among_others_and_they_are_not():
    chance, lifts = np.random.default_rng(5), LiftTable()
    outcomes = []
    for _ in range(600):
        shown = chance.random(4) >= 0.2
        success = 0.7 - 0.4 * shown[0] + 0.1 * shown[1]
        ids = np.array(["bad", "good", "idle", "dull"])
        value = float(chance.random() < success)
        outcomes.append(CallOutcome(value, tuple(ids[shown]), tuple(ids[~shown]), 0.2))
    lifts.fold(outcomes)
    assert lifts.hurting(0.95) == ["bad"]
    lifts.take_out(["bad"])
    assert lifts.hurting(0.95) == []
    lifts.clear("bad")
    assert lifts.hurting(0.95) == []  # not again on the same evidence
    lifts.fold(outcomes)
    assert lifts.hurting(0.95) == ["bad"]


def test_the_last_word_on_a_call_counts():
    chance = np.random.default_rng(2)
    said, meant = [], []
    for _ in range(40):
        shown = chance.random() >= 0.3
        args = (("a",) if shown else (), () if shown else ("a",), 0.3)
        first, last = chance.random(2)
        said.append((CallOutcome(first, *args), CallOutcome(last, *args, before=first)))
        meant.append(CallOutcome(last, *args))
    corrected, straight = LiftTable(), LiftTable()
    corrected.fold([first for first, _ in said])
    corrected.fold([last for _, last in said])
    straight.fold(meant)
    (ours,), (theirs,) = corrected.effects(), straight.effects()
    assert (ours.shown, ours.held_out) == (theirs.shown, theirs.held_out)
    assert ours.lift == pytest.approx(theirs.lift)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert corrected.observed().difference == pytest.approx(straight.observed().difference)


def test_sums_come_back_from_text():
    lifts = empty()
    world = World(3)
    fold(lifts, *world.calls(500))
    lifts.take_out(["7"])
    lifts.clear("8")
    back = LiftTable.from_dict(lifts.to_dict())
    following = world.calls(500)
    for one in (lifts, back):
        fold(one, *following)
    assert back.to_dict() == lifts.to_dict()
    assert back.is_out("7")


def test_it_does_not_matter_who_looks_when():
    chance = np.random.default_rng(6)
    outcomes = []
    for _ in range(330):
        shown = chance.random(3) >= 0.3
        ids = np.array(["a", "b", "c"])
        outcomes.append(CallOutcome(float(chance.random()), tuple(ids[shown]), tuple(ids[~shown]), 0.3))
    at_once, bit_by_bit = LiftTable(), LiftTable()
    at_once.fold(outcomes)
    start = 0
    while start < len(outcomes):
        stop = start + int(chance.integers(1, 90))
        bit_by_bit.fold(outcomes[start:stop])
        bit_by_bit.effects()
        start = stop
    order = [bit_by_bit.ids.index(id_) for id_ in at_once.ids]
    ours, theirs = np.array(at_once.to_dict()["table"]), np.array(bit_by_bit.to_dict()["table"])
    np.testing.assert_allclose(ours, theirs[order], atol=1e-9)


def test_nothing_folded_says_nothing():
    lifts = LiftTable()
    lifts.fold([])
    assert (lifts.effects(), lifts.hurting(0.95), lifts.suspects(0.95)) == ([], [], [])
    assert math.isnan(lifts.observed().difference)
    assert LiftTable.from_dict(lifts.to_dict()).to_dict() == lifts.to_dict()


def test_the_bets_are_fair_whatever_was_before():
    """One more call, of experiences that do nothing: over its coins and its outcome the evidence stays as it was."""
    chance = np.random.default_rng(9)
    ids = np.array(["a", "b", "c"])
    lifts = LiftTable()
    for _ in range(130):  # "a" hurt and "b" helped until now, so predictions are not nothing
        shown = chance.random(3) >= 0.2
        value = float(chance.random() < 0.5 - 0.3 * shown[0] + 0.3 * shown[1])
        lifts.fold([CallOutcome(value, tuple(ids[shown]), tuple(ids[~shown]), 0.2)])
    before, holdout, success = lifts.to_dict(), 0.3, 0.35
    expected, pooled = np.zeros(3), 0.0
    for coins in itertools.product((False, True), repeat=3):
        for value in (0.0, 1.0):
            after, shown = LiftTable.from_dict(before), np.array(coins)
            after.fold([CallOutcome(value, tuple(ids[shown]), tuple(ids[~shown]), holdout)])
            weight = np.prod(np.where(shown, 1 - holdout, holdout)) * (success if value else 1 - success)
            expected += weight * after.wealth()
            pooled += weight * after.pooled()
    np.testing.assert_allclose(expected, lifts.wealth())
    assert pooled == pytest.approx(lifts.pooled())


def test_what_is_out_says_nothing_of_the_others_any_more():
    world, lifts = World(1, effect=-0.1, share=1.0, base=(0.9, 0.9)), empty()
    fold(lifts, *world.calls(1_000))
    assert lifts.pooled() > 1.0
    assert lifts.added_up()[2] < 0
    lifts.take_out(lifts.ids)
    lifts.alarm()
    fold(lifts, *world.calls(500))  # feedback that comes late, on calls of before
    assert lifts.pooled() == 1.0
    assert math.isnan(lifts.added_up()[0])
