"""Texts that the real model calls nearly the same, and that differ in one small thing, do not answer each other."""

from __future__ import annotations

import pytest

from exp_pool import ThresholdJudge
from exp_pool.search.embedders.sentence_transformers import SentenceTransformerEmbedder

pytestmark = pytest.mark.slow

# Without the guard each answers the other. Japanese and Korean this model hardly reads, so nothing similar answers there.
APART = [
    ("users with age > 30", "users with age < 30"),
    ("items with price > 100", "items with price >= 100"),
    ("What does a - b give in Python?", "What does b - a give in Python?"),
    ("Do you serve tea and coffee?", "Do you serve tea or coffee?"),
    ("show emails from Bob", "show emails to Bob"),
    ("I owe Bob money", "Bob owes me money"),
    ("How long to download 10 Mb?", "How long to download 10 MB?"),
    ("chmod +x run.sh", "chmod -x run.sh"),
    ("files created before noon", "files created since noon"),
    ("causes of World War I", "causes of World War II"),
    ("Is it safe to swim here?", "Is it unsafe to swim here?"),
    ("grant access to the folder", "revoke access to the folder"),
    ("Darf ich den Hund mitbringen?", "Darf ich den Hund nicht mitbringen?"),
    ("Le magasin est ouvert le dimanche", "Le magasin n'est pas ouvert le dimanche"),
    ("El pedido ha llegado", "El pedido no ha llegado"),
    ("A loja abre ao domingo", "A loja não abre ao domingo"),
    ("Il negozio è aperto la domenica", "Il negozio non è aperto la domenica"),
    ("Магазин работает в воскресенье", "Магазин не работает в воскресенье"),
    ("قهوة مع سكر", "قهوة بدون سكر"),
    ("Mağaza pazar günü açık", "Mağaza pazar günü açık değil"),
]
SAME = [
    ("users with age > 30", "list users with age > 30"),
    ("How do I get from Oslo to Bergen?", "How do I get to Bergen from Oslo?"),
    ("Darf ich meinen Hund mitbringen?", "Darf ich den Hund mitbringen?"),
    ("Is it safe to swim here?", "Is it safe to swim in here?"),
]


@pytest.fixture(scope="module")
def model():
    return SentenceTransformerEmbedder("all-MiniLM-L6-v2")


@pytest.fixture
def answers(make_manager, model):
    """Whether the one text's answer is given for the other."""

    def make(one, other, guard=True):
        manager = make_manager(embedder=model, embed_timeout=120.0)

        @manager.exp_cache(judge=ThresholdJudge(0.6, guard=guard))
        def ask(question):
            return question

        ask(one)
        manager.sync.flush()
        return ask(other) == one

    return make


@pytest.mark.parametrize(("one", "other"), APART)
def test_texts_that_differ_in_one_small_thing_do_not_answer_each_other(answers, one, other):
    assert not answers(one, other)
    assert answers(one, other, guard=False), "without the guard they would"


@pytest.mark.parametrize(("one", "other"), SAME)
def test_paraphrases_still_answer(answers, one, other):
    assert answers(one, other)
