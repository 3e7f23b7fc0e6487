"""What a pool lets calls and people do: its switches, and whether it is open at all."""

from __future__ import annotations

from exp_pool.errors import ClosedError, ReadOnlyError
from exp_pool.runtime.call_context import Access, current_access

CLOSED = (
    "the manager was closed: open it again with `with manager:` or `async with manager:`, or make a new one; of "
    "get_exp_manager(), set_exp_manager(None) makes the next use open a new one"
)


class PoolSwitches:
    """The switches of one pool; each may be set at any time, and counts from the next call on.

    Attributes:
        enabled: the main switch: off, every call runs the function, and nothing is stored, by calls or by hand.
        replay: whether a call that the pool cannot answer is an error instead of running.
        remedy: what to do then, for the error.
        recording: whether what is stored is to answer for ever, whatever its function's ttl and `min_score`.
    """

    def __init__(self, *, enabled: bool, read: bool, write: bool) -> None:
        self.enabled, self._reads, self._writes = enabled, read, write
        self.replay = False
        self.remedy = "record it first"
        self.recording = False
        self._closed = False
        self.aside = ""  # what stands in its place for the time being
        self.at_exit = False  # closed by the end of the process: nobody is to be told

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
        """Take over the switches of a pool that this one is in the place of."""
        self.enabled, self._reads, self._writes = before.enabled, before._reads, before._writes
        self.replay, self.remedy, self.recording = before.replay, before.remedy, before.recording

    def switches(self) -> Access:
        """Whether this call may read and write, by these switches and by what surrounds the call.

        Raises:
            ClosedError: it might, but for being closed.
        """
        around = current_access()
        reads, writes = self.enabled and self._reads and around.read, self.enabled and self._writes and around.write
        if self._closed and (reads or writes):
            if not self.at_exit:
                raise ClosedError(CLOSED)
            reads = writes = False
        return Access(reads, writes)

    def why_unanswered(self) -> str | None:
        """Why no call at all is answered from the pool now; None: calls are."""
        if self._closed:
            return CLOSED
        if not self.enabled:
            return "the pool is switched off (enabled=False)"
        if not self._reads:
            return "the pool answers no calls (is_readable=False)"
        return None if current_access().read else "it is made inside `with bypass():`"

    def check_open(self) -> None:
        """See that it is.

        Raises:
            ClosedError: it is not.
        """
        if self._closed or self.aside:
            raise ClosedError(self.aside or CLOSED)

    def check_writable(self) -> None:
        """See that people may add, change and delete.

        Raises:
            ClosedError: it is closed.
            ReadOnlyError: they may not.
        """
        self.check_open()
        if not self.is_writable:
            switch = "is_writable" if self.enabled else "enabled"
            raise ReadOnlyError(
                f"this manager stores and deletes nothing while {switch} is off: set manager.{switch} = True, or look "
                f"at the setting {'enable_write' if self.enabled else 'enabled'}"
            )
