"""What showing an experience does to a call's outcome: estimates with intervals, and evidence for those who look often.

Calls show candidates to a function and leave each out with a known probability (`Inject(holdout=)`). That coin is the
only thing that tells an effect from company: who stands beside a good experience looks good. So only calls with a
hold-out say anything about a single experience, and everything here compares "shown" with "left out" among calls that
had it as a candidate. Of a function as a whole two things can be said: how calls with experiences went against those
without, which is observed and not randomised; and the effects of what was shown added up, which is. All of it takes
feedback to come, or not to come, regardless of how the call went: who reports failures only learns nothing.

A function's state is a table with one row for each experience, of sums only: its size does not depend on how many calls
there were. It is folded in the order of the calls, which makes every prediction below one that was made beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from exp_pool.reuse import effect_statistics as statistics
from exp_pool.reuse.effect_statistics import Bools, Floats

Rows: TypeAlias = npt.NDArray[np.intp]
EffectVerdict: TypeAlias = Literal["helps", "hurts", "unclear"]

_Z = 1.959963984540054  # 95%, two-sided
# Shares of the largest bet that cannot ruin the wealth. Their average is a test, too, and costs at most log(4).
_BETS = np.array([0.1, 0.2, 0.4, 0.8])
_REFRESH_CALLS, _REFRESH_SHARE = 50, 0.1  # predictions are made anew after so many calls, or such a share of all
_ODD_ERRORS = 2.0  # so many standard errors below the mean of all, an experience is looked at by itself
_FIRST_GUESS_CALLS = 10.0  # what the first guess of the outcome without experiences, 0.5, weighs
_RECENT_CALLS = 200.0  # how far back the outcome without experiences is averaged

# The columns of the table. Arm 1 is shown, arm 0 left out; w is 1 / probability of the arm, r the outcome less what was
# predicted without this experience; sums of 1, w, w², wr, w²r, w²r².
_SHOWN, _LEFT_OUT = slice(0, 6), slice(6, 12)
_ALL_SHOWN, _WEALTH, _PREDICTED, _OUT, _CLEARED, _ODD = 12, slice(13, 17), 17, 18, 19, 20
_COLUMNS = 21


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How one call went: a value of 0 to 1, what it was shown and what was left out, each with probability `holdout`.

    `before` is the value that an earlier feedback on the same call gave: this one corrects it.
    """

    value: float
    shown: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    holdout: float = 0.0
    before: float | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """What showing one experience does to the outcome, on the scale of outcomes: 0.2 is 20 points of success.

    `lift` is shown less left out, adjusted for what else was shown; `low` and `high` bound it with 95% confidence, for
    this one experience looked at once. `shrunken` is the better guess: it knows how the other experiences do. NaN, and
    bounds of -1 and 1, where it was never shown or never left out at random. `shown` counts calls with an outcome,
    those without a hold-out, too. `against` is the evidence that it hurts: an e-value, see `LiftTable.hurting`.
    """

    id: str
    lift: float
    low: float
    high: float
    shrunken: float
    shown: int
    held_out: int
    verdict: EffectVerdict
    against: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two means, or a sum of effects, compared: the difference with its 95% interval; NaN where there is no telling."""

    difference: float
    low: float
    high: float
    calls_with: int
    calls_without: int
    mean_with: float
    mean_without: float


class LiftTable:
    """The sums of one function's outcomes, and what follows from them. Not thread-safe."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.alarms = 0
        self._row: dict[str, int] = {}
        self._table: Floats = np.zeros((16, _COLUMNS))
        self._arms = np.zeros((2, 3))  # calls without, with: n, sum, sum of squares
        self._summed = np.zeros(3)  # effects of all candidates, added up for each call: n, sum, sum of squares
        self._wealth = np.zeros(_BETS.size)  # logarithms; of the bet that what is shown hurts as a whole
        # Predictions change after so many calls, not when somebody looks: every reader of a log comes to the same sums.
        self._base, self._calls, self._refresh_at = 0.5, 0, _REFRESH_CALLS
        self._usual = np.zeros(2)  # since then: calls, and the sum of their outcomes less what was shown

    # Taking outcomes in

    def fold(self, outcomes: Sequence[CallOutcome]) -> None:
        """Take in calls, in their order."""
        entries = [
            (number, self.row(id_), seen)
            for number, outcome in enumerate(outcomes)
            for ids, seen in ((outcome.shown, 1.0), (outcome.left_out, 0.0))
            for id_ in dict.fromkeys(ids)
        ]
        call, row, shown = zip(*entries, strict=True) if entries else ((), (), ())
        self.fold_arrays(
            np.array(call, dtype=np.intp),
            np.array(row, dtype=np.intp),
            np.array(shown, dtype=float),
            np.array([outcome.holdout for outcome in outcomes], dtype=float),
            np.array([outcome.value for outcome in outcomes], dtype=float),
            np.array([math.nan if outcome.before is None else outcome.before for outcome in outcomes]),
        )

    def row(self, id_: str) -> int:
        """The row of an experience, made where there is none."""
        found = self._row.get(id_)
        if found is None:
            found = self._row[id_] = len(self.ids)
            self.ids.append(id_)
            if found == len(self._table):
                self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        return found

    def fold_arrays(
        self, call: Rows, row: Rows, shown: Floats, holdout: Floats, value: Floats, before: Floats | None = None
    ) -> None:
        """Take in calls, in their order.

        Args:
            call: (n,) for each candidate of a call the number of the call, rising.
            row: (n,) its row in the table.
            shown: (n,) 1 where it was shown, 0 where it was left out.
            holdout: (m,) the probability of being left out, for each call.
            value: (m,) the outcome of each call.
            before: (m,) what it replaces; NaN for the first one of a call. None: they are all first ones.
        """
        before = np.full(len(value), math.nan) if before is None else before
        start = 0
        while start < len(value):
            stop = min(len(value), start + self._refresh_at - self._calls)
            first, last = np.searchsorted(call, [start, stop])
            of, calls = slice(first, last), slice(start, stop)
            chunk = _CallBatch(call[of] - start, row[of], shown[of], holdout[calls], self._table, self._base)
            replaced = ~np.isnan(before[calls])
            self._add(chunk, value[calls], np.ones(stop - start))
            self._add(chunk, np.where(replaced, before[calls], 0.0), -1.0 * replaced)
            self._bet(chunk, value[calls], ~replaced)
            usual = (value[calls] - chunk.from_shown)[~replaced]
            self._usual += [usual.size, usual.sum()]
            self._calls += stop - start
            if self._calls >= self._refresh_at:
                self._refresh()
            start = stop

    def _add(self, chunk: _CallBatch, value: Floats, sign: Floats) -> None:
        """Add calls to the sums, or take them out again."""
        table, count = self._table[: len(self.ids)], len(self.ids)
        rest, weight = value[chunk.call] - chunk.alone, chunk.weight
        counts = sign[chunk.call] * chunk.random
        terms = (np.ones_like(rest), weight, weight**2, weight * rest, weight**2 * rest, (weight * rest) ** 2)
        for arm, columns in ((chunk.shown, _SHOWN), (1 - chunk.shown, _LEFT_OUT)):
            for column, term in enumerate(terms, columns.start):
                table[:, column] += np.bincount(chunk.row, counts * arm * term, count)
        table[:, _ALL_SHOWN] += np.bincount(chunk.row, sign[chunk.call] * chunk.shown, count)
        for arm_of_call, sums in zip((~chunk.with_any, chunk.with_any), self._arms, strict=True):
            of_arm = sign * arm_of_call
            sums += [of_arm.sum(), of_arm @ value, of_arm @ value**2]
        here = chunk.random * (table[chunk.row, _OUT] == 0)
        added = np.bincount(chunk.call, here * chunk.coin * rest, len(value))
        tried = sign * (np.bincount(chunk.call, here, len(value)) > 0)
        self._summed += [tried.sum(), tried @ added, tried @ added**2]

    def _bet(self, chunk: _CallBatch, value: Floats, first: Bools) -> None:
        """Bet that each experience hurts, and that all together do; a correction is no new evidence."""
        usable = chunk.random * first[chunk.call] > 0
        call, row, coin = chunk.call[usable], chunk.row[usable], chunk.coin[usable]
        left_out = chunk.holdout[call]
        # Fair for an experience that does nothing, whatever is predicted: its coin knows nothing of its company.
        predicted = np.clip(chunk.alone[usable], 0.0, 1.0)
        most = np.maximum((1 - predicted) / (1 - left_out), predicted / left_out)
        gain = -coin * (value[call] - predicted) / most
        for number, bet in enumerate(_BETS):
            self._table[: len(self.ids), _WEALTH.start + number] += np.bincount(
                row, np.log1p(bet * gain), len(self.ids)
            )
        # All together: here the prediction may not know any of the coins, or the bet would not be fair. One that looks
        # much worse than the others is left to the bet about itself: the others shall not go for it.
        here = (self._table[row, _OUT] == 0) & (self._table[row, _ODD] == 0)
        call, row, coin, size = call[here], row[here], coin[here], len(value)
        among = np.bincount(call, minlength=size)
        expected = self._base + np.bincount(call, (1 - chunk.holdout[call]) * self._table[row, _PREDICTED], size)
        expected = np.clip(expected, 0.0, 1.0)
        tried = among > 0
        left_out = np.where(tried, chunk.holdout, 0.5)
        most = among * np.maximum((1 - expected) / (1 - left_out), expected / left_out)
        gain = -np.bincount(call, coin, size)[tried] * (value - expected)[tried] / most[tried]
        self._wealth += np.log1p(_BETS[:, None] * gain).sum(axis=1)

    def _refresh(self) -> None:
        """Predict anew, and see which look much worse than the others."""
        count, total = self._usual
        if count:
            before = min(_FIRST_GUESS_CALLS + self._calls - count, _RECENT_CALLS)
            self._base += count / (count + before) * (total / count - self._base)
        self._usual[:] = 0.0
        self._refresh_at = self._calls + max(_REFRESH_CALLS, int(_REFRESH_SHARE * self._calls))
        _, centre, error = self._estimates()
        known = np.isfinite(centre)
        if not known.any():
            return
        drawn, mean = statistics.drawn_to_mean(centre, error, known)
        self._table[: len(self.ids), _PREDICTED] = np.where(known, drawn, 0.0)
        self._table[: len(self.ids), _ODD] = known & (centre < mean - _ODD_ERRORS * error)

    # What follows

    def _estimates(self) -> tuple[Floats, Floats, Floats]:
        """Lift, centre of its interval and standard error, one for each row; NaN where an arm is empty.

        The residuals make it doubly robust: the coin is known, so a wrong prediction costs width, not truth.
        """
        table = self._table[: len(self.ids)]
        return statistics.difference_of_means(table[:, _SHOWN], table[:, _LEFT_OUT])

    def effects(self) -> list[Effect]:
        """What is known of each experience, in the order in which they came.

        Verdicts keep the expected share of wrong ones below 5% among "helps", and among "hurts", by local false sign
        rates (Stephens, False discovery rates: a new deal, Biostatistics 18, 2017). They hold for one look; what acts
        on its own (`hurting`, `suspects`) does not rest on them.
        """
        lift, centre, error = self._estimates()
        shrunken, not_above, not_below = statistics.posterior(centre, error)
        helps, hurts = statistics.surest(not_above), statistics.surest(not_below)
        wealth = self.wealth()
        low, high = (np.nan_to_num(np.clip(centre + side * _Z * error, -1, 1), nan=side) for side in (-1.0, 1.0))
        table = self._table
        return [
            Effect(
                id_,
                float(lift[i]),
                float(low[i]),
                float(high[i]),
                float(shrunken[i]),
                round(table[i, _ALL_SHOWN]),
                round(table[i, _LEFT_OUT.start]),
                "helps" if helps[i] else "hurts" if hurts[i] else "unclear",
                float(wealth[i]),
            )
            for i, id_ in enumerate(self.ids)
        ]

    def observed(self) -> Contrast:
        """Calls that were shown something against those that were not. Observed, not randomised: they may differ."""
        n, total, squares = self._arms.T
        means = [float(sum_ / count) if count else math.nan for count, sum_ in zip(n, total, strict=True)]
        arms = int(n[1]), int(n[0]), means[1], means[0]
        if not n.all():
            return Contrast(math.nan, -1.0, 1.0, *arms)
        # Outcomes less 0.5, all of weight 1.
        residual, square = total - 0.5 * n, squares - total + 0.25 * n
        without, with_any = np.column_stack([n, n, n, residual, residual, square])[:, None]
        _, (centre,), (error,) = statistics.difference_of_means(with_any, without)
        low, high = max(centre - _Z * error, -1.0), min(centre + _Z * error, 1.0)
        return Contrast(means[1] - means[0], float(low), float(high), *arms)

    def added_up(self) -> tuple[float, float, float]:
        """The effects of a call's candidates, each one's with the others as they were, added up; with 95% bounds.

        Of calls since the last alarm, and of those in use. Randomised, and what the context as a whole does only if
        effects add: where several are enough to ruin a call, leaving out one of them shows little, and the whole is
        worse than this says.
        """
        n, total, squares = self._summed
        if n < 2:  # noqa: PLR2004
            return math.nan, math.nan, math.nan
        mean = total / n
        error = math.sqrt(max(squares / n - mean**2, 0.0) / (n - 1))
        return mean, mean - _Z * error, mean + _Z * error

    # Evidence that may be looked at after every call

    def wealth(self) -> Floats:
        """An e-value against "it does no harm", for each row: what one made of 1 by betting against it.

        A test martingale (Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, Journal of
        the Royal Statistical Society B 86, 2024, section 4): where the next call's expected effect is never below 0,
        the chance that the wealth ever reaches x is at most 1 / x (Ville's inequality), however often one looks. No
        normal approximation, no assumption about what outcomes or companies come. The effect is the inverse-propensity
        contrast of one call, less what was predicted beforehand.
        """
        return np.asarray(np.exp(self._table[: len(self.ids), _WEALTH]).mean(axis=1))

    def hurting(self, confidence: float) -> list[str]:
        """Those in use that demonstrably hurt: expected share of wrong ones at most 1 - `confidence`, at any time."""
        in_use = self._table[: len(self.ids), _OUT] == 0
        return [self.ids[i] for i in np.flatnonzero(statistics.rejected(self.wealth(), confidence) & in_use)]

    def suspects(self, confidence: float) -> list[str]:
        """Those to take out because what is shown hurts as a whole; empty where that is not shown.

        The same bet on the effects added up, without those that are out already. It is quick where single experiences
        have hardly been seen: 200 poisoned ones are found out by a few hundred calls, of which each took part in ten.
        The chance of one false alarm ever is at most 1 - `confidence`: alarm number k needs a wealth of
        k (k + 1) / (1 - confidence), and the sum of 1 / (k (k + 1)) is 1.

        Those are named whose estimate, drawn to the mean of all as far as it is uncertain, does at least half of the
        mean harm: all of them where little is known of each, the worse where they can be told from the others. Those
        that seem to help stay, and those that a person has cleared.
        """
        needed = (self.alarms + 1) * (self.alarms + 2) / (1 - confidence)
        if self.pooled() < needed:
            return []
        table = self._table[: len(self.ids)]
        tried = table[:, _SHOWN.start] + table[:, _LEFT_OUT.start] > 0
        _, centre, error = self._estimates()
        helps = statistics.surest(statistics.posterior(centre, error)[1])
        in_use = tried & (table[:, _OUT] == 0)
        drawn, mean = statistics.drawn_to_mean(centre, error, np.isfinite(error) & in_use)
        harmful = ~np.isfinite(error) | (drawn <= mean / 2) | (mean >= 0)
        return [self.ids[i] for i in np.flatnonzero(in_use & (table[:, _CLEARED] == 0) & ~helps & harmful)]

    def pooled(self) -> float:
        """The e-value against "what is shown does no harm as a whole", since the last alarm."""
        return float(np.exp(self._wealth).mean())

    def alarm(self) -> None:
        """What `suspects` said was acted on: what is said of the whole counts anew."""
        self.alarms += 1
        self._wealth[:] = 0.0
        self._summed[:] = 0.0

    def take_out(self, ids: Iterable[str]) -> None:
        """These are out of use: what still comes in about them says nothing of the others."""
        self._table[[self.row(id_) for id_ in ids], _OUT] = 1

    def clear(self, id_: str) -> None:
        """A person trusts it again: evidence counts anew, and suspicion of all is not enough to take it out."""
        self._table[self.row(id_)] = 0.0
        self._table[self.row(id_), _CLEARED] = 1

    def is_out(self, id_: str) -> bool:
        """Whether it was taken out."""
        return id_ in self._row and bool(self._table[self._row[id_], _OUT])

    # As text

    def to_dict(self) -> dict[str, Any]:
        """JSON that `from_dict` reads."""
        arrays = {name: getattr(self, attribute).tolist() for name, attribute in _STORED_ARRAYS.items()}
        numbers = {name: getattr(self, attribute) for name, attribute in _STORED_NUMBERS.items()}
        return {"ids": self.ids, "table": self._table[: len(self.ids)].tolist(), **arrays, **numbers}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote."""
        lifts = cls()
        for id_ in data["ids"]:
            lifts.row(id_)
        if lifts.ids:
            lifts._table[: len(lifts.ids)] = data["table"]
        for name, attribute in _STORED_ARRAYS.items():
            setattr(lifts, attribute, np.array(data[name]))
        for name, attribute in _STORED_NUMBERS.items():
            setattr(lifts, attribute, data[name])
        return lifts


_STORED_ARRAYS = {"arms": "_arms", "summed": "_summed", "wealth": "_wealth", "usual": "_usual"}
_STORED_NUMBERS = {"alarms": "alarms", "base": "_base", "calls": "_calls", "refresh_at": "_refresh_at"}


class _CallBatch:
    """Calls whose predictions rest on what came before all of them; (n,) arrays have an entry a candidate of a call."""

    def __init__(self, call: Rows, row: Rows, shown: Floats, holdout: Floats, table: Floats, base: float) -> None:
        self.call, self.row, self.shown, self.holdout = call, row, shown, holdout
        predicted = shown * table[row, _PREDICTED]
        self.from_shown = np.bincount(call, predicted, len(holdout))
        self.alone = base + self.from_shown[call] - predicted  # the usual outcome, and what its company does
        self.with_any = np.bincount(call, shown, len(holdout)) > 0
        left_out = holdout[call]
        self.random = (left_out > 0).astype(float)  # nothing is known of a candidate that had to be shown
        safe = np.where(left_out > 0, left_out, 0.5)
        self.weight = np.where(shown > 0, 1 / (1 - safe), 1 / safe)
        self.coin = np.where(shown > 0, self.weight, -self.weight)
