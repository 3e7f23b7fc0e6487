"""Parser of JSON lists: their items as values of the package's own encoding, or as the texts that stand there. Pure."""

from __future__ import annotations

import re
from typing import Any

from exp_pool.core.values.deep_equal import type_name
from exp_pool.core.values.encoding import loads, strict_decoder
from exp_pool.errors import DecodingError

_SPACE = re.compile(r"[ \n\r\t]*")


def typed_items(text: str) -> list[Any]:
    """The items of a list or tuple in the package's own encoding.

    Raises:
        DecodingError: it is none, or cannot be read.
    """
    items = loads(text)
    if not isinstance(items, list | tuple):
        raise DecodingError(f"a list was expected, and the text holds a {type_name(items)}")
    return list(items)


def split(text: str) -> list[str]:
    """The texts of the items of a JSON array, as they stand there: a codec reads what it wrote, to the letter.

    Raises:
        DecodingError: it is no array.
    """
    try:
        at = _end_of_space(text, 0)
        items: list[str] = []
        if text[at : at + 1] != "[":
            raise DecodingError("a list was expected, and the text holds none")
        at = _end_of_space(text, at + 1)
        while text[at : at + 1] != "]":
            if items:
                if text[at : at + 1] != ",":
                    raise DecodingError("a list was expected, and the text breaks off")
                at = _end_of_space(text, at + 1)
            _, end = strict_decoder.raw_decode(text, at)
            items.append(text[at:end])
            at = _end_of_space(text, end)
        if _end_of_space(text, at + 1) != len(text):
            raise DecodingError("a list was expected, and more follows it")
        return items
    except DecodingError:
        raise
    except (ValueError, RecursionError) as err:
        raise DecodingError(f"stored text cannot be read: {err}") from err


def _end_of_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()
