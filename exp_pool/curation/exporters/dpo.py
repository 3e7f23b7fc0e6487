"""Preference pairs (direct preference optimisation): a chosen and a rejected answer to one call, in the form of TRL.

``{"prompt": [...], "chosen": [...], "rejected": [...]}``. What decides, in this order: a person (an annotated answer is
better than what was answered, then and at other times), else scores that differ by at least `min_gap`. Conflicts that
nobody decided are left out and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from exp_pool.core.experience import MISSING, Experience
from exp_pool.curation.exporters.chats import answer_message, as_text, prompt_messages
from exp_pool.curation.exporters.output import Output
from exp_pool.curation.exporters.selection import ExportSelection

FOLDER = False
TRAINING = True


class _Candidate(NamedTuple):
    value: Any
    by_a_person: bool
    score: float | None


def write(selection: ExportSelection, output: Output) -> None:
    """One line for each pair."""
    for side in selection.sides:
        with output.file(f"{side}.jsonl", side) as file:
            for call in _calls(selection, side):
                for chosen, rejected in _pairs(selection, call):
                    prompt = prompt_messages(call[0])
                    file.line(
                        {"prompt": prompt, "chosen": [answer_message(chosen)], "rejected": [answer_message(rejected)]}
                    )


def _calls(selection: ExportSelection, side: str | None) -> Iterator[list[Experience]]:
    """Experiences of each call that has several answers; versions of a function count as one."""
    ids: dict[bytes, list[str]] = {}
    several: set[bytes] = set()
    for record in selection.records(side, all_answers=True):
        call = hashlib.sha256(f"{record.function}\0{record.arguments}".encode("utf-8", "surrogatepass")).digest()[:16]
        ids.setdefault(call, []).append(record.id)
        if record.annotated or len(ids[call]) > 1:
            several.add(call)
    for call, of_call in ids.items():
        if call in several:
            rows = selection.store.get_many(selection.namespace, of_call, by="id")
            read = [selection.experience(row) for row in rows if row is not None]
            if experiences := [experience for experience in read if experience is not None]:
                yield experiences


def _pairs(selection: ExportSelection, call: Sequence[Experience]) -> Iterator[tuple[Any, Any]]:
    candidates: dict[str, _Candidate] = {}  # by text: the best that is said of an answer counts
    for experience in call:
        score = None if experience.score is None else experience.score.value
        found = [_Candidate(experience.response, by_a_person=False, score=None if experience.annotated else score)]
        if experience.annotated:
            found.append(_Candidate(experience.expected, by_a_person=True, score=None))
        for each in found:
            text = "" if each.value is MISSING else as_text(each.value)
            if each.value is not MISSING and (text not in candidates or _rank(candidates[text]) < _rank(each)):
                candidates[text] = each
    best = max(candidates.values(), key=_rank, default=None)
    for other in candidates.values():
        if best is None or other is best:
            continue
        if best.by_a_person and other.by_a_person:
            selection.left_out["two people disagree"] += 1
        elif best.by_a_person or (
            best.score is not None and other.score is not None and best.score - other.score >= selection.min_gap
        ):
            yield best.value, other.value
        else:
            selection.left_out["nobody decided"] += 1


def _rank(candidate: _Candidate) -> tuple[bool, float]:
    return candidate.by_a_person, -1.0 if candidate.score is None else candidate.score
