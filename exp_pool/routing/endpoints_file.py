"""Endpoints in a file: TOML with a table ``[[endpoints]]`` for each, or JSON with a list under ``"endpoints"``.

Each entry has the arguments of `ModelEndpoint` under their names. Keys had better be named (``api_key = "env:NAME"``)
than written down.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exp_pool.errors import ConfigurationError
from exp_pool.routing.endpoint import ModelEndpoint

_FIELDS = tuple(inspect.signature(ModelEndpoint).parameters)
_MOST_BYTES = 2**20


class EndpointsFile:
    """Reads the endpoints of a file each time it is called.

    Args:
        path: a file whose name ends in ``.toml`` or ``.json``.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    async def __call__(self) -> Sequence[ModelEndpoint]:
        """See `read`."""
        return await asyncio.to_thread(self.read)

    def read(self) -> Sequence[ModelEndpoint]:
        """The endpoints.

        Raises:
            ConfigurationError: the file cannot be read, or does not hold endpoints; what a key is set to is not said.
        """
        try:
            with self._path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
            if len(text) > _MOST_BYTES:
                raise ValueError(f"it is longer than {_MOST_BYTES:,} bytes")
            found = json.loads(text) if self._path.suffix == ".json" else tomllib.loads(text.decode())
        except (OSError, ValueError, RecursionError) as err:
            raise ConfigurationError(f"endpoints cannot be read from {self._path}: {err}") from err
        entries = found.get("endpoints") if isinstance(found, dict) else None
        if not isinstance(entries, list):
            raise ConfigurationError(
                f"{self._path} lists no endpoints; write [[endpoints]] tables (TOML), or a list under "
                '"endpoints" (JSON), each with name and url'
            )
        return [self._endpoint(number, entry) for number, entry in enumerate(entries, 1)]

    def _endpoint(self, number: int, entry: Any) -> ModelEndpoint:
        where = f"{self._path}, endpoint {number}"
        if not isinstance(entry, dict) or not {"name", "url"} <= entry.keys():
            raise ConfigurationError(f"{where}: it needs name and url")
        unknown = sorted(entry.keys() - set(_FIELDS))
        if unknown:
            raise ConfigurationError(f"{where}: {', '.join(unknown)} is unknown; known: {', '.join(_FIELDS)}")
        try:
            return ModelEndpoint(**entry)
        except ConfigurationError as err:
            raise ConfigurationError(f"{where}: {err}") from None
