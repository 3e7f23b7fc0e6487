"""Each importer on a file in its source's own format. `tests/data/sources` says which the real packages have written."""

import gzip
import json
from datetime import UTC, datetime

import pytest
from support.paths import DATA

from exp_pool.curation import importers
from exp_pool.errors import InvalidInputError

SOURCES = DATA / "sources"
KEY, SUM = ("Where is the key?", "Under the mat."), ("What is 2 + 2?", "4")
SYSTEM = {"role": "system", "content": "Answer in few words."}


@pytest.fixture
def manager(make_manager):
    return make_manager(index="none://", embedder="none")


def user(text):
    return {"role": "user", "content": text}


def lines(path, *values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def by_request(manager, function):
    """Experiences of a function by their requests."""
    return {e.request: e for e in manager.sync.iter_exps({"function": function})}


def answered(manager, function):
    return {request: e.value for request, e in by_request(manager, function).items()}


# What real packages wrote


def test_agentheavens_folder(manager):
    report = importers.load(manager, SOURCES / "agentheaven", trust="trusted")
    assert (report.format, report.stored, report.skipped) == ("agentheaven", 6, [])
    assert manager.exp_cache(name="fibonacci")(lambda n: pytest.fail("it was computed"))(3) == 2
    ask = manager.exp_cache(name="ask")(lambda question, model="small": pytest.fail("it was computed"))
    assert [ask(question) for question, _ in (KEY, SUM)] == [KEY[1], SUM[1]]


def test_gptcaches_database(manager):
    report = importers.load(manager, SOURCES / "gptcache.db", function="ask", trust="trusted")
    assert (report.format, report.read, report.stored) == ("gptcache", 3, 2)
    assert "deleted" in report.skipped[0].why
    assert answered(manager, "ask") == dict([KEY, SUM])
    assert by_request(manager, "ask")[KEY[0]].created_at.year == 2026
    assert manager.exp_cache(name="ask")(lambda req: pytest.fail("it was computed"))(KEY[0]) == KEY[1]


def test_langchains_cache(manager):
    report = importers.load(manager, SOURCES / "langchain.db", function="llm")
    assert (report.format, report.read, report.stored) == ("langchain", 4, 4)
    found = list(manager.sync.iter_exps())
    assert sorted((e.request, e.response) for e in found) == sorted([KEY, KEY, SUM, SUM])
    chat = next(e for e in found if "messages" in e.arguments and e.request == KEY[0])
    assert chat.arguments["messages"] == [SYSTEM, user(KEY[0])]
    assert "fake-list-chat-model" in chat.arguments["llm"]  # another model is another call


def test_openais_requests_and_responses(manager):
    report = importers.load(manager, SOURCES / "openai.jsonl", function="chat", trust="trusted")
    assert (report.format, report.stored) == ("openai", 2)
    assert answered(manager, "chat") == dict([KEY, SUM])
    first = by_request(manager, "chat")[KEY[0]]
    assert (first.model, first.metric.tokens_in, first.metric.tokens_out) == ("gpt-4o-mini-2024-07-18", 12, 4)
    assert first.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    chat = manager.exp_cache(name="chat")(lambda messages, model, temperature: pytest.fail("it was computed"))
    assert chat([SYSTEM, user(SUM[0])], "gpt-4o-mini", 0.2) == SUM[1]


@pytest.mark.parametrize("name", ["otel.jsonl", "openinference.json"])
def test_spans(manager, name):
    report = importers.load(manager, SOURCES / name, function="chat")
    assert (report.format, report.read, report.stored, report.skipped) == ("otel", 3, 2, [])
    assert answered(manager, "chat") == dict([KEY, SUM])
    first = by_request(manager, "chat")[KEY[0]]
    assert first.arguments == {"model": "gpt-4o-mini", "temperature": 0.2, "messages": [SYSTEM, user(KEY[0])]}
    assert (first.model, first.metric.tokens_in, first.metric.tokens_out) == ("gpt-4o-mini-2024-07-18", 12, 4)
    assert 0 < first.metric.time_s < 60
    assert len(first.metadata["trace"]) == 32


def test_mlflows_traces(manager):
    report = importers.load(manager, SOURCES / "mlflow.jsonl", trust="trusted")
    assert (report.format, report.read, report.stored) == ("mlflow", 4, 4)
    assert answered(manager, "helpdesk") == answered(manager, "chat") == dict([KEY, SUM])
    assert by_request(manager, "chat")[SUM[0]].model == "gpt-4o-mini"
    helpdesk = manager.exp_cache(name="helpdesk")(lambda question: pytest.fail("it was computed"))
    assert helpdesk(KEY[0]) == KEY[1]


def test_langsmiths_runs(manager):
    report = importers.load(manager, SOURCES / "langsmith.jsonl")
    assert (report.format, report.stored) == ("langsmith", 2)
    assert answered(manager, "ChatOpenAI") == dict([KEY, SUM])
    first = by_request(manager, "ChatOpenAI")[KEY[0]]
    assert (first.score.value, first.score.scorer, first.metric.time_s) == (0.5, "correctness", 1.5)
    assert (first.model, first.metric.tokens_in) == ("gpt-4o-mini", 12)


# What is written here as its makers document it


def test_openais_batch_output_finds_its_requests(manager, tmp_path):
    """The form of OpenAI's batch guide: requests in one file, responses in another, in any order."""
    ask = lambda n, q: {
        "custom_id": n,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"messages": [user(q)]},
    }  # noqa: E731
    body = lambda a: {"id": "c", "created": 1767225600, "choices": [{"message": {"role": "assistant", "content": a}}]}  # noqa: E731
    got = lambda n, a: {"id": "b", "custom_id": n, "response": {"status_code": 200, "body": body(a)}, "error": None}  # noqa: E731
    requests = lines(tmp_path / "in.jsonl", ask("1", KEY[0]), ask("2", SUM[0]), ask("3", "Why?"))
    failed = {"id": "b", "custom_id": "3", "response": {"status_code": 429, "body": {"error": {}}}, "error": None}
    output = lines(tmp_path / "out.jsonl", got("2", SUM[1]), failed, got("1", KEY[1]), got("9", "nobody asked"))
    with pytest.raises(InvalidInputError, match="requests="):
        importers.load(manager, output, function="chat")
    report = importers.load(manager, output, function="chat", requests=requests)
    assert (report.format, report.stored) == ("openai", 2)
    assert [(each.where, each.why) for each in report.skipped] == [
        ("line 2", "it failed with status 429"),
        ("line 4", "its request or its response is not there"),
    ]
    assert answered(manager, "chat") == dict([KEY, SUM])


def test_openais_responses_tool_calls_and_training_chats(manager, tmp_path):
    """The Responses API, a chat completion that calls a tool, and fine-tuning's chats, as OpenAI documents them."""
    part = {"type": "output_text", "text": KEY[1]}
    responses = {
        "output": [{"type": "reasoning"}, {"type": "message", "content": [part]}],
        "usage": {"input_tokens": 3},
    }
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tools = {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [call]}}]}
    path = lines(
        tmp_path / "a.jsonl",
        {"request": {"model": "m", "input": KEY[0], "stream": True}, "response": responses},
        {"request": {"model": "m", "messages": [user("Look.")]}, "response": tools},
        {"messages": [user(SUM[0]), {"role": "assistant", "content": SUM[1]}]},
        {"messages": [user("And?")]},
    )
    report = importers.load(manager, path, format="openai", function="chat")
    assert (report.stored, report.skipped[0].where) == (3, "line 4")
    found = by_request(manager, "chat")
    assert found[KEY[0]].arguments == {"model": "m", "input": KEY[0]}
    assert (found[KEY[0]].response, found[KEY[0]].metric.tokens_in) == (KEY[1], 3)
    assert found["Look."].response == {"role": "assistant", "tool_calls": [call]}
    assert found[SUM[0]].response == SUM[1]


def test_flattened_spans_failed_ones_and_those_of_other_things(manager, tmp_path):
    """OpenLLMetry's attributes, as its conventions list them; an HTTP span; a failed span; one without content."""

    def span(status=0, **attributes):
        listed = [{"key": name, "value": {"stringValue": value}} for name, value in attributes.items()]
        return {
            "name": "chat",
            "startTimeUnixNano": "1767225600000000000",
            "attributes": listed,
            "status": {"code": status},
        }

    told = {"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": KEY[0], "gen_ai.completion.0.content": KEY[1]}
    spans = [span(**told), span(**{"http.method": "GET"}), span(2, **told), span(**{"gen_ai.request.model": "m"})]
    export = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    report = importers.load(manager, lines(tmp_path / "a.jsonl", export))
    assert (report.format, report.read, report.stored) == ("otel", 4, 1)
    assert [each.where for each in report.skipped] == ["line 1 span 3", "line 1 span 4"]
    assert answered(manager, "chat") == dict([KEY])


def test_langfuses_traces_and_observations(manager, tmp_path):
    """The objects of Langfuse's API reference: a trace with its observations and scores, then one alone."""
    generation = {
        "id": "o1",
        "traceId": "t1",
        "type": "GENERATION",
        "name": "chat",
        "startTime": "2026-01-02T03:04:05.000Z",
        "endTime": "2026-01-02T03:04:07.000Z",
        "model": "gpt-4o-mini",
        "modelParameters": {"temperature": 0.2},
        "input": [user(KEY[0])],
        "output": {"role": "assistant", "content": KEY[1]},
        "usageDetails": {"input": 12, "output": 4},
        "calculatedTotalCost": 0.01,
    }
    scores = [
        {"name": "helpful", "value": 1, "comment": "yes"},
        {"name": "correct", "value": 0.5, "observationId": "o1"},
        {"name": "stars", "value": 5},
    ]
    trace = {"id": "t1", "timestamp": "2026-01-02T03:04:05Z", "name": "helpdesk", "input": {"question": KEY[0]}}
    trace |= {"output": KEY[1], "observations": [generation], "scores": scores}
    failed = {**generation, "id": "o2", "level": "ERROR", "input": [user("?")]}
    report = importers.load(manager, lines(tmp_path / "a.jsonl", trace, failed))
    assert (report.format, report.stored, [each.where for each in report.skipped]) == ("langfuse", 2, ["line 2"])
    (whole,) = by_request(manager, "helpdesk").values()
    assert (whole.arguments, {n: s.value for n, s in whole.scores.items()}) == ({"question": KEY[0]}, {"helpful": 1.0})
    (chat,) = by_request(manager, "chat").values()
    assert chat.arguments == {"temperature": 0.2, "model": "gpt-4o-mini", "messages": [user(KEY[0])]}
    assert (chat.value, chat.score.value, chat.metric.tokens_in) == (KEY[1], 0.5, 12)
    assert (chat.metric.time_s, chat.metric.money_usd) == (2.0, 0.01)


def test_claude_codes_transcripts(manager, tmp_path):
    """Lines as Claude Code writes them (not documented): a summary, turns, tools, a side chain, what the program says."""

    def line(kind, content, **more):
        told = {"sessionId": "s", "uuid": "u", "parentUuid": None, "type": kind, "timestamp": "2026-01-02T03:04:05Z"}
        message = {"role": kind, "content": content, **more.pop("message", {})}
        return {**told, "message": message, **more}

    use = {"type": "tool_use", "id": "1", "name": "Bash", "input": {"command": "ls"}}
    spent = {"message": {"id": "m1", "model": "claude", "usage": {"input_tokens": 5, "output_tokens": 7}}}
    project = tmp_path / "project"
    project.mkdir()
    lines(
        project / "session.jsonl",
        {"type": "summary", "summary": "Files", "leafUuid": "u"},
        line("user", "<command-name>/clear</command-name>"),
        line("user", "What is here?"),
        line("assistant", [{"type": "text", "text": "I shall look."}], **spent),
        line("assistant", [use], **spent),
        line("user", [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "a.py"}]}]),
        line("assistant", [{"type": "text", "text": "Thinking aside."}], isSidechain=True),
        line("assistant", [{"type": "text", "text": "One file: a.py."}], timestamp="2026-01-02T03:04:09Z"),
        line("user", [{"type": "text", "text": "Delete it."}]),
    )
    report = importers.load(manager, project)
    assert (report.format, report.read, report.stored) == ("claude-code", 2, 1)
    assert [(each.where, each.why) for each in report.skipped] == [
        ("session.jsonl line 9", "it ended without an answer")
    ]
    (turn,) = manager.sync.iter_exps()
    assert (turn.function, turn.request, turn.value) == ("claude-code", "What is here?", "One file: a.py.")
    (step,) = turn.trajectory
    assert (step.plan, step.action, step.observation) == ("I shall look.", 'Bash({"command": "ls"})', "a.py")
    assert (turn.model, turn.metric.tokens_in, turn.metric.tokens_out, turn.metric.time_s) == ("claude", 5, 7, 4.0)


def test_codexs_transcripts(manager, tmp_path):
    """Lines as Codex writes them (rollout files, not documented)."""

    def line(kind, **payload):
        return {"timestamp": "2026-01-02T03:04:05.000Z", "type": kind, "payload": payload}

    def says(role, text):
        return line("response_item", type="message", role=role, content=[{"type": "input_text", "text": text}])

    folder = tmp_path / "2026" / "01"
    folder.mkdir(parents=True)
    lines(
        folder / "rollout-1.jsonl",
        line("session_meta", id="s", cwd="/"),
        line("turn_context", model="gpt-5"),
        says("user", "<environment_context>linux</environment_context>"),
        says("user", "What is here?"),
        line("event_msg", type="user_message", message="What is here?"),
        line("response_item", type="function_call", name="shell", arguments='{"command":["ls"]}', call_id="1"),
        line("response_item", type="function_call_output", call_id="1", output="a.py"),
        line("event_msg", type="token_count", info={"last_token_usage": {"input_tokens": 5, "output_tokens": 7}}),
        says("assistant", "One file: a.py."),
    )
    report = importers.load(manager, tmp_path / "2026")
    assert (report.format, report.read, report.stored) == ("codex", 1, 1)
    (turn,) = manager.sync.iter_exps()
    assert (turn.request, turn.value, turn.model) == ("What is here?", "One file: a.py.", "gpt-5")
    assert [(s.action, s.observation) for s in turn.trajectory] == [('shell({"command":["ls"]})', "a.py")]
    assert (turn.metric.tokens_in, turn.metric.tokens_out, turn.metadata["session"]) == (5, 7, "s")


# Tables


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_with_its_columns(manager, tmp_path, separator):
    cells = [
        ["q", "a", "who", "stars", "when"],
        ['"Where, or\nwhen; how?"', "here", "ops", "0.5", "2026-01-02"],
        ["x", "", "", "", ""],
    ]
    (tmp_path / "a.csv").write_bytes("\r\n".join(separator.join(row) for row in cells).encode("utf-8-sig"))
    columns = {"request": "q", "response": "a", "metadata.team": "who", "score": "stars", "created_at": "when"}
    report = importers.load(manager, tmp_path / "a.csv", function="ask", columns=columns)
    assert (report.format, report.read, report.stored) == ("csv", 2, 1)
    assert (report.skipped[0].where, report.skipped[0].why) == ("line 4", "it has no answer")
    (found,) = manager.sync.iter_exps()
    assert (found.request, found.value, found.metadata["team"]) == ("Where, or\nwhen; how?", "here", "ops")
    assert (found.score.value, found.created_at) == (0.5, datetime(2026, 1, 2, tzinfo=UTC))


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"request": "questoin"}, "it has no 'questoin', which columns= names for what was asked"),
        ({"arguments.q": "questoin", "arguments.lang": "l"}, "it has no 'questoin' and no 'l', which columns="),
    ],
)
def test_a_column_that_is_not_there_makes_no_call_without_arguments(manager, tmp_path, format_, columns, why):
    file = tmp_path / "logs"
    file.write_text(
        "question,reply\nWhere?,Here.\nWhen?,Now.\n"
        if format_ == "csv"
        else '{"question": "Where?", "reply": "Here."}\n{"question": "When?", "reply": "Now."}\n'
    )
    report = importers.load(manager, file, format_, function="ask", columns={**columns, "response": "reply"})
    assert (report.read, report.stored) == (2, 0)
    assert why in report.skipped[0].why
    assert list(manager.sync.iter_exps()) == []
    right = {"request": "question", "response": "reply"}
    assert importers.load(manager, file, format_, function="ask", columns=right).stored == 2
    no_arguments = {"response": "reply"}  # of a function that has none
    assert importers.load(manager, file, format_, function="now", columns=no_arguments).stored >= 1


def test_parquet_of_others_and_columns_called_as_fields_are(manager, tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(
        {"function": ["f"], "request": ["r"], "response": ["x"], "tokens_in": [3], "arguments": ['{"a": 1}']}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    report = importers.load(manager, tmp_path / "a.parquet")
    assert (report.format, report.stored) == ("parquet", 1)
    (found,) = manager.sync.iter_exps()
    assert (found.arguments, found.request, found.response, found.metric.tokens_in) == ({"a": 1}, "r", "x", 3)


# Shapes of JSON


@pytest.mark.parametrize("shape", ["lines", "array", "pretty", "one after the other", "gzip", "byte order mark"])
def test_json_in_every_shape(manager, tmp_path, shape):
    records = [{"req": f"größe {n}", "resp": {"n": n}, "tag": "f"} for n in range(3)]
    in_lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    content = {
        "array": json.dumps(records),
        "pretty": json.dumps(records, indent=2, ensure_ascii=False),
        "one after the other": "".join(json.dumps(record, indent=2) for record in records),
        "byte order mark": "\ufeff" + in_lines,
    }.get(shape, in_lines)
    data = content.encode()
    (tmp_path / "a.json").write_bytes(gzip.compress(data) if shape == "gzip" else data)
    assert importers.load(manager, tmp_path / "a.json").stored == 3
    assert sorted(e.response["n"] for e in manager.sync.iter_exps({"request": {"contains": "größe"}})) == [0, 1, 2]


def test_values_across_the_pieces_in_which_a_file_is_read(manager, tmp_path, monkeypatch):
    monkeypatch.setattr(importers.safe_files, "_CHUNK", 7)
    records = [{"req": f"größe {n}" * n, "resp": n * 1000, "tag": "f"} for n in range(1, 40)]
    for name, content in (("a", json.dumps(records, ensure_ascii=False)), ("l", "\n".join(map(json.dumps, records)))):
        (tmp_path / f"{name}.json").write_text(content, encoding="utf-8")
        assert importers.load(manager, tmp_path / f"{name}.json", "metagpt", function=name).stored == 39
        assert sorted(e.response for e in manager.sync.iter_exps({"function": name})) == [
            n * 1000 for n in range(1, 40)
        ]


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ({"run_type": "tool", "name": "find", "inputs": {"q": "x"}, "outputs": {"output": None}}, 0),
        ({"run_type": "tool", "name": "find", "inputs": {"q": "x"}, "outputs": None}, 1),
        ({"info": {}, "data": {"spans": [{"name": "find", "attributes": {"mlflow.spanInputs": {"q": "x"}, "mlflow.spanOutputs": None}}]}}, 0),
        ({"info": {}, "data": {"spans": [{"name": "find", "attributes": {"mlflow.spanInputs": {"q": "x"}}}]}}, 1),
        ({"input": {"q": "x"}, "output": None, "traceId": "t", "name": "find"}, 1),
    ],
    ids=["langsmith", "langsmith, not recorded", "mlflow", "mlflow, not recorded", "langfuse, not recorded"],
)  # fmt: skip
def test_none_is_an_answer_where_it_was_recorded(manager, tmp_path, line, left):
    (tmp_path / "lines.jsonl").write_text(json.dumps(line) + "\n")
    report = importers.load(manager, tmp_path / "lines.jsonl", trust="trusted")
    assert (report.stored, report.read - report.stored) == (1 - left, left)
    assert [e.response for e in manager.sync.iter_exps()] == [None] * (1 - left)
