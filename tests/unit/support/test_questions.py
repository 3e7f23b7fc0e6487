"""The questions of the clone are what the tests, examples and benchmarks say of them."""

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from questions import chat_prompts, generated_pairs, labelled_pairs, rows
from support.paths import ROOT

from exp_pool.reuse.guard import guard

KINDS = (
    "paraphrase aspect comparison conjunction date direction entity follow-up identifier language negation number opposite "
    "quantifier role unit"
).split()


def test_there_are_enough_labelled_pairs_of_each_kind_in_both_languages():
    pairs = rows("pairs")
    assert len({(row["a"], row["b"]) for row in pairs}) == len(pairs) >= 600
    assert all(row["a"] != row["b"] for row in pairs)
    kinds = Counter((row["kind"], row["language"]) for row in pairs)
    assert set(KINDS) == {kind for kind, _ in kinds} - {"other topic"}
    assert all(kinds[kind, "zh"] for kind in KINDS)
    assert all(row["same"] == (row["kind"] == "paraphrase") for row in pairs)
    assert all((row["language"] == "zh") == bool(re.search(r"[\u4e00-\u9fff]", row["a"])) for row in pairs)


def test_there_are_enough_chat_prompts():
    assert len(set(chat_prompts())) == len(chat_prompts()) >= 300
    assert {row["language"] for row in rows("prompts")} == {"en", "zh"}


def test_generated_pairs_are_the_same_each_time_and_none_is_there_twice():
    pairs = generated_pairs()
    assert pairs == generated_pairs()
    assert pairs != generated_pairs(seed=1)
    assert pairs[:300] == generated_pairs(300)
    assert len({(a, b) for a, b, _ in pairs}) == len(pairs) == 20_000
    assert 0.3 < sum(same for _, _, same in pairs) / len(pairs) < 0.5


def test_no_pair_is_labelled_both_ways():
    labels = {}
    for a, b, same in [*labelled_pairs(), *generated_pairs()]:
        assert labels.setdefault(frozenset((a, b)), same) == same, (a, b)


@pytest.mark.parametrize(
    ("pairs", "most"),
    [
        (generated_pairs, 0.02),
        (lambda: pairs_in("en"), 0.02),
        (lambda: pairs_in("zh"), 0.2),  # which characters are a name is a guess there
    ],
    ids=["generated", "English", "Chinese"],
)
def test_the_guard_lets_what_is_the_same_pass(pairs, most):
    same = [(a, b) for a, b, alike in pairs() if alike]
    vetoed = [(a, b, why) for a, b in same if (why := guard(a, b))]
    assert len(vetoed) <= most * len(same), vetoed


def pairs_in(language):
    return [(row["a"], row["b"], row["same"]) for row in rows("pairs") if row["language"] == language]


def test_no_file_that_a_clone_has_leads_out_of_it():
    """What is read stands in the repository; more is named by EXP_POOL_TEST_DATA."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git, or no repository here")
    outside = re.compile(r"\.\./shared|/ ['\"]shared['\"]")
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".ipynb", ".toml", ".yml"} and path.is_file() and path != Path(__file__):
            assert not outside.search(path.read_text(encoding="utf-8")), path
