"""Nos. 1, 4 and 5 of the plan, on SQLite and Chroma together: kills at random and at the worst instants, and damage.

Four writers store and index until they are killed; then the next process opens the pool, answers at once, has every
acknowledged row, and an index that holds exactly the current ones. Then twelve kinds of damage to the index's folder,
and random ones, also as a kill leaves them: nobody dies of it, and what is found is what brute force finds.
"""

import os
import tempfile
from pathlib import Path

import pytest
from support.children import told_by

FULL = os.environ.get("EXP_POOL_FULL") == "1"


@pytest.fixture
def place():
    """Where another user can go, too: what pytest makes is for one only."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run(what, place, count, seed, rows, *index):
    script = Path(__file__).with_name("index_rounds.py")
    rounds, trouble = told_by(script, what, str(place), str(count), str(seed), str(rows), *index, cwd=place)
    assert len(rounds) == count
    assert [each["wrong"] or f"lost {each['lost']}" for each in rounds if each["wrong"] or each["lost"]] == [], trouble
    return rounds


@pytest.mark.timeout(900)
def test_killed_writers_lose_nothing_and_the_next_process_opens_it(place):
    rounds = run("kill", place, 25 if FULL else 2, 7, 6000 if FULL else 300)
    if FULL:  # else nothing was shown: kills have to hit while Chroma writes
        assert sum(each["repaired"] for each in rounds) >= 1


@pytest.mark.timeout(600)
def test_killed_writers_over_milvus_lite_lose_nothing(place, milvus_lite):
    rounds = run("kill", place, 10 if FULL else 2, 7, 300, "milvus")
    assert sum(each["repaired"] for each in rounds) == len(rounds)  # what a kill left is built anew


@pytest.mark.timeout(600)
def test_a_damaged_index_kills_nobody_and_is_built_anew(place):
    rounds = run("damage", place, 40 if FULL else 14, 1, 300)
    kinds = {each["kind"] for each in rounds}
    assert len(kinds) == 12
    assert sum(each["repaired"] for each in rounds) >= 9
