"""Attributes of objects, in ``__dict__`` and in slots. Pure."""

from __future__ import annotations

import contextlib
import functools
import types
from typing import Any


def attributes_of(value: Any) -> dict[str, Any]:
    """What an object holds in ``__dict__`` and slots; not what cached_property has put there, which follows from it."""
    cls = type(value)
    held = dict(getattr(value, "__dict__", None) or {})
    for base in cls.__mro__:
        if "__slots__" in vars(base):
            for name, slot in vars(base).items():
                if isinstance(slot, types.MemberDescriptorType) and not name.startswith("__"):
                    with contextlib.suppress(AttributeError):  # nothing in it
                        held[name] = slot.__get__(value)
    return {n: item for n, item in held.items() if not isinstance(getattr(cls, n, None), functools.cached_property)}
