"""The options of ``@exp_cache``: their types and defaults, stated once, and the checks of each by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypedDict

from exp_pool.api.cached_function import Decorated
from exp_pool.api.current import ManagerProtocol, UnavailableManager
from exp_pool.api.wrappers import AsyncCachedFunction, AsyncCachedGenerator, CachedFunction, CachedGenerator
from exp_pool.calls.drivers.stream_buffer import CompletedStream, StreamCodec
from exp_pool.calls.policy import Policy
from exp_pool.core.codecs.typed import codec_for
from exp_pool.core.contracts.plugs import Codec, ContextBuilder, Judge, Scorer
from exp_pool.core.record import OWN_METADATA
from exp_pool.core.results import Call
from exp_pool.core.ttl import Duration, Ttl
from exp_pool.core.values.encoding import dumps
from exp_pool.errors import ConfigurationError, EncodingError
from exp_pool.reuse.context import Inject
from exp_pool.reuse.judges import resolve_judge
from exp_pool.reuse.refine import Refine
from exp_pool.reuse.selection import selection_of
from exp_pool.reuse.verified import VerifiedJudge
from exp_pool.runtime.plugs import offers


class DecoratorOptions(TypedDict, total=False):
    """What ``exp_cache(...)`` takes besides the function; `ExpCache` says what each one means."""

    manager: ManagerProtocol | None
    name: str | None
    version: str
    namespace: str | Callable[[Call], str] | None
    exclude: Collection[str]
    redact: Collection[str]
    self_key: Collection[str] | None
    key: Callable[..., Any] | None
    request: str | Callable[..., str] | None
    judge: str | Judge
    inject: str | Inject | None
    context_builder: ContextBuilder | None
    codec: Codec | None
    cache_if: Callable[..., Any] | None
    ttl: Duration | Ttl | Callable[..., Duration | Ttl | None] | None
    annotation: Mapping[str, Any] | None
    scorer: str | Scorer | None
    min_score: float | None
    record_failures: bool
    refine: Refine | Callable[..., Any] | None
    describe: Callable[..., str | None] | None
    batch: str | None
    single_flight: bool
    source: Literal["check", "ignore"] | None


DEFAULTS: DecoratorOptions = {  # the others' is None
    "version": "",
    "exclude": (),
    "redact": (),
    "judge": "exact",
    "record_failures": False,
    "single_flight": True,
}

PLAIN = (CachedFunction, AsyncCachedFunction)
STREAMS = (CachedGenerator, AsyncCachedGenerator)


def policy_of(
    options: DecoratorOptions, function: Callable[..., Any], kind: type[Decorated[..., Any]], localns: Mapping[str, Any]
) -> Policy:
    """What a function's calls do with the pool.

    Args:
        options: all of them.
        function: what is decorated.
        kind: the class of the decorated function.
        localns: names that its return annotation may use besides its module's.

    Raises:
        ConfigurationError: an option is wrong, or goes not with this kind of function or with another option.
    """
    _check(options)
    streams, batch, inject = kind in STREAMS, options["batch"], options["inject"]
    metadata = _annotation(options["annotation"])
    ttl = options["ttl"]
    if batch is not None and (inject is not None or options["context_builder"] is not None):
        raise ConfigurationError(
            f"batch={batch!r} goes with neither inject= nor context_builder=: one call of the function stands for many"
        )
    items = codec_for(function, options["codec"], items=streams or batch is not None, localns=localns)
    return Policy(
        codec=StreamCodec(items) if streams else items,
        judge=resolve_judge(options["judge"]),
        min_score=options["min_score"],
        inject=Inject(inject) if isinstance(inject, str) else inject,
        context_builder=options["context_builder"],
        ttl=_ttl(metadata.get("ttl") if ttl is None else ttl, kind),
        metadata=metadata,
        scored=options["scorer"] is not None,
        cache_if=with_call("cache_if", options["cache_if"], streams=streams),
        record_failures=options["record_failures"],
        single_flight=options["single_flight"] and not streams,
        refine=_refinement(options["refine"], kind),
        first_stays=streams,
        learns=isinstance(options["judge"], VerifiedJudge),
    )


def checks_source(options: DecoratorOptions) -> bool:
    """Whether an automatic answer that other source of the function gave does not answer.

    Raises:
        ConfigurationError: the option is neither of the two.
    """
    source = options["source"]
    if source is None:
        return options["name"] is None and not options["version"]
    if source not in ("check", "ignore"):
        raise ConfigurationError(f"source={source!r} must be 'check' or 'ignore'")
    return source == "check"


def _check(options: DecoratorOptions) -> None:
    namespace, min_score, manager = options["namespace"], options["min_score"], options["manager"]
    context_builder = options["context_builder"]
    if namespace is not None and not callable(namespace) and not (isinstance(namespace, str) and namespace):
        raise ConfigurationError(f"namespace={namespace!r} must be text, not empty, or a callable of the Call")
    if min_score is not None and not (isinstance(min_score, int | float) and 0 <= min_score <= 1):
        raise ConfigurationError(f"min_score={min_score!r} must be between 0 and 1")
    if context_builder is not None and not offers(context_builder, ContextBuilder):
        raise ConfigurationError(f"context_builder={context_builder!r} needs a limit and build(request, experiences)")
    if context_builder is not None:
        selection_of(context_builder)
    if manager is not None and not isinstance(manager, UnavailableManager) and not hasattr(manager, "sync"):
        raise ConfigurationError(f"manager={manager!r} is no ExpManager")
    for option, value in (("record_failures", options["record_failures"]), ("single_flight", options["single_flight"])):
        if not isinstance(value, bool):
            raise ConfigurationError(f"{option}={value!r} must be True or False")


def _annotation(annotation: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        metadata = dict(annotation or {})
        dumps(metadata)
    except (EncodingError, TypeError, ValueError) as err:
        raise ConfigurationError(f"annotation={annotation!r:.80} must be a dict that JSON can hold: {err}") from err
    if OWN_METADATA in metadata:
        raise ConfigurationError(f"annotation: the entry {OWN_METADATA!r} is the pool's own; name yours otherwise")
    return metadata


def _ttl(ttl: Any, kind: type[Decorated[..., Any]]) -> Ttl | Callable[[Call, Any], Any] | None:
    if callable(ttl):
        return with_call("ttl", ttl, streams=kind in STREAMS)
    fixed = Ttl.of(ttl)
    if fixed is not None and fixed.early_s and kind not in PLAIN:
        raise ConfigurationError(f"{ttl!r}: early= goes with plain and coroutine functions, not with {kind.__name__}")
    return fixed


def with_call(option: str, function: Any, *, streams: bool) -> Callable[[Call, Any], Any] | None:
    """What may want the value alone, as a callable of call and value; of a stream the value is a list of chunks."""
    if function is None:
        return None
    if not callable(function):
        raise ConfigurationError(f"{option}={function!r} must be a callable: {option}(value) or {option}(call, value)")
    alone = _takes_one(function)

    def asked(call: Call, value: Any) -> Any:
        shown = value.chunks if streams and isinstance(value, CompletedStream) else value
        return function(shown) if alone else function(call, shown)

    return asked


def _takes_one(function: Callable[..., Any]) -> bool:
    """Whether it wants the value alone, not the call before it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C, such as bool
        return True
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in places if p.default is p.empty]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters) and not places
    return len(needed) <= 1 and not several


def _refinement(refine: Any, kind: type[Decorated[..., Any]]) -> Refine | None:
    if refine is None:
        return None
    if kind not in PLAIN:
        raise ConfigurationError(f"refine={refine!r} goes with plain and coroutine functions, not with {kind.__name__}")
    refinement = refine if isinstance(refine, Refine) else Refine(refine)
    if inspect.iscoroutinefunction(refinement.func) != (kind is AsyncCachedFunction):
        wanted = "async def" if kind is AsyncCachedFunction else "def"
        raise ConfigurationError(f"refine={refinement.func!r} must be of the decorated function's kind: {wanted}")
    return refinement
