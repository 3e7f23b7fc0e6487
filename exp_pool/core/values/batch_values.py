"""Values of ``batch=``: an argument split into items, a result into parts, answers put together to a result. Pure.

Each stored answer says what it was a part of, in words that stand behind the codec's name (`codec_stamp`): ``tuple``,
``ndarray <f4``. A list needs no word. Arrays, tensors, Series and frames are known only where their package is loaded:
whoever passes one has loaded it.
"""

from __future__ import annotations

import array
import itertools
import json
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from exp_pool.errors import ExpPoolError

_PACKAGES = ("numpy", "torch", "pandas", "polars")
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
    numpy, torch, pandas, polars = map(sys.modules.get, _PACKAGES)
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


# Of tuples those of a class of their own, whose items have names.
_NO_ITEMS = (str, bytes, bytearray, memoryview, tuple)

_MAKERS: dict[type, Callable[[Any, list[Any]], Any]] = {
    set: lambda _, items: set(items),
    frozenset: lambda _, items: frozenset(items),
    deque: lambda whole, items: deque(items, whole.maxlen),
    array.array: lambda whole, items: array.array(whole.typecode, items),
    type({}.keys()): lambda _, items: dict.fromkeys(items).keys(),
    type({}.values()): lambda _, items: dict(enumerate(items)).values(),
    type({}.items()): lambda _, items: dict(items).items(),
}


# ── Results ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Part:
    """One answer out of a result, and what that was."""

    value: Any
    word: str


class ApartError(ExpPoolError):
    """The answers cannot be put together to what the function returns."""


def parts_of(result: Any, count: int, given: Any) -> tuple[list[Any] | None, str, Any]:
    """The items of a result, what they are items of, and the result, or what stands for it once it was looked at.

    Args:
        result: what the function returned.
        count: for how many items; of any other number there are none.
        given: what it was given: the labels of a Series may be the same.
    """
    if isinstance(result, Iterator):
        if type(result).__module__ not in ("builtins", "itertools"):
            return None, "", result
        parts = list(itertools.islice(result, count + 1))
        if len(parts) != count:
            return None, "", itertools.chain(parts, result)
        return parts, "iterator", iter(parts)
    word = _word_of(result, given)
    if word is None or len(result) != count:
        return None, "", result
    return _items(result, word), word, result


def _word_of(result: Any, given: Any) -> str | None:
    """What its items are items of; None where it has none, or could not be put together again."""
    kind = type(result)
    if isinstance(result, list):
        return ""
    if kind in _WORDS:
        return _WORDS[kind]
    if kind is array.array:
        return f"array {result.typecode}"
    numpy, torch, pandas, polars = map(sys.modules.get, _PACKAGES)
    if numpy is not None and kind is numpy.ndarray and result.ndim:
        return f"ndarray {result.dtype.str}" if numpy.dtype(result.dtype.str) == result.dtype else None
    if torch is not None and kind is getattr(torch, "Tensor", None) and result.dim():
        return f"tensor {result.dtype}"
    if pandas is not None and kind is getattr(pandas, "Series", None):
        return _pandas_word(pandas, result, given)
    if polars is not None and kind is getattr(polars, "Series", None):
        plain = getattr(polars, str(result.dtype), None) == result.dtype
        return f"polars {json.dumps([str(result.dtype), result.name])}" if plain else None
    return None


def _pandas_word(pandas: Any, series: Any, given: Any) -> str | None:
    labels = getattr(given, "index", None) if isinstance(given, pandas.Series | pandas.DataFrame) else None
    if labels is not None and series.index.equals(labels):
        like = "given"
    elif series.index.equals(pandas.RangeIndex(len(series))):
        like = "range"
    else:
        return None
    if not isinstance(series.name, str | int | None):
        return None
    try:
        plain = pandas.api.types.pandas_dtype(str(series.dtype)) == series.dtype
        return f"pandas {json.dumps([str(series.dtype), series.name, like])}" if plain else None
    except (TypeError, ValueError):  # a dtype that its name does not lead to
        return None


def _items(result: Any, word: str) -> list[Any]:
    if word.startswith("tensor"):
        return [item.clone() for item in result.unbind(0)]
    if word.startswith("pandas"):
        numpy: Any = sys.modules["numpy"]
        return list(result.to_numpy() if isinstance(result.dtype, numpy.dtype) else result)
    return list(result)


def put_together(answers: Sequence[Any], words: Collection[str], given: Any) -> Any:
    """The answers in order, as what they were items of.

    Args:
        answers: one for each item that was asked for.
        words: what they were items of: of those that are known, each once. None is known: a list.
        given: what the function was asked with.

    Raises:
        ApartError: they were items of different things, or do not go together.
    """
    of = sorted({word.partition(" ")[0] for word in words})
    if len(of) > 1:
        raise ApartError(f"they were items of different things: {', '.join(of)}")
    details = sorted({word.partition(" ")[2] for word in words})
    try:
        return _joined(of[0] if of else "", details, list(answers), given)
    except ApartError:
        raise
    except Exception as err:  # of numpy, torch and the like, on answers that may be anything
        raise ApartError(f"{type(err).__name__}: {err}") from err


def _joined(kind: str, details: list[str], answers: list[Any], given: Any) -> Any:
    match kind:
        case "":
            return answers
        case "tuple":
            return tuple(answers)
        case "deque":
            return deque(answers)
        case "values":
            return dict(enumerate(answers)).values()
        case "iterator":
            return iter(answers)
        case "array":
            return array.array(details[0], answers)
        case "ndarray":
            return _array(_package("numpy"), details, answers)
        case "tensor":
            return _package("torch").stack([_package("torch").as_tensor(answer) for answer in answers])
        case "pandas":
            return _pandas(_package("pandas"), details, answers, given)
        case "polars":
            polars = _package("polars")
            dtype, name = json.loads(details[0])
            return polars.Series(name, answers, dtype=getattr(polars, dtype))
        case _:
            raise ApartError(f"this version knows no {kind!r}")


def _package(name: str) -> Any:
    package = sys.modules.get(name)
    if package is None:
        raise ApartError(f"{name} is not loaded in this process")
    return package


def _array(numpy: Any, details: list[str], answers: list[Any]) -> Any:
    dtype = numpy.result_type(*details)
    if not dtype.hasobject:
        return numpy.stack([numpy.asarray(answer, dtype) for answer in answers])
    whole = numpy.empty(len(answers), dtype)
    for position, answer in enumerate(answers):
        whole[position] = answer
    return whole


def _pandas(pandas: Any, details: list[str], answers: list[Any], given: Any) -> Any:
    if len(details) > 1:
        raise ApartError("they were items of different Series")
    dtype, name, like = json.loads(details[0])
    labels = given.index if like == "given" and isinstance(given, pandas.Series | pandas.DataFrame) else None
    return pandas.Series(answers, dtype=dtype, name=name, index=labels)


_WORDS: dict[type, str] = {tuple: "tuple", deque: "deque", type({}.values()): "values"}
