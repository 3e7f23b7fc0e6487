"""Prefill: make many calls, of which those run that the pool has no answer for. Repeated, it resumes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeAlias

from exp_pool.core.results import Answer
from exp_pool.errors import InvalidInputError
from exp_pool.runtime.call_context import copy_context
from exp_pool.runtime.progress import bar

_KEPT = 100  # exceptions: each holds the frames that it came through

Ask: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]
"""Makes one call of the decorated function; comes to its `Answer`."""


def as_call(item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One call: of a tuple its positional arguments, of a dict its named ones, else the only argument."""
    if isinstance(item, tuple):
        return item, {}
    if isinstance(item, dict):
        return (), item
    return (item,), {}


def prefill(name: str, ask: Ask, items: Iterable[Any], concurrency: int, *, progress: bool) -> int:
    """Make these calls and return how many ran. More than one at a time run on threads, in the caller's context.

    Args:
        name: of the function, for people.
        ask: makes one call.
        items: of each call its only argument, a tuple of its positional ones, or a dict of its named ones.
        concurrency: how many at a time.
        progress: show a bar.

    Raises:
        InvalidInputError: `items` is no iterable of calls, or the concurrency not at least 1.
        ExceptionGroup: what was raised, after all other calls were made.
    """
    _check(items, concurrency)
    with _counting(name, items, progress=progress) as tally:
        if concurrency == 1:
            for item in items:
                with tally.one(item):
                    tally.count(ask(*as_call(item)))
            return tally.ran
        running: dict[Future[Answer[Any]], Any] = {}

        def settle() -> None:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                with tally.one(running.pop(future)):
                    tally.count(future.result())

        with ThreadPoolExecutor(concurrency, "exp_pool-prefill") as threads:
            try:
                for item in items:
                    call = functools.partial(copy_context().run, ask, *as_call(item))
                    running[threads.submit(call)] = item
                    if len(running) >= concurrency:
                        settle()
                while running:
                    settle()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
        return tally.ran


async def prefill_async(
    name: str,
    ask: Callable[[tuple[Any, ...], Mapping[str, Any]], Awaitable[Answer[Any]]],
    items: Iterable[Any],
    concurrency: int,
    *,
    progress: bool,
) -> int:
    """Make these calls of a coroutine function, in tasks, and return how many ran; arguments are those of `prefill`."""
    _check(items, concurrency)
    coming = iter(items)
    with _counting(name, items, progress=progress) as tally:

        async def work() -> None:
            for item in coming:
                with tally.one(item):
                    tally.count(await ask(*as_call(item)))

        workers = [asyncio.create_task(work(), context=copy_context()) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return tally.ran


def _check(items: Any, concurrency: Any) -> None:
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise InvalidInputError(
            f"prefill({items!r:.80}) must be a list, or another iterable, of calls: of each its only argument, a tuple "
            "of its positional arguments, or a dict of its named ones"
        )
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidInputError(f"prefill(concurrency={concurrency!r}) must be a whole number of at least 1")


class _PrefillCount:
    """Counts of the calls so far."""

    def __init__(self, done: Callable[[str], None]) -> None:
        self.ran = self.failed = 0
        self.errors: list[Exception] = []
        self._done = done

    def count(self, answer: Answer[Any]) -> None:
        self.ran += answer.found_by is None

    @contextmanager
    def one(self, item: Any) -> Iterator[None]:
        """One call. What it raises is kept, and says whose it is."""
        try:
            yield
        except Exception as err:
            self.failed += 1
            if len(self.errors) < _KEPT:
                err.add_note(f"prefill: {item!r:.200}")
                self.errors.append(err)
        self._done(f"{self.failed} failed" if self.failed else "")


@contextmanager
def _counting(name: str, items: Iterable[Any], *, progress: bool) -> Iterator[_PrefillCount]:
    with bar(name, len(items) if isinstance(items, Sized) else None, show=progress) as done:
        tally = _PrefillCount(done)
        yield tally
    if tally.errors:
        kept = "" if tally.failed == len(tally.errors) else f", the first {len(tally.errors)} of them here"
        raise ExceptionGroup(f"{tally.failed} calls of {name} failed{kept}; {tally.ran} ran", tally.errors)
