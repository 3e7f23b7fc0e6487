"""``exp-pool``, or ``python -m exp_pool``: a pool from the command line.

One file for each group of commands: `stats`, `show`, `edit`, `transfer` (files in and out), `snapshot`, `jobs`
(long work: scoring, filling, measuring) and `maintain`. What they share is `common` (a manager, and errors as messages)
and `output` (tables, JSON, pages).

Exit codes: 0 all is well, 1 something is damaged or could not be done (it says what), 2 the command was not understood,
141 whoever read the output has stopped reading.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from exp_pool import __version__
from exp_pool.cli import edit, jobs, maintain, show, snapshot, stats, transfer
from exp_pool.cli.common import set_option_names
from exp_pool.cli.output import stop_writing

app = typer.Typer(
    name="exp-pool",
    help="See, correct, move and look after what agents have learned. Without options: the pool of the project in "
    "which you are, and the namespace of its settings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"exp_pool {__version__}")
        raise typer.Exit


@app.callback()
def of_all(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Options that belong to no command."""
    del version  # its callback has ended the program
    if context.invoked_subcommand is not None:
        set_option_names(getattr(context.command, "commands", {}).get(context.invoked_subcommand))


for group in (stats, show, edit, transfer, jobs, maintain):
    app.registered_commands += group.app.registered_commands
app.add_typer(snapshot.app, name="snapshot")


def main() -> None:
    """Run the command line."""
    if sys.stdout is None:  # it was started with its output closed
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (as long as the process)
    try:
        app()
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            stop_writing()
