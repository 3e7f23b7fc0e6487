"""What the story's steps are performed on: the pool's parts, and how each step is done. Synchronous, thread-safe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from exp_pool.calls.drivers.early_renewal import Renewals
from exp_pool.calls.drivers.judge import Judging
from exp_pool.calls.drivers.leases import Leases
from exp_pool.calls.drivers.single_flight import Flight, Flights
from exp_pool.calls.drivers.stream_buffer import Streams
from exp_pool.calls.local_cache import Hot
from exp_pool.calls.request import Request
from exp_pool.calls.steps import (
    AskFeeds,
    AskJudge,
    Awaited,
    Claim,
    Coalesced,
    Ending,
    Explain,
    FindSimilar,
    FlowStep,
    Found,
    Keep,
    Learn,
    LookUp,
    NotFound,
    Once,
    Outdated,
    Ran,
    Rate,
    Recall,
    Trouble,
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


class Later(Protocol):
    """What is told of work that can wait (`maintenance.worker`)."""

    def stored(self, namespaces: Iterable[str], *, by_hand: bool = False) -> None:
        """Rows were stored there; by hand: people put them in, and expect the next call to find them."""

    def catch_up_for_call(self, namespace: str, function: str, embedder: str, deadline: float) -> None:
        """Embed what is owed to a function, where a call is to find it; until the deadline."""

    def used(self, namespace: str, id_: str, count: int = 1, at: int | None = None) -> None:
        """A row answered a call, or so many, the last one then (microseconds)."""


class Learning(Protocol):
    """What judges that learn remember (`maintenance.judge_training`)."""

    def recall(self, step: Recall) -> Any:
        """What this judge remembers of the function. Never waits for I/O."""

    def learn(self, step: Learn) -> None:
        """Remember this, later."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The parts of one manager that calls need."""

    store: RecordStore
    search: Search
    later: Later
    counters: Counters
    notices: Notices
    embed_timeout_s: float
    judging: Judging
    leases: Leases
    flights: Flights
    hot: Hot
    background: Background
    streams: Streams
    renewals: Renewals
    explain: Callable[..., str]  # of a request: why nothing answers it
    rate: Callable[[Record], Record]
    learning: Learning
    outdated: Callable[[Request], None]
    feeds: Sequence[Callable[[Call], Any]] = ()
    callbacks: Sequence[Callable[[str, Experience], Any]] = ()
    observers: Sequence[Observer] = ()

    def quick(self, step: FlowStep) -> bool:
        """Whether the step is done without waiting for I/O, so that an event loop may do it itself."""
        match step:
            case Found() | Awaited() | Coalesced() | NotFound() | Ran() | Trouble() | Recall() | Learn():
                return True
            case LookUp() | Claim() | Keep():
                return not self.store.capabilities.blocking
            case AskFeeds():
                return not self.feeds
            case _:
                return False

    def perform(self, step: FlowStep) -> Any:
        """Do one step and give what it comes to. Those about the function itself and about waiting are the drivers'."""
        match step:
            case LookUp(request):
                return self.store.get_many(request.namespace, [request.key])[0]
            case Claim(request):
                return self.leases.claim(request.namespace, request.key, step.passing)
            case Outdated(request):
                return self.outdated(request)
            case Found():
                return self._found(step)
            case Awaited(request):
                return self.flights.awaited(request)
            case Coalesced(request):
                return self.counters.called(request.function, "coalesced")
            case NotFound(request):
                self.counters.called(request.function, "misses")
                return self.tell(Event(EventKind.MISS, request.namespace, request.function, request.key))
            case Ran(request, outcome):
                capture = outcome.capture
                strategy = capture.strategy or ("premium" if outcome.refined else None)
                return request.line(strategy, capture.model, lambda: outcome.value).write()
            case Rate(_, record):
                return self.rate(record)
            case Keep(_, record, lease):
                return self._keep(record, lease)
            case FindSimilar():
                return self._find_similar(step)
            case Recall():
                return self.learning.recall(step)
            case Learn():
                return self.learning.learn(step)
            case AskJudge(judge, question):
                tenant = question.hits[0].experience.namespace
                assert tenant is not None
                with in_namespace(tenant):  # what it asks of the pool is the same tenant's
                    return self.judging.ask(judge, question)
            case AskFeeds(request):
                return self._ask_feeds(request)
            case Explain(request, misfit):
                return self.explain(request, misfit=misfit)
            case Trouble():
                with suppress(Exception):  # an error that cannot even be shown, a log that cannot be written
                    self._trouble(step)
                return None
            case _:
                raise TypeError(f"no driver gives {type(step).__name__} away")

    def land(self, step: Once, flight: Flight, ending: Ending | None) -> None:
        """A flight is over: give back a lease that it still holds, then tell those aboard. The second time: nothing.

        In this order, or the next flight of the key might already hold a lease of its own.
        """
        if not flight.landed:
            if step.write:  # others claim nothing
                self.leases.give_back(step.request.namespace, step.request.key)
            self.flights.land(step, flight, ending)

    def loading(self, step: FindSimilar) -> Future[Embedder] | None:
        """What this step waits for before it can be performed, for `search.patience`; None: nothing."""
        return self.search.loading(self._wanted(step))

    def _find_similar(self, step: FindSimilar) -> list[Match]:
        wanted = self._wanted(step)
        if not self.search.prepared(wanted):
            return []
        deadline = monotonic() + self.embed_timeout_s
        embedded = self.search.embedded(wanted, self.embed_timeout_s)
        if embedded is None:
            return []
        self.later.catch_up_for_call(wanted.namespace, step.request.function, embedded.embedder, deadline)
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

    def _keep(self, record: Record, lease: Lease | None) -> bool:
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
        """Tell callbacks, observers and upkeep of rows that were stored, by a call or by hand."""
        self.later.stored({record.namespace for record in records}, by_hand=by_hand)
        for record in records:
            if self.callbacks:
                experience = to_experience(record)
                for callback in self.callbacks:
                    self._guarded("callback", callback, record.key, experience)
            self.tell(Event(EventKind.STORE, record.namespace, record.function, record.key, record.id))

    def _found(self, found: Found) -> None:
        request, match, again = found.request, found.match, found.again
        record = match.record
        self.counters.called(record.function, "hits", record.metric)
        self.later.used(record.namespace, record.id)
        line = request.line(record.strategy, record.model, again, cached=True)
        line.write()
        if request.memo is not None and again is not None and match.found_by == "exact":
            memo, writes = request.memo
            self.hot.put(memo, record, again(), line, writes, again, found.until)
        if self.observers:
            detail = {"found_by": match.found_by, "similarity": match.similarity}
            self.tell(Event(EventKind.HIT, record.namespace, record.function, record.key, record.id, detail))

    def _ask_feeds(self, request: Request) -> Any:
        if self.feeds:
            call = Call(request.spec.function, request.function, request.named)
            for feed in self.feeds:
                value = self._guarded("feed", feed, call)
                if value is not ...:
                    return value
        return ...

    def _trouble(self, trouble: Trouble) -> None:
        self.counters.add("degraded")
        function, error = trouble.request.function, trouble.error
        said = str(error) or repr(error)
        message = f"{function}: the pool could not {trouble.what}, so the call went on without it. {said}"
        topic = f"{trouble.what}:{type(error).__name__}"
        if isinstance(error, EncodingError):  # the function's to mend, so each function is told
            topic += f":{function}"
            message += ". Return what JSON can hold, or annotate the return type with its model or dataclass"
        elif isinstance(error, MisfitError):  # each answer is to be mended
            topic += f":{said}"
        log_with_trace("DEBUG", message, error)
        self.notices.warn_once(topic, message, trouble.request.spec.function)
        detail = {"what": trouble.what, "error": type(error).__name__}
        self.tell(Event(EventKind.DEGRADE, trouble.request.namespace, function, trouble.request.key, None, detail))

    def tell(self, event: Event) -> None:
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
