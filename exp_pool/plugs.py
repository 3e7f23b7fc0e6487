"""Whether an object can be plugged in."""

from __future__ import annotations


def offers(plug: object, contract: type) -> bool:
    """Whether an object (no class) has everything that a contract of `protocols` names.

    ``isinstance`` does not do: from Python 3.12 on it overlooks what a wrapper hands on by ``__getattr__``.
    """
    members = {name for name in (*vars(contract), *contract.__annotations__) if not name.startswith("_")}
    return not isinstance(plug, type) and all(hasattr(plug, name) for name in members)
