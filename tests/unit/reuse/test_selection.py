"""Which experiences are shown: order, limits, variety, and who is left out at random."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pool import Experience, Hit, Inject, SimpleContextBuilder
from exp_pool.errors import ConfigurationError
from exp_pool.reuse.selection import ExperienceSelection, diverse, selection_of


def hit(text, similarity, id_=None):
    return Hit(Experience(function="f", request=text, response=text, id=id_ or text), similarity, "semantic")


def ids(hits):
    return [found.experience.id for found in hits]


TEXTS = st.lists(st.sampled_from("abcde"), max_size=4).map(" ".join)
HITS = st.lists(st.tuples(TEXTS, st.floats(-1, 1)), max_size=12).map(
    lambda found: [hit(text, similarity, str(n)) for n, (text, similarity) in enumerate(found)]
)


@given(HITS, st.integers(1, 8))
def test_the_most_similar_are_shown_in_their_order(hits, limit):
    shown = ExperienceSelection(limit).choose(hits, random.random)
    assert [e.id for e in shown.experiences] == ids(sorted(hits, key=lambda found: -found.similarity))[:limit]
    assert shown.left_out is None
    assert shown.note == {}


@given(HITS, st.integers(1, 8), st.floats(0, 1), st.floats(0, 0.99), st.integers(0, 5))
def test_what_is_shown_and_what_is_left_out_are_what_would_have_been_shown(hits, limit, diversity, holdout, room):
    def fitting(experiences):
        return experiences[:room]

    drawn = random.Random(1)
    would = ExperienceSelection(limit, diversity=diversity, fitting=fitting).choose(hits, drawn.random).experiences
    shown = ExperienceSelection(limit, diversity=diversity, holdout=holdout, fitting=fitting).choose(hits, drawn.random)
    assert len(would) == min(limit, len(hits), room)
    if holdout:
        assert sorted([*shown.parents, *shown.note["left_out"]]) == sorted(e.id for e in would), "nobody moves up"
        assert [e.id for e in would if e.id in shown.parents] == list(shown.parents), "in their order"
        assert shown.note["holdout"] == holdout
    else:
        assert shown.experiences == would


def chi_square_of_draws(holdout, calls):
    """How far the counts of 0 to 3 left out of three are from binomial ones, and the counts of each by itself."""
    hits = [hit(name, 0.9) for name in "abc"]
    drawn, together, alone = random.Random(7), Counter(), Counter()
    for _ in range(calls):
        left_out = ExperienceSelection(holdout=holdout).choose(hits, drawn.random).note["left_out"]
        together[len(left_out)] += 1
        alone.update(left_out)
    expected = {k: calls * n * holdout**k * (1 - holdout) ** (3 - k) for k, n in enumerate((1, 3, 3, 1))}
    return sum((together[k] - e) ** 2 / e for k, e in expected.items()), alone


@pytest.mark.parametrize("holdout", [0.1, 0.3, 0.5])
def test_each_candidate_is_left_out_independently_with_this_probability(holdout):
    calls = 20_000
    chi_square, alone = chi_square_of_draws(holdout, calls)
    assert chi_square < 16.27  # the 99.9% point with 3 degrees of freedom
    for name in "abc":
        assert (alone[name] - calls * holdout) ** 2 / (calls * holdout * (1 - holdout)) < 10.83  # with 1


def test_without_holdout_nothing_is_drawn():
    def draw():
        raise AssertionError("nobody is to be left out")

    assert ExperienceSelection().choose([hit("a", 0.5)], draw).parents == ("a",)


# Variety


def test_diversity_prefers_what_is_unlike_what_was_chosen():
    hits = [hit("how do I reset my password", 0.9), hit("how do I reset my password now", 0.89), hit("refund", 0.6)]
    assert ids(diverse(hits, 2, 0.0)) == ids(hits[:2])
    assert ids(diverse(hits, 2, 0.5)) == [ids(hits)[0], ids(hits)[2]]
    chinese = [hit("如何重置我的密码", 0.9), hit("怎样重置我的密码", 0.89), hit("申请退款", 0.6)]
    assert ids(diverse(chinese, 2, 0.5)) == ["如何重置我的密码", "申请退款"]


def test_equal_answers_count_as_alike():
    def asked(text, answer, similarity):
        return Hit(Experience(function="f", request=text, response=answer, id=text), similarity, "semantic")

    long = "restart the router and wait for a minute before you try again"
    hits = [asked("wifi", long, 0.9), asked("network", long, 0.8), asked("internet", "call us", 0.7)]
    assert ids(diverse(hits, 2, 0.5)) == ["wifi", "internet"]


@given(HITS, st.integers(1, 8), st.floats(0, 1))
def test_diversity_keeps_the_most_similar_first_and_loses_nobody_without_need(hits, limit, diversity):
    ranked = sorted(hits, key=lambda found: -found.similarity)
    chosen = diverse(ranked, limit, diversity)
    assert len(chosen) == min(limit, len(hits))
    assert len(set(ids(chosen))) == len(chosen)
    if hits and diversity < 1:
        assert chosen[0].similarity == ranked[0].similarity
    assert diverse(chosen, limit, 0.0) == chosen


def test_more_candidates_are_looked_for_where_they_are_to_differ():
    assert ExperienceSelection(5).candidates == 5
    assert ExperienceSelection(5, diversity=0.3).candidates == 20


# What asks for it


def test_all_who_show_experiences_say_so_in_one_way():
    wanted = {"min_similarity": 0.2, "min_score": 0.5, "holdout": 0.1, "diversity": 0.3, "failures": True}
    of_inject = selection_of(Inject("x", top_k=3, **wanted))
    builder = SimpleContextBuilder(limit=3, **wanted)
    assert of_inject == ExperienceSelection(3, **wanted)
    assert selection_of(builder) == ExperienceSelection(3, **wanted, fitting=builder.fitting)

    class Strangers:
        limit = 2

        def build(self, request, experiences):
            return request

    assert selection_of(Strangers()) == ExperienceSelection(2)
    Strangers.limit = 0
    with pytest.raises(ConfigurationError, match="limit=0"):
        selection_of(Strangers())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k=0 must be a whole number"),
        ({"top_k": 2.5}, "top_k=2.5"),
        ({"min_score": 1.5}, "min_score=1.5 must be between 0 and 1"),
        ({"holdout": 1.0}, "would never show anything"),
        ({"holdout": True}, "holdout=True must be between 0 and 1"),
        ({"diversity": -1}, "diversity=-1 must be between 0 and 1"),
        ({"failures": 1}, "failures=1 must be True or False"),
    ],
    ids=str,
)
def test_bad_options_of_inject_are_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        Inject("experiences", **options)
