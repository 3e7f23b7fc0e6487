"""Values as users see them: a `repr` in one line, a small table in a notebook, URLs without passwords."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from typing import Any, TypeAlias

Pairs: TypeAlias = Iterator[tuple[str, Any]]
"""Names and values that a `repr` shows, in the order in which people want to read them."""

_LONGEST = 60  # characters of one value
# To the last @: a password may hold an @ or a slash that was not escaped, and a host hidden too much does no harm.
_PASSWORD = re.compile(r"(?<=://)([^:@/?#]*):.*@", re.DOTALL)
_SECRET_OPTION = re.compile(r"([?&][^=&#]*(?:password|passwd|pwd|secret|token|api_?key)[^=&#]*=)[^&#]*", re.IGNORECASE)


class Brief:
    """A value whose `repr` is cut to `_LONGEST` characters."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        text = _start(self._value)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _start(value: Any) -> str:
    """The start of a `repr`. The rest of a long text is not even escaped."""
    try:
        return repr(value[: 2 * _LONGEST] if type(value) is str else value)
    except Exception:  # a class's own code: showing a value must not fail
        return f"<{type(value).__qualname__}>"


class Shown:
    """Mixin for dataclasses: `repr` shows fields that differ from their defaults, each cut to `_LONGEST` characters."""

    __slots__ = ()

    def _pairs(self) -> Pairs:
        for field in fields(self):  # type: ignore[arg-type]  # a dataclass, as is said above
            value = getattr(self, field.name)
            default = field.default if field.default_factory is MISSING else field.default_factory()
            if field.repr and (default is MISSING or value != default):
                yield field.name, value

    def __repr__(self) -> str:
        return one_line(type(self).__qualname__, self._pairs())

    def __rich_repr__(self) -> Pairs:
        yield from ((name, Brief(value)) for name, value in self._pairs())

    def _repr_html_(self) -> str:
        return as_table(type(self).__qualname__, self._pairs())


def counted(count: int, noun: str) -> str:
    """``1 answer``, ``2 answers``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def one_line(name: str, pairs: Iterable[tuple[str, Any]]) -> str:
    """``Name(a=1, b='two')``, each value cut to `_LONGEST` characters."""
    return f"{name}({', '.join(f'{field}={Brief(value)!r}' for field, value in pairs)})"


def as_table(name: str, pairs: Iterable[tuple[str, Any]]) -> str:
    """An HTML table of names and values, all of them escaped: stored text may hold anything."""
    cell = '<td style="text-align: left">'
    rows = "".join(
        f"<tr>{cell}{html.escape(field)}</td>{cell}{html.escape(_cell(value))}</td></tr>" for field, value in pairs
    )
    return f"<table><thead><tr><th colspan=2>{html.escape(name)}</th></tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else _start(value)
    return text if len(text) <= _LONGEST * 8 else f"{text[: _LONGEST * 8]}…"


def without_password(url: str) -> str:
    """The URL with ``***`` in the place of its password, in the address or among its options."""
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))
