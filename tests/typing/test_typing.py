"""Type checkers see the original signature."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("checker", [["mypy", "--strict", "--warn-unused-ignores"], ["pyright"]], ids=["mypy", "pyright"])  # fmt: skip
def test_signatures(checker):
    command = [sys.executable, "-m", *checker, str(HERE / "signatures.py")]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert checked.returncode == 0, checked.stdout + checked.stderr
