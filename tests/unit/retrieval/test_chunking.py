"""Texts cut into chunks: nothing lost, no character cut, no chunk too long."""

import random

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st
from support.chunk_texts import SCRIPTS, put_together

from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.retrieval.chunker import ChunkSettings


def token_count(text):
    """Words and what stands between them, so that a part may count more than what it is a part of."""
    return len(regex.findall(r"\w{1,4}|\W", text))


def cut(text, size, overlap=0, by="characters", block=7, count_tokens=token_count):
    chunker = ChunkSettings(size, overlap, by, count_tokens).begin()
    pieces = []
    for start in range(0, len(text), block):
        pieces += chunker.feed(text[start : start + block])
    return [*pieces, *chunker.finish()]


def ends_of_characters(text):
    return {0, *(found.end() for found in regex.finditer(r"\X", text))}


def check(text, size, overlap, by, block):
    pieces = cut(text, size, overlap, by, block)
    assert put_together(pieces) == text
    allowed = ends_of_characters(text)
    long = max((len(found[0]) for found in regex.finditer(r"\X", text)), default=0)
    measure = token_count if by == "tokens" else len
    for position, part in pieces:
        assert text[position : position + len(part)] == part != ""
        assert {position, position + len(part)} <= allowed
        assert measure(part) <= size or regex.fullmatch(r"\X", part)
    for (before, part), (after, _) in zip(pieces, pieces[1:], strict=False):
        assert before < after <= before + len(part)
        assert measure(text[after : before + len(part)]) <= overlap
        assert before + len(part) < after + len(_)
    assert not overlap or by != "characters" or long > 1 or all(len(part) == size for _, part in pieces[:-1])


ALPHABET = st.sampled_from(
    [
        "a",
        "b",
        " ",
        ".",
        "! ",
        "\n",
        "\r\n",
        "é",
        "e\u0301",
        "你",
        "。",
        "क्ष",
        "त्रि",
        "한",
        "\u1112\u1161\u11ab",
        "👩‍👩‍👧‍👦",
        "🇩🇪",
        "🇫",
        "\ud800",
        "\u200d",
        "ก็",
        "؟",
    ]
)


@given(
    st.lists(ALPHABET, max_size=60).map("".join),
    st.integers(1, 12),
    st.integers(0, 11),
    st.sampled_from(["characters", "sentences", "tokens"]),
    st.integers(1, 9),
)
@example("e" + "\u0301" * 20 + "x", 3, 2, "characters", 1)
@example("A. B. " + "c" * 9 + ". D.", 10, 6, "sentences", 4)
def test_every_text_is_given_back_and_no_character_is_cut(text, size, overlap, by, block):
    check(text, size, min(overlap, size - 1), by, block)


@pytest.mark.parametrize("by", ["characters", "sentences", "tokens"])
@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_texts_of_every_script(script, by):
    rng = random.Random(script + by)
    for _ in range(8):
        text = SCRIPTS[script](rng, 400)
        size = rng.randrange(5, 90)
        check(text, size, rng.randrange(size), by, rng.randrange(1, 200))


def test_the_block_in_which_a_text_comes_makes_no_difference():
    text = "".join(make(random.Random(5), 300) for make in SCRIPTS.values())
    for by in ("characters", "sentences", "tokens"):
        assert len({tuple(cut(text, 40, 10, by, block)) for block in (1, 3, 50, 5000)}) == 1


def test_sentences_stay_whole_where_they_fit():
    text = 'He said "Stop." Then he left. 他走了。我们也走。「好！」她说。\n\nक्या? हाँ। It cost 3.50 euros today, e.g. here.'
    assert [part for _, part in cut(text, 16, by="sentences")] == [
        'He said "Stop." ', "Then he left. ", "他走了。我们也走。「好！」她说。", "\n\nक्या? हाँ। ",
        "It cost 3.50 eur", "os today, e.g. ", "here.",
    ]  # fmt: skip
    assert [part for _, part in cut("A heading\n\nand a line\nbroken", 21, by="sentences")] == [
        "A heading\n\n",
        "and a line\nbroken",
    ]


def test_an_overlap_of_sentences_is_whole_sentences_or_none():
    def parts(text, size, overlap):
        return [part for _, part in cut(text, size, overlap, "sentences")]

    assert parts("One. Two. Three. Four. Five. ", 17, 7) == ["One. Two. Three. ", "Three. Four. ", "Four. Five. "]
    assert parts("One. Two. Three. Four. ", 17, 12) == ["One. Two. Three. ", "Three. Four. "], "less, so that more fits"
    assert parts("One. Two. Three. " + "x" * 18 + ". Four.", 20, 8) == ["One. Two. Three. ", "x" * 18 + ". ", "Four."]


def test_a_character_longer_than_any_is_cut():
    text = "e" + "\u0301" * 25_000
    assert [len(part) for _, part in cut(text, 10, block=4000)] == [10_000, 10_000, 5001]


def test_long_chunks_of_any_script_take_time_in_proportion():
    text = "त्रि क्ष। " * 40_000  # nothing in it tells the end of a character at a glance
    ((position, part), *_) = cut(text, 300_000, by="sentences", block=len(text))
    assert (position, part[-2:]) == (0, "। "), (
        "the test would run into its time-out if every sentence were read from the beginning"
    )


def test_a_counter_of_tokens_that_counts_nothing_keeps_no_text_back():
    pieces = cut("x" * 5000, 10, by="tokens", block=1000, count_tokens=lambda text: 0)
    assert {len(part) for _, part in pieces[:-1]} == {160}
    with pytest.raises(InvalidInputError, match=r"count_tokens gave -1"):
        cut("x" * 50, 10, by="tokens", count_tokens=lambda text: -1)


def test_wrong_settings_name_the_value_and_what_is_allowed():
    for settings, message in (
        ((0, 0, "characters", len), "chunk_size=0 must be a whole number of at least 1"),
        ((True, 0, "characters", len), "chunk_size=True"),
        ((10.0, 0, "characters", len), r"chunk_size=10\.0"),
        ((10, -1, "characters", len), "overlap=-1 must be a whole number of at least 0"),
        ((10, 10, "characters", len), "overlap=10 must be less than chunk_size=10"),
        ((10, 0, "words", len), "by='words' is unknown; known: characters, sentences, tokens"),
        ((10, 0, "tokens", 4), "count_tokens=4 must be a callable"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            ChunkSettings(*settings)
