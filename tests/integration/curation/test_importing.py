"""Importing, whatever the format: trusted or not, once, beside what the pool has, gone on with after a kill."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from conftest import large_data
from support.paths import ROOT

from exp_pool import Experience, Score
from exp_pool.core.experience import Origin, Trust
from exp_pool.curation import exporters, importers
from exp_pool.errors import InvalidInputError, SourceError

LONG_AGO, NOW = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def manager(make_manager):
    return make_manager(index="none://", embedder="none")


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def record(req, resp, at=None, **more):
    return {"req": req, "resp": resp, "tag": "f", **({"timestamp": at.timestamp()} if at else {}), **more}


def answers(manager):
    return {e.request: e.value for e in manager.sync.iter_exps({"trust": "trusted"})}


def test_imported_means_quarantined_until_a_person_promotes_it(manager, tmp_path):
    path = write(tmp_path / "a.jsonl", record("where is the key?", "under the mat"))
    ask = manager.exp_cache(name="f")(lambda req: "computed")
    report = importers.load(manager, path)
    assert (report.format, report.read, report.stored, report.skipped) == ("metagpt", 1, 1, [])
    (imported,) = manager.sync.iter_exps()
    assert (imported.origin, imported.trust) == (Origin.IMPORTED, Trust.QUARANTINED)
    assert manager.sync.query_exps("where is the key?", query_type="exact") == []
    manager.sync.update_exp(imported.id, trust="trusted")
    assert ask("where is the key?") == "under the mat"


def test_trusted_is_trusted_at_once(manager, tmp_path):
    path = write(tmp_path / "a.jsonl", record("where is the key?", "under the mat"))
    importers.load(manager, path, trust="trusted")
    assert manager.exp_cache(name="f")(lambda req: "computed")("where is the key?") == "under the mat"


@pytest.mark.parametrize(("name", "records"), [("engineer_exps", 2), ("team_leader_exps", 4)])
def test_metagpts_own_files_import_completely_and_answer(manager, name, records):
    """Real files of MetaGPT. They have no tag, so their function is an argument."""
    path = large_data(f"{name}.json")
    report = importers.load(manager, path, function="RoleZero.llm_cached_aask", trust="trusted")
    assert (report.format, report.stored, report.skipped) == ("metagpt", records, [])
    ask = manager.exp_cache(name="RoleZero.llm_cached_aask")(lambda req: pytest.fail("it was computed"))
    for each in json.loads(path.read_text(encoding="utf-8")):
        assert ask(each["req"]) == each["resp"]
        text = each["req"] if isinstance(each["req"], str) else each["req"][-1]["content"]
        assert each["resp"] in [e.response for e in manager.sync.query_exps(text, query_type="exact")]


def test_a_file_adds_nothing_the_second_time(manager, tmp_path):
    path = write(tmp_path / "a.jsonl", record("a", "1"), record("b", "2"), record("a", "1"))
    first, second = (importers.load(manager, path) for _ in range(2))
    assert (first.stored, first.known) == (2, 1)
    assert (second.stored, second.history, second.known) == (0, 0, 3)
    assert manager.sync.get_exps_count() == 2


def test_answers_of_one_call_are_all_kept_the_newest_is_current(manager, tmp_path):
    old, new = record("a", "old", LONG_AGO), record("a", "new", NOW)
    for number, order in enumerate([(old, new), (new, old)]):
        importers.load(manager, write(tmp_path / f"{number}.jsonl", *order), function=f"f{number}", trust="trusted")
        rows = list(manager.sync.iter_exps({"function": f"f{number}"}, history=True))
        assert sorted(e.response for e in rows) == ["new", "old"]
        assert [e.response for e in manager.sync.iter_exps({"function": f"f{number}"})] == ["new"]


@pytest.mark.parametrize(
    ("pool_has", "file_has", "trust", "why"),
    [
        ({"expected": "mine", "created_at": LONG_AGO}, NOW, "trusted", "annotated"),
        ({"created_at": NOW}, LONG_AGO, "trusted", "newer"),
        ({"created_at": LONG_AGO}, NOW, "quarantined", "trusted"),
        ({"created_at": LONG_AGO}, NOW, "trusted insight", "no answer"),
    ],
)
def test_what_the_pool_has_stays(manager, tmp_path, pool_has, file_has, trust, why):
    manager.sync.create_exp(Experience(function="f", request="a", response="mine", **pool_has))
    trust, _, kind = trust.partition(" ")
    path = write(tmp_path / "a.jsonl", record("a", "theirs", file_has, exp_type=kind or "success"))
    report = importers.load(manager, path, trust=trust)
    assert answers(manager) == {"a": "mine"}
    assert (report.stored, report.history) == (0, 1)  # nothing is lost either: it is history of the call
    assert why in report.behind[0].why
    assert report.behind[0].where == "line 1"


def test_a_newer_trusted_answer_takes_its_place_and_the_old_one_is_history(manager, tmp_path):
    manager.sync.create_exp(Experience(function="f", request="a", response="old", created_at=LONG_AGO))
    importers.load(manager, write(tmp_path / "a.jsonl", record("a", "new", NOW)), trust="trusted")
    assert answers(manager) == {"a": "new"}
    assert len(list(manager.sync.iter_exps(history=True))) == 2


def test_what_was_annotated_after_an_import_is_not_undone_by_another(manager, tmp_path):
    path = write(tmp_path / "a.jsonl", record("a", "1"))
    importers.load(manager, path, trust="trusted")
    manager.sync.annotate(next(iter(manager.sync.iter_exps())).id, expected="right")
    report = importers.load(manager, path, trust="trusted")
    assert answers(manager) == {"a": "right"}
    assert "stays" in report.skipped[0].why


def test_deleted_stays_deleted_unless_it_is_asked_for(manager, tmp_path):
    path = write(tmp_path / "a.jsonl", record("a", "1"))
    importers.load(manager, path)
    manager.sync.delete_exp(next(iter(manager.sync.iter_exps())).id)
    report = importers.load(manager, path)
    assert (report.stored, manager.sync.get_exps_count()) == (0, 0)
    assert "revive" in report.skipped[0].why
    assert importers.load(manager, path, revive=True).stored == 1


def test_what_is_left_out_is_said_with_where_and_why(manager, tmp_path):
    lines = [record("a", "1"), {"req": "b", "resp": "2"}, {"req": 7, "resp": "3", "tag": "f"}, {"req": "c", "tag": "f"}]
    report = importers.load(manager, write(tmp_path / "a.jsonl", *lines, "text"), format="metagpt")
    assert (report.read, report.stored) == (5, 1)
    assert [each.where for each in report.skipped] == ["line 2", "line 3", "line 4", "line 5"]
    assert "function=" in report.skipped[0].why
    assert "req must be text" in report.skipped[1].why
    assert "response= or expected=" in report.skipped[2].why
    assert report.reasons.total() == 4
    assert "1 left out" in str(report)


def test_a_name_given_stands_for_all(manager, tmp_path):
    importers.load(manager, write(tmp_path / "a.jsonl", record("a", "1"), {"req": "b", "resp": "2"}), function="mine")
    assert {e.function for e in manager.sync.iter_exps()} == {"mine"}


def test_a_namespace_in_a_file_moves_nothing_unless_it_is_asked_for(make_manager, tmp_path):
    acme = make_manager(index="none://", embedder="none", namespace="acme")
    acme.sync.create_exp(Experience(function="f", request="a", response="1"))
    exporters.save(acme, tmp_path / "a.jsonl")
    manager = make_manager(index="none://", embedder="none", store=acme.sync.store, namespace="mine")
    acme.sync.delete_all_exps()
    importers.load(manager, tmp_path / "a.jsonl")
    assert (manager.sync.get_exps_count(), acme.sync.get_exps_count()) == (1, 0)
    assert {e.namespace for e in manager.sync.iter_exps()} == {"mine"}
    importers.load(manager, tmp_path / "a.jsonl", keep_namespaces=True, revive=True)
    assert acme.sync.get_exps_count() == 1


def test_secrets_of_a_log_are_not_stored_and_calls_stay_apart(manager, tmp_path):
    calls = [({"question": "q", "api_key": f"key-{n}"}, n) for n in range(2)]
    entries = [{"func": "f", "inputs": inputs, "output": n, "metadata": {"password": "geheim"}} for inputs, n in calls]
    entries.append({"func": "f", "inputs": {"question": "mine is sk-" + "a1" * 20}, "output": "ok"})
    importers.load(manager, write(tmp_path / "a.jsonl", *entries), trust="trusted")
    stored = " ".join(str(e.to_dict()) for e in manager.sync.iter_exps())
    assert "key-0" not in stored and "geheim" not in stored and "sk-a1" not in stored
    ask = manager.exp_cache(name="f")(lambda question, api_key: pytest.fail("it was computed"))
    assert [ask(**inputs) for inputs, _ in calls] == [0, 1]


def test_keys_are_made_with_the_pools_secret(make_manager, tmp_path):
    manager = make_manager(index="none://", embedder="none", key_secret="s" * 32)
    importers.load(manager, write(tmp_path / "a.jsonl", record("a", "1")), trust="trusted")
    assert manager.exp_cache(name="f")(lambda req: "computed")("a") == "1"


def test_what_was_drawn_from_a_quarantined_experience_is_quarantined(make_manager, manager, tmp_path):
    source = make_manager(index="none://", embedder="none")
    parent = source.sync.create_exp(Experience(function="f", request="a", response="1", trust="quarantined"))
    source.sync.create_exp(Experience(function="f", request="b", response="2", parents=[parent]))
    exporters.save(source, tmp_path / "a.jsonl", include=["quarantined"])
    parent_line, child = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    write(tmp_path / "a.jsonl", parent_line, {**child, "trust": "trusted"})
    importers.load(manager, tmp_path / "a.jsonl", trust="trusted")
    assert {e.trust for e in manager.sync.iter_exps()} == {Trust.QUARANTINED}


def test_failures_take_the_place_of_no_answer(manager, tmp_path):
    ask = manager.exp_cache(name="f")(lambda req: "computed")
    ask("a")
    importers.load(manager, write(tmp_path / "a.jsonl", record("a", "boom", NOW, exp_type="failure")), trust="trusted")
    assert [e.value for e in manager.sync.iter_exps({"kind": "failure"})] == ["boom"]
    assert ask.lookup("a").experience.value == "computed"
    exporters.save(manager, tmp_path / "b.jsonl", include=["failures"])
    manager.sync.delete_exps({"kind": "failure"})
    importers.load(manager, tmp_path / "b.jsonl", trust="trusted", revive=True)
    assert ask.lookup("a").experience.value == "computed"


def test_lines_written_by_hand_and_a_page_beside_them(manager, tmp_path):
    folder = tmp_path / "experiences"
    folder.mkdir()
    (folder / "README.md").write_text("# about")
    write(folder / "a.jsonl", {"function": "f", "request": "a", "response": "1"}, {"function": "f", "request": "b"})
    first, second = (importers.load(manager, folder) for _ in range(2))
    assert (first.format, first.stored, second.stored, second.known) == ("jsonl", 1, 0, 1)
    assert "response= or expected=" in first.skipped[0].why


def test_imported_scores_decide(manager, tmp_path):
    """MetaGPT leaves scores out of its log, and loses them on import."""
    line = (
        'INFO | exp_pool:log - New experience: {"req": "a", "resp": "1", "tag": "f", "metric": {"score": {"val": 8}}}'
    )
    (tmp_path / "metagpt.log").write_text(f"2026-01-01 INFO | started\n{line}\nsomething else\n", encoding="utf-8")
    report = importers.load(manager, tmp_path / "metagpt.log")
    assert (report.read, report.stored) == (1, 1)
    assert next(iter(manager.sync.iter_exps())).score == Score(value=0.8, scorer="metagpt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "word"}, "known: agentheaven"),
        ({"trust": "much"}, "'quarantined' or 'trusted'"),
        ({"function": " "}, "not empty"),
        ({"format": "openai"}, "function="),
        ({"format": "csv", "columns": {"answer": "a"}}, "known: function"),
    ],
)
def test_wrong_options_are_named(manager, tmp_path, options, message):
    with pytest.raises(InvalidInputError, match=message):
        importers.load(manager, write(tmp_path / "a.jsonl", record("a", "1")), **options)
    assert manager.sync.get_exps_count() == 0


def test_a_file_of_no_known_format_is_named(manager, tmp_path):
    (tmp_path / "a.txt").write_text("once upon a time")
    with pytest.raises(SourceError, match="no known format"):
        importers.load(manager, tmp_path / "a.txt")


def test_damage_is_passed_by_where_that_is_asked_for(manager, tmp_path):
    path = write(tmp_path / "a.jsonl", record("a", "1"), record("b", "2"))
    path.write_text(path.read_text().replace("}\n", "}\n{half a li\n", 1), encoding="utf-8")
    with pytest.raises(SourceError, match="line 2"):
        importers.load(manager, path)
    assert manager.sync.get_exps_count() == 1
    report = importers.load(manager, path, skip_damaged=True)
    assert (report.stored, report.known, [each.where for each in report.skipped]) == (1, 1, ["line 2"])


def test_a_damaged_file_of_a_folder_is_passed_by_where_that_is_asked_for(manager, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    write(folder / "1.jsonl", record("a", "1"))
    (folder / "2.zip").write_bytes(b"PK\x03\x04")
    (folder / "3.jsonl").symlink_to(folder / "1.jsonl")
    write(folder / "4.jsonl", record("b", "2"))
    with pytest.raises(SourceError, match=r"2\.zip"):
        importers.load(manager, folder)
    report = importers.load(manager, folder, skip_damaged=True)
    assert (report.stored, report.known, len(report.skipped)) == (1, 1, 2)


def test_from_a_running_event_loop(manager, tmp_path):
    async def cell():
        return importers.load(manager, write(tmp_path / "a.jsonl", record("a", "1"))).stored

    assert asyncio.run(cell()) == 1


KILLED = """
import os, signal, sys
from exp_pool import ExpManager
from exp_pool.curation import importers
from exp_pool.curation.importers import ingest
from exp_pool.stores.sql.sqlite import SqliteStore

ingest._BATCH = 50
left = int(sys.argv[3])
put_many = SqliteStore.put_many

def put_some(self, puts):
    global left
    left -= 1
    if left < 0:
        half = put_many(self, puts[: len(puts) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return put_many(self, puts)

SqliteStore.put_many = put_some
with ExpManager(store=f"sqlite:///{sys.argv[1]}", index="none://", embedder="none") as manager:
    importers.load(manager, sys.argv[2])
"""


def everything(manager, told):
    """All rows, and what was said and changed about some."""
    rows = sorted((e.id, e.to_dict()) for e in manager.sync.iter_exps(history=True))
    return rows, [(h.what, h.detail) for id_ in told for h in manager.sync.history(id_)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_in_the_middle_and_started_again_it_ends_as_one_run(make_manager, tmp_path):
    source = make_manager(index="none://", embedder="none")
    ids = source.sync.create_exps([Experience(function="f", request=f"q{n % 90}", response=n) for n in range(160)])
    source.sync.annotate(ids[10], expected="right")
    source.sync.feedback(ids[110], 0.5, "so so")  # both in the halves that are written before the kills
    told = [ids[10], ids[110]]
    exporters.save(source, tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.jsonl.manifest.json").read_text())["rows"] == 160
    at_once = make_manager(index="none://", embedder="none", store=f"sqlite:///{tmp_path}/once.db")
    importers.load(at_once, tmp_path / "a.jsonl")
    for batches in (0, 2):
        program = [sys.executable, "-c", KILLED, f"{tmp_path}/{batches}.db", f"{tmp_path}/a.jsonl", str(batches)]
        ended = subprocess.run(program, check=False, env=os.environ, timeout=60)
        assert ended.returncode == -signal.SIGKILL
        again = make_manager(index="none://", embedder="none", store=f"sqlite:///{tmp_path}/{batches}.db")
        there = len(list(again.sync.iter_exps(history=True)))
        assert 0 < there < 160
        report = importers.load(again, tmp_path / "a.jsonl")
        assert report.known == there
        assert everything(again, told) == everything(at_once, told)


def test_the_page_about_formats_names_them_all():
    page = (ROOT / "docs" / "curation-files.md").read_text(encoding="utf-8")
    importing, exporting = page.split("## Exporting")
    assert [name for name in importers.FORMATS if f"| `{name}` |" not in importing] == []
    assert [name for name in exporters.FORMATS if f"| `{name}` |" not in exporting] == []
