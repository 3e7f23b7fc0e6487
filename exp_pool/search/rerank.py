"""Reranking of what a search found, by a model that reads both texts together (a cross-encoder).

It costs a pass of the model for each row looked at, so nothing here is imported, made or run unless it is asked for;
decorated calls never ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from exp_pool.core.record import Match
from exp_pool.errors import InvalidInputError, RerankerError
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.single_thread import SingleThreadExecutor
from exp_pool.search.embedders._sentence_models import LoadedModels

Reranker: TypeAlias = Callable[[str, list[str]], Sequence[float] | Awaitable[Sequence[float]]]
"""Gets the request and the texts of others, returns how relevant each is: any numbers, the larger the better."""

_TIMES, _AT_LEAST = 4, 20  # rows looked at for each that is wanted
_BATCH = 32
_LONGEST = 20_000  # characters given to the tokenizer: models read some hundred tokens


class RerankerRunner:
    """Runs rerankers on one thread, with deadlines; what they return is checked.

    Args:
        usual: what is used where a query names none: a callable, the name or folder of a sentence-transformers
            CrossEncoder, or ``"none"``.
    """

    def __init__(self, usual: Reranker | str) -> None:
        self._usual = usual
        self._models: LoadedModels[str, Reranker] = LoadedModels()
        self._thread = SingleThreadExecutor("exp_pool-reranker")

    def chosen(self, reranker: Reranker | str | None) -> Reranker | str | None:
        """What reranks a query that asks for this; None: nothing does.

        Raises:
            InvalidInputError: it is neither a name nor a callable.
        """
        reranker = self._usual if reranker is None else reranker
        if not (callable(reranker) or (isinstance(reranker, str) and reranker)):
            raise InvalidInputError(
                f"reranker={reranker!r} must be the name or folder of a CrossEncoder, a callable(request, texts) -> "
                "numbers, or 'none'"
            )
        return None if reranker == "none" else reranker

    def candidates(self, limit: int) -> int:
        """How many rows to look at for so many."""
        return max(_AT_LEAST, _TIMES * limit)

    def reordered(
        self, reranker: Reranker | str, request: str, matches: Sequence[Match], timeout_s: float
    ) -> list[Match]:
        """The matches by falling relevance, equal ones as they were. Fewer than two are not reranked.

        Args:
            reranker: a callable, or the name or folder of a CrossEncoder.
            request: the text that was searched for.
            matches: what was found.
            timeout_s: for the reranker.

        Raises:
            RerankerError: it cannot be had, failed, took too long, or did not give a number for each text.
        """
        if len(matches) < 2:  # noqa: PLR2004  (nothing to put in order)
            return list(matches)
        texts = [match.record.request for match in matches]
        try:
            scores = self._thread.run(lambda: resolve(self._made(reranker)(request, texts)), timeout_s)
            relevance = np.asarray(scores, dtype=np.float64)
        except RerankerError:
            raise
        except TimeoutError as err:
            raise RerankerError(f"{err}; raise query_timeout if the model is just slow") from err
        except Exception as err:
            raise RerankerError(f"the reranker failed: {err!r}") from err
        if relevance.shape != (len(texts),) or not np.isfinite(relevance).all():
            raise RerankerError(
                f"the reranker returned shape {relevance.shape} for {len(texts)} texts, or something that is no finite "
                "number; it must return one number for each text"
            )
        return [matches[place] for place in np.argsort(-relevance, kind="stable")]

    def close(self) -> None:
        """End the thread; a job that hangs is left behind."""
        self._thread.stop(0.0)

    def _made(self, reranker: Reranker | str) -> Reranker:
        return self._models.get(reranker, lambda: _cross_encoder(reranker)) if isinstance(reranker, str) else reranker


def _cross_encoder(name: str) -> Reranker:
    try:
        from sentence_transformers import CrossEncoder

        model: Any = CrossEncoder(name)
    except Exception as err:
        raise RerankerError(
            f"reranker={name!r} cannot be loaded: it is neither a folder with a CrossEncoder nor to be had from the "
            f"hub, for example 'cross-encoder/ms-marco-MiniLM-L6-v2' ({err})"
        ) from err
    if model.num_labels != 1:
        raise RerankerError(f"reranker={name!r} gives {model.num_labels} numbers for a text; use one that gives one")

    def rerank(request: str, texts: list[str]) -> Sequence[float]:
        pairs = [(request[:_LONGEST], text[:_LONGEST]) for text in texts]
        scores: Sequence[float] = model.predict(pairs, batch_size=_BATCH, show_progress_bar=False)
        return scores

    return rerank
