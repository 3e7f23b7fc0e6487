"""Codecs: a response to JSON text and back, typed. Pure.

`TypedCodec` restores what Python itself provides; `AnnotatedCodec` also the models and dataclasses that a function's
return annotation names. Which one wrote a record stands in the record, and only that one reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

from exp_pool.encoding import dumps, json_dumps, loads
from exp_pool.errors import DecodingError, EncodingError
from exp_pool.protocols import Codec


class TypedCodec:
    """Everything that `exp_pool.encoding` knows: JSON, bytes, tuples, sets, times, decimals, paths and the like."""

    name = "json"

    def encode(self, value: Any) -> str:
        """JSON text with tags for what JSON does not know."""
        return dumps(value)

    def decode(self, text: str) -> Any:
        """The value."""
        return loads(text)


class AnnotatedCodec:
    """Models and dataclasses, by the return annotation (pydantic's TypeAdapter): their JSON form is what is stored."""

    name = "annotated"

    def __init__(self, annotation: Any) -> None:
        from pydantic import TypeAdapter

        self._adapter = TypeAdapter[Any](annotation)

    def encode(self, value: Any) -> str:
        """The JSON form, once it is shown to come back the same.

        Raises:
            EncodingError: it would not.
        """
        if isinstance(value, Iterator):  # looking would use it up, and it is the caller's
            raise EncodingError(f"a {type(value).__qualname__} can be read only once")
        try:
            text = json_dumps(self._adapter.dump_python(value, mode="json", by_alias=True, warnings="error"))
            back = self.decode(text)
        except (DecodingError, TypeError, ValueError, RecursionError) as err:
            raise EncodingError(
                f"{type(value).__qualname__} cannot be restored by the return annotation: {err}"
            ) from err
        if type(back) is not type(value) or back != value:
            raise EncodingError(f"{type(value).__qualname__} comes back different by the return annotation")
        return text

    def decode(self, text: str) -> Any:
        """The value, validated."""
        try:
            return self._adapter.validate_python(json.loads(text), strict=False)
        except (TypeError, ValueError, RecursionError) as err:
            raise DecodingError(f"stored text does not fit the return annotation: {err}") from err


class ResponseCodec:
    """What a decorated function encodes and decodes with: the first codec that can, the right one to read."""

    def __init__(self, codecs: tuple[Codec, ...]) -> None:
        self._codecs = codecs
        self._by_name = {codec.name: codec for codec in codecs}

    def encode(self, value: Any) -> tuple[str, str]:
        """JSON text, and the name of the codec that wrote it.

        Raises:
            EncodingError: none of the codecs could restore the value.
        """
        refusal: EncodingError | None = None
        for codec in self._codecs:
            try:
                return codec.encode(value), codec.name
            except EncodingError as err:
                refusal = refusal or err
        assert refusal is not None
        raise refusal

    def decode(self, text: str, name: str) -> Any:
        """The value.

        Raises:
            DecodingError: the function has no codec of this name, or the codec cannot read the text.
        """
        codec = self._by_name.get(name)
        if codec is None:
            raise DecodingError(f"written by the codec {name!r}, which this function does not have")
        return codec.decode(text)


def codec_for(function: Callable[..., Any]) -> ResponseCodec:
    """The codec of a function: its return annotation's, where that names more than Python itself provides."""
    typed: tuple[Codec, ...] = (TypedCodec(),)
    try:
        annotation = get_type_hints(function).get("return")
        if annotation is None or annotation in _PLAIN:
            return ResponseCodec(typed)
        return ResponseCodec((*typed, AnnotatedCodec(annotation)))
    except Exception:  # an annotation that cannot be evaluated, or that pydantic does not know: as if there were none
        return ResponseCodec(typed)


_PLAIN = (Any, object, str, int, float, bool, bytes, dict, list, tuple, set, frozenset)

__all__ = ["AnnotatedCodec", "ResponseCodec", "TypedCodec", "codec_for"]
