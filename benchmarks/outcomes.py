"""Lift with known truth: coverage of intervals, error by number of calls, who is said to help, and poisoned pools.

    python benchmarks/outcomes.py                   50 pools of each design, 50,000 calls each (minutes, one core)
    python benchmarks/outcomes.py --pools 10        fewer

A pool has 200 experiences. Of these 80% do nothing and the others add 0.2 to the chance of success, which is 0.5
without any and is cut off at 0 and 1; five are candidates for each call, each left out with probability 0.1. Because of
the cut the truth is a little below 0.2: it is the mean, over an experience's calls, of the chance of success with it
less that without it, the others as they were. Poisoned: so many of the 200 take 0.2 away, of the rest a fifth helps.
Seeds are 0, 1, 2, ...: one for each pool.

Which are candidates together: all alike (uniform), with skewed popularity (zipf: weight 1 / rank ** 0.7), or those of
one of 20 topics of ten, but for one in ten from anywhere (topics).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from exp_pool.reuse.lift import Effect, LiftTable

EXPERIENCES, TOPICS, TOGETHER, HOLDOUT, BASE, EFFECT = 200, 20, 5, 0.1, 0.5, 0.2
DESIGNS = ("uniform", "zipf", "topics")
STEP = 50  # calls between two looks of the quarantine rule


@dataclass
class World:
    """A pool whose effects are known, and the calls that come."""

    seed: int
    design: str = "uniform"
    poisoned: float = 0.0
    helping: float = 0.2

    def __post_init__(self) -> None:
        self.chance = np.random.default_rng(self.seed)
        kinds = np.zeros(EXPERIENCES)
        bad = round(self.poisoned * EXPERIENCES)
        kinds[:bad] = -EFFECT
        kinds[bad : bad + round(self.helping * (EXPERIENCES - bad))] = EFFECT
        self.effect = self.chance.permutation(kinds)
        rank = 1.0 + self.chance.permutation(EXPERIENCES)
        self.weight = rank**-0.7 if self.design == "zipf" else np.ones(EXPERIENCES)
        self.truth = np.zeros((2, EXPERIENCES))  # calls, summed effects

    def candidates(self, calls: int, active: np.ndarray) -> np.ndarray:
        """(calls, at most five) different rows that are similar to each call."""
        there = np.flatnonzero(active)
        if there.size <= 2 * TOGETHER:  # few: in any order
            return there[np.argsort(self.chance.random((calls, there.size)), axis=1)[:, :TOGETHER]]
        shares = np.cumsum(self.weight[there]) / self.weight[there].sum()
        topic = self.chance.integers(TOPICS, size=calls)
        rows = np.empty((calls, TOGETHER), dtype=np.intp)
        again = np.arange(calls)
        while again.size:  # those that drew one twice
            drawn = there[np.searchsorted(shares, self.chance.random((again.size, TOGETHER)))]
            if self.design == "topics":
                near = topic[again, None] + TOPICS * self.chance.integers(EXPERIENCES // TOPICS, size=drawn.shape)
                drawn = np.where(active[near] & (self.chance.random(drawn.shape) < 0.9), near, drawn)
            rows[again] = drawn
            ordered = np.sort(drawn, axis=1)
            again = again[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
        return rows

    def calls(self, count: int, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Candidates, which of them were shown, outcomes, and the chances of success."""
        rows = self.candidates(count, active)
        shown = self.chance.random(rows.shape) >= HOLDOUT
        effects = self.effect[rows]
        total = BASE + (shown * effects).sum(axis=1)
        success = np.clip(total, 0, 1)
        without = total[:, None] - shown * effects
        change = np.clip(without + effects, 0, 1) - np.clip(without, 0, 1)
        self.truth += [np.bincount(rows.ravel(), w, EXPERIENCES) for w in (None, change.ravel())]
        return rows, shown, (self.chance.random(count) < success).astype(float), success


def fold(lifts: LiftTable, rows: np.ndarray, shown: np.ndarray, value: np.ndarray) -> None:
    """Hand calls over; row numbers are those of the world."""
    call = np.repeat(np.arange(len(rows)), rows.shape[1])
    lifts.fold_arrays(call, rows.ravel(), shown.ravel().astype(float), np.full(len(rows), HOLDOUT), value)


def fresh() -> LiftTable:
    """No outcome yet; row i is experience i."""
    lifts = LiftTable()
    for number in range(EXPERIENCES):
        lifts.row(f"e{number}")
    return lifts


@dataclass
class Measured:
    """One pool after so many calls."""

    covered: float
    width: float
    rmse: float
    raw_rmse: float
    precision: float
    helps: int
    wrong: int


def measure(world: World, effects: Sequence[Effect]) -> Measured:
    """Compare with the truth, over experiences that were left out at least once."""
    truth = np.divide(world.truth[1], world.truth[0], out=np.zeros(EXPERIENCES), where=world.truth[0] > 0)
    low, high, lift, guess = np.array([(e.low, e.high, e.lift, e.shrunken) for e in effects]).T
    seen = np.isfinite(lift)
    surest = sorted((e for e in effects if np.isfinite(e.shrunken)), key=lambda e: -e.shrunken)[:TOGETHER]
    named = [number for number, effect in enumerate(effects) if effect.verdict == "helps"]
    return Measured(
        float(np.mean((low <= truth) & (truth <= high), where=seen)),
        float(np.mean(high - low, where=seen)),
        float(np.sqrt(np.mean((np.nan_to_num(guess) - truth) ** 2))),
        float(np.sqrt(np.mean((lift - truth) ** 2, where=seen))),
        float(np.mean([world.effect[int(e.id[1:])] > 0 for e in surest])),
        len(named),
        sum(world.effect[number] <= 0 for number in named),
    )


def learn(seed: int, design: str, marks: Sequence[int], make: Callable[[], LiftTable] = fresh) -> list[Measured]:
    """One pool, measured after each of these numbers of calls."""
    world, lifts, measured, done = World(seed, design), make(), [], 0
    everything = np.ones(EXPERIENCES, dtype=bool)
    for mark in marks:
        while done < mark:
            count = min(2_000, mark - done)
            rows, shown, value, _ = world.calls(count, everything)
            fold(lifts, rows, shown, value)
            done += count
        measured.append(measure(world, lifts.effects()))
    return measured


@dataclass
class Poisoned:
    """One poisoned pool under the quarantine rule."""

    success: np.ndarray  # for each step
    good_left: float
    bad_left: float
    alarms: int


def poison(
    seed: int, design: str, share: float, calls: int, helping: float = 0.2, confidence: float = 0.95
) -> Poisoned:
    """Calls of a pool of which a share hurts, while the rule takes out what it finds."""
    world, lifts = World(seed, design, share, helping), fresh()
    active, success = np.ones(EXPERIENCES, dtype=bool), []
    for _ in range(calls // STEP):
        if not active.any():
            success.append(BASE)
            continue
        rows, shown, value, chance = world.calls(STEP, active)
        success.append(float(chance.mean()))
        fold(lifts, rows, shown, value)
        for ids, whole in ((lifts.hurting(confidence), False), (lifts.suspects(confidence), True)):
            if ids:
                lifts.take_out(ids)
                active[[int(id_[1:]) for id_ in ids]] = False
            if ids and whole:
                lifts.alarm()
    good, bad = world.effect > 0, world.effect < 0
    return Poisoned(
        np.array(success), float(active[good].mean()), float(active[bad].mean()) if bad.any() else 0.0, lifts.alarms
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=int, default=50)
    pools = parser.parse_args().pools
    console, began = Console(width=120), time.perf_counter()
    marks = (1_000, 5_000, 20_000, 50_000)
    table = Table("design", "calls", "coverage", "width", "RMSE raw", "RMSE shrunken", "precision@5", "helps", "wrong")
    for design in DESIGNS:
        runs = [learn(seed, design, marks) for seed in range(pools)]
        for number, mark in enumerate(marks):
            at = [run[number] for run in runs]
            means = {name: np.mean([getattr(m, name) for m in at]) for name in Measured.__dataclass_fields__}
            table.add_row(
                design,
                f"{mark:,}",
                f"{means['covered']:.3f}",
                f"{means['width']:.3f}",
                f"{means['raw_rmse']:.3f}",
                f"{means['rmse']:.3f}",
                f"{means['precision']:.3f}",
                f"{means['helps']:.1f}",
                f"{means['wrong']:.2f}",
            )
    console.print(table)
    table = Table(
        "design",
        "poisoned",
        "first 1,000",
        "to 2,000",
        "to 5,000",
        "to 20,000",
        "helping left",
        "hurting left",
        "alarms",
    )
    for design in DESIGNS:
        for share in (0.0, 0.1, 0.5, 0.9):
            results = [poison(seed, design, share, 20_000) for seed in range(pools)]
            path = np.mean([r.success for r in results], axis=0) - BASE
            parts = (
                path[: 1000 // STEP],
                path[1000 // STEP : 2000 // STEP],
                path[2000 // STEP : 5000 // STEP],
                path[5000 // STEP :],
            )
            table.add_row(
                design,
                f"{share:.0%}",
                *(f"{100 * part.mean():+.1f}" for part in parts),
                *(f"{np.mean([getattr(r, name) for r in results]):.0%}" for name in ("good_left", "bad_left")),
                f"{np.mean([r.alarms for r in results]):.2f}",
            )
    console.print(table)
    console.print(f"success less that without memory, in points. {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
