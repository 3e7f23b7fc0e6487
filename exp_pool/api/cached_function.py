"""What a decorated function is, for each kind of function, and what can be asked of it.

`Decorated` knows how a call becomes a request and begins its story; the kinds below it differ in who performs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from exp_pool.api.current import HasPool, current
from exp_pool.api.pool import Pool
from exp_pool.api.shortcut import Shortcut
from exp_pool.calls.drivers import sync
from exp_pool.calls.flow import considered, look, story
from exp_pool.calls.request import CallSpec, KeyOfCall, Memo, Request
from exp_pool.calls.steps import Ending, Mode, Policy, Story
from exp_pool.core.experience import Call
from exp_pool.core.identity.arguments import bind
from exp_pool.core.identity.function_like import FunctionLike, Original
from exp_pool.core.identity.names import qualified_name
from exp_pool.core.identity.source import Source
from exp_pool.core.identity.value_source import with_arguments
from exp_pool.core.record import Match
from exp_pool.core.ttl import Ttl
from exp_pool.errors import (
    ConfigurationError,
    EncodingError,
    ExpPoolError,
    InvalidInputError,
    NamespaceError,
    ReplayMissError,
    UnkeyableError,
)
from exp_pool.maintenance.scorer_runner import FunctionScorer
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.call_context import current_access, current_namespace
from exp_pool.runtime.clock import now
from exp_pool.runtime.counters import CacheInfo
from exp_pool.runtime.notices import Notices

P = ParamSpec("P")
R = TypeVar("R")

# The decorated functions of this process, by the name under which their calls are stored.
decorated: WeakValueDictionary[str, Decorated[..., Any]] = WeakValueDictionary()

_notices = Notices()  # for calls that have no manager to say it


@dataclass(frozen=True, eq=False)
class Setup(Original):
    """What the decorator made of its options."""

    spec: CallSpec
    policy: Policy
    manager: HasPool | None
    namespace: str | Callable[[Call], str] | None
    scored: FunctionScorer | None
    bound_by_name: Mapping[str, Any]  # what a partial holds of named arguments
    refusal: str = ""  # why it always runs uncached
    notice: str = ""
    batch: str = ""
    source: Source | None = None  # whose answers count; None: those of any source

    @property
    def plain(self) -> bool:
        """Whether an identical call always has the same answer, whatever else is the case: what the hot tier needs."""
        policy = self.policy
        asks_nobody = policy.judge is None and policy.min_score is None and not callable(self.namespace)
        return asks_nobody and self.spec.plain and not (self.bound or self.bound_by_name or self.batch)


@dataclass(frozen=True, slots=True)
class Begun:
    """A call on its way."""

    pool: Pool
    request: Request
    policy: Policy
    telling: Story[Ending]


class Decorated(FunctionLike, Generic[P, R]):
    """A decorated function. On instances it is bound like a method, and so is everything that can be asked of it."""

    __slots__ = ("_shortcut",)
    _setup: Setup

    def _take(self, setup: Setup) -> None:
        super()._take(setup)
        # Where it is bound, the arguments do not say everything about the call.
        plain = self._func is None and setup.plain
        self._shortcut = Shortcut(setup, setup.source, setup.manager) if plain else None
        if self._func is None:
            self.__exp_function__ = setup.spec.name
            decorated[setup.spec.name] = self

    @property
    def _function(self) -> Callable[..., Any]:
        return self._setup.function

    @property
    def _spec(self) -> CallSpec:
        return self._setup.spec

    @property
    def _policy(self) -> Policy:
        return self._setup.policy

    def __exp_key__(self) -> Any:
        """What it is as an argument of another function: its name, and what it is bound to."""
        if not self.has_a_name():
            raise UnkeyableError(f"the function {self._spec.name} has no name that tells it from others")
        name = qualified_name(self)
        return name if self._func is None else (name, self._instance)

    def __repr__(self) -> str:
        return f"<exp_cache of {self._spec.name}>"

    def _full(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The arguments with those that are bound."""
        by_name = self._setup.bound_by_name
        if not by_name:
            return ((*self._bound, *args) if self._bound else args), kwargs
        return (*self._bound, *args), {**by_name, **kwargs}

    def key(self, /, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of this call.

        Raises:
            UnkeyableError: an argument has no stable identity.
        """
        request = self._request(self._pool(), *self._full(args, kwargs))
        return KeyOfCall(request.key, request.namespace)

    def __exp_call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> dict[str, Any]:
        """What `Experience.from_call` needs to make the experience that answers this call."""
        # With the secret, where it is known: what is shown of self and of closures is not what their key was made of.
        manager = self._setup.manager or current.known
        args, kwargs = self._full(args, kwargs)
        namespace = self._namespace(args, kwargs)
        request = self._spec.request(args, kwargs, namespace or "", manager.sync.secret if manager else None)
        fields: dict[str, Any] = {
            "function": request.function,
            "version": request.version,
            "arguments": request.arguments,
            "request": request.text,
            "key": request.key,
            "codec": self._codec_of(value),
            "metadata": dict(self._policy.metadata),
        }
        if namespace is not None:
            fields["namespace"] = namespace
        ttl = self._policy.ttl
        if callable(ttl):
            call = Call(self._function, request.function, request.named, metadata=self._policy.metadata)
            ttl = Ttl.of(resolve(ttl(call, value)))
        if ttl is not None:
            fields["expires_at"] = now() + timedelta(seconds=ttl.after_s)
        return fields

    def _codec_of(self, value: Any) -> str:
        with suppress(EncodingError, AttributeError, TypeError):
            return self._policy.codec.encode(value)[1]
        return "json"

    def _pool(self) -> Pool:
        pool = (self._setup.manager or current.get()).sync
        if self._setup.scored is not None:
            pool.score_with(self._spec.name, self._setup.scored)
        return pool

    def _request(
        self, pool: Pool, args: tuple[Any, ...], kwargs: Mapping[str, Any], memo: Memo | None = None
    ) -> Request:
        namespace = self._namespace(args, kwargs)
        if namespace is None:
            if pool.config.require_namespace:
                raise NamespaceError(
                    "no namespace is named, and require_namespace is on: call it inside `with in_namespace(...)`, give "
                    "it namespace=, or take the namespace into its thread with exp_pool.carry(executor)"
                )
            namespace = pool.config.namespace
        before = None if memo is None else (memo, pool.hot.writes)
        source = "" if self._setup.source is None else self._setup.source.current()
        request = self._spec.request(args, kwargs, namespace, pool.secret, before, source)
        if not source:
            return request
        told = with_arguments(source, self._spec.passed(request))
        return request if told is source else replace(request, source=told)

    def _namespace(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """The namespace of this call; None where that is the manager's."""
        namespace, wanted = current_namespace(), self._setup.namespace
        if namespace is None and wanted is not None:
            namespace = wanted if isinstance(wanted, str) else self._ask_namespace(wanted, args, kwargs)
        return namespace

    def _spaces(self, pool: Pool) -> list[str]:
        """The namespaces in which what is asked of the function, not of one call, holds."""
        wanted = self._setup.namespace
        return pool.functions.namespaces_of(
            self._spec.name, wanted if isinstance(wanted, str) else None, varying=callable(wanted)
        )

    def _clear(self) -> int:
        pool = self._pool()
        return pool.functions.clear(self._spec.name, self._spaces(pool))

    def adopt_in(self, pool: Pool | None = None, *, progress: bool = True) -> int:
        """What `adopt` does, blocking, in the function's own pool or in another one.

        Raises:
            InvalidInputError: the function does not look at its source.
        """
        source = self._setup.source
        if source is None:
            raise InvalidInputError(
                f'{self._spec.name} has source="ignore": what earlier source of it answered still answers, so there is '
                "nothing to adopt"
            )
        pool = pool or self._pool()
        return pool.functions.adopt(self._spec.name, source.current(), self._spaces(pool), progress=progress)

    def _ask_namespace(self, ask: Callable[[Call], str], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        # All arguments, those too that are excluded from the key: who a call is for often is one of these.
        named = bind(self._spec.signature, args, self._spec.complete(args, kwargs))
        call = Call(self._function, self._spec.name, named)
        try:
            namespace = ask(call)
        except Exception as err:
            raise ConfigurationError(f"namespace= raised {err!r}") from err
        if not isinstance(namespace, str) or not namespace:
            raise ConfigurationError(f"namespace= gave {namespace!r}; it must give text, not empty")
        return namespace

    def _policy_in(self, pool: Pool) -> Policy:
        """The policy under this manager's settings."""
        policy = self._policy
        if pool.recording:
            return replace(policy, ttl=None, min_score=None)
        if policy.ttl is None and pool.config.default_ttl is not None:
            return replace(policy, ttl=Ttl(pool.config.default_ttl))
        return policy

    def _mode(self, pool: Pool, *, fresh: bool = False) -> Mode | None:
        """What the call may do with the pool; None where it runs without."""
        switches = pool.switches()
        if not (switches.read or switches.write):
            return None
        notice = self._setup.notice
        if self._setup.source is not None and not self._setup.source.current():
            notice = (
                f"{self._spec.name} was not written in Python, so that it has changed cannot be noticed: change "
                "version= when it has"
            )
        if notice:
            pool.notices.warn_once(f"source:{self._spec.name}", notice, self._function)
        problem = self._policy.codec.problem
        if problem:
            pool.notices.warn_once(
                f"annotation:{self._spec.name}",
                f"{self._spec.name}: its return annotation cannot be used at run time ({problem}), so only what JSON "
                "can hold is stored, and no change of the type is noticed. Import its names where the module runs (not "
                "under TYPE_CHECKING), or give codec=",
                self._function,
            )
        replay = pool.replay and switches.read and not fresh
        return Mode(switches.read and not fresh, switches.write, replay, pool.remedy)

    def _begin(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False, memo: Memo | None = None
    ) -> Begun | None:
        """The story of this call; None where it is to run without the pool: never an exception but in replay."""
        pool: Pool | None = None
        try:
            pool = self._pool()
            mode = self._mode(pool, fresh=fresh)
            if mode is None:
                return None
            if self._setup.refusal:
                raise ConfigurationError(self._setup.refusal)
            request = self._request(pool, args, kwargs, memo)
            policy = self._policy_in(pool)
            return Begun(pool, request, policy, story(request, policy, mode))
        except Exception as err:
            self._without(pool, args, kwargs, err)
            return None

    def _without(self, pool: Pool | None, args: tuple[Any, ...], kwargs: Mapping[str, Any], err: Exception) -> None:
        """Say that the call runs uncached, and why."""
        if not self._spec.fits(args, kwargs):  # the function will say so itself
            return
        if pool is None:
            _notices.warn_once(
                f"manager:{type(err).__name__}", f"{self._spec.name} runs uncached: {err}", self._function
            )
            return
        pool.uncached(self._spec.name, err, self._function)
        if pool.replay and current_access().read:
            raise ReplayMissError(f"{self._spec.name} is uncached: {err}. Replay is on, so it does not run") from err

    def _looking(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Pool, Story[Match | None]]:
        pool = self._pool()
        pool.check_open()
        return pool, look(self._request(pool, *self._full(args, kwargs)), self._policy_in(pool))

    def _explanation(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        pool = self._pool()
        if (unanswered := pool.why_unanswered()) is not None:
            return f"this call is not answered from the pool: {unanswered}"
        try:
            request = self._request(pool, *self._full(args, kwargs))
        except (TypeError, NamespaceError) as err:  # it does not fit, has no stable identity, or is nobody's
            return f"this call runs uncached: {err}"
        if self._setup.refusal:
            return f"this call runs uncached: {self._setup.refusal}"
        policy = self._policy_in(pool)
        if policy.judge is None:
            return pool.functions.explain(request, policy.min_score, misfit=policy.misfit)
        with suppress(ExpPoolError):  # what was stored a moment ago is compared, too, if it can be embedded now
            pool.queries.catch_up(request.namespace, request.text)
        try:
            judged = sync.drive(considered(request, policy), pool.ports, self._setup.function)
        except Exception as err:
            said = pool.functions.explain(request, policy.min_score, misfit=policy.misfit)
            return f"{said}; the judge could not be asked: {err!r}"
        # What is compared with is what the judge speaks of.
        nearest = judged.match or next(iter(judged.shown), None)
        said = pool.functions.explain(request, policy.min_score, nearest, policy.misfit)
        if judged.match is None or judged.live:
            return f"{said}; the judge: {judged.why or 'no'}"
        answer = judged.match
        return f"{said}; the judge lets {answer.record.id} answer it (similarity {answer.similarity:.3f}): {judged.why}"

    def _info(self) -> CacheInfo:
        pool = self._pool()
        pool.stats()  # counts what the hot tier has not told yet
        count = pool.functions.count(self._spec.name, self._spaces(pool))
        return CacheInfo(*pool.counters.of_function(self._spec.name), count)

    def _invalidate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
        pool = self._pool()
        request = self._request(pool, *self._full(args, kwargs))
        return pool.deleter.delete_call(request.namespace, request.key)
