"""A bound call: which function is asked what, under which key. With an answer it becomes a row."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, TypeAlias

from exp_pool.calls.call_log import CallLogRecord
from exp_pool.calls.call_spec import CallSpec, Prompt
from exp_pool.core.argument_text import storable
from exp_pool.core.identity.keys import make_key
from exp_pool.core.identity.request_text import reuse_scope, with_text
from exp_pool.core.record import Record, hash_text, measure
from exp_pool.core.results import Call
from exp_pool.core.values.encoding import json_dumps
from exp_pool.core.values.redaction import redacted, redacted_text
from exp_pool.errors import UnkeyableError
from exp_pool.runtime.clock import now_us

Memo: TypeAlias = tuple[Any, ...]


class KeyOfCall(str):
    """The key of one call, which knows in which namespace the call is made."""

    __slots__ = ("namespace",)
    namespace: str

    def __new__(cls, key: str, namespace: str) -> Self:
        """The key as text; `namespace` is the call's."""
        made = super().__new__(cls, key)
        made.namespace = namespace
        return made


@dataclass(frozen=True)
class Request:
    """One call, bound. What an exact hit does not need is computed when first asked for."""

    namespace: str
    key: str
    spec: CallSpec
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    named: Mapping[str, Any]  # what the key was made of, secrets included
    function: str
    version: str
    secret: bytes | None
    memo: tuple[Memo, int] | None = None  # its key in the local cache, and the count of writes before the call
    brings_context: bool = False  # the caller passed the parameter that experiences would be injected into
    source: str = ""  # digest of the function's source; answers of another one do not answer. "": they do

    @property
    def run(self) -> tuple[str, str, str]:
        """What calls have in common that may share one run of the function."""
        return self.namespace, self.key, self.source

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The arguments as they may be stored and shown."""
        return self.spec.redacted(self.named)

    @cached_property
    def stored_arguments(self) -> str:
        """The arguments as JSON text."""
        # Once more, in the form that is stored: models and dataclasses show their fields only there.
        return json_dumps(redacted({name: storable(value) for name, value in self.arguments.items()}))

    def describe(self) -> None:
        """Look at everything that is stored now: the function may change its arguments while it runs."""
        _ = self.stored_arguments, self.text, self.scope

    @cached_property
    def _parameter_and_text(self) -> tuple[str | None, str]:
        parameter, text = self.spec.text_of(self.arguments, self.args, self.kwargs)
        shown = redacted_text(text)
        # Two texts that differ in a token only look the same, so what lost one is only answered exactly.
        if shown == text and (parameter is None or self.arguments.get(parameter) is self.named.get(parameter)):
            return parameter, text
        return None, shown

    @property
    def text(self) -> str:
        """The text that similarity compares."""
        return self._parameter_and_text[1]

    @property
    def parameter(self) -> str | None:
        """The parameter that holds the text; None where the text was put together."""
        return self._parameter_and_text[0]

    @cached_property
    def prompt(self) -> Prompt | None:
        """Where context is written, nothing redacted; None where no parameter holds text.

        That is the parameter with the request text; where `request=` put that together, one named as if it had it.
        """
        given = self.spec.given(self.args, self.kwargs)
        return self.spec.prompt_of(self.parameter, {name: v for name, v in given.items() if name in self.named})

    @cached_property
    def scope(self) -> str:
        """Digest of everything but the text; of the key, where an argument has no stable identity."""
        if self.spec.keyed_by_hand:  # what key= looks at is not known, so nothing but the same key is the same scope
            return self.key
        try:
            return reuse_scope(self.function, self.version, self.named, self.parameter, self.secret)
        except UnkeyableError:
            return self.key

    def with_context(self, experiences: Sequence[Any] | None, text: str | None) -> Request:
        """The call as the function gets it: experiences passed to its parameter, the request text rewritten."""
        if experiences is None and text is None:
            return self
        if self.spec.takes_as_given:
            return self._with_context(experiences, text)
        bound = self.spec.signature.bind(*self.args, **self.kwargs)
        if experiences is not None and self.spec.inject is not None:
            bound.arguments[self.spec.inject] = list(experiences)
        if text is not None and self.prompt is not None:
            name, value, _ = self.prompt
            named = name in self.spec.signature.parameters
            holder = bound.arguments if named else bound.arguments[list(self.spec.signature.parameters)[-1]]  # **kwargs
            holder[name] = with_text(value, text)
        return replace(self, args=bound.args, kwargs=bound.kwargs)

    def _with_context(self, experiences: Sequence[Any] | None, text: str | None) -> Request:
        """The changed call of a wrapper: everything else stays as it was given, by place or by name."""
        args, kwargs = list(self.args), dict(self.kwargs)
        changed: dict[str, Any] = {}
        if experiences is not None and self.spec.inject is not None:
            changed[self.spec.inject] = list(experiences)
        if text is not None and self.prompt is not None:
            changed[self.prompt.parameter] = with_text(self.prompt.value, text)
        places = list(self.spec.signature.parameters)
        for name, value in changed.items():
            if name not in kwargs and name in places[: len(args)]:
                args[places.index(name)] = value
            else:
                kwargs[name] = value
        return replace(self, args=tuple(args), kwargs=kwargs)

    def captured(self) -> Request:
        """The call with arguments of its own: what is changed in the caller's meanwhile does not reach it.

        Shared are self, and what has no identity that could be copied: a client, a connection, a web request.
        """
        kept = 0 if self.spec.receiver is None else 1  # self is the first one
        args = (*self.args[:kept], *map(_copied, self.args[kept:]))
        kwargs = {n: value if n == self.spec.receiver else _copied(value) for n, value in self.kwargs.items()}
        return replace(self, args=args, kwargs=kwargs)

    def log_record(
        self, strategy: str | None, model: str | None, value: Callable[[], Any] | None, *, cached: bool = False
    ) -> CallLogRecord:
        """What the log says of this call.

        Args:
            strategy: recorded with the answer, if any was.
            model: recorded with the answer, if any was.
            value: gives the answer, for `describe=`.
            cached: whether the pool answered.
        """
        describe, detail = self.spec.describe, None
        if describe is not None and value is not None:
            call = Call(self.spec.function, self.function, self.named, model=model, strategy=strategy)
            detail = lambda: describe(call, value())  # noqa: E731
        return CallLogRecord(self.function, strategy, model, cached, detail)

    def to_record(self, id_: str, answer: str, codec: str, **fields: Any) -> Record:
        """The row of this call and its answer.

        Args:
            id_: the row's.
            answer: as JSON text.
            codec: the name of the codec that wrote it.
            fields: further columns of the row.
        """
        now = now_us()
        arguments = self.stored_arguments
        return Record(
            id=id_,
            namespace=self.namespace,
            function=self.function,
            version=self.version,
            key=self.key,
            request=self.text,
            request_hash=hash_text(self.text),
            arguments=arguments,
            response=answer,
            expected=None,
            codec=codec,
            created_at=now,
            reuse_scope=self.scope,
            source=self.source,
            size_bytes=measure(self.text, arguments, answer, fields.get("metadata")),
            embed_due=now,
            **fields,
        )


def bind_call(
    spec: CallSpec,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    namespace: str,
    secret: bytes | None,
    memo: tuple[Memo, int] | None = None,
    source: str = "",
) -> Request:
    """The call as a request.

    Args:
        spec: of the function that is called.
        args: the call's positional arguments.
        kwargs: the call's keyword arguments.
        namespace: in which the call is made.
        secret: keys are HMACs with this secret; None: they are plain digests.
        memo: the call's key in the local cache, and the cache's count of writes before the call.
        source: digest of the function's source.

    Raises:
        TypeError: the call does not fit the signature.
        UnkeyableError: an argument has no stable identity; the message names the ways out.
    """
    brought = spec.inject is not None and spec.passes(spec.inject, args, kwargs)
    kwargs = spec.complete(args, kwargs)
    named = spec.bind(args, kwargs)
    key = spec.key(named, args, kwargs, secret)
    return Request(namespace, key, spec, args, kwargs, named, spec.name, spec.version, secret, memo, brought, source)


def _copied(value: Any) -> Any:
    try:
        make_key("", "", {"value": value})
        return copy.deepcopy(value)
    except Exception:  # no plain data: whatever its class does when it is copied
        return value
