"""``@exp_cache``: the decorator. It checks its options where they are written, and makes the decorated function."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from exp_pool.api.batch_wrappers import AsyncCachedBatch, CachedBatch
from exp_pool.api.cached_function import Decorated
from exp_pool.api.call_binder import DecoratorConfig
from exp_pool.api.current import ManagerProtocol
from exp_pool.api.function_registry import NameConflict, register
from exp_pool.api.options import DEFAULTS, STREAMS, DecoratorOptions, checks_source, policy_of, with_call
from exp_pool.api.registry import load_scorer
from exp_pool.api.wrappers import AsyncCachedFunction, AsyncCachedGenerator, CachedFunction, CachedGenerator
from exp_pool.calls.call_spec import CallSpec
from exp_pool.calls.policy import Policy
from exp_pool.core.identity.function_proxy import note_class_body, within
from exp_pool.core.identity.request_text import REQUEST_PARAMETERS
from exp_pool.core.identity.source import SourceDigest
from exp_pool.errors import ConfigurationError
from exp_pool.maintenance.scorer_runner import FunctionScorer
from exp_pool.reuse.verified import VerifiedJudge
from exp_pool.runtime.keyword_options import complete, lists
from exp_pool.runtime.notices import Notices

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What ``exp_cache(...)`` gives."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCachedFunction[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, func: Callable[P, AsyncIterator[R]], /) -> AsyncCachedGenerator[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, func: Callable[P, Iterator[R]], /) -> CachedGenerator[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, func: Callable[P, R], /) -> CachedFunction[P, R]: ...


class ExpCache:
    """Puts the experience pool in front of a function, method, generator or callable object, sync or async.

    With or without parentheses, above or below ``@staticmethod`` and ``@classmethod``.

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
        request: the parameter that holds the text for similarity, or a callable of the call's arguments (defaults
            included, as far as it takes them) that gives it. By default the first of
            `request_text.REQUEST_PARAMETERS` that holds text, else the only text argument.
        judge: ``"exact"`` (an identical request is answered) or a `Judge`.
        inject: the parameter to which similar experiences are passed; see `Inject`.
        context_builder: writes similar experiences into the request text instead; with `inject`, of those injected.
        codec: how responses are stored, instead of the package's own: `name`, `encode` and `decode`.
        cache_if: called as ``cache_if(value)`` or ``cache_if(call, value)``; what it is false for is not stored. Where
            it raises, nothing is stored.
        ttl: how long an answer stays fresh: seconds, a timedelta, ``"1h"``, a `Ttl`, or a callable that gives one:
            ``ttl(value)`` or ``ttl(call, value)``, where the call has what was recorded.
        annotation: goes into each experience's metadata; its ``ttl`` entry, if any, is the ttl.
        scorer: rates each stored experience, later: a callable of a `ScoreContext`, or the name of an installed one.
        min_score: an experience with a lower score, or none, is not reused.
        record_failures: exceptions are stored too, for curators, and to be shown as warnings (see `Inject`); they
            answer nothing.
        refine: a slower, better function of the same signature, or a `Refine`: started together with the call, its
            answer takes the place of the quick one in the pool when it arrives.
        describe: called as ``describe(value)`` or ``describe(call, value)``, gives what the log line of the call is to
            say besides, or None. Asked only if somebody reads the log at level DEBUG.
        batch: the parameter whose items are calls of their own: only missing ones are computed, in one call. A list, or
            whatever else can be taken apart: tuples, sets, arrays, tensors, Series. So must be what is returned.
        single_flight: whether concurrent identical calls run the function once.
        source: ``"check"``: an automatic answer that other source of the function gave does not answer, and the
            function is asked anew; what people annotated, added or promoted does. ``"ignore"``: it does, too. By
            default ``"check"``, but ``"ignore"`` where `name` or `version` is given: then identity is in your hand.

    Raises:
        ConfigurationError: an option names no parameter, or cannot apply; the message lists the allowed values.
    """

    def __init__(self, manager: ManagerProtocol | None = None) -> None:
        self._manager = manager

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCachedFunction[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, func: Callable[P, AsyncIterator[R]], /) -> AsyncCachedGenerator[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, func: Callable[P, Iterator[R]], /) -> CachedGenerator[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, func: Callable[P, R], /) -> CachedFunction[P, R]: ...
    @overload
    def __call__(self, func: None = None, **options: Unpack[DecoratorOptions]) -> Decorator: ...
    @lists(DecoratorOptions, DEFAULTS)
    def __call__(self, func: Callable[..., Any] | None = None, **given: Any) -> Any:
        """The decorated function; without `func`, what decorates one."""
        options = complete("exp_cache", DecoratorOptions, DEFAULTS, given)
        if options["manager"] is None:
            options["manager"] = self._manager
        names = sys._getframe(1).f_locals if func is not None else None  # noqa: SLF001  (classes local to a function)

        def decorate(function: Any) -> Any:
            local = names if names is not None else sys._getframe(1).f_locals  # noqa: SLF001
            held = within(function, lambda held: _decorated(held, local, options))
            if held is not None:
                return held
            note_class_body(function, local)
            return _decorated(function, local, options)

        decorate.__exp_decorator__ = True  # type: ignore[attr-defined]  # by which `source` knows it under another name
        return decorate if func is None else decorate(func)

    def __repr__(self) -> str:
        return "<exp_cache>" if self._manager is None else f"<exp_cache of {self._manager!r}>"


exp_cache = ExpCache()

_notices = Notices()  # of this process: nobody is asked for a manager when a function is decorated


@dataclass(frozen=True)
class _Home:
    """What is known of a function where it was defined, and cannot be found out where it is sent by value."""

    name: str
    conflict: NameConflict
    source: SourceDigest | None


def _decorated(
    function: Any, localns: Mapping[str, Any], options: DecoratorOptions, home: _Home | None = None
) -> Decorated[..., Any]:
    target, bound, by_name = _unbound(function)
    batch, name, scorer = options["batch"], options["name"], options["scorer"]
    kind = _kind(target, batch)
    policy = policy_of(options, target, kind, localns)
    spec = _spec(target, options, policy, streams=kind in STREAMS, stored_as=name if home is None else home.name)
    _tell_without_text(spec, policy, batch)
    checked = checks_source(options)
    new = home is None  # not sent here by value
    if home is None:
        conflict = register(spec.name, target) if name is None else NameConflict()
        sources = (target, *([policy.refine.func] if policy.refine else []))
        home = _Home(spec.name, conflict, SourceDigest(*sources) if checked else None)
    if isinstance(policy.judge, VerifiedJudge) and isinstance(policy.judge.same, str):
        load_scorer(policy.judge.same)  # or nobody would know until answers are compared
    scored = None if scorer is None else FunctionScorer(load_scorer(scorer), target, policy.codec)
    if scored is None and new:
        _say_that_nothing_scores(spec.name, policy)
    names = _local_names(function, localns)
    config = DecoratorConfig(
        like=function,
        function=target,
        bound=bound,
        remake=functools.partial(_decorated, localns=names, options=options, home=home),
        spec=spec,
        policy=policy,
        manager=options["manager"],
        namespace=options["namespace"],
        scored=scored,
        bound_by_name=by_name,
        refusal=home.conflict.refusal,
        notice="" if home.source else home.conflict.notice,
        batch=batch or "",
        source=home.source,
    )
    return kind(config)


def _spec(
    target: Callable[..., Any], options: DecoratorOptions, policy: Policy, *, streams: bool, stored_as: str | None
) -> CallSpec:
    shown_in, batch = policy.inject.parameter if policy.inject else None, options["batch"]
    _check_place(target, shown_in, options["request"])
    spec = CallSpec(
        target,
        name=stored_as,
        version=options["version"],
        exclude=options["exclude"],
        redact=options["redact"],
        self_key=options["self_key"],
        key=options["key"],
        request=options["request"],
        inject=shown_in,
        describe=with_call("describe", options["describe"], streams=streams),
    )
    if batch is not None and batch not in spec.signature.parameters:
        known = ", ".join(spec.signature.parameters) or "none"
        raise ConfigurationError(f"batch={batch!r} names no parameter of {spec.name}; its parameters: {known}")
    return spec


def _local_names(function: Any, localns: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a return annotation written as text needs besides the module's: classes local to a function."""
    written = None
    with suppress(Exception):  # from Python 3.14 on, reading annotations evaluates them
        written = function.__annotations__["return"]
    if not isinstance(written, str):
        return {}
    known = getattr(function, "__globals__", {})
    return {name: localns[name] for name in re.findall(r"\w+", written) if name in localns and name not in known}


def _tell_without_text(spec: CallSpec, policy: Policy, batch: str | None) -> None:
    """Similar requests are wanted: say so where it is not known what is to be compared."""
    if policy.judge is not None and policy.judge.candidates > 0:
        option, follows = "judge=", "no similar request is answered"
    elif policy.inject is not None:
        option, follows = "inject=", "all arguments are compared, as JSON"
    elif policy.context_builder is not None:
        option, follows = "context_builder=", "no experience is written into it"
    else:
        return
    parameters = spec.lacks_text(batch)
    if parameters:
        _notices.warn_once(
            f"text:{spec.name}",
            f"{spec.name} has {option}, but which of its parameters holds the text of a request is not known, so "
            f"{follows}; name it with request='...' (its parameters: {parameters}), or give request= a callable of the "
            "call's arguments that returns the text",
            spec.function,
        )


def _say_that_nothing_scores(function: str, policy: Policy) -> None:
    """A least score without a scorer: nothing would ever be reused, or shown, and nobody would know why."""
    others = {"judge": policy.judge, "inject": policy.inject, "context_builder": policy.context_builder}
    wanted = {"min_score": policy.min_score} | {name: getattr(plug, "min_score", None) for name, plug in others.items()}
    for option, least in wanted.items():
        if least is not None:
            named = f"min_score={least:g}" if option == "min_score" else f"{option}= with min_score={least:g}"
            _notices.warn_once(
                f"unscored:{function}:{option}",
                f"{function}: {named}, but no scorer= gives what it stores a score, so none of that is used until "
                "somebody scores it (score_exps, exp-pool score); give a scorer=, or leave out min_score",
            )


_NO_PLACE = (str, "str", bytes, "bytes", int, "int", float, "float", bool, "bool")  # annotations, as they may stand


def _check_place(function: Callable[..., Any], parameter: str | None, request: Any) -> None:
    """Whether experiences may be passed there: it does not count, so no part of the question may stand in it.

    Raises:
        ConfigurationError: it holds the request text, or something else that is no list.
    """
    described = None if parameter is None else inspect.signature(function).parameters.get(parameter)
    if described is None:
        return
    if parameter == request or parameter in REQUEST_PARAMETERS or described.annotation in _NO_PLACE:
        raise ConfigurationError(
            f"inject={parameter!r} names a parameter that holds part of the question. Experiences are passed to a "
            "parameter of their own, which does not count for the key: def ask(question, experiences=()) and "
            'inject="experiences"'
        )


_LRU_CACHE = type(functools.lru_cache(lambda: None))


def _unbound(function: Any) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    """The function itself, and what a partial, a bound method or a callable object holds of its arguments."""
    if isinstance(function, functools.partial):
        target, bound, by_name = _unbound(function.func)
        return target, (*bound, *function.args), {**by_name, **function.keywords}
    if inspect.ismethod(function):
        target, bound, by_name = _unbound(function.__func__)
        return target, (function.__self__, *bound), by_name
    if isinstance(function, Decorated) or inspect.isfunction(function):
        return function, (), {}
    if isinstance(function, type):
        raise ConfigurationError(
            f"exp_cache decorates functions and methods, not the class {function.__qualname__}: decorate its methods, "
            "or a function that makes its objects"
        )
    if inspect.isbuiltin(function):
        owner = function.__self__
        if owner is None or isinstance(owner, types.ModuleType | type):
            return function, (), {}
        return getattr(type(owner), function.__name__), (owner,), {}  # ``{...}.get``: a method, bound to its object
    if isinstance(function, _LRU_CACHE):
        return function, (), {}
    called = inspect.getattr_static(type(function), "__call__", None)
    if inspect.isfunction(called):
        return called, (function,), {}
    raise ConfigurationError(f"exp_cache decorates functions, methods and callable objects, not {function!r}")


def _kind(function: Callable[..., Any], batch: str | None) -> type[Decorated[..., Any]]:
    of_async = inspect.iscoroutinefunction(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        if batch is not None:
            raise ConfigurationError(f"batch={batch!r} does not go with a generator: it needs a list to be returned")
        return AsyncCachedGenerator if inspect.isasyncgenfunction(function) else CachedGenerator
    if batch is not None:
        return AsyncCachedBatch if of_async else CachedBatch
    return AsyncCachedFunction if of_async else CachedFunction
