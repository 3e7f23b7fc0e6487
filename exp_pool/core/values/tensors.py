"""Serializer of torch tensors: dtype, shape, bytes. Pure.

Torch is never imported for it: a tensor that is to be written shows that it is loaded, and a stored one is read where
it is. What bytes alone do not tell is refused: tensors on a device, sparse or quantized ones, those that record
gradients, and subclasses such as parameters.
"""

from __future__ import annotations

import base64
import math
import sys
from typing import Any

from exp_pool.errors import DecodingError, EncodingError


def content(value: Any) -> tuple[str, list[int], bytes]:
    """The dtype's name, the shape and the bytes.

    Raises:
        EncodingError: these are not all of it.
    """
    torch: Any = sys.modules["torch"]
    why = (
        f"of the class {type(value).__qualname__}" if type(value) is not torch.Tensor
        else f"on {value.device}" if value.device.type != "cpu"
        else "that records gradients" if value.requires_grad
        else "that is sparse, quantized or a view of another kind of numbers"
        if value.layout is not torch.strided or value.is_quantized or value.is_conj() or value.is_neg()
        else ""
    )  # fmt: skip
    if why:
        raise EncodingError(f"a tensor {why} could not be restored from JSON: give tensor.detach().cpu()")
    flat = value.contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if value.numel() else b""
    return str(value.dtype).removeprefix("torch."), list(value.shape), data


def write(value: Any) -> tuple[str, list[Any]]:
    """The tag's name and content.

    Raises:
        EncodingError: it would not come back the same.
    """
    if type(value) is not sys.modules["torch"].Tensor:
        kind = type(value)
        raise EncodingError(f"a value of type {kind.__module__}.{kind.__qualname__} could not be restored from JSON")
    dtype, shape, data = content(value)
    return "tensor", [dtype, shape, base64.b64encode(data).decode("ascii")]


def read(stored: Any) -> Any:
    """The tensor, new, on the CPU.

    Raises:
        DecodingError: torch is not loaded, or dtype, shape and bytes do not fit each other.
    """
    name, shape, text = stored
    torch: Any = sys.modules.get("torch")
    if torch is None:
        raise DecodingError("a tensor, and torch is not loaded in this process: import it beside the function")
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype) or str(dtype) != f"torch.{name}":
        raise DecodingError(f"{name!r} is no data type of this version of torch")
    data = base64.b64decode(text, validate=True)
    if type(shape) is not list or not all(type(length) is int and length >= 0 for length in shape):
        raise DecodingError("the shape of a tensor is a list of lengths")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise DecodingError("the bytes of a tensor do not fit its data type and shape")
    if not data:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype).reshape(shape)
