"""Typed keyword arguments of a manager: fields of `config.ExpPoolConfig`, all optional.

Durations may be text (``"1h"``) or a timedelta, sizes text (``"1GB"``): `config` reads them. What can be a plug as well
as a URL is a parameter of its own there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, TypedDict

from pydantic import SecretStr


class Settings(TypedDict, total=False):
    """What ``ExpManager(...)`` takes besides its plugs."""

    namespace: str
    require_namespace: bool
    enabled: bool
    enable_read: bool
    enable_write: bool
    default_ttl: float | str | timedelta | None
    index_from: int
    scan_bytes: int | str
    tombstone_retention: float | str | timedelta
    compress_above: int | str | None
    max_entries: int | None
    max_bytes: int | str | None
    eviction: Literal["lru", "lfu", "fifo", "ttl"]
    key_secret: SecretStr | str | None
    quarantine: bool
    quarantine_confidence: float
    hot: str | None
    hot_ttl: float | str | timedelta
    hot_entries: int
    hot_bytes: int | str
    lease_timeout: float | str | timedelta
    max_stream_bytes: int | str
    store_timeout: float | str | timedelta
    embed_timeout: float | str | timedelta
    load_timeout: float | str | timedelta
    judge_timeout: float | str | timedelta
    query_timeout: float | str | timedelta
    exit_timeout: float | str | timedelta
