"""Vectors: unit length, bytes, the nearest of a table."""

import numpy as np
import pytest

from exp_pool.core.values.vectors import VectorTable, from_bytes, to_bytes, to_unit, top
from exp_pool.errors import (
    EmbedderError,
)


def test_vectors_are_brought_to_unit_length_and_checked():
    assert np.allclose(to_unit([[3, 4], [0, 2]], 2), [[0.6, 0.8], [0, 1]])
    assert np.array_equal(from_bytes([to_bytes(np.array([0.5, 1.5]))]), [[0.5, 1.5]])
    for bad, message in (
        ([1, 2], "shape"),
        ([[1], [1, 2]], "one length"),
        ("no", "str"),
        ([[0, 0]], "length zero"),
        ([[np.nan, 1]], "NaN"),
        ([[1, 2]] * 2, "for 1 texts"),
    ):
        with pytest.raises(EmbedderError, match=message):
            to_unit(bad, 1)


def test_top_is_stable_and_may_ask_for_more_than_there_is():
    values = np.array([0.1, 0.5, 0.5, 0.9])
    assert list(top(values, 2)) == [3, 1]
    assert list(top(values, 9)) == [3, 1, 2, 0]
    assert list(top(np.array([]), 3)) == []


def test_the_table_stays_right_through_random_changes():
    chance, table, truth = np.random.default_rng(3), VectorTable(), {}
    for _ in range(3000):
        id_ = str(chance.integers(200))
        if chance.random() < 0.4:
            table.remove(id_)
            truth.pop(id_, None)
        else:
            vector = to_unit(chance.normal(size=(1, 8)), 1)[0]
            label = "ab"[chance.integers(2)]
            table.put_many([(id_, to_bytes(vector), (label, "", "s"))])
            truth[id_] = (label, vector)
    query = to_unit(chance.normal(size=(1, 8)), 1)[0]
    assert len(table) == len(truth)
    for label in (None, "a", "b", "c"):
        expected = sorted((-float(v @ query), i) for i, (own, v) in truth.items() if label in (None, own))[:20]
        found = table.nearest(query, 20, (label, None, None))
        assert [i for i, _ in found] == [i for _, i in expected]
        assert [s for _, s in found] == pytest.approx([-s for s, _ in expected], abs=1e-6)
    assert table.nearest(query[:4], 5) == []
