"""Subscription to a server's notifications of changed keys, on a thread of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TypeAlias

from loguru import logger

from exp_pool.runtime.forks import reset_in_child

News: TypeAlias = Callable[[float], Iterable[str]]
"""Waits at most so many seconds for messages; raises where the server is away."""

_LOOK_S = 1.0  # without a message: whether the server is still there
_RETRY_S = 1.0
_MAX_BYTES = 7000  # PostgreSQL takes messages of less than 8000


def message(namespace: str, keys: Sequence[str]) -> str:
    """The notification of changed keys; it names the whole namespace where no keys are given, or too many."""
    text = json.dumps([namespace, *keys])
    return text if keys and len(text) <= _MAX_BYTES else json.dumps([namespace])


class Listener:
    """One subscription; a forked child has none.

    Args:
        subscribe: a block within which messages can be waited for.
        heard: called with a namespace and the keys that changed, None: any of them.
        listening: called with True from when on nothing is missed, with False when something may have been.
    """

    def __init__(
        self,
        subscribe: Callable[[], AbstractContextManager[News]],
        heard: Callable[[str, Sequence[str] | None], object],
        listening: Callable[[bool], object],
    ) -> None:
        self._subscribe = subscribe
        self._heard = heard
        self._listening = listening
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="exp_pool-listener", daemon=True).start()
        reset_in_child(self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        self._listening(False)

    def stop(self) -> None:
        """Unsubscribe; the thread ends within a second."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._subscribe() as news:
                    self._listening(True)
                    while not self._stopped.is_set():
                        for text in news(_LOOK_S):
                            self._tell(text)
            except Exception as err:  # whatever the driver raises
                logger.debug("changes of other processes are not heard: {}", err)
            with suppress(Exception):
                self._listening(False)
            self._stopped.wait(_RETRY_S)

    def _tell(self, text: str) -> None:
        try:
            namespace, *keys = json.loads(text)
        except (ValueError, TypeError):
            logger.warning("somebody else writes to the channel of this pool: {!r:.80}", text)
            return
        self._heard(namespace, keys or None)
