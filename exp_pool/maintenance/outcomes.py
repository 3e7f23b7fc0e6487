"""Outcomes of calls: logs of feedback, folded into lifts; quarantines experiences that demonstrably hurt.

For each function that got feedback the store keeps, in each namespace,

- logs ``outcomes:HASH:0``, ``:1``, ...: one entry for each feedback, with ids and numbers only, and one for each
  decision of the rule or of a person. Positions are never stored, so that all of this may be moved to another store.
- the state ``outcomes:HASH``: the function's name, and which log is written now: a new one after `_SEGMENT` entries.
- the state ``lifts:HASH``: the sums of the logs up to some number. These logs are dropped `_GRACE_S` after the next log
  was begun: a writer that had read the state before has long appended.

So what is kept does not grow with the calls: a row of sums for each experience, and the entries of two logs, of
`_SEGMENT` or of an hour, whichever are more. Every process folds for itself, starting from the sums.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from loguru import logger

from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus, RecordStore
from exp_pool.core.contracts.rows import audit_entry, audit_log
from exp_pool.core.experience import new_id
from exp_pool.core.record import Record
from exp_pool.core.values.encoding import json_dumps, loads
from exp_pool.errors import ExpPoolError, StoreError
from exp_pool.reuse.lift import CallOutcome, Effect, LiftTable
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import Notices
from exp_pool.stores.pages import audit_entries

_POINTER, _SUMS = "outcomes:", "lifts:"
_SEGMENT = 10_000  # entries of a log, of about 300 bytes: read in a tenth of a second when a process begins
_GRACE_S = 3600.0
_PAGE = 1000
_TRIES = 5
_REMEMBERED = 10_000  # experiences whose last feedback need not be read from their log


@dataclass(slots=True)
class _ReadPosition:
    position: int = 0
    entries: int = 0


@dataclass(slots=True)
class FunctionOutcomes:
    """The outcomes of one function in one namespace, as far as this process has read them."""

    function: str
    lifts: LiftTable
    generation: str
    known: int  # the last log that was added up, as the state said
    through: int = -1  # the last log that is in the stored sums
    read: dict[int, _ReadPosition] = field(default_factory=dict)  # how far, by log
    last: dict[str, float] = field(default_factory=dict)  # outcomes of the calls in these logs


@dataclass(frozen=True, slots=True)
class _Pointer:
    function: str
    generation: str
    segment: int = 0  # the log that is written now
    since: int = 0  # when that log was begun, microseconds
    through: int = -1  # the last log that was added up


@reinit_after_fork()
class Outcomes:
    """Stores outcomes of calls, folds them into lifts, and quarantines what hurts. Thread-safe.

    Args:
        store: where logs and sums stand.
        notices: warns once of what was quarantined together.
        quarantine: whether experiences that hurt are quarantined.
        confidence: how sure that must be.
    """

    def __init__(self, store: RecordStore, notices: Notices, *, quarantine: bool, confidence: float) -> None:
        self._store = store
        self._notices = notices
        self._quarantine, self._confidence = quarantine, confidence
        self._lock = threading.RLock()
        self._folded: dict[tuple[str, str], FunctionOutcomes] = {}
        self._due: set[tuple[str, str]] = set()
        self._feedback: dict[tuple[str, str], tuple[int, float | None]] = {}

    # Feedback

    def add(self, record: Record, value: float, reason: str) -> None:
        """Store how well the call went whose answer is this row.

        The reason, which is text, stands in the experience's log only, and is deleted with it.

        Args:
            record: the row.
            value: 0 to 1.
            reason: for people.

        Raises:
            StoreError: it could not be stored. Storing it again does no harm: the last feedback on a call counts.
        """
        before = self._last_feedback(record.namespace, record.id)
        shown = {"at": now_us(), "id": record.id, "value": value, "shown": json.loads(record.parents)}
        earlier = {} if before is None else {"before": before}
        self._append(record.namespace, record.function, shown | earlier | _held_out(record))
        entry = audit_entry("feedback", record.id, value=value, reason=reason)
        position = self._store.append_log(record.namespace, audit_log(record.id), [entry])
        self._remember(record.namespace, record.id, position, value)
        self._due.add((record.namespace, record.function))

    def values(self, record: Record) -> list[float]:
        """The values that people gave an experience, the oldest first.

        Raises:
            StoreError: the store failed.
        """
        entries = map(loads, audit_entries(self._store, record.namespace, record.id))
        return [entry["value"] for entry in entries if entry["what"] == "feedback"]

    def _last_feedback(self, namespace: str, id_: str) -> float | None:
        """The last feedback on an experience. Its log, which may be long, is read once."""
        position, value = self._feedback.get((namespace, id_), (0, None))
        while page := self._store.read_log(namespace, audit_log(id_), after=position, limit=_PAGE):
            position = page[-1].position
            for _, text in page:
                entry = json.loads(text)
                value = entry["value"] if entry.get("what") == "feedback" else value
        self._remember(namespace, id_, position, value)
        return value

    def _remember(self, namespace: str, id_: str, position: int, value: float | None) -> None:
        with self._lock:
            self._feedback.pop((namespace, id_), None)
            self._feedback[namespace, id_] = (position, value)
            if len(self._feedback) > _REMEMBERED:
                del self._feedback[next(iter(self._feedback))]

    def trusted_again(self, record: Record) -> None:
        """Count evidence about a quarantined row anew, because a person trusts it again.

        Raises:
            StoreError: that could not be stored.
        """
        if self._pointer(record.namespace, _hash(record.function)) is not None:
            self._append(record.namespace, record.function, {"at": now_us(), "cleared": record.id})

    def forget(self, namespace: str) -> None:
        """Delete the sums of a namespace, everything else of which was deleted.

        Raises:
            StoreError: the store failed.
        """
        for name in self._store.names(namespace).states:
            if name.startswith((_POINTER, _SUMS)):
                state = self._store.read_state(namespace, name)
                if state is not None and state.value:
                    self._store.write_state(namespace, name, "", state.revision)

    # Rounds

    def run(self) -> None:
        """Fold feedback that came since the last round, and quarantine what hurts.

        Raises:
            StoreError: the store failed; the next round goes on.
        """
        while self._due:
            namespace, function = place = self._due.pop()
            try:
                with self._lock:
                    folded = self._fold(namespace, function)
                    if folded is not None and self._quarantine:
                        self._decide(namespace, folded)
                    if folded is not None:
                        self._compact(namespace, folded)
            except ExpPoolError:
                self._due.add(place)
                raise

    def all(self, namespace: str) -> list[FunctionOutcomes]:
        """The outcomes of each function of the namespace that got feedback, up to now.

        Raises:
            StoreError: the store failed.
        """
        names = (n.removeprefix(_POINTER) for n in self._store.names(namespace).states if n.startswith(_POINTER))
        pointers = (self._pointer(namespace, hashed) for hashed in names)
        with self._lock:
            found = (self._fold(namespace, pointer.function) for pointer in pointers if pointer is not None)
            return sorted((folded for folded in found if folded is not None), key=lambda f: f.function)

    # Folding

    def _fold(self, namespace: str, function: str) -> FunctionOutcomes | None:
        """The function's outcomes, with everything that was appended up to now; None where there are none."""
        pointer = self._pointer(namespace, _hash(function))
        if pointer is None:
            self._folded.pop((namespace, function), None)
            return None
        folded = self._folded.get((namespace, function))
        if folded is None or (folded.generation, folded.known) != (pointer.generation, pointer.through):
            folded = self._stored(namespace, function, pointer)
            self._folded[namespace, function] = folded
        for segment in range(folded.through + 1, pointer.segment + 1):
            self._read(namespace, segment, folded)
        return folded

    def _stored(self, namespace: str, function: str, pointer: _Pointer) -> FunctionOutcomes:
        """The sums as they are stored."""
        folded = FunctionOutcomes(function, LiftTable(), pointer.generation, pointer.through)
        state = self._store.read_state(namespace, _SUMS + _hash(function))
        with suppress(LookupError, TypeError, ValueError):  # damaged: what was added up is lost, the logs are not
            stored = json.loads(state.value) if state is not None and state.value else {}
            if stored.get("generation") == pointer.generation:
                folded.lifts, folded.through = LiftTable.from_dict(stored["lifts"]), stored["through"]
        return folded

    def _read(self, namespace: str, segment: int, folded: FunctionOutcomes) -> None:
        """Fold what was appended to one log since."""
        read = folded.read.setdefault(segment, _ReadPosition())
        while page := self._store.read_log(namespace, _log(folded.function, segment), after=read.position, limit=_PAGE):
            _fold_entries(folded, [entry for _, entry in page])
            read.position, read.entries = page[-1].position, read.entries + len(page)

    def _compact(self, namespace: str, folded: FunctionOutcomes) -> None:
        """Begin the next log where this one is long; add up and drop logs that no process writes any more."""
        hashed = _hash(folded.function)
        state = self._store.read_state(namespace, _POINTER + hashed)
        pointer = self._pointer(namespace, hashed)
        if state is None or pointer is None or pointer.generation != folded.generation:
            return
        closed, read = pointer.segment - 1, folded.read.get(pointer.segment)
        if closed <= pointer.through:
            if read is not None and read.entries >= _SEGMENT:
                # Again: the process that added it up may have been killed before it dropped it.
                self._store.drop_logs(namespace, [_log(folded.function, pointer.through)])
                following = replace(pointer, segment=pointer.segment + 1, since=now_us())
                self._store.write_state(namespace, _POINTER + hashed, json_dumps(asdict(following)), state.revision)
            return
        if now_us() - pointer.since < _GRACE_S * 1e6:
            return
        before = self._store.read_state(namespace, _SUMS + hashed)
        added = self._stored(namespace, folded.function, pointer)
        segments = range(added.through + 1, closed + 1)
        for segment in segments:
            self._read(namespace, segment, added)
        sums = {"generation": pointer.generation, "through": closed, "lifts": added.lifts.to_dict()}
        if segments and not self._store.write_state(
            namespace, _SUMS + hashed, json_dumps(sums), before.revision if before else None
        ):
            return  # another process does it
        following = replace(pointer, through=closed)
        if self._store.write_state(namespace, _POINTER + hashed, json_dumps(asdict(following)), state.revision):
            names = [_log(folded.function, number) for number in range(pointer.through + 1, closed + 1)]
            self._store.drop_logs(namespace, names)

    # Deciding

    def _decide(self, namespace: str, folded: FunctionOutcomes) -> None:
        """Quarantine experiences that demonstrably hurt, each by itself or all together."""
        lifts = folded.lifts
        alone = lifts.hurting(self._confidence)
        together = [id_ for id_ in lifts.suspects(self._confidence) if id_ not in alone]
        if not alone and not together:
            return
        effects = {effect.id: effect for effect in lifts.effects()}
        whole = lifts.added_up()
        out = [id_ for id_ in alone if self._quarantine_one(namespace, id_, _reason_alone(effects[id_]))]
        evidence = lifts.pooled()
        reasons = ((id_, _reason_together(folded.function, whole, evidence, effects[id_])) for id_ in together)
        out += [id_ for id_, reason in reasons if self._quarantine_one(namespace, id_, reason)]
        entry: dict[str, Any] = {"at": now_us(), "out": out}
        if together:
            entry["alarm"] = lifts.alarms
        if out or together:
            self._append(namespace, folded.function, entry)
            self._fold(namespace, folded.function)
        if together:
            self._notices.warn_once(
                f"alarm:{namespace}:{folded.function}:{lifts.alarms}",
                f"{folded.function}: the experiences that it is shown lower its outcomes as a whole, so {len(out)} of "
                "them are quarantined; manager.report() says more, and update_exp(id, trust='trusted') takes one back",
            )

    def _quarantine_one(self, namespace: str, id_: str, reason: str) -> bool:
        """Quarantine a row unless a person annotated it; whether it is out of use now."""
        for _ in range(_TRIES):
            (row,) = self._store.get_many(namespace, [id_], by="id")
            if row is None or row.trust != "trusted":
                return True
            if row.annotated:
                self._notices.warn_once(
                    f"annotated:{namespace}:{id_}",
                    f"experience {id_} hurts, and was annotated, so it is left in use: {reason}. Look at it, and set "
                    "trust='quarantined' if you agree",
                )
                return False
            put = Put(replace(row, trust="quarantined"), PutMode.UPDATE, expected_revision=row.revision)
            if self._store.put_many([put]) != [PutStatus.CONFLICT]:
                entry = audit_entry("quarantine", id_, trust="quarantined", reason=reason)
                self._store.append_log(namespace, audit_log(id_), [entry])
                logger.info("{}: quarantined {}: {}", row.function, id_, reason)
                return True
        return False

    # Appending

    def _append(self, namespace: str, function: str, entry: dict[str, Any]) -> None:
        hashed = _hash(function)
        for _ in range(_TRIES):
            pointer = self._pointer(namespace, hashed)
            if pointer is not None:
                self._store.append_log(namespace, _log(function, pointer.segment), [json_dumps(entry)])
                return
            state = self._store.read_state(namespace, _POINTER + hashed)
            new = _Pointer(function, new_id(), since=now_us())
            text = json_dumps(asdict(new))
            self._store.write_state(namespace, _POINTER + hashed, text, state.revision if state else None)
        raise StoreError(f"the state {_POINTER + hashed!r} cannot be written")

    def _pointer(self, namespace: str, hashed: str) -> _Pointer | None:
        """Which log is written now; None where there is none, or the state cannot be read: then outcomes begin anew."""
        state = self._store.read_state(namespace, _POINTER + hashed)
        with suppress(TypeError, ValueError):
            return _Pointer(**json.loads(state.value)) if state is not None and state.value else None
        logger.warning("the state {!r} of {} cannot be read; outcomes count anew", _POINTER + hashed, namespace)
        return None


def _fold_entries(folded: FunctionOutcomes, entries: Iterable[str]) -> None:
    """Fold entries of a log in their order."""
    lifts, outcomes = folded.lifts, list[CallOutcome]()
    for text in entries:
        try:
            entry = json.loads(text)
        except ValueError:  # damaged: one outcome less
            continue
        if "value" in entry:
            # Two processes may both have thought theirs the first; a writer who failed halfway has come again.
            before = folded.last.get(entry["id"], entry.get("before"))
            folded.last[entry["id"]] = entry["value"]
            shown, left_out = tuple(entry["shown"]), tuple(entry.get("left_out", ()))
            outcomes.append(CallOutcome(entry["value"], shown, left_out, entry.get("holdout", 0.0), before))
            continue
        lifts.fold(outcomes)
        outcomes = []
        if "cleared" in entry:
            lifts.clear(entry["cleared"])
        elif "out" in entry:
            lifts.take_out(entry["out"])
            if entry.get("alarm") == lifts.alarms:  # or two processes would sound it twice
                lifts.alarm()
    lifts.fold(outcomes)


def _held_out(record: Record) -> dict[str, Any]:
    """What the call held out at random, as `Inject(holdout=)` noted in the row; empty where that cannot be read."""
    try:
        noted = loads(record.metadata).get("exp_pool", {})
        holdout, left_out = float(noted["holdout"]), [str(id_) for id_ in noted["left_out"]]
    except (AttributeError, LookupError, TypeError, ValueError):
        return {}
    return {"holdout": holdout, "left_out": left_out} if 0 < holdout < 1 else {}


def _reason_alone(effect: Effect) -> str:
    return (
        f"where it was shown ({effect.shown} calls) outcomes were lower by {-effect.lift:.2f} than where it was left "
        f"out at random ({effect.held_out} calls), between {-effect.high:.2f} and {-effect.low:.2f}; evidence that it "
        f"hurts: {effect.against:,.0f} to 1"
    )


def _reason_together(function: str, whole: tuple[float, float, float], evidence: float, effect: Effect) -> str:
    change, low, high = whole
    return (
        f"what {function} is shown changes its outcomes by {change:+.2f} in all (between {low:+.2f} and {high:+.2f}; "
        f"evidence that it hurts: {evidence:,.0f} to 1), and nothing shows that this one helps ({effect.shown} calls)"
    )


def _hash(function: str) -> str:
    """A function's name, of any length and characters, as part of the name of a state or a log."""
    return hashlib.sha256(function.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _log(function: str, segment: int) -> str:
    return f"{_POINTER}{_hash(function)}:{segment}"
