"""Type checkers see the original signature."""

import subprocess
import sys

import pytest
from support.paths import ROOT, TESTS

HERE = TESTS / "typing"


@pytest.mark.slow
@pytest.mark.parametrize("checker", [["mypy", "--strict", "--warn-unused-ignores"], ["pyright"]], ids=["mypy", "pyright"])  # fmt: skip
def test_signatures(checker):
    command = [sys.executable, "-m", *checker, str(HERE / "signatures.py")]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert checked.returncode == 0, checked.stdout + checked.stderr
