"""The call specification of a decorated function: how its calls are bound, keyed, and described by a text."""

from __future__ import annotations

import enum
import inspect
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from exp_pool.core.argument_text import named_where_needed
from exp_pool.core.identity.arguments import (
    BESIDE,
    CLASS,
    CLOSURE,
    AsGiven,
    Binder,
    bind,
    called_signature,
    is_open,
    shown_signature,
)
from exp_pool.core.identity.classes import has_attributes, is_plain, is_set_apart, may_hold_unseen
from exp_pool.core.identity.closures import closed_over, names_of
from exp_pool.core.identity.keys import key_refused, make_key, nobody_said_which_attributes, receiver_refused
from exp_pool.core.identity.names import function_name
from exp_pool.core.identity.request_text import (
    REQUEST_PARAMETERS,
    json_text,
    request_text,
    text_is_known,
    text_of,
)
from exp_pool.core.results import Call
from exp_pool.core.values.redaction import REDACTED, is_secret_name, redacted
from exp_pool.errors import ConfigurationError, UnkeyableError

_REQUIRED = inspect.Parameter.empty


class Prompt(NamedTuple):
    """The parameter that context is written into, what it holds, and the request text in that."""

    parameter: str
    value: Any
    text: str


class CallSpec:
    """A decorated function's signature and its options about identity and request text, checked at decoration.

    Args:
        function: as it was decorated.
        name: under which calls are stored; None: the function's own name.
        version, exclude, redact, self_key, key, request: the decorator's options of these names.
        inject: the parameter that experiences are passed to.
        describe: gives more text for the log.

    Raises:
        ConfigurationError: an option names no parameter, or does not apply; the message lists what there is.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        version: str = "",
        exclude: Collection[str] = (),
        redact: Collection[str] = (),
        self_key: Collection[str] | None = None,
        key: Callable[..., Any] | None = None,
        request: str | Callable[..., Any] | None = None,
        inject: str | None = None,
        describe: Callable[[Call, Any], str | None] | None = None,
    ) -> None:
        self.function = function
        self.name = function_name(name if name is not None else function)
        self.version = version
        shown, self._called = shown_signature(function), called_signature(function)
        self.takes_as_given = is_open(self._called, shown)
        self.signature = shown if self.takes_as_given else self._called
        self.inject = inject
        self.describe = describe
        self.receiver = _receiver(function, self.signature)
        self._self_key = self._attributes(self_key)
        self._key = key
        self._request = request
        self._variables = names_of(function)
        self._exclude = self._names("exclude", exclude, also=self._variables)
        left_out = (*self._exclude, *self._names("inject", inject and [inject], open_ended=False))
        self._bind: Binder | AsGiven = (
            AsGiven(self._called, shown, left_out) if self.takes_as_given else Binder(self.signature, left_out)
        )
        by_hand = self._names("redact", redact)
        self.redact = frozenset((*by_hand, *(p for p in self.signature.parameters if is_secret_name(p))))
        if isinstance(request, str):
            self._names("request", [request])
        elif request is not None and not callable(request):
            raise ConfigurationError(f"request={request!r} must name a parameter, or be a callable that gives the text")
        if key is not None and not callable(key):
            raise ConfigurationError(f"key={key!r} must be a callable of the call's arguments")
        if not isinstance(version, str):
            raise ConfigurationError(f"version={version!r} must be text")

    def _attributes(self, names: Any) -> tuple[str, ...] | None:
        """The attributes of self that matter; None where `self_key=` was not given."""
        if names is None:
            return None
        if self.receiver is None:
            raise ConfigurationError(f"self_key={names!r} applies to methods; {self.name} has no self")
        return _tuple_of_names("self_key", names)

    def _names(
        self, option: str, names: Any, *, open_ended: bool = True, also: Collection[str] = ()
    ) -> tuple[str, ...]:
        """The option as a tuple of names of parameters; or of what else it may name."""
        listed = _tuple_of_names(option, names or ())
        parameters = self.signature.parameters
        open_ended = open_ended and any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        for name in listed:
            if name not in parameters and name not in also and not open_ended:
                known = ", ".join((*parameters, *sorted(also))) or "none"
                raise ConfigurationError(
                    f"{option} names {name!r}, which is no parameter of {self.name}; its parameters: {known}"
                )
        return listed

    def lacks_text(self, batch: str | None = None) -> str:
        """The parameters that calls have, where it is not known which of them holds the request text; else empty."""
        if self._request is not None or batch is not None:
            return ""
        left_out = {self.receiver, *self._bind.excluded}
        parameters = {name: each for name, each in self.signature.parameters.items() if name not in left_out}
        open_ = [each for name, each in parameters.items() if not self._is_secret(name)]
        return "" if text_is_known(open_) else ", ".join(parameters) or "none"

    @property
    def plain(self) -> bool:
        """Whether the arguments, as they are, say everything about the call: no ``key=``, no secrets, no callable.

        And nothing that might be changed between two calls: no such default, no closure.
        """
        defaults = (p.default for p in self.signature.parameters.values() if p.default is not _REQUIRED)
        asks_nobody = self._key is None and not self.redact and not callable(self._request)
        return asks_nobody and not self._variables and all(map(is_plain, defaults))

    @property
    def keyed_by_hand(self) -> bool:
        """Whether `key=` was given."""
        return self._key is not None

    def redacted(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """Without secrets: by name, among the attributes of self, in the closure, in dicts; and by their shape."""
        return {name: self._without_secrets(name, value) for name, value in named.items()}

    def _without_secrets(self, name: str, value: Any) -> Any:
        if self._is_secret(name):
            return REDACTED
        if name not in (self.receiver, CLOSURE):
            return redacted(value)
        shown = named_where_needed(value)
        return self.redacted(shown) if isinstance(shown, dict) else redacted(shown)

    def _is_secret(self, name: str) -> bool:
        return name in self.redact or is_secret_name(name)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The named arguments that identify the call. `kwargs` are completed already.

        Raises:
            TypeError: the call does not fit the signature.
            UnkeyableError: the object whose method is called has state, and no option says how to key it.
        """
        named = self._bind(args, kwargs)
        if self.receiver in named:
            identity = self._identify(named.pop(self.receiver))
            if identity is not None:
                named = {self.receiver: identity, **named}
        for name in BESIDE:
            if name in kwargs:  # no parameter has this name, which stands for something else in a key
                raise UnkeyableError(f"{name!r} is no name for an argument", name)
        return named | closed_over(self.function, self._exclude) if self._variables else named

    def key(
        self, named: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], secret: bytes | None
    ) -> str:
        """The key of a call.

        Args:
            named: what `bind` gave for the call.
            args: its positional arguments.
            kwargs: its keyword arguments, completed.
            secret: keys are HMACs with this secret; None: they are plain digests.

        Raises:
            UnkeyableError: an argument has no stable identity; the message names the ways out.
        """
        try:
            of_key = named if self._key is None else {"key": self._by_hand(self._key, args, kwargs)}
            return make_key(self.name, self.version, of_key, secret)
        except UnkeyableError as err:
            if self._key is not None:
                raise key_refused(err) from err
            if self.receiver is not None and err.path == self.receiver:
                raise receiver_refused(err, named[self.receiver], self.receiver) from err
            refused = _variable_refused(named[CLOSURE]) if err.path == CLOSURE else err
            raise UnkeyableError(
                f"{refused}. Leave it out with exclude=[{refused.path!r}], name what matters with key=, "
                "or give its class __exp_key__()",
                refused.path,
            ) from err

    def keyed_values(self, named: Mapping[str, Any]) -> Iterator[Any]:
        """The values that a call's key is made of: its arguments, and the attributes of self that matter.

        Self is not among them, whose methods matter as far as the function asks for them, nor is what is closed over.
        """
        if self._key is None:
            for name, value in named.items():
                if name == self.receiver and type(value) is dict:
                    yield from (item for attribute, item in value.items() if attribute != CLASS)
                elif name not in (self.receiver, CLOSURE):
                    yield value

    def _by_hand(self, key: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        try:
            return key(*args, **kwargs)
        except Exception as err:
            raise UnkeyableError(f"key= raised {err!r}", "key") from err

    def fits(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether the function could be called so at all."""
        return _fits(self._called, args, self.complete(args, kwargs))

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The named arguments as the function gets them, as far as that is known."""
        return self._bind(args, kwargs) if self.takes_as_given else bind(self.signature, args, kwargs)

    def complete(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The keyword arguments, with no experiences where the function insists on some and the caller passed none."""
        parameter = self.inject
        if parameter is None or self.passes(parameter, args, kwargs):
            return kwargs
        required = parameter in self.signature.parameters and self.signature.parameters[parameter].default is _REQUIRED
        return {**kwargs, parameter: []} if required else kwargs

    def passes(self, parameter: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call passes this parameter.

        Args:
            parameter: its name.
            args: the call's positional arguments.
            kwargs: the call's keyword arguments.
        """
        return parameter in kwargs or parameter in itertools.islice(self.signature.parameters, len(args))

    def text_of(
        self, shown: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[str | None, str]:
        """The parameter that holds the request text, if one does, and the text.

        Args:
            shown: the named arguments without secrets.
            args: the call's positional arguments.
            kwargs: the call's keyword arguments.
        """
        if callable(self._request):
            found = self._made_text(args, kwargs)
            text = found if isinstance(found, str) else json_text(found)
            # Only an argument that is the text, word for word, may be left out of the reuse scope.
            same = (name for name, value in shown.items() if not self._is_secret(name) and text_of(value) == text)
            return next(same, None), text
        if isinstance(self._request, str) and self._request in shown and self._request not in self.redact:
            held = text_of(shown[self._request])
            return (self._request, held) if held is not None else (None, json_text(shown[self._request]))
        # The receiver, and what is redacted, never is the text: two calls that differ there must not look the same.
        open_ = {
            name: value
            for name, value in shown.items()
            if name not in (self.receiver, *BESIDE) and not self._is_secret(name)
        }
        parameter, text = request_text(open_)
        return (
            (parameter, text)
            if parameter is not None
            else (None, json_text({name: value for name, value in shown.items() if name not in BESIDE}))
        )

    def _made_text(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What ``request=`` makes of the call: with its defaults, as far as it takes them."""
        assert callable(self._request)
        try:
            takes = inspect.signature(self._request)
        except (TypeError, ValueError):  # written in C
            return self._request(*args, **kwargs)
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        by_name = bind(self.signature, args, kwargs)
        if not any(each.kind is each.VAR_KEYWORD for each in takes.parameters.values()):
            by_name = {name: value for name, value in by_name.items() if name in takes.parameters}
        ways = ((bound.args, bound.kwargs), ((), by_name), (args, kwargs))
        given_args, given_kwargs = next((way for way in ways if _fits(takes, *way)), ways[-1])
        return self._request(*given_args, **given_kwargs)

    def prompt_of(self, parameter: str | None, given: Mapping[str, Any]) -> Prompt | None:
        """See `Request.prompt`; `parameter` is the one that is known to hold the request text."""
        open_ = {name: value for name, value in given.items() if name != self.receiver and not self._is_secret(name)}
        name = parameter
        if name is None and callable(self._request):
            name = next((n for n in REQUEST_PARAMETERS if n in open_ and text_of(open_[n]) is not None), None)
        elif name is None:  # its text lost a token
            name = self._request if isinstance(self._request, str) else request_text(open_)[0]
        text = None if name is None else text_of(given[name])
        return None if name is None or text is None else Prompt(name, given[name], text)

    def _identify(self, receiver: Any) -> Any:
        """What stands for self or cls in the key; None where nothing does."""
        if isinstance(receiver, type):
            return receiver
        cls = type(receiver)
        if self._self_key is not None:
            named = {name: getattr(receiver, name) for name in self._self_key}
            # The defining class adds nothing: rows that were seeded by hand know nothing of it.
            return (named or None) if self._is_defined_in(cls) else {CLASS: cls, **named}
        if hasattr(cls, "__exp_key__") or issubclass(cls, enum.Enum):
            return receiver
        if has_attributes(receiver):
            raise nobody_said_which_attributes(receiver, self.receiver or "self")
        return receiver if may_hold_unseen(cls) else cls

    def _is_defined_in(self, cls: type) -> bool:
        """Whether it is the class that defines the method, and the only one of its name."""
        module, name = (getattr(self.function, about, "") for about in ("__module__", "__qualname__"))
        return (cls.__module__, cls.__qualname__) == (module, name.rpartition(".")[0]) and not is_set_apart(cls)


def _fits(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _tuple_of_names(option: str, names: Any) -> tuple[str, ...]:
    if not isinstance(names, Collection) or isinstance(names, str) or not all(isinstance(n, str) for n in names):
        raise ConfigurationError(f"{option}={names!r} must be a list or tuple of names")
    return tuple(names)


def _receiver(function: Callable[..., Any], signature: inspect.Signature) -> str | None:
    """The parameter that holds self or cls: the first one of a function defined in a class, by its usual name."""
    first = next(iter(signature.parameters), None)
    owner = getattr(function, "__qualname__", "").rpartition(".")[0]
    in_class = bool(owner) and not owner.endswith("<locals>")
    return first if in_class and first in ("self", "cls") else None


def _variable_refused(closed: Mapping[str, Any]) -> UnkeyableError:
    """What is to be said where something in a closure has no stable identity."""
    for name, value in closed.items():
        try:
            make_key("", "", {name: value})
        except UnkeyableError as err:
            reason = str(err).partition(": ")[2]
            return UnkeyableError(f"{name!r}, which the function closes over: {reason}", name)
    return UnkeyableError("what the function closes over has changed meanwhile", CLOSURE)
