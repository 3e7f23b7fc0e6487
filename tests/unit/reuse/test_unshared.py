"""What two requests do not share, where they share most of what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pool.reuse import boilerplate
from exp_pool.reuse.boilerplate import without_boilerplate

RULES = (
    "You are the assistant of a parcel service. Answer in at most three sentences and never promise a date. If the "
    "customer is angry, apologise once. "
)
ONE_LINE = RULES.replace(".", "").replace(",", "")


@pytest.mark.parametrize(
    ("one", "other", "parts"),
    [
        (RULES + "where is it", RULES + "cancel my order", ("where is it", "cancel my order")),
        (RULES + "where is my box?", RULES + "where is my van?", ("where is my box?", "where is my van?")),
        ("Where is it? " + RULES, "Cancel my order. " + RULES, ("Where is it?", "Cancel my order.")),
        (ONE_LINE + "where is it", ONE_LINE + "cancel my order", ("where is it", "cancel my order")),
        (RULES + "\nText: hello\nAnswer:", RULES + "\nText: bye\nAnswer:", ("hello", "bye")),
        ("Into German:\n" + RULES + "\nhello", "Into French:\n" + RULES + "\nhello", ("Into German:", "Into French:")),
        ("请用一句话回答。" * 15 + "包裹在哪里", "请用一句话回答。" * 15 + "取消订单", ("包裹在哪里", "取消订单")),
    ],
)
def test_the_sentences_that_differ(one, other, parts):
    assert without_boilerplate(one, other) == parts
    assert without_boilerplate(other, one) == parts[::-1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("where is it", "cancel my order"),
        (RULES, RULES),
        (RULES + "where is it", "Where is it? " + "x" * 200),
        (RULES[:90] + "where", RULES[:90] + "cancel"),
        (RULES + "a" * 300, RULES + "b" * 300),
    ],
    ids=["short", "equal", "nothing shared", "little shared", "less than half shared"],
)
def test_else_the_whole_is_compared(one, other):
    assert without_boilerplate(one, other) is None


def test_where_one_says_something_more_the_sentence_before_is_compared_with_it():
    assert without_boilerplate(RULES, RULES + "Where is it?") == (
        "If the customer is angry, apologise once.",
        "If the customer is angry, apologise once. Where is it?",
    )


@given(st.text(max_size=30), st.sampled_from([RULES, ONE_LINE, "." * 200, "\n" * 200, "a" * 200]), st.text(max_size=30))
def test_it_never_raises_and_both_parts_say_something(one, shared, other):
    for texts in (
        (shared + one, shared + other),
        (one + shared, other + shared),
        (one + shared + other, shared + other),
    ):
        parts = without_boilerplate(*texts)
        assert parts is None or (all(parts) and all(part in text for part, text in zip(parts, texts, strict=True)))


@pytest.mark.parametrize("unit", ["\n", "\n \n", ". ", ".", "\u3002", "a ", "x", ') "'])
def test_the_steps_do_not_grow_with_hostile_texts(unit, monkeypatch):
    """Each step goes through a text once, so their number must not depend on it."""
    looked = []
    last = boilerplate._last
    monkeypatch.setattr(boilerplate, "_last", lambda *args: looked.append(args) or last(*args))
    text = (unit * 5_000)[:5_000]
    for one, other in ((text + "q", text + "z"), (text, text + "z"), ("q" + text, "z z" + text)):
        looked.clear()
        without_boilerplate(one, other)
        assert len(looked) <= 6
