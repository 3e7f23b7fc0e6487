"""Exporting: what goes out, whole and without secrets, and comes back as it was."""

import json
import re
import stat
from datetime import timedelta

import pytest
from support.curated_pools import filled

from exp_pool import Experience, Score, in_namespace
from exp_pool.curation import exporters, importers
from exp_pool.errors import ConfigurationError, InvalidInputError, StoreError
from exp_pool.runtime import clock
from exp_pool.runtime.plugs import to_install
from exp_pool.testing import FaultyStore, at

PLAIN = {"index": "none://", "embedder": "none"}
EVERYTHING = ("quarantined", "expired", "failures")
SECRET = "sk-" + "a1b2" * 10


@pytest.fixture
def manager(make_manager):
    return make_manager(**PLAIN)


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def state(manager, origin=None):
    """All rows as they are, and what was said and changed about each."""
    rows = {}
    for e in manager.sync.iter_exps(history=True):
        what = e.to_dict() if origin is None else {**e.to_dict(), "origin": origin}
        said = [(h.what, h.at, h.detail) for h in manager.sync.history(e.id) if h.what != "stored"]
        rows[e.id] = (repr(sorted(what.items())), said)
    return rows


# There and back


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
@pytest.mark.parametrize("kinds", [("memory", "sqlite"), ("sqlite", "memory")])
def test_what_is_exported_and_imported_again_is_the_same(make_manager, tmp_path, format_, kinds):
    """Ids, scores, annotations, history, typed values, texts that UTF-8 has no form for; and the calls' answers."""
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}
    one, two = (make_manager(store=urls[kind], **PLAIN) for kind in kinds)
    ask = filled(one)
    one.sync.feedback(ask.lookup("c").experience.id, 0.25, "so so")
    nasty = {"request": "\ud800 \0 é", "response": None, "model": "\udfff", "metadata": {"bytes": b"\0", "n": 2**70}}
    one.sync.create_exp(Experience(function="größe/../x", expires_at=clock.now() + timedelta(days=1), **nasty))
    one.sync.flush()
    exporters.save(one, tmp_path / "out", format_, include=EVERYTHING)
    report = importers.load(two, tmp_path / "out", trust="trusted")
    assert (report.format, report.skipped) == (format_, [])
    assert state(two, "imported") == state(one, "imported")
    assert len(state(two)) == 7
    assert {e.origin for e in two.sync.iter_exps(history=True)} == {"imported"}
    assert importers.load(two, tmp_path / "out", trust="trusted").known == 7
    assert state(two, "imported") == state(one, "imported")
    again = two.exp_cache(name="ask")(lambda q: pytest.fail("it was computed"))
    assert [again(q) for q in "abc"] == [ask(q) for q in "abc"]  # last: use is counted when the worker comes to it


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_it_comes_back_under_another_key_secret(make_manager, tmp_path, format_):
    one, two = (make_manager(key_secret=letter * 32, **PLAIN) for letter in "ab")
    one.exp_cache(name="f")(lambda q: q * 2)(4)
    exporters.save(one, tmp_path / "out", format_)
    importers.load(two, tmp_path / "out", trust="trusted")
    assert two.exp_cache(name="f")(lambda q: pytest.fail("it was computed"))(4) == 8


def test_keys_that_arguments_do_not_make_come_back_and_a_changed_line_loses_them(make_manager, manager, tmp_path):
    """Of two calls that differ in a secret only, and of one of which somebody rewrote the question by hand."""
    ask = manager.exp_cache(name="f")(lambda q, password: f"{q} {len(password)}")
    assert [ask("x", "a"), ask("x", "bb"), ask("y", "ccc")] == ["x 1", "x 2", "y 3"]
    exporters.save(manager, tmp_path / "a.jsonl")
    text = (tmp_path / "a.jsonl").read_text()
    assert "ccc" not in text
    (tmp_path / "a.jsonl").write_text(text.replace('"y"', '"z"'))
    other = make_manager(**PLAIN)
    importers.load(other, tmp_path / "a.jsonl", trust="trusted")
    again = other.exp_cache(name="f")(lambda q, password: "computed")
    assert [again("x", "a"), again("x", "bb"), again("y", "ccc")] == ["x 1", "x 2", "computed"]


def test_parquet_is_read_by_duckdb_and_pyarrow(manager, tmp_path):
    duckdb, dataset = pytest.importorskip("duckdb"), pytest.importorskip("pyarrow.dataset")
    moments = [clock.to_datetime(n * 20 * 86_400_000_000) for n in range(6)]  # 0 to 100 days after 1970 began
    rows = [Experience(function="f", request=f"q{n}", response=n, created_at=m) for n, m in enumerate(moments)]
    manager.sync.create_exps([row.model_copy(update={"scores": {"s": Score(value=0.5)}}) for row in rows])
    manifest = exporters.save(manager, tmp_path / "out", "parquet")
    assert [file.path for file in manifest.files] == [f"month=1970-0{n}/part-0.parquet" for n in (1, 2, 3, 4)]
    query = (
        "SELECT month, count(*), avg(score), min(response) FROM read_parquet('{}/**/*.parquet') GROUP BY 1 ORDER BY 1"
    )
    found = duckdb.sql(query.format(tmp_path / "out")).fetchall()
    assert found == [
        ("1970-01", 2, 0.5, "0"),
        ("1970-02", 1, 0.5, "2"),
        ("1970-03", 2, 0.5, "3"),
        ("1970-04", 1, 0.5, "5"),
    ]
    table = dataset.dataset(tmp_path / "out", format="parquet", partitioning="hive").to_table()
    assert table.column("request").to_pylist() == [f"q{n}" for n in range(6)]


# What goes out


def test_only_what_may_be_used_goes_out_unless_it_is_asked_for(manager, tmp_path):
    gone = clock.now() - timedelta(days=1)
    kinds = {"plain": {}, "quarantined": {"trust": "quarantined"}, "expired": {"expires_at": gone}}
    kinds |= {"failed": {"kind": "failure"}, "insight": {"kind": "insight"}}
    for request, fields in kinds.items():
        manager.sync.create_exp(Experience(function="f", request=request, response="x", **fields))
    out = lambda path: {line["request"] for line in read(path)}  # noqa: E731
    manifest = exporters.save(manager, tmp_path / "a.jsonl")
    assert out(tmp_path / "a.jsonl") == {"plain", "insight"}
    assert manifest.left_out == {"quarantined": 1, "expired": 1, "failure": 1}
    exporters.save(manager, tmp_path / "b.jsonl", include=EVERYTHING)
    assert out(tmp_path / "b.jsonl") == set(kinds)
    manifest = exporters.save(manager, tmp_path / "c.jsonl", "sft")
    assert [line["messages"][0]["content"] for line in read(tmp_path / "c.jsonl")] == ["plain"]
    assert manifest.left_out["insight"] == 1


def test_secrets_stay_in_the_pool_and_an_answer_without_its_own_never_answers(make_manager, manager, tmp_path):
    manager.sync.create_exp(
        Experience(
            function="f",
            request=f"my key is {SECRET}",
            arguments={"q": f"my key is {SECRET}", "api_key": "geheim"},
            response={"token": "geheim", "text": [f"use {SECRET}"], "set": {SECRET}},
            metadata={"password": "geheim"},
            scores={"s": Score(value=1.0, reason=f"it names {SECRET}")},
        )
    )
    manager.sync.feedback(next(iter(manager.sync.iter_exps())).id, 1.0, f"thanks, {SECRET}")
    for format_ in ("jsonl", "sft", "dspy", "markdown"):
        exporters.save(manager, tmp_path / format_, format_)
        text = (tmp_path / format_).read_text()
        assert SECRET not in text and "geheim" not in text and "[redacted]" in text
    other = make_manager(**PLAIN)
    importers.load(other, tmp_path / "jsonl", trust="trusted")
    assert [e.trust for e in other.sync.iter_exps()] == ["quarantined"]
    exporters.save(manager, tmp_path / "whole", redact=False)
    assert SECRET in (tmp_path / "whole").read_text()


def test_where_and_doubles(manager, tmp_path):
    rows = [("Where?", "here"), (" where? ", "Here"), ("Where?", "there"), ("Who?", "me")]
    manager.sync.create_exps(
        [Experience(function="f", arguments={"q": q, "n": n}, request=q, response=a) for n, (q, a) in enumerate(rows)]
    )
    manifest = exporters.save(manager, tmp_path / "a", "sft", where={"request": {"contains": "here"}})
    assert (manifest.rows, manifest.left_out) == (2, {"twice": 1})
    assert exporters.save(manager, tmp_path / "b", "sft", deduplicate=False).rows == 4
    assert exporters.save(manager, tmp_path / "c", "jsonl").rows == 4


# Training data


def test_sft_takes_what_people_expect_and_the_whole_chat(manager, tmp_path):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "human", "content": [{"type": "text", "text": "Hi"}]}]
    ids = manager.sync.create_exps(
        [
            Experience(function="f", arguments={"messages": chat, "model": "m"}, response="wrong"),
            Experience(function="f", request="Größe?", response={"cm": 180}),
            Experience(
                function="f", arguments={"system": "Be kind.", "question": "Who?"}, request="Who?", response="Me."
            ),
        ]
    )
    manager.sync.annotate(ids[0], expected="Hello.")
    exporters.save(manager, tmp_path / "a.jsonl", "sft")
    said = lambda *turns: {"messages": [{"role": role, "content": content} for role, content in turns]}  # noqa: E731
    assert read(tmp_path / "a.jsonl") == [
        said(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello.")),
        said(("user", "Größe?"), ("assistant", '{"cm": 180}')),
        said(("system", "Be kind."), ("user", "Who?"), ("assistant", "Me.")),
    ]


def test_dpo_pairs_are_decided_by_people_and_by_scores(manager, tmp_path):
    def store(request, *answers):
        rows = [
            Experience(function="f", request=request, response=a, scores={"s": Score(value=s)} if s else {})
            for a, s in answers
        ]
        return manager.sync.create_exps(rows)

    annotated = store("annotated", ("first", 0.9), ("second", 0.1))
    manager.sync.annotate(annotated[1], expected="right")
    store("scored", ("bad", 0.2), ("good", 0.9), ("fair", 0.8), ("unscored", None))
    store("the same", ("x", 0.1), ("x", 0.9))
    agreed = store("agreed", ("fine", 0.1))
    manager.sync.annotate(agreed[0])
    store("alone", ("x", 0.9))
    manifest = exporters.save(manager, tmp_path / "a.jsonl", "dpo")
    pairs = {
        (p["prompt"][0]["content"], p["chosen"][0]["content"], p["rejected"][0]["content"])
        for p in read(tmp_path / "a.jsonl")
    }
    assert pairs == {("annotated", "right", "first"), ("annotated", "right", "second"), ("scored", "good", "bad")}
    assert manifest.left_out == {"nobody decided": 2}
    assert exporters.save(manager, tmp_path / "b.jsonl", "dpo", min_gap=0.05).rows == 4


def test_dspys_demos(manager, tmp_path):
    rows = [({"question": "a?"}, "1"), ({"question": "b?", "style": "brief"}, {"answer": "2", "why": "so"})]
    manager.sync.create_exps([Experience(function="f", arguments=arguments, response=r) for arguments, r in rows])
    assert exporters.save(manager, tmp_path / "a.json", "dspy").rows == 2
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "f": {
            "inputs": ["question", "style"],
            "outputs": ["answer", "why"],
            "demos": [
                {"question": "a?", "answer": "1"},
                {"question": "b?", "style": "brief", "answer": "2", "why": "so"},
            ],
        }
    }


@pytest.mark.parametrize("test_share", [0, 0.5])
def test_hugging_face_datasets(manager, tmp_path, test_share):
    datasets = pytest.importorskip("datasets")
    manager.sync.create_exps([Experience(function="f", request=f"{c}" * 9, response=c) for c in "abcdefghij"])
    manifest = exporters.save(manager, tmp_path / "a", "datasets", test_share=test_share)
    found = datasets.load_from_disk(tmp_path / "a")
    sides = found.values() if test_share else [found]
    rows = [row for side in sides for row in side]
    assert sorted(row["messages"][1]["content"] for row in rows) == list("abcdefghij")
    assert manifest.rows == 10 and exporters.verify(tmp_path / "a") == []
    assert manifest.sides == ({side: found[side].num_rows for side in ("test", "train")} if test_share else {})
    assert all(stat.S_IMODE(path.stat().st_mode) in (0o600, 0o700) for path in (tmp_path / "a").rglob("*"))


def test_a_page_for_people_that_no_text_can_leave(manager, tmp_path):
    manager.sync.create_exp(Experience(function="a|b`c", request="# head\n</p><script>", response="```\nx"))
    exporters.save(manager, tmp_path / "a.md", "markdown")
    lines = (tmp_path / "a.md").read_text().splitlines()
    assert r"| `a\|b'c` | 1 | 0 | 0 |  | 0 | success 1 |  |" in lines
    assert {"    # head", "    </p><script>", "    ```"} <= set(lines)


# Files


def test_files_are_for_this_user_and_the_manifest_tells_what_they_hold(manager, tmp_path):
    manager.sync.create_exps([Experience(function="f", request=f"q{n}", response=n) for n in range(3)])
    manifest = exporters.save(manager, tmp_path / "new" / "a.jsonl")
    assert (manifest.rows, len(manifest.files)) == (3, 1)
    assert exporters.verify(tmp_path / "new" / "a.jsonl") == []
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "new").iterdir())
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    with (tmp_path / "new" / "a.jsonl").open("a") as file:
        file.write("x")
    assert exporters.verify(tmp_path / "new" / "a.jsonl") == ["a.jsonl has another content"]
    with pytest.raises(ConfigurationError, match="manifest"):
        exporters.verify(tmp_path)


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_only_an_export_is_ever_replaced(manager, tmp_path, format_):
    manager.sync.create_exp(Experience(function="f", request="a", response=1))
    exporters.save(manager, tmp_path / "out", format_)
    manager.sync.create_exp(Experience(function="f", request="b", response=1))
    with pytest.raises(InvalidInputError, match="overwrite=True"):
        exporters.save(manager, tmp_path / "out", format_)
    assert exporters.save(manager, tmp_path / "out", format_, overwrite=True).rows == 2
    assert exporters.verify(tmp_path / "out") == []
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    with pytest.raises(InvalidInputError, match="no manifest"):
        exporters.save(manager, mine, format_, overwrite=True)
    assert (mine / "letter.txt").read_text() == "dear"
    exporters.save(manager, tmp_path / "split", format_, test_share=0.5)
    (tmp_path / "split" / "letter.txt").write_text("dear")
    with pytest.raises(InvalidInputError, match="letter.txt"):
        exporters.save(manager, tmp_path / "split", format_, test_share=0.5, overwrite=True)
    with pytest.raises(InvalidInputError, match="is a f"):
        exporters.save(manager, tmp_path / "out", "sft" if format_ == "parquet" else "parquet", overwrite=True)


@pytest.mark.parametrize("format_", ["jsonl", "parquet", "sft"])
def test_an_export_that_fails_leaves_nothing(make_manager, manager, tmp_path, format_):
    manager.sync.create_exps([Experience(function="f", request=f"q{n}", response=n) for n in range(3)])
    exporters.save(manager, tmp_path / "out", format_)
    there = sorted(path for path in tmp_path.rglob("*"))
    broken = make_manager(**PLAIN, store=FaultyStore(manager.sync.store, at(2)))
    with pytest.raises(StoreError):
        exporters.save(broken, tmp_path / "out", format_, overwrite=True)
    assert sorted(path for path in tmp_path.rglob("*")) == there
    assert exporters.verify(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "word"}, "known: jsonl"),
        ({"include": "quarantined"}, "takes a collection"),
        ({"include": ["all"]}, "expired, failures, quarantined"),
        ({"test_share": 2}, "0 to 1"),
        ({"where": {"colour": "red"}}, "unknown field"),
    ],
)
def test_wrong_options_are_named(manager, tmp_path, options, message):
    with pytest.raises(InvalidInputError, match=message):
        exporters.save(manager, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format_", "missing", "extra"), [("parquet", "pyarrow", "curation"), ("datasets", "datasets", "datasets")]
)
def test_a_missing_package_is_named(manager, tmp_path, monkeypatch, format_, missing, extra):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(ConfigurationError, match=re.escape(to_install(extra))):
        exporters.save(manager, tmp_path / "out", format_)
    assert not list(tmp_path.iterdir())


def test_a_tenant_exports_and_imports_its_own_alone(manager, tmp_path):
    manager.sync.create_exp(Experience(function="f", request="of the default", response="1"))
    with in_namespace("acme"):
        manager.sync.create_exp(Experience(function="f", request="of acme", response="2"))
        exporters.save(manager, tmp_path / "acme.jsonl")
        manager.sync.delete_all_exps()
        importers.load(manager, tmp_path / "acme.jsonl", revive=True)
        assert [e.request for e in manager.sync.iter_exps()] == ["of acme"]
    assert [line["request"] for line in read(tmp_path / "acme.jsonl")] == ["of acme"]
    assert [e.request for e in manager.sync.iter_exps()] == ["of the default"]
    for format_ in ("sft", "markdown"):
        with in_namespace("acme"):
            exporters.save(manager, tmp_path / format_, format_)
        assert "default" not in (tmp_path / format_).read_text()
