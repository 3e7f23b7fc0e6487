"""What a developer must act on is said once: a Python warning, and a log line for those who read logs."""

from __future__ import annotations

import traceback
import warnings

from loguru import logger

from exp_pool.errors import ExpPoolWarning


def log_with_trace(level: str, message: str, err: BaseException) -> None:
    """Log where an error came from, formatted only if somebody listens.

    Not loguru's own form, which may show the values of variables: requests and answers.
    """
    logger.opt(lazy=True, depth=1).log(
        level, "{}\n{}", lambda: message, lambda: "".join(traceback.format_exception(err))
    )


def warn(message: str, *, stacklevel: int = 2) -> None:
    """A Python warning and a log line.

    Under ``-W error`` a warning is an exception; it must not fail the call that the pool stands in front of.
    """
    logger.warning("{}", message)
    try:
        warnings.warn(message, ExpPoolWarning, stacklevel=stacklevel + 1)
    except ExpPoolWarning:
        logger.debug("warnings are errors here; the warning above was only logged")


class Notices:
    """Remembers what has been said. Thread-safe: a set's ``add`` is, and saying a thing twice would do no harm."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def said(self, topic: str) -> bool:
        """Whether this topic has been warned about."""
        return topic in self._said

    def once(self, topic: str, message: str, *, stacklevel: int = 2) -> None:
        """Warn, unless this topic has been warned about."""
        if topic not in self._said:
            self._said.add(topic)
            warn(message, stacklevel=stacklevel + 1)
