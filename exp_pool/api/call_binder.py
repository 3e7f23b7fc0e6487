"""Binds the calls of one decorated function: the local cache is asked, or the call becomes a request with its flow.

`CallBinder` is an object of its own because each hit of the local cache goes through it: on a decorated function,
which stands in for another one by ``__getattr__``, every look at an attribute takes three times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from exp_pool.api.current import ManagerProtocol, current
from exp_pool.api.pool import Pool
from exp_pool.calls.call_spec import CallSpec
from exp_pool.calls.flow import flow
from exp_pool.calls.local_cache import memo_of
from exp_pool.calls.policy import Mode, Policy
from exp_pool.calls.request import Memo, Request, bind_call
from exp_pool.calls.steps import CallResult, Flow
from exp_pool.core.identity.argument_source import with_arguments
from exp_pool.core.identity.arguments import bind
from exp_pool.core.identity.function_proxy import ProxyTarget
from exp_pool.core.identity.source import SourceDigest
from exp_pool.core.results import Call
from exp_pool.core.ttl import Ttl
from exp_pool.errors import ConfigurationError, NamespaceError, ReplayMissError
from exp_pool.maintenance.scorer_runner import FunctionScorer
from exp_pool.runtime.call_context import current_access, current_context, current_namespace
from exp_pool.runtime.notices import Notices

MISS: Any = object()

_notices = Notices()  # for calls that have no manager to say it


@dataclass(frozen=True, eq=False)
class DecoratorConfig(ProxyTarget):
    """What the decorator made of its options."""

    spec: CallSpec
    policy: Policy
    manager: ManagerProtocol | None
    namespace: str | Callable[[Call], str] | None
    scored: FunctionScorer | None
    bound_by_name: Mapping[str, Any]  # what a partial holds of named arguments
    refusal: str = ""  # why it always runs uncached
    notice: str = ""
    batch: str = ""
    source: SourceDigest | None = None  # whose answers count; None: those of any source

    @property
    def plain(self) -> bool:
        """Whether an identical call always has the same answer, as the local cache needs, whatever else is the case."""
        policy = self.policy
        asks_nobody = policy.judge is None and policy.min_score is None and not callable(self.namespace)
        return asks_nobody and self.spec.plain and not (self.bound or self.bound_by_name or self.batch)


@dataclass(frozen=True, slots=True)
class UncachedCall:
    """A call that runs without the pool: what is run, and its arguments in full."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BoundCall:
    """A bound call: what is run, its pool, request and policy, and its unstarted flow."""

    function: Callable[..., Any]
    pool: Pool
    request: Request
    policy: Policy
    flow: Flow[CallResult]


class CallBinder:
    """Binds the calls of one decorated function.

    Args:
        config: what the decorator was told.
    """

    def __init__(self, config: DecoratorConfig) -> None:
        self.config, self.spec = config, config.spec
        self._manager, self._source = config.manager, config.source

    # The local cache

    def local_answer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Memo | None, Any]:
        """The call's key in the local cache, None where the call is no matter for it; and its answer, or `MISS`."""
        try:
            pool, around = (self._manager or current.get()).sync, current_context()
            if not (around.lets_read and pool.answers_locally()):
                return None, MISS
            owner: object = self if self._source is None else self._source.token()
            memo = memo_of(owner, around.namespace, args, kwargs)
            entry = None if memo is None else pool.local_cache.get(memo)
            if entry is None:
                return memo, MISS
            entry.log_record.write()
            return memo, entry.copy()
        except Exception:
            return None, MISS  # the flow will say what is wrong

    # The flow

    def bind(
        self,
        bound: tuple[Any, ...],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        fresh: bool = False,
        memo: Memo | None = None,
    ) -> BoundCall | UncachedCall:
        """The call as a request, with its flow; never an exception but in replay.

        Args:
            bound: the arguments that the function is bound to.
            args: those given by place.
            kwargs: those given by name.
            fresh: run the function whatever is stored.
            memo: what the local cache is to find the call by.

        Raises:
            ReplayMissError: the call cannot be made a request, and replay is on.
        """
        config, pool = self.config, None
        args, kwargs = self.full(bound, args, kwargs)
        try:
            pool = self.pool()
            mode = self.mode(pool, fresh=fresh)
            if mode is not None:
                if config.refusal:
                    raise ConfigurationError(config.refusal)
                request = self.request(pool, args, kwargs, memo)
                policy = self.policy_in(pool)
                return BoundCall(config.function, pool, request, policy, flow(request, policy, mode))
        except Exception as err:
            self.say_uncached(pool, args, kwargs, err)
        return UncachedCall(config.function, args, self.spec.complete(args, kwargs))

    def full(
        self, bound: tuple[Any, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The arguments of a call with those that the function is bound to, or a partial holds."""
        by_name = self.config.bound_by_name
        return (*bound, *args) if bound else args, {**by_name, **kwargs} if by_name else kwargs

    def pool(self) -> Pool:
        """The pool that this call goes to. The function's scorer decides there from now on."""
        pool = (self._manager or current.get()).sync
        scored = self.config.scored
        if scored is not None and pool.scorers.get(self.spec.name) is not scored:
            pool.scorers[self.spec.name] = scored
        return pool

    def mode(self, pool: Pool, *, fresh: bool = False) -> Mode | None:
        """What the call may do with the pool; None where it runs without."""
        switches = pool.access()
        if not (switches.read or switches.write):
            return None
        config, name = self.config, self.spec.name
        notice = config.notice
        if config.source is not None and not config.source.current():
            notice = (
                f"{name} was not written in Python, so that it has changed cannot be noticed: change version= when it "
                "has"
            )
        if notice:
            pool.notices.warn_once(f"source:{name}", notice, config.function)
        problem = config.policy.codec.problem
        if problem:
            pool.notices.warn_once(
                f"annotation:{name}",
                f"{name}: its return annotation cannot be used at run time ({problem}), so only what JSON can hold is "
                "stored, and no change of the type is noticed. Import its names where the module runs (not under "
                "TYPE_CHECKING), or give codec=",
                config.function,
            )
        replay = pool.replay and switches.read and not fresh
        return Mode(switches.read and not fresh, switches.write, replay, pool.replay_remedy)

    def policy_in(self, pool: Pool) -> Policy:
        """The policy under this manager's settings."""
        policy = self.config.policy
        if pool.keeps_forever:
            return replace(policy, ttl=None, min_score=None)
        if policy.ttl is None and pool.config.default_ttl is not None:
            return replace(policy, ttl=Ttl(pool.config.default_ttl))
        return policy

    def request(
        self, pool: Pool, args: tuple[Any, ...], kwargs: Mapping[str, Any], memo: Memo | None = None
    ) -> Request:
        """The call as a request.

        Args:
            pool: where it goes.
            args: those given by place, in full.
            kwargs: those given by name, in full.
            memo: what the local cache is to find the call by.

        Raises:
            NamespaceError: no namespace is named, and one has to be.
            UnkeyableError: an argument has no stable identity.
        """
        namespace = self.namespace(args, kwargs)
        if namespace is None:
            if pool.config.require_namespace:
                raise NamespaceError(
                    "no namespace is named, and require_namespace is on: call it inside `with in_namespace(...)`, give "
                    "it namespace=, or take the namespace into its thread with exp_pool.carry(executor)"
                )
            namespace = pool.config.namespace
        before = None if memo is None else (memo, pool.local_cache.writes)
        source = "" if self._source is None else self._source.current()
        request = bind_call(self.spec, args, kwargs, namespace, pool.secret, before, source)
        if not source:
            return request
        with_them = with_arguments(source, self.spec.keyed_values(request.named))
        return request if with_them is source else replace(request, source=with_them)

    def namespace(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """The namespace of a call; None where that is the manager's."""
        here, wanted = current_namespace(), self.config.namespace
        if here is not None or wanted is None:
            return here
        if isinstance(wanted, str):
            return wanted
        # All arguments, those too that are excluded from the key: who a call is for often is one of these.
        named = bind(self.spec.signature, args, self.spec.complete(args, kwargs))
        call = Call(self.config.function, self.spec.name, named)
        try:
            namespace = wanted(call)
        except Exception as err:
            raise ConfigurationError(f"namespace= raised {err!r}") from err
        if not isinstance(namespace, str) or not namespace:
            raise ConfigurationError(f"namespace= gave {namespace!r}; it must give text, not empty")
        return namespace

    def say_uncached(self, pool: Pool | None, args: tuple[Any, ...], kwargs: Mapping[str, Any], err: Exception) -> None:
        """Say that a call runs uncached, and why.

        Args:
            pool: where it was to go; None where there is none.
            args: those given by place, in full.
            kwargs: those given by name, in full.
            err: why.

        Raises:
            ReplayMissError: replay is on.
        """
        name, function = self.spec.name, self.config.function
        if not self.spec.fits(args, kwargs):  # the function will say so itself
            return
        if pool is None:
            _notices.warn_once(f"manager:{type(err).__name__}", f"{name} runs uncached: {err}", function)
            return
        pool.uncached(name, err, function)
        if pool.replay and current_access().read:
            raise ReplayMissError(f"{name} is uncached: {err}. Replay is on, so it does not run") from err
