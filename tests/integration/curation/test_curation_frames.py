"""Frames say what the pool holds, and a diff says what somebody edited in them: nothing else, and nothing by accident."""

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.curated_pools import of_everything

from exp_pool import MISSING, Experience, Score, in_namespace
from exp_pool.curation import NONE, apply_frame, diff, iter_frames, to_arrow, to_frame, to_polars
from exp_pool.errors import InvalidInputError, NotFoundError


@pytest.fixture
def manager(make_manager):
    return make_manager(index="none://", embedder="none")


@pytest.fixture
def filled(manager):
    manager.sync.create_exps(of_everything())
    return manager


def one(manager, **fields):
    return manager.sync.create_exp(Experience(**{"function": "ask", "request": "q", "response": "r", **fields}))


def edited(manager, frame, column, value, at=0):
    frame = frame.astype({column: object}) if column in frame else frame
    frame[column] = frame[column] if column in frame else None
    frame.at[frame.index[at], column] = value
    return diff(manager, frame)


# ── What a frame shows ────────────────────────────────────────────────────────────────────────────────────────────────


def test_flat_typed_columns(manager):
    one(
        manager,
        scores={"exact": Score(value=0.5)},
        metadata={"n": 1, "team": "a", "a.b": 1.5, "ok": True, "tags": ["x"]},
        expires_at=datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=8))),
    )
    one(manager, request="q2", metadata={"n": 2}, response={"a": None})
    frame = to_frame(manager)
    types = frame.dtypes.astype(str)
    assert types["request"] == types["metadata.team"] == "str"
    assert types["metadata.n"] == "int64"
    assert types["metadata.a.b"] == types["score.exact"] == "float64"
    assert types["metadata.ok"] == "boolean"
    assert types["created_at"] == types["expires_at"] == "datetime64[us, UTC]"
    assert types["response"] == types["metadata.tags"] == "object"
    assert frame.expires_at[0] == pd.Timestamp("2029-12-31 16:00", tz="UTC")
    assert frame.response[1] == {"a": None}
    assert frame["metadata.tags"][1] is pd.NA
    assert frame.expected[0] is pd.NA


def test_integers_with_gaps_stay_integers(manager):
    one(manager, metadata={"n": 1})
    one(manager, request="q2")
    assert str(to_frame(manager)["metadata.n"].dtype) == "Int64"


def test_none_is_none_and_missing_is_null(manager):
    one(manager, response=None)
    one(manager, request="q2", expected=None)
    frame = to_frame(manager)
    assert frame.response[0] is None
    assert frame.expected[1] is None
    assert frame.expected[0] is pd.NA


def test_only_some_columns_and_rows(filled):
    frame = to_frame(filled, {"metadata.team": "a"}, ["metadata.team", "request", "score.*"])
    assert [*frame] == ["id", "metadata.team", "request", "revision", "score.exact", "score.s.dot"]
    assert set(frame["metadata.team"]) == {"a"}
    assert len(to_frame(filled, {"function": "nobody's"})) == 0


def test_an_unknown_column_is_named_with_the_nearest(filled):
    with pytest.raises(InvalidInputError, match="'expectd'; did you mean 'expected'"):
        to_frame(filled, columns=["expectd"])
    with pytest.raises(InvalidInputError, match="columns='id'"):
        to_frame(filled, columns="id")


def test_history_is_asked_for(manager):
    first = one(manager)
    one(manager)
    assert len(to_frame(manager)) == 1
    frame = to_frame(manager, history=True)
    assert frame.set_index("id").is_current[first] is np.False_
    assert not diff(manager, frame)


def test_pieces_are_the_whole(filled):
    whole = to_frame(filled)
    pieces = list(iter_frames(filled, rows=7))
    assert [len(piece) for piece in pieces] == [7, 7, 7, 3]
    assert pd.concat(pieces).id.tolist() == whole.id.tolist()
    assert not any(diff(filled, piece) for piece in pieces)
    assert len(list(iter_frames(filled, {"function": "nobody's"}))) == 1
    assert [type(piece) for piece in iter_frames(filled, rows=24, kind="arrow")] == [pa.Table]
    with pytest.raises(InvalidInputError, match="rows=0"):
        iter_frames(filled, rows=0)
    with pytest.raises(InvalidInputError, match="kind='excel'"):
        iter_frames(filled, kind="excel")


def test_pieces_stay_in_the_namespace_where_they_were_asked_for(manager):
    one(manager)
    with in_namespace("theirs"):
        theirs = [one(manager, request=f"{i}") for i in range(2)]
        pieces = iter_frames(manager, rows=1)
    found = list(pieces)
    assert [piece.id[0] for piece in found] == theirs
    with in_namespace("theirs"):
        assert not any(diff(manager, piece) for piece in found)


def test_a_row_that_cannot_be_read_is_left_out_and_said(tmp_path, make_manager):
    import sqlite3

    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db", index="none://", embedder="none")
    kept, broken = one(manager), one(manager, request="q2", metadata={"n": 1})
    with sqlite3.connect(tmp_path / "pool.db") as db:
        db.execute(
            'UPDATE experiences SET metadata = \'{"n": {"$exp:no": 1}}\', checksum = NULL WHERE id = ?', (broken,)
        )
    last = one(manager, request="q3")
    with pytest.warns(UserWarning, match=broken):
        assert to_frame(manager).id.tolist() == [kept, last]
    assert [piece.id.tolist() for piece in iter_frames(manager, rows=1)] == [[kept], [], [last]]


# ── Without an edit there is no change ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [to_frame, to_arrow, to_polars])
def test_an_unedited_frame_changes_nothing(filled, kind):
    change = diff(filled, kind(filled))
    assert not change
    assert apply_frame(filled, kind(filled), dry_run=False).id is None


@pytest.mark.parametrize(
    "how",
    [
        lambda frame: frame.sort_values("request", ascending=False),
        lambda frame: frame[frame.index % 2 == 0],
        lambda frame: frame[["id", "expected"]],
        lambda frame: frame.set_index("id"),
        lambda frame: frame[["id", "metadata.gap", "score.exact", "is_current", "expires_at"]].convert_dtypes(),
        lambda frame: pd.concat([frame[:5], frame[5:]]),
        lambda frame: frame.assign(created_at=frame.created_at.dt.tz_convert("Asia/Shanghai")),
        lambda frame: frame.astype({"metadata.gap": "float64"}),
        lambda frame: frame.astype(object),
        lambda frame: frame.astype(object).where(frame.notna(), None),
        lambda frame: frame.astype(object).where(frame.notna(), np.nan),
        lambda frame: frame.drop(columns=["revision"]),
    ],
)
def test_what_pandas_does_to_a_frame_is_no_edit(filled, how):
    assert not diff(filled, how(to_frame(filled)))


def test_parquet_keeps_what_the_frame_was_taken_from(manager, tmp_path):
    for i in range(3):
        one(manager, request=f"q{i}", response=f"r{i}")
    to_frame(manager).drop(columns=["arguments"]).to_parquet(tmp_path / "f.parquet")
    frame = pd.read_parquet(tmp_path / "f.parquet")
    assert not diff(manager, frame.drop(columns=["trajectory", "parents"]))
    assert not diff(manager, frame.drop(columns=["trajectory", "parents"])[1:], delete_missing=False)
    assert len(diff(manager, frame.drop(columns=["trajectory", "parents"])[1:], delete_missing=True).deleted) == 1


def test_use_meanwhile_is_no_edit(manager):
    manager.exp_cache(name="ask")(lambda q: q)("q")
    frame = to_frame(manager)
    manager.exp_cache(name="ask")(lambda q: q)("q")
    manager.sync.flush()
    assert to_frame(manager).access_count[0] == 1
    assert not diff(manager, frame)
    frame.attrs.clear()
    assert not diff(manager, frame)


# ── Edits ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("column", "value", "before", "after"),
    [
        ("expected", "new", MISSING, "new"),
        ("expected", {"a": (1, 2)}, MISSING, {"a": (1, 2)}),
        ("expected", NONE, MISSING, None),
        ("expected", "\ud800\0", MISSING, "\ud800\0"),
        ("response", np.int64(3), "r", 3),
        ("response", pd.Timestamp("2026-01-01", tz="UTC"), "r", datetime(2026, 1, 1, tzinfo=UTC)),
        ("metadata.n", 2, 1, 2),
        ("metadata.n", np.float64(1.5), 1, 1.5),
        ("metadata.n", "1", 1, "1"),
        ("metadata.n", True, 1, True),
        ("metadata.n", None, 1, MISSING),
        ("metadata.n", pd.NA, 1, MISSING),
        ("metadata.n", math.nan, 1, MISSING),
        ("metadata.n", MISSING, 1, MISSING),
        ("metadata.n", NONE, 1, None),
        ("metadata.new.one", [1], MISSING, [1]),
        ("score.exact", 1, 0.5, 1.0),
        ("score.exact", None, 0.5, MISSING),
        ("score.mine.too", 0.25, MISSING, 0.25),
        ("metric.tokens_in", 7.0, MISSING, 7),
        ("trust", "quarantined", "trusted", "quarantined"),
        ("model", "m", MISSING, "m"),
        ("parents", ["p"], [], ["p"]),
        ("expires_at", pd.Timestamp("2031-01-01", tz="Asia/Tokyo"), MISSING, datetime(2030, 12, 31, 15, tzinfo=UTC)),
    ],
)
def test_an_edit_is_one_change_and_the_pool_has_it(manager, column, value, before, after):
    id_ = one(manager, metadata={"n": 1}, scores={"exact": Score(value=0.5, scorer="exact", version="2")})
    change = edited(manager, to_frame(manager), column, value)
    assert change.changed == {id_: {column: (before, after)}}
    assert apply_frame(manager, change, dry_run=False).id
    assert not edited(manager, to_frame(manager), column, value)
    shown = diff(manager, to_frame(manager))
    assert not shown


def test_a_score_by_hand_keeps_the_scorer_and_its_version(manager):
    id_ = one(manager, scores={"exact": Score(value=0.5, scorer="exact", version="2"), "last": Score(value=0.1)})
    apply_frame(manager, edited(manager, to_frame(manager), "score.exact", 0.75), dry_run=False)
    found = manager.sync.get_exp(id_)
    assert found.scores["exact"] == Score(value=0.75, reason="by hand", scorer="exact", version="2")
    assert [*found.scores] == ["exact", "last"]
    assert found.score.value == 0.1


def test_floats_that_pandas_made_of_integers_become_integers_again(manager):
    id_ = one(manager, metadata={"n": 1})
    one(manager, request="q2", metadata={"n": 5})
    frame = to_frame(manager).astype({"metadata.n": "float64"})
    frame.loc[0, "metadata.n"] = 2.0
    assert diff(manager, frame).changed == {id_: {"metadata.n": (1, 2)}}
    assert type(diff(manager, frame).changed[id_]["metadata.n"][1]) is int


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("score.exact", 1.5, "less than or equal to 1"),
        ("score.exact", "good", "'good' must be a number"),
        ("metric.tokens_in", 1.5, "1.5 must be a whole number"),
        ("expires_at", pd.Timestamp("2031-01-01"), "has no time zone"),
        ("expires_at", "tomorrow", "must be a time"),
        ("trust", "maybe", "'trusted' or 'quarantined'"),
        ("kind", None, "kind"),
        ("deleted", "yes", "must be True or False"),
        ("model", 3, "3 must be text"),
        ("response", object(), "could not be restored"),
        ("response", MISSING, "response= or expected="),
        ("trajectory", "steps", "trajectory"),
    ],
)
def test_a_cell_that_cannot_be_names_row_and_column(manager, column, value, said):
    id_ = one(manager)
    with pytest.raises(InvalidInputError, match=said) as raised:
        edited(manager, to_frame(manager), column, value)
    assert id_ in str(raised.value)
    assert column in str(raised.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("function", "f"), ("version", "2"), ("request", "other"), ("arguments", {"req": "x"}), ("key", "k")),
        *(("created_at", pd.Timestamp("2020-01-01", tz="UTC")), ("access_count", 5), ("revision", 7), ("score", 0.5)),
        *(("size_bytes", 1), ("annotated", True), ("is_current", False), ("codec", "x"), ("schema_version", 2)),
        *(("last_access", pd.Timestamp("2020-01-01", tz="UTC")), ("superseded_by", "x"), ("metadata.exp_pool", 1)),
    ],
)
def test_read_only_columns_are_named(manager, column, value):
    id_ = one(manager)
    with pytest.raises(InvalidInputError, match=f"{column}' is read-only.*{id_}"):
        edited(manager, to_frame(manager), column, value)


@pytest.mark.parametrize("value", [MISSING, NONE, [1], {"a": 1}, {1}], ids=repr)
@pytest.mark.parametrize("column", ["revision", "namespace"])
def test_what_a_frame_is_known_by_cannot_be_anything(manager, column, value):
    one(manager)
    frame = to_frame(manager)
    frame[column] = pd.Series([value], dtype=object)
    with pytest.raises(InvalidInputError, match="revision|namespace"):
        diff(manager, frame)


def test_unknown_columns_and_ids_and_ids_twice(manager, filled):
    frame = to_frame(manager)
    with pytest.raises(InvalidInputError, match="no column 'Unnamed: 0'.*metadata.Unnamed: 0"):
        diff(manager, frame.assign(**{"Unnamed: 0": 1}))
    with pytest.raises(InvalidInputError, match=f"id '{frame.id[0]}' stands in the frame more than once"):
        diff(manager, pd.concat([frame, frame[:1]]))
    with pytest.raises(NotFoundError, match="'nobody'.*the id empty"):
        diff(manager, pd.concat([frame, pd.DataFrame([{"id": "nobody", "revision": 1}])]))
    with pytest.raises(InvalidInputError, match="no column 'id'"):
        diff(manager, frame.drop(columns=["id"]))
    with pytest.raises(InvalidInputError, match="column 'model' stands"):
        diff(manager, pd.concat([frame, frame[["model"]]], axis=1))
    with pytest.raises(InvalidInputError, match="no frame"):
        diff(manager, [1])
    with pytest.raises(InvalidInputError, match="id=3"):
        edited(manager, frame, "id", 3)


# ── Rows that are not there, and columns that were not ────────────────────────────────────────────────────────────────


def test_a_missing_row_is_no_deletion_unless_that_is_said(filled):
    frame = to_frame(filled, {"metadata.team": "a"})
    later = one(filled, request="later", metadata={"team": "a"})
    assert not diff(filled, frame[2:])
    change = diff(filled, frame[2:], delete_missing=True)
    assert {e.id for e in change.deleted} == set(frame.id[:2])
    assert later not in {e.id for e in change.deleted}
    assert not change.changed
    with pytest.raises(InvalidInputError, match="deleted=True"):
        diff(
            filled,
            frame[2:].rename_axis("x").pipe(lambda f: f.set_axis(f.index)).pipe(_without_attrs),
            delete_missing=True,
        )


def _without_attrs(frame):
    frame = frame.copy()
    frame.attrs.clear()
    return frame


def test_rows_marked_deleted_go(filled):
    frame = to_frame(filled)
    frame.loc[:1, "deleted"] = True
    change = apply_frame(filled, frame, dry_run=False)
    assert {e.id for e in change.deleted} == set(frame.id[:2])
    assert filled.sync.get_exps_count() == len(frame) - 2
    assert not diff(filled, frame.drop(columns=["revision"]))  # they are gone already


def test_an_empty_cell_of_a_column_that_was_put_in_takes_nothing_away(manager):
    annotated = one(manager, expected="said")
    frame = to_frame(manager, columns=["request"])
    with pytest.raises(InvalidInputError, match=f"'expected' of '{annotated}' is empty.*MISSING"):
        diff(manager, frame.assign(expected=None))
    with pytest.raises(InvalidInputError, match="is empty"):
        diff(manager, _without_attrs(to_frame(manager)).assign(expected=None))
    frame["expected"] = pd.Series([MISSING], dtype=object)
    assert diff(manager, frame).changed == {annotated: {"expected": ("said", MISSING)}}


def test_without_a_revision_nobody_knows_what_was_edited(manager):
    one(manager)
    with pytest.raises(InvalidInputError, match="keep the column 'revision'"):
        diff(manager, _without_attrs(to_frame(manager)).drop(columns=["revision"]))


# ── New rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_without_an_id_is_a_new_experience(manager):
    one(manager, metadata={"n": 1})
    new = {"function": "ask", "request": "new", "expected": "a", "metadata.n": 2, "score.s": 0.5, "kind": "failure"}
    frame = pd.concat([to_frame(manager), pd.DataFrame([new])])
    (experience,) = diff(manager, frame).added
    assert (experience.request, experience.expected, experience.response) == ("new", "a", MISSING)
    assert (experience.metadata, experience.scores["s"].value, experience.kind) == ({"n": 2}, 0.5, "failure")
    apply_frame(manager, frame, dry_run=False)
    assert manager.exp_cache(name="ask")(lambda req: 1).key("new") == experience.key


def test_a_new_row_that_cannot_be(manager):
    id_ = one(manager)
    frame = to_frame(manager)

    def with_new(*rows):
        return diff(manager, pd.concat([frame, pd.DataFrame(list(rows))]))

    with pytest.raises(InvalidInputError, match="row 1 .*function is needed"):
        with_new({"request": "x"})
    with pytest.raises(InvalidInputError, match="rows 1 and 2 are new experiences of the same call"):
        with_new({"function": "f", "request": "x", "response": 1}, {"function": "f", "request": "x", "response": 2})
    with pytest.raises(InvalidInputError, match="no id and is to be deleted"):
        with_new({"function": "f", "request": "x", "response": 1, "deleted": True})
    taken = with_new({"function": "ask", "request": "q", "response": 1})
    assert id_ in next(iter(taken.stale.values()))


# ── Namespaces ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_frames_never_cross_a_namespace(manager):
    mine = one(manager)
    with in_namespace("theirs"):
        theirs = one(manager, request="theirs")
        foreign = to_frame(manager)
        assert foreign.id.tolist() == [theirs]
    assert to_frame(manager).id.tolist() == [mine]
    with pytest.raises(InvalidInputError, match="namespace 'theirs', and this is 'default'"):
        diff(manager, foreign)
    with pytest.raises(InvalidInputError, match="namespace 'theirs'"):
        diff(manager, _without_attrs(foreign))
    with pytest.raises(NotFoundError, match=theirs):
        diff(manager, _without_attrs(foreign).drop(columns=["namespace"]))
    foreign.loc[0, "id"] = mine
    with pytest.raises(NotFoundError), in_namespace("theirs"):
        diff(manager, foreign)


# ── Arrow and Polars ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_arrow_holds_json_in_columns_of_any_type(filled):
    table = to_arrow(filled)
    assert table.schema.field("created_at").type == pa.timestamp("us", "UTC")
    assert table.schema.field("metadata.team").type == pa.large_string()
    assert table["response"].to_pylist()[:3] == ['"text"', "null", "0"]
    assert "metadata_json.n" in table.column_names
    change = diff(
        filled, table.set_column(0, "id", table["id"]).append_column("metadata.x", pa.array([1] * len(table)))
    )
    assert len(change.changed) == len(table)


def test_polars_edits(manager):
    id_, annotated = one(manager), one(manager, request="q2", expected="said")
    frame = to_polars(manager)
    texts = pl.when(pl.col("id") == id_).then(pl.lit('{"a": 1}')).otherwise(pl.lit("MISSING"))
    change = apply_frame(manager, frame.with_columns(texts.alias("expected")), dry_run=False)
    assert change.changed == {
        id_: {"expected": (MISSING, {"a": 1})},
        annotated: {"expected": ("said", MISSING)},
    }
    with pytest.raises(InvalidInputError, match=f"'expected' of '{id_}' is empty"):
        diff(manager, to_polars(manager).with_columns(pl.lit(None).alias("expected")))
    with pytest.raises(InvalidInputError, match="JSON text.*in quotes"):
        diff(manager, to_polars(manager).with_columns(pl.lit("no json").alias("response")))
