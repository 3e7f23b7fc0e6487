"""The guard: texts that differ in a negation, a number, a unit, a name or a direction are not the same."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.near_misses import HELD, SEEN, pairs

from exp_pool.reuse import pair_features as pairs_module
from exp_pool.reuse.guard import DifferenceKind, differences, guard, tokenize

# ── What it must see, and what it must let pass ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "templates"), [("seen", SEEN), ("held", HELD)])
def test_at_most_one_near_miss_in_ten_passes(name, templates):
    asked, passed = Counter(), Counter()
    for kind, language, one, other in pairs(templates):
        asked[language] += 1
        passed[language] += guard(one, other) is None
    assert min(asked.values()) >= 170, "about 400, half of them Chinese"
    assert sum(passed.values()) <= 0.1 * sum(asked.values()), passed
    assert all(passed[language] <= 0.1 * asked[language] for language in asked), passed


def half(pair):
    """Which half of the data a pair is in: only pairs of half 1 were looked at while the guard was written."""
    return hashlib.sha256("\0".join(pair[:2]).encode()).digest()[0] % 2


@pytest.mark.parametrize("which", [0, 1], ids=["measured only", "looked at"])
def test_at_most_three_true_paraphrases_in_a_hundred_are_vetoed(question_pairs, which):
    same = [pair for pair in question_pairs if pair[2] and half(pair) == which]
    vetoed = [guard(one, other) is not None for one, other, _ in same]
    assert sum(vetoed) <= 0.02 * len(vetoed), "so that 400 of them hold 3% with room to spare"
    four_hundred = sorted(range(len(same)), key=lambda at: hashlib.sha256(repr(same[at]).encode()).digest())[:400]
    assert sum(vetoed[at] for at in four_hundred) <= 12


def test_the_guard_vetoes_different_questions_more_often_than_same_ones(question_pairs):
    rate = {
        wanted: sum(guard(one, other) is not None for one, other, same in question_pairs[::4] if same is wanted)
        / sum(same is wanted for _, _, same in question_pairs[::4])
        for wanted in (True, False)
    }
    assert rate[False] > 3 * rate[True]


SAME = """
How long is 5 km?|How long is 5 kilometers?
How long is 1000 m?|How long is 1 km?
What happened on Jan 5, 2024?|What happened on 2024-01-05?
What happened on the 5th of January 2024?|What happened on January 5 2024?
1,000 dollars|$1000
3 ways to save money|three ways to save money
10% of 50|10 percent of 50
20k a year|20,000 a year
Don't open it|Do not open it
What's the difference between Python and Java?|What is the difference between Java and Python?
Meet at 15:00|Meet at 3 pm
What is the capital of France?|What's France's capital?
US economy|economy of the United States
How do I use get_user?|How can I use `get_user`?
HOW DO I COOK RICE|how do i cook rice?
twenty five people|25 people
World War II causes|Causes of World War 2
Isn't coffee bad for you?|Is coffee bad for you?
two hours|120 minutes
Paris weather|weather in Paris
Is NYC big?|Is New York City big?
What colour is it?|What color is it?
Ｈｏｗ ｍａｎｙ ３|how many 3
Tom's cats are hungry|the cats of Tom are hungry
What is a memorandum of understanding (MOU)?|What is an MOU?
怎么学好英语|如何学好英语
120斤是多少公斤|一百二十斤等于多少千克
2024年1月5日是星期几|二〇二四年一月五日是周几
What happened on 2024-01-05?|What happened on 2024年1月5日?
你能不能帮我写一首诗|请帮我写一首诗
苹果公司的市值是多少|苹果公司市值多少
怎么减肥最快|最快的减肥方法是什么
1万元等于多少美元|10000元是多少美元
下午三点开会吗|15:00开会吗
學習英語難嗎|学习英语难吗
10公里要跑多久|跑10千米需要多长时间
Python怎么读取文件|如何用python读文件
孩子不爱吃饭怎么办|小孩不喜欢吃饭怎么办
他是不是去北京了|他去北京了吗
我特别喜欢他|我非常喜欢他
"""


@pytest.mark.parametrize("pair", SAME.strip().splitlines())
def test_one_meaning_written_in_two_ways_passes(pair):
    assert guard(*pair.split("|")) is None


SEES = {
    DifferenceKind.NEGATION: [
        "Should I take aspirin?|Should I not take aspirin?",
        "这个药可以空腹吃吗|这个药不可以空腹吃吗",
    ],
    DifferenceKind.NUMBER: ["Give me 3 ideas|Give me five ideas", "三个苹果多少钱|五个苹果多少钱"],
    DifferenceKind.UNIT: ["How long is 5 km?|How long is 5 miles?", "5公里等于多少米|5英里等于多少米"],
    DifferenceKind.DATE: ["flights on Jan 5|flights on Jan 6", "周一开会吗|周二开会吗"],
    DifferenceKind.ENTITY: [
        "How tall is Mount Everest?|How tall is Mont Blanc?",
        "李白的代表作有哪些|杜甫的代表作有哪些",
    ],
    DifferenceKind.IDENTIFIER: [
        "What does get_user() return?|What does set_user() return?",
        "os.path是什么|os.environ是什么",
    ],
    DifferenceKind.ORDER: [
        "How do I get from A to B?|How do I get from B to A?",
        "从北京到上海要多久|从上海到北京要多久",
    ],
    DifferenceKind.QUANTIFIER: ["Do all birds fly?|Do some birds fly?", "至少需要3个人|至多需要3个人"],
    DifferenceKind.OPPOSITE: ["increase the volume|decrease the volume", "如何增加体重|如何减少体重"],
    DifferenceKind.LANGUAGE: ["Sort a list in Python|Sort a list in Java", "用法语写一封信|用德语写一封信"],
}


@pytest.mark.parametrize("kind", SEES)
def test_every_kind_is_seen_named_and_said_in_words(kind):
    for pair in SEES[kind]:
        one, other = pair.split("|")
        found = [difference for difference in differences(one, other) if difference.vetoes]
        assert kind in [difference.kind for difference in found], pair
        assert guard(one, other) == str(found[0])


def test_a_veto_says_what_stands_against_what():
    assert guard("Give me 3 ideas", "Give me five ideas") == "the numbers differ: 3 against five"
    assert guard("Can I go?", "Can I not go?") == "one of them is negated (not)"
    assert guard("Do only admins vote?", "Do admins vote?") == (
        "the quantities meant differ: only one of them says only"
    )
    assert guard("from A to B", "from B to A") == "the order differs: A, then B, against the reverse"


def test_what_is_said_on_one_side_only_is_a_hint_and_no_veto():
    (hint,) = differences("best laptops", "best laptops of 2016")
    assert (hint.kind, hint.vetoes, hint.request, hint.stored) == (DifferenceKind.DATE, False, "", "2016")
    assert guard("best laptops", "best laptops of 2016") is None


def test_a_difference_counts_where_the_rest_is_the_same():
    """Two questions that share little are the judge's business; their differences are there, and do not veto."""
    found = differences("Why did Modi ban notes?", "What is the best pizza that one can eat in Naples?")
    assert not any(difference.vetoes for difference in found)


# ── Properties ────────────────────────────────────────────────────────────────────────────────────────────────────────

PARTS = st.sampled_from(
    "How do I not never get from Paris to Rome in 3 km 5 miles 2024-01-05 May second one hundred and at least only Python "
    "get_user() foo.bar --flag $ % ' \" ` 《 》 不 没有 从 北京 到 上海 三 百 万 点 半 年 月 日 公里 ? . , \u0301 \ud800 \x00 😀 ﷺ II "
    "n't don't can't 1,000 99999999999999999999 0 -5 百分之 十万亿 1/5/2024 13:99 U.S. x 零零 二〇二四年十三月".split(
        " "
    )
)
HOSTILE = st.one_of(
    st.text(max_size=40), st.lists(PARTS, max_size=14).map(" ".join), st.lists(PARTS, max_size=14).map("".join)
)


@given(HOSTILE)
def test_a_text_never_differs_from_itself(text):
    assert differences(text, text) == ()
    assert differences(tokenize(text), text) == ()


@given(HOSTILE, HOSTILE)
def test_the_verdict_is_the_same_the_other_way_round(one, other):
    there, back = differences(one, other), differences(other, one)
    assert any(d.vetoes for d in there) == any(d.vetoes for d in back)
    assert {d.kind for d in there} == {d.kind for d in back}


@given(st.lists(PARTS, max_size=10), PARTS)
def test_what_follows_from_one_word_alone_never_raises(words, word):
    guard(" ".join(words), " ".join([*words, word]))


@pytest.mark.parametrize(
    "unit",
    ["a", "a ", "不", "一", "1", "1,", "9" * 400 + " ", "A", "\ud800", "\x00", "\u0301", "😀", "'", "`", "《", "a_", "a.", "-", "n't ", "one ", "百万亿", "ﷺ",
     "from a to b ", "1:2", "Jan 1 ", " ", "$", "()", "x1", "北京到"],
)  # fmt: skip
def test_hostile_text_of_any_length_is_read_in_steps_that_grow_with_it(unit):
    """Counted, not timed: no more tokens than characters, and what is too long is not read."""
    text = (unit * 100_000)[:100_000]
    assert len(tokenize(text).tokens) <= 20_000
    assert guard(text, text) is None
    assert guard(text, text + "x") == guard(text + "x", text) != None  # noqa: E711
    short = text[:3_000]
    guard(short, short[:-1] + "z 3")
    guard(short, short[::-1])


@pytest.mark.parametrize(
    ("left", "right", "differ"),
    [
        ("What is 10² in binary?", "What is 102 in binary?", True),
        ("What is 10² in binary?", "What is 10^2 in binary?", False),
        ("Is 2½ cups too much?", "Is 21/2 cups too much?", True),
        ("How large is 1 m²?", "How large is 1 m2?", False),
    ],
)
def test_raised_digits_and_fractions_are_not_glued_to_the_number_before_them(left, right, differ):
    assert any(found.vetoes for found in differences(left, right)) == differ


def test_features_have_a_place_for_every_kind():
    """`reuse.pair_features` has their number written down: importing them would bring the guard's word lists along."""
    assert len(DifferenceKind) == pairs_module._KINDS
    assert sorted(kind.place for kind in DifferenceKind) == list(range(len(DifferenceKind)))
