"""``@exp_cache``: what a decorated function is, and what can be asked of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from exp_pool.capture import current_namespace
from exp_pool.codecs import codec_for
from exp_pool.current import HasPool, current
from exp_pool.drivers import aio, sync
from exp_pool.durations import Duration, to_seconds
from exp_pool.encoding import dumps
from exp_pool.errors import ConfigurationError, EncodingError
from exp_pool.experience import Answer, Call, Hit
from exp_pool.flow import Ending, Match, Policy, Story, match_to_answer, story
from exp_pool.notices import Notices
from exp_pool.pool import Pool
from exp_pool.protocols import ContextBuilder, Judge, Scorer
from exp_pool.records import to_experience
from exp_pool.registry import load_scorer
from exp_pool.request import CallSpec, Request
from exp_pool.reuse.context import Inject
from exp_pool.reuse.judges import resolve_judge
from exp_pool.upkeep.scoring import Scored

if TYPE_CHECKING:
    from typing import Self

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

_notices = Notices()  # for calls that have no manager to say it


class _Decorated(Generic[P, R]):
    """A decorated function. On instances it is bound like a method, and so is everything that can be asked of it."""

    def __init__(
        self,
        function: Callable[..., Any],
        spec: CallSpec,
        policy: Policy,
        manager: HasPool | None,
        namespace: str | Callable[[Call], str] | None,
        scorer: Scorer | None,
    ) -> None:
        functools.update_wrapper(self, function, updated=())  # type: ignore[arg-type]  # it wants no __call__
        self._function = function
        self._spec = spec
        self._policy = policy
        self._manager = manager
        self._namespace = namespace
        self._scored = Scored(scorer, function, policy.codec) if scorer is not None else None
        self._bound: tuple[Any, ...] = ()
        self.__exp_function__ = spec.name
        # `inspect.iscoroutinefunction` looks at these to see what kind of function this is.
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))

    @property
    def original(self) -> Callable[..., Any]:
        """The function without the pool."""
        return functools.partial(self._function, *self._bound) if self._bound else self._function

    @property
    def __signature__(self) -> inspect.Signature:
        parameters = list(self._spec.signature.parameters.values())[len(self._bound) :]
        return self._spec.signature.replace(parameters=parameters)

    def __repr__(self) -> str:
        return f"<exp_cache of {self._spec.name}>"

    def _bind_to(self, instance: Any) -> Self:
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound._bound = (instance,)
        return bound

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of this call.

        Raises:
            UnkeyableError: an argument has no stable identity.
        """
        return self._request(self._pool(), (*self._bound, *args), kwargs).key

    def __exp_call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> dict[str, Any]:
        """What `Experience.from_call` needs to make the experience that answers this call."""
        request = self._spec.request((*self._bound, *args), kwargs, "", None)
        return {
            "function": request.function,
            "version": request.version,
            "arguments": request.arguments,
            "request": request.text,
            "key": request.key,
            "codec": self._codec_of(value),
        }

    def _codec_of(self, value: Any) -> str:
        with suppress(EncodingError):
            return self._policy.codec.encode(value)[1]
        return "json"

    def _pool(self) -> Pool:
        pool = (self._manager or current.get()).sync
        if self._scored is not None:
            pool.score_with(self._spec.name, self._scored)
        return pool

    def _request(self, pool: Pool, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request:
        namespace = current_namespace()
        if namespace is None and callable(self._namespace):
            namespace = self._ask_namespace(self._namespace, args, kwargs)
        elif namespace is None and isinstance(self._namespace, str):
            namespace = self._namespace
        return self._spec.request(args, kwargs, namespace or pool.config.namespace, pool.secret)

    def _ask_namespace(self, ask: Callable[[Call], str], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        call = Call(self._function, self._spec.name, self._spec.bind(args, kwargs))
        try:
            namespace = ask(call)
        except Exception as err:
            raise ConfigurationError(f"namespace= raised {err!r}") from err
        if not isinstance(namespace, str) or not namespace:
            raise ConfigurationError(f"namespace= gave {namespace!r}; it must give text, not empty")
        return namespace

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Pool, Story[Ending]] | None:
        """The pool and the story of this call; None where it is to run without: never an exception."""
        pool: Pool | None = None
        try:
            pool = self._pool()
            switches = pool.switches()
            if not (switches.read or switches.write):
                return None
            request = self._request(pool, args, kwargs)
            policy = self._policy
            if policy.ttl_s is None and pool.config.default_ttl is not None:
                policy = policy.lasting(pool.config.default_ttl)
            return pool, story(request, policy, read=switches.read, write=switches.write)
        except Exception as err:
            if not self._spec.fits(args, kwargs):  # the function will say so itself
                return None
            if pool is not None:
                pool.uncached(self._spec.name, err)
            else:
                _notices.once(f"manager:{type(err).__name__}", f"{self._spec.name} runs uncached: {err}", stacklevel=3)
            return None

    def _looking(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Pool, Story[Match | None]]:
        pool = self._pool()
        return pool, match_to_answer(self._request(pool, (*self._bound, *args), kwargs), self._policy)


class CachedFunction(_Decorated[P, R]):
    """A plain function behind the pool."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's answer, from the pool where it has it."""
        full = (*self._bound, *args)
        begun = self._begin(full, kwargs)
        if begun is None:
            answer: R = self._function(*full, **self._spec.complete(full, kwargs))
            return answer
        pool, telling = begun
        value: R = _value(sync.drive(telling, pool.ports, self._function))
        return value

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(self: CachedFunction[Concatenate[S, Q], R], instance: S, owner: Any = None) -> CachedFunction[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self._bind_to(instance)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Answer[R]:
        """The same as calling it, with where the answer came from."""
        full = (*self._bound, *args)
        begun = self._begin(full, kwargs)
        if begun is None:
            return Answer(self._function(*full, **self._spec.complete(full, kwargs)))
        pool, telling = begun
        return _answer(sync.drive(telling, pool.ports, self._function))

    def lookup(self, *args: P.args, **kwargs: P.kwargs) -> Hit | None:
        """What would answer this call now, or None. Runs nothing, counts nothing; the pool's troubles are raised."""
        pool, looking = self._looking(args, kwargs)
        return _hit(sync.drive(looking, pool.ports, self._function))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Delete what is stored for this call, its history too; how many rows."""
        pool = self._pool()
        request = self._request(pool, (*self._bound, *args), kwargs)
        return pool.invalidate(request.namespace, request.key)


class AsyncCachedFunction(_Decorated[P, R]):
    """A coroutine function behind the pool; `R` is what awaiting it gives."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's answer, from the pool where it has it."""
        full = (*self._bound, *args)
        begun = self._begin(full, kwargs)
        if begun is None:
            answer: R = await self._function(*full, **self._spec.complete(full, kwargs))
            return answer
        pool, telling = begun
        value: R = _value(await aio.drive(telling, pool.ports, self._function, pool.threads))
        return value

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(
        self: AsyncCachedFunction[Concatenate[S, Q], R], instance: S, owner: Any = None
    ) -> AsyncCachedFunction[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self._bind_to(instance)

    async def call(self, *args: P.args, **kwargs: P.kwargs) -> Answer[R]:
        """The same as calling it, with where the answer came from."""
        full = (*self._bound, *args)
        begun = self._begin(full, kwargs)
        if begun is None:
            return Answer(await self._function(*full, **self._spec.complete(full, kwargs)))
        pool, telling = begun
        return _answer(await aio.drive(telling, pool.ports, self._function, pool.threads))

    async def lookup(self, *args: P.args, **kwargs: P.kwargs) -> Hit | None:
        """What would answer this call now, or None. Runs nothing, counts nothing; the pool's troubles are raised."""
        pool, looking = self._looking(args, kwargs)
        return _hit(await aio.drive(looking, pool.ports, self._function, pool.threads))

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Delete what is stored for this call, its history too; how many rows."""
        pool = self._pool()
        request = self._request(pool, (*self._bound, *args), kwargs)
        return await aio.hop(pool.threads, pool.invalidate, request.namespace, request.key)


def _value(ending: Ending) -> Any:
    if ending.error is not None:
        raise ending.error
    return ending.answer.value


def _answer(ending: Ending) -> Answer[Any]:
    if ending.error is not None:
        raise ending.error
    return ending.answer


def _hit(match: Match | None) -> Hit | None:
    return None if match is None else Hit(to_experience(match.record), match.similarity, match.found_by)


def _annotation(annotation: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        metadata = dict(annotation or {})
        dumps(metadata)
    except (EncodingError, TypeError, ValueError) as err:
        raise ConfigurationError(f"annotation={annotation!r:.80} must be a dict that JSON can hold: {err}") from err
    return metadata


class Decorator(Protocol):
    """What ``exp_cache(...)`` gives."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCachedFunction[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, func: Callable[P, R], /) -> CachedFunction[P, R]: ...


@overload
def exp_cache(func: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCachedFunction[P, R]: ...  # type: ignore[overload-overlap]
@overload
def exp_cache(func: Callable[P, R], /) -> CachedFunction[P, R]: ...
@overload
def exp_cache(
    func: None = None,
    *,
    manager: HasPool | None = None,
    name: str | None = None,
    version: str = "",
    namespace: str | Callable[[Call], str] | None = None,
    exclude: Collection[str] = (),
    redact: Collection[str] = (),
    self_key: Collection[str] | None = None,
    key: Callable[..., Any] | None = None,
    request: str | Callable[..., str] | None = None,
    judge: str | Judge = "exact",
    inject: str | Inject | None = None,
    context_builder: ContextBuilder | None = None,
    ttl: Duration | None = None,
    annotation: Mapping[str, Any] | None = None,
    scorer: str | Scorer | None = None,
    min_score: float | None = None,
) -> Decorator: ...
def exp_cache(
    func: Callable[..., Any] | None = None,
    *,
    manager: HasPool | None = None,
    name: str | None = None,
    version: str = "",
    namespace: str | Callable[[Call], str] | None = None,
    exclude: Collection[str] = (),
    redact: Collection[str] = (),
    self_key: Collection[str] | None = None,
    key: Callable[..., Any] | None = None,
    request: str | Callable[..., str] | None = None,
    judge: str | Judge = "exact",
    inject: str | Inject | None = None,
    context_builder: ContextBuilder | None = None,
    ttl: Duration | None = None,
    annotation: Mapping[str, Any] | None = None,
    scorer: str | Scorer | None = None,
    min_score: float | None = None,
) -> Any:
    """Put the experience pool in front of a function or method, sync or async; with or without parentheses.

    Args:
        func: the function, where there are no parentheses.
        manager: whose pool; by default that of `get_exp_manager()` at the time of each call.
        name: under which calls are stored, by default ``module.qualname``. Functions may share one on purpose.
        version: another version does not answer, nor is it shown.
        namespace: a name, or a callable of the `Call`; `in_namespace` overrides it.
        exclude: parameters that are neither in the key nor stored.
        redact: parameters that are in the key but not stored; those named like secrets are so by default.
        self_key: the attributes of ``self`` that matter, ``()`` if none do. Without it a method of an object that has
            attributes runs uncached, with one warning.
        key: called with the call's arguments, gives what identifies the call.
        request: the parameter that holds the text for similarity, or a callable of the call's arguments that gives it.
        judge: ``"exact"`` (an identical request is answered) or a `Judge`.
        inject: the parameter to which similar experiences are passed; see `Inject`.
        context_builder: writes similar experiences into the request text instead.
        ttl: how long an answer stays fresh: seconds, a timedelta or ``"1h"``.
        annotation: goes into each experience's metadata; its ``ttl`` entry, if any, is the ttl.
        scorer: rates each stored experience, later: a callable of a `ScoreContext`, or the name of an installed one.
        min_score: an experience with a lower score, or none, is not reused.

    Raises:
        ConfigurationError: an option names no parameter, or cannot apply; the message lists the allowed values.
    """
    options: dict[str, Any] = {name: value for name, value in locals().items() if name != "func"}

    def decorate(function: Any) -> Any:
        if isinstance(function, staticmethod | classmethod):  # applied above these: decorate what they hold
            return type(function)(decorate(function.__func__))
        return _decorate(function, **options)

    return decorate if func is None else decorate(func)


def _decorate(
    function: Any,
    *,
    manager: HasPool | None,
    namespace: str | Callable[[Call], str] | None,
    judge: str | Judge,
    inject: str | Inject | None,
    context_builder: ContextBuilder | None,
    ttl: Duration | None,
    annotation: Mapping[str, Any] | None,
    scorer: str | Scorer | None,
    min_score: float | None,
    **of_call: Any,
) -> Any:
    bound = isinstance(function, functools.partial) or inspect.ismethod(function)
    plain = inspect.isroutine(function) or isinstance(function, _Decorated)
    if bound or not plain:
        raise ConfigurationError(
            f"exp_cache decorates functions and methods, not {function!r}, which holds values that calls do not show; "
            "write a function around it, whose parameters they are"
        )
    if namespace is not None and not callable(namespace) and not (isinstance(namespace, str) and namespace):
        raise ConfigurationError(f"namespace={namespace!r} must be text, not empty, or a callable of the Call")
    if min_score is not None and not (isinstance(min_score, int | float) and 0 <= min_score <= 1):
        raise ConfigurationError(f"min_score={min_score!r} must be between 0 and 1")
    if context_builder is not None and not isinstance(context_builder, ContextBuilder):
        raise ConfigurationError(f"context_builder={context_builder!r} needs a limit and build(request, experiences)")
    if manager is not None and not hasattr(manager, "sync"):
        raise ConfigurationError(f"manager={manager!r} is no ExpManager")
    metadata = _annotation(annotation)
    injected = Inject(inject) if isinstance(inject, str) else inject
    policy = Policy(
        codec=codec_for(function),
        judge=resolve_judge(judge),
        min_score=min_score,
        inject=injected,
        context_builder=context_builder,
        ttl_s=to_seconds(metadata.get("ttl") if ttl is None else ttl),
        metadata=metadata,
        scored=scorer is not None,
    )
    spec = CallSpec(function, inject=injected.parameter if injected else None, **of_call)
    rating = None if scorer is None else load_scorer(scorer)
    kind: type[_Decorated[..., Any]] = AsyncCachedFunction if inspect.iscoroutinefunction(function) else CachedFunction
    return kind(function, spec, policy, manager, namespace, rating)
