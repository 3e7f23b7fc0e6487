"""Ownership of snapshot files: a pool replaces only files that it saved or loaded as they are.

They are known by their content, not by a mark in the folder: folders are copied, moved and put together by hand, and
two pools that save into one would each find the other's mark. A pool that lost its memory (a new process with
``memory://``) loads the folder first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exp_pool.core.contracts.rows import State
from exp_pool.errors import ConfigurationError, StoreError
from exp_pool.snapshots import files

if TYPE_CHECKING:
    from exp_pool.api.pool import Pool

_STATE = "snapshots:files"
_REMEMBERED = 10_000  # files, the newest: 200 KB; more only where one save wrote more
_TRIES = 5  # while other processes remember theirs


def check_replaceable(pool: Pool, root: Path, there: Iterable[Path], coming: Sequence[files.Staged]) -> None:
    """Refuse to replace files whose content this pool does not have.

    Args:
        pool: which remembers what it saved and loaded.
        root: the folder.
        there: its files.
        coming: the files that replace them.

    Raises:
        ConfigurationError: there are such files; it names one.
    """
    known = {*_digests(pool.store.read_state(pool.namespace, _STATE)), *(each.digest for each in coming)}
    strange = [path for path in there if not path.is_symlink() and files.digest(path) not in known]
    if strange:
        raise ConfigurationError(
            f"{root} holds {len(strange):,} files that this pool neither saved nor loaded as they are, such as "
            f"{strange[0]}, and they would be lost. Load them first (all of them: not incremental), or name another "
            "folder"
        )


def remember_files(pool: Pool, digests: Sequence[str]) -> None:
    """Remember files that were loaded, or are about to be written.

    Raises:
        StoreError: the store failed, or others write the same state all the time.
    """
    named = dict.fromkeys(digests)
    for _ in range(_TRIES):
        state = pool.store.read_state(pool.namespace, _STATE)
        known = _digests(state)
        # Those named again are the newest, or a folder that never changes would be forgotten for others.
        kept = [digest for digest in known if digest not in named] + list(named)
        if len(kept) == len(known) < _REMEMBERED:
            return
        text = json.dumps(kept[-max(_REMEMBERED, len(named)) :], separators=(",", ":"))
        if pool.store.write_state(pool.namespace, _STATE, text, state.revision if state else None):
            return
    raise StoreError(f"the state {_STATE!r} is being written by others all the time; try again")


def _digests(state: State | None) -> list[str]:
    return list(json.loads(state.value)) if state else []
