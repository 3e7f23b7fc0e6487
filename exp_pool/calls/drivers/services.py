"""The parts of the pool that calls need, and how each step is performed on them. Synchronous and thread-safe.

Drivers perform the steps about the function itself and about waiting; `CallServices.perform` does all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from exp_pool.calls.drivers.early_renewal import Renewals
from exp_pool.calls.drivers.judge import JudgeRunner
from exp_pool.calls.drivers.leases import Leases
from exp_pool.calls.drivers.single_flight import Flight, Flights
from exp_pool.calls.drivers.stream_buffer import Streams
from exp_pool.calls.local_cache import LocalCache
from exp_pool.calls.request import Request
from exp_pool.calls.steps import (
    AskFeeds,
    AskJudge,
    CallResult,
    ClaimLease,
    Coalesce,
    Coalesced,
    Degraded,
    Explain,
    FindSimilar,
    FlowStep,
    Found,
    HasWaiters,
    LogRun,
    LookUp,
    NotFound,
    Recall,
    ReportStaleSource,
    ScoreRow,
    StoreRow,
    TrainJudge,
)
from exp_pool.core.contracts.plugs import Embedder, Event, EventKind, Lease, Observer, Put, PutStatus, RecordStore
from exp_pool.core.experience import Experience
from exp_pool.core.record import Match, Record, to_experience
from exp_pool.core.results import Call
from exp_pool.errors import EncodingError, MisfitError
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.background import Background
from exp_pool.runtime.call_context import in_namespace
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.notices import Notices, log_with_trace
from exp_pool.search.search import Search, SearchQuery
from exp_pool.stores.lineage import with_inherited_trust


class Maintenance(Protocol):
    """What calls need of maintenance (`maintenance.worker`)."""

    def stored(self, namespaces: Iterable[str], *, by_hand: bool = False) -> None:
        """Rows were stored in these namespaces. `by_hand`: people put them in, and the next call is to find them."""

    def catch_up_for_call(self, namespace: str, function: str, embedder: str, deadline: float) -> None:
        """Embed the pending rows of a function before a call searches, until the deadline."""

    def used(self, namespace: str, id_: str, count: int = 1, at: int | None = None) -> None:
        """A row answered so many calls, the last one then (microseconds)."""


class JudgeTrainer(Protocol):
    """The state of judges that learn (`maintenance.judge_training`)."""

    def recall(self, step: Recall) -> Any:
        """What the judge has learned of the function. Never waits for I/O."""

    def learn(self, step: TrainJudge) -> None:
        """Queue a training example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallServices:
    """The parts of one manager that calls need."""

    store: RecordStore  # every write through it invalidates the local cache
    search: Search
    maintenance: Maintenance
    counters: Counters
    notices: Notices
    judges: JudgeRunner
    judge_training: JudgeTrainer
    leases: Leases  # by which processes agree on who computes an answer
    flights: Flights  # identical calls that run now
    streams: Streams  # streams that run now
    renewals: Renewals  # keys that are renewed in the background now
    local_cache: LocalCache
    background: Background  # refinements and renewals, for `flush` and `close`
    embed_timeout_s: float  # how long a call waits for its request's vector
    explain: Callable[..., str]  # takes a request and `misfit=`: why nothing answers the request
    score: Callable[[Record], Record]
    outdated: Callable[[Request], None]  # called where other source of the function gave the stored answer
    feeds: Sequence[Callable[[Call], Any]] = ()
    callbacks: Sequence[Callable[[str, Experience], Any]] = ()
    observers: Sequence[Observer] = ()

    def quick(self, step: FlowStep) -> bool:
        """Whether the step needs no wait for I/O, so that an event loop may perform it itself."""
        match step:
            case Found() | HasWaiters() | Coalesced() | NotFound() | LogRun() | Degraded() | Recall() | TrainJudge():
                return True
            case LookUp() | ClaimLease() | StoreRow():
                return not self.store.capabilities.blocking
            case AskFeeds():
                return not self.feeds
            case _:
                return False

    def perform(self, step: FlowStep) -> Any:
        """Perform one step and return its result."""
        match step:
            case LookUp(request):
                return self.store.get_many(request.namespace, [request.key])[0]
            case ClaimLease(request):
                return self.leases.claim(request.namespace, request.key, step.passing)
            case ReportStaleSource(request):
                return self.outdated(request)
            case Found():
                return self._found(step)
            case HasWaiters(request):
                return self.flights.has_waiters(request)
            case Coalesced(request):
                return self.counters.called(request.function, "coalesced")
            case NotFound(request):
                self.counters.called(request.function, "misses")
                return self.notify(Event(EventKind.MISS, request.namespace, request.function, request.key))
            case LogRun(request, outcome):
                capture = outcome.capture
                strategy = capture.strategy or ("premium" if outcome.refined else None)
                return request.log_record(strategy, capture.model, lambda: outcome.value).write()
            case ScoreRow(_, record):
                return self.score(record)
            case StoreRow(_, record, lease):
                return self._store(record, lease)
            case FindSimilar():
                return self._find_similar(step)
            case Recall():
                return self.judge_training.recall(step)
            case TrainJudge():
                return self.judge_training.learn(step)
            case AskJudge(judge, question):
                tenant = question.hits[0].experience.namespace
                assert tenant is not None
                with in_namespace(tenant):  # what it asks of the pool is the same tenant's
                    return self.judges.ask(judge, question)
            case AskFeeds(request):
                return self._ask_feeds(request)
            case Explain(request, misfit):
                return self.explain(request, misfit=misfit)
            case Degraded():
                with suppress(Exception):  # an error that cannot even be shown, a log that cannot be written
                    self._degraded(step)
                return None
            case _:
                raise TypeError(f"{type(step).__name__} is no step that services perform")

    def complete(self, step: Coalesce, flight: Flight, result: CallResult | None) -> None:
        """A flight is over: give back the lease that it still holds, then wake its waiters. Idempotent.

        In this order, or the next flight of the key might already hold a lease of its own.

        Args:
            step: the section that the flight has driven.
            flight: the flight, led by the caller.
            result: what the section returned; None where it has no result, and waiters have to see for themselves.
        """
        if not flight.completed:
            if step.write:  # others claim nothing
                self.leases.give_back(step.request.namespace, step.request.key)
            self.flights.complete(step, flight, result)

    def loading(self, step: FindSimilar) -> Future[Embedder] | None:
        """The embedder being loaded, which this step has to wait for (`search.patience`); None: no wait is needed."""
        return self.search.loading(self._wanted(step))

    def _find_similar(self, step: FindSimilar) -> list[Match]:
        wanted = self._wanted(step)
        if not self.search.prepared(wanted):
            return []
        deadline = monotonic() + self.embed_timeout_s
        embedded = self.search.embedded(wanted, self.embed_timeout_s)
        if embedded is None:
            return []
        self.maintenance.catch_up_for_call(wanted.namespace, step.request.function, embedded.embedder, deadline)
        if not step.to_answer:
            return self.search.nearest(wanted, embedded)
        return self.search.comparable(wanted, embedded, max(0.0, deadline - monotonic()))

    def _wanted(self, step: FindSimilar) -> SearchQuery:
        request = step.request
        return SearchQuery(
            namespace=request.namespace,
            text=request.text,
            limit=step.limit,
            min_similarity=step.min_similarity,
            function=request.function,
            version=request.version,
            reuse_scope=request.scope if step.to_answer else None,
            where=step.where,
            thorough=False,  # a call that finds a thousand failures nearby goes on without what is behind them
            whole=step.to_answer,
        )

    def _store(self, record: Record, lease: Lease | None) -> bool:
        (record,) = with_inherited_trust(self.store, [record])
        (status,) = self.store.put_many([Put(record, lease=lease)])
        stored = status in (PutStatus.CURRENT, PutStatus.HISTORY)
        if lease is not None:
            self.leases.settle(lease)
        if stored:
            self.counters.add("stored")
            self.stored([record])
        return stored

    def stored(self, records: Sequence[Record], *, by_hand: bool = False) -> None:
        """Tell callbacks, observers and maintenance of rows that were stored, by a call or by hand."""
        self.maintenance.stored({record.namespace for record in records}, by_hand=by_hand)
        for record in records:
            if self.callbacks:
                experience = to_experience(record)
                for callback in self.callbacks:
                    self._guarded("callback", callback, record.key, experience)
            self.notify(Event(EventKind.STORE, record.namespace, record.function, record.key, record.id))

    def _found(self, found: Found) -> None:
        request, match, decode = found.request, found.match, found.decode
        record = match.record
        self.counters.called(record.function, "hits", record.metric)
        self.maintenance.used(record.namespace, record.id)
        logged = request.log_record(record.strategy, record.model, decode, cached=True)
        logged.write()
        if request.memo is not None and decode is not None and match.found_by == "exact" and self.local_cache.enabled:
            memo, writes = request.memo
            self.local_cache.put(memo, record, decode(), logged, writes, decode, found.until)
        if self.observers:
            detail = {"found_by": match.found_by, "similarity": match.similarity}
            self.notify(Event(EventKind.HIT, record.namespace, record.function, record.key, record.id, detail))

    def _ask_feeds(self, request: Request) -> Any:
        if self.feeds:
            call = Call(request.spec.function, request.function, request.named)
            for feed in self.feeds:
                value = self._guarded("feed", feed, call)
                if value is not ...:
                    return value
        return ...

    def _degraded(self, step: Degraded) -> None:
        self.counters.add("degraded")
        request, error = step.request, step.error
        why = str(error) or repr(error)
        message = f"{request.function}: the pool could not {step.what}, so the call went on without it. {why}"
        topic = f"{step.what}:{type(error).__name__}"
        if isinstance(error, EncodingError):  # the function is to be changed, so there is a notice for each function
            topic += f":{request.function}"
            message += ". Return what JSON can hold, or annotate the return type with its model or dataclass"
        elif isinstance(error, MisfitError):  # the answer is to be changed, so there is a notice for each answer
            topic += f":{why}"
        log_with_trace("DEBUG", message, error)
        self.notices.warn_once(topic, message, request.spec.function)
        detail = {"what": step.what, "error": type(error).__name__}
        self.notify(Event(EventKind.DEGRADE, request.namespace, request.function, request.key, None, detail))

    def notify(self, event: Event) -> None:
        """Notify every observer; what one raises is logged and skipped."""
        for observer in self.observers:
            self._guarded("observer", _notify, observer, event)

    def _guarded(self, kind: str, plug: Callable[..., Any], *args: Any) -> Any:
        """What a plug of the user's returns; ``...`` where it raised."""
        try:
            return resolve(plug(*args))
        except Exception as err:
            self.counters.add("degraded")
            with suppress(Exception):
                log_with_trace("WARNING", f"a {kind} raised and was skipped: {err!r}", err)
            return ...


def _notify(observer: Observer, event: Event) -> Any:
    """Looking for the method is a part of what may raise."""
    return observer.notify(event)
