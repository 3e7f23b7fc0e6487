"""Quoting of stored text in a prompt, against prompt injection: the text stays inside the block that marks it as data.

Three rules ensure that. Every ``<``, and what looks like one, becomes ``&lt;``, so no stored text can write a tag,
ours or any other. Every line but the first begins with a bar, so none can pass for a label, a number or a heading of
ours. Characters that nobody sees (controls, directions, tags) are dropped: they can hide instructions from people.
"""

from __future__ import annotations

import unicodedata

BAR = "   | "
CUT = " […]"

# "<", what becomes one by NFKD, and signs that look like one. Letters that do (Canadian syllabics, runes) are left to
# those whose language they write.
_BRACKETS = "<\uff1c\ufe64\u226e\u2039\u02c2\u2329\u3008\u27e8\u276c\u276e\u2770\u29fc\U0001d236\u227a\u2a79"
_ESCAPED = dict.fromkeys(map(ord, _BRACKETS), "&lt;")
_JOINERS = "\u200c\u200d"  # Persian and Indic spelling, and emoji, need them
_UNSEEN = ("Cc", "Cf")


def quoted(text: str, max_chars: int) -> str:
    """At most so many characters of the text, harmless; then `CUT`, where there were more."""
    whole = len(text) <= max_chars
    lines = _seen(text[:max_chars]).translate(_ESCAPED).split("\n")
    shown = f"\n{BAR}".join(lines)
    return shown if whole and len(shown) <= max_chars else shown[:max_chars] + CUT


def _seen(text: str) -> str:
    """Every kind of line break as a newline, and nothing invisible."""
    if not (text.isascii() and text.isprintable()):
        text = "\n".join(text.splitlines())
        text = "".join(map(_visible, text))
    return text


def _visible(character: str) -> str:
    if character in "\n\t" or character in _JOINERS:
        return character
    category = unicodedata.category(character)
    if category == "Cs":  # half a character: no client could send it
        return "\ufffd"
    return "" if category in _UNSEEN else character
