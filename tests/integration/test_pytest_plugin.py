"""The pytest plugin, in pytest runs of their own, as a user's would be."""

import os
import subprocess
import sys

import pytest

AGENT = """
from exp_pool import exp_cache

runs = []

@exp_cache
def ask(question, model="small"):
    runs.append(question)
    return f"{model}: {question.upper()}"
"""

TEST = """
import agent

def test_agent(exp_pool):
    assert agent.ask("hi") == "small: HI"
    assert agent.ask("hi") == "small: HI"
    print("RUNS", len(agent.runs))
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "test_agent.py").write_text(TEST)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}

    def pytest_(*arguments):
        command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120)

    return pytest_


def test_record_then_replay_then_a_miss_that_explains_itself(run, tmp_path):
    missing = run()
    assert missing.returncode == 1
    assert "ReplayMissError" in missing.stdout
    assert "nothing is stored for it" in missing.stdout
    assert "RUNS" not in missing.stdout

    recorded = run("--exp-pool=record")
    assert "exp_pool: record" in recorded.stdout
    assert "RUNS 1" in recorded.stdout
    recording = tmp_path / "recordings" / "test_agent.db"
    content = recording.read_bytes()

    replayed = run()
    assert replayed.returncode == 0
    assert "RUNS 0" in replayed.stdout
    assert recording.read_bytes() == content, "replaying changes nothing"
    assert sorted(path.name for path in recording.parent.iterdir()) == ["test_agent.db"], "to be committed"

    (tmp_path / "test_agent.py").write_text(TEST.replace('ask("hi")', 'ask("hi", model="large")'))
    changed = run()
    assert 'differs in model: "large" here, "small" there' in changed.stdout

    off = run("--exp-pool=off")
    assert "RUNS 0" not in off.stdout
    assert recording.read_bytes() == content


def test_the_help_says_what_the_modes_are(run):
    assert "replay recorded answers" in run("--help").stdout
    assert "invalid choice" in run("--exp-pool=sometimes").stderr
