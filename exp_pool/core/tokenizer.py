"""Tokenizer of lexical search: words of any script, names of code, version numbers. Pure.

Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese do not mark words by spaces, or (Korean) glue particles to them:
their runs become overlapping pairs of characters, the usual index for them (Nie, Gao, Zhang, Zhou: On the Use of Words
and N-grams for Chinese Information Retrieval, 2000), which needs no dictionary. A character is one as people see it,
with its vowel signs. So a single character finds only what holds it alone.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator

import regex

LONGEST = 100_000  # characters of a text that are read: what is behind does not say what the text is about
_LONGEST_WORD = 64  # what is longer is no word (base64, a key): its start will do, and its parts mean nothing

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[[\p{{L}}\p{{N}}_]--[{_UNSPACED}]]"
_WORD = rf"{_LETTER}[[\p{{L}}\p{{M}}\p{{N}}_]--[{_UNSPACED}]]*"
_PIECES = regex.compile(
    rf"(?V1)(?P<run>[{_UNSPACED}][{_UNSPACED}\p{{M}}ー]*)|{_WORD}(?:\.{_WORD})*(?:\+\+|\#)?"  # c++, c#
)
_IN_RUN = regex.compile(rf"[{_UNSPACED}]")
_CHARACTERS = regex.compile(r"\X")
_PARTS = regex.compile(r"\p{Lu}+(?!\p{Ll})|\p{Lu}?\p{Ll}+|\p{N}+|[\p{Lo}\p{Lm}\p{Lt}\p{M}]+")
_VERSION = regex.compile(r"^[vV](?=\p{N})")
# Accents of Latin, Greek and Cyrillic; marks of other scripts are letters. Soft hyphens, choices between glyphs.
_UNWRITTEN = regex.compile(r"[\u0300-\u036f\u00ad\ufe00-\ufe0f\U000e0100-\U000e01ef]+")


def words(text: str) -> list[str]:
    """The words in order, in lower case and without accents; empty where there are none. Never raises.

    A name of code is there whole and in its parts: ``user_client.getUserById`` as itself (without underscores),
    ``userclient``, ``user``, ``client``, ``getuserbyid``, ``get``, ``user``, ``by``, ``id``; so are ``E1001`` and
    ``v2.3.1``, which is the same as ``2.3.1``.
    """
    return [word.casefold()[:_LONGEST_WORD] for word in _cased(_folded(text[:LONGEST])) if word]


def unspaced(word: str) -> bool:
    """Whether it begins with a character of a script that does not mark words by spaces."""
    return _IN_RUN.match(word) is not None


def _folded(text: str) -> str:
    """One spelling for what looks alike: compatibility forms (NFKC), no accents."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _UNWRITTEN.sub("", unicodedata.normalize("NFKD", text)))


def _cased(text: str) -> Iterator[str]:
    for found in _PIECES.finditer(text):
        piece = found[0]
        if found["run"]:
            yield from _pairs(_CHARACTERS.findall(piece))
        elif piece.isalpha() and (piece.islower() or piece[1:].islower()):  # nearly every word of prose
            yield piece
        else:
            yield from _name(piece)


def _pairs(characters: list[str]) -> Iterator[str]:
    if len(characters) == 1:
        yield characters[0]
    for first, second in itertools.pairwise(characters):
        yield first + second


def _name(name: str) -> Iterator[str]:
    pieces = name.split(".")
    if len(pieces) > 1 or name.endswith(("+", "#")):
        yield _VERSION.sub("", name.replace("_", ""))
    for piece in pieces:
        plain = piece.rstrip("+#")
        yield plain.replace("_", "")
        parts = _PARTS.findall(plain) if len(plain) <= _LONGEST_WORD else []
        if len(parts) > 1:
            yield from parts
