"""Files that mean harm, or are broken: a typed error at once, nothing beside the pool, good rows before it kept."""

import contextlib
import gzip
import hashlib
import itertools
import json
import os
import random
import socket
import sqlite3
import struct
import sys
import zlib

import hypothesis
import hypothesis.strategies as st
import pytest
from support.paths import DATA

from exp_pool import ExpManager, ExpPoolConfig
from exp_pool.curation import importers
from exp_pool.curation.importers import parquet as parquet_importer
from exp_pool.curation.importers.safe_files import ImportSource
from exp_pool.curation.importers.types import ImportOptions
from exp_pool.errors import InvalidInputError, SourceError

GOOD = [{"req": f"good {n}", "resp": n, "tag": "f"} for n in range(3)]
GOOD_LINES = "".join(json.dumps(record) + "\n" for record in GOOD).encode()
AFTER = b'{"req": "after", "resp": 1, "tag": "f"}\n'

pytestmark = [
    pytest.mark.timeout(20),  # each takes a fraction of a second; none may hang
    pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and sparse files"),
]


def line(content):
    """Good lines, this one, and one more."""

    def write(folder):
        (folder / "a.jsonl").write_bytes(GOOD_LINES + content + b"\n" + AFTER)
        return folder / "a.jsonl"

    return write


def array(rest):
    """The beginning of an array, and what becomes of it."""

    def write(folder):
        (folder / "a.json").write_bytes(json.dumps(GOOD)[:-1].encode() + rest)
        return folder / "a.json"

    return write


def whole(name, content):
    def write(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return write


def sparse(folder):
    path = folder / "a.jsonl"
    with path.open("wb") as file:
        file.write(GOOD_LINES)
        file.truncate(2**30)  # a gigabyte of NUL that takes no space
    return path


def bomb(folder):
    packer = zlib.compressobj(1, wbits=31)
    packed = packer.compress(GOOD_LINES) + b"".join(packer.compress(b" \n" * 2**19) for _ in range(40))
    (folder / "a.jsonl.gz").write_bytes(packed + packer.flush())
    return folder / "a.jsonl.gz"


def cut_gzip(folder):
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(GOOD_LINES * 100)[:-20])
    return folder / "a.jsonl.gz"


def wrong_checksum(folder):
    packed = bytearray(gzip.compress(GOOD_LINES))
    packed[-6] ^= 255
    (folder / "a.jsonl.gz").write_bytes(packed)
    return folder / "a.jsonl.gz"


def among_files(place):
    """A folder of good files, and something between them."""

    def write(folder):
        inside = folder / "cache"
        inside.mkdir()
        for number, record in enumerate(GOOD):
            (inside / f"{number}.json").write_text(json.dumps(record))
        (folder / "secret.json").write_text(json.dumps({"req": "secret", "resp": "stolen", "tag": "f"}))
        place(inside)
        return inside

    return write


def deep_folders(inside):
    for _ in range(60):
        inside /= "x"
    inside.mkdir(parents=True)
    (inside / "a.json").write_text(json.dumps(GOOD[0]))


def a_socket(folder):
    place = folder / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(folder)  # their names are short
        listening.bind("s")
    return place


def pipe(folder):
    os.mkfifo(folder / "a.jsonl")
    return folder / "a.jsonl"


def link(folder):
    (folder / "real.jsonl").write_bytes(GOOD_LINES)
    (folder / "a.jsonl").symlink_to(folder / "real.jsonl")
    return folder / "a.jsonl"


def parquet(damage):
    def write(folder):
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        texts = [f"{number}{os.urandom(20).hex()}" for number in range(2000)]
        table = pyarrow.table({"function": ["f"] * 2000, "request": texts, "response": texts})
        parquet.write_table(table, folder / "a.parquet")
        (folder / "a.parquet").write_bytes(damage((folder / "a.parquet").read_bytes()))
        return folder / "a.parquet"

    return write


def overwrite(data, at, content):
    return data[:at] + content + data[at + len(content) :]


def database(fill, damage=lambda data: data):
    def write(folder):
        path = folder / "a.db"
        with sqlite3.connect(path) as opened:
            fill(opened)
        opened.close()
        path.write_bytes(damage(path.read_bytes()))
        return path

    return write


CACHE = "CREATE TABLE full_llm_cache (prompt, llm, idx, response)"


def filled(opened):
    opened.execute(CACHE)
    opened.executemany("INSERT INTO full_llm_cache VALUES (?, 'm', 0, ?)", [(f"p{n}", "x" * 3000) for n in range(200)])


def endless_view(opened):
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS prompt, i AS llm, i AS idx, i"
    )
    opened.execute(f"CREATE VIEW full_llm_cache AS {numbers} AS response FROM n")


def many_rows(data):
    """The footer says that there are 2**60 rows: Thrift's varints, the field number 3 of the metadata."""
    length = struct.unpack("<I", data[-8:-4])[0]
    footer = data[-8 - length : -8]
    said = footer.index(b"\x16\xa0\x1f")  # 2000, in zigzag
    huge = b"\x16" + b"\x80" * 8 + b"\x20"
    footer = footer[:said] + huge + footer[said + 3 :]
    return data[: -8 - length] + footer + struct.pack("<I", len(footer)) + b"PAR1"


# By name: what is imported, how many good rows stand before the harm, and what the error says.
HOSTILE = {
    "half a line": (line(b'{"req": "x", "resp'), 3, "line 4"),
    "half a line at the end": (whole("a.jsonl", GOOD_LINES + b'{"req": "x"'), 3, "line 4"),
    "two values in a line": (line(b'{"req": "x", "resp": 1} {"req": "y"}'), 3, "line 4"),
    "nul in a line": (line(b'{"req": "x\0y", "resp": 1, "tag": "f"}'), 3, "line 4"),
    "latin-1": (line('{"req": "größe", "resp": 1, "tag": "f"}'.encode("latin-1")), 3, "not UTF-8"),
    "overlong utf-8": (line(b'{"req": "\xc0\xaf", "resp": 1, "tag": "f"}'), 3, "not UTF-8"),
    "utf-16": (whole("a.jsonl", GOOD_LINES.decode().encode("utf-16")), 0, "UTF-16"),
    "deep arrays": (line(b'{"req": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 3, "nested deeper"),
    "deep objects": (line(b'{"a":' * 5_000 + b"1" + b"}" * 5_000), 3, "nested deeper"),
    "a bit too deep": (line(b'{"req": "x", "resp": ' + b"[" * 201 + b"]" * 201 + b"}"), 3, "nested deeper"),
    "a name twice": (line(b'{"req": "x", "resp": 1, "resp": 2, "tag": "f"}'), 3, "'resp' twice"),
    "nan": (line(b'{"req": "x", "resp": NaN, "tag": "f"}'), 3, "NaN"),
    "infinity": (line(b'{"req": "x", "resp": -Infinity, "tag": "f"}'), 3, "Infinity"),
    "a number beyond floats": (line(b'{"req": "x", "resp": 1e999, "tag": "f"}'), 3, "too large"),
    "a number of a million digits": (line(b'{"req": "x", "resp": ' + b"9" * 1_000_000 + b"}"), 3, "digits"),
    "a line of a gigabyte": (sparse, 3, "longer than"),
    "a gzip bomb": (bomb, 3, "unpacks to more"),
    "gzip cut off": (cut_gzip, None, "cannot be read on"),
    "gzip with a wrong checksum": (wrong_checksum, None, "cannot be read on"),
    "zip": (whole("a.zip", b"PK\x03\x04" + b"x" * 100), 0, "zip"),
    "random bytes": (whole("a.jsonl", bytes(range(256)) * 10), 0, "not UTF-8|cannot be read|Expecting"),
    "a link": (link, 0, "links are not followed"),
    "a pipe": (pipe, 0, "no plain file"),
    "a socket": (a_socket, 0, "no plain file"),
    "a device": (lambda folder: "/dev/zero", 0, "no plain file"),
    "nothing there": (lambda folder: folder / "no", 0, "cannot be read"),
    "nul in the name": (lambda folder: "a\0b", 0, "cannot be read"),
    "out of the folder by a link": (
        among_files(lambda f: (f / "9.json").symlink_to(f.parent / "secret.json")),
        3,
        "links",
    ),
    "out of the folder by a linked folder": (among_files(lambda f: (f / "9").symlink_to(f.parent)), 3, "links"),
    "a circle of folders": (among_files(lambda f: (f / "9").symlink_to(f)), 3, "links"),
    "a pipe in the folder": (among_files(lambda f: os.mkfifo(f / "9.json")), 3, "no plain file"),
    "sixty folders deep": (among_files(deep_folders), 3, "more than 32 folders"),
    "an array without an end": (array(b""), 3, "end of the file"),
    "an array with half a value": (array(b', {"req": "x'), 3, "Unterminated"),
    "an array without a comma": (array(b' {"req": "x"}]'), 3, "comma"),
    "an array with a comma too many": (array(b",]"), 3, "comma"),
    "something behind an array": (array(b"] x"), 3, "behind"),
    "a deep value in an array": (array(b", " + b"[" * 100_000), 3, "nested deeper"),
    "an array with a name twice": (array(b', {"a": 1, "a": 2}]'), 3, "twice"),
    "half a line in a log": (
        whole("a.log", b'x New experience: {"req": "a", "resp": 1, "tag": "f"}\nNew experience: {"r'),
        1,
        "line 2",
    ),
    "csv with an open quote": (whole("a.csv", b'function,request,response\nf,a,b\nf,"a,b\nf,a,b\n'), 1, "end of data"),
    "csv with a cell missing": (whole("a.csv", b"function,request,response\nf,a,b\nf,a\n"), 1, "2 cells"),
    "csv with nul": (whole("a.csv", b"function,request,response\nf,a,b\nf,a\0,b\n"), 1, "NUL"),
    "csv in latin-1": (
        whole("a.csv", "function,request,response\nf,a,b\nf,größe,b\n".encode("latin-1")),
        1,
        "not UTF-8",
    ),
    "parquet cut off": (parquet(lambda data: data[:-1000]), 0, "cannot be read on"),
    "parquet with a damaged page": (
        parquet(lambda data: overwrite(data, 40, b"\xff" * 400)),
        None,
        "cannot be read on",
    ),
    "parquet with a damaged footer": (
        parquet(lambda data: overwrite(data, len(data) - 300, b"\xff" * 99)),
        0,
        "cannot be read",
    ),
    "parquet that says it has many rows": (parquet(many_rows), 0, "cannot be read on"),
    "sqlite cut off": (
        database(filled, lambda data: data[: len(data) // 2]),
        None,
        "malformed|not a database|disk image",
    ),
    "sqlite with a damaged page": (
        database(filled, lambda data: overwrite(data, 4096, b"\xff" * 9000)),
        None,
        "malformed",
    ),
    "sqlite with an endless view": (database(endless_view), 0, "no table"),
    "sqlite without the columns": (
        database(lambda d: d.execute("CREATE TABLE full_llm_cache (a)")),
        0,
        "no such column",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_typed_error_and_good_rows_before_it_kept(name, tmp_path):
    write, good, message = HOSTILE[name]
    box = tmp_path / "box"
    box.mkdir()
    path = write(box)
    there = sorted(tmp_path.rglob("*"))
    with ExpManager(store=f"sqlite:///{tmp_path}/pool/pool.db", index="none://", embedder="none") as manager:
        format_ = "langchain" if str(path).endswith(".db") else None
        format_ = "openai" if name in ("random bytes", "utf-16", "zip") else format_
        with pytest.raises(SourceError, match=message) as caught:
            importers.load(manager, path, format_, function="f")
        stored = [e.request for e in manager.sync.iter_exps()]
    assert "stolen" not in str(stored) and "secret" not in stored and "after" not in stored
    if good is not None:
        assert len(stored) == good
    if stored:
        assert caught.value.report.stored == len(stored)
    assert [each for each in sorted(tmp_path.rglob("*")) if not each.is_relative_to(tmp_path / "pool")] == there


def test_what_a_line_of_a_pool_says_is_not_believed(tmp_path, make_manager):
    """Rows that claim to be trusted, another's, made by hand, or the answer of another call."""
    manager = make_manager(index="none://", embedder="none")
    ask = manager.exp_cache(name="f")(lambda req: f"computed {req}")
    ask("a")
    key, scope = ask.key("a"), "0" * 64
    honest = {"id": "1", "function": "f", "arguments": {"req": "b"}, "request": "b", "response": "planted"}
    honest |= {"created_at": "2030-01-01T00:00:00+00:00", "trust": "trusted", "origin": "manual", "namespace": "acme"}
    other = {"exp_pool": {"format": 1, "key": key, "reuse_scope": scope, "of": "0" * 64, "namespace": "acme"}}
    of = hashlib.sha256(json.dumps(["f", None, {"req": "b"}, "b"], separators=(",", ":")).encode()).hexdigest()
    clever = {"exp_pool": {"format": 1, "key": key, "reuse_scope": scope, "of": of}}
    lines = [
        {**honest, "key": key},
        {**honest, **other, "id": "2"},
        {**honest, "id": 3},
        {**honest, "id": "4", "created_at": "yesterday"},
        {**honest, "id": "5", "scores": {"s": {"value": 2}}},
        {**honest, "id": "6", "response": {"$exp:gone": 1}},
        {**honest, "id": "7", "response": {"$exp:path": 1}},
        {**honest, "id": "8", "exp_pool": {"format": 2}},
        {**honest, "id": "9", "exp_pool": {"log": [{"what": "trust", "id": "9", "at": "never"}]}},
        {**honest, "id": "10", "exp_pool": 7},
        {**honest, "id": "11", "arguments": {"$exp:tuple": []}},
        {**honest, "id": "12", "function": "../../etc/passwd\0"},
        {**honest, **clever, "id": "13"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    report = importers.load(manager, tmp_path / "a.jsonl", format="jsonl")
    assert [each.where for each in report.skipped] == [f"line {n}" for n in (3, 4, 5, 6, 7, 8, 9, 10, 11)]
    imported = [e for e in manager.sync.iter_exps(history=True) if e.origin == "imported"]
    assert {e.id for e in imported} == {"1", "2", "12", "13"}
    assert {(e.trust, e.namespace) for e in imported} == {("quarantined", "default")}
    assert all(e.key != key for e in imported)
    assert (ask("a"), ask("b")) == ("computed a", "computed b")


IN_MEMORY = ExpPoolConfig(store="memory://", index="none://", embedder="none")
SOURCES = DATA / "sources"
ASKED, SAID = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
TOLD = {"sessionId": "s", "uuid": "u", "timestamp": "2026-01-02T03:04:05Z"}
USED = {"type": "tool_use", "id": "1", "name": "Bash", "input": {"command": "ls"}}
# By format: a whole file of it, of which some value is then another one.
WHOLE = {
    "jsonl": [
        {"id": "1", "function": "f", "arguments": {"q": "a"}, "request": "a", "response": [1], "scores": {"s": {"value": 1}}}
        | {"metadata": {"m": 1}, "trajectory": [{"plan": "p"}], "metric": {"time_s": 1}, "created_at": "2026-01-02T03:04:05Z"}
        | {"exp_pool": {"log": [{"what": "feedback", "id": "1", "at": "2026-01-02T03:04:05Z", "value": 1}], "is_current": False}}
    ],
    "metagpt": [{"req": [ASKED], "resp": "b", "tag": "f", "metric": {"score": {"val": 8, "reason": "r"}}, "traj": {"plan": "p"}}],
    "agentheaven": [{"func": "f", "inputs": {"a": 1}, "output": 1, "expected": 2, "metadata": {"m": 1}}],
    "openai": [json.loads(line) for line in (SOURCES / "openai.jsonl").read_text().splitlines()]
    + [{"messages": [ASKED, SAID]}, {"request": {"input": "a"}, "response": {"output": [{"type": "message", "content": []}]}}],
    "otel": [json.loads((SOURCES / "otel.jsonl").read_text()), json.loads((SOURCES / "openinference.json").read_text())],
    "mlflow": [json.loads(line) for line in (SOURCES / "mlflow.jsonl").read_text().splitlines()],
    "langsmith": [json.loads(line) for line in (SOURCES / "langsmith.jsonl").read_text().splitlines()],
    "langfuse": [
        {"id": "t", "name": "n", "input": "a", "output": "b", "scores": [{"name": "s", "value": 1, "observationId": "o"}]}
        | {"observations": [{"id": "o", "name": "c", "model": "m", "input": [ASKED], "output": SAID, "usageDetails": {"input": 1}}]}
    ],
    "claude-code": [
        {**TOLD, "type": "user", "message": {**ASKED}},
        {**TOLD, "type": "assistant", "message": {"content": [USED], "model": "m", "usage": {"input_tokens": 1}}},
        {**TOLD, "type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "1", "content": "c"}]}},
        {**TOLD, "type": "assistant", "message": {"content": [{"type": "text", "text": "b"}]}},
    ],
    "codex": [
        {**TOLD, "type": "session_meta", "payload": {"id": "s"}},
        {**TOLD, "type": "response_item", "payload": {"type": "message", "role": "user", "content": [{"text": "a"}]}},
        {**TOLD, "type": "response_item", "payload": {"type": "function_call", "name": "n", "arguments": "{}", "call_id": "1"}},
        {**TOLD, "type": "event_msg", "payload": {"type": "token_count", "info": {"last_token_usage": {"input_tokens": 1}}}},
        {**TOLD, "type": "response_item", "payload": {"type": "message", "role": "assistant", "content": [{"text": "b"}]}},
    ],
}  # fmt: skip
ODD = st.recursive(
    st.sampled_from(
        [None, True, -1, 0, 7, 2**70, 1e300, "", "a", "\ud800", "2026-01-02", "{}", "[1", '{"a": [{"b": 1}]}', "role"]
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "type", "$exp:set", "value"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def with_another(value, another, chance):
    """A copy in which some value, however deep, is another one, or gone."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inside = dict(inside)
    if not inside or chance.random() < 0.1:
        return another
    place = chance.choice(list(inside))
    if chance.random() < 0.1:
        del inside[place]
    else:
        inside[place] = with_another(inside[place], another, chance)
    return inside if isinstance(value, dict) else list(inside.values())


@pytest.mark.parametrize("format_", WHOLE)
@hypothesis.settings(max_examples=int(os.environ.get("EXP_POOL_FULL", 0)) * 2000 or 25)
@hypothesis.given(odd=st.lists(ODD, max_size=3), seed=st.integers(0, 2**32))
def test_whatever_stands_in_a_file_it_is_imported_or_said_or_a_typed_error(format_, odd, seed, tmp_path_factory):
    values, chance = WHOLE[format_], random.Random(seed)
    for another in odd:
        values = with_another(values, another, chance)
    values = values if isinstance(values, list) else [values]
    path = tmp_path_factory.getbasetemp() / f"{format_}.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    with ExpManager(IN_MEMORY) as manager:
        with contextlib.suppress(SourceError, InvalidInputError):
            report = importers.load(manager, path, format_, function="f", trust="trusted")
            assert report.stored + report.history == len(list(manager.sync.iter_exps(history=True)))
            assert odd or report.stored + report.history > 0
        for experience in manager.sync.iter_exps(history=True):
            manager.sync.history(experience.id)
            assert experience.origin == "imported"


def test_a_bomb_of_values_is_not_unpacked(tmp_path):
    """A page of one text, two thousand times: a small file, in memory it would have 8 GB, a batch of it 1 GB."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2_000), pyarrow.array(["x" * 2_000_000]))
    table = pyarrow.table({"function": pyarrow.array(["f"] * 2_000), "request": text, "response": text})
    parquet.write_table(table, tmp_path / "a.parquet", store_schema=False)
    assert (tmp_path / "a.parquet").stat().st_size < 2**20
    items = parquet_importer.items(ImportSource(tmp_path / "a.parquet"), ImportOptions(None))
    before = pyarrow.total_allocated_bytes()
    assert len([item for _, item in itertools.islice(items, 10) if len(item["response"]) == 2_000_000]) == 10
    assert pyarrow.total_allocated_bytes() - before < 100 * 2**20
