"""Declarative mapping of trace spans: a format names the place of each field, this module reads it there.

A place is a path of names into the span, ``usage/input``. ``a|b`` is b where a holds nothing. JSON text on the way is
read as the object that it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from exp_pool.core.experience import MISSING, Experience, Metric, Score
from exp_pool.curation.importers.openai import answer_in
from exp_pool.curation.importers.types import (
    ImportOptions,
    LeftOutError,
    arguments_of,
    from_json,
    imported_call,
    parse_time,
    seconds_between,
    token_count,
)

_NOT_RECORDED = "its input or output was not recorded; many instrumentations do that only when they are asked to"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanMapping:
    """Places of the fields in the spans of one format; `failures`: values at `failed` of a call that failed."""

    source: str
    function: str = "name"
    id: str = "id"
    start: str
    end: str
    model: str
    money_usd: str = ""
    tokens_in: str
    tokens_out: str
    metadata: Mapping[str, str]
    failed: str = ""
    failures: tuple[Any, ...] = ()

    def experience(
        self,
        span: Mapping[str, Any],
        options: ImportOptions,
        given: Any,
        answer: Any,
        scores: Mapping[str, Score] | None = None,
    ) -> Experience:
        """Experience of a span.

        Args:
            span: an object of the source.
            options: of the import.
            given: what the call was given, named or not; None: it was not recorded.
            answer: what came of it; `MISSING`: it was not recorded.
            scores: by scorer.

        Raises:
            LeftOutError: the call failed, its content was not recorded, or the function is unknown.
            ValueError: a time or a cost cannot be read.
        """
        if find(span, self.failed) in self.failures:
            raise LeftOutError("it failed")
        if given is None or answer is MISSING:
            raise LeftOutError(_NOT_RECORDED)
        start, cost = find(span, self.start), find(span, self.money_usd)
        return imported_call(
            options,
            self.source,
            find(span, self.function),
            arguments_of(given),
            answer,
            source_id=find(span, self.id),
            created_at=parse_time(start),
            metadata={name: find(span, place) for name, place in self.metadata.items()},
            model=find(span, self.model),
            scores=scores,
            metric=Metric(
                time_s=seconds_between(start, find(span, self.end)),
                money_usd=None if cost is None else float(cost),
                tokens_in=token_count(find(span, self.tokens_in)),
                tokens_out=token_count(find(span, self.tokens_out)),
            ),
        )


def find(span: Any, places: str) -> Any:
    """Value at the first of these places that holds one; None where none does."""
    for place in places.split("|"):
        found = span
        for name in place.split("/"):
            found = from_json(found)
            found = found.get(name) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    return None


def scores_of(rated: Iterable[tuple[Any, Any, Any]], unnamed: str = "") -> dict[str, Score]:
    """Scores by scorer from names, values and reasons; values outside 0 to 1 are left out."""
    return {
        str(name or unnamed): Score(value=float(value), reason=str(reason or ""), scorer=str(name or unnamed))
        for name, value, reason in rated
        if isinstance(value, int | float) and 0 <= value <= 1
    }


def model_answer(output: Any) -> Any:
    """Text of a model's answer in one of OpenAI's forms; anything else as it is."""
    found = answer_in(output) if isinstance(output, Mapping) else MISSING
    return output if found is MISSING else found
