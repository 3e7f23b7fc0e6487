"""Contract of codecs: `CodecContract`. A test subclasses it and gives the codec and some values."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import pytest

from exp_pool.core.contracts.plugs import Codec
from exp_pool.errors import DecodingError, EncodingError


class CodecContract:
    """Everything that `exp_pool.core.contracts.plugs.Codec` promises.

    ::

        class TestMine(CodecContract):
            @pytest.fixture
            def codec(self):
                return MyCodec()

            @pytest.fixture
            def values(self):
                return [MyAnswer(1), MyAnswer(2)]

            def test_mine(self): ...
    """

    unreadable = ("", "{", "[1, 2", "\0", "nonsense")
    """Texts that this codec did not write."""

    def same(self, before: Any, after: Any) -> bool:
        """Whether a value came back unchanged; override it for values without ``==``."""
        return type(before) is type(after) and bool(before == after)

    def test_it_is_a_codec(self, codec: Codec) -> None:
        assert isinstance(codec, Codec)
        assert isinstance(codec.name, str)
        assert codec.name

    def test_values_come_back_as_they_were(self, codec: Codec, values: Sequence[Any]) -> None:
        for value in values:
            before = copy.deepcopy(value)
            text = codec.encode(value)
            assert self.same(before, value), "encoding changed the value"
            assert self.same(before, codec.decode(text)), text

    def test_it_writes_json_text(self, codec: Codec, values: Sequence[Any]) -> None:
        for value in values:
            text = codec.encode(value)
            assert isinstance(text, str)
            json.loads(text)
            text.encode("ascii", "backslashreplace")

    def test_equal_values_are_written_equally(self, codec: Codec, values: Sequence[Any]) -> None:
        assert [codec.encode(value) for value in values] == [codec.encode(copy.deepcopy(value)) for value in values]

    def test_every_reader_gets_a_value_of_its_own(self, codec: Codec, values: Sequence[Any]) -> None:
        for value in values:
            text = codec.encode(value)
            first, second = codec.decode(text), codec.decode(text)
            assert first is not second or _immutable(first)

    def test_what_it_could_not_restore_is_refused(self, codec: Codec) -> None:
        with pytest.raises(EncodingError):
            codec.encode(object())

    def test_what_it_did_not_write_is_refused(self, codec: Codec) -> None:
        for text in self.unreadable:
            with pytest.raises(DecodingError):
                codec.decode(text)


def _immutable(value: Any) -> bool:
    """Copying gives the same object exactly if nobody could tell the difference."""
    return copy.deepcopy(value) is value
