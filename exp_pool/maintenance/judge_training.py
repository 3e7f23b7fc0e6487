"""What judges that learn remember: labels from live answers, kept in the store, shared by all processes.

Callers put their examples into a queue; the answers are compared (`answer_comparison`), the worker appends the labels
to the function's log, reads what it and others have appended since, and learns. So a caller never waits for any of it,
and processes that read the same log know the same. A killed process loses the examples of its last moments, not more.
"""

from __future__ import annotations

import json
import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from loguru import logger

from exp_pool.calls.steps import Recall, TrainJudge
from exp_pool.core.contracts.plugs import RecordStore, Scorer
from exp_pool.errors import EmbedderError, StoreError
from exp_pool.maintenance.answer_comparison import AnswerComparison
from exp_pool.reuse.boilerplate import without_boilerplate
from exp_pool.reuse.judge_memory import JudgeMemory
from exp_pool.reuse.pair_features import pair_features
from exp_pool.reuse.training_examples import TrainingExample, answers_entry, label_entry
from exp_pool.reuse.verified import VerifiedJudge
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import Notices, log_with_trace
from exp_pool.search.embedders.service import EmbeddingService

_LOG = "verified:"
_PAGE = 5000
_CHAPTER = 20_000  # labels of one log; the last two are kept, which is more than is learned from
_QUEUE = 10_000  # examples that wait while the store is away; the oldest go
_REMEMBERED = 1000  # answers that feedback may still come for
_MEMORIES = (
    200  # of functions in namespaces, each up to 12 MB; the ones not asked for longest are read anew when they are
)
_EMBEDDED_AT_ONCE, _EMBED_S = 64, 60.0
_SAME_ENOUGH = 0.5  # of feedback on an answer that was reused
_ALIKE, _ENOUGH_ALIKE, _FEW_SAME = 0.95, 30, 0.2


@dataclass(slots=True)
class TrainingState:
    """One judge's memory of one function in one namespace, and how far its log was read."""

    judge: VerifiedJudge
    function: str
    namespace: str
    log: str
    memory: JudgeMemory
    asked: bool = True  # by this process; else only read
    chapter: int = -1
    position: int = 0
    taught: bool = False
    waiting: deque[TrainJudge] = field(default_factory=lambda: deque(maxlen=_QUEUE))
    comparing: int = 0  # of those, with the thread that asks the judge's `same`
    unwritten: deque[str] = field(default_factory=lambda: deque(maxlen=_QUEUE))  # labels for the log
    answered: int = 0  # requests, not yet in the log
    predicted: float = 0.0  # of these, the sum
    least_chance: float = 1.0
    alike: int = 0
    alike_same: int = 0

    @property
    def version(self) -> str:
        """Of the function."""
        return str(json.loads(self.log.removeprefix(_LOG))[1])


@reinit_after_fork()
class JudgeTraining:
    """See `drivers.services.JudgeTrainer` for what callers use.

    Args:
        owed: tells the worker that there is something to do.
        load_scorer: a scorer by its name, for judges whose `same` is one.
    """

    def __init__(
        self,
        store: RecordStore,
        embeddings: EmbeddingService | None,
        counters: Counters,
        notices: Notices,
        owed: Callable[[], None],
        load_scorer: Callable[[str], Scorer],
    ) -> None:
        self._store = store
        self._embeddings = embeddings
        self._counters = counters
        self._notices = notices
        self._owed = owed
        self._comparing = AnswerComparison[tuple[TrainingState, TrainJudge]](self._compared, load_scorer)
        self._lock = threading.Lock()
        # A child's own: the bound is void where two processes toss the same. It chooses what is looked into, no more.
        self.coin = random.Random()  # noqa: S311
        self._reused: OrderedDict[tuple[str, str], tuple[TrainingState, TrainingExample]] = (
            OrderedDict()
        )  # what answered lately
        self._states: OrderedDict[tuple[str, str, str, int], TrainingState] = OrderedDict()

    # Told by callers; never waits for I/O

    def recall(self, step: Recall) -> JudgeMemory:
        """What this judge remembers of the function."""
        request = step.request
        return self._of(cast("VerifiedJudge", step.judge), request.namespace, request.function, request.version).memory

    def learn(self, step: TrainJudge) -> None:
        """Remember this, later."""
        request = step.request
        judge = cast("VerifiedJudge", step.judge)
        studied = self._of(judge, request.namespace, request.function, request.version)
        with self._lock:
            if step.live is None:
                studied.answered += 1
                studied.predicted += step.example.predicted
                studied.least_chance = min(studied.least_chance, step.example.chance)
                self._reused[request.namespace, step.considered.id] = studied, step.example
                while len(self._reused) > _REMEMBERED:
                    self._reused.popitem(last=False)
            else:
                studied.waiting.append(step)
        self._owed()

    def told(self, namespace: str, id_: str, value: float) -> None:
        """Somebody said how well this experience did: where it answered another request lately, that is a label.

        To learn from, not for the bound, which counts on the coin having chosen what is looked into.
        """
        with self._lock:
            studied, example = self._reused.pop((namespace, id_), (None, None))
            if studied is not None and example is not None:
                studied.unwritten.append(label_entry(example, wrong=value < _SAME_ENOUGH, warm=True))
        if studied is not None:
            self._owed()

    def _of(self, judge: VerifiedJudge, namespace: str, function: str, version: str) -> TrainingState:
        key = namespace, function, version, id(judge)
        with self._lock:
            studied = self._states.get(key)
            if studied is None:
                memory = JudgeMemory(judge.max_error_rate, judge.confidence, self.coin)
                log = f"{_LOG}{json.dumps([function, version], ensure_ascii=True)}"
                studied = self._states[key] = TrainingState(judge, function, namespace, log, memory)
            self._states.move_to_end(key)
        return studied

    @property
    def alarms(self) -> int:
        """How often what was learned was found to hold no longer, in this process."""
        with self._lock:
            return sum(studied.memory.alarms for studied in self._states.values())

    def all(self, namespace: str) -> list[TrainingState]:
        """What is remembered of each function of the namespace, by this process or in the store.

        Raises:
            StoreError: the store failed.
        """
        with self._lock:
            asked = {studied.log: studied for studied in self._states.values() if studied.namespace == namespace}
        logs = {name.rpartition(":")[0] for name in self._store.names(namespace).logs if name.startswith(_LOG)}
        for log in logs - asked.keys():
            judge = VerifiedJudge()
            function, _ = json.loads(log.removeprefix(_LOG))
            memory = JudgeMemory(judge.max_error_rate, judge.confidence, self.coin)
            asked[log] = studied = TrainingState(judge, function, namespace, log, memory, asked=False)
            self._read(studied, *self._chapter(studied))
        return sorted(asked.values(), key=lambda studied: studied.log)

    # The work

    def run(self) -> None:
        """Label what waits, read what others labelled, learn.

        Raises:
            StoreError: the store failed; what was not written waits, and nothing similar is answered until it is.
        """
        with self._lock:
            every = list(self._states.values())
        failed: StoreError | None = None
        for studied in every:
            try:
                self._study(studied)
            except StoreError as err:
                studied.memory.current, failed = False, failed or err
            except Exception as err:  # the other functions, and all else that the worker does, go on
                studied.memory.current = False
                self._counters.add("degraded")
                message = f"{studied.function}: VerifiedJudge cannot learn, and abstains: {err!r}"
                log_with_trace("WARNING", message, err)
                self._notices.warn_once(f"learning:{studied.function}:{type(err).__name__}", message)
            else:
                studied.memory.current = True
        self._forget()
        if failed is not None:
            raise failed

    def _forget(self) -> None:
        """Let go of what was asked for longest ago and has nothing to be written; the store has it."""
        with self._lock:
            for key, studied in list(self._states.items())[: max(0, len(self._states) - _MEMORIES)]:
                if not (studied.waiting or studied.comparing or studied.unwritten or studied.answered):
                    del self._states[key]

    def close(self) -> None:
        """Write what only this process knows: what was answered, and labels. What waits to be compared is lost."""
        self._comparing.stop()
        with self._lock:
            every = list(self._states.values())
        for studied in every:
            try:
                if studied.judge.same is None:
                    self._label(studied)
                if studied.unwritten or studied.answered:
                    self._write(studied, self._chapter(studied)[0])
            except Exception as err:  # closing goes on
                logger.warning("{}: what was learned in the last moments was not written: {!r}", studied.function, err)

    def _study(self, studied: TrainingState) -> None:
        self._label(studied)
        chapter, carried = self._chapter(studied)
        self._write(studied, chapter)
        alarms, first = studied.memory.alarms, studied.chapter < 0
        self._teach(studied)
        self._read(studied, chapter, carried)
        if studied.memory.alarms > alarms and not first:  # what a process finds in the log was said when it happened
            self._say_drift(studied)
        studied.memory.study()

    def _write(self, studied: TrainingState, chapter: int) -> None:
        with self._lock:
            answered, predicted, least = studied.answered, studied.predicted, studied.least_chance
        entries = [answers_entry(answered, predicted, least)] if answered else []
        labels = list(studied.unwritten)
        entries += labels
        if not entries:
            return
        self._store.append_log(studied.namespace, f"{studied.log}:{chapter}", entries)
        with self._lock:
            for _ in labels:
                studied.unwritten.popleft()
            studied.answered -= answered
            studied.predicted -= predicted
            if not studied.answered:
                studied.predicted, studied.least_chance = 0.0, 1.0

    def compare(self, deadline: float) -> None:
        """Have everything compared that waits, until the deadline (`clock.monotonic`)."""
        with self._lock:
            every = list(self._states.values())
        for studied in every:
            self._label(studied)
        self._comparing.wait(deadline)

    def _label(self, studied: TrainingState) -> None:
        """Compare what waits, each pair once: `same` may cost money, and the store may be away for long."""
        while studied.waiting:
            step = studied.waiting.popleft()
            if studied.judge.same is None:
                self._note(studied, self._labelled(studied, step))
                continue
            with self._lock:
                studied.comparing += 1
            if (dropped := self._comparing.put((studied, step))) is not None:
                self._note(dropped[0], None, compared=1)

    def _compared(self, pair: tuple[TrainingState, TrainJudge]) -> None:
        studied, step = pair
        entry = None
        try:
            entry = self._labelled(studied, step)
        finally:
            self._note(studied, entry, compared=1)
        self._owed()

    def _note(self, studied: TrainingState, entry: str | None, *, compared: int = 0) -> None:
        with self._lock:
            studied.comparing -= compared
            if entry is not None:
                studied.unwritten.append(entry)

    def _labelled(self, studied: TrainingState, step: TrainJudge) -> str | None:
        example: TrainingExample = step.example
        try:
            same = self._comparing.same(studied.judge, step)
        except Exception as err:  # `same` is the user's; what it cannot say is no label
            self._counters.add("degraded")
            log_with_trace("DEBUG", f"{studied.function}: no label: {err!r}", err)
            self._notices.warn_once(
                f"same:{studied.function}",
                f"{studied.function}: VerifiedJudge could not compare a stored answer with a live one, and learns "
                f"nothing from such calls: {err!r}. Mend same=",
            )
            return None
        if example.features.numbers[0] >= _ALIKE:
            studied.alike, studied.alike_same = studied.alike + 1, studied.alike_same + same
            if studied.alike >= _ENOUGH_ALIKE and studied.alike_same < _FEW_SAME * studied.alike:
                self._notices.warn_once(
                    f"varies:{studied.function}",
                    f"{studied.function}: nearly equal requests get different answers ({studied.alike_same} of "
                    f"{studied.alike} were the same), so VerifiedJudge can answer hardly any. If these answers say the "
                    "same in other words, tell it so: VerifiedJudge(same=...), a callable(stored, live) or a scorer",
                )
        return label_entry(example, wrong=not same)

    def _teach(self, studied: TrainingState) -> None:
        """What the judge was given labelled pairs for, once."""
        if studied.taught or not studied.judge.taught or self._embeddings is None:
            return
        from exp_pool.reuse.guard import differences  # when needed: its word lists take 40 ms

        pairs, entries = studied.judge.taught, []
        try:
            for start in range(0, len(pairs), _EMBEDDED_AT_ONCE):
                part = pairs[start : start + _EMBEDDED_AT_ONCE]
                compared = [without_boilerplate(request, other) or (request, other) for request, other, _ in part]
                lefts = self._embeddings.embed([one for one, _ in compared], _EMBED_S).vectors
                rights = self._embeddings.embed([other for _, other in compared], _EMBED_S).vectors
                for (a, b, same), cosine in zip(part, (lefts * rights).sum(axis=1), strict=True):
                    pair = pair_features(a, b, float(cosine), differences(a, b))
                    entries.append(label_entry(TrainingExample(pair, None, 1.0), wrong=not same, warm=True))
        except EmbedderError as err:  # tried again with the next round
            log_with_trace("DEBUG", f"{studied.function}: VerifiedJudge.fit: {err}", err)
            message = f"{studied.function}: VerifiedJudge.fit: its pairs are not learned from yet: {err}"
            self._notices.warn_once(f"fit:{studied.function}", message)
            return
        studied.memory.add(entries)
        studied.taught = True

    def _read(self, studied: TrainingState, last: int, carried: Any) -> None:
        if studied.chapter < max(0, last - 1):  # nothing was read yet, or so long ago that its log is gone
            studied.chapter, studied.position = max(0, last - 1), 0
            studied.memory.resume(carried)
        while True:
            name = f"{studied.log}:{studied.chapter}"
            while page := self._store.read_log(studied.namespace, name, after=studied.position, limit=_PAGE):
                studied.memory.add(entry.entry for entry in page)
                studied.position = page[-1].position
            if studied.chapter >= last:
                break
            studied.memory.mark()
            studied.chapter, studied.position = studied.chapter + 1, 0
        if studied.asked and studied.memory.since_mark >= _CHAPTER:
            self._turn_the_page(studied)

    def _chapter(self, studied: TrainingState) -> tuple[int, Any]:
        """Which log is written now, and what is to be carried over from those that are gone."""
        state = self._store.read_state(studied.namespace, studied.log)
        if state is None:
            return 0, None
        said = json.loads(state.value)
        return said["chapter"], said["carried"]

    def _turn_the_page(self, studied: TrainingState) -> None:
        """Begin a new log and drop the last but one; labels that come to it later than that are lost, which is few."""
        state = self._store.read_state(studied.namespace, studied.log)
        now = 0 if state is None else json.loads(state.value)["chapter"]
        if now != studied.chapter:  # another process has done it
            return
        value = json.dumps({"chapter": now + 1, "carried": studied.memory.marked})
        if self._store.write_state(studied.namespace, studied.log, value, None if state is None else state.revision):
            self._store.drop_logs(studied.namespace, [f"{studied.log}:{now - 1}"])

    def _say_drift(self, studied: TrainingState) -> None:
        self._notices.warn_once(
            f"drift:{studied.namespace}:{studied.function}:{studied.memory.alarms}",
            f"{studied.function}: stored answers are wrong more often than VerifiedJudge had learned, so the requests, "
            "or the function, have changed. It forgets what it learned and abstains until it has learned anew",
        )
