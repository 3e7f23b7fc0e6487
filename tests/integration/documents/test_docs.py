"""What the documentation shows is what happens: each block runs as printed, alone, and its links lead somewhere.

A block that cannot run says why in a comment above it that readers do not see: ``<!-- fragment: REASON -->``.
A ``text`` block directly behind a ``python`` block is what that prints; ``...`` in it stands for anything.
"""

import ast
import contextlib
import io
import json
import re
import runpy
import shlex
import sys
import textwrap
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.paths import ROOT
from support.servers.models import ModelServer
from typer.testing import CliRunner

from exp_pool import Experience, ExpManager, Score, set_exp_manager, snapshots
from exp_pool.cli import app, output
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.experience import Metric
from exp_pool.errors import ExpPoolWarning

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- fragment:(?P<reason>[^>]*)-->\n)?```(?P<language>[^\n]*)\n(?P<code>.*?)^```\n", re.DOTALL | re.MULTILINE
)
STORED = [  # what the commands of the pages find
    ("5e80049b", "helpdesk.answer", "How do I reset my password?", "Call us.", 0.4, 400, 2.5),
    (
        "9519e23d",
        "helpdesk.answer",
        "My account is locked, what now?",
        "Wait ten minutes, then try again.",
        0.7,
        134,
        2.0,
    ),
    ("1794d78a", "helpdesk.answer", "Where can I download my invoices?", "Under Billing, at the bottom.", 0.9, 60, 0.0),
    ("922cfb5c", "helpdesk.answer", "Can I pay yearly?", "Yes: Billing, Plan, Yearly.", 0.85, 10, 0.0),
    ("bf0188f2", "planner.next_step", "Migrate the orders table", "Write the migration, then try it.", 0.8, 10, 22.3),
    ("0c41d7aa", "planner.next_step", "Translate the manual", "Ask which language.", None, 7, 0.0),
]


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    reason: str | None  # why it is a fragment
    prints: str  # the text block directly behind it

    def __str__(self):
        return f"{self.page.name}:{self.line}"


def _blocks(page):
    text = page.read_text()
    found = list(FENCE.finditer(text))
    for match, after in zip(found, [*found[1:], None], strict=False):
        follows = after and after["language"] == "text" and text[match.end() : after.start()] == "\n"
        yield Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=match["language"],
            code=match["code"],
            reason=match["reason"],
            prints=after["code"] if follows else "",
        )


BLOCKS = [block for page in PAGES for block in _blocks(page)]
PROSE = {page: FENCE.sub("", page.read_text()) for page in PAGES}


def of(language):
    whole = [block for block in BLOCKS if block.language == language and block.reason is None]
    return pytest.mark.parametrize("block", whole, ids=str)


def commands_of(block):
    """What is typed, and the lines that are shown below it."""
    for typed in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        line, *shown = typed.splitlines()
        yield shlex.split(line, comments=True), shown


def test_each_block_is_of_a_language_that_is_tried():
    assert {
        str(block): block.language
        for block in BLOCKS
        if block.language not in {"python", "text", "toml", "json", "console", "mermaid"}
    } == {}
    assert all(
        sum(block.language == language for block in BLOCKS) for language in ("python", "toml", "json", "console")
    )
    assert len(BLOCKS) == sum(page.read_text().count("\n```") for page in PAGES) / 2


def test_fragments_are_few_say_why_and_are_python():
    fragments = [block for block in BLOCKS if block.reason is not None]
    assert len(fragments) <= 12
    assert sum(page.read_text().count("<!-- fragment") for page in PAGES) == len(fragments)  # each stands above a block
    for block in fragments:
        assert block.language == "python" and block.reason.strip(), block
        compile(block.code, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.fixture
def openai_server(monkeypatch):
    """What a user's environment names: a key, and a server, which is on loopback here."""
    with contextlib.closing(ModelServer("openai", "gpt-4o-mini")) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.base}/v1")
        yield server


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # what is copied into a script ends with it
@of("python")
def test_python(block, tmp_path, openai_server):
    # Each has a name of its own: in one process two functions `app.ask` from different files do not share answers.
    script = tmp_path / f"{block.page.stem.replace('-', '_')}_{block.line}.py"
    script.write_text(block.code)
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ExpPoolWarning)
        names = runpy.run_path(str(script), run_name="__main__")
        set_exp_manager(None)
        for value in names.values():
            if isinstance(value, ExpManager):
                value.sync.close()
    pattern = ".*".join(map(re.escape, re.split(r"\.\.\.|(?<= )[\d.]+(?= s$)", block.prints, flags=re.MULTILINE)))
    assert [str(warning.message) for warning in warned if issubclass(warning.category, ExpPoolWarning)] == []
    assert re.fullmatch(pattern, printed.getvalue(), re.DOTALL), printed.getvalue()


@of("toml")
def test_settings(block):
    ExpPoolConfig(**tomllib.loads(block.code))


def test_an_unknown_setting_would_be_noticed():
    with pytest.raises(ValueError, match="stoer"):
        ExpPoolConfig(stoer="memory://")


@of("json")
def test_json(block):
    json.loads(block.code)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a pool, files of two nodes, and an application."""
    with ExpManager() as manager:
        manager.sync.create_exps([
            Experience(
                id=f"{id_:0>32}", function=function, request=request, response=response, access_count=used,
                metric=Metric(time_s=time_s), scores={"person": Score(value=score)} if score else {},
                **({"expected": "Yes."} if id_ == "922cfb5c" else {}),
            )
            for id_, function, request, response, score, used, time_s in STORED
        ])  # fmt: skip
        for node in ("node1", "node2"):
            snapshots.save(manager, node)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "agents.py").write_text(
        "from exp_pool import exp_cache\n\n\n@exp_cache\ndef ask(question: str) -> str:\n    return question\n"
    )
    (tmp_path / "calls.jsonl").write_text('"Who?"\n["Why?"]\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # to rich: it is a terminal
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(output.out, "_width", 80)
    yield tmp_path
    for name in ("app", "app.agents"):
        sys.modules.pop(name, None)


def is_understood(arguments):
    """Whether the command line knows the command and its options; nothing is done."""
    said = CliRunner().invoke(app, ["--help"] if arguments[0].startswith("-") else [*arguments, "--help"])
    return said.exit_code == 0 and (not arguments[0].startswith("-") or arguments[0] in said.output)


def targets():
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.slow
@of("console")
def test_commands(block, project):
    for (program, *arguments), shown in commands_of(block):
        if program == "make":
            assert set(arguments) <= set(targets())
            continue
        if program == "pip":
            continue  # needs a network
        assert program == "exp-pool"
        assert is_understood(arguments)
        if any("://" in argument and "@" in argument for argument in arguments):
            continue  # a server of the user's
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        if shown:
            assert [line.rstrip() for line in done.stdout.splitlines()] == shown


INLINE = [
    (page.name, shlex.split(command.split(" | ")[0]))
    for page, prose in PROSE.items()
    for command in re.findall(r"`exp-pool ([^`]+)`", prose)
]


@pytest.mark.parametrize(("page", "arguments"), INLINE)
def test_commands_in_a_line_are_understood(page, arguments):
    assert is_understood(arguments)


def test_commands_that_are_none_are_not_understood():
    assert not is_understood(["lst"])
    assert not is_understood(["list", "--wehre", "{}"])
    assert not is_understood(["--instal-completion"])


def test_what_make_is_told_is_in_the_makefile():
    told = {target for prose in PROSE.values() for target in re.findall(r"`make ([a-z-]+)", prose)}
    assert told
    assert told <= set(targets())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_command_has_one_name(page):
    assert (
        re.findall(
            r"(?:\$ |`)(?:python -m exp_pool|exp_pool [a-z]+).*",
            page.read_text().replace("`exp-pool`, or `python -m exp_pool`", ""),
        )
        == []
    )


def test_what_pip_is_told_is_in_the_package():
    told = {
        extra
        for page in PAGES
        for extras in re.findall(r"exp_pool\[([a-z0-9,-]+)\]", page.read_text())
        for extra in extras.split(",")
    }
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert told
    assert told <= set(extras)


def headings(page):
    """The anchors of a page, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "tests" / "reliability" / "README.md"], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in PAGES if page.parent.name == "docs" and f"]({page.name}" not in index] == [
        "README.md"
    ]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_lines_of_prose_are_at_most_120_characters(page):
    prose = re.sub(r"^```.*?^```\n", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_what_a_block_imports_is_there(block):
    """Of fragments, too, which are not run."""
    code = f"async def block():\n{textwrap.indent(block.code, '    ')}"  # some await
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("exp_pool"):
            names = ", ".join(name.name for name in node.names)
            exec(f"from {node.module} import {names}", {})
