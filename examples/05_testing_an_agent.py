"""Testing an agent without a model: record its answers once, replay them in every test run.

    python examples/05_testing_an_agent.py

The script writes a small project into a temporary folder and runs pytest there, as you would: once with
``--exp-pool=record``, then without, then with a changed prompt. In your project only the test file is needed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

AGENT = """
from exp_pool import exp_cache

@exp_cache
def complete(prompt: str, model: str = "small") -> str:
    print("the model is asked:", prompt)          # seconds and cents
    return f"{model} says: {len(prompt.split())} words"

def agent(task: str) -> str:
    plan = complete(f"Plan this: {task}")
    return complete(f"Carry out: {plan}")
"""

TEST = """
from agent import agent

def test_agent(exp_pool):                          # the fixture: a pool for this test
    assert agent("count to three") == "small says: 6 words"
    print("hits:", exp_pool.stats().hits)
"""


def pytest(folder: Path, *arguments: str) -> None:
    print(f"\n$ pytest {' '.join(arguments)}")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    shown = ("the model", "hits:", "ReplayMissError", "exp_pool.errors", "passed", "failed", "differs")
    print("\n".join(line[:200] for line in done.stdout.splitlines() if any(word in line for word in shown)))


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "agent.py").write_text(AGENT)
    (folder / "test_agent.py").write_text(TEST)
    pytest(folder, "--exp-pool=record")  # asks the model, and writes recordings/test_agent.db: commit that file
    pytest(folder)  # asks nobody
    (folder / "agent.py").write_text(AGENT.replace("Carry out", "Do"))
    pytest(folder)  # the prompt has changed: the test fails and says where
