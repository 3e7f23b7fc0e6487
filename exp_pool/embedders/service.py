"""Runs the chosen embedder: made at first use, on one thread, with deadlines; what it returns is checked.

Callers who wait while others are served are embedded together, and a text embedded a moment ago is not embedded again.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exp_pool._clock import monotonic
from exp_pool.awaiting import settled
from exp_pool.errors import EmbedderError
from exp_pool.forks import reset_in_child
from exp_pool.one_thread import OneThread
from exp_pool.protocols import Embedder, Reader
from exp_pool.vectors import to_unit

_RETRY_AFTER_S = 30.0  # a model that could not be loaded is not looked for again before
_URGENT, _LATER = 0, 1  # who waits for an answer goes before upkeep
_TOGETHER = 32  # texts of several callers at most: as long as upkeep's batch, so nobody waits longer for company
_REMEMBERED = 4096  # texts: 8 MB at 384 dimensions


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors (n, d) float32 of unit length, how each text was read, and whose they are.

    `whole`: to its end, every word of it. `legible`: it knows the words of nine tenths at least, as far as it can tell.
    """

    vectors: np.ndarray
    whole: list[bool]
    embedder: str
    legible: Sequence[bool] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    vector: np.ndarray
    whole: bool
    embedder: str
    legible: bool


@dataclass(eq=False, slots=True)
class _Request:
    """Texts of one caller, and what came of them, perhaps with another's."""

    texts: list[str]
    embedded: Embedded | None = None
    alone: bool = False  # it was part of a batch that failed


class EmbeddingService:
    """The embedder of a manager.

    Args:
        make: makes the embedder; called at first use, on the embedding thread.
    """

    def __init__(self, make: Callable[[], Embedder]) -> None:
        self._make = make
        self._thread = OneThread("exp_pool-embedder")
        self._start_over()
        reset_in_child(self._start_over)

    def _start_over(self) -> None:
        self._embedder: Embedder | None = None  # a parent's may count on threads that a child lacks
        self._loading = False
        self._dimension: int | None = None
        self._failure: tuple[float, EmbedderError] | None = None
        self._waiting: list[_Request] = []  # the urgent ones, in order of arrival
        self._recent = _Recent()

    @property
    def loading(self) -> bool:
        """Whether the embedder is being made now."""
        return self._loading

    def whole(self, texts: Sequence[str], timeout_s: float) -> list[bool]:
        """Whether each text is read to its end, every word of it.

        Raises:
            EmbedderError: as `embed`.
        """
        readable = [_readable(text) for text in texts]
        try:
            return list(self._thread.run(lambda: self._made().fits(readable), timeout_s, priority=_LATER))
        except EmbedderError:
            raise
        except Exception as err:
            raise EmbedderError(f"the embedder failed: {err!r}") from err

    def embed(self, texts: Sequence[str], timeout_s: float, *, urgent: bool = True) -> Embedded:
        """Vectors of these texts. A lone surrogate, which is no character, is read as U+FFFD.

        Raises:
            EmbedderError: there is no embedder, it failed, took too long or returned something that is not vectors.
        """
        request = _Request([_readable(text) for text in texts])
        known = self._recent.get(request.texts)
        if known and all(text in known for text in request.texts):
            return _put_together(known, request.texts)
        self._raise_failure()
        if urgent:
            self._waiting.append(request)
        try:
            return self._thread.run(lambda: self._serve(request), timeout_s, priority=_URGENT if urgent else _LATER)
        except EmbedderError:
            raise
        except TimeoutError as err:
            raise EmbedderError(f"{err}; raise embed_timeout or query_timeout if the model is just slow") from err
        except Exception as err:
            raise EmbedderError(f"the embedder failed: {err!r}") from err
        finally:
            if urgent:
                self._waiting.remove(request)

    def _serve(self, request: _Request) -> Embedded:
        """Embed these texts, and in one batch with them those of others who wait as urgently."""
        if request.embedded is None:
            embedder = self._made()
            batch = self._company(request)
            try:
                self._embed(embedder, batch)
            except Exception as err:
                if len(batch) == 1 or isinstance(err.__cause__, TimeoutError):
                    raise
                for each in batch:  # one bad text fails nobody else
                    each.alone = True
                self._embed(embedder, [request])
        assert request.embedded is not None
        return request.embedded

    def _company(self, request: _Request) -> list[_Request]:
        """The request, and others that wait, as far as they are few texts together.

        Upkeep's goes alone: its batch is big enough, and who is in a hurry does not wait for it.
        """
        batch, count = [request], len(request.texts)
        waiting = list(self._waiting)
        if request.alone or request not in waiting:
            return batch
        for other in waiting:
            if other is not request and other.embedded is None and not other.alone:
                count += len(other.texts)
                if count > _TOGETHER:
                    break
                batch.append(other)
        return batch

    def _embed(self, embedder: Embedder, batch: list[_Request]) -> None:
        texts = list(dict.fromkeys(text for each in batch for text in each.texts))
        rows = self._recent.get(texts)
        missing = [text for text in texts if text not in rows]
        if missing:
            vectors = to_unit(settled(embedder.embed(missing)), len(missing))
            dimension = vectors.shape[1]
            if self._dimension not in (None, dimension):
                raise EmbedderError(f"the embedder returned {dimension} dimensions, before it was {self._dimension}")
            self._dimension = dimension
            name = f"{embedder.identity}/{dimension}"
            whole = embedder.fits(missing)
            legible = _legible(embedder, missing, whole)
            made = zip(missing, vectors, whole, legible, strict=True)
            rows |= {text: _Row(vector, fits, name, reads) for text, vector, fits, reads in made}
        for each in batch:
            each.embedded = _put_together(rows, each.texts)
            if each in self._waiting:  # upkeep's texts come once each, and would push the others out
                self._recent.put({text: rows[text] for text in each.texts})

    def _made(self) -> Embedder:
        if self._embedder is None:
            self._raise_failure()  # of whoever waited for the same model
            self._loading = True
            try:
                self._embedder = self._make()
            except Exception as err:
                failure = (
                    err if isinstance(err, EmbedderError) else EmbedderError(f"the embedder cannot be made: {err!r}")
                )
                self._failure = (monotonic() + _RETRY_AFTER_S, failure)
                raise failure from err
            finally:
                self._loading = False
            self._failure = None
        return self._embedder

    def _raise_failure(self) -> None:
        failure = self._failure
        if failure is not None and monotonic() < failure[0]:
            raise EmbedderError(str(failure[1]))  # a new one: an error that is raised again and again grows

    def close(self, timeout_s: float) -> None:
        """End the thread; a job that hangs is left behind."""
        self._thread.stop(timeout_s)


class _Recent:
    """Vectors of the texts asked for last. Thread-safe. Texts are known by a digest: none is kept in memory here."""

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, _Row] = OrderedDict()
        self._access = threading.Lock()

    def get(self, texts: Sequence[str]) -> dict[str, _Row]:
        """Those that are known."""
        found = {}
        keys = [_digest(text) for text in texts]
        with self._access:
            for text, key in zip(texts, keys, strict=True):
                row = self._rows.get(key)
                if row is not None:
                    self._rows.move_to_end(key)
                    found[text] = row
        return found

    def put(self, rows: Mapping[str, _Row]) -> None:
        """Keep a copy, or the whole batch would live as long as one of it."""
        kept = {_digest(text): replace(row, vector=row.vector.copy()) for text, row in rows.items()}
        with self._access:
            self._rows |= kept
            while len(self._rows) > _REMEMBERED:
                self._rows.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _readable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _put_together(rows: Mapping[str, _Row], texts: Sequence[str]) -> Embedded:
    found = [rows[text] for text in texts]
    return Embedded(
        np.stack([row.vector for row in found]),
        [row.whole for row in found],
        found[0].embedder,
        [row.legible for row in found],
    )


def _legible(embedder: Embedder, texts: Sequence[str], whole: Sequence[bool]) -> list[bool]:
    """Whether the embedder can read each text at all: what it read whole, it can."""
    left = [text for text, fits in zip(texts, whole, strict=True) if not fits]
    if not left or not isinstance(embedder, Reader):
        return [True] * len(texts)
    read = iter(embedder.reads(left))
    return [fits or next(read) for fits in whole]
