"""Training of judges that learn: labels from live answers, stored in logs that all processes share.

Callers put their examples into a queue. The answers are compared (`answer_comparison`); the worker appends the labels
to the function's log, reads what all processes have appended since, and trains. So no caller waits for any of it, and
processes that read the same log know the same. A killed process loses the examples of its last moments only.
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
_SEGMENT = 20_000  # labels of one log; the last two logs are kept, which hold more than a judge learns from
_QUEUE = 10_000  # examples that wait while the store is away; the oldest go
_REMEMBERED = 1000  # answers that feedback may still come for
# Memories of functions in namespaces, each up to 12 MB. What was asked for longest ago is dropped, and read anew when
# it is asked for.
_MEMORIES = 200
_EMBEDDED_AT_ONCE, _EMBED_S = 64, 60.0
_SAME_ENOUGH = 0.5  # of feedback on an answer that was reused
_ALIKE, _ENOUGH_ALIKE, _FEW_SAME = 0.95, 30, 0.2


@dataclass(slots=True)
class TrainingState:
    """One judge's memory of one function in one namespace, and how far its logs were read."""

    judge: VerifiedJudge
    function: str
    namespace: str
    log: str  # the name of the logs, without their number
    memory: JudgeMemory
    asked: bool = True  # by calls of this process; else the logs are only read
    segment: int = -1  # the number of the log that is read now
    position: int = 0  # how far in that log
    fitted: bool = False  # whether the pairs that the judge was given are learned
    waiting: deque[TrainJudge] = field(default_factory=lambda: deque(maxlen=_QUEUE))  # to be compared
    comparing: int = 0  # how many the thread has that asks the judge's `same`
    unwritten: deque[str] = field(default_factory=lambda: deque(maxlen=_QUEUE))  # labels for the log
    answered: int = 0  # reused answers that are not in the log yet
    predicted: float = 0.0  # the sum of their predicted chances to be wrong
    least_chance: float = 1.0  # with which one of them would have been explored
    alike: int = 0  # examples of nearly equal requests
    alike_same: int = 0  # how many of these had the same answer

    @property
    def version(self) -> str:
        """The function's version."""
        return str(json.loads(self.log.removeprefix(_LOG))[1])


@reinit_after_fork()
class JudgeTraining:
    """Trains the judges of one pool. `drivers.services.JudgeTrainer` is what callers know of it.

    Args:
        store: where labels stand.
        embeddings: embeds the pairs that a judge was given; None: these are not learned.
        counters: counts `degraded`.
        notices: warns once of what keeps a judge from learning.
        wake: wakes the worker, which calls `run`.
        load_scorer: gives a scorer by its name, for judges whose `same` is one.
    """

    def __init__(
        self,
        store: RecordStore,
        embeddings: EmbeddingService | None,
        counters: Counters,
        notices: Notices,
        wake: Callable[[], None],
        load_scorer: Callable[[str], Scorer],
    ) -> None:
        self._store = store
        self._embeddings = embeddings
        self._counters = counters
        self._notices = notices
        self._wake = wake
        self._comparison = AnswerComparison[tuple[TrainingState, TrainJudge]](self._compare_pair, load_scorer)
        self._lock = threading.Lock()
        # A child process makes its own: the bound is void where two processes toss the same. It only chooses what is
        # explored.
        self.coin = random.Random()  # noqa: S311
        # What answered lately, by namespace and id.
        self._reused: OrderedDict[tuple[str, str], tuple[TrainingState, TrainingExample]] = OrderedDict()
        self._states: OrderedDict[tuple[str, str, str, int], TrainingState] = OrderedDict()

    # Called by callers; never waits for I/O

    def recall(self, step: Recall) -> JudgeMemory:
        """The judge's memory of the function."""
        request = step.request
        return self._state_of(
            cast("VerifiedJudge", step.judge), request.namespace, request.function, request.version
        ).memory

    def learn(self, step: TrainJudge) -> None:
        """Take an example, to be learned by a later round."""
        request = step.request
        judge = cast("VerifiedJudge", step.judge)
        training = self._state_of(judge, request.namespace, request.function, request.version)
        with self._lock:
            if step.live is None:
                training.answered += 1
                training.predicted += step.example.predicted
                training.least_chance = min(training.least_chance, step.example.chance)
                self._reused[request.namespace, step.considered.id] = training, step.example
                while len(self._reused) > _REMEMBERED:
                    self._reused.popitem(last=False)
            else:
                training.waiting.append(step)
        self._wake()

    def add_feedback(self, namespace: str, id_: str, value: float) -> None:
        """Take feedback on an experience. If it has answered another request lately, that makes a label.

        The judge learns from that label; the bound does not use it, for it needs labels that the coin has chosen.

        Args:
            namespace: of the experience.
            id_: of the experience.
            value: 0 to 1.
        """
        with self._lock:
            training, example = self._reused.pop((namespace, id_), (None, None))
            if training is not None and example is not None:
                training.unwritten.append(label_entry(example, wrong=value < _SAME_ENOUGH, warm=True))
        if training is not None:
            self._wake()

    def _state_of(self, judge: VerifiedJudge, namespace: str, function: str, version: str) -> TrainingState:
        key = namespace, function, version, id(judge)
        with self._lock:
            training = self._states.get(key)
            if training is None:
                memory = JudgeMemory(judge.max_error_rate, judge.confidence, self.coin)
                log = f"{_LOG}{json.dumps([function, version], ensure_ascii=True)}"
                training = self._states[key] = TrainingState(judge, function, namespace, log, memory)
            self._states.move_to_end(key)
        return training

    @property
    def alarms(self) -> int:
        """How often drift was found in this process: what was learned holds no longer."""
        with self._lock:
            return sum(training.memory.alarms for training in self._states.values())

    def all(self, namespace: str) -> list[TrainingState]:
        """The state of each function of the namespace that this process or the store has.

        Raises:
            StoreError: the store failed.
        """
        with self._lock:
            asked = {training.log: training for training in self._states.values() if training.namespace == namespace}
        logs = {name.rpartition(":")[0] for name in self._store.names(namespace).logs if name.startswith(_LOG)}
        for log in logs - asked.keys():
            judge = VerifiedJudge()
            function, _ = json.loads(log.removeprefix(_LOG))
            memory = JudgeMemory(judge.max_error_rate, judge.confidence, self.coin)
            asked[log] = training = TrainingState(judge, function, namespace, log, memory, asked=False)
            self._read(training, *self._segment(training))
        return sorted(asked.values(), key=lambda training: training.log)

    # The work

    def run(self) -> None:
        """Label waiting examples, read what other processes labelled, and train.

        Raises:
            StoreError: the store failed; labels wait to be written, and until then judges abstain.
        """
        with self._lock:
            every = list(self._states.values())
        failed: StoreError | None = None
        for training in every:
            try:
                self._train(training)
            except StoreError as err:
                training.memory.current, failed = False, failed or err
            except Exception as err:  # the other functions, and all else that the worker does, go on
                training.memory.current = False
                self._counters.add("degraded")
                message = f"{training.function}: VerifiedJudge cannot learn, and abstains: {err!r}"
                log_with_trace("WARNING", message, err)
                self._notices.warn_once(f"learning:{training.function}:{type(err).__name__}", message)
            else:
                training.memory.current = True
        self._forget()
        if failed is not None:
            raise failed

    def _forget(self) -> None:
        """Drop the states that were asked for longest ago, if nothing of them is to be written."""
        with self._lock:
            for key, training in list(self._states.items())[: max(0, len(self._states) - _MEMORIES)]:
                if not (training.waiting or training.comparing or training.unwritten or training.answered):
                    del self._states[key]

    def close(self) -> None:
        """Write the labels and counts that only this process has. Examples that wait to be compared are lost."""
        self._comparison.stop()
        with self._lock:
            every = list(self._states.values())
        for training in every:
            try:
                if training.judge.same is None:
                    self._label_waiting(training)
                if training.unwritten or training.answered:
                    self._write(training, self._segment(training)[0])
            except Exception as err:  # closing goes on
                logger.warning("{}: what was learned in the last moments was not written: {!r}", training.function, err)

    def _train(self, training: TrainingState) -> None:
        self._label_waiting(training)
        segment, carried = self._segment(training)
        self._write(training, segment)
        alarms, first = training.memory.alarms, training.segment < 0
        self._learn_given_pairs(training)
        self._read(training, segment, carried)
        # What a process finds in the log when it first reads it was reported when it happened.
        if training.memory.alarms > alarms and not first:
            self._warn_of_drift(training)
        training.memory.study()

    def _write(self, training: TrainingState, segment: int) -> None:
        with self._lock:
            answered, predicted, least = training.answered, training.predicted, training.least_chance
        entries = [answers_entry(answered, predicted, least)] if answered else []
        labels = list(training.unwritten)
        entries += labels
        if not entries:
            return
        self._store.append_log(training.namespace, f"{training.log}:{segment}", entries)
        with self._lock:
            for _ in labels:
                training.unwritten.popleft()
            training.answered -= answered
            training.predicted -= predicted
            if not training.answered:
                training.predicted, training.least_chance = 0.0, 1.0

    def compare(self, deadline: float) -> None:
        """Wait until all waiting examples are compared, at most until the deadline (`clock.monotonic`)."""
        with self._lock:
            every = list(self._states.values())
        for training in every:
            self._label_waiting(training)
        self._comparison.wait(deadline)

    def _label_waiting(self, training: TrainingState) -> None:
        """Label waiting examples, each once: `same` may cost money, and the store may be away for long."""
        while training.waiting:
            step = training.waiting.popleft()
            if training.judge.same is None:
                self._note(training, self._label_of(training, step))
                continue
            with self._lock:
                training.comparing += 1
            if (dropped := self._comparison.put((training, step))) is not None:
                self._note(dropped[0], None, compared=1)

    def _compare_pair(self, pair: tuple[TrainingState, TrainJudge]) -> None:
        training, step = pair
        entry = None
        try:
            entry = self._label_of(training, step)
        finally:
            self._note(training, entry, compared=1)
        self._wake()

    def _note(self, training: TrainingState, entry: str | None, *, compared: int = 0) -> None:
        with self._lock:
            training.comparing -= compared
            if entry is not None:
                training.unwritten.append(entry)

    def _label_of(self, training: TrainingState, step: TrainJudge) -> str | None:
        example: TrainingExample = step.example
        try:
            same = self._comparison.same(training.judge, step)
        except Exception as err:  # `same` is the user's; where it fails there is no label
            self._counters.add("degraded")
            log_with_trace("DEBUG", f"{training.function}: no label: {err!r}", err)
            self._notices.warn_once(
                f"same:{training.function}",
                f"{training.function}: VerifiedJudge could not compare a stored answer with a live one, and learns "
                f"nothing from such calls: {err!r}. Mend same=",
            )
            return None
        if example.features.numbers[0] >= _ALIKE:
            training.alike, training.alike_same = training.alike + 1, training.alike_same + same
            if training.alike >= _ENOUGH_ALIKE and training.alike_same < _FEW_SAME * training.alike:
                self._notices.warn_once(
                    f"varies:{training.function}",
                    f"{training.function}: nearly equal requests get different answers ({training.alike_same} of "
                    f"{training.alike} were the same), so VerifiedJudge can answer hardly any. If these answers say "
                    "the same in other words, tell it so: VerifiedJudge(same=...), a callable(stored, live) or a "
                    "scorer",
                )
        return label_entry(example, wrong=not same)

    def _learn_given_pairs(self, training: TrainingState) -> None:
        """TrainJudge the labelled pairs that the judge was given, once."""
        if training.fitted or not training.judge.taught or self._embeddings is None:
            return
        from exp_pool.reuse.guard import differences  # when needed: its word lists take 40 ms

        pairs, entries = training.judge.taught, []
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
            log_with_trace("DEBUG", f"{training.function}: VerifiedJudge.fit: {err}", err)
            message = f"{training.function}: VerifiedJudge.fit: its pairs are not learned from yet: {err}"
            self._notices.warn_once(f"fit:{training.function}", message)
            return
        training.memory.add(entries)
        training.fitted = True

    def _read(self, training: TrainingState, last: int, carried: Any) -> None:
        if training.segment < max(0, last - 1):  # nothing was read yet, or so long ago that its log is gone
            training.segment, training.position = max(0, last - 1), 0
            training.memory.resume(carried)
        while True:
            name = f"{training.log}:{training.segment}"
            while page := self._store.read_log(training.namespace, name, after=training.position, limit=_PAGE):
                training.memory.add(entry.entry for entry in page)
                training.position = page[-1].position
            if training.segment >= last:
                break
            training.memory.mark()
            training.segment, training.position = training.segment + 1, 0
        if training.asked and training.memory.since_mark >= _SEGMENT:
            self._begin_segment(training)

    def _segment(self, training: TrainingState) -> tuple[int, Any]:
        """The number of the log that is written now, and the memory's sums of the logs that are gone."""
        state = self._store.read_state(training.namespace, training.log)
        if state is None:
            return 0, None
        stored = json.loads(state.value)
        return stored["chapter"], stored["carried"]

    def _begin_segment(self, training: TrainingState) -> None:
        """Begin a new log and drop the last but one. The few labels that are appended to that one later are lost."""
        state = self._store.read_state(training.namespace, training.log)
        now = 0 if state is None else json.loads(state.value)["chapter"]
        if now != training.segment:  # another process has done it
            return
        value = json.dumps({"chapter": now + 1, "carried": training.memory.marked})
        if self._store.write_state(training.namespace, training.log, value, None if state is None else state.revision):
            self._store.drop_logs(training.namespace, [f"{training.log}:{now - 1}"])

    def _warn_of_drift(self, training: TrainingState) -> None:
        self._notices.warn_once(
            f"drift:{training.namespace}:{training.function}:{training.memory.alarms}",
            f"{training.function}: stored answers are wrong more often than VerifiedJudge had learned, so the "
            "requests, or the function, have changed. It forgets what it learned and abstains until it has learned "
            "anew",
        )
