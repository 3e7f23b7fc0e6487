"""Conditions on fields: an unknown or wrong one is named with those that are known."""

from datetime import UTC, datetime

import pytest

from exp_pool.core.filters import parse_where
from exp_pool.errors import (
    InvalidInputError,
)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"scoer": 1}, "unknown field 'scoer'; did you mean 'score'\\? Known: access_count"),
        ({"namespace": "other"}, "unknown field 'namespace'"),
        ({"response.x": 1}, "unknown field 'response.x'.*arguments.<name>"),
        ({"model": {"not_in": "gpt"}}, "not_in takes a list"),
        ({"metadata.a": {"prefix": 1}}, "prefix takes text"),
        ({"created_at": "yesterday"}, "'created_at' takes an aware datetime.* ISO 8601.*got 'yesterday'"),
        ({"score": {"gt": None}}, "takes a number"),
        ({"metadata": 1}, "unknown field 'metadata'.*metadata.<name>"),
        ({"score": {"like": 1}}, "unknown operator 'like' for 'score'; known: eq, ne"),
        ({"score": {}}, "has no operator"),
        ({"score": "high"}, "'score' takes a number"),
        ({"score": True}, "'score' takes a number"),
        ({"annotated": 1}, "takes True or False"),
        ({"function": 3}, "takes text"),
        ({"created_at": datetime(2024, 1, 1)}, "takes an aware datetime"),
        ({"model": {"in": "gpt"}}, "in takes a list"),
        ({"model": {"exists": 1}}, "exists takes True or False"),
        ({"score": {"gte": float("nan")}}, "finite"),
        ({'metadata.a"b': 1}, "holds a quote"),
        ({"metadata.a": "\0"}, "NUL"),
        ({"metadata.a": 2**64}, "64 bits"),
        ({1: 2}, "must be text"),
        ("model = 'x'", "must be a dict"),
        ({f"metadata.{i}": 1 for i in range(101)}, "at most 100"),
    ],
)
def test_wrong_conditions_are_named(where, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_where(where)


def test_conditions_take_functions_enums_and_times():
    from exp_pool import Trust

    function, trust, after = parse_where(
        {"function": "f", "trust": Trust.TRUSTED, "created_at": {"gte": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)}}
    )
    assert (function.value, trust.value, after.value) == ("f", "trusted", 1_000_000)
