"""What two requests look like in numbers, and what is learned from such numbers."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pool.reuse import boosted_trees, classifier
from exp_pool.reuse.boosted_trees import TreeModel, fit
from exp_pool.reuse.guard import differences, tokenize
from exp_pool.reuse.pair_features import BUCKETS, PairFeatures, pair_features

HOSTILE = {
    "nothing": "",
    "spaces": " \t\n\u3000",
    "control": "\x00\x01\x7f\u200b\ufeff",
    "surrogate": "\ud800 a \udfff",
    "digits": "9" * 5000 + " " + "1 " * 3000,
    "one word": "a" * 100_000,
    "glue": "the " * 5000,
    "chinese": "如何取消订阅？" * 1000,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 300,
    "marks": "e" + "\u0301" * 5000,
    "right to left": "\u202eabc \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "code": "def f(x): return {x!r:>{10}} # '" * 200,
    "punctuation": "?!.,;:" * 2000,
    "negations": "not never no none nobody " * 500,
    "numbers": "-1e308 1e999 NaN inf 0x1F 1/0 ½ ² ١٢٣ " * 100,
}


def of(a, b, similarity=0.9):
    return pair_features(a, b, similarity, differences(tokenize(a), b))


LENGTH = len(of("a", "b").numbers)


def is_sound(pair):
    numbers, wording = pair
    finite = len(numbers) == LENGTH and all(math.isfinite(value) for value in numbers)
    return finite and len(wording) <= 256 and all(0 <= bucket < BUCKETS for bucket in wording)


@pytest.mark.parametrize("left", HOSTILE)
def test_hostile_texts_are_so_many_finite_numbers(left):
    for right, text in HOSTILE.items():
        assert is_sound(of(HOSTILE[left], text)), right


@given(st.text(max_size=60), st.text(max_size=60), st.floats(-1, 1))
def test_any_texts_are_so_many_finite_numbers(left, right, similarity):
    pair = of(left, right, similarity)
    assert is_sound(pair)
    assert pair.numbers[0] == similarity


@given(st.text("abc dethf not 123?是不", max_size=40), st.text("abc dethf not 123?是不", max_size=40))
def test_it_does_not_matter_which_of_the_two_is_stored_but_for_what_is_told_of_each(left, right):
    """Numbers about one of the two change places with the other's; all others stay."""
    (there, wording), (back, wording_back) = pair_features(left, right, 0.5, ()), pair_features(right, left, 0.5, ())
    assert wording == wording_back
    assert sorted(there) == pytest.approx(sorted(back))
    moved = {place for place in range(LENGTH) if there[place] != pytest.approx(back[place])}
    for place in moved:
        assert any(there[place] == pytest.approx(back[other]) for other in moved), place


@given(st.text(max_size=60))
def test_the_same_text_differs_in_nothing(text):
    same, other = of(text, text), of(text, text + " entirely different words")
    assert same != other
    assert same.numbers[5:14] == (0,) * 9, "there is no word that only one of them has"


def test_what_is_behind_two_thousand_characters_is_not_looked_at():
    long = "word " * 400
    assert pair_features(long, long + "more", 0.5, ()) == pair_features(long, long + "less", 0.5, ())


def test_shared_words_and_others_are_told_apart_and_their_order_is_seen():
    def wording(a, b):
        return set(of(a, b).wording)

    same = wording("reset my password", "reset my password")
    assert len(same) == 5, "three words, and two pairs of them"
    assert not same & wording("reset my password", "buy new shoes"), "what both have is not what one has"
    assert wording("man bites dog", "man bites dog") != wording("man bites dog", "dog bites man")


def test_of_long_texts_the_same_words_are_kept():
    text = " ".join(f"word{number}" for number in range(2000))[:2000]
    turned = " ".join(reversed(text.split()))  # or what they do not share would be compared
    one, other = of(text, turned).wording, of(text, turned + " word").wording
    assert len(one) == 256
    assert one == other


# ── Trees ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def made(count, seed=1, width=6):
    """Rows, whether each is wrong (it follows from the first two numbers, mostly), and weights."""
    coin = np.random.default_rng(seed)
    rows = coin.normal(size=(count, width))
    rows[:, 2] = coin.integers(0, 3, count)
    chance = 1 / (1 + np.exp(-3 * rows[:, 0] - rows[:, 1] * (rows[:, 2] == 1)))
    return rows, (coin.random(count) < chance).astype(float), np.where(coin.random(count) < 0.3, 2.5, 1.0)


def theirs(model, rows):
    """What scikit-learn itself predicts."""
    return model.slow.predict_proba(rows)[:, 1]


@pytest.fixture
def slow(monkeypatch):
    """`fit`, whose model stays scikit-learn's."""

    def fit_slowly(*labels):
        with monkeypatch.context() as patch:
            patch.setattr(boosted_trees, "_FlatTrees", None)  # as if their trees were kept in another way
            return fit(*labels)

    return fit_slowly


@pytest.mark.parametrize(("count", "seed"), [(100, 1), (300, 2), (2000, 3)])
def test_the_quick_trees_say_what_scikit_learn_says(slow, count, seed):
    labels = made(count, seed)
    quick, unseen = fit(*labels)
    theirs, unseen_too = slow(*labels)
    assert quick.flat is not None
    assert theirs.flat is None
    assert theirs.slow is not None
    new, _, _ = made(500, seed + 100)
    new[::7] = np.round(new[::7])
    np.testing.assert_allclose(quick.chances(new), theirs.chances(new), atol=1e-9)
    np.testing.assert_allclose(quick.chances(labels[0]), theirs.chances(labels[0]), atol=1e-9)
    assert quick.chances(new[:1].tolist()) == pytest.approx(theirs.chances(new[:1].tolist()))
    np.testing.assert_array_equal(unseen, unseen_too)


def test_what_is_learned_is_right():
    model, unseen = fit(*made(2000))
    rows, wrong, _ = made(2000, seed=9)
    chances = np.array(model.chances(rows))
    assert ((chances >= 0) & (chances <= 1)).all()
    assert chances[wrong == 1].mean() > chances[wrong == 0].mean() + 0.3
    assert np.mean((chances > 0.5) == wrong) > 0.8
    assert abs(unseen.mean() - made(2000)[1].mean()) < 0.05


def test_each_label_is_predicted_by_trees_that_have_not_seen_it():
    """Of labels by chance nothing can be known; who had seen them would know."""
    coin = np.random.default_rng(4)
    rows, wrong = coin.normal(size=(800, 4)), (coin.random(800) < 0.5).astype(float)
    model, unseen = fit(rows, wrong, np.ones(800))
    assert abs(np.corrcoef(unseen, wrong)[0, 1]) < 0.12
    assert np.corrcoef(model.chances(rows), wrong)[0, 1] > 0.4


def test_what_was_labelled_rarely_weighs_more():
    rows = np.zeros((400, 2))
    wrong = np.arange(400) % 10 == 0
    alike, _ = fit(rows, wrong.astype(float), np.ones(400))
    heavy, _ = fit(rows, wrong.astype(float), np.where(wrong, 5.0, 1.0))
    assert heavy.chances(rows[:1])[0] > 2 * alike.chances(rows[:1])[0]


@pytest.mark.parametrize("wrong", [0, 1])
def test_of_one_kind_only_every_pair_has_the_same_chance(wrong):
    rows, _, weights = made(300)
    model, unseen = fit(rows, np.full(300, float(wrong)), weights)
    (chance,) = set(model.chances(rows))
    assert set(unseen) == {chance}
    assert 0 < abs(chance - wrong) < 0.02
    few = np.full(300, float(wrong))
    few[7] = 1 - wrong
    (nearly,) = set(fit(rows, few, weights)[0].chances(rows))
    assert abs(nearly - wrong) > abs(chance - wrong)


def test_nothing_that_is_wrong_but_in_one_of_four_places():
    """Orders are not ours to choose: here, the trees that leave the wrong ones out have only right ones to learn from."""
    rows, _, weights = made(400)
    wrong = np.zeros(400)
    wrong[: 4 * boosted_trees._FEWEST * 2 : 4] = 1
    model, unseen = fit(rows, wrong, weights)
    assert np.isfinite(unseen).all()
    assert np.isfinite(model.chances(rows)).all()


def test_trees_that_do_not_say_what_scikit_learn_says_are_not_used(monkeypatch):
    class Off(boosted_trees._FlatTrees):
        def log_odds(self, rows):
            return super().log_odds(rows) + 0.1

    monkeypatch.setattr(boosted_trees, "_FlatTrees", Off)
    model, _ = fit(*made(300))
    assert model.flat is None
    assert model.slow is not None


@pytest.mark.parametrize("missing", ["_predictors", "_baseline_prediction"])
def test_where_scikit_learn_keeps_its_trees_otherwise_it_is_slow_and_right(monkeypatch, missing):
    from sklearn.ensemble import HistGradientBoostingClassifier as Trees

    model, _ = fit(*made(300))
    expected = model.chances(made(50, 5)[0])
    fitted = Trees.fit

    class Otherwise(Trees):
        """As another version might be: what it predicts with is not where it was."""

        def fit(self, *given):
            fitted(self, *given)
            self.inner = Trees.__new__(Trees)
            self.inner.__dict__ = dict(self.__dict__)
            del self.__dict__[missing]
            return self

        def predict_proba(self, rows):
            return self.inner.predict_proba(rows)

    monkeypatch.setattr("sklearn.ensemble.HistGradientBoostingClassifier", Otherwise)
    slow, _ = fit(*made(300))
    assert slow.flat is None
    assert slow.chances(made(50, 5)[0]) == pytest.approx(expected)


def test_learning_the_same_twice_gives_the_same():
    (one, unseen), (two, again) = fit(*made(300)), fit(*made(300))
    rows = made(40, 8)[0]
    assert one.chances(rows) == two.chances(rows)
    np.testing.assert_array_equal(unseen, again)


def test_without_rows_there_are_no_chances():
    assert TreeModel(0.25).chances([]) == []
    assert TreeModel(0.25).chances([[random.random()]] * 3) == [0.25] * 3


# ── Words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def worded(count, seed, buckets=40):
    """Pairs whose numbers say nothing; a word decides whether they are wrong."""
    coin = np.random.default_rng(seed)
    words = coin.integers(0, buckets, (count, 4))
    wrong = (words < 6).any(axis=1).astype(float)
    pairs = [
        PairFeatures(tuple(row), tuple(sorted(set(map(int, held)))))
        for row, held in zip(coin.normal(size=(count, 3)), words, strict=True)
    ]
    return pairs, wrong


def test_which_words_matter_is_learned():
    model, unseen = classifier.fit(*worded(1500, 1), np.ones(1500))
    pairs, wrong = worded(500, 2)
    chances = np.array(model.chances(pairs))
    assert np.mean((chances > 0.5) == wrong) > 0.9
    assert np.mean((unseen > 0.5) == worded(1500, 1)[1]) > 0.9
    assert model.chances([PairFeatures((0.0, 0.0, 0.0))] * 2) == model.chances([PairFeatures((0.0, 0.0, 0.0), ())] * 2)


def test_what_words_say_of_a_label_is_learned_without_it():
    """Of labels by chance nothing can be known, though each has a word of its own."""
    coin = np.random.default_rng(4)
    wrong = (coin.random(800) < 0.5).astype(float)
    pairs = [PairFeatures(tuple(row), (number,)) for number, row in enumerate(coin.normal(size=(800, 3)))]
    _, unseen = classifier.fit(pairs, wrong, np.ones(800))
    assert abs(np.corrcoef(unseen, wrong)[0, 1]) < 0.12


@pytest.mark.parametrize("wrong", [0, 1])
def test_words_of_one_kind_of_pairs_say_nothing(wrong):
    pairs, _ = worded(300, 1)
    model, unseen = classifier.fit(pairs, np.full(300, float(wrong)), np.ones(300))
    assert len(set(model.chances(pairs))) == len(set(unseen)) == 1
