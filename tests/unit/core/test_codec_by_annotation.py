"""Codecs chosen by the return annotation."""

import dataclasses

import pytest

from exp_pool.core.codecs.typed import codec_for
from exp_pool.core.values.codec_stamp import read_stamp
from exp_pool.errors import (
    DecodingError,
    EncodingError,
)


@dataclasses.dataclass
class Data:
    x: int


def gives_data() -> list[Data]: ...


def gives_nonsense() -> "Undefined": ...  # noqa: F821


def test_codecs_by_return_annotation():
    codec = codec_for(gives_data)
    text, name = codec.encode([Data(1)])
    assert (text, read_stamp(name).codec) == ('[{"x":1}]', "annotated")
    assert codec.decode(text, name) == [Data(1)]
    plain, name_of_plain = codec.encode([1])
    assert (plain, read_stamp(name_of_plain).codec) == ("[1]", "json"), (
        "what Python itself provides needs no annotation"
    )
    with pytest.raises(EncodingError):
        codec.encode([object()])
    with pytest.raises(EncodingError):
        codec_for(gives_nonsense).encode(Data(1))
    with pytest.raises(DecodingError, match="does not fit"):
        codec.decode('[{"y":1}]', "annotated")
    with pytest.raises(DecodingError, match="codec 'annotated', which this function does not have"):
        codec_for(gives_nonsense).decode(text, "annotated")


class Lossy(Data):
    pass


def test_what_an_annotation_would_change_is_refused():
    with pytest.raises(EncodingError):
        codec_for(gives_data).encode([Lossy(1)])
