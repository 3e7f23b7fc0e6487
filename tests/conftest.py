"""What every test gets: no model hub, a working directory of its own, no manager left over from another test."""

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import questions
from support.servers import without

pytest_plugins = ["support.servers.fixtures", "support.outside"]

os.environ["HF_HUB_OFFLINE"] = "1"

hypothesis.settings.register_profile(
    "patient", deadline=None, derandomize=True
)  # no time limit on a busy machine; the same examples each time
hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(items):
    if nameless := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"workers must find the same names of tests: give ids= to {nameless[0]}")


@pytest.fixture(autouse=True)
def _own_world(tmp_path, monkeypatch):
    from exp_pool import set_exp_manager

    for name in [
        name for name in os.environ if name.startswith("EXP_POOL_") and "TEST" not in name and "REQUIRE" not in name
    ]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    set_exp_manager(None)
    yield
    set_exp_manager(None)


def letters(texts):
    """A tiny deterministic embedder: how often each letter occurs. Says nothing about meaning."""
    vectors = np.zeros((len(texts), 27), dtype=np.float32)
    for row, text in enumerate(texts):
        vectors[row, 26] = 0.1  # no text is nowhere
        for letter in text.lower():
            if "a" <= letter <= "z":
                vectors[row, ord(letter) - ord("a")] += 1
    return vectors


@pytest.fixture
def embedder():
    return letters


@pytest.fixture
def make_manager(tmp_path):
    """Managers that are closed when the test ends; by default in memory, exact scan, the tiny embedder."""
    from exp_pool import ExpManager

    made = []

    def make(**settings):
        made.append(ExpManager(**{"store": "memory://", "index": "exact://", "embedder": letters, **settings}))
        return made[-1]

    yield make
    for manager in made:
        manager.sync.close()


def large_data(name):
    """A file of the folder that EXP_POOL_TEST_DATA names: an addition, without which every guarantee is tested, too."""
    path = Path(os.environ.get("EXP_POOL_TEST_DATA", "")) / name
    if "EXP_POOL_TEST_DATA" not in os.environ:
        without(f"no {name}: EXP_POOL_TEST_DATA names the folder that holds it")
    if not path.exists():
        without(f"no {path}")
    return path


@pytest.fixture(scope="session")
def question_pairs():
    """(a, b, same) of 20,000 labelled questions that people have asked; the clone's own are in `questions`."""
    large_data(questions.LARGE)
    return questions.large_pairs()
