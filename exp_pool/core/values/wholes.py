"""What a ``batch=`` function returned: taken apart item by item, and put together again from answers of the pool. Pure.

Each stored answer says what it was an item of, in words that stand behind the codec's name (`stamps`): ``tuple``,
``ndarray <f4``. A list needs no word.
"""

from __future__ import annotations

import array
import itertools
import json
import sys
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from exp_pool.errors import ExpPoolError


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
    numpy, torch, pandas, polars = (sys.modules.get(name) for name in ("numpy", "torch", "pandas", "polars"))
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
