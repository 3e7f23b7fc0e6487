"""Where the repository, its tests and their data lie, so that no test counts the folders above itself."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
DATA = TESTS / "data"
