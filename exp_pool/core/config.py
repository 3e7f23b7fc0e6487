"""Settings: arguments, then ``EXP_POOL_*`` in the environment, then ``exp_pool.toml`` or ``[tool.exp_pool]``.

Both files are those of the project's root, and of the two one is read: where there is an ``exp_pool.toml``, the other
one's table is not.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from exp_pool.core.ttl import to_seconds
from exp_pool.errors import ConfigurationError
from exp_pool.runtime.display import without_password
from exp_pool.runtime.files import root_above
from exp_pool.runtime.notices import Notices
from exp_pool.runtime.sizes import to_bytes

_PREFIX = "EXP_POOL_"
# Read elsewhere: where exported models lie, and what the project's own tests are told.
_NO_SETTINGS = ("ONNX_CACHE", "TEST_", "FULL", "REQUIRE_SERVICES")
_notices = Notices()
_FILE, _TABLE = "exp_pool.toml", "[tool.exp_pool]"
# Settings that may be written, and are shown, as text: "1h30m", "64MiB".
LIMITED_DURATIONS = ("default_ttl", "tombstone_retention")  # above zero
TIMEOUTS = (
    *("hot_ttl", "lease_timeout", "store_timeout", "embed_timeout", "load_timeout"),
    *("judge_timeout", "query_timeout", "exit_timeout"),
)
LIMITED_SIZES = ("max_bytes", "scan_bytes", "compress_above")  # above zero
SIZES = ("hot_bytes", "max_stream_bytes")
_sources: ContextVar[dict[str, str]] = ContextVar("exp_pool_sources")  # between two steps of making one


class ExpPoolConfig(BaseSettings):
    """The settings of one manager. Frozen; relative paths in URLs are relative to the project's root.

    Raises:
        pydantic.ValidationError: a setting is unknown (the message names the nearest) or has a wrong value.
        ConfigurationError: a configuration file cannot be read.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    store: str = "sqlite:///.exp_pool/pool.db"
    """URL of the record store: ``sqlite:///file``, ``postgresql://``, ``mysql://``, ``redis://``, ``redis+cluster://``,
    ``json:///folder``, ``memory://``, ``null://``. See `docs/backends.md`."""
    index: str = "chroma:///.exp_pool/chroma"
    """URL of the vector index: ``chroma:///folder``, ``chroma://host:port``, ``milvus:///file.db``,
    ``milvus://host:port``, ``pgvector://``, ``exact://``, ``none://``."""
    embedder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """``sentence-transformers/NAME``, ``onnx/NAME`` (the same models, quicker), ``openai/NAME``, or ``none``."""
    reranker: str = Field(default="none", min_length=1)
    """Name or folder of a sentence-transformers CrossEncoder that puts what queries find in order, or ``none``."""
    namespace: str = Field(default="default", min_length=1)
    """The tenant whose experiences this manager reads and writes."""
    require_namespace: bool = False
    """Whether each call and query must say whose it is: by `in_namespace`, its decorator or its ``namespace=``.

    A call that does not runs uncached, with one warning; anything else that is asked of the manager for one namespace
    raises `NamespaceError`. The setting `namespace` does not count: it is what nobody is to fall back to."""
    enabled: bool = True
    """The main switch: off, every call runs the function and nothing is stored."""
    enable_read: bool = True
    """Whether calls are answered from the pool."""
    enable_write: bool = True
    """Whether answers are stored."""
    default_ttl: float | None = None
    """Seconds (or text such as ``"1h"``) for which answers stay fresh, where the decorator says nothing.

    None: for ever.
    """
    index_from: int = Field(default=100_000, ge=0)
    """Vectors of a namespace from which the index is used. Below, exact scan is faster and misses nothing."""
    scan_bytes: int = 2 * 2**30
    """Bytes (or text such as ``"2GiB"``) of vectors kept in memory for exact scan at most: 170 MB for 100,000.

    What is more is read from the store for each search.
    """
    tombstone_retention: float = 90 * 86400.0
    """Seconds (or text such as ``"90d"``) for which deletions are remembered.

    Snapshots and other nodes that are older may bring back what was deleted.
    """
    compress_above: int | None = 65536
    """Bytes (or text such as ``"64KiB"``) of arguments, a response or a correction above which they are compressed.

    None: never.
    """
    max_entries: int | None = Field(default=None, ge=1)
    """How many experiences a namespace holds at most, history too. None: any number.

    Beyond it the background worker evicts; what people annotated or added by hand, and insights, never go.
    """
    max_bytes: int | None = None
    """Bytes (or text such as ``"200MB"``, ``"1GiB"``) of text that a namespace holds at most; the files are larger.

    An SQLite file has about three times that, and does not shrink by itself.
    """
    eviction: Literal["lru", "lfu", "fifo", "ttl"] = "lru"
    """What goes first: the longest unused, the least often used, the oldest, or the soonest to expire."""
    key_secret: SecretStr | None = None
    """Makes keys an HMAC, so that who reads the store cannot guess what was asked.

    Another secret finds nothing stored before.
    """
    quarantine: bool = True
    """Whether the background worker takes out of use what demonstrably makes calls go worse that are shown it.

    By `feedback`, and what ``Inject(holdout=)`` left out at random. It sets ``trust="quarantined"``, which
    ``update_exp(id, trust="trusted")`` takes back; `history` says why. What people annotated is left in use, with a
    warning.
    """
    quarantine_confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """1 less the expected share of wrongly accused among those quarantined by evidence about themselves.

    Likewise 1 less the chance that a function's experiences are ever wrongly accused as a whole.
    """
    hot: str | None = None
    """A second tier in front of the store: ``redis://...``, which processes share, or ``memory://``.

    ``memory://`` keeps answers in memory until they change, where the store tells what other processes change
    (PostgreSQL, Redis); elsewhere, and while it cannot be heard, for `hot_ttl`, as without this setting.
    """
    hot_ttl: float = Field(default=1.0, ge=0)
    """Seconds for which answers are given from memory without looking into a store that other processes write to.

    What this process writes it sees at once. 0: no answer is kept in memory.
    """
    hot_entries: int = Field(default=10_000, ge=0)
    """How many answers are kept in memory at most."""
    hot_bytes: int = Field(default=64 * 2**20, ge=0)
    """How many bytes they may have at most, as stored."""
    lease_timeout: float = Field(default=10.0, gt=0)
    """Seconds without a sign of life after which a process that computes an answer is given up by those who wait.

    The sign is given three times as often; a slow function is waited for.
    """
    max_stream_bytes: int = Field(default=16 * 2**20, gt=0)
    """Bytes (of JSON text) up to which a stream is held to be stored, and for others to join it."""
    store_timeout: float = Field(default=5.0, gt=0)
    """Seconds to wait for the store (another writer) and for the index."""
    embed_timeout: float = Field(default=2.0, gt=0)
    """Seconds that a decorated call waits for the embedder, where it wants similar experiences.

    The loading of its model does not count: see `load_timeout`.
    """
    load_timeout: float = Field(default=30.0, ge=0)
    """Seconds that decorated calls wait for a model that is still loading, where they want similar experiences.

    Counted once in a process, from the first call that waits: after a time-out later calls go on without similar
    experiences until the model is there. 0: none waits. `warm_up` loads it beforehand.
    """
    judge_timeout: float = Field(default=5.0, gt=0)
    """Seconds that a decorated call waits for its judge; then the judge has abstained, and the function runs."""
    query_timeout: float = Field(default=60.0, gt=0)
    """Seconds that a query waits until what it searches is embedded, and for the embedder, its model included."""
    exit_timeout: float = Field(default=5.0, ge=0)
    """Seconds that closing, and the end of the process, wait for background tasks, and for maintenance in progress.

    What maintenance has not done stays pending."""

    _root: ClassVar[Path | None] = None
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any, /) -> None:
        """Remember where the settings came from."""
        super().model_post_init(context)
        self._sources = _sources.get({})
        _sources.set({})

    @property
    def sources(self) -> dict[str, str]:
        """Where each setting came from.

        ``argument``, ``environment: EXP_POOL_STORE``, the path of the file, or ``default``.
        """
        return {name: self._sources.get(name, "default") for name in type(self).model_fields}

    def changed(self, settings: Mapping[str, Any]) -> ExpPoolConfig:
        """A copy with some other settings, which counts them as arguments, and the others as what they are."""
        copy = type(self)(**{**self.model_dump(exclude_unset=True), **settings})
        copy._sources |= {  # noqa: SLF001  (its own)
            name: source for name, source in self._sources.items() if name not in settings
        }
        return copy

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, data: Any) -> Any:
        unknown = set(data) - set(cls.model_fields) if isinstance(data, dict) else set()
        if unknown:
            name = min(unknown)
            close = _nearest(name, cls.model_fields)
            hint = f"did you mean {close!r}? " if close else ""
            message = f"unknown setting {name!r}; {hint}known: {', '.join(cls.model_fields)}"
            kind = PydanticCustomError("unknown_setting", "{message}", {"message": message})
            # Of its own: that of a plain ValueError shows all settings, and passwords among them.
            error = InitErrorDetails(type=kind, loc=(name,), input=_shown(data[name]))
            raise ValidationError.from_exception_data(cls.__name__, [error])
        return data

    @field_validator(*LIMITED_DURATIONS, *TIMEOUTS, mode="before")
    @classmethod
    def _duration(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name in TIMEOUTS and not isinstance(value, timedelta) and not _has_unit(value):
            return value  # as a number, which may be 0
        return to_seconds(value, str(info.field_name))

    @field_validator(*LIMITED_SIZES, *SIZES, mode="before")
    @classmethod
    def _size(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name in SIZES and not _has_unit(value):
            return value
        return to_bytes(value, str(info.field_name))

    @field_validator("store", "index", mode="after")
    @classmethod
    def _anchor(cls, value: str) -> str:
        return _absolute(value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What `repr` and `str` show: URLs without their passwords."""
        for name, value in super().__repr_args__():
            yield name, _shown(value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, files: in this order."""
        _warn_of_unknown(os.environ, cls.model_fields)
        root = project_root()
        _warn_of_unread(root)
        found, place = _from_files(root)
        _sources.set(
            dict.fromkeys(found, place)
            | {name: f"environment: {_PREFIX}{name.upper()}" for name in env_settings()}
            | dict.fromkeys(init_settings(), "argument")
        )
        return init_settings, env_settings, InitSettingsSource(settings_cls, found)


def _shown(value: Any) -> Any:
    return without_password(value) if isinstance(value, str) else value


def _has_unit(value: Any) -> bool:
    return isinstance(value, str) and any(map(str.isalpha, value))


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def _warn_of_unknown(environment: Iterable[str], settings: Iterable[str]) -> None:
    """Say once of each variable that looks like a setting and is none: its writer believes that it is heeded.

    A warning, no error: a newer version's variable must not keep an older one from starting.
    """
    known = [name.upper() for name in settings]
    for name in sorted(environment):
        prefix, setting = name[: len(_PREFIX)].upper(), name[len(_PREFIX) :].upper()
        if prefix == _PREFIX and setting not in known and not setting.startswith(_NO_SETTINGS):
            close = _nearest(setting, known)
            hint = f"did you mean {_PREFIX}{close}?" if close else f"known: {_PREFIX}{{{','.join(known)}}}"
            _notices.warn_once(name, f"the environment variable {name} is no setting and changes nothing; {hint}")


def project_root(start: Path | None = None) -> Path:
    """The nearest folder upward with pyproject.toml or .git, else with exp_pool.toml, else the working directory."""
    start = start or Path.cwd()
    return root_above(start) or start


def _warn_of_unread(root: Path) -> None:
    """Say once of each file that looks as if its settings held, and does not."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if folder == root or root not in folder.parents:
            break
        if (folder / _FILE).exists():
            message = f"{folder / _FILE} is not read: settings are read from the project's root {root}; move it there"
            _notices.warn_once(f"unread:{folder}", f"{message}, or name the settings in the environment")
    if (root / _FILE).exists():
        with suppress(ConfigurationError):
            if _table(root):
                _notices.warn_once(
                    f"unread:{root}",
                    f"{_TABLE} of {root / 'pyproject.toml'} is not read, because there is {root / _FILE}: put all "
                    "settings into one of the two",
                )


def _absolute(url: str) -> str:
    """``scheme:///relative`` as ``scheme:////absolute``, so that a change of the working directory changes nothing."""
    scheme, separator, path = url.partition(":///")
    if not separator or not path or path.startswith("~") or Path(path).is_absolute():
        return f"{scheme}:///{Path(path).expanduser()}" if path.startswith("~") else url
    return f"{scheme}:///{project_root() / path}"


def _from_files(root: Path) -> tuple[dict[str, Any], str]:
    """The settings of the project's file, and which file that is."""
    if (root / _FILE).exists():
        return _toml(root / _FILE), str(root / _FILE)
    return _table(root), f"{root / 'pyproject.toml'} {_TABLE}"


def _table(root: Path) -> dict[str, Any]:
    path = root / "pyproject.toml"
    return dict(_toml(path).get("tool", {}).get("exp_pool", {})) if path.exists() else {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise ConfigurationError(f"{path} cannot be read: {err}") from err
