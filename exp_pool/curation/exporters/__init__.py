"""Exporters: experiences to files, ``exporters.save(manager, path, format="sft", where={"score": {"gte": 0.8}})``.

A format is one file here and one line in `FORMATS`. What goes out is chosen in one place (`selection`): never what is
quarantined, expired or failed unless it is asked for, never a secret, and of an annotated experience the answer that it
should have given. Files appear whole or not at all (`output`), with a manifest of counts and hashes.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from exp_pool.core.filters import parse_where
from exp_pool.curation.exporters.output import Manifest, ManifestFile, Output, verify
from exp_pool.curation.exporters.selection import INCLUDABLE, ExportSelection
from exp_pool.errors import InvalidInputError

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager

FORMATS = {
    "jsonl": "exp_pool.curation.exporters.jsonl",
    "parquet": "exp_pool.curation.exporters.parquet",
    "sft": "exp_pool.curation.exporters.sft",
    "dpo": "exp_pool.curation.exporters.dpo",
    "dspy": "exp_pool.curation.exporters.dspy",
    "datasets": "exp_pool.curation.exporters.datasets",
    "markdown": "exp_pool.curation.exporters.markdown",
}


class Exporter(Protocol):
    """Export format, as a module."""

    FOLDER: bool
    """It is a folder even where it is not split."""
    TRAINING: bool
    """It holds questions and answers to learn from, not rows of a pool: no insights, no history, nothing twice."""

    def write(self, selection: ExportSelection, output: Output) -> None:
        """Write the selected rows.

        Raises:
            ConfigurationError: a package that it needs is not installed.
        """
        ...


def save(
    manager: ExpManager,
    path: str | Path,
    format: str = "jsonl",  # noqa: A002  (the word that everybody uses)
    *,
    where: Mapping[str, Any] | None = None,
    include: Collection[str] = (),
    history: bool | None = None,
    deduplicate: bool | None = None,
    redact: bool = True,
    test_share: float = 0.0,
    seed: int = 0,
    min_gap: float = 0.2,
    overwrite: bool = False,
) -> Manifest:
    """Export experiences of the namespace to a file, or to a folder where the format or a split needs one.

    Of an annotated experience the answer is `expected`. Secrets are redacted in everything, answers too; an answer in
    which something was redacted comes back quarantined when it is imported.

    Args:
        manager: whose pool.
        path: the file or folder to write; it must not be there yet, see `overwrite`.
        format: one of `FORMATS`. ``jsonl`` and ``parquet`` can be imported again, with ids, scores, annotations and
            history; ``sft`` is one chat for each experience, ``dpo`` pairs of a better and a worse answer.
        where: conditions, as for queries.
        include: what is left out otherwise: ``"quarantined"``, ``"expired"``, ``"failures"``.
        history: earlier answers, too; by default where the format can be imported again.
        deduplicate: leave out what has the request and answer of another one, but for case and spaces; by default in
            training data.
        redact: leave out secrets.
        test_share: the share of what goes to the test side, 0 to 1; more than 0 makes a folder of two sides. Requests
            that are nearly the same, in letters or by the pool's vectors, and answers that were drawn from each other
            go to the same side.
        seed: which ones go to which side.
        min_gap: of ``dpo``: by how much the scores of two answers differ at least, if no person decided.
        overwrite: replace what an earlier export wrote there.

    Raises:
        InvalidInputError: an option is wrong, or something is at `path`.
        ConfigurationError: the format needs a package that is not installed; the message names it.
        StoreError: the store failed; nothing is written.
        OSError: a file cannot be written.
    """
    if format not in FORMATS:
        raise InvalidInputError(f"format={format!r:.80} is unknown; known: {', '.join(FORMATS)}")
    unknown = set(include) - INCLUDABLE if not isinstance(include, str) else {include}
    if unknown:
        raise InvalidInputError(f"include={include!r:.80} takes a collection of {', '.join(sorted(INCLUDABLE))}")
    for name, value in (("test_share", test_share), ("min_gap", min_gap)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InvalidInputError(f"{name}={value!r} must be a number of 0 to 1")
    exporter = cast("Exporter", importlib.import_module(FORMATS[format]))
    selection = ExportSelection(
        pool=manager.sync,
        where=parse_where(where),
        include=frozenset(include),
        history=not exporter.TRAINING if history is None else history,
        deduplicate=exporter.TRAINING if deduplicate is None else deduplicate,
        redact=redact,
        training=exporter.TRAINING,
        test_share=test_share,
        seed=seed,
        min_gap=min_gap,
    )
    with Output(Path(path), format, folder=exporter.FOLDER or test_share > 0, overwrite=overwrite) as output:
        exporter.write(selection, output)
        return output.finish(selection.left_out, selection.said)


__all__ = ["FORMATS", "Manifest", "ManifestFile", "save", "verify"]
