"""Texts of many scripts, and chunks put together again."""

import random

_FAMILY, _FLAG = "👩‍👩‍👧‍👦", "🇩🇪"


def _of(letters, spaces=" ", stops="."):
    def make(rng: random.Random, length: int) -> str:
        parts = [*letters * 6, *([spaces] * 5 if spaces else []), *stops]
        return "".join(rng.choice(parts) for _ in range(length))

    return make


SCRIPTS = {
    "latin": _of(["a", "e", "t", "ß", "e\u0301", "o\u0308\u0304", "\r\n"], stops=[". ", "! ", "?"]),
    "chinese": _of(list("中文分词很难，好"), "", ["。", "！", "？"]),
    "hindi": _of(["क्ष", "त्रि", "य", "ने", "हिं", "क"], stops=["। ", "॥"]),
    "arabic": _of(["م", "رَ", "حَّ", "ب", "ا"], stops=["؟ ", "۔ ", ". "]),
    "korean": _of(["한", "국", "\u1112\u1161\u11ab", "어"], stops=[". "]),
    "emoji": _of([_FAMILY, _FLAG, "👍🏽", "❤️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "x"], stops=["! "]),
}


def put_together(pieces) -> str:
    """The text of (position, text) pieces that may overlap."""
    whole = ""
    for position, part in sorted(pieces):
        assert position <= len(whole), "there is a gap"
        whole += part[len(whole) - position :]
    return whole
