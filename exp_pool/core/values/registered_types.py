"""Registry of serializers for types of the user's own: what `register_type` taught this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from exp_pool.core.values.tagged_types import WRITERS
from exp_pool.errors import ConfigurationError, DecodingError, EncodingError

T = TypeVar("T")

_BUILT_IN = (type(None), bool, int, float, str, list, dict, set, frozenset)


@dataclass(frozen=True, slots=True)
class RegisteredType:
    """A class of the user's own, with what writes and reads its values."""

    cls: type
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]

    def write(self, value: Any) -> Any:
        """What makes up a value.

        Raises:
            EncodingError: whatever the user's code raised.
        """
        try:
            return self.encode(value)
        except Exception as err:  # the user's code: whatever it raises, the value cannot be stored
            raise EncodingError(f"the encode registered for {self.name!r} raised {type(err).__name__}: {err}") from err

    def read(self, plain: Any) -> Any:
        """The value of what `write` gave.

        Raises:
            DecodingError: whatever the user's code raised, or it gave something else.
        """
        try:
            value = self.decode(plain)
        except Exception as err:  # the user's code: whatever it raises, the text cannot be read
            raise DecodingError(f"the decode registered for {self.name!r} raised {type(err).__name__}: {err}") from err
        if type(value) is not self.cls:
            raise DecodingError(f"the decode registered for {self.name!r} gave a {type(value).__qualname__}")
        return value


REGISTERED: dict[type, RegisteredType] = {}


def register_type(
    cls: type[T], encode: Callable[[T], Any], decode: Callable[[Any], T], *, name: str | None = None
) -> None:
    """Teach the pool a type of your own, for the whole process: responses and arguments may hold its values.

    Values come back as instances of exactly this class; a subclass is refused until it is registered itself.
    Registering again replaces what was registered: for the class, or for one of the same qualified name (a notebook
    cell run again). A process that reads such values must have registered the type as well; without, they count as not
    stored.

    Args:
        cls: The class.
        encode: Gives what makes up a value: anything the pool can store, other registered types included.
        decode: Makes the value of what `encode` gave.
        name: What stored data calls the type; by default ``module.qualname``. A class that moves keeps its old name.

    Raises:
        ConfigurationError: `cls` is no class or one that the pool knows by itself, `encode` or `decode` cannot be
            called, or `name` is not text, is empty, or belongs to another class.
    """
    if not isinstance(cls, type):
        raise ConfigurationError(f"register_type({cls!r}, ...) takes a class; give the class of the values")
    if cls in WRITERS or cls in _BUILT_IN:
        raise ConfigurationError(f"{cls.__qualname__} is known already and cannot be registered; wrap it in a class")
    for what, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise ConfigurationError(f"{what}={function!r} cannot be called; give a function of one value")
    own = f"{cls.__module__}.{cls.__qualname__}"
    label = own if name is None else name
    if not isinstance(label, str) or not label:
        raise ConfigurationError(f"name={name!r} must be text that is not empty, or left out")
    mine = [known for known in REGISTERED if known is cls or f"{known.__module__}.{known.__qualname__}" == own]
    for known in REGISTERED.values():
        if known.name == label and known.cls not in mine:
            raise ConfigurationError(
                f"name={label!r} belongs to {known.cls.__module__}.{known.cls.__qualname__}; choose another name"
            )
    for known_cls in mine:
        del REGISTERED[known_cls]
    REGISTERED[cls] = RegisteredType(cls, label, encode, decode)


def is_registered(cls: type) -> bool:
    """Whether `register_type` taught this class."""
    return cls in REGISTERED


def read_registered(content: Any) -> Any:
    """The value of a registered type, by the name that stored data calls it.

    Raises:
        DecodingError: no type of this name is registered, or its `decode` raised.
    """
    name, plain = content
    registered = next((known for known in tuple(REGISTERED.values()) if known.name == name), None)
    if registered is None:
        raise DecodingError(
            f"a value of the type registered as {name!r}, which this process has not registered: call "
            "exp_pool.register_type for it before its values are read"
        )
    return registered.read(plain)
