"""`carry`: takes the context of a call into the threads and processes of an executor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from typing import Any, ParamSpec, TypeVar

from exp_pool.errors import InvalidInputError
from exp_pool.runtime.call_context import (
    bypass,
    copy_context,
    current_access,
    current_namespace,
    in_namespace,
    leave_all_blocks,
)

P = ParamSpec("P")
R = TypeVar("R")


def carry(executor: Executor) -> Executor:
    """An executor whose work runs in the context of the line that submits it.

    On a thread, the work finds all context variables of that line, as with ``asyncio.to_thread``: the namespace of
    `in_namespace`, `bypass`, and the call to which `record` adds (until that call has returned). In another process it
    finds the namespace and the bypass; `record` cannot reach the call from there. Without this, threads and processes
    are in no namespace at all. Also for ``loop.run_in_executor(carry(executor), ...)``.

    Args:
        executor: of `concurrent.futures`, or one that is like those. It is used, not copied: shutting down either
            shuts down both.

    Raises:
        InvalidInputError: `executor` has no ``submit``.
    """
    if isinstance(executor, _Carrying):
        return executor
    if not callable(getattr(executor, "submit", None)) or isinstance(executor, type):
        raise InvalidInputError(
            f"carry({executor!r:.80}) takes an executor, such as ThreadPoolExecutor(8); for a thread that you start "
            "yourself: Thread(target=contextvars.copy_context().run, args=(function, ...))"
        )
    return _Carrying(executor)


class _Carrying(Executor):
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self._executor.submit(_Carried(fn), *args, **kwargs)

    def map(self, fn: Callable[..., R], *iterables: Iterable[Any], **options: Any) -> Iterator[R]:
        return self._executor.map(_Carried(fn), *iterables, **options)

    def shutdown(self, wait: bool = True, **options: Any) -> None:
        self._executor.shutdown(wait, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def __repr__(self) -> str:
        return f"carry({self._executor!r})"


class _Carried:
    """A function that runs where it was submitted from: on a thread in that context, in another process by value."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._context = copy_context()
        self._namespace, self._access = current_namespace(), current_access()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._context.copy().run(self._function, *args, **kwargs)  # one context runs on one thread at a time

    def __reduce__(self) -> Any:
        return _surrounded, (self._function, self._namespace, self._access.read, self._access.write)


def _surrounded(function: Callable[..., Any], namespace: str | None, read: bool, write: bool) -> Callable[..., Any]:
    return functools.partial(_run, function, namespace, read, write)


def _run(
    function: Callable[..., Any], namespace: str | None, read: bool, write: bool, /, *args: Any, **kwargs: Any
) -> Any:
    leave_all_blocks()  # a process's: what the work before left there
    with ExitStack() as around:
        if namespace is not None:
            around.enter_context(in_namespace(namespace))
        around.enter_context(bypass(read=not read, write=not write))
        return function(*args, **kwargs)
