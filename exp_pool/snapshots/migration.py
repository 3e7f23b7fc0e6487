"""Migration (`migrate`): everything that a store keeps, into a store of any engine.

The order in each namespace: deletions, rows with their vectors (history too), named states, logs; the cut-off comes
last, because a store refuses rows that are older. No progress is written down. Rows that the target has are found by
their ids, a page at a time. So a killed migration continues when it is started again, and a finished one changes
nothing.

Leases, the positions of indexes and the identity of the pool (namespace ``""``) belong to a place, and stay there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from exp_pool.api.registry import open_store
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import RecordQuery, RecordStore
from exp_pool.core.filters import parse_where
from exp_pool.errors import ConfigurationError, InvalidInputError, MigrationError
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.display import without_password
from exp_pool.runtime.plugs import offers
from exp_pool.runtime.progress import bar
from exp_pool.snapshots.store_copier import StoreCopier
from exp_pool.stores.null import NullStore


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """Result of `migrate`. What the target had already is in `skipped`, and in none of the others.

    Attributes:
        rows: current rows that were written.
        history: rows of history that were written.
        updated: rows that were there, and are now as in the source: it changed them since.
        vectors: vectors that were written.
        deletions: deletions that the target did not remember.
        states: named states that were written.
        logs: entries of logs that were appended.
        skipped: rows that were there already.
        kept: rows and states that the target changed later than the source; its own stay.
        conflicts: calls that the target answered otherwise. Both rows are there; the annotated one is current, else the
            one created later.
        refused: rows that were deleted in the target, and stay deleted.
        before: rows that the target held before, in these namespaces.
        checksum: of the source's rows and vectors as read back from the target, whatever their order; hexadecimal.
        seconds: how long it took.
        dry_run: nothing was written: the numbers say what would be.
    """

    rows: int = 0
    history: int = 0
    updated: int = 0
    vectors: int = 0
    deletions: int = 0
    states: int = 0
    logs: int = 0
    skipped: int = 0
    kept: int = 0
    conflicts: int = 0
    refused: int = 0
    before: int = 0
    checksum: str = ""
    seconds: float = 0.0
    dry_run: bool = False

    def __str__(self) -> str:
        done = "would move" if self.dry_run else "moved"
        said = [
            f"{done} {self.rows:,} rows and {self.history:,} of history, {self.vectors:,} vectors, "
            f"{self.deletions:,} deletions, {self.states:,} states, {self.logs:,} log entries"
        ]
        for count, what in (
            (self.updated, "rows changed since were brought up to date"),
            (self.skipped, "rows were there already"),
            (self.kept, "are later in the target, and stay"),
            (self.conflicts, "calls had another answer in the target: both are there"),
            (self.refused, "rows were deleted in the target, and stay deleted"),
        ):
            said += [f"{count:,} {what}"] if count else []
        if not self.dry_run:
            said.append(f"verified, checksum {self.checksum}, {self.seconds:.1f} s")
        return "; ".join(said)


def migrate(
    source: str | RecordStore,
    target: str | RecordStore,
    where: Mapping[str, Any] | None = None,
    *,
    namespace: str | None = None,
    dry_run: bool = False,
) -> MigrationReport:
    """Copy everything that a store keeps into another store, and verify it. The source is not changed.

    Ids, times, scores, annotations, usage, pending tasks and the current row of each key are copied unchanged. Rows
    that only the target has stay. A row of both is updated if the source has the later state: the annotated one, else
    that of the higher revision. Of a named state the higher revision is the later one. Deletions of either store hold
    in the target.

    Started again, a migration continues. If the source was in use meanwhile, start it again when no process writes: new
    and changed rows are copied, but what the source evicted or cleared since stays in the target. If the target has
    vectors of another embedder, rows are copied without vectors and embedded there.

    Verifying reads everything back from both stores: each row and vector, the counts, deletions, states and logs. A
    progress bar is shown in a terminal or a notebook.

    Args:
        source: URL of a store, relative paths from the project's root, or a store.
        target: likewise. It may hold something already.
        where: only rows that match, as in queries, with their audit logs; history where it matches itself. Deletions,
            states and other logs stay behind.
        namespace: only this one; by default all.
        dry_run: write nothing, say what would be moved.

    Raises:
        ConfigurationError: a URL cannot be, both are the same store, there is no source, or the target forgets all.
        InvalidInputError: `where` or `namespace` cannot be.
        MigrationError: the target is not what the source is, or some of the source cannot be read; it says what.
        StoreError: a store failed; start it again.
    """
    began = monotonic()
    conditions = parse_where(where)
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise InvalidInputError(f"namespace={namespace!r} must be the name of one; leave it out to move all")
    with ExitStack() as opened:
        old, new = _open_both(opened, source, target, dry_run=dry_run)
        spaces = old.namespaces()
        if namespace is not None:
            if namespace not in spaces:
                raise InvalidInputError(f"namespace={namespace!r} is not in the source; it has {spaces}")
            spaces = [namespace]
        tally: Counter[str] = Counter()
        total = sum(old.count(RecordQuery(space, conditions, history=True)) for space in spaces)
        with bar("moving and verifying", total if dry_run else 2 * total, least=1) as advance:
            copier = StoreCopier(old, new, conditions, tally, advance, dry_run=dry_run)
            for space in spaces:
                tally["before"] += new.count(RecordQuery(space, history=True))
                copier.copy(space)
            if dry_run:
                return replace(MigrationReport(), **cast("dict[str, Any]", tally), dry_run=True)
            if isinstance(target, str):  # what is read back was written: nothing of it comes from this store's memory
                new.close()
                copier.target = _open(opened, target, "target")
            problems = [problem for space in spaces for problem in copier.verify(space)]
        if namespace is None and not conditions:
            problems += [f"source: {damage}" for damage in old.check()]
        if problems:
            raise MigrationError(
                "not all of it is in the target:\n  "
                + "\n  ".join(problems)
                + "\nWhat was moved stays there. Start it again, once nobody writes to the source; where it says the "
                "same, mend what it names",
                problems,
            )
        counts = cast("dict[str, Any]", tally)
        return replace(MigrationReport(), **counts, checksum=f"{copier.checksum:032x}", seconds=monotonic() - began)


def _open_both(
    opened: ExitStack, source: str | RecordStore, target: str | RecordStore, *, dry_run: bool
) -> tuple[RecordStore, RecordStore]:
    old, new = (_open(opened, given, role) for given, role in ((source, "source"), (target, "target")))
    from_, to = _place(old), _place(new)
    same_url = isinstance(source, str) and isinstance(target, str) and _full(source) == _full(target)
    if old is new or same_url or (from_ is not None and from_ == to):
        raise ConfigurationError(f"source and target are the same store, {_name(source)}; name another target")
    if from_ is not None and not from_.exists():
        raise ConfigurationError(f"there is no pool at {from_}; say where it is in source")
    if isinstance(target, str) and not (new.capabilities.durable or new.capabilities.shared):
        raise ConfigurationError(f"target={_name(target)!r} forgets all when it is closed; name one that keeps it")
    if dry_run and to is not None and not to.exists():
        return old, NullStore()  # which makes no file
    return old, new


def _open(opened: ExitStack, given: str | RecordStore, role: str) -> RecordStore:
    if isinstance(given, str):
        store = open_store(_full(given), ExpPoolConfig())
        opened.callback(store.close)
        return store
    if not offers(given, RecordStore):
        raise ConfigurationError(f"{role}={given!r:.80} must be the URL of a store, or a RecordStore")
    return given


def _full(url: str) -> str:
    return ExpPoolConfig(store=url).store


def _place(store: RecordStore) -> Path | None:
    path = getattr(store, "path", None)
    return path.resolve() if isinstance(path, Path) else None


def _name(given: str | RecordStore) -> str:
    return without_password(given) if isinstance(given, str) else type(given).__name__
