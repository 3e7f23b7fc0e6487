"""Function proxy: an object in place of a function that looks, binds, compares, copies and pickles as that did.

It is no function itself: what is asked of a method (``agent.ask.call(...)``) has to be bound as the method is, and
Python hands the attributes of functions on as they are. Nor does it pass for one (``__class__ = FunctionType``, as
wrapt does): cloudpickle would send the code of the function alone, and what arrives would be uncached and without
`.call`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import operator
import sys
import types
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

# What Python keeps on functions only, and others read: `inspect`, attrs (to make `super()` work in slotted classes),
# and from Python 3.14 on whoever evaluates annotations.
_OF_FUNCTIONS = frozenset(
    f"__{name}__"
    for name in "annotate annotations builtins closure code defaults globals kwdefaults type_params".split()
)
_LATER = ("_binder", "_bound", "_local", "_setup")  # slots that are filled when first asked for, where it was unpickled
_NAMES = ("__module__", "__name__", "__qualname__", "__doc__")
_NOBODY: Any = object()


@dataclass(frozen=True, eq=False)
class ProxyTarget:
    """What a proxy stands for."""

    like: Callable[..., Any]  # what was decorated
    function: Callable[..., Any]  # whose code runs in the end
    bound: tuple[Any, ...]  # the arguments that `like` brings: a partial's, or the object of a bound method
    remake: Callable[[Callable[..., Any]], Any]  # decorates it again, in another process

    @functools.cached_property
    def binds(self) -> bool:
        """Whether it is a method where it stands in a class: callable objects, and partials before 3.14, are not."""
        if isinstance(self.like, functools.partial):
            return sys.version_info >= (3, 14)
        return hasattr(type(self.like), "__get__") and not inspect.ismethod(self.like)


class FunctionProxy:
    """Function proxy. ``type(f)(f, instance)`` makes a bound method, as `types.MethodType` does.

    `__dict__` is what the function carried, as that of a function: bound, it is the same.
    """

    __slots__ = ("__dict__", "__weakref__", "_bound", "_func", "_instance", "_pending", "_senders", "_setup")

    def __init__(self, of: Any, instance: Any = _NOBODY) -> None:
        self._pending: Any = None
        self._senders: dict[None, tuple[Callable[[], Any], Callable[[], Any]]] = {}
        self._instance = instance
        if instance is _NOBODY:
            self._func: Self | None = None
            functools.update_wrapper(self, of.like)  # type: ignore[arg-type]  # it wants a __call__
            self._take(of)
        else:
            self._func = of
            self.__dict__ = of.__dict__

    def _take(self, setup: Any) -> None:
        self._setup = setup
        self._bound: tuple[Any, ...] = setup.bound if self._func is None else (*setup.bound, self._instance)

    def __getattr__(self, name: str) -> Any:
        if name in _LATER:
            self._arrive()
            return object.__getattribute__(self, name)
        function = self._setup.function
        if name in self.__dict__:
            return self.__dict__[name]
        if name in _OF_FUNCTIONS:
            return getattr(function, name)
        raise AttributeError(f"{self!r} has no attribute {name!r}", name=name, obj=self)

    # Methods

    def _bind_to(self, instance: Any) -> Self:
        setup = self._setup
        if self._func is not None or not setup.binds:
            return self
        bound = object.__new__(type(self))
        bound._func, bound._instance, bound.__dict__ = self, instance, self.__dict__
        bound._take(setup)
        return bound

    @property
    def __self__(self) -> Any:
        if self._func is None:
            raise AttributeError("it is not bound", name="__self__", obj=self)
        return self._instance

    @property
    def __func__(self) -> Any:
        if self._func is None:
            raise AttributeError("it is not bound", name="__func__", obj=self)
        return self._func

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """What `isinstance` and others take it for, besides what it is."""
        return _guise(type(self)) if self._func is None else types.MethodType

    @property
    def original(self) -> Callable[..., Any]:
        """The function without the pool."""
        like: Any = self._setup.like
        return like if self._func is None else like.__get__(self._instance, type(self._instance))  # type: ignore[no-any-return]

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.original)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or (
            self._func is not None and self._func is other._func and self._instance is other._instance
        )

    def __hash__(self) -> int:
        return object.__hash__(self) if self._func is None else hash((self._func, id(self._instance)))

    def has_a_name(self) -> bool:
        """Whether its qualified name leads to it: not so for lambdas and functions inside of functions."""
        return _named(self.__dict__) is (self if self._func is None else self._func)

    # Copies

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self if self._func is None else type(self)(self._func, copy.deepcopy(self._instance, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """By name where the function would be, by value where it would be.

        It is the pickler that knows: plain pickle sends functions by name, cloudpickle and dill those of ``__main__``,
        lambdas and nested ones by value. So two functions are pickled that can be found under this one's name, too.
        """
        if self._func is not None:
            return type(self), (self._func, self._instance)
        like, names = self._setup.like, {name: self.__dict__[name] for name in _NAMES if name in self.__dict__}
        function = isinstance(like, types.FunctionType | FunctionProxy) and not inspect.ismethod(like)
        if not function or _named(names) is like:  # decorated under another name, it can be sent by its own
            return _blank, (type(self), names), (self._setup.remake, like, self.__dict__)
        if protocol < 4:  # noqa: PLR2004  (older ones find no attributes of attributes)
            return _path(names["__qualname__"])
        return self.__exp_load__, (), self.__exp_state__

    @property
    def __exp_load__(self) -> Callable[[], Any]:
        return self._functions_to_send()[0]

    @property
    def __exp_state__(self) -> Callable[[], Any]:
        return self._functions_to_send()[1]

    def _functions_to_send(self) -> tuple[Callable[[], Any], Callable[[], Any]]:
        if self._func is not None:
            return self._func._functions_to_send()  # noqa: SLF001
        if not self._senders:
            remake, like, carried = self._setup.remake, self._setup.like, self.__dict__
            here = _Here(self)
            # By its defaults: dill fills the closures of what is in a circle (a class, its methods) at the very end.
            load = self._beside(lambda here=here: here(), "__exp_load__")
            state = self._beside(lambda: (remake, like, carried), "__exp_state__")
            self._senders.setdefault(None, (load, state))  # the first stay: picklers compare what they find by name
        return self._senders[None]

    def _beside(self, function: Callable[..., Any], name: str) -> Callable[[], Any]:
        """The function as one that stands in the module of this one, as its attribute."""
        made = types.FunctionType(
            function.__code__, self.__globals__, name, function.__defaults__, function.__closure__
        )
        made.__module__, made.__qualname__ = self.__module__, f"{_path(self.__dict__['__qualname__'])}.{name}"
        return made

    def __setstate__(self, state: Any) -> None:
        if self._pending is None:
            self._pending = state

    def _arrive(self) -> None:
        """Fill the slots that pickle left out, when they are needed: a recursive function arrives in parts."""
        if self._func is not None:
            self._take(self._func._setup)  # noqa: SLF001
            return
        if self._pending is None:
            raise AttributeError("it is not there yet", name="_setup", obj=self)
        remake, like, carried = self._pending() if callable(self._pending) else self._pending
        made = remake(like)
        self.__dict__.update(made.__dict__ | carried)
        self._take(made._setup)  # noqa: SLF001


class _Here:
    """Gives a proxy; in another process, where it was sent, one whose setup arrives later."""

    def __init__(self, made: FunctionProxy) -> None:
        self._made = weakref.ref(made)  # or it would be in a circle with it

    def __call__(self) -> Any:
        return self._made()

    def __reduce__(self) -> Any:
        made = self._made()
        assert made is not None
        return functools.partial, (_blank, type(made), {n: made.__dict__[n] for n in _NAMES if n in made.__dict__})


def _blank(kind: type[FunctionProxy], names: Mapping[str, Any]) -> FunctionProxy:
    made = object.__new__(kind)
    made._func, made._instance, made._pending, made._senders = None, _NOBODY, None, {}
    made.__dict__.update(names)
    return made


def _named(names: Mapping[str, Any]) -> Any:
    """The object to which a qualified name leads; None where it leads to none."""
    module = sys.modules.get(names.get("__module__") or "")
    try:
        return operator.attrgetter(_path(names["__qualname__"]))(module)
    except (AttributeError, KeyError):
        return None


def _path(qualname: str) -> str:
    """The attribute path of a qualified name: private names are mangled with their class's."""
    parts = qualname.split(".")
    return ".".join(
        f"_{owner.lstrip('_')}{part}" if owner and part.startswith("__") and not part.endswith("__") else part
        for owner, part in zip(["", *parts], parts, strict=False)
    )


_guises: dict[type, type] = {}


def _guise(kind: type) -> type:
    """The class that pydantic sees: in the body of a model it refuses objects of unknown classes.

    Functions, properties, class and static methods pass, and so does what comes from `functools` (2.0 to 2.14 look at
    ``value.__class__.__module__``). Other ways were worse: an ``ignored_types`` that each model
    needs; and `functools`' own class of `lru_cache`, since test suites clear every object of it.
    """
    if kind not in _guises:
        _guises[kind] = type(kind.__name__, (kind,), {"__module__": "functools", "__doc__": kind.__doc__})
    return _guises[kind]


# ── In classes ────────────────────────────────────────────────────────────────────────────────────────────────────────


class ClassMethod(classmethod):  # type: ignore[type-arg]
    """A class method that lets what it holds bind itself, as `classmethod` does up to Python 3.12."""

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        owner = owner if owner is not None else type(instance)
        return self.__func__.__get__(owner, type(owner))

    def __reduce__(self) -> Any:
        return type(self), (self.__func__,)


class _Chaining:
    """Stands in the body of a class until it is made; then its class methods of decorated functions are `ClassMethod`.

    From Python 3.13 on `classmethod` gives a `types.MethodType` of whatever it holds, so that what is asked of it
    (``Agent.make.call(...)``) is not bound. Nothing but another object in the same body hears that the class is made.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        type.__delattr__(owner, name)
        for attribute, held in list(vars(owner).items()):
            if type(held) is classmethod and isinstance(held.__func__, FunctionProxy):
                type.__setattr__(owner, attribute, _like(ClassMethod(held.__func__), held))


def note_class_body(function: Any, body: Mapping[str, Any]) -> None:
    """Have class methods of this class bind; `body` is the namespace in which `function` is decorated."""
    if sys.version_info < (3, 13) or not isinstance(body, dict) or "__qualname__" not in body:
        return
    owner = getattr(function, "__qualname__", "").rpartition(".")[0]
    if owner and owner == body["__qualname__"]:
        body.setdefault("__exp_chaining__", _Chaining())


def _like(made: Any, holder: Any) -> Any:
    made.__dict__.update({name: value for name, value in vars(holder).items() if name not in vars(made)})
    return made


def within(holder: Any, decorate: Callable[[Any], Any]) -> Any:
    """A descriptor (``@staticmethod``, ``@property``, ...) with its function decorated; None where it is no such."""
    match holder:
        case staticmethod():
            return _like(type(holder)(decorate(holder.__func__)), holder)
        case classmethod():
            kind = ClassMethod if type(holder) is classmethod else type(holder)
            return _like(kind(decorate(holder.__func__)), holder)
        case property() if holder.fget is not None:
            return holder.getter(decorate(holder.fget))
        case functools.cached_property():
            return functools.cached_property(decorate(holder.func))
        case functools.partialmethod():
            return functools.partialmethod(decorate(holder.func), *holder.args, **holder.keywords)
    return None
