"""What the README shows is what happens."""

import re
import subprocess
import sys

import pytest
from support.paths import ROOT

README = ROOT / "README.md"


@pytest.mark.slow
def test_its_code_prints_what_it_says(tmp_path):
    text = README.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (expected,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    (tmp_path / "app.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0)
    assert (tmp_path / ".exp_pool" / "pool.db").exists()


def test_it_is_short():
    assert len(README.read_text().splitlines()) < 160
