"""Codec stamps: the name of the codec that wrote a row's answer, with the shape of the type that it wrote. Pure.

``annotated@1f2a3b4c5d6e[tuple]`` was written by the codec ``annotated`` for a function whose return type had the shape
with that digest (`shapes`), as one item of a tuple (`batch=`). Both may be missing: rows of older versions have
neither, and neither have answers that say by themselves what they are. It stands in the codec's column, because that
is what it is part of, and because every store, snapshot and export carries that already.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

TYPED = "json"  # the package's own encoding, `encoding.dumps`
ANNOTATED = "annotated"  # JSON as the return annotation's type writes it

_STAMPED = re.compile(r"(?P<codec>[^\[]*?)(?:@(?P<shape>[0-9a-f]{12}))?(?:\[(?P<whole>.*)\])?", re.DOTALL)


class CodecStamp(NamedTuple):
    """A codec's name as it stands in a row, taken apart."""

    codec: str
    shape: str = ""
    whole: str = ""

    def __str__(self) -> str:
        return self.codec + (f"@{self.shape}" if self.shape else "") + (f"[{self.whole}]" if self.whole else "")


@functools.lru_cache(maxsize=1000)
def read_stamp(written: str) -> CodecStamp:
    """The parts of what stands in a row."""
    found = _STAMPED.fullmatch(written)
    return (
        CodecStamp(written) if found is None else CodecStamp(found["codec"], found["shape"] or "", found["whole"] or "")
    )


def is_typed(written: str) -> bool:
    """Whether the text is in the package's own encoding, which needs no type to be read."""
    return written == TYPED or read_stamp(written).codec == TYPED
