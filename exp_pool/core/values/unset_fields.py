"""Unset fields of models: what ``model_dump(exclude_unset=True)`` leaves out, and how it is restored. Pure.

The JSON form of a model has every field, set or not, so that people see the whole answer; read back, all of them would
be set. So where some are not, their names are stored beside the form, as a tree that follows the value:
``[names, {step: tree}]``, where a step is the name of a field, or the position in a list, a tuple, or a dict's values.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from exp_pool.errors import DecodingError, EncodingError

Tree: TypeAlias = list[Any]

_ATOMS = frozenset((str, int, float, bool, bytes, type(None)))


def unset_in(value: Any) -> Tree | None:
    """The names of what is not set, at any depth; None where everything is.

    Raises:
        EncodingError: it is not set within a set, whose members have no place, or is nested too deeply.
    """
    try:
        return _tree(value)
    except RecursionError as err:
        raise EncodingError("it is nested too deeply to tell which fields are set") from err


def take_away(value: Any, tree: Tree) -> None:
    """Have these fields not set, as they were.

    Raises:
        DecodingError: the value does not look as the one did that the tree was made of.
    """
    try:
        names, inside = tree
        if names:
            value.__pydantic_fields_set__.difference_update(names)
        if inside:
            parts = dict(_parts(value))
            for step, below in inside.items():
                take_away(parts[step], below)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as err:
        raise DecodingError(f"what is said of fields that nobody set does not fit the answer: {err!r}") from err


def _tree(value: Any) -> Tree | None:
    if type(value) in _ATOMS:
        return None
    if isinstance(value, set | frozenset):
        if any(_tree(member) is not None for member in value):
            raise EncodingError("it holds a set of models whose fields are not all set, which cannot be told apart")
        return None
    inside = {step: tree for step, part in _parts(value) if (tree := _tree(part)) is not None}
    kind, names = type(value), []
    if hasattr(kind, "__pydantic_fields_set__"):
        names = [name for name in kind.__pydantic_fields__ if name not in value.__pydantic_fields_set__]
    return [names, inside] if names or inside else None


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    """What a value holds, by step."""
    if isinstance(value, list | tuple | deque):
        return [(str(place), item) for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        return [(str(place), item) for place, item in enumerate(value.values())]
    kind = type(value)
    if hasattr(kind, "__pydantic_fields_set__"):
        return [*value.__dict__.items(), *(value.__pydantic_extra__ or {}).items()]
    if dataclasses.is_dataclass(kind):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(kind)]
    return ()
