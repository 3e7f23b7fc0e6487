"""A pytest plugin: agents are tested against recorded answers, without a model.

The fixture ``exp_pool`` is a manager that decorated functions use for one test. ``pytest --exp-pool=record`` runs the
functions and records their answers beside the test file; from then on they are replayed, and a call that was not
recorded is an error which says how it differs from the nearest one that was. ``--exp-pool=off`` runs everything live.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from exp_pool.manager import ExpManager

_MODES = ("replay", "record", "off")
_FOLDER = "recordings"


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--exp-pool`` and the setting ``exp_pool_recordings``."""
    parser.getgroup("exp_pool").addoption(
        "--exp-pool",
        choices=_MODES,
        default="replay",
        help="decorated functions in tests that use the exp_pool fixture: replay recorded answers (default; a call "
        "that was not recorded is an error), record what is missing, or off (run everything, record nothing)",
    )
    parser.addini(
        "exp_pool_recordings", f"folder of the recordings, beside each test file (default: {_FOLDER})", default=_FOLDER
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    """The mode, where it is not the usual one."""
    mode = config.getoption("--exp-pool")
    return None if mode == "replay" else f"exp_pool: {mode}"


@pytest.fixture
def exp_pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExpManager]:
    """The process's manager during one test. Its pool is one file for each test file.

    Replaying works on a copy, so that the recording changes only when it is recorded.
    """
    from exp_pool.current import current
    from exp_pool.manager import ExpManager

    mode = request.config.getoption("--exp-pool")
    recording = request.path.parent / request.config.getini("exp_pool_recordings") / f"{request.path.stem}.db"
    if mode == "record":
        recording.parent.mkdir(parents=True, exist_ok=True)  # a folder that the store makes keeps itself out of git
        store = f"sqlite:///{recording}"
    elif mode == "replay" and recording.exists():
        store = f"sqlite:///{shutil.copy(recording, tmp_path / 'exp_pool.db')}"
    else:
        store = "memory://"
    with ExpManager(store=store, index="none://", embedder="none", namespace="tests") as manager:
        manager.enabled = mode != "off"
        manager.replay = mode == "replay"
        manager.is_writable = mode == "record"
        before = current.replace(manager)
        try:
            yield manager
        finally:
            current.replace(before)
