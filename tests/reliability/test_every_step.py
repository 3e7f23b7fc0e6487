"""No. 3 of the plan: a process dies after any step of any operation, and the next one finds what was promised.

After opening and `flush`, the searchable ids are exactly those of the current, trusted rows, the index holds exactly the
current ones, what was acknowledged is there or gone, and no byte of what was erased is left.
"""

import os
from pathlib import Path

import pytest
from support.children import told_by

FULL = os.environ.get("EXP_POOL_FULL") == "1"
STRIDE = 1 if FULL else 23
LEAST_STEPS = {  # a step that is not counted any more would go unnoticed
    "create": 45,
    "update": 20,
    "delete": 40,
    "evict": 12,
    "erase": 40,
    "clear": 110,
    "rebuild": 24,
    "close": 20,
    "migrate": 45,
    "restore": 45,
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("operation", LEAST_STEPS)
def test_whatever_step_is_the_last_the_next_process_finds_what_was_promised(operation, tmp_path):
    script = Path(__file__).with_name("every_step.py")
    tries, trouble = told_by(script, operation, str(tmp_path), str(STRIDE))
    assert [each for each in tries if each["wrong"]] == [], trouble
    assert tries[-1]["status"] == 0, trouble
    assert tries[-1]["step"] >= LEAST_STEPS[operation]
