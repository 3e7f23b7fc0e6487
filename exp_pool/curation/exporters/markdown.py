"""Markdown report: how many experiences each function has, how they score, and its best examples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from exp_pool.core.experience import Experience
from exp_pool.curation.exporters.chats import as_text
from exp_pool.curation.exporters.output import Output
from exp_pool.curation.exporters.selection import ExportSelection
from exp_pool.runtime.clock import now

FOLDER = False
TRAINING = False
_SHOWN = 3  # examples of a function: the best ones
_LONGEST = 400  # letters of a text


@dataclass(slots=True)
class _Function:
    rows: int = 0
    annotated: int = 0
    scored: int = 0
    score: float = 0.0
    used: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    best: list[tuple[tuple[bool, float, int], str, Experience]] = field(default_factory=list)

    def add(self, experience: Experience) -> None:
        """Count one more."""
        score = experience.score
        self.rows += 1
        self.annotated += experience.annotated
        self.scored += score is not None
        self.score += 0.0 if score is None else score.value
        self.used += experience.access_count
        self.kinds[experience.kind.value] += 1
        if experience.model:
            self.models[experience.model] += 1
        rank = (experience.annotated, -1.0 if score is None else score.value, experience.access_count)
        self.best = sorted([*self.best, (rank, experience.id, experience)], key=lambda each: each[:2])[-_SHOWN:]


def write(selection: ExportSelection, output: Output) -> None:
    """A table of functions, and the best examples of each."""
    for side in selection.sides:
        functions: dict[str, _Function] = {}
        for experience in selection.experiences(side):
            functions.setdefault(experience.function, _Function()).add(experience)
        with output.file(f"{side}.md", side) as file:
            file.write(_page(selection, functions).encode("utf-8", "replace"))
            file.rows = sum(summary.rows for summary in functions.values())


def _page(selection: ExportSelection, functions: dict[str, _Function]) -> str:
    rows = sum(summary.rows for summary in functions.values())
    lines = [
        f"# Experiences of `{_inline(selection.namespace)}`",
        "",
        f"{rows:,} experiences of {len(functions):,} functions, {now():%Y-%m-%d %H:%M} UTC.",
        "",
        *(f"- {count:,} left out: {why}" for why, count in selection.left_out.items()),
        "",
        "| function | experiences | annotated | scored | mean score | used | kinds | models |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for name, summary in sorted(functions.items(), key=lambda each: (-each[1].rows, each[0])):
        mean = f"{summary.score / summary.scored:.2f}" if summary.scored else ""
        cells = (
            f"`{_inline(name)}`",
            *(f"{number:,}" for number in (summary.rows, summary.annotated, summary.scored)),
            mean,
            f"{summary.used:,}",
            _counted(summary.kinds),
            _counted(summary.models),
        )
        lines.append(f"| {' | '.join(cells)} |")
    for name, summary in sorted(functions.items()):
        lines += ["", f"## `{_inline(name)}`"]
        for _, id_, experience in reversed(summary.best):
            lines += ["", *_example(id_, experience)]
    return "\n".join(lines) + "\n"


def _example(id_: str, experience: Experience) -> list[str]:
    score = experience.score
    said = [f"id `{_inline(id_)}`"]
    said += ["annotated"] if experience.annotated else []
    said += [f"score {score.value:.2f} by {_inline(score.scorer) or 'unknown'}"] if score is not None else []
    return [
        f"**Asked** ({', '.join(said)}):",
        "",
        *_quoted(experience.request),
        "",
        "**Answer**:",
        "",
        *_quoted(as_text(experience.value)),
    ]


def _quoted(text: str) -> list[str]:
    """As a block of code, which no text in it can leave: what was stored shall not become part of the page."""
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text) - _LONGEST:,} letters more)"
    return [f"    {line}" for line in shown.splitlines() or [""]]


def _inline(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "\\|").split())


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{_inline(name)} {count:,}" for name, count in counts.most_common(3))
