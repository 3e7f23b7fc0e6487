"""Chunker: cuts a text that comes in blocks into chunks.

Chunks end where a character as people see it ends, never within: at the boundaries of extended grapheme clusters
(Unicode Standard Annex 29), which the package `regex` knows. Nothing is left out or changed: put together by their
positions the chunks are the text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import regex

from exp_pool.errors import ConfigurationError, InvalidInputError

UNITS = ("characters", "sentences", "tokens")

_LONGEST_CHARACTER = 10_000  # code points; what is longer is an attack, and would otherwise be kept in memory whole
_LONGEST_TOKEN = 16  # code points on average in a chunk; likewise

_CHARACTER = regex.compile(r"\X")
# Between two of these a character ends for certain, so characters need not be told apart from the beginning: thrice the
# speed. Backwards: the last such place.
_PLAIN = r"[\x20-\x7e\p{Lu}\p{Ll}\p{Han}\p{Hiragana}\p{Katakana}]"
_CERTAIN = regex.compile(rf"(?r)(?<={_PLAIN})(?={_PLAIN})")
# The end of a sentence, with the white space behind it: after a full stop and the like where white space follows, after
# those of scripts that use none, or an empty line. Possessive, and each run is entered at its beginning only: linear.
_SENTENCE_END = regex.compile(
    r"""(?V1)(?:(?<![.!?…])[.!?…]++["'\p{Pe}\p{Pf}]*+(?=\s) | (?<!\p{STerm})[\p{STerm}--[.!?]]++["'\p{Pe}\p{Pf}]*+)\s*+
        | (?<!\s)(?P<lines>[^\S\n]*+\n\s*+)""",
    regex.VERBOSE,
)


class Piece(NamedTuple):
    """A chunk of a text, and where in the text it begins, in characters."""

    position: int
    text: str


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """How texts are cut; see `AsyncRAGGenerator`.

    Raises:
        ConfigurationError: a value that cannot work.
    """

    size: int
    overlap: int
    by: str
    count_tokens: Callable[[str], int]

    def __post_init__(self) -> None:
        for name, value, least in (("chunk_size", self.size, 1), ("overlap", self.overlap, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigurationError(f"{name}={value!r} must be a whole number of at least {least}")
        if self.overlap >= self.size:
            raise ConfigurationError(f"overlap={self.overlap!r} must be less than chunk_size={self.size!r}")
        if self.by not in UNITS:
            raise ConfigurationError(f"by={self.by!r} is unknown; known: {', '.join(UNITS)}")
        if not callable(self.count_tokens):
            raise ConfigurationError(f"count_tokens={self.count_tokens!r} must be a callable of a text")

    def begin(self) -> Chunker:
        """A chunker for one text."""
        return Chunker(self)

    def fits(self, text: str, size: int) -> bool:
        """Whether the text is no longer than so many units."""
        return (self._tokens(text) if self.by == "tokens" else len(text)) <= size

    def _tokens(self, text: str) -> int:
        count: Any = self.count_tokens(text)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InvalidInputError(f"count_tokens gave {count!r}; it must give a whole number, not negative")
        return count


class Chunker:
    """Cuts one text. Keeps no more of it than a chunk and the last block."""

    def __init__(self, chunking: ChunkSettings) -> None:
        self._how = chunking
        self._text = ""  # what may still be needed
        self._position = 0  # of its beginning, in the whole text
        self._given = 0  # so much of it has been given
        self._starts = [0]  # where the next chunk may begin: as early as the overlap allows, ..., where the last ended

    def feed(self, text: str) -> Iterator[Piece]:
        """The chunks whose end is known now."""
        self._text += text
        yield from self._cut(last=False)
        needed = self._starts[0]
        self._text = self._text[needed:]
        self._position += needed
        self._given -= needed
        self._starts = [start - needed for start in self._starts]

    def finish(self) -> Iterator[Piece]:
        """The rest."""
        yield from self._cut(last=True)

    def _cut(self, *, last: bool) -> Iterator[Piece]:
        while self._given < len(self._text):
            chunk = self._chunk(last=last)
            if chunk is None:
                return
            start, self._given, self._starts = chunk
            yield Piece(self._position + start, self._text[start : self._given])

    def _chunk(self, *, last: bool) -> tuple[int, int, list[int]] | None:
        """Beginning and end of the next chunk, and where the one after it may begin; None: not known yet."""
        for start in self._starts:
            reach = self._reach(start, last=last)
            if reach is None:
                return None
            if reach == len(self._text):
                return start, reach, [reach]
            sentences = self._sentences(start, reach) if self._how.by == "sentences" else []
            for end in self._ends(start, reach, sentences):
                if self._how.fits(self._text[start:end], self._how.size):
                    return start, end, self._overlapping(start, end, sentences)
        end = self._character(start, start + 1)[1]  # one character that is too long
        if end == len(self._text) and not last and end - start < _LONGEST_CHARACTER:
            return None
        return start, end, [end]

    def _ends(self, start: int, reach: int, sentences: list[int]) -> Iterator[int]:
        """Where a chunk that begins there may end, the best place first.

        Mostly that is it; but the beginning of a text may have more tokens than all of it.
        """
        yield from (end for end in reversed(sentences) if end > self._given)
        if self._how.by == "sentences" and start < self._given:
            return  # rather less overlap than half a sentence
        end = self._character(start, reach)[0]
        while end > self._given:
            yield end
            end = self._character(start, end - 1)[0]

    def _reach(self, start: int, *, last: bool) -> int | None:
        """How far at most a chunk reaches that begins there.

        Short of the end of what is known of the text, unless it is all: the next block may begin with what belongs to
        the last character.
        """
        size, known = self._how.size, len(self._text)
        if self._how.by != "tokens":
            if start + size < known:
                return start + size
            return known if last else None
        longest = start + size * _LONGEST_TOKEN
        fitting, above = start, start + size
        while above < min(longest, known) and self._how.fits(self._text[start:above], size):
            fitting, above = above, start + 2 * (above - start)
        above = min(above, longest, known)
        if self._how.fits(self._text[start:above], size):
            if above < known:
                return above
            return known if last else None
        while above - fitting > 1:
            middle = (fitting + above) // 2
            if self._how.fits(self._text[start:middle], size):
                fitting = middle
            else:
                above = middle
        return fitting

    def _character(self, start: int, place: int) -> tuple[int, int]:
        """The nearest ends of characters: not behind a place, and not before it. At `start` one is known to end."""
        certain = _CERTAIN.search(self._text, start, place + 1)
        before = certain.end() if certain else start
        for found in _CHARACTER.finditer(self._text, before):
            if before == place:
                break
            after = min(found.end(), before + _LONGEST_CHARACTER)
            if after > place:
                return before, after
            before = after
        return before, before

    def _sentences(self, start: int, reach: int) -> list[int]:
        """The ends of sentences from there on, where characters end, too."""
        ends = []
        for found in _SENTENCE_END.finditer(self._text, start, reach):
            if found["lines"] is None or found["lines"].count("\n") > 1:
                start = self._character(start, found.end())[0]  # from the last one: no character is looked at twice
                if start == found.end():
                    ends.append(start)
        return ends

    def _overlapping(self, start: int, end: int, sentences: list[int]) -> list[int]:
        """Where the chunk behind this one may begin: first as early as the overlap allows."""
        if not self._how.overlap:
            return [end]
        places: Sequence[int] = range(start + 1, end)
        if self._how.by == "sentences":
            places = [place for place in sentences if place < end]
        first = bisect_left(places, True, key=lambda place: self._how.fits(self._text[place:end], self._how.overlap))
        if self._how.by == "sentences":
            return [*places[first:], end]
        return [self._character(start, start + 1 + first)[1], end]
