"""Tables kept in step with a folder: what changed in one is taken over into the other.

A transaction holds the folder's lock, takes over what others changed, lets `Tables` do its work, then writes the rows'
files and after them the journal. A process killed in between leaves files that the journal does not explain; they look
as if a person had edited them, and are taken over by the next process in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from exp_pool.core.record import Record
from exp_pool.errors import StoreError
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.notices import warn
from exp_pool.stores.json.folder import Folder, Stamp
from exp_pool.stores.json.journal import Journal
from exp_pool.stores.json.noted import USE, Noted, NotedTables
from exp_pool.stores.json.rows import UnreadableError, content_of, digest_of, place_of, read_row, write_row
from exp_pool.stores.tables import Ref

# Times of files are this coarse at most: one that was changed just before it was looked at may have been changed just
# after, too, and its stamp would not tell. It is read once more.
_COARSE_NS = 50 * 10**6


class _File(NamedTuple):
    """A file whose row is in the tables. `settled`: its stamp tells whether it is still the same."""

    stamp: Stamp
    ref: Ref
    digest: str
    settled: bool


class _Found(NamedTuple):
    """A file to take over."""

    place: str
    stamp: Stamp
    digest: str
    row: Record


class Mirror(NotedTables):
    """Tables, and how they are brought into step with a folder. What may be asked of them is `store.JsonStore`'s.

    Args:
        path: the folder.
        timeout_s: how long to wait for another writer before giving up.
    """

    def __init__(self, path: str | Path, timeout_s: float) -> None:
        self.path = Path(path)
        self._timeout_s = timeout_s
        self._folder = Folder(self.path, timeout_s)
        self._journal = Journal(self._folder.journal)
        self._loaded = False
        super().__init__()

    def _start_empty(self) -> None:
        super()._start_empty()
        self._files: dict[str, _File] = {}
        self._where: dict[Ref, str] = {}

    def _forget_pending(self) -> None:
        super()._forget_pending()
        self._unnoted: dict[Ref, None] = {}  # rows of which the journal does not know the latest
        self._rewrite: dict[Ref, None] = {}  # those of them whose file is to be written

    def _after_fork(self) -> None:
        super()._after_fork()
        self._folder.leave_to_parent()
        self._journal.close()
        self._loaded = False

    # Transactions

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """This thread only; trouble is given as `StoreError`, and then all is read anew the next time."""
        if not self._lock.acquire(timeout=self._timeout_s):
            raise StoreError(f"{self.path}: another thread was busy for longer than store_timeout={self._timeout_s}")
        try:
            yield
        except StoreError:
            self._loaded = self._loaded and not (self._unnoted or self._lines)
            raise
        except Exception as err:
            self._loaded = False
            raise StoreError(f"{self.path}: {err}.{_remedy(err)}") from err
        except BaseException:
            self._loaded = False
            raise
        finally:
            self._lock.release()

    @contextmanager
    def _looking(self, places: Callable[[], Iterable[str] | None]) -> Iterator[None]:
        """In step as far as these places are concerned; None: all. Others are locked out only where something changed.

        The places are asked for when the tables are loaded.
        """
        with self._alone():
            if self._outdated():
                with self._folder.lock():
                    self._load()
            self._apply_news()
            wanted = places()
            if self._changes(wanted):
                with self._folder.lock():
                    self._catch_up(wanted)
                    self._commit()
            yield

    @contextmanager
    def _writing(self, places: Callable[[], Iterable[str] | None]) -> Iterator[None]:
        """The same, with all others locked out to the end; then what changed is written."""
        with self._alone():
            outdated = self._outdated()
            with self._folder.lock():
                if outdated:
                    self._load()
                self._catch_up(places())
                yield
                self._commit()

    def _outdated(self) -> bool:
        if self._loaded and not self._journal.replaced():
            return False
        self._folder.open()
        return True

    # From the folder to the tables

    def _load(self) -> None:
        """All anew. The lock is held."""
        self._start_empty()
        self._journal.close()
        self._folder.sweep()
        self._apply_news()
        self._adopt(self._changes(None))
        for ref in [ref for ref in self._vectors if ref not in self._rows]:
            self._forget_vector(*ref)
        for ref in [ref for ref in self._noted if ref not in self._rows]:
            self._unnoted[ref] = None
        self._commit()
        self._loaded = True

    def _catch_up(self, places: Iterable[str] | None) -> None:
        """Take over what changed in these places, or in all. The lock is held."""
        self._apply_news()
        changes = self._changes(places)
        for place in list(changes):  # a row that left its place may stand in its other one
            known = self._files.get(place)
            if known is not None and places is not None:
                row = self._rows[known.ref]
                changes |= self._changes(
                    [place_of(replace(row, is_current=is_current)) for is_current in (True, False)]
                )
        if changes:
            self._adopt(changes)

    def _changes(self, places: Iterable[str] | None) -> dict[str, Stamp | None]:
        """The files that are not as the tables have them, with their stamps; None: gone."""
        there: dict[str, Stamp | None] = {}
        if places is None:
            there |= dict.fromkeys(self._files)
            there |= self._folder.walk()
        else:
            there |= {place: self._folder.stamp(place) for place in places}
        return {place: stamp for place, stamp in there.items() if not self._same(place, stamp)}

    def _same(self, place: str, stamp: Stamp | None) -> bool:
        known = self._files.get(place)
        if known is None or stamp is None:
            return known is None and stamp is None
        if known.stamp == stamp and known.settled:
            return True
        if known.stamp.size != stamp.size:
            return False
        try:
            content, stamp = self._folder.read(place)
        except FileNotFoundError:
            return False
        if digest_of(content) != known.digest:
            return False
        self._files[place] = known._replace(stamp=stamp, settled=_settled(stamp))
        return True

    def _adopt(self, changes: dict[str, Stamp | None]) -> None:
        """Take over files that were changed, added or removed by whomever. The lock is held."""
        found = [found for place, stamp in changes.items() if stamp is not None and (found := self._read(place))]
        if len(found) > 1:
            order = {ref: number for number, ref in enumerate(self._noted)}
            found.sort(key=lambda f: (order.get((f.row.namespace, f.row.id), len(order)), f.row.created_at, f.row.id))
        left = [known.ref for place in changes if (known := self._files.pop(place, None))]
        for ref in left:
            del self._where[ref]
        for ref in left + [(f.row.namespace, f.row.id) for f in found]:  # no rival of what is taken over now
            row = self._rows.get(ref)
            if row is not None and row.is_current and ref not in self._where:
                self._current.pop((row.namespace, row.key), None)
        for file in found:
            self._take_over(file)
        for ref in left:
            if ref not in self._where and ref in self._rows:
                self._rows[ref] = replace(self._rows[ref], is_current=False)  # it is nobody's current row any more
                self._remove(*ref)

    def _read(self, place: str) -> _Found | None:
        try:
            content, stamp = self._folder.read(place)
        except FileNotFoundError:
            return None
        try:
            return _Found(place, stamp, digest_of(content), read_row(content))
        except UnreadableError as err:
            self._set_aside(place, str(err))
            return None

    def _set_aside(self, place: str, reason: str) -> None:
        path = self._folder.set_aside(place)
        message = f"{self.path / place} is not served, because {reason}; it was set aside as {path}"
        warn(message)

    def _take_over(self, file: _Found) -> None:
        row, now = file.row, now_us()
        ref = (row.namespace, row.id)
        if ref in self._where and not self._prevails(file, ref):
            return
        noted, old = self._noted.get(ref), self._rows.get(ref)
        explained = noted is not None and noted.digest == file.digest
        if noted is None:  # nothing is known of it, so everything is owed
            row = replace(row, embed_due=now, score_due=now if row.score is None else None)
        elif explained:
            row = replace(row, revision=noted.revision, size_bytes=noted.size_bytes, **noted.use())
        else:
            row = replace(row, revision=max(noted.revision + 1, row.revision), **noted.use())
            if noted.request_hash != row.request_hash or (row.is_current and ref not in self._vectors):
                row = replace(row, embed_due=now, embed_tries=0)
        if not row.is_current:
            row = replace(row, embed_due=None, score_due=None)
        if old is not None:
            self._by_request[ref[0], old.request_hash].pop(row.id, None)
        self._rows[ref] = row
        self._list(row)
        self._by_request[ref[0], row.request_hash][row.id] = None
        self._files[file.place] = _File(file.stamp, ref, file.digest, _settled(file.stamp))
        self._where[ref] = file.place
        if not explained:
            self._unnoted[ref] = None
            self._follow_with_vector(row, noted)
        if row.is_current:
            self._make_current(row)
        if place_of(self._rows[ref]) != file.place:
            self._rewrite[ref] = self._unnoted[ref] = None

    def _prevails(self, file: _Found, ref: Ref) -> bool:
        """Which of two files of one id stays: the one that says it is current. The other is kept, unless it is a copy.

        A process killed while it superseded a row leaves such a copy.
        """
        place, old, new = self._where[ref], self._rows[ref], file.row
        mine, theirs = (new.is_current, new.revision), (old.is_current, old.revision)
        loser = place if mine > theirs else file.place
        like_old = replace(new, is_current=old.is_current, superseded_by=old.superseded_by, revision=old.revision)
        if content_of(like_old) == content_of(old):
            self._folder.remove(loser)
        else:
            self._set_aside(loser, f"its id {ref[1]!r} is that of {file.place if loser == place else place}, too")
        if loser == place:
            del self._files[place], self._where[ref]
            if old.is_current:
                self._current.pop((old.namespace, old.key), None)
        return loser == place

    def _follow_with_vector(self, row: Record, noted: Noted | None) -> None:
        """Its vector goes where it is no longer that of the row, and its readers hear where the row moved."""
        known = self._vectors.get((row.namespace, row.id))
        if known is None or known.vector is None:
            return
        if noted is None or not row.is_current or noted.request_hash != row.request_hash:
            self._forget_vector(row.namespace, row.id)
        elif (known.function, known.version, known.reuse_scope) != (row.function, row.version, row.reuse_scope):
            self._set_vector(row, known.vector)

    def _make_current(self, row: Record) -> None:
        """Of two rows of one key that say they are current, the newer is."""
        rival = self._current_row(row.namespace, row.key)
        if rival is not None and rival.created_at > row.created_at:
            self._to_history(row, rival.id)
            return
        if rival is not None and rival.id != row.id:
            self._to_history(rival, row.id)
        self._current[row.namespace, row.key] = row.id

    def _apply_news(self) -> None:
        for entry in self._journal.news():
            try:
                self._apply(entry)
            except (TypeError, ValueError, LookupError):
                self._journal.damaged += 1

    def _drop_known(self, ref: Ref) -> None:
        super()._drop_known(ref)
        place = self._where.pop(ref, None)
        if place is not None:
            del self._files[place]

    # From the tables to the folder

    def _compact(self) -> None:
        """Write the journal anew, with what is still true. The lock is held, and nothing is pending."""
        self._journal.rewrite(self._all_lines())

    def _commit(self) -> None:
        """Write what changed: files, history first, then the journal. The lock is held."""
        moved = self._write_files()
        for ref in self._unnoted:
            if ref not in self._rows:
                place = self._where.pop(ref, None)
                if place is not None:
                    moved.append((place, ref))
        for place, ref in moved:
            known = self._files.get(place)
            if known is not None and known.ref == ref:
                self._folder.remove(place)
                del self._files[place]
        for ref in self._unnoted:
            self._note_row(ref)
        self._journal.append([*(self._row_line(ref) for ref in self._unnoted), *self._lines], sync=self._sync)
        self._forget_pending()
        if self._journal.grown:
            self._compact()

    def _write_files(self) -> list[tuple[str, Ref]]:
        """Write rows whose content changed; the places that they left."""
        left = []
        for row in sorted((self._rows[ref] for ref in self._rewrite if ref in self._rows), key=lambda r: r.is_current):
            ref, place, content = (row.namespace, row.id), place_of(row), write_row(row)
            stamp = self._folder.write(place, content)
            before = self._where.get(ref)
            if before is not None and before != place:
                left.append((before, ref))
            self._files[place] = _File(stamp, ref, digest_of(content), settled=False)
            self._where[ref] = place
        return left

    def _note_row(self, ref: Ref) -> None:
        row = self._rows.get(ref)
        if row is None:
            self._noted.pop(ref, None)
            return
        digest = self._files[self._where[ref]].digest
        use = (getattr(row, name) for name in USE)
        self._noted[ref] = Noted(digest, row.revision, row.size_bytes, row.request_hash, *use)

    # What `Tables` changes about rows

    def _set_row(self, row: Record) -> None:
        ref = (row.namespace, row.id)
        old = self._rows.get(ref)
        super()._set_row(row)
        self._unnoted[ref] = None
        if old is None or content_of(old) != content_of(row):
            self._rewrite[ref] = None

    def _drop_row(self, row: Record) -> None:
        super()._drop_row(row)
        self._unnoted[row.namespace, row.id] = None


def _settled(stamp: Stamp) -> bool:
    return stamp.mtime_ns + _COARSE_NS < now_us() * 1000


def _remedy(err: BaseException) -> str:
    text = str(err).lower()
    if "no space" in text:
        return " Free some disk space; nothing that was stored is lost"
    if "permission" in text or "read-only" in text or "not a directory" in text:
        return " Make the folder and its files readable and writable, or give another path in store='json:///...'"
    return ""
