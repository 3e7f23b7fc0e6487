"""Doctor of a pool: counts what is there and what is pending, finds damage, and repairs it.

Repair rebuilds the index, which is derived. Of a damaged store it keeps what can be read, and sets the rest aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exp_pool.core.contracts.plugs import RecordQuery, RecordStore
from exp_pool.core.filters import Condition
from exp_pool.core.record import TaskKind
from exp_pool.errors import ExpPoolError
from exp_pool.maintenance.index_sync import IndexSync, Progress
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.display import Pairs, Shown
from exp_pool.stores.journal import Journal

_LEASE_S = 10.0  # of whoever ends an unfinished change


@dataclass(repr=False)
class Diagnosis(Shown):
    """The doctor's report.

    Attributes:
        facts: what is there, by name, in the order in which people want to read it.
        counts: of each namespace the same as numbers: experiences, history, expired, quarantined, bytes, vectors,
            unembedded, unscored (pending by now).
        problems: what is damaged or cannot be used, each with what to do.
        done: what was repaired.
    """

    facts: dict[str, str] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def _pairs(self) -> Pairs:
        yield from self.facts.items()
        yield from (("problem", problem) for problem in self.problems)
        yield from (("done", done) for done in self.done)

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged (any more)."""
        return not self.problems


def examine(
    store: RecordStore, index_sync: IndexSync, *, fix: bool = False, progress: Progress | None = None
) -> Diagnosis:
    """Examine a pool.

    Args:
        store: its record store.
        index_sync: knows its index.
        fix: also repair what is damaged.
        progress: called while the index is built anew, with the numbers of rows done and of all rows.
    """
    report = Diagnosis()
    with _collecting_errors(report):
        problems = store.check()
        if problems and fix:
            with index_sync.store_replaced():
                report.done += store.repair()
            problems = store.check()
        report.problems += problems
    if not _readable(store, report):
        return report
    with _collecting_errors(report):
        _check_front_tier(store, report)
    with _collecting_errors(report):
        _count(store, report)
    for namespace in store.namespaces():
        with _collecting_errors(report):
            _check_changes(store, namespace, report, fix=fix)
    with _collecting_errors(report):
        problems = index_sync.check()
        if fix and (problems or not index_sync.complete()):
            report.done += index_sync.mend(progress)
            problems = index_sync.check()
        report.problems += problems
        report.facts |= index_sync.facts()
    return report


def _readable(store: RecordStore, report: Diagnosis) -> bool:
    """Whether the store can be opened; if not, the report says so."""
    try:
        store.namespaces()
    except ExpPoolError as err:
        if not report.problems:
            report.problems.append(str(err))
        return False
    return True


@contextmanager
def _collecting_errors(report: Diagnosis) -> Iterator[None]:
    try:
        yield
    except ExpPoolError as err:
        report.problems.append(str(err))


def _check_front_tier(store: RecordStore, report: Diagnosis) -> None:
    trouble: Callable[[], str] | None = getattr(store, "front_trouble", None)
    if trouble is None:
        return
    if why := trouble():
        report.problems.append(f"the hot tier cannot be used, so the store answers every call: {why}")
    else:
        report.facts["hot tier"] = "it answers"


def _check_changes(store: RecordStore, namespace: str, report: Diagnosis, *, fix: bool) -> None:
    journal = Journal(store, namespace, _LEASE_S)
    note = journal.unfinished()
    if note is None:
        return
    said = f"the change {note.id} of {namespace!r} by {note.who!r} at {note.at}"
    if not fix:
        report.problems.append(
            f"{said} is unfinished: it is being applied, or the process that did died. The next call of "
            "exp_pool.curation, or doctor --fix, takes it back or finishes it"
        )
    elif (ended := journal.recover()) is not None:
        report.done.append(f"{said} was unfinished and is now {ended.standing}")


def _count(store: RecordStore, report: Diagnosis) -> None:
    partitions = store.partitions()
    for namespace in store.namespaces():
        everything = RecordQuery(namespace, history=True)
        current = store.count(RecordQuery(namespace))
        counts = report.counts[namespace] = {
            "experiences": current,
            "history": store.count(everything) - current,
            "expired": store.count(RecordQuery(namespace, (Condition("expires_at", "", "lte", now_us()),))),
            "quarantined": current - store.count(RecordQuery(namespace, quarantined=False)),
            "bytes": store.usage(namespace).bytes,
            "vectors": sum(count for partition, count in partitions.items() if partition.namespace == namespace),
            "unembedded": store.count(RecordQuery(namespace, pending=TaskKind.EMBED)),
            "unscored": store.count(RecordQuery(namespace, pending=TaskKind.SCORE)),
        }
        report.facts[f"namespace {namespace!r}"] = (
            f"{current} experience{'' if current == 1 else 's'}, "
            f"{counts['history']} of history, {counts['expired']} expired, "
            f"{counts['quarantined']} quarantined; {counts['bytes']:,} bytes of text"
        )
        for partition, count in partitions.items():
            if partition.namespace == namespace:
                report.facts[f"vectors of {namespace!r}"] = f"{count} by {partition.embedder}"
    copies: list[Path] = getattr(store, "set_aside", list)()
    if copies:
        report.facts["set aside"] = ", ".join(f"{path} ({path.stat().st_size:,} bytes)" for path in copies)
    pending = {task: store.count(RecordQuery(None, pending=task)) for task in TaskKind}
    report.facts["owed"] = ", ".join(f"{count} to {task}" for task, count in pending.items())
