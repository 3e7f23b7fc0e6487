"""From a URL or a name to a plug. Each is one line here and one file elsewhere, imported only when it is named."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, cast

from exp_pool.config import ExpPoolConfig
from exp_pool.embedders.callable import CallableEmbedder
from exp_pool.errors import ConfigurationError
from exp_pool.plugs import offers
from exp_pool.protocols import Embedder, RecordStore, Scorer, VectorIndex

# A class with `from_url(location, config)`; location is what follows ``scheme://``, a path for ``scheme:///path``.
STORES = {
    "json": "exp_pool.stores.json_files:JsonStore",
    "memory": "exp_pool.stores.memory:MemoryStore",
    "null": "exp_pool.stores.null:NullStore",
    "sqlite": "exp_pool.stores.sqlite:SqliteStore",
}
# A class with `from_url(location, config, store)`.
INDEXES = {
    "chroma": "exp_pool.indexes.chroma:ChromaIndex",
    "exact": "exp_pool.indexes.exact:ExactIndex",
    "none": "exp_pool.indexes.none:NoIndex",
}
# A class that takes the name behind ``kind/``.
EMBEDDERS = {
    "sentence-transformers": "exp_pool.embedders.sentence_transformers:SentenceTransformerEmbedder",
}
_NEEDS_PATH = frozenset({"sqlite", "json", "chroma"})
_SCORERS = "exp_pool.scorers"


def open_store(url: str, config: ExpPoolConfig) -> RecordStore:
    """The record store of a URL. Nothing is opened yet.

    Raises:
        ConfigurationError: no such scheme, or a path is missing.
    """
    kind, location = _split("store", url, STORES)
    store: RecordStore = _load(STORES[kind]).from_url(location, config)
    return store


def open_index(url: str, config: ExpPoolConfig, store: RecordStore) -> VectorIndex:
    """The vector index of a URL, over this store. Nothing is opened yet.

    Raises:
        ConfigurationError: no such scheme, or a path is missing.
    """
    kind, location = _split("index", url, INDEXES)
    index: VectorIndex = _load(INDEXES[kind]).from_url(location, config, store)
    return index


def embedder_maker(embedder: str | Callable[..., Any] | Embedder) -> Callable[[], Embedder] | None:
    """What makes the embedder when it is first needed; None for ``"none"``.

    Raises:
        ConfigurationError: it is no known name, no callable and no embedder.
    """
    if offers(embedder, Embedder):
        given = cast("Embedder", embedder)
        return lambda: given
    if isinstance(embedder, str):
        if embedder == "none":
            return None
        kind, _, name = embedder.partition("/")
        if kind in EMBEDDERS and name:
            full = name if "/" in name else f"{kind}/{name}"
            return lambda: _load(EMBEDDERS[kind])(full)
    elif callable(embedder):
        wrapped = CallableEmbedder(embedder)
        return lambda: wrapped
    known = ", ".join(f"'{kind}/NAME'" for kind in EMBEDDERS)
    raise ConfigurationError(
        f"embedder={embedder!r} is unknown; use {known}, 'none' or a callable(list[str]) -> vectors"
    )


def load_scorer(scorer: str | Scorer) -> Scorer:
    """A scorer by its entry-point name, or the callable itself.

    Raises:
        ConfigurationError: none of that name is installed, or it is neither a name nor a callable.
    """
    if not isinstance(scorer, str):
        if not callable(scorer):
            raise ConfigurationError(
                f"scorer={scorer!r} must be a callable of a ScoreContext, or the name of an installed one"
            )
        return scorer
    installed = {entry.name: entry for entry in entry_points(group=_SCORERS)}
    if scorer not in installed:
        known = ", ".join(sorted(installed)) or "none"
        raise ConfigurationError(f"scorer={scorer!r} is not installed; installed: {known}")
    loaded: Scorer = installed[scorer].load()()
    return loaded


def _split(option: str, url: str, known: dict[str, str]) -> tuple[str, str]:
    kind, separator, location = url.partition("://")
    if not separator or kind not in known:
        urls = ", ".join(f"{name}:///path" if name in _NEEDS_PATH else f"{name}://" for name in sorted(known))
        raise ConfigurationError(f"{option}={url!r}: unknown scheme; known: {urls}")
    if kind in _NEEDS_PATH:
        if not location.startswith("/") or not location[1:]:
            raise ConfigurationError(
                f"{option}={url!r} names no file; write {kind}:///path (three slashes, four if absolute)"
            )
        return kind, location[1:]
    if location:
        raise ConfigurationError(f"{option}={url!r}: {kind}:// takes no path")
    return kind, location


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
