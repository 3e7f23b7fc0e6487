"""The word lists of the guard: files in ``words/``, read when the guard is first asked."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """The lists of ``words/NAME.toml``."""
    file = resources.files(__package__).joinpath("words", f"{name}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def by_word(table: Mapping[str, str]) -> dict[str, str]:
    """The name under which each word is listed: ``{"all": "every each"}`` becomes ``{"every": "all", ...}``."""
    return {word: name for name, words in table.items() for word in words.split()}


def numbered(words: str) -> dict[str, int]:
    """``"one=1 two=2"`` as a dict."""
    return {word: int(value) for word, _, value in (pair.partition("=") for pair in words.split())}


def contraries(lines: str) -> Iterator[tuple[str, str]]:
    """Each word of the one side with each of the other, from lines such as "buy purchase / sell"."""
    for line in lines.strip().splitlines():
        left, _, right = line.partition("/")
        for one in left.split():
            for other in right.split():
                yield one, other


def exchanged(pairs: str) -> tuple[tuple[str, str], ...]:
    """``"in-ex up-down"`` as pairs, each in both directions."""
    found = [(one, other) for one, _, other in (pair.partition("-") for pair in pairs.split())]
    return tuple(dict.fromkeys([*found, *((other, one) for one, other in found)]))
