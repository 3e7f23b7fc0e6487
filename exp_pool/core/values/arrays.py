"""Serializer of numpy arrays and scalars: dtype with its byte order, shape, bytes. Pure.

Numpy is imported where a value or a stored text needs it, never before. What the bytes alone do not tell is refused:
objects (pointers), subclasses (masked arrays, memory maps, records), metadata and gaps of a dtype, and
``longdouble``, whose sixteen bytes mean another number on another processor.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

from exp_pool.errors import DecodingError, EncodingError

if TYPE_CHECKING:
    import numpy as np


def write(value: Any) -> tuple[str, list[Any]]:
    """The tag's name and content for an array (shape and all) or a scalar.

    Raises:
        EncodingError: it would not come back the same.
    """
    import numpy as np

    if type(value) is np.ndarray:
        # Order "A": a Fortran-ordered array is written and comes back that way, so that sums over it come out the same.
        if value.dtype.itemsize == 0:
            raise EncodingError("a numpy array whose items have no bytes could not be restored")
        order = ["F"] if value.flags.fnc else []
        return "array", [_spec(value.dtype), list(value.shape), _text(value.tobytes("A")), *order]
    if isinstance(value, np.generic):
        content = [_spec(value.dtype), _text(value.tobytes()[: value.dtype.itemsize])]  # of "" numpy gives four bytes
        back = read_scalar(content)
        # `np.str_("a\0")` loses its end in numpy's own buffers; `np.longlong` is the twin of `np.int64`.
        if type(back) is type(value) and back.dtype == value.dtype and back.tobytes() == value.tobytes():
            return "scalar", content
    kind = type(value)
    raise EncodingError(f"a value of type {kind.__module__}.{kind.__qualname__} could not be restored from JSON")


def read_array(content: Any) -> np.ndarray:
    """The array, new and writable.

    Raises:
        DecodingError: dtype, shape and bytes do not fit each other.
    """
    spec, shape, text, *order = content
    if order not in ([], ["F"]):
        raise DecodingError("the order of an array is not as this package writes it")
    return _build(spec, shape, text, "F" if order else "C")


def read_scalar(content: Any) -> Any:
    """The scalar.

    Raises:
        DecodingError: dtype and bytes do not fit each other.
    """
    spec, text = content
    return _build(spec, None, text, "C")[()]


def same_bytes(one: Any, other: Any) -> bool:
    """Whether two arrays, or two scalars, of one type are the same: dtype, shape and every byte."""
    return bool(
        one.dtype == other.dtype
        and one.dtype.char == other.dtype.char
        and one.shape == other.shape
        and one.tobytes() == other.tobytes()
    )


def _build(spec: Any, shape: Any, text: Any, order: Any) -> np.ndarray:
    import numpy as np

    dtype = np.dtype(_tupled(spec))
    data = base64.b64decode(text, validate=True)
    # Checked before numpy sees it: numpy 2.4 takes the process down on a negative length of items without bytes.
    if shape is None:
        shape = []
    elif dtype.itemsize == 0:
        raise DecodingError("an array whose items have no bytes")
    if type(shape) is not list or not all(type(length) is int and length >= 0 for length in shape):
        raise DecodingError("the shape of an array is a list of lengths")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise DecodingError("the bytes of an array do not fit its dtype and shape")
    if _spec(dtype, DecodingError) != _tupled(spec):
        raise DecodingError("the dtype of an array is not as this package writes it")
    return np.ndarray(tuple(shape), dtype, buffer=data, order=order).copy(order="K")


def _spec(dtype: np.dtype[Any], error: type[Exception] = EncodingError) -> Any:
    """What `numpy.dtype` makes this dtype of again: its string, or the list of fields."""
    import numpy as np

    if dtype.hasobject or _holds_longdouble(dtype):
        raise error(f"a numpy value of dtype {dtype} could not be restored: its bytes mean nothing elsewhere")
    spec = dtype.str if dtype.names is None else _tupled(dtype.descr)
    back = np.dtype(spec)
    if back.char != dtype.char and dtype.names is None:  # int64 and longlong have one string and two types
        spec = dtype.str[0] + dtype.char
        back = np.dtype(spec)
    alike = back == dtype and back.type is dtype.type and repr(back) == repr(dtype)
    if not alike or dtype.metadata or back.isalignedstruct != dtype.isalignedstruct:
        raise error(f"a numpy value of dtype {dtype!r} could not be restored: its description is not complete")
    return spec


def _holds_longdouble(dtype: np.dtype[Any]) -> bool:
    if dtype.subdtype is not None:
        return _holds_longdouble(dtype.subdtype[0])
    if dtype.fields is not None:
        return any(_holds_longdouble(field[0]) for field in dtype.fields.values())
    return dtype.char in "gG"


def _tupled(spec: Any) -> Any:
    """A description with its fields as tuples, as numpy wants them."""
    if not isinstance(spec, list):
        return spec
    return [tuple(_tupled(part) for part in field) for field in spec]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
