"""Pytest plugin: agents are tested against recorded answers, without a model.

The fixture ``exp_pool`` takes over every manager for one test. ``pytest --exp-pool=record`` runs the
functions and records their answers beside the test file; from then on they are replayed, and a call that was not
recorded is an error which says how it differs from the nearest one that was. ``--exp-pool=off`` runs everything live.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager

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
    """Mode, where it is not the default."""
    mode = config.getoption("--exp-pool")
    return None if mode == "replay" else f"exp_pool: {mode}"


@pytest.fixture
def exp_pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExpManager]:
    """Decorated functions answer from recordings during one test, whichever manager they belong to.

    What every manager of this process reads and writes meanwhile, those made during the test too, is one file for each
    test file: the recording, or, to replay, a copy of it, so that it changes only when it is recorded. The fixture is
    the manager of functions that name none.
    """
    from exp_pool.api.current import current
    from exp_pool.api.manager import ExpManager
    from exp_pool.api.registry import open_store
    from exp_pool.core.config import ExpPoolConfig
    from exp_pool.testing.store_takeover import TakenOver

    mode = request.config.getoption("--exp-pool")
    recording = request.path.parent / request.config.getini("exp_pool_recordings") / f"{request.path.stem}.db"
    if mode == "record":
        recording.parent.mkdir(parents=True, exist_ok=True)  # a folder that the store makes keeps itself out of git
        url = f"sqlite:///{recording}"
    elif mode == "replay" and recording.exists():
        # The content alone: a recording may be read-only, as in a checkout that nobody may change.
        url = f"sqlite:///{shutil.copyfile(recording, tmp_path / 'exp_pool.db')}"
    else:
        url = "memory://"
    remedy = f"record it: pytest --exp-pool=record {shlex.quote(_test_id(request))}"
    store = open_store(url, ExpPoolConfig(store=url))
    taken_over = TakenOver(store, url, replay=mode == "replay", read=mode != "off", remedy=remedy)
    with taken_over, ExpManager(namespace="default", require_namespace=False) as manager:
        current.put(manager, given=True)
        yield manager


def _test_id(request: pytest.FixtureRequest) -> str:
    """Test id as pytest would take it in the folder where it was started."""
    _, separator, name = request.node.nodeid.partition("::")
    return f"{os.path.relpath(request.path, request.config.invocation_params.dir)}{separator}{name}"
