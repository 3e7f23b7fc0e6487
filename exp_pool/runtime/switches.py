"""Switches of a pool: whether it is open, enabled, readable, writable, replaying."""

from __future__ import annotations

from exp_pool.errors import ClosedError, ReadOnlyError
from exp_pool.runtime.call_context import Access, current_access

CLOSED = (
    "the manager was closed: open it again with `with manager:` or `async with manager:`, or make a new one; of "
    "get_exp_manager(), set_exp_manager(None) makes the next use open a new one"
)


class PoolSwitches:
    """The switches of one pool. Each may be set at any time, and holds from the next call on.

    Args:
        enabled: see the attribute.
        read: whether calls are answered.
        write: whether answers are stored, and people may add, change and delete.

    Attributes:
        enabled: the main switch: off, every call runs the function, and nothing is stored, by calls or by hand.
        replay: whether a call that the pool cannot answer raises an error instead of running the function.
        replay_remedy: what that error says is to be done.
        keeps_forever: whether answers are stored to be given for ever, whatever the function's ttl and `min_score`.
        replaced_by: what stands in for this pool at present, for the error of those who use it; ``""``: nothing.
        at_exit: whether it was closed by the end of the process: then calls run uncached, without an error.
    """

    def __init__(self, *, enabled: bool, read: bool, write: bool) -> None:
        self.enabled, self._reads, self._writes = enabled, read, write
        self.replay = False
        self.replay_remedy = "record it first"
        self.keeps_forever = False
        self._closed = False
        self.replaced_by = ""
        self.at_exit = False

    @property
    def is_readable(self) -> bool:
        """Whether calls are answered from the pool. Off, queries still find what is stored."""
        return self.enabled and self._reads and not self._closed

    @is_readable.setter
    def is_readable(self, value: bool) -> None:
        self._reads = value

    @property
    def is_writable(self) -> bool:
        """Whether answers are stored, and people may add, change and delete."""
        return self.enabled and self._writes and not self._closed

    @is_writable.setter
    def is_writable(self, value: bool) -> None:
        self._writes = value

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def copy_from(self, before: PoolSwitches) -> None:
        """Set the switches as they are in the pool that this one replaces."""
        self.enabled, self._reads, self._writes = before.enabled, before._reads, before._writes
        self.replay, self.replay_remedy = before.replay, before.replay_remedy
        self.keeps_forever = before.keeps_forever

    def access(self) -> Access:
        """Whether a call made here may read and write: by these switches, and by `bypass` around the call.

        Raises:
            ClosedError: the pool is closed, and the call might read or write otherwise.
        """
        around = current_access()
        reads, writes = self.enabled and self._reads and around.read, self.enabled and self._writes and around.write
        if self._closed and (reads or writes):
            if not self.at_exit:
                raise ClosedError(CLOSED)
            reads = writes = False
        return Access(reads, writes)

    def why_unanswered(self) -> str | None:
        """Why calls made here are not answered from the pool; None: they are."""
        if self._closed:
            return CLOSED
        if not self.enabled:
            return "the pool is switched off (enabled=False)"
        if not self._reads:
            return "the pool answers no calls (is_readable=False)"
        return None if current_access().read else "it is made inside `with bypass():`"

    def check_open(self) -> None:
        """Check that the pool is open.

        Raises:
            ClosedError: it was closed, or something else stands in for it.
        """
        if self._closed or self.replaced_by:
            raise ClosedError(self.replaced_by or CLOSED)

    def check_writable(self) -> None:
        """Check that people may add, change and delete.

        Raises:
            ClosedError: the pool is closed.
            ReadOnlyError: a switch forbids it.
        """
        self.check_open()
        if not self.is_writable:
            switch = "is_writable" if self.enabled else "enabled"
            raise ReadOnlyError(
                f"this manager stores and deletes nothing while {switch} is off: set manager.{switch} = True, or look "
                f"at the setting {'enable_write' if self.enabled else 'enabled'}"
            )
