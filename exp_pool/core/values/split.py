"""What ``batch=`` takes: a value taken apart item by item, and some of its items in a value of the same type. Pure.

Arrays, tensors, Series and frames are known only where their package is loaded: whoever passes one has loaded it.
"""

from __future__ import annotations

import array
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_MOST = 1_000_000  # items that are read of an iterator, which may have no end


@dataclass(frozen=True, slots=True)
class Split:
    """A value, taken apart.

    Args:
        given: the value.
        items: in order.
        again: gives the whole of it, as it was passed.
        take: gives the items at these positions in a value of the same type; None where there is no such value.
        ordered: whether that holds them in the order of the positions; otherwise in its own.
    """

    given: Any
    items: list[Any]
    again: Callable[[], Any]
    take: Callable[[list[int]], Any] | None = None
    ordered: bool = True

    def some(self, positions: list[int]) -> tuple[Any, list[int]]:
        """A value with the items at these positions, which may be all of them, and the position of each item in it."""
        everything = list(range(len(self.items)))
        if self.take is None or positions == everything:
            return self.again(), everything
        passed = self.take(positions)
        if self.ordered:
            return passed, positions
        position_of = {self.items[position]: position for position in positions}
        return passed, [position_of[item] for item in passed]


def split(value: Any) -> tuple[Split | None, Any]:
    """The value taken apart, None where that cannot be; and the value, or what stands for it once it was looked at."""
    if isinstance(value, Iterator):
        return _iterator(value)
    found = _built_in(value) or _of_packages(value)
    if found is None and isinstance(value, Sequence) and not isinstance(value, _NO_ITEMS):
        found = Split(value, list(value), lambda: value)  # of a class that nobody knows how to make
    return found, value


def _built_in(value: Any) -> Split | None:
    kind = type(value)
    items: list[Any]
    if isinstance(value, list) or kind is tuple:
        items = list(value)  # what the function does to a list that it is given does not reach the caller's
        make = list if isinstance(value, list) else tuple
        return Split(value, items, lambda: make(items), lambda positions: make(items[p] for p in positions))
    if kind is range:
        return Split(value, list(value), lambda: value, lambda positions: _progression([value[p] for p in positions]))
    make_some = _MAKERS.get(kind)
    if make_some is None:
        return None
    items = list(value)
    unordered = kind in (set, frozenset)
    return Split(
        value, items, lambda: value, lambda ps: make_some(value, [items[p] for p in ps]), ordered=not unordered
    )


def _progression(numbers: list[int]) -> range | list[int]:
    """The numbers as a range, where they are one."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    whole = range(numbers[0], numbers[-1] + (1 if step > 0 else -1), step)
    return whole if list(whole) == numbers else numbers


def _of_packages(value: Any) -> Split | None:
    numpy, torch, pandas, polars = (sys.modules.get(name) for name in ("numpy", "torch", "pandas", "polars"))
    if numpy is not None and type(value) is numpy.ndarray:
        return Split(value, list(value), lambda: value, lambda ps: value[numpy.array(ps)]) if value.ndim else None
    if torch is not None and type(value) is getattr(torch, "Tensor", None):
        return Split(value, list(value.unbind(0)), lambda: value, lambda ps: value[ps]) if value.dim() else None
    if pandas is not None and _is_a(value, pandas, "Series", "Index"):
        plain = isinstance(value.dtype, numpy.dtype) if numpy is not None else False
        return Split(value, list(value.to_numpy() if plain else value), lambda: value, value.take)
    if pandas is not None and _is_a(value, pandas, "DataFrame"):
        rows = value.to_dict("records") if value.columns.is_unique else None
        return None if rows is None else Split(value, rows, lambda: value, value.take)
    if polars is not None and _is_a(value, polars, "Series"):
        return Split(value, value.to_list(), lambda: value, lambda ps: value[ps])
    if polars is not None and _is_a(value, polars, "DataFrame"):
        return Split(value, value.to_dicts(), lambda: value, lambda ps: value[ps])
    return None


def _is_a(value: Any, package: Any, *names: str) -> bool:
    """Whether it is of one of these classes of a package, which may still be on its way in."""
    return isinstance(value, tuple(getattr(package, name) for name in names if hasattr(package, name)))


def _iterator(value: Iterator[Any]) -> tuple[Split | None, Any]:
    if type(value).__module__ not in ("builtins", "itertools"):  # a file, a cursor: the function may want more of it
        return None, value
    items: list[Any] = []
    try:
        items.extend(itertools.islice(value, _MOST + 1))
    except Exception as err:  # of the caller's own generator: the function is to meet it where it stands
        return None, _then_raise(items, err)
    if len(items) > _MOST:
        return None, itertools.chain(items, value)
    return Split(value, items, lambda: iter(items), lambda positions: iter([items[p] for p in positions])), iter(items)


def _then_raise(items: list[Any], err: Exception) -> Iterator[Any]:
    yield from items
    raise err


_NO_ITEMS = (
    str,
    bytes,
    bytearray,
    memoryview,
    tuple,
)  # of tuples those of a class of their own, whose items have names

_MAKERS: dict[type, Callable[[Any, list[Any]], Any]] = {
    set: lambda _, items: set(items),
    frozenset: lambda _, items: frozenset(items),
    deque: lambda whole, items: deque(items, whole.maxlen),
    array.array: lambda whole, items: array.array(whole.typecode, items),
    type({}.keys()): lambda _, items: dict.fromkeys(items).keys(),
    type({}.values()): lambda _, items: dict(enumerate(items)).values(),
    type({}.items()): lambda _, items: dict(items).items(),
}
