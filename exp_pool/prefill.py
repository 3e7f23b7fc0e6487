"""Filling a pool before it is needed: what a list of calls may look like."""

from __future__ import annotations

from typing import Any


def as_call(item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One call: of a tuple its positional arguments, of a dict its named ones, else the only argument."""
    if isinstance(item, tuple):
        return item, {}
    if isinstance(item, dict):
        return (), item
    return (item,), {}
