"""Schema fingerprints: a type's shape is all that decides how its values are written and read. Pure.

Two types of one shape read each other's text the same way. Where anything differs (names of fields, their types and
defaults, aliases, values of enum members, arms of a union, settings of a model), the digest does. It is made of names
and plain values only, so it is the same in every process, on every Python and with every version of pydantic. Code of
the user's own (validators, serializers, ``__post_init__``) cannot be described so; `Shape.by_code` says that it takes
part, and then each text is looked at when it is read.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ForwardRef, Literal, TypeVar, get_args, get_origin, get_type_hints

from exp_pool.core.codecs.annotations import is_union

_DIGITS = 12  # 48 bits: two shapes of one function with one digest are not met


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The digest of a type's shape."""

    digest: str
    by_code: bool  # code of the user's own takes part in writing and reading
    models: bool  # there are models of pydantic in it


def shape_of(annotation: Any) -> Shape:
    """The shape of a type.

    Raises:
        Exception: looking at it raised; types may be anything.
    """
    description = _Description()
    text = description.of(annotation)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return Shape(digest, description.by_code, description.models)


class _Description:
    def __init__(self) -> None:
        self.by_code = False
        self.models = False
        self._seen: dict[type, int] = {}

    def of(self, annotation: Any) -> str:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            beside = "".join(filter(None, map(self._beside, annotation.__metadata__)))
            return f"{self.of(arguments[0])}{beside}"
        if is_union(annotation):  # the order of its arms decides which of two that would do is taken
            return f"({'|'.join(map(self.of, arguments))})"
        if origin is Literal:
            return f"Literal[{','.join(map(self._plain, arguments))}]"
        if origin is not None:
            return f"{self.of(origin)}[{','.join(map(self.of, arguments))}]"
        if annotation is None or annotation is type(None):
            return "None"
        if isinstance(annotation, list | tuple):  # the parameters of a Callable
            return f"[{','.join(map(self.of, annotation))}]"
        if isinstance(annotation, typing.NewType):
            return self.of(annotation.__supertype__)
        if type(annotation).__name__ == "TypeAliasType":
            return self._once(annotation, lambda: self.of(annotation.__value__))
        if isinstance(annotation, TypeVar):
            return f"~{self.of(annotation.__bound__)}" if annotation.__bound__ else "~"
        if isinstance(annotation, str | ForwardRef):
            self.by_code = True  # what it will be is not known here
            return f"'{getattr(annotation, '__forward_arg__', annotation)}'"
        if isinstance(annotation, type):
            return self._class(annotation)
        return getattr(annotation, "_name", None) or getattr(annotation, "__name__", None) or repr(annotation)

    def _once(self, what: Any, describe: Callable[[], str]) -> str:
        """The description where it stands first; where it stands again, a type that holds itself, which one it was."""
        if what in self._seen:
            return f"^{self._seen[what]}"
        self._seen[what] = len(self._seen)
        return describe()

    def _class(self, cls: type) -> str:
        if cls.__module__ in ("builtins", "typing", "collections.abc"):
            return cls.__name__
        if typing.is_typeddict(cls) or hasattr(cls, "__required_keys__"):
            return self._once(cls, lambda: f"TypedDict {cls.__name__}{self._hints(cls, self._keys(cls))}")
        if issubclass(cls, enum.Enum):
            return self._once(cls, lambda: self._enum(cls))
        if hasattr(cls, "model_fields") and hasattr(cls, "__pydantic_decorators__"):
            return self._once(cls, lambda: self._model(cls))
        if dataclasses.is_dataclass(cls):
            return self._once(cls, lambda: self._dataclass(cls))
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return self._once(cls, lambda: self._named_tuple(cls))
        if hasattr(cls, "__get_pydantic_core_schema__"):
            self.by_code = True
        return f"{cls.__module__}.{cls.__qualname__}"

    # Names of classes count, those of modules do not: a class that moves reads what it wrote before.

    def _enum(self, cls: type[enum.Enum]) -> str:
        self._code(cls, ("_missing_", "__new__"), (enum.Enum, enum.IntEnum, enum.StrEnum, enum.Flag, enum.IntFlag))
        members = ",".join(f"{name}={self._plain(member.value)}" for name, member in cls.__members__.items())
        return f"enum {cls.__name__}{{{members}}}"

    def _model(self, cls: Any) -> str:
        from pydantic import BaseModel, RootModel

        self.models = True
        self._decorators(cls)
        self._code(cls, _CODE_OF_MODELS, (BaseModel, RootModel))
        fields = ",".join(f"{name}:{self._field(field)}" for name, field in sorted(cls.model_fields.items()))
        return f"model {cls.__name__}{{{fields}}}{self._settings(cls.model_config)}"

    def _field(self, field: Any) -> str:
        """A pydantic field: its type and all that is said of it."""
        beside = "".join(filter(None, map(self._beside, field.metadata)))
        return f"{self.of(field.annotation)}{beside}{self._said_of(field)}"

    def _said_of(self, field: Any) -> str:
        said = []
        for name in ("alias", "validation_alias", "serialization_alias", "exclude", "discriminator", "exclude_if"):
            what = getattr(field, name, None)
            if what is not None and what is not False:
                said.append(f"{name}={self._plain(what)}")
        if field.default_factory is not None:
            said.append("made")
        elif not field.is_required():
            said.append(f"={self._plain(field.default)}")
        return f"({','.join(said)})" if said else ""

    def _settings(self, config: Any) -> str:
        said = [f"{n}={self._plain(config[n])}" for n in sorted(config) if n not in _OF_NO_EFFECT and config[n]]
        return f"({','.join(said)})" if said else ""

    def _decorators(self, cls: Any) -> None:
        """Validators, serializers, computed fields."""
        of = getattr(cls, "__pydantic_decorators__", None)
        self.by_code = self.by_code or any(getattr(of, name, None) for name in _DECORATORS)

    def _dataclass(self, cls: Any) -> str:
        self._decorators(cls)
        self._code(cls, ("__post_init__", "__get_pydantic_core_schema__"), ())
        self.by_code = self.by_code or not cls.__dataclass_params__.init
        said = {
            field.name: ("" if field.init else "!") + (
                "made" if field.default_factory is not dataclasses.MISSING
                else "" if field.default is dataclasses.MISSING
                else f"={self._plain(field.default)}"
            )
            for field in dataclasses.fields(cls)
        }  # fmt: skip
        config = getattr(cls, "__pydantic_config__", None) or {}
        return f"dataclass {cls.__name__}{self._hints(cls, said)}{self._settings(config)}"

    def _named_tuple(self, cls: Any) -> str:
        self._code(cls, ("__new__",), tuple(base for base in cls.__mro__ if tuple in base.__bases__))
        hints = self._hints(cls, dict.fromkeys(cls._fields, ""))
        return f"namedtuple {cls.__name__}({','.join(cls._fields)}){hints}"

    def _hints(self, cls: Any, said: dict[str, str]) -> str:
        try:
            hints = get_type_hints(cls, include_extras=True)
        except Exception:  # names that are not there at run time
            hints = {
                name: hint for base in reversed(cls.__mro__) for name, hint in inspect.get_annotations(base).items()
            }
            self.by_code = True
        fields = (f"{name}:{self.of(hints.get(name, Any))}{said[name]}" for name in sorted(said))
        return f"{{{','.join(fields)}}}"

    def _keys(self, cls: Any) -> dict[str, str]:
        needed = getattr(cls, "__required_keys__", ())
        optional = getattr(cls, "__optional_keys__", ())
        return {**dict.fromkeys(needed, ""), **dict.fromkeys(optional, "?")}

    def _code(self, cls: type, names: Iterable[str], known: tuple[Any, ...]) -> None:
        """Methods of the user's own that take part."""
        for base in cls.__mro__:
            for name in names:
                method = base.__dict__.get(name)
                method = getattr(method, "__func__", method)
                if method is None or base in known or base.__module__.partition(".")[0] in _NOBODYS:
                    continue
                if getattr(method, "__module__", "").partition(".")[0] not in _NOBODYS:
                    self.by_code = True

    def _beside(self, what: Any) -> str:
        """What stands beside a type in ``Annotated``, where it has an effect."""
        if what is None or isinstance(what, str):
            return ""
        if hasattr(what, "metadata") and hasattr(what, "is_required"):  # Field(...)
            return "".join(filter(None, map(self._beside, what.metadata))) + self._said_of(what)
        return f"<{self._plain(what)}>"

    def _plain(self, value: Any) -> str:
        """A constant, in words that are the same in every process."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return f"{type(value).__name__}:{value!r}" if not isinstance(value, enum.Enum) else f"{value.name}"
        if isinstance(value, enum.Enum):
            return value.name
        if isinstance(value, list | tuple | set | frozenset):
            items = [self._plain(item) for item in value]
            return f"{type(value).__name__}({','.join(items if isinstance(value, list | tuple) else sorted(items))})"
        if isinstance(value, dict):
            return f"{{{','.join(f'{self._plain(n)}:{self._plain(v)}' for n, v in value.items())}}}"
        if callable(value) and not isinstance(value, type):
            self.by_code = True
            return "code"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = (f"{f.name}={self._plain(getattr(value, f.name, None))}" for f in dataclasses.fields(value))
            return f"{type(value).__name__}({','.join(fields)})"
        if hasattr(value, "__get_pydantic_core_schema__"):
            self.by_code = True
        return value.__qualname__ if isinstance(value, type) else type(value).__qualname__


_NOBODYS = ("pydantic", "pydantic_core", "builtins", "enum", "typing", "typing_extensions", "dataclasses")
_CODE_OF_MODELS = ("__init__", "__new__", "model_post_init", "__get_pydantic_core_schema__", "__setattr__")
_DECORATORS = (
    *("validators", "field_validators", "root_validators", "model_validators"),
    *("field_serializers", "model_serializers", "computed_fields"),
)
# Settings of a model that change nothing about its text and how that is read.
_OF_NO_EFFECT = frozenset(
    """
    title json_schema_extra json_schema_mode_override frozen validate_assignment alias_generator protected_namespaces
    use_attribute_docstrings defer_build plugin_settings hide_input_in_errors model_title_generator
    field_title_generator schema_generator cache_strings ignored_types json_schema_serialization_defaults_required
    arbitrary_types_allowed experimental_defer_build_mode
    """.split()
)  # fmt: skip
