"""Registry of plugs by URL or name. Each is one line here and one file elsewhere, imported only when it is named."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast
from weakref import WeakValueDictionary

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import CacheTier, Embedder, RecordStore, Scorer, VectorIndex
from exp_pool.errors import ConfigurationError
from exp_pool.maintenance.scorer_runner import ScorerSettings
from exp_pool.runtime.display import without_password
from exp_pool.runtime.plugs import offers
from exp_pool.search.embedders.callable import CallableEmbedder
from exp_pool.search.embedders.loader import EmbedderLoader

# By the form of its URL, a class with `from_url(location, config)`. The location is the path for ``scheme:///path``,
# and the whole URL for ``scheme://host``, where options and credentials may stand.
STORES = {
    "json:///folder": "exp_pool.stores.json.store:JsonStore",
    "memory://": "exp_pool.stores.memory:MemoryStore",
    "mysql://user:password@host:port/database": "exp_pool.stores.sql.mysql:MysqlStore",
    "null://": "exp_pool.stores.null:NullStore",
    "postgresql://user:password@host:port/database": "exp_pool.stores.sql.postgres:PostgresStore",
    "redis://user:password@host:port/database": "exp_pool.stores.redis.store:RedisStore",
    "redis+cluster://user:password@host:port": "exp_pool.stores.redis.store:RedisStore",
    "rediss://user:password@host:port/database": "exp_pool.stores.redis.store:RedisStore",
    "sqlite:///file": "exp_pool.stores.sql.sqlite:SqliteStore",
}
# What may stand in front of a store: a class with `from_url(location, config)`.
CACHE_TIERS = {
    "redis://user:password@host:port/database": "exp_pool.stores.redis.cache_tier:RedisCacheTier",
    "redis+cluster://user:password@host:port": "exp_pool.stores.redis.cache_tier:RedisCacheTier",
    "rediss://user:password@host:port/database": "exp_pool.stores.redis.cache_tier:RedisCacheTier",
}
# By the form of its URL, a class with `from_url(location, config, store)`.
INDEXES = {
    "chroma:///folder": "exp_pool.search.indexes.chroma:ChromaIndex",
    "chroma://host:port": "exp_pool.search.indexes.chroma_server:ChromaServerIndex",
    "exact://": "exp_pool.search.indexes.exact:ExactIndex",
    "milvus:///file.db": "exp_pool.search.indexes.milvus_lite:MilvusLiteIndex",
    "milvus://host:port": "exp_pool.search.indexes.milvus:MilvusIndex",
    "none://": "exp_pool.search.indexes.none:NoIndex",
    "pgvector://": "exp_pool.search.indexes.pgvector:PgVectorIndex",
}
# A class that takes the name behind ``kind/``.
EMBEDDERS = {
    "onnx": "exp_pool.search.embedders.onnx:OnnxEmbedder",
    "openai": "exp_pool.search.embedders.openai:OpenAIEmbedder",
    "sentence-transformers": "exp_pool.search.embedders.sentence_transformers:SentenceTransformerEmbedder",
}
_ASK_OTHERS = frozenset({"openai"})  # of whom the environment says who they are, which may change between managers
_SCORERS = "exp_pool.scorers"
_loadings: WeakValueDictionary[str, EmbedderLoader] = WeakValueDictionary()  # as long as a manager has use for it


def open_store(url: str, config: ExpPoolConfig) -> RecordStore:
    """The record store of a URL. Nothing is opened yet.

    Raises:
        ConfigurationError: no such scheme, it has no such form, or what it needs is not installed.
    """
    plug, location = _find("store", url, STORES)
    store: RecordStore = _load(plug).from_url(location, config)
    return store


def open_cache_tier(url: str, config: ExpPoolConfig) -> CacheTier:
    """The cache tier of a URL. Nothing is opened yet.

    Raises:
        ConfigurationError: no such scheme, it has no such form, or what it needs is not installed.
    """
    plug, location = _find("hot", url, {**CACHE_TIERS, "memory://": ""})
    tier: CacheTier = _load(plug).from_url(location, config)
    return tier


def open_index(url: str, config: ExpPoolConfig, store: RecordStore) -> VectorIndex:
    """The vector index of a URL, over this store. Nothing is opened yet.

    Raises:
        ConfigurationError: no such scheme, it has no such form, or what it needs is not installed.
    """
    plug, location = _find("index", url, INDEXES)
    index: VectorIndex = _load(plug).from_url(location, config, store)
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
            return lambda: _load(EMBEDDERS[kind])(name)
    elif callable(embedder):
        wrapped = CallableEmbedder(embedder)
        return lambda: wrapped
    known = ", ".join(f"'{kind}/NAME'" for kind in EMBEDDERS)
    raise ConfigurationError(
        f"embedder={embedder!r} is unknown; use {known}, 'none' or a callable(list[str]) -> vectors"
    )


def embedder_loading(embedder: str | Callable[..., Any] | Embedder) -> EmbedderLoader | None:
    """Where the embedder comes from, once it is needed; None for ``"none"``. Managers share that of a local model.

    Raises:
        ConfigurationError: it is no known name, no callable and no embedder.
    """
    make = embedder_maker(embedder)
    if make is None or not isinstance(embedder, str):
        return None if make is None else EmbedderLoader.of(make())
    if embedder.partition("/")[0] in _ASK_OTHERS:
        return EmbedderLoader(make, embedder)
    return _loadings.setdefault(embedder, EmbedderLoader(make, embedder))


def load_scorer(scorer: str | Scorer) -> Scorer:
    """A scorer by its entry-point name, or the callable itself.

    Raises:
        ConfigurationError: none of that name is installed, it cannot be loaded, it needs settings, or it is neither a
            name nor a callable; a class is none, as with judges.
    """
    if isinstance(scorer, str):
        installed = {entry.name: entry for entry in entry_points(group=_SCORERS)}
        if scorer not in installed:
            known = ", ".join(sorted(installed)) or "none"
            raise ConfigurationError(f"scorer={scorer!r} is not installed; installed: {known}")
        try:
            made = installed[scorer].load()
        except Exception as err:  # a stranger's module
            raise ConfigurationError(
                f"scorer={scorer!r} ({installed[scorer].value}) cannot be loaded: {err!r}"
            ) from err
        if isinstance(made, type):
            made = _without_settings(scorer, made)
    else:
        made = scorer
    if isinstance(made, type):
        raise ConfigurationError(f"scorer={made!r} is a class; give an object of it: scorer={made.__name__}(...)")
    if not callable(made):
        raise ConfigurationError(
            f"scorer={scorer!r} must be a callable of a ScoreContext, or the name of an installed one"
        )
    ScorerSettings.of(made)
    return cast("Scorer", made)


def made_scorer(name: str, settings: Mapping[str, Any]) -> Scorer:
    """A scorer by its entry-point name, or by ``module:object``, made with these settings.

    Raises:
        ConfigurationError: there is none of that name, or these are not its settings; the message lists what it takes.
    """
    module, _, path = name.partition(":")
    made: Any
    if path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
        try:
            made = getattr(importlib.import_module(module), path)
        except (ImportError, AttributeError) as err:
            raise ConfigurationError(f"{name!r} cannot be imported from {Path.cwd()}: {err}") from err
        finally:
            sys.path.remove(str(Path.cwd()))
    else:
        made = next((entry.load() for entry in entry_points(group=_SCORERS) if entry.name == name), None)
    if not isinstance(made, type):
        if settings:
            raise ConfigurationError(f"the scorer {name!r} takes no settings")
        return load_scorer(name if made is None or not path else made)
    takes = ", ".join(inspect.signature(made).parameters)
    try:
        inspect.signature(made).bind(**settings)
        scorer = made(**settings)
    except TypeError as err:
        raise ConfigurationError(f"the scorer {name!r}: {err}; its settings: {takes}") from err
    return load_scorer(scorer)


def _without_settings(given: object, kind: type[Any]) -> Any:
    parameters = inspect.signature(kind).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [each.name for each in parameters if each.default is each.empty and each.kind not in several]
    if needed:
        by_hand = f"{kind.__name__}({', '.join(f'{name}=...' for name in needed)})"
        raise ConfigurationError(
            f"scorer={given!r} needs settings, so its name is not enough; write: from {kind.__module__} import "
            f"{kind.__name__}, and scorer={getattr(kind, 'made_by', by_hand)}"
        )
    return kind()


def _find(option: str, url: str, known: dict[str, str]) -> tuple[str, str]:
    """The plug of a URL, and where its things are."""
    kind, separator, location = url.partition("://")
    forms = {form.removeprefix(f"{kind}://"): plug for form, plug in known.items() if form.startswith(f"{kind}://")}
    if not separator or not forms:
        urls = ", ".join(sorted(known))
        raise ConfigurationError(f"{option}={without_password(url)!r}: unknown scheme; known: {urls}")
    for form, plug in forms.items():
        if form.startswith("/") and location.startswith("/") and location[1:]:
            return plug, location[1:]
        if form and not form.startswith("/") and location and not location.startswith("/"):
            return plug, url
        if not form and not location:
            return plug, location
    written = " or ".join(f"{kind}://{form}" for form in forms)
    if all(form.startswith("/") for form in forms):
        raise ConfigurationError(
            f"{option}={without_password(url)!r} names no file; write {written} (three slashes, four if absolute)"
        )
    raise ConfigurationError(f"{option}={without_password(url)!r}: {_missing(forms)}; write {written}")


def _missing(forms: Iterable[str]) -> str:
    return "it names no file and no host" if any(forms) else "it takes no path"


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
