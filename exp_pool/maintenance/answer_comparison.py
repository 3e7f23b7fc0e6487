"""Comparison of stored answers with live ones, by a judge's `same`, which is the user's code and may hang.

So `same` is called on a thread of its own, for one pair after the other, in the order in which they came. The worker,
which embeds and scores for every function, never waits for it.
"""

from __future__ import annotations

import threading
import unicodedata
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from loguru import logger

from exp_pool.calls.steps import TrainJudge
from exp_pool.core.contracts.plugs import ScoreContext, Scorer
from exp_pool.core.experience import MISSING, Score
from exp_pool.core.record import to_experience
from exp_pool.errors import DecodingError
from exp_pool.reuse.verified import VerifiedJudge
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.call_context import in_namespace
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.single_thread import SingleThreadExecutor

T = TypeVar("T")

_TIMEOUT_S = 30.0  # for `same`; one that hangs is not asked again before it ends
_QUEUE = 10_000  # pairs that wait; the oldest go
_SAME_ENOUGH = 0.5
_ENDS = ".!?;:, \u3002"
_FULL_WIDTH = {code + 0xFEE0: code for code in range(0x21, 0x7F)} | {0x3000: 0x20}


@reinit_after_fork()
class AnswerComparison(Generic[T]):
    """A queue of pairs, and the thread that compares them.

    Args:
        compare: called on the thread with each pair.
        load_scorer: gives a scorer by its name, for judges whose `same` is one.
    """

    def __init__(self, compare: Callable[[T], object], load_scorer: Callable[[str], Scorer]) -> None:
        self._compare = compare
        self._load_scorer = load_scorer
        self._executor = SingleThreadExecutor("exp_pool-same")
        self._lock = threading.Lock()
        self._queue: deque[T] = deque()
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()
        self._idle.set()

    def put(self, pair: T) -> T | None:
        """Compare a pair later; the pair that is dropped for it, where too many wait."""
        with self._lock:
            dropped = self._queue.popleft() if len(self._queue) >= _QUEUE else None
            self._queue.append(pair)
            self._idle.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="exp_pool-comparing", daemon=True)
                self._thread.start()
        return dropped

    def wait(self, deadline: float) -> None:
        """Wait until all pairs are compared, at most until the deadline (`clock.monotonic`)."""
        self._idle.wait(min(max(0.0, deadline - monotonic()), threading.TIMEOUT_MAX))

    def stop(self) -> None:
        """Drop the pairs that wait; a comparison that hangs is left behind."""
        with self._lock:
            self._queue.clear()
        self._executor.stop(0.0)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._thread = None
                    self._idle.set()
                    return
                pair = self._queue.popleft()
            try:
                self._compare(pair)
            except Exception as err:  # else the thread would end, and no pair be compared any more
                logger.opt(exception=err).warning("a comparison of two answers came to nothing: {!r}", err)

    def same(self, judge: VerifiedJudge, step: TrainJudge) -> bool:
        """Whether the stored answer, which would have been given, is as good as the live one.

        Raises:
            Exception: whatever the judge's `same` raises.
            TimeoutError: `same` hangs.
            TypeError: `same` gives neither a boolean nor a score.
        """
        assert step.live is not None
        if step.considered.answer is None:
            raise DecodingError("the stored experience has no answer")
        considered = step.considered
        stored = step.codec.read(step.considered.answer, considered.codec, given=considered.by_people)
        live = step.codec.decode(*step.live)
        if judge.same is None:
            return equal_answers(stored, live)
        if callable(judge.same):
            same = judge.same
            with in_namespace(step.request.namespace):  # what it asks of the pool is the same tenant's
                said = self._executor.run(lambda: resolve(same(stored, live)), _TIMEOUT_S)
        else:
            rated = to_experience(step.considered)
            rated = rated.model_copy(update={"response": stored, "expected": live})
            scorer = self._load_scorer(judge.same)
            with in_namespace(step.request.namespace):
                said = self._executor.run(lambda: resolve(scorer(ScoreContext(rated, None, stored))), _TIMEOUT_S)
        value = said.value if isinstance(said, Score) else said
        if value is MISSING or not isinstance(value, bool | int | float) or not 0 <= value <= 1:
            raise TypeError(f"same= gave {said!r:.80}; it must give True or False, or a score from 0 to 1")
        return value >= _SAME_ENOUGH


def equal_answers(stored: Any, live: Any) -> bool:
    """Whether two answers are equal; texts: but for case, spaces, and punctuation at their end."""
    if isinstance(stored, str) and isinstance(live, str):
        return _plain(stored) == _plain(live)
    return type(stored) is type(live) and bool(stored == live)


def _plain(text: str) -> str:
    # Not NFKC, which makes 10\u2075 and 105 the same; quotes at the end may be feet and inches.
    told = " ".join(unicodedata.normalize("NFC", text).translate(_FULL_WIDTH).casefold().split())
    return told.rstrip(_ENDS) or told
