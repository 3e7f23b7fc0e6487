"""Whether an object can be plugged in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from exp_pool.errors import ConfigurationError


def offers(plug: object, contract: type) -> bool:
    """Whether an object (no class) has everything that a contract of `protocols` names.

    ``isinstance`` does not do: from Python 3.12 on it overlooks what a wrapper hands on by ``__getattr__``.
    """
    members = {name for name in (*vars(contract), *contract.__annotations__) if not name.startswith("_")}
    return not isinstance(plug, type) and all(hasattr(plug, name) for name in members)


def checked_listeners(name: str, given: Any, wanted: str, fits: Callable[[Any], bool]) -> tuple[Any, ...]:
    """What a manager is given to call, as a tuple.

    Args:
        name: the parameter.
        given: what was passed for it.
        wanted: what each must be, for the error.
        fits: whether one is that.

    Raises:
        ConfigurationError: `given` is one instead of a list, or one of them does not fit.
    """
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise ConfigurationError(f"{name}={given!r}: give a list, each of it {wanted}")
    listeners = tuple(given)
    for one in listeners:
        if not fits(one):
            raise ConfigurationError(f"{name}: {one!r} is not {wanted}")
    return listeners


def to_install(extra: str) -> str:
    """The command that installs what an extra of this package brings.

    Its packages by their names: this package may come from a folder, and then no index knows of its extras.
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
