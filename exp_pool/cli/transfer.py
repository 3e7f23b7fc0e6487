"""Commands for files: import, export."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from exp_pool.cli.common import PoolOptions, WhereOption, json_object, with_options
from exp_pool.cli.output import as_json, line, note
from exp_pool.core.experience import Trust
from exp_pool.curation.importers.report import ImportReport
from exp_pool.errors import SourceError

app = typer.Typer()


class Include(StrEnum):
    """What is exported only on request."""

    QUARANTINED = "quarantined"
    EXPIRED = "expired"
    FAILURES = "failures"


@app.command("import")
@with_options()
def import_(
    options: PoolOptions,
    path: Annotated[Path, typer.Argument(help="A file, or a folder of files.")],
    format_: Annotated[str | None, typer.Option("--format", "-f", help="By default what it looks like.")] = None,
    function: Annotated[str | None, typer.Option(help="The name under which all of it is stored.")] = None,
    trust: Annotated[Trust, typer.Option(help="trusted: it may be used at once.")] = Trust.QUARANTINED,
    columns: Annotated[
        dict[str, Any] | None,
        typer.Option(
            parser=json_object, metavar="JSON", help="""For tables and JSON lines: '{"request": "question"}'."""
        ),
    ] = None,
    requests: Annotated[Path | None, typer.Option(help="The requests file of OpenAI's batch output.")] = None,
    keep_namespaces: Annotated[bool, typer.Option(help="Rows of exported pools stay in their namespaces.")] = False,
    revive: Annotated[bool, typer.Option(help="Bring in what was deleted from this pool, too.")] = False,
    skip_damaged: Annotated[bool, typer.Option(help="Go on behind what cannot be read.")] = False,
) -> None:
    """Bring in experiences of others: logs, traces, caches, tables. Quarantined, until they are promoted.

    Exit code 1: nothing of it could be taken, and nothing was there already.

    Example: exp-pool import traces.jsonl --format otel
    """
    from exp_pool.curation import importers

    with options.opened(existing=False) as manager:
        try:
            report = importers.load(
                manager,
                path,
                format_,
                function=function,
                trust=trust,
                columns=columns,
                requests=requests,
                keep_namespaces=keep_namespaces,
                revive=revive,
                skip_damaged=skip_damaged,
            )
        except SourceError as err:
            if err.report is not None:
                note("imported before that", str(err.report), "yellow")
            raise
    if options.json:
        as_json({name: value for name, value in _plain(report).items() if name != "behind"})
    else:
        line(str(report))
        if report.stored and trust is Trust.QUARANTINED:
            line("They are quarantined: exp-pool list shows them, exp-pool promote takes them into use")
    if report.read and not (report.stored or report.history or report.known):
        raise typer.Exit(1)


@app.command()
@with_options()
def export(
    options: PoolOptions,
    path: Annotated[Path, typer.Argument(help="The file or folder to write.")],
    format_: Annotated[
        str, typer.Option("--format", "-f", help="jsonl, parquet, sft, dpo, dspy, datasets or markdown.")
    ] = "jsonl",
    where: WhereOption = None,
    include: Annotated[list[Include] | None, typer.Option(help="What is left out otherwise.")] = None,
    history: Annotated[bool | None, typer.Option(help="Earlier answers; by default in jsonl and parquet.")] = None,
    deduplicate: Annotated[bool | None, typer.Option(help="Leave out doubles; by default in training data.")] = None,
    redact: Annotated[bool, typer.Option(help="Leave out secrets.")] = True,
    test_share: Annotated[float, typer.Option(min=0, max=1, help="The share of the test side.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Which ones go to which side.")] = 0,
    min_gap: Annotated[float, typer.Option(help="Of dpo: by how much scores differ at least.")] = 0.2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export there.")] = False,
) -> None:
    """Write experiences to a file: to be imported again, to be read, or to train on. Without secrets.

    Example: exp-pool export train --format sft --where '{"score": {"gte": 0.8}}' --test-share 0.1
    """
    from exp_pool.curation import exporters

    with options.opened() as manager:
        manifest = exporters.save(
            manager,
            path,
            format_,
            where=where,
            include=[each.value for each in include or []],
            history=history,
            deduplicate=deduplicate,
            redact=redact,
            test_share=test_share,
            seed=seed,
            min_gap=min_gap,
            overwrite=overwrite,
        )
    options.answer(_plain(manifest), str(manifest))


def _plain(report: Any) -> dict[str, Any]:
    plain = asdict(report)
    if isinstance(report, ImportReport):
        plain["reasons"] = dict(report.reasons)  # `asdict` counts the pairs of a Counter
    return plain
