"""Runs the chosen embedder: made at first use, on one thread, with deadlines; what it returns is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exp_pool._clock import monotonic
from exp_pool.awaiting import settled
from exp_pool.errors import EmbedderError
from exp_pool.one_thread import OneThread
from exp_pool.protocols import Embedder
from exp_pool.vectors import to_unit

_RETRY_AFTER_S = 30.0  # a model that could not be loaded is not looked for again before
_URGENT, _LATER = 0, 1  # who waits for an answer goes before upkeep


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors (n, d) float32 of unit length, whether each text was read whole, and whose they are."""

    vectors: np.ndarray
    whole: list[bool]
    embedder: str


class EmbeddingService:
    """The embedder of a manager.

    Args:
        make: makes the embedder; called at first use, on the embedding thread.
    """

    def __init__(self, make: Callable[[], Embedder]) -> None:
        self._make = make
        self._embedder: Embedder | None = None
        self._loading = False
        self._dimension: int | None = None
        self._failure: tuple[float, EmbedderError] | None = None
        self._thread = OneThread("exp_pool-embedder")

    @property
    def loading(self) -> bool:
        """Whether the embedder is being made now."""
        return self._loading

    def embed(self, texts: Sequence[str], timeout_s: float, *, urgent: bool = True) -> Embedded:
        """Vectors of these texts.

        Raises:
            EmbedderError: there is no embedder, it failed, took too long or returned something that is not vectors.
        """
        failure = self._failure
        if failure is not None and monotonic() < failure[0]:
            raise EmbedderError(str(failure[1]))  # a new one: an error that is raised again and again grows
        try:
            return self._thread.run(lambda: self._embed(list(texts)), timeout_s, priority=_URGENT if urgent else _LATER)
        except EmbedderError:
            raise
        except TimeoutError as err:
            raise EmbedderError(f"{err}; raise embed_timeout or query_timeout if the model is just slow") from err
        except Exception as err:
            raise EmbedderError(f"the embedder failed: {err!r}") from err

    def _embed(self, texts: list[str]) -> Embedded:
        if self._embedder is None:
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
        vectors = to_unit(settled(self._embedder.embed(texts)), len(texts))
        if self._dimension not in (None, vectors.shape[1]):
            raise EmbedderError(f"the embedder returned {vectors.shape[1]} dimensions, before it was {self._dimension}")
        self._dimension = vectors.shape[1]
        return Embedded(vectors, self._embedder.fits(texts), f"{self._embedder.identity}/{vectors.shape[1]}")

    def close(self, timeout_s: float) -> None:
        """End the thread; a job that hangs is left behind."""
        self._thread.stop(timeout_s)
