"""What the guard tells apart beyond numbers and names: signs, small words, letters of units, flags, opposites, languages."""

import pytest
from support.guard_pairs import DIFFERENT, HELD, SAME, pairs

from exp_pool.reuse.guard import guard


@pytest.mark.parametrize("what", DIFFERENT)
def test_texts_that_differ_in_one_small_thing_are_vetoed_in_both_directions(what):
    passed = [(one, other) for one, other in pairs(DIFFERENT[what]) if not (guard(one, other) and guard(other, one))]
    assert passed == []


def test_of_pairs_written_afterwards_at_most_one_in_twenty_passes():
    asked = [pair for lines in HELD.values() for pair in pairs(lines)]
    passed = [(one, other) for one, other in asked if not (guard(one, other) and guard(other, one))]
    assert len(passed) <= len(asked) / 20, passed


def test_one_meaning_with_other_signs_small_words_and_languages_passes():
    vetoed = [(one, other, guard(one, other)) for one, other in pairs(SAME) if guard(one, other) or guard(other, one)]
    assert vetoed == []
