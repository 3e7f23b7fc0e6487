"""What a verified judge remembers of one function in one namespace: labelled pairs, and what follows from them. Pure.

A pair is a request and the stored experience that might answer it. It is labelled where the function ran although the
experience was there: always where the judge abstained, and by the toss of a coin where it would have answered.

The life of a label: a call leaves a `Lesson` (what was predicted, and the odds of its being looked into); the answers
are compared (`maintenance.answer_comparison`), and the label goes into the function's log (`label_entry`). From the log
every process takes it in (`add`): the bound counts it (`reuse.bound`), the alarm hears of it (`reuse.drift`), and every
so many labels the model is learned anew (`study`). Then the aim is taken: which predictions are answered, and how often
these are looked into, so that the room that is left in the bound is used up over a third as many requests as there were
so far. A log is written in chapters; `mark` keeps what the chapters before one added up to, `resume` begins from there.
"""

from __future__ import annotations

import json
import random
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from exp_pool.reuse.bound import Bound
from exp_pool.reuse.classifier import Model, fit
from exp_pool.reuse.drift import Alarm
from exp_pool.reuse.pair_features import BUCKETS, Features

if TYPE_CHECKING:
    import numpy as np

_WINDOW = 20_000  # labels that are learned from, the newest: more taught nothing on the questions, and cost seconds
_FIRST, _GROWTH = 200, 1.25  # labels before anything is learned, and how many more before it is learned anew
_ANSWERED_AFTER = 13  # requests, over the rate: before these the bound has no room for an answer, as was measured
_SEEN = 0.5  # of a wrong answer counts as seen, the rest as predicted
_AIM = 0.95  # of the allowed rate: what is aimed at over any longer stretch, since the aim is missed by a tenth or so
_PATIENCE, _SHORTEST = 3, 500  # room is used up over a third as many requests as so far, and over 500 at least
_MARGIN = 1.05  # at the price itself a pair would be worth nothing, and its chance without limit
_NOTICEABLE, _STALE = 0.02, 1.05  # changes after which it aims anew
_BINS, _STEPS = 10, 20  # of predictions, of similarities


@dataclass(frozen=True, slots=True)
class Lesson:
    """A pair that may become a label: its features, what was predicted of it, and its chance of being labelled."""

    features: Features
    predicted: float | None
    chance: float


class Label(NamedTuple):
    """A pair, and whether the stored answer was wrong for the request."""

    lesson: Lesson
    wrong: bool


@dataclass(frozen=True, slots=True)
class Aim:
    """Which pairs are answered: those whose predicted chance of being wrong is at most `limit`.

    `price` is the chance at which answering gains nothing: the limit, unless all pairs are within it.
    """

    limit: float = -1.0
    price: float = 1.0
    a: float = 0.0  # of the bet that says most, see `bound`

    def chances(self, predicted: np.ndarray, least: float) -> np.ndarray:
        """The chance of looking into each pair that would be answered.

        What is not looked into costs the bound ``a / 2 * predicted / chance`` for the guess, on average; answering is
        worth ``1 - predicted / price``. The sum over all pairs is least for this chance (Neyman's allocation).
        """
        import numpy as np

        worth = 1 - predicted / (_MARGIN * self.price)
        chances: np.ndarray = np.clip(np.sqrt(self.a / (2 * self.price) * predicted / worth), least, 1.0)
        return chances


@dataclass(slots=True)
class Memory:
    """Changed by one thread at a time; read by others meanwhile.

    Args:
        rate: wrong answers per request that are allowed.
        confidence: of the bound.
        coin: tossed for each request that would be answered.
    """

    rate: float
    confidence: float
    coin: random.Random = field(default_factory=random.Random)
    bound: Bound = field(default_factory=Bound)
    answered: int = 0
    looked_into: int = 0
    alarms: int = 0
    current: bool = True  # what happened is counted here; False while the store, say, cannot be reached
    model: Model | None = None
    aim: Aim = Aim()
    labels: deque[Label] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    calibration: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(_BINS)])
    marked: dict[str, Any] | None = None  # what was known at the last mark, without the labels
    since_mark: int = 0
    _alarm: Alarm = field(default_factory=Alarm)
    _unlearned: int = 0  # labels since the last lesson was drawn from them
    _unseen: np.ndarray | None = None  # of each label that was learned from, as predicted without it
    _learned: tuple[Label, ...] = ()
    _aimed_at: float = -1.0
    _aimed_when: int = 0

    # What the judge asks

    def predict(self, pairs: Sequence[Features]) -> list[float] | None:
        """Of each pair the chance that its stored answer is wrong; None before anything was learned."""
        return None if self.model is None else self.model.chances(pairs)

    @property
    def evidence(self) -> str:
        """How many requests were decided on, and of about how many, until then, that the first answer takes."""
        needed = max(_FIRST, round(_ANSWERED_AFTER / self.rate))
        seen = self.bound.requests
        return f"{seen:,} of about {needed:,} requests" if seen < needed else f"{seen:,} requests"

    def allows(self, predicted: float) -> bool:
        """Whether such a pair may be answered now."""
        return self.current and predicted <= self.aim.limit and self.bound.room(self.rate, self.confidence) > 0

    def chance(self, predicted: float) -> float:
        """The chance with which a pair that may be answered is looked into instead."""
        import numpy as np

        return float(self.aim.chances(np.array(predicted), self.bound.least_chance))

    def by_similarity(self) -> list[tuple[float, float, int]]:
        """(similarity, share whose stored answer was right, how many) of the labels, in steps of 0.05 that have any.

        The share is weighted: of pairs that are answered few are labelled.
        """
        steps: dict[int, list[Label]] = {}
        for label in tuple(self.labels):
            steps.setdefault(min(int(label.lesson.features.numbers[0] * _STEPS), _STEPS - 1), []).append(label)
        found = []
        for step, labels in sorted(steps.items()):
            total = sum(1 / label.lesson.chance for label in labels)
            right = sum((not label.wrong) / label.lesson.chance for label in labels)
            found.append(((step + 0.5) / _STEPS, right / total, len(labels)))
        return found

    # What became of it

    def add(self, entries: Iterable[str]) -> None:
        """Take in what `label_entry` and `answers_entry` wrote, of whichever process."""
        for entry in entries:
            with suppress(
                ValueError, KeyError, TypeError, OverflowError
            ):  # damaged, or another version's: it says nothing
                self._take_in(json.loads(entry))

    def _take_in(self, said: Mapping[str, Any]) -> None:
        if "answered" in said:
            count = int(said["answered"])
            self.bound.answered(count, float(said["p"]), float(said["e"]))
            self.answered += count
            return
        predicted = None if "p" not in said else float(said["p"])
        pair = Features(array("f", said["x"]), _wording(said.get("w", ())))
        lesson = Lesson(pair, predicted, float(said["e"]))
        if not 0 < lesson.chance <= 1:
            raise ValueError(f"{lesson.chance!r} is no chance")
        self._label(Label(lesson, bool(said["wrong"])), warm=said.get("warm", False))

    def mark(self) -> None:
        """Here a new log begins: what was known before it is carried over once its predecessor is gone."""
        bound = self.bound
        self.since_mark = 0
        self.marked = {
            "answered": self.answered,
            "looked_into": self.looked_into,
            "alarms": self.alarms,
            "bound": [bound.requests, bound.estimate, bound.given_up, *bound.weights],
        }

    def resume(self, carried: Mapping[str, Any] | None) -> None:
        """Begin with what was carried over."""
        if carried is not None:
            self.answered, self.looked_into = carried["answered"], carried["looked_into"]
            self.alarms = carried["alarms"]
            requests, estimate, given_up, *weights = carried["bound"]
            self.bound = Bound(requests, estimate, given_up, weights)
        self.mark()

    def _label(self, label: Label, *, warm: bool) -> None:
        lesson, wrong = label
        self.labels.append(label)
        self.since_mark += 1
        self._unlearned += 1
        if warm:
            return
        if lesson.chance < 1 and lesson.predicted is not None:
            self.looked_into += 1
            self.bound.looked_into(lesson.chance, lesson.predicted, wrong=wrong)
        else:
            self.bound.abstained()
        if lesson.predicted is not None:
            seen = self.calibration[min(int(lesson.predicted * _BINS), _BINS - 1)]
            seen.update(pairs=1, wrong=wrong)
            if self._alarm.raised_by(lesson.predicted, wrong=wrong):
                self._begin_anew()

    def _begin_anew(self) -> None:
        """What was learned holds no longer: nothing is answered until it is learned anew. The bound stays."""
        self.alarms += 1
        self.labels.clear()
        self._unlearned, self._learned, self._unseen = 0, (), None
        self.model, self.aim, self._aimed_at = None, Aim(), -1.0
        self._alarm = Alarm()

    # What follows from it

    def study(self) -> None:
        """Learn anew where there is enough that is new, and aim where the room is. Takes up to seconds."""
        enough = max(_FIRST, int(len(self._learned) * (_GROWTH - 1)))
        if self._unlearned >= enough:
            self._learn()
        self._take_aim()

    def _learn(self) -> None:
        import numpy as np

        width = len(self.labels[-1].lesson.features.numbers)  # another version's labels have others
        learned = tuple(label for label in self.labels if len(label.lesson.features.numbers) == width)
        pairs = [label.lesson.features for label in learned]
        wrong = np.array([label.wrong for label in learned], dtype=float)
        weights = np.array([1 / label.lesson.chance for label in learned])
        model, self._unseen = fit(pairs, wrong, weights)
        self._learned, self._unlearned, self._aimed_at = learned, 0, -1.0
        self.model = model

    def _take_aim(self) -> None:
        """Answer as many as the bound's room allows per request now, and the rate over any longer stretch."""
        if self._unseen is None:
            return
        bound = self.bound
        a = bound.settle(self.confidence)
        room = bound.room(self.rate, self.confidence)
        spend = self.rate + room / max(_SHORTEST, bound.requests / _PATIENCE)
        if spend <= 0:
            self.aim, self._aimed_at = Aim(), -1.0
        elif abs(spend - self._aimed_at) > _NOTICEABLE * self.rate or bound.requests > _STALE * self._aimed_when:
            self.aim, self._aimed_at, self._aimed_when = self._aim_for(spend, a), spend, bound.requests

    def _aim_for(self, spend: float, a: float) -> Aim:
        import numpy as np

        assert self._unseen is not None
        order = np.argsort(self._unseen)
        predicted = self._unseen[order]
        weights = np.array([1 / self._learned[place].lesson.chance for place in order])
        wrong = np.array([self._learned[place].wrong for place in order], dtype=float)
        # What was seen is right on average, but hangs on few wrong answers of great weight; predictions are smooth.
        wrong = _SEEN * wrong + (1 - _SEEN) * predicted
        least, total = self.bound.least_chance, weights.sum()

        def aim_at(count: int) -> Aim:
            limit = float(predicted[count - 1])
            return Aim(limit, 1.0 if count == len(predicted) else limit, a)

        def within(count: int) -> bool:
            looked = aim_at(count).chances(predicted[:count], least)
            answered = weights[:count] * (1 - looked)
            given = float((answered * wrong[:count]).sum() / total)
            guessed = float((answered * predicted[:count] / looked).sum() / total)  # see `Aim.chances`
            return given <= _AIM * self.rate and given + a / 2 * guessed <= spend

        # Not quite rising, so looked through from the most careful on: coarsely, then between two steps.
        few, many = 0, len(predicted)
        for count in np.unique(np.linspace(1, len(predicted), 200, dtype=int)):
            if not within(int(count)):
                many = int(count) - 1
                break
            few = int(count)
        while few < many:
            middle = (few + many + 1) // 2
            few, many = (middle, many) if within(middle) else (few, middle - 1)
        return aim_at(few) if few else Aim()


def _wording(said: Iterable[Any]) -> Sequence[int]:
    wording = array("H", said)
    if any(bucket >= BUCKETS for bucket in wording):
        raise ValueError("no such bucket")
    return wording


def label_entry(lesson: Lesson, *, wrong: bool, warm: bool = False) -> str:
    """A label as it stands in the log: numbers only, nothing of what was asked or answered."""
    numbers, wording = lesson.features
    said: dict[str, object] = {"x": [round(float(value), 5) for value in numbers], "e": round(lesson.chance, 5)}
    if wording:
        said["w"] = wording
    if lesson.predicted is not None:
        said["p"] = round(lesson.predicted, 5)
    if warm:
        said["warm"] = True
    return json.dumps({**said, "wrong": int(wrong)}, separators=(",", ":"))


def answers_entry(count: int, predicted: float, least_chance: float) -> str:
    """So many requests were answered, unlabelled.

    `predicted` is the sum of their predictions; each had at least that chance of being looked into.
    """
    said = {"answered": count, "p": round(predicted, 5), "e": round(least_chance, 5)}
    return json.dumps(said, separators=(",", ":"))
