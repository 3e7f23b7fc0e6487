"""Runs the chosen embedder, loaded at first use (`loader`), on one thread, with deadlines; checks what it returns.

Callers who wait while others are served are embedded together, and a text embedded a moment ago is not embedded again.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np

from exp_pool.core.contracts.plugs import Embedder, LanguageAwareEmbedder
from exp_pool.core.values.vectors import to_unit
from exp_pool.errors import EmbedderError
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.single_thread import SingleThreadExecutor
from exp_pool.search.embedders.loader import EmbedderLoader

_URGENT, _LATER = 0, 1  # who waits for an answer goes before maintenance
_TOGETHER = (
    32  # texts of several callers at most: as many as maintenance's batch, so no caller waits longer for company
)
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
class _EmbeddedText:
    vector: np.ndarray
    whole: bool
    embedder: str
    legible: bool


@dataclass(eq=False, slots=True)
class _PendingTexts:
    """Texts of one caller that wait to be embedded, and their vectors once they are."""

    texts: list[str]
    embedded: Embedded | None = None
    alone: bool = False  # it was part of a batch that failed


@reinit_after_fork()
class EmbeddingService:
    """Runs the embedder of a manager: batches, caches and checks.

    Args:
        loading: where the embedder comes from, perhaps shared with other managers; begun at first use.
        load_timeout_s: how long calls wait for it, once in a process; see `EmbedderLoader.patience`.
        loaded: called when the embedder is there, or cannot be had; on the loading thread.
    """

    def __init__(
        self, loading: EmbedderLoader, load_timeout_s: float = 0.0, loaded: Callable[[], object] = lambda: None
    ) -> None:
        self._source = loading
        self._load_timeout_s = load_timeout_s
        self._loaded = loaded
        self._thread = SingleThreadExecutor("exp_pool-embedder")
        self._embedder: Embedder | None = None
        self._announced: Future[Embedder] | None = None
        self._dimension: int | None = None
        self._waiting: list[_PendingTexts] = []  # the urgent ones, in order of arrival
        self._recent = _VectorCache()

    # The loading

    @property
    def begun(self) -> bool:
        """Whether the loading of the embedder has begun in this process."""
        return self._source.begun

    @property
    def loading(self) -> bool:
        """Whether the embedder is being loaded now."""
        return self._source.in_progress

    @property
    def ready(self) -> bool:
        """Whether texts can be embedded without waiting for a model."""
        return self._source.ready

    def begin(self) -> Future[Embedder]:
        """A future of the embedder; begins the loading unless it has begun."""
        made = self._source.begin()
        if made is not self._announced:
            self._announced = made
            if not made.done():
                made.add_done_callback(lambda _: self._loaded())
        return made

    def patience(self) -> float:
        """How much longer a decorated call may wait for the embedder."""
        return self._source.patience(self._load_timeout_s)

    def wait(self, timeout_s: float | None) -> Embedder:
        """The embedder, once it is there; with None, however long that takes.

        Raises:
            StillLoadingError: it was not there in time.
            EmbedderError: it cannot be had.
        """
        self.begin()
        return self._source.wait(timeout_s)

    def whole(self, texts: Sequence[str], timeout_s: float) -> list[bool]:
        """Whether each text is read to its end, every word of it.

        Raises:
            EmbedderError: as `embed`.
        """
        readable = [_readable(text) for text in texts]
        embedder = self.wait(timeout_s)
        try:
            return list(self._thread.run(lambda: embedder.fits(readable), timeout_s, priority=_LATER))
        except EmbedderError:
            raise
        except Exception as err:
            raise EmbedderError(f"the embedder failed: {err!r}") from err

    def embed(self, texts: Sequence[str], timeout_s: float, *, urgent: bool = True) -> Embedded:
        """Vectors of these texts. A lone surrogate, which is no character, is read as U+FFFD.

        The embedder is waited for within the time-out, too.

        Args:
            texts: any texts; one that was embedded a moment ago is not embedded again.
            timeout_s: for all of it.
            urgent: a caller waits for this; else it goes behind those, in a batch of its own.

        Raises:
            StillLoadingError: the embedder was not there in time.
            EmbedderError: there is no embedder, it failed, took too long or returned something that is not vectors.
        """
        request = _PendingTexts([_readable(text) for text in texts])
        known = self._recent.get(request.texts)
        if known and all(text in known for text in request.texts):
            return _stacked(known, request.texts)
        left_s = timeout_s
        if self._embedder is None:
            deadline, there = monotonic() + timeout_s, self.ready
            self._embedder = self.wait(timeout_s)
            left_s = timeout_s if there else max(0.0, deadline - monotonic())
        embedder = self._embedder
        if urgent:
            self._waiting.append(request)
        try:
            serve = functools.partial(self._serve, request, embedder)
            return self._thread.run(serve, left_s, priority=_URGENT if urgent else _LATER)
        except EmbedderError:
            raise
        except TimeoutError as err:
            raise EmbedderError(f"{err}: {self._too_slow()}") from err
        except Exception as err:
            raise EmbedderError(f"the embedder failed: {err!r}") from err
        finally:
            if urgent:
                self._waiting.remove(request)

    def _too_slow(self) -> str:
        message = "the embedder is too slow for embed_timeout (of calls) or query_timeout; raise it"
        lazy = "; if it loads its model with the first text, call warm_up() when the program starts"
        return message if self._dimension else message + lazy

    def _serve(self, request: _PendingTexts, embedder: Embedder) -> Embedded:
        """Embed these texts, and in one batch with them those of others who wait as urgently."""
        if request.embedded is None:
            batch = self._batch_with(request)
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

    def _batch_with(self, request: _PendingTexts) -> list[_PendingTexts]:
        """The request, and others that wait, as far as they are few texts together.

        Maintenance's texts go alone: their batch is big enough, and a caller in a hurry does not wait for it.
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

    def _embed(self, embedder: Embedder, batch: list[_PendingTexts]) -> None:
        texts = list(dict.fromkeys(text for each in batch for text in each.texts))
        rows = self._recent.get(texts)
        missing = [text for text in texts if text not in rows]
        if missing:
            vectors = to_unit(resolve(embedder.embed(missing)), len(missing))
            dimension = vectors.shape[1]
            if self._dimension not in (None, dimension):
                raise EmbedderError(f"the embedder returned {dimension} dimensions, before it was {self._dimension}")
            self._dimension = dimension
            name = f"{embedder.identity}/{dimension}"
            whole = embedder.fits(missing)
            legible = _legible(embedder, missing, whole)
            made = zip(missing, vectors, whole, legible, strict=True)
            rows |= {text: _EmbeddedText(vector, fits, name, reads) for text, vector, fits, reads in made}
        for each in batch:
            each.embedded = _stacked(rows, each.texts)
            if each in self._waiting:  # maintenance's texts come once each, and would push the others out
                self._recent.put({text: rows[text] for text in each.texts})

    def close(self, timeout_s: float) -> None:
        """End the thread; a job that hangs is left behind."""
        self._thread.stop(timeout_s)


class _VectorCache:
    """LRU cache of vectors. Thread-safe. Texts are known by a digest: none is kept in memory here."""

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, _EmbeddedText] = OrderedDict()
        self._access = threading.Lock()

    def get(self, texts: Sequence[str]) -> dict[str, _EmbeddedText]:
        """What is cached, by text, for those of the texts that are."""
        found = {}
        keys = [_digest(text) for text in texts]
        with self._access:
            for text, key in zip(texts, keys, strict=True):
                row = self._rows.get(key)
                if row is not None:
                    self._rows.move_to_end(key)
                    found[text] = row
        return found

    def put(self, rows: Mapping[str, _EmbeddedText]) -> None:
        """Keep copies, or the whole batch would live as long as one of it."""
        kept = {_digest(text): replace(row, vector=row.vector.copy()) for text, row in rows.items()}
        with self._access:
            self._rows |= kept
            while len(self._rows) > _REMEMBERED:
                self._rows.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _readable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _stacked(rows: Mapping[str, _EmbeddedText], texts: Sequence[str]) -> Embedded:
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
    if not left or not isinstance(embedder, LanguageAwareEmbedder):
        return [True] * len(texts)
    read = iter(embedder.reads(left))
    return [fits or next(read) for fits in whole]
