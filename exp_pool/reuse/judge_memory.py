"""What a verified judge knows of one function in one namespace: labelled pairs, a model of them, and the bound. Pure.

A pair is a request and the stored experience that might answer it. It is labelled where the function ran although the
experience was there: always where the judge abstained, and by the toss of a coin where it would have answered.

The life of a label: a call leaves a `TrainingExample`, with what was predicted and the odds of its being explored. The
answers are compared (`maintenance.answer_comparison`), and the label goes into the function's log (`label_entry`). From
the log every process takes it in (`add`): the bound counts it (`reuse.bound`), the drift alarm hears of it
(`reuse.drift`), and every so many labels the model is fitted anew (`study`). Then the rule is chosen anew
(`reuse.acceptance`): which predictions are answered, and how often these are explored, so that the room that is left in
the bound is used up over a third as many requests as there were so far. A log is written in chapters; `mark` keeps what
the chapters before one added up to, `resume` begins from there.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exp_pool.reuse.acceptance import NOTHING, AcceptanceRule, chosen
from exp_pool.reuse.bound import Bound
from exp_pool.reuse.classifier import PairClassifier, fit
from exp_pool.reuse.drift import DriftDetector
from exp_pool.reuse.pair_features import PairFeatures
from exp_pool.reuse.training_examples import Answers, Label, parsed

if TYPE_CHECKING:
    import numpy as np

_WINDOW = 20_000  # labels that are learned from, the newest: more taught nothing on the questions, and cost seconds
_FIRST, _GROWTH = 200, 1.25  # labels before anything is learned, and how many more before it is learned anew
_ANSWERED_AFTER = 13  # requests, over the rate: before these the bound has no room for an answer, as was measured
_PATIENCE, _SHORTEST = 3, 500  # room is used up over a third as many requests as so far, and over 500 at least
_NOTICEABLE, _STALE = 0.02, 1.05  # changes of what may be spent, and of requests, after which a rule is chosen anew
_BINS, _STEPS = 10, 20  # of predictions, of similarities


@dataclass(slots=True)
class JudgeMemory:
    """What is known of one function. One thread at a time changes it; others read it meanwhile.

    Attributes:
        rate: wrong answers per request that are allowed.
        confidence: of the bound.
        coin: tossed for each request that would be answered.
        bound: on wrong answers; it holds whatever was learned.
        answered: requests that were answered.
        explored: requests that would have been answered and ran all the same.
        alarms: how often what was learned was found to hold no longer.
        current: whether what happened is counted here; False while the store, say, cannot be reached.
        model: what was learned; None: nothing yet.
        rule: which pairs are answered.
        labels: those that are learned from.
        calibration: of each tenth of predicted chances, how many pairs were labelled, and how many were wrong.
        marked: what was known at the last mark, without the labels.
        since_mark: labels since then.
    """

    rate: float
    confidence: float
    coin: random.Random = field(default_factory=random.Random)
    bound: Bound = field(default_factory=Bound)
    answered: int = 0
    explored: int = 0
    alarms: int = 0
    current: bool = True
    model: PairClassifier | None = None
    rule: AcceptanceRule = NOTHING
    labels: deque[Label] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    calibration: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(_BINS)])
    marked: dict[str, Any] | None = None
    since_mark: int = 0
    _detector: DriftDetector = field(default_factory=DriftDetector)
    _new: int = 0  # labels since the model was fitted
    _fitted: tuple[Label, ...] = ()  # labels that the model was fitted to
    _predicted: np.ndarray | None = None  # of each of these, as predicted without it
    _rule_spend: float = -1.0  # what might be spent per request when the rule was chosen
    _rule_requests: int = 0  # how many requests there were then

    # What the judge asks

    def predict(self, pairs: Sequence[PairFeatures]) -> list[float] | None:
        """The chance that the stored answer is wrong, for each pair; None before anything was learned."""
        return None if self.model is None else self.model.chances(pairs)

    @property
    def evidence(self) -> str:
        """How many requests were decided on, and of about how many, until then, that the first answer takes."""
        needed = max(_FIRST, round(_ANSWERED_AFTER / self.rate))
        seen = self.bound.requests
        return f"{seen:,} of about {needed:,} requests" if seen < needed else f"{seen:,} requests"

    def allows(self, predicted: float) -> bool:
        """Whether a pair with this predicted chance of being wrong may be answered now."""
        return self.current and predicted <= self.rule.limit and self.bound.room(self.rate, self.confidence) > 0

    def chance(self, predicted: float) -> float:
        """The chance with which a pair that may be answered is explored instead."""
        import numpy as np

        return float(self.rule.chances(np.array(predicted), self.bound.least_chance))

    def by_similarity(self) -> list[tuple[float, float, int]]:
        """(similarity, share whose stored answer was right, how many) of the labels, in steps of 0.05 that have any.

        The share is weighted: of pairs that are answered few are labelled.
        """
        steps: dict[int, list[Label]] = {}
        for label in tuple(self.labels):
            steps.setdefault(min(int(label.example.features.numbers[0] * _STEPS), _STEPS - 1), []).append(label)
        found = []
        for step, labels in sorted(steps.items()):
            total = sum(1 / label.example.chance for label in labels)
            right = sum((not label.wrong) / label.example.chance for label in labels)
            found.append(((step + 0.5) / _STEPS, right / total, len(labels)))
        return found

    # What became of it

    def add(self, entries: Iterable[str]) -> None:
        """Take in what `label_entry` and `answers_entry` wrote, of whichever process."""
        for entry in entries:
            with suppress(ValueError, KeyError, TypeError, OverflowError):  # a line that cannot be read says nothing
                self._take_in(parsed(entry))

    def _take_in(self, entry: Label | Answers) -> None:
        if isinstance(entry, Answers):
            self.bound.answered(entry.count, entry.predicted, entry.least_chance)
            self.answered += entry.count
            return
        example, wrong, warm = entry
        self.labels.append(entry)
        self.since_mark += 1
        self._new += 1
        if warm:
            return
        if example.chance < 1 and example.predicted is not None:
            self.explored += 1
            self.bound.explored(example.chance, example.predicted, wrong=wrong)
        else:
            self.bound.abstained()
        if example.predicted is not None:
            seen = self.calibration[min(int(example.predicted * _BINS), _BINS - 1)]
            seen.update(pairs=1, wrong=wrong)
            if self._detector.raised_by(example.predicted, wrong=wrong):
                self._begin_anew()

    def mark(self) -> None:
        """Keep what is known where a new log begins: it is carried over once the log before is gone."""
        bound = self.bound
        self.since_mark = 0
        self.marked = {
            "answered": self.answered,
            "looked_into": self.explored,
            "alarms": self.alarms,
            "bound": [bound.requests, bound.estimate, bound.given_up, *bound.weights],
        }

    def resume(self, carried: Mapping[str, Any] | None) -> None:
        """Begin with what `mark` kept of the logs that are gone; None: there are none."""
        if carried is not None:
            self.answered, self.explored = carried["answered"], carried["looked_into"]
            self.alarms = carried["alarms"]
            requests, estimate, given_up, *weights = carried["bound"]
            self.bound = Bound(requests, estimate, given_up, weights)
        self.mark()

    def _begin_anew(self) -> None:
        """Forget what was learned, which holds no longer: nothing is answered until it is learned anew.

        The bound stays.
        """
        self.alarms += 1
        self.labels.clear()
        self._new, self._fitted, self._predicted = 0, (), None
        self.model, self.rule, self._rule_spend = None, NOTHING, -1.0
        self._detector = DriftDetector()

    # What follows from it

    def study(self) -> None:
        """Fit the model anew where there are enough new labels, and choose the rule anew. Takes up to seconds."""
        if self._new >= max(_FIRST, int(len(self._fitted) * (_GROWTH - 1))):
            self._fit()
        if self._predicted is not None:
            self._choose_rule(self._predicted)

    def _fit(self) -> None:
        import numpy as np

        width = len(self.labels[-1].example.features.numbers)  # another version's labels have others
        labels = tuple(label for label in self.labels if len(label.example.features.numbers) == width)
        wrong = np.array([label.wrong for label in labels], dtype=float)
        weights = np.array([1 / label.example.chance for label in labels])
        model, self._predicted = fit([label.example.features for label in labels], wrong, weights)
        self._fitted, self._new, self._rule_spend = labels, 0, -1.0
        self.model = model

    def _choose_rule(self, predicted: np.ndarray) -> None:
        """Answer as many as the bound's room allows per request now, and the rate over any longer stretch."""
        bound = self.bound
        a = bound.settle(self.confidence)
        room = bound.room(self.rate, self.confidence)
        spend = self.rate + room / max(_SHORTEST, bound.requests / _PATIENCE)
        if spend <= 0:
            self.rule, self._rule_spend = NOTHING, -1.0
        elif abs(spend - self._rule_spend) > _NOTICEABLE * self.rate or bound.requests > _STALE * self._rule_requests:
            self.rule = chosen(
                predicted, self._fitted, rate=self.rate, spend=spend, a=a, least_chance=bound.least_chance
            )
            self._rule_spend, self._rule_requests = spend, bound.requests
