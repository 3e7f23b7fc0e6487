"""``similarity``: similarity of the answer to the one that a person expects, or to a reference."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from difflib import SequenceMatcher
from typing import Any

import regex

from exp_pool.errors import ConfigurationError, NotScorableError, ScorerError
from exp_pool.protocols import MISSING, Score, ScoreContext

from ._texts import text_of, version_of

# A word; or a sign of a script that writes no spaces between words, alone.
_WORDS = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\w--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]+|[^\w\s]",
    regex.V1,
)

Embed = Callable[[list[str]], Any]


class SimilarityScorer:
    """The likeness of the function's answer to `expected`, else to `reference`, 0 to 1.

    Without `embed` it is lexical: the share of words that both have in the same order, Ratcliff and Obershelp's
    2 * matches / (words of both) by `difflib` (a sign of Chinese or Japanese counts as a word). That needs no model and
    knows no meaning: "do" and "do not" are alike. With `embed` it is the cosine of the two embeddings, where it is
    above 0. Likeness is no truth: for facts, use rules, tests or a judge.

    Args:
        reference: the answer to be like, where the experience is not annotated; or a callable of the `ScoreContext`.
        embed: ``callable(list[str]) -> vectors``, ``def`` or ``async def``, or an object whose `embed` is one.
        version: of the model; to be changed with `embed`, because functions cannot be told apart.

    Raises:
        ConfigurationError: `embed` is nothing that can be called.
    """

    name = "similarity"

    def __init__(
        self,
        *,
        reference: str | Callable[[ScoreContext], str] | None = None,
        embed: Embed | Any = None,
        version: str = "1",
    ) -> None:
        self._reference = reference
        self._embed: Embed | None = getattr(embed, "embed", embed)
        if self._embed is not None and not callable(self._embed):
            raise ConfigurationError(f"embed={embed!r} must be a callable(list[str]) -> vectors")
        fixed = reference if isinstance(reference, str) else callable(reference)
        self.version = version_of([version, fixed, self._embed is not None])

    def __call__(self, context: ScoreContext, /) -> Score | Awaitable[Score]:
        """The score.

        Raises:
            NotScorableError: the experience is not annotated, and there is no reference.
            ScorerError: what `embed` returned is not two vectors.
        """
        experience = context.experience
        if experience.response is MISSING:
            raise NotScorableError("there is no answer of the function's, only an expected one")
        wanted: Any = experience.expected
        to = "expected"
        if wanted is MISSING:
            wanted, to = self._reference(context) if callable(self._reference) else self._reference, "the reference"
        if wanted is None or wanted is MISSING:
            raise NotScorableError("there is nothing to compare with; annotate the experience, or give a reference")
        texts = [text_of(experience.response), text_of(wanted)]
        if self._embed is None:
            a, b = ([word.casefold() for word in _WORDS.findall(text)] for text in texts)
            ratio = 1.0 if texts[0] == texts[1] else SequenceMatcher(None, a, b, autojunk=False).ratio()
            return Score(value=ratio, reason=f"{ratio:.0%} of the words of {to}")
        vectors = self._embed(texts)
        return _later(vectors, to) if inspect.isawaitable(vectors) else _by_cosine(vectors, to)


async def _later(vectors: Awaitable[Any], to: str) -> Score:
    return _by_cosine(await vectors, to)


def _by_cosine(vectors: Sequence[Sequence[float]], to: str) -> Score:
    try:
        a, b = ([float(number) for number in vector] for vector in vectors)
        cosine = math.sumprod(a, b) if hasattr(math, "sumprod") else sum(x * y for x, y in zip(a, b, strict=True))
        cosine /= math.hypot(*a) * math.hypot(*b)
    except (TypeError, ValueError, ZeroDivisionError) as err:
        raise ScorerError(f"embed= did not return two vectors of one length, not zero: {err}") from err
    if not math.isfinite(cosine):
        raise ScorerError("embed= returned vectors that are not finite")
    return Score(value=min(1.0, max(0.0, cosine)), reason=f"cosine {cosine:.3f} to {to}")
