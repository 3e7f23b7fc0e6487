"""Training examples of a judge that learns, and the lines that a function's log has of them. Pure.

The log holds numbers only, nothing of what was asked or answered. Another version of this package may have written it.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from exp_pool.reuse.pair_features import BUCKETS, PairFeatures


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A pair of a request and the stored experience that might answer it, before it is known whether that is right.

    Attributes:
        features: what is known of the pair.
        predicted: the chance, 0 to 1, that the stored answer is wrong; None where nothing was learned yet.
        chance: with which the pair is labelled, above 0 to 1: 1 where the judge abstained, else that of exploring it.
    """

    features: PairFeatures
    predicted: float | None
    chance: float


class Label(NamedTuple):
    """A training example, and whether its stored answer was wrong for the request.

    `warm`: somebody gave the label, no coin. It is learned from, and does not count for the bound.
    """

    example: TrainingExample
    wrong: bool
    warm: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """Requests that were answered and not labelled.

    Attributes:
        count: how many.
        predicted: the sum of their predicted chances of being wrong.
        least_chance: each could have been explored with at least this chance.
    """

    count: int
    predicted: float
    least_chance: float


def label_entry(example: TrainingExample, *, wrong: bool, warm: bool = False) -> str:
    """A label as it stands in the log.

    Args:
        example: what is labelled.
        wrong: whether its stored answer was wrong.
        warm: somebody gave the label, no coin.
    """
    numbers, wording = example.features
    fields: dict[str, object] = {"x": [round(float(value), 5) for value in numbers], "e": round(example.chance, 5)}
    if wording:
        fields["w"] = wording
    if example.predicted is not None:
        fields["p"] = round(example.predicted, 5)
    if warm:
        fields["warm"] = True
    return json.dumps({**fields, "wrong": int(wrong)}, separators=(",", ":"))


def answers_entry(count: int, predicted: float, least_chance: float) -> str:
    """`Answers` as they stand in the log.

    Args:
        count: how many requests were answered.
        predicted: the sum of their predicted chances of being wrong.
        least_chance: each could have been explored with at least this chance.
    """
    fields = {"answered": count, "p": round(predicted, 5), "e": round(least_chance, 5)}
    return json.dumps(fields, separators=(",", ":"))


def parsed(entry: str) -> Label | Answers:
    """What a line of the log says.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: it is damaged, or another version's.
    """
    fields: Mapping[str, Any] = json.loads(entry)
    if "answered" in fields:
        return Answers(int(fields["answered"]), float(fields["p"]), float(fields["e"]))
    predicted = None if "p" not in fields else float(fields["p"])
    example = TrainingExample(
        PairFeatures(array("f", fields["x"]), _wording(fields.get("w", ()))), predicted, float(fields["e"])
    )
    if not 0 < example.chance <= 1:
        raise ValueError(f"{example.chance!r} is no chance")
    return Label(example, bool(fields["wrong"]), bool(fields.get("warm", False)))


def _wording(given: Iterable[Any]) -> Sequence[int]:
    wording = array("H", given)
    if any(bucket >= BUCKETS for bucket in wording):
        raise ValueError("no such bucket")
    return wording
