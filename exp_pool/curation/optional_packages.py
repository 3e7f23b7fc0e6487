"""Optional packages, imported when a format needs them."""

from __future__ import annotations

import importlib
from typing import Any

from exp_pool.errors import ConfigurationError
from exp_pool.runtime.plugs import to_install


def package(name: str, extra: str, command: str | None = None) -> Any:
    """Import a module.

    Args:
        name: of the module.
        extra: of this package that brings it.
        command: how to install it, where no extra brings it.

    Raises:
        ConfigurationError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as err:
        raise ConfigurationError(
            f"this needs {name.partition('.')[0]}, which cannot be imported ({err}); {command or to_install(extra)}"
        ) from err
