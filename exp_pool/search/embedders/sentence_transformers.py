"""``sentence-transformers/NAME``: the default. The model is loaded once per process, by the first text embedded.

It comes from a folder of that name, the hub's cache, the package of the extra ``offline``, or the hub, in this order:
the network is asked last, and not at all under ``HF_HUB_OFFLINE=1``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exp_pool.errors import EmbedderError
from exp_pool.runtime.plugs import to_install
from exp_pool.search.embedders._sentence_models import (
    PACKAGED,
    LoadedModels,
    SentenceEmbedder,
    Tokens,
    find,
    full_name,
    short_name,
    start_of,
)

_BATCH = 32
_HUB_S = 5.0  # for the hub to say anything at all
_SERVER_ERROR = 500

_models: LoadedModels[str, tuple[Any, str]] = LoadedModels()  # with the digests of their weights


class SentenceTransformerEmbedder(SentenceEmbedder):
    """A sentence-transformers model.

    Args:
        name: as the hub knows it (without an owner it is one of ``sentence-transformers``), or a folder.

    Raises:
        EmbedderError: the model cannot be had; the message says what to install.
    """

    def __init__(self, name: str) -> None:
        self._model, revision = _models.get(full_name(name), lambda: _loaded(full_name(name)))
        # The revision is a digest of the weights: the same model has the same identity wherever it came from.
        self.identity = f"sentence-transformers/{short_name(name)}@{revision}"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        starts = [start_of(text) for text in texts]
        vectors = self._model.encode(starts, batch_size=_BATCH, convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors)

    @property
    def _limit(self) -> int | None:
        limit: int | None = self._model.max_seq_length
        return limit

    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        if not texts:
            return []
        tokenizer = self._model.tokenizer
        unknown = getattr(tokenizer, "unk_token_id", None)
        if not hasattr(tokenizer, "unk_token_id"):  # of another package, for models of single words
            return [Tokens(len(text.encode("utf-8", "replace"))) for text in texts]
        places = bool(getattr(tokenizer, "is_fast", False))
        read = tokenizer(list(texts), truncation=False, verbose=False, return_offsets_mapping=places)
        # Of a tokenizer that does not say where a token stands, each unknown one counts as a letter.
        spans = read["offset_mapping"] if places else [[None] * len(ids) for ids in read["input_ids"]]
        return [
            Tokens(
                len(ids),
                [
                    "x" if span is None else text[slice(*span)]
                    for id_, span in zip(ids, of_text, strict=True)
                    if id_ == unknown
                ],
            )
            for text, ids, of_text in zip(texts, read["input_ids"], spans, strict=True)
        ]


def _loaded(name: str) -> tuple[Any, str]:
    model = load(name)
    model.encode(["the first text takes longer, which is part of loading"], show_progress_bar=False)
    return model, _digest(model)


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
    place = find(name)
    silence = "" if Path(place).is_dir() else _silence_of_the_hub()
    try:
        model = SentenceTransformer(place, local_files_only=bool(silence))
    except Exception as err:
        why = f"neither on this machine nor to be had from the hub ({err})"
        if silence:
            why = f"not on this machine, and the hub cannot be reached ({silence})"
        raise EmbedderError(
            f"the model {name!r} is {why}: {to_install('offline')} for {PACKAGED}, or give the folder of a "
            "model as embedder='sentence-transformers//path/to/folder'"
        ) from err
    finally:
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    return model


def _silence_of_the_hub() -> str:
    """Why the hub cannot be reached; empty where it can, or is not to be asked.

    Its own client asks for each file of a model five times, with 23 s of pauses between, before it says so: a minute.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return ""  # its client knows
    try:
        answer = get_session().head(constants.ENDPOINT, timeout=_HUB_S)
    except Exception as err:  # of whichever library the hub's client is made of
        return repr(err)
    return f"HTTP {answer.status_code}" if answer.status_code >= _SERVER_ERROR else ""


def _digest(model: Any) -> str:
    """A digest of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, weights in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weights.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
