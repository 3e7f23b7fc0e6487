"""The context of a call: the blocks `in_namespace` and `bypass` around it.

They rest on a context variable, so a task gets the blocks around the line that made it, and a thread gets none unless
`carry` takes them there. Context variables are wrong about generators: one that is suspended inside a block leaves the
block in its caller's context, and two generators that take turns would find each other's. So a block that a generator
entered belongs to that generator:

- What the generator runs is inside its block, whoever asks for the next item, and on whichever thread.
- While it is suspended its caller is inside, too: this is what makes ``@contextmanager`` and fixtures work.
- Where two suspended generators have the caller in different namespaces, which one is meant cannot be known: asking for
  the namespace raises an error.
- In whatever order and context blocks are left, none is left behind.
"""

from __future__ import annotations

import contextvars
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar, Token
from dataclasses import dataclass
from functools import wraps
from types import FrameType, TracebackType
from typing import ParamSpec, TypeVar

from exp_pool.errors import ConfigurationError, InvalidInputError, NamespaceError

P = ParamSpec("P")
R = TypeVar("R")

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@dataclass(frozen=True, slots=True)
class Access:
    """Whether a call may read the pool, and write to it."""

    read: bool = True
    write: bool = True


class _Generator:
    """Stands for a generator that has entered blocks. Contexts live long, so they hold this and not its frame."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: tuple[_Entry, ...] = ()


class _Entry:
    """One entering of one block."""

    __slots__ = ("block", "by", "left_elsewhere", "order", "token", "within")

    def __init__(self, block: Block, by: _Generator | None, within: _Generator | None) -> None:
        self.block = block
        self.order = next(_order)
        self.by = by  # the generator that entered it, if one did
        self.within = within  # the one on whose behalf that ran
        self.token: Token[CallContext] | None = None
        self.left_elsewhere = False  # in another context, so that its own still holds it


class CallContext:
    """All blocks around a call, the innermost last.

    Args:
        entries: the blocks.
        known: whether the call is known to be in all of them; else suspended generators may have left some here.
    """

    __slots__ = ("access", "entries", "lets_read", "namespace", "unclear")

    def __init__(self, entries: tuple[_Entry, ...], *, known: bool = False) -> None:
        self.entries = entries
        naming = [entry for entry in entries if entry.block.namespace is not None]
        self.namespace = naming[-1].block.namespace if naming else None
        self.access = Access(all(e.block.read for e in entries), all(e.block.write for e in entries))
        self.unclear = () if known else _rivals(naming)
        self.lets_read = self.access.read and not self.unclear


def _rivals(naming: list[_Entry]) -> tuple[str, ...]:
    """Namespaces of suspended generators that are not inside each other: which of them is meant cannot be known."""
    suspended: list[_Entry] = []
    for entry in naming:  # a block that no generator entered is around what runs now, and inside all blocks before it
        suspended = [*suspended, entry] if entry.by is not None else []
    if len(suspended) < 2:  # noqa: PLR2004
        return ()
    innermost = suspended[-1]
    outer = {innermost.by}
    for entry in reversed(suspended):
        if entry.by in outer:
            outer.add(entry.within)
    found = [e.block.namespace or "" for e in suspended if e.by not in outer]
    rivals = dict.fromkeys(name for name in found if name != innermost.block.namespace)
    return (*rivals, innermost.block.namespace or "") if rivals else ()


_order = itertools.count()
_NOTHING = CallContext(())
_around: ContextVar[CallContext] = ContextVar("exp_pool_around", default=_NOTHING)
_generators: dict[FrameType, _Generator] = {}  # by frame, while the generator is in a block
_some_left_elsewhere = False


class Block:
    """A block that is entered by ``with``; or a decorator that puts a function's calls inside the block.

    Args:
        said: the code that makes it, for errors and `repr`.
        namespace: see the attribute.
        read: see the attribute.
        write: see the attribute.

    Attributes:
        namespace: the namespace of calls inside; None: the block sets none.
        read: whether calls inside may read the pool.
        write: whether calls inside may write to the pool.
    """

    def __init__(self, said: str, namespace: str | None = None, *, read: bool = True, write: bool = True) -> None:
        self._said = said
        self.namespace, self.read, self.write = namespace, read, write
        self._open: list[_Entry] = []

    def __enter__(self) -> None:
        frame, behalf = _entering()
        by = None if frame is None else _generators.setdefault(frame, _Generator())
        entry = _Entry(self, by, behalf)
        if by is not None:
            by.entries = (*by.entries, entry)
        self._open.append(entry)
        entry.token = _around.set(CallContext((*_around.get().entries, entry)))

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        here = _around.get()
        entry = next((e for e in reversed(here.entries) if e.block is self), self._open[-1])
        self._open.remove(entry)
        _leave(entry, here)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, each call of which is inside the block."""
        later = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        if any(is_later(function) for is_later in later):
            raise ConfigurationError(
                f"@{self._said} would end before {function!r} begins: write `with {self._said}:` inside of it"
            )

        @wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> R:
            with Block(self._said, self.namespace, read=self.read, write=self.write):
                return function(*args, **kwargs)

        return inside

    def __repr__(self) -> str:
        return self._said


def in_namespace(namespace: str) -> Block:
    """Calls and queries inside belong to this namespace, whatever the decorator or the manager says.

    Tasks that are made inside belong to it, too; threads do not by themselves: see `carry`.

    Raises:
        InvalidInputError: the name is empty or no text.
    """
    if not isinstance(namespace, str) or not namespace:
        raise InvalidInputError(f"in_namespace({namespace!r}): the name of a namespace is text, not empty")
    return Block(f"in_namespace({namespace!r})", namespace)


def bypass(*, read: bool = True, write: bool = True) -> Block:
    """Decorated calls inside skip the pool's reading, its writing, or both.

    ``bypass(write=False)`` runs the function and stores its answer; ``bypass(read=False)`` answers but stores nothing.
    """
    return Block(f"bypass(read={read!r}, write={write!r})", read=not read, write=not write)


def current_context() -> CallContext:
    """The blocks around this call. Each local hit asks: without generators it costs one context variable."""
    if _generators or _some_left_elsewhere:
        generator = _running(sys._getframe(1))  # noqa: SLF001
        return _tidied(_around.get()) if generator is None else _inside(generator)
    return _around.get()


def current_access() -> Access:
    """Whether the blocks around this call let it read and write."""
    return current_context().access


def current_namespace() -> str | None:
    """The namespace of the innermost block around this call; None where no block sets one.

    Raises:
        NamespaceError: suspended generators left several, and which one is meant cannot be known.
    """
    around = current_context()
    if around.unclear:
        names = " and ".join(map(repr, around.unclear))
        raise NamespaceError(
            f"generators that are suspended inside `with in_namespace(...)` have this code in {names}, and which of "
            "them is meant cannot be known: leave the block before each `yield`, or name the namespace here"
        )
    return around.namespace


def copy_context() -> Context:
    """A copy of this context for another thread or task, with the blocks around this line."""
    context = contextvars.copy_context()
    if _generators and (generator := _running(sys._getframe(1))) is not None:  # noqa: SLF001
        context.run(_around.set, _inside(generator))  # there the generator is not to be seen
    return context


def leave_all_blocks() -> None:
    """Take all blocks off this context."""
    _around.set(_NOTHING)


def _in_child() -> None:
    """Take all blocks off a process that `multiprocessing` has forked, as it has none if it is spawned.

    Else a worker of a process pool that is forked inside a block would be in that namespace for ever. A process forked
    by `os.fork` stays inside the block.
    """
    _generators.clear()
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None:
        if str(frame.f_globals.get("__name__")).endswith(".popen_fork"):
            leave_all_blocks()
            return
        frame = frame.f_back


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _entering() -> tuple[FrameType | None, _Generator | None]:
    """The frame of the generator that enters a block, and the generator that this one runs for; None: there is none."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    while frame is not None and _of_contextlib(frame):  # ExitStack
        frame = frame.f_back
    if frame is None or not frame.f_code.co_flags & _GENERATOR or frame.f_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return None, _running(frame)
    if _of_contextlib(frame.f_back):  # @contextmanager: it runs only to enter and to leave, and its caller is meant
        return None, _running(frame.f_back)
    return frame, _running(frame.f_back)


def _of_contextlib(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_globals.get("__name__") == "contextlib"


def _running(frame: FrameType | None) -> _Generator | None:
    """The innermost generator that has entered a block and runs now, on this thread; None if none does."""
    while frame is not None:
        if frame in _generators:
            return _generators.get(frame)
        frame = frame.f_back
    return None


def _inside(generator: _Generator) -> CallContext:
    """The blocks around what this generator runs, without those that other generators left in the context since."""
    own = generator.entries
    if not own:  # left just now, by another thread
        return _around.get()
    outer: list[_Entry] = []
    inner: Iterable[_Entry] = own
    for entry in _around.get().entries:
        if entry.within is generator:
            inner = (*inner, entry)
        elif entry.by is not generator and (entry.by is None or entry.order < own[0].order):
            outer.append(entry)
    return CallContext((*outer, *sorted(inner, key=lambda entry: entry.order)), known=True)


def _leave(entry: _Entry, here: CallContext) -> None:
    global _some_left_elsewhere  # noqa: PLW0603  (from then on contexts look whether it is they that still hold it)
    if entry.by is not None:
        entry.by.entries = tuple(e for e in entry.by.entries if e is not entry)
        if not entry.by.entries:
            for frame in [frame for frame, generator in list(_generators.items()) if generator is entry.by]:
                _generators.pop(frame, None)
    left = tuple(e for e in here.entries if e is not entry)
    try:
        assert entry.token is not None
        _around.reset(entry.token)
    except ValueError:  # it was entered in another context: by a generator that goes from thread to thread
        entry.left_elsewhere = _some_left_elsewhere = True
    if _around.get().entries != left:
        _around.set(CallContext(left) if left else _NOTHING)


def _tidied(around: CallContext) -> CallContext:
    """The call context without blocks that were entered in this context and left in another one."""
    for entry in around.entries:
        if entry.left_elsewhere and entry.token is not None:
            try:
                _around.reset(entry.token)
            except (ValueError, RuntimeError):  # another context's, and perhaps that has done so
                continue
            around = CallContext(tuple(e for e in around.entries if e is not entry))
            _around.set(around)
    return around
