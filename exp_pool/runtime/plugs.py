"""Checks of plugs that users pass, and what to install for those that are missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from exp_pool.errors import ConfigurationError


def offers(plug: object, contract: type) -> bool:
    """Whether an object (no class) has all members that a contract of `protocols` names.

    ``isinstance`` does not do: from Python 3.12 on it overlooks what a wrapper passes on by ``__getattr__``.
    """
    members = {name for name in (*vars(contract), *contract.__annotations__) if not name.startswith("_")}
    return not isinstance(plug, type) and all(hasattr(plug, name) for name in members)


def checked_listeners(name: str, given: Any, wanted: str, fits: Callable[[Any], bool]) -> tuple[Any, ...]:
    """Check callbacks, feeds or observers that a manager is given.

    Args:
        name: of the parameter.
        given: its value.
        wanted: what each of them must be, for the error.
        fits: whether one of them is that.

    Raises:
        ConfigurationError: `given` is no list, or one of the list does not fit.
    """
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise ConfigurationError(f"{name}={given!r}: give a list, each of it {wanted}")
    listeners = tuple(given)
    for one in listeners:
        if not fits(one):
            raise ConfigurationError(f"{name}: {one!r} is not {wanted}")
    return listeners


def to_install(extra: str) -> str:
    """The command that installs the packages of an extra of this package.

    It names the packages: this package may be installed from a folder, and then no index knows its extras.
    """
    packages = _packages(extra) or [f"exp_pool[{extra}]"]
    return f"pip install {' '.join(map(shlex.quote, packages))}"


def _packages(extra: str) -> list[str]:
    try:
        needed = metadata.requires("exp_pool") or []
    except metadata.PackageNotFoundError:  # run from a folder on the path
        needed = []
    wanted = [line.partition(";")[0].strip() for line in needed if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    own = [name for name in wanted if not name.startswith("exp_pool")]
    extras = [
        each
        for name in wanted
        for several in re.findall(r"^exp.pool\[([\w,-]+)\]", name)
        for each in several.split(",")
    ]
    return own + [package for each in extras for package in _packages(each)]
