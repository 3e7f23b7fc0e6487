"""Whatever is edited in a frame, the pool is then what the frame says, and undone it is byte for byte what it was."""

import os

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.curated_pools import contents, of_everything

from exp_pool import MISSING, ExpManager, in_namespace
from exp_pool.core.experience import new_id
from exp_pool.curation import NONE, apply_frame, diff, to_frame, undo

_VALUES = st.recursive(
    st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False), st.binary()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3), st.tuples(inner, inner)
    ),
    max_leaves=4,
)
_EDITS = st.one_of(
    st.tuples(st.sampled_from(["expected", "response", "metadata.n", "metadata.a.b.c", "metadata.neu"]), _VALUES),
    st.tuples(st.just("metadata.n"), st.sampled_from([None, pd.NA, NONE, MISSING])),
    st.tuples(st.sampled_from(["score.exact", "score.mine"]), st.one_of(st.none(), st.floats(0, 1))),
    st.tuples(st.sampled_from(["model", "strategy"]), st.one_of(st.none(), st.text())),
    st.tuples(st.just("trust"), st.sampled_from(["trusted", "quarantined"])),
    st.tuples(st.just("deleted"), st.just(True)),
)


@pytest.fixture(scope="module")
def many_namespaces():
    with ExpManager(store="memory://", index="none://", embedder="none") as manager:
        yield manager


@settings(max_examples=200 if os.environ.get("EXP_POOL_FULL") == "1" else 10)
@given(st.lists(st.tuples(st.integers(0, 7), _EDITS), max_size=8))
def test_random_edits_and_back(many_namespaces, edits):
    manager = many_namespaces
    with in_namespace(new_id()):
        manager.sync.create_exps(of_everything(8))
        before = contents(manager.sync)
        frame = to_frame(manager).astype(object)
        for at, (column, value) in edits:
            if column not in frame:
                frame[column] = pd.NA
            frame.at[at, column] = value
        change = apply_frame(manager, frame, dry_run=False)
        after = to_frame(manager).astype(object)
        gone = frame.id[frame.deleted.astype(bool)]
        assert set(after.id) == set(frame.id) - set(gone)
        assert not diff(manager, _fresh(frame.drop(columns=["revision", "score", "annotated", "size_bytes"]), after))
        if change:
            undo(manager, change.id)
        assert contents(manager.sync) == before
        manager.sync.delete_all_exps()


def _fresh(frame, after):
    """The edited frame as if it had been taken now: every cell says what the pool says."""
    frame = frame[~frame.deleted.astype(bool)].merge(after[["id", "revision"]], on="id")
    frame.attrs = after.attrs
    return frame
