"""Hugging Face dataset on disk (``datasets.load_from_disk``): chats to train on, as in `sft`, with their origin.

Columns: ``messages`` (role, content), ``id``, ``function``, ``score``, ``annotated``. A split gives a `DatasetDict`
with ``train`` and ``test``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from exp_pool.curation.exporters.chats import answer_message, as_text, prompt_messages
from exp_pool.curation.exporters.output import Output
from exp_pool.curation.exporters.selection import ExportSelection
from exp_pool.curation.optional_packages import package

FOLDER = True
TRAINING = True


def write(selection: ExportSelection, output: Output) -> None:
    """One row for each experience."""
    datasets = package("datasets", "datasets")
    with _without_its_bars(datasets):
        _write(datasets, selection, output)


def _write(datasets: Any, selection: ExportSelection, output: Output) -> None:
    text = datasets.Value("string")
    features = datasets.Features(
        messages=[{"role": text, "content": text}],
        id=text,
        function=text,
        score=datasets.Value("float64"),
        annotated=datasets.Value("bool"),
    )
    beside = output.path_of("_rows/")  # else a copy would stay in the user's cache
    splits = {
        side: datasets.Dataset.from_generator(
            _rows,
            features=features,
            cache_dir=str(beside / str(side)),
            gen_kwargs={"selection": selection, "side": side},
            fingerprint=f"exp_pool-{side}",  # else everything that the generator refers to would be pickled
        )
        for side in selection.sides
    }
    whole = splits[None] if None in splits else datasets.DatasetDict(splits)
    one_file = 1 if None in splits else dict.fromkeys(splits, 1)
    whole.save_to_disk(str(output.root), num_shards=one_file)
    shutil.rmtree(beside)
    for name in output.uncounted():
        side = None if None in splits else name.partition("/")[0]
        of_rows = name.endswith(".arrow")
        output.count_file(name, splits[side].num_rows if of_rows else 0, side if of_rows else None)


@contextmanager
def _without_its_bars(datasets: Any) -> Iterator[None]:
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _rows(selection: ExportSelection, side: str | None) -> Iterator[dict[str, Any]]:
    for experience in selection.experiences(side):
        messages = [*prompt_messages(experience), answer_message(experience.value)]
        yield {
            "messages": [{"role": each["role"], "content": as_text(each.get("content"))} for each in messages],
            "id": experience.id,
            "function": experience.function,
            "score": None if experience.score is None else experience.score.value,
            "annotated": experience.annotated,
        }
