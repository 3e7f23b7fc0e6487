"""Importers: experiences from other systems into a pool, ``importers.load(manager, path, format="metagpt")``.

A format is one file here and one line in `FORMATS`. `load` tells the story: a source is read piece by piece
(`safe_files`), each format makes experiences of its items (`types` says what it has to offer), and these are written a
batch at a time (`ingest`), so that memory stays flat and what was killed goes on when it is started again.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from exp_pool.core.experience import Trust
from exp_pool.curation.importers.ingest import Ingester
from exp_pool.curation.importers.report import ImportReport, Skipped
from exp_pool.curation.importers.safe_files import ImportSource, Items, first_value
from exp_pool.curation.importers.types import Imported, Importer, ImportOptions, Peek
from exp_pool.errors import ExpPoolError, InvalidInputError, SourceError
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.progress import bar

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager

# In the order in which they are tried on a source of unknown format: those that are told by more first.
FORMATS = {
    "jsonl": "exp_pool.curation.importers.jsonl",
    "parquet": "exp_pool.curation.importers.parquet",
    "metagpt": "exp_pool.curation.importers.metagpt",
    "agentheaven": "exp_pool.curation.importers.agentheaven",
    "gptcache": "exp_pool.curation.importers.gptcache",
    "langchain": "exp_pool.curation.importers.langchain",
    "otel": "exp_pool.curation.importers.otel",
    "mlflow": "exp_pool.curation.importers.mlflow",
    "langsmith": "exp_pool.curation.importers.langsmith",
    "langfuse": "exp_pool.curation.importers.langfuse",
    "claude-code": "exp_pool.curation.importers.claude_code",
    "codex": "exp_pool.curation.importers.codex",
    "openai": "exp_pool.curation.importers.openai",
    "csv": "exp_pool.curation.importers.csv",
}
_MB = 2**20
_HEAD = 2**16  # bytes by which a format is recognised
_LOOKED_AT = 10  # files of a folder, for that
_BAD_INPUT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)  # pydantic's is a ValueError


def load(
    manager: ExpManager,
    path: str | Path,
    format: str | None = None,  # noqa: A002  (the word that everybody uses)
    *,
    function: str | None = None,
    trust: Trust | str = Trust.QUARANTINED,
    columns: Mapping[str, str] | None = None,
    requests: str | Path | None = None,
    keep_namespaces: bool = False,
    revive: bool = False,
    skip_damaged: bool = False,
) -> ImportReport:
    """Import the experiences of a file, or of a folder of files, into the namespace (see `in_namespace`).

    They have ``origin="imported"`` and are quarantined until a person promotes them (``update_exp(id,
    trust="trusted")``), unless `trust` says otherwise. Duplicates in a source are stored once. Importing a source again
    adds nothing, so a killed import continues when it is started again. Nothing in the pool is overwritten: if the pool
    has an answer of the same call that is trusted (the new one is not), annotated (the new one is not) or newer, that
    answer stays current, and the new one becomes history. Secrets are left out of requests and metadata, as when calls
    are recorded.

    Args:
        manager: whose pool.
        path: the file, or a folder; gzip is unpacked while it is read. Links are not followed.
        format: one of `FORMATS`; None: the one that the source looks like.
        function: the name under which everything is stored; by default what the source says, which some never do.
        trust: ``"trusted"``: may be used at once. What an exported pool had quarantined stays so.
        columns: of CSV, foreign Parquet and JSON lines, by field (``request``, ``response``, ``arguments.NAME``,
            ``metadata.NAME``, ``score``, ...) the column or member; by default those of these names.
        requests: of OpenAI's batch output the file of the requests.
        keep_namespaces: rows of exported pools go to the namespaces that they were in.
        revive: bring in what was deleted from this pool, too.
        skip_damaged: go on behind what cannot be read, and report it.

    Returns:
        what was stored, and what was left out and why.

    Raises:
        InvalidInputError: an option is wrong, or needed and missing.
        SourceError: the source is damaged or of another format; what stood before is imported, see its `report`.
        ConfigurationError: the format needs a package that is not installed.
        StoreError: the store failed; what was written before is kept.
    """
    root = Path(path)
    started, pool = monotonic(), manager.sync
    wanted = _checked_trust(trust)
    if function is not None and (not isinstance(function, str) or not function.strip()):
        raise InvalidInputError(f"function={function!r} must be the name under which calls are stored, not empty")
    report = ImportReport(path=str(root))
    source = ImportSource(root, skip_damaged=skip_damaged, skipped=report.skip)
    if format is None and columns and root.name.removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json")):
        format = "jsonl"  # noqa: A001  (who says which member is which does not need it to look like one of ours)
    name, importer = _importer(format, source)
    report.format = name
    if importer.NEEDS_FUNCTION and function is None:
        raise InvalidInputError(f"{name} files do not say whose calls they hold; say so with function=")
    options = ImportOptions(
        function,
        dict(columns or {}),
        None if requests is None else Path(requests),
        datetime.fromtimestamp(root.lstat().st_mtime, UTC),
        pool.namespace,
        pool.secret,
        wanted is Trust.TRUSTED,
    )
    writing = Ingester(pool, report, wanted, revive=revive, keep_namespaces=keep_namespaces)
    with bar(f"importing {root.name}", source.size() // _MB) as advance:
        source.report_bytes_to(lambda read: advance(f"{report.read:,} read", read / _MB))
        try:
            for where, item in _items(importer, source, options):
                report.read += 1
                for made in _experiences_of(importer, where, item, options, report):
                    writing.add(where, made)
        except SourceError as err:
            err.report = report
            raise
        finally:  # also when the user stops it
            writing.finish()
            report.seconds = monotonic() - started
    return report


def _items(importer: Importer, source: ImportSource, options: ImportOptions) -> Items:
    """Items of the source. An error of the importer ends them, as damage does."""
    try:
        yield from importer.items(source, options)
    except ExpPoolError:
        raise
    except (*_BAD_INPUT, OSError) as err:
        raise SourceError(
            f"{source.path} is not what was expected: {_reason(err)}; what stood before is imported"
        ) from err


def _experiences_of(
    importer: Importer, where: str, item: Any, options: ImportOptions, report: ImportReport
) -> list[Imported]:
    """Experiences of one item; what cannot be imported is reported."""
    try:
        return list(importer.experiences(item, options))
    except _BAD_INPUT as err:
        report.skip(where, _reason(err))
        return []


def recognise(path: str | Path) -> str | None:
    """The format that a file or folder looks like, None if none.

    Raises:
        SourceError: there is no such file, or it is a link, a device or a pipe.
    """
    return _format_of(ImportSource(Path(path)))


def _importer(format_: str | None, source: ImportSource) -> tuple[str, Importer]:
    # What of a folder is damaged is told when it is imported, not twice.
    name = _format_of(ImportSource(source.path, skip_damaged=source.is_folder)) if format_ is None else format_
    if name is None:
        raise SourceError(
            f"{source.path} looks like no known format; say which: {', '.join(sorted(FORMATS))}; or, of "
            'tables and JSON lines, which column is which with columns={"request": "...", "response": "..."}'
        )
    if name not in FORMATS:
        raise InvalidInputError(f"format={name!r:.80} is unknown; known: {', '.join(sorted(FORMATS))}")
    return name, _module(name)


def _module(name: str) -> Importer:
    return cast("Importer", importlib.import_module(FORMATS[name]))


def _format_of(source: ImportSource) -> str | None:
    """Format of the first file that is recognised: a folder may also hold a page about its files."""
    for file in islice(source.files(), _LOOKED_AT):
        peek = _peek(source, file)
        for name in FORMATS:
            if _module(name).recognise(peek):
                return name
    return None


def _peek(source: ImportSource, first: Path) -> Peek:
    head = next(source.chunks(first), b"")[:_HEAD]
    return Peek(first.name, head, first_value(head))


def _checked_trust(trust: Trust | str) -> Trust:
    try:
        return Trust(trust)
    except ValueError as err:
        raise InvalidInputError(f"trust={trust!r:.80} must be 'quarantined' or 'trusted'") from err


def _reason(err: Exception) -> str:
    """Reason why something was left out, in one line; of pydantic errors the first."""
    errors = getattr(err, "errors", None)
    if callable(errors) and (listed := errors()):
        return f"{'.'.join(map(str, listed[0]['loc'])) or 'it'}: {listed[0]['msg'].removeprefix('Value error, ')}"
    if isinstance(err, LookupError) and not isinstance(err, InvalidInputError):
        return f"it has no {err.args[0]!r}" if err.args else "something is missing"
    return str(err) or type(err).__name__


__all__ = ["FORMATS", "ImportReport", "Skipped", "load", "recognise"]
