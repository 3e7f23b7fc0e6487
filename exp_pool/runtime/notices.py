"""Warnings for developers, each given once: a Python warning and a log line."""

from __future__ import annotations

import inspect
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from loguru import logger

from exp_pool.errors import ExpPoolWarning

_OWN = "exp_pool"
_IN_BETWEEN = {_OWN, "contextlib", "functools"}  # frames between the warning and the user's line
_CALLS_LATER = {"asyncio", "concurrent", "threading", "multiprocessing", "anyio", "uvloop", "queue"}


def log_with_trace(level: str, message: str, err: BaseException) -> None:
    """Log an error with its traceback, which is formatted only if a sink takes the line.

    Not loguru's own form, which may show the values of variables: requests and answers.

    Args:
        level: of the log line.
        message: what comes before the traceback.
        err: the error.
    """
    logger.opt(lazy=True, depth=1).log(
        level, "{}\n{}", lambda: message, lambda: "".join(traceback.format_exception(err))
    )


def warn(message: str, about: Callable[..., Any] | None = None) -> None:
    """Give a Python warning and a log line.

    The warning points at the user's line that led here: the first one outside this package. Where there is none,
    because a thread, an executor or an event loop called, it points at the function that it is about, and says so.

    Under ``-W error`` a warning is an exception; it must not fail the call that the pool stands in front of.

    Args:
        message: of the warning.
        about: the user's function that the warning is about, if there is one.
    """
    try:
        code = getattr(inspect.unwrap(about), "__code__", None) if about is not None else None
    except ValueError:  # wrappers that go in a circle
        code = None
    stacklevel = _users_line()
    if stacklevel is None and code is not None:
        message = f"{message} ({code.co_name} stands in {code.co_filename}:{code.co_firstlineno})"
    logger.warning("{}", message)
    try:
        if stacklevel is not None:
            warnings.warn(message, ExpPoolWarning, stacklevel=stacklevel)
        elif code is not None:
            warnings.warn_explicit(message, ExpPoolWarning, code.co_filename, code.co_firstlineno)
        else:
            warnings.warn_explicit(message, ExpPoolWarning, _OWN, 1)
    except ExpPoolWarning:
        logger.debug("warnings are errors here; the warning above was only logged")


def _users_line() -> int | None:
    """The `stacklevel`, for `warnings.warn` in `warn`, of the first line outside this package; None: there is none."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if root in _CALLS_LATER:
            return None
        if root not in _IN_BETWEEN:
            return level
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    return None


class Notices:
    """Remembers which warnings were given. Thread-safe: a set's ``add`` is, and warning twice would do no harm."""

    def __init__(self) -> None:
        self._topics: set[str] = set()

    def was_warned(self, topic: str) -> bool:
        """Whether this topic has been warned about."""
        return topic in self._topics

    def warn_once(self, topic: str, message: str, about: Callable[..., Any] | None = None) -> None:
        """Warn, unless this topic has been warned about.

        Args:
            topic: what is warned about once.
            message: see `warn`.
            about: see `warn`.
        """
        if topic not in self._topics:
            self._topics.add(topic)
            warn(message, about)
