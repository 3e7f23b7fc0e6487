"""What caches get wrong: one list of cases, asked of exp_pool and of its peers in the same way.

``python benchmarks/correctness_vs_peers.py [--case TEXT] [--library NAME] [--json]``. How each library is asked, and
with which options, stands in `peers/adapters.py`. Nothing here is a measure of speed.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import os
import sys
from dataclasses import asdict

from peers import durable, faces, keys, kinds, source, together, values
from peers.adapters import PEERS
from peers.bench import CASES, VERDICTS, Case, Result, run
from rich.console import Console
from rich.table import Table

_ABOUT = (durable, faces, keys, kinds, source, together, values)  # importing them fills CASES
_ORDER = (
    "keys",
    "parameters",
    "functions",
    "methods",
    "values",
    "coroutines",
    "streams",
    "together",
    "durable",
    "source",
)
_SHOWN = {
    "right": "right",
    "wrong": "[bold red]wrong[/]",
    "crashed": "[red]crashed[/]",
    "recomputed": "[yellow]again[/]",
    "unsupported": "[dim]-[/]",
    "not installed": "",
}
_MEANINGS = {
    "right": "as the plain function, and found again",
    "wrong": "another call's answer, another type, a stale or changed value, or run more often than the case allows",
    "crashed": "an exception that the plain function does not raise, or no answer in time",
    "recomputed": "shown as 'again': the function ran although the library had the answer; harmless, but no cache",
    "unsupported": "shown as '-': its documentation says so, or speaks of other kinds of functions only",
}


def results_of(cases: list[Case], peers: list, timeout: float) -> list[Result]:
    results = []
    for one in cases:
        for peer in peers:
            installed = peer.version() is not None
            results.append(run(one, peer, timeout) if installed else Result(one.name, peer.name, "not installed"))
    return results


def show(console: Console, cases: list[Case], peers: list, results: list[Result]) -> None:
    names = [peer.name for peer in peers]
    found = {(result.case, result.library): result.verdict for result in results}
    table = Table("case", *names, title="What caches get wrong")
    for one, following in zip(cases, [*cases[1:], None], strict=True):
        row = [_SHOWN[found[one.name, name]] for name in names]
        table.add_row(one.name, *row, end_section=following is None or following.group != one.group)
    console.print(table)
    totals = collections.Counter((result.library, result.verdict) for result in results)
    table = Table("library", "version", *VERDICTS, title=f"Totals of {len(cases)} cases")
    for peer in peers:
        table.add_row(peer.name, peer.version() or "", *(str(totals[peer.name, verdict]) for verdict in VERDICTS))
    console.print(table)
    for verdict, meaning in _MEANINGS.items():
        console.print(f"{verdict}: {meaning}", markup=False, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="", help="only cases whose group or name contains this text; says why, too")
    parser.add_argument("--library", choices=[peer.name for peer in PEERS], help="only this one; says why, too")
    parser.add_argument("--json", action="store_true", help="every verdict with its reason, as JSON")
    parser.add_argument("--timeout", type=float, default=6, help="seconds until a case counts as hanging (default 6)")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # some libraries log what they swallow
    cases = sorted((one for one in CASES if options.case in f"{one.group}: {one.name}"), key=_order)
    if not cases:
        parser.error(f"no case contains {options.case!r}")
    peers = [peer for peer in PEERS if options.library in (None, peer.name)]
    results = results_of(cases, peers, options.timeout)
    console = Console(width=max(Console().width, 175))  # a case a line
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        show(console, cases, peers, results)
        if options.case or options.library:
            for result in results:
                if result.why:
                    text = f"{result.case} / {result.library}: {result.verdict}: {result.why}"
                    console.print(text, markup=False, highlight=False, soft_wrap=True)
    sys.stdout.flush()
    os._exit(0)  # threads of cases that hung would keep the process waiting


def _order(one: Case) -> int:
    return _ORDER.index(one.group)


if __name__ == "__main__":
    main()
