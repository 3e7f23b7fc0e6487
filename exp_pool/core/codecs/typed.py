"""Codecs: a response to JSON text and back, typed. Pure.

`TypedCodec` restores what `core.values.encoding` knows; `AnnotatedCodec` also the models, dataclasses, enums and
namedtuples that a function's return annotation names; `CheckedCodec` is a codec of the user's own. Which one wrote a
record stands in the record, and only that one reads it.

Every one of them decodes what it wrote before anything is stored, and encodes that again: what would not come back the
same, types included, is an `EncodingError` that says where it differs. What is read is what was stored: a text that the
function's return type would no longer write so is a `MisfitError`, a miss.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import EllipsisType
from typing import Any

from exp_pool.core.codecs.annotations import NOTHING, exact_types, fits, item_of, returned
from exp_pool.core.codecs.checked import CheckedCodec, valid
from exp_pool.core.codecs.json_lists import split, typed_items
from exp_pool.core.codecs.shapes import Shape, shape_of
from exp_pool.core.contracts.plugs import Codec
from exp_pool.core.values.annotated import REMEDY, AnnotatedCodec, form_of
from exp_pool.core.values.codec_stamp import ANNOTATED, TYPED, CodecStamp, is_typed, read_stamp
from exp_pool.core.values.deep_equal import difference, type_name
from exp_pool.core.values.encoding import dumps, loads
from exp_pool.errors import DecodingError, EncodingError, MisfitError


class TypedCodec:
    """Everything that `core.values.encoding` knows: JSON, bytes, tuples, times, decimals, arrays, registered types."""

    name = TYPED

    def encode(self, value: Any) -> str:
        """JSON text with tags for what JSON does not know, once it is shown to come back the same.

        Raises:
            EncodingError: it would not, or a type in it is not known.
        """
        text = dumps(value)
        # A str, int, bool or None is read by code that knows nothing but it: there is nothing that could differ.
        # The check takes longer than writing: 7 us on top of 4 for a dict of five values, 0.24 ms on 0.17 for 100.
        if type(value) in _SCALARS:
            return text
        try:
            back = loads(text)
            again = dumps(back)
        except (DecodingError, EncodingError) as err:
            raise EncodingError(f"{type_name(value)} is stored as text that cannot be read back: {err}") from err
        # Without a tag the value consists of JSON's own types, which equal text says all about.
        what = difference(value, back) if '{"$exp:' in text else None
        if what is None and again != text:
            what = difference(value, back) or "it is written differently the second time"
        if what is not None:
            raise EncodingError(f"{type_name(value)} comes back different: {what}; {REMEDY}")
        return text

    def decode(self, text: str) -> Any:
        """The value."""
        return loads(text)


class ResponseCodec:
    """What a decorated function encodes and decodes with: the first codec that can, the right one to read.

    Beside the codec's name stands the shape of what the function declares to return (`stamps`, `shapes`). Who reads a
    row of the same shape just reads it. Of another shape, or of none, a text is given only if today's type would write
    it so; what was written by a model of another shape is not given at all, since the same text may mean another thing.

    Args:
        codecs: tried in this order.
        declared: what the function declares to return; `NOTHING` where that says nothing.
        problem: why that cannot be used, in words.
        again: tries once more to find out, when the codec is first used: what was not there yet may be.
    """

    def __init__(
        self,
        codecs: tuple[Codec, ...],
        declared: Any = NOTHING,
        problem: str = "",
        again: Callable[[], ResponseCodec] | None = None,
    ) -> None:
        self._take(codecs, declared, problem)
        self._again = again

    def _take(self, codecs: tuple[Codec, ...], declared: Any, problem: str) -> None:
        self._codecs = codecs
        self._by_name = {codec.name: codec for codec in codecs}
        self._declared, self._problem = declared, problem
        self._exact = frozenset[type]() if declared is NOTHING else exact_types(declared)
        self._shape: Shape | EllipsisType | None = ...
        self._ways: dict[str, _Way] = {}

    def _settle(self) -> None:
        again = self._again
        if again is not None:
            settled = again()
            self._take(settled._codecs, settled._declared, settled._problem)  # noqa: SLF001
            self._again = None

    @property
    def problem(self) -> str:
        """Why it cannot be known what the function declares to return; "" where it can, or it declares nothing."""
        self._settle()
        return self._problem if self.shape is None else ""

    @property
    def shape(self) -> Shape | None:
        """The shape of what the function declares to return; None where it declares nothing, or it cannot be told."""
        if self._shape is ...:
            try:
                self._shape = None if self._declared is NOTHING else shape_of(self._declared)
            except Exception as err:  # a class may do anything when it is looked at
                self._problem, self._declared, self._exact = f"looking at it raised {err!r}", NOTHING, frozenset()
                self._shape = None
        assert not isinstance(self._shape, EllipsisType)
        return self._shape

    def encode(self, value: Any) -> tuple[str, str]:
        """JSON text, and the name of the codec that wrote it, stamped.

        Raises:
            EncodingError: none of the codecs could restore the value.
        """
        self._settle()
        refusals: list[EncodingError] = []
        for codec in self._codecs:
            try:
                return codec.encode(value), self._stamped(codec, value)
            except EncodingError as err:
                refusals.append(err)
        said = "; ".join(str(refusal) for refusal in reversed(refusals))
        if self._problem:
            said = f"{said}. Its return annotation is of no help: {self._problem}"
        elif len(refusals) == 1:
            raise refusals[0]
        raise EncodingError(said) from refusals[-1]

    def _stamped(self, codec: Codec, value: Any = ...) -> str:
        if self._declared is NOTHING or (codec.name == TYPED and type(value) in self._exact) or self.shape is None:
            return codec.name
        return str(CodecStamp(codec.name, self.shape.digest))

    def gives(self, name: str) -> bool:
        """Whether what was written under this name may answer at all. Found out once for each name."""
        return self._way(name) is not _Way.NEVER

    def _way(self, name: str) -> _Way:
        way = self._ways.get(name)
        if way is None:
            self._settle()
            way = self._ways[name] = self._way_of(read_stamp(name))
        return way

    def _way_of(self, stamp: CodecStamp) -> _Way:
        codec = self._by_name.get(stamp.codec)
        if codec is None:
            return _Way.NEVER
        shape = self.shape
        same = shape is not None and shape.digest == stamp.shape
        if isinstance(codec, AnnotatedCodec):
            if same and shape is not None and not shape.by_code:
                return _Way.AS_IT_IS
            return _Way.IF_IT_FITS if same or not (stamp.shape and shape) else _Way.NEVER
        declares_nothing = isinstance(codec, CheckedCodec) or self._declared is NOTHING
        return _Way.AS_IT_IS if same or declares_nothing else _Way.IF_IT_FITS

    def decode(self, text: str, name: str) -> Any:
        """The value of a text that is known to fit.

        Raises:
            DecodingError: the function has no codec of this name, or the codec cannot read the text.
        """
        self._settle()
        return self._codec(name).decode(text)

    def read(self, text: str, name: str, *, given: bool = False) -> Any:
        """The value of a stored text, if the function's return type as it is now would give it.

        Args:
            text: what is stored.
            name: of the codec that wrote it, as it is stored.
            given: people wrote it, here or elsewhere: it is taken for what they meant, in today's type.

        Raises:
            MisfitError: it would not.
            DecodingError: the text cannot be read.
        """
        if given:
            return self._given(text, name)
        way = self._way(name)
        codec = self._codec(name)
        if way is _Way.IF_IT_FITS:
            return codec.verified(text) if isinstance(codec, AnnotatedCodec) else self._fitting(codec.decode(text))
        if way is _Way.NEVER:
            raise MisfitError("the return type was another one when it was stored")
        return codec.decode(text)

    def _fitting(self, value: Any) -> Any:
        if type(value) in self._exact or fits(value, self._declared):
            return value
        raise MisfitError(f"a value of type {type_name(value)} is not what the function declares to return now")

    def _given(self, text: str, name: str) -> Any:
        self._settle()
        codec = self._by_name.get(read_stamp(name).codec)
        if isinstance(codec, AnnotatedCodec):
            return codec.given(text)
        if codec is None and read_stamp(name).codec == ANNOTATED:
            return self._taken_for(form_of(text))
        value = self._codec(name).decode(text)
        return value if isinstance(codec, CheckedCodec) else self._taken_for(value)

    def _taken_for(self, value: Any) -> Any:
        """What people wrote, in today's type."""
        if self._declared is NOTHING or type(value) in self._exact or fits(value, self._declared):
            return value
        codec = self._by_name.get(ANNOTATED)
        if codec is None:
            try:
                codec = AnnotatedCodec(self._declared)
            except Exception:  # pydantic does not know it
                return self._fitting(value)
        assert isinstance(codec, AnnotatedCodec)
        return codec.validated(value)

    def join(self, parts: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """The text and codec of a list, from those of its items: what `encode` gave for each, in order.

        With the codec ``json`` the text is what `dumps` writes for the list, so it reads as a plain list.

        Raises:
            EncodingError: the items were written by different codecs, and none of them can write them all.
        """
        names = {name for _, name in parts}
        if len({read_stamp(name).codec for name in names}) <= 1:
            # The longest one is stamped, if any is: of the others it is known without that.
            return f"[{','.join(text for text, _ in parts)}]", max(names, key=len, default=self._codecs[0].name)
        try:
            items = [self.decode(text, name) for text, name in parts]
        except DecodingError as err:
            raise EncodingError(f"an item cannot be read back: {err}") from err
        refusal = ""
        for codec in self._codecs:
            try:
                return f"[{','.join([codec.encode(item) for item in items])}]", self._stamped(codec)
            except EncodingError as err:
                refusal = str(err)
        raise EncodingError(f"no codec can write all {len(items)} items of the list: {refusal}")

    def decode_items(self, text: str, name: str) -> list[Any]:
        """The items of what `join` wrote, or of a list or tuple that a person gave as the answer.

        Raises:
            DecodingError: the text is no list, or an item cannot be read.
        """
        self._settle()
        codec = self._codec(name)
        return typed_items(text) if isinstance(codec, TypedCodec) else [codec.decode(item) for item in split(text)]

    def read_items(self, text: str, name: str, *, given: bool = False) -> list[Any]:
        """The items of a stored text, if the function as it is now would give them; see `read`.

        Args:
            text: what is stored.
            name: of the codec that wrote it, as it is stored.
            given: people wrote it.

        Raises:
            MisfitError: it would not.
            DecodingError: the text is no list, or an item cannot be read.
        """
        if not given and self._way(name) is _Way.AS_IT_IS:
            return self.decode_items(text, name)
        if is_typed(name):
            return [(self._taken_for if given else self._fitting)(item) for item in typed_items(text)]
        return [self.read(item, name, given=given) for item in split(text)]

    def _codec(self, name: str) -> Codec:
        codec = self._by_name.get(name)
        if codec is None:
            codec = self._by_name.get(read_stamp(name).codec)
            if codec is None:
                raise MisfitError(f"written by the codec {name!r}, which this function does not have")
            if len(self._by_name) < _NAMES:  # or each hot answer of a model would take its name apart
                self._by_name[name] = codec
        return codec


class _Way(Enum):
    """How a stored text is read."""

    AS_IT_IS = 1
    IF_IT_FITS = 2
    NEVER = 3


def codec_for(
    function: Callable[..., Any],
    codec: Codec | None = None,
    *,
    items: bool = False,
    localns: Mapping[str, Any] | None = None,
) -> ResponseCodec:
    """The codec of a function: its return annotation's, where that names more than Python itself provides.

    Args:
        function: Whose return annotation counts; what it awaits, where it returns an awaitable.
        codec: A codec of the user's own, used alone.
        items: The codec is for one item of what the function gives: of a stream, or of a list.
        localns: Names that string annotations may use besides the function's globals.

    Raises:
        ConfigurationError: `codec` is no codec, or its name is taken.
    """
    if codec is not None:
        return ResponseCodec((CheckedCodec(valid(codec)),))
    found = _by_annotation(function, localns, items=items)
    if not found.problem:
        return found
    # A class that is defined further down is there by the first call.
    again = functools.partial(_by_annotation, function, localns, items=items)
    return ResponseCodec((TypedCodec(),), again=again)


def _by_annotation(function: Callable[..., Any], localns: Mapping[str, Any] | None, *, items: bool) -> ResponseCodec:
    declared, problem = NOTHING, ""
    # The second reading keeps what stands in Annotated[...]: a type that pydantic knows by that alone.
    for extras in (False, True):
        try:
            declared = returned(function, localns, extras=extras)
            if items and declared is not NOTHING:
                declared = item_of(declared)
            if declared is NOTHING or declared in _PLAIN:
                return ResponseCodec((TypedCodec(),), declared)
            return ResponseCodec((TypedCodec(), AnnotatedCodec(declared)), declared)
        except Exception as err:  # it cannot be evaluated, or pydantic does not know it
            problem = problem or f"{type(err).__name__}: {str(err).partition(chr(10))[0]}"
    return ResponseCodec((TypedCodec(),), declared, problem)


_NAMES = 1000
_SCALARS = (str, int, bool, type(None))
_PLAIN = (str, int, float, bool, bytes, dict, list, tuple, set, frozenset)

__all__ = ["AnnotatedCodec", "CheckedCodec", "ResponseCodec", "TypedCodec", "codec_for"]
