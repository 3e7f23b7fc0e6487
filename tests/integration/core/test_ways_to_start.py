"""Guarantee 2, the matrix of programs: however one is started, its functions never answer for others of another program."""

import pytest
from support.matrix_programs import HAVE_A_FILE, SLOTS, STARTED, Programs


@pytest.mark.parametrize("how", STARTED)
def test_two_programs_never_share_an_answer(tmp_path, how):
    programs = Programs(tmp_path)
    turns = [("a", "here"), ("b", "here"), ("b", "here")]
    first, other, again = (programs.start(how, *turn)["asked"] for turn in turns)
    for slot in SLOTS:
        assert first[slot]["true"] != other[slot]["true"], "the variants do not differ"
        for asked, like in ((first, first), (other, other), (again, other)):
            assert asked[slot]["answer"] == asked[slot]["true"] == like[slot]["true"], slot
            assert asked[slot]["uncached"] == 0, slot
        assert (first[slot]["runs"], again[slot]["runs"]) == (4, 0), f"{slot}: a needless miss"
        assert 1 <= other[slot]["runs"] < 4, f"{slot}: what does not differ was asked anew"
    if how in HAVE_A_FILE:
        elsewhere = programs.start(how, "a", "there")["asked"]
        assert all(each["runs"] == 4 and each["answer"] == each["true"] for each in elsewhere.values())
