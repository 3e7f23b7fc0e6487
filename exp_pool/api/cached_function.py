"""`Decorated`: a decorated function, and what can be asked of every kind of it. `wrappers` has the kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from exp_pool.api.call_binder import CallBinder, DecoratorConfig
from exp_pool.api.current import current
from exp_pool.api.pool import Pool
from exp_pool.calls.call_spec import CallSpec
from exp_pool.calls.drivers import sync
from exp_pool.calls.lookup import judge_only, lookup
from exp_pool.calls.policy import Policy
from exp_pool.calls.request import KeyOfCall, Request, bind_call
from exp_pool.calls.steps import Flow
from exp_pool.core.identity.function_proxy import FunctionProxy
from exp_pool.core.identity.names import qualified_name
from exp_pool.core.record import Match
from exp_pool.core.results import Call
from exp_pool.core.ttl import Ttl
from exp_pool.errors import EncodingError, ExpPoolError, InvalidInputError, NamespaceError, UnkeyableError
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.clock import now
from exp_pool.runtime.counters import CacheInfo

P = ParamSpec("P")
R = TypeVar("R")

# The decorated functions of this process, by the name under which their calls are stored.
decorated: WeakValueDictionary[str, Decorated[..., Any]] = WeakValueDictionary()


class Decorated(FunctionProxy, Generic[P, R]):
    """A decorated function. On instances it is bound like a method, and so is everything that can be asked of it."""

    __slots__ = ("_binder", "_local")
    _setup: DecoratorConfig

    def _take(self, setup: DecoratorConfig) -> None:
        super()._take(setup)
        # Held here and not by the setup, which it holds: a function that nobody holds any more is to be freed at once.
        self._binder: CallBinder = CallBinder(setup) if self._func is None else self._func._binder  # noqa: SLF001
        # What asks the local cache, if that may know answers. Where the function is bound, the arguments do not say
        # everything about the call.
        self._local = self._binder if self._func is None and setup.plain else None
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

    def _request_of(self, pool: Pool, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request:
        """The request of a call with these arguments."""
        return self._binder.request(pool, *self._binder.full(self._bound, args, kwargs))

    def key(self, /, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of this call.

        Raises:
            UnkeyableError: an argument has no stable identity.
        """
        request = self._request_of(self._binder.pool(), args, kwargs)
        return KeyOfCall(request.key, request.namespace)

    def __exp_call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> dict[str, Any]:
        """What `Experience.from_call` needs to make the experience that answers this call."""
        # With the secret, where it is known: what is shown of self and of closures is not what their key was made of.
        manager = self._setup.manager or current.known
        args, kwargs = self._binder.full(self._bound, args, kwargs)
        namespace = self._binder.namespace(args, kwargs)
        request = bind_call(self._spec, args, kwargs, namespace or "", manager.sync.secret if manager else None)
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

    def _namespaces(self, pool: Pool) -> list[str]:
        """The namespaces in which what is asked of the function, not of one call, holds."""
        wanted = self._setup.namespace
        return pool.functions.namespaces_of(
            self._spec.name, wanted if isinstance(wanted, str) else None, varying=callable(wanted)
        )

    def _clear(self) -> int:
        pool = self._binder.pool()
        return pool.functions.clear(self._spec.name, self._namespaces(pool))

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
        pool = pool or self._binder.pool()
        return pool.functions.adopt(self._spec.name, source.current(), self._namespaces(pool), progress=progress)

    def _looking(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Pool, Flow[Match | None]]:
        pool = self._binder.pool()
        pool.check_open()
        return pool, lookup(self._request_of(pool, args, kwargs), self._binder.policy_in(pool))

    def _explanation(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        pool = self._binder.pool()
        if (unanswered := pool.why_unanswered()) is not None:
            return f"this call is not answered from the pool: {unanswered}"
        try:
            request = self._request_of(pool, args, kwargs)
        except (TypeError, NamespaceError) as err:  # it does not fit, has no stable identity, or is nobody's
            return f"this call runs uncached: {err}"
        if self._setup.refusal:
            return f"this call runs uncached: {self._setup.refusal}"
        policy = self._binder.policy_in(pool)
        if policy.judge is None:
            return pool.functions.explain(request, policy.min_score, misfit=policy.misfit)
        with suppress(ExpPoolError):  # what was stored a moment ago is compared, too, if it can be embedded now
            pool.queries.catch_up(request.namespace, request.text)
        try:
            judged = sync.drive(judge_only(request, policy), pool.services, self._setup.function)
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
        pool = self._binder.pool()
        pool.stats()  # counts the hits of the local cache
        count = pool.functions.count(self._spec.name, self._namespaces(pool))
        return CacheInfo(*pool.counters.of_function(self._spec.name), count)

    def _invalidate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
        pool = self._binder.pool()
        request = self._request_of(pool, args, kwargs)
        return pool.deleter.delete_call(request.namespace, request.key)
