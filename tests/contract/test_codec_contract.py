import datetime as dt
import decimal

import pytest
from pydantic import BaseModel

from exp_pool.core.codecs.typed import AnnotatedCodec, TypedCodec
from exp_pool.testing import CodecContract


class Answer(BaseModel):
    text: str
    at: dt.date | None = None


class TestTyped(CodecContract):
    @pytest.fixture
    def codec(self):
        return TypedCodec()

    @pytest.fixture
    def values(self):
        today = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
        return [
            None,
            0,
            True,
            1.5,
            "a\ud800\0",
            b"\0\xff",
            [1, (2, {3})],
            {"a": {1: [2]}},
            today,
            decimal.Decimal("1.10"),
        ]


class TestAnnotated(CodecContract):
    @pytest.fixture
    def codec(self):
        return AnnotatedCodec(list[Answer])

    @pytest.fixture
    def values(self):
        return [[], [Answer(text="a"), Answer(text="b", at=dt.date(2026, 11, 21))]]
