"""The guard's work grows with the texts, not with their square. Counted in lines of its code, not timed."""

import sys

import pytest

from exp_pool.reuse.guard import differences

# What is repeated in one text, and in the other; both differ in every one.
REPEATED = [
    ("1 1 1 ", "2 2 2 "), ("5 kg ", "6 miles "), ("one 1 ", "two 2 "), ("Jan 5 ", "Jan 6 "), ("7 ", "7pm "), ("kg ", "miles "),
    ("Anna 1 ", "Otto 2 "), ("A ", "B "), ("-a 1 ", "-b 2 "), ("x > y ", "x < y "), ("all 1 ", "every 2 "), ("not 1 ", "do 2 "),
    ("from a to b 1 ", "from b to a 2 "), ("f(a, b) ", "f(b, a) "), ("World War I ", "World War II "), ("(a) ", "(b) "),
    ("mW ", "MW "), ("safe 1 ", "unsafe 2 "), ("不1", "是2"), ("李白", "杜甫"), ("nicht 1 ", "kein 2 "), ("ない1", "ある2"),
    ("gelir 1 ", "gelmez ğ 2 "), ("안 1 ", "못 2 "),
]  # fmt: skip


def lines_run(one, other):
    count = 0

    def in_guard(frame, event, arg):
        nonlocal count
        count += 1
        return in_guard

    def on_call(frame, event, arg):
        return in_guard if "reuse/guard/" in frame.f_code.co_filename.replace("\\", "/") else None

    differences(one, other)  # what is kept from call to call is there now
    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        differences(one, other)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(("one", "other"), REPEATED)
def test_twice_the_text_takes_at_most_somewhat_more_than_twice_the_steps(one, other):
    def steps(length):
        return lines_run((one * length)[:length], (other * length)[:length] + "z")

    assert steps(4_000) <= 2.4 * steps(2_000)
