"""Instructions in front of short questions do not make these alike: what requests do not share is compared."""

from __future__ import annotations

import itertools

import pytest

from exp_pool import ThresholdJudge
from exp_pool.evaluation import evaluate
from exp_pool.protocols import Verdict
from exp_pool.reuse.pair_features import pair_features
from exp_pool.search.embedders.sentence_transformers import SentenceTransformerEmbedder

pytestmark = pytest.mark.slow

PATIENT = {"embed_timeout": 120.0}  # on a busy machine a call goes on without the pool otherwise
INSTRUCTIONS = {
    "before": (
        "You are the assistant of a parcel service. Answer in at most three sentences, be polite, and never promise a date. "
        "If the customer is angry, apologise once. Do not mention other services. If you are not sure, say so, and name the "
        "number of the hotline. Never ask for a password, and never repeat the address of a customer. {}",
    )[0],
    "in one sentence": (
        "As the assistant of a parcel service that is polite and answers in three sentences and never promises a date nor "
        "mentions other services nor asks for a password nor repeats an address and names the number of the hotline where "
        "it is not sure of what it says or has no answer at all please answer this customer who asks {}"
    ),
    "around": (
        "### Instructions\nYou help customers of a parcel service. Answer politely, in three sentences at most.\n"
        "### Question\n{}\n### Form\nWrite plain text without lists, without links, and without a greeting at the end."
    ),
}
QUESTIONS = [
    "where is my parcel",
    "please cancel my order",
    "do you deliver on Sundays",
    "how do I become a courier",
    "my invoice has a wrong address",
    "what does insurance cost",
]


@pytest.fixture(scope="module")
def model():
    return SentenceTransformerEmbedder("all-MiniLM-L6-v2")


@pytest.mark.parametrize("where", INSTRUCTIONS)
def test_unrelated_questions_behind_the_same_instructions_do_not_answer_each_other(make_manager, model, where):
    manager = make_manager(embedder=model, **PATIENT)

    @manager.exp_cache(judge=ThresholdJudge(0.8))
    def ask(question):
        return question

    for question in QUESTIONS:
        prompt = INSTRUCTIONS[where].format(question)
        assert ask(prompt) == prompt
        manager.sync.flush()
    again = ask.call(INSTRUCTIONS[where].format("Where is my parcel?"))
    assert (again.value, again.found_by) == (INSTRUCTIONS[where].format("where is my parcel"), "semantic")


def test_every_judge_gets_the_similarity_of_what_is_not_shared(make_manager, model):
    seen = []

    class Looks:
        candidates = 1

        def judge(self, question):
            seen.append(question.hits[0].similarity)
            return Verdict(None, "")

    manager = make_manager(embedder=model, **PATIENT)

    @manager.exp_cache(judge=Looks())
    def ask(question):
        return question

    ask(INSTRUCTIONS["before"].format(QUESTIONS[0]))
    manager.sync.flush()
    ask(INSTRUCTIONS["before"].format(QUESTIONS[1]))
    assert seen and max(seen) < 0.5


def test_judges_are_evaluated_and_learn_by_what_is_not_shared(model):
    """Were the whole texts compared, all pairs would be nearly alike, and nothing could tell them apart."""
    asked = [INSTRUCTIONS["before"].format(question) for question in QUESTIONS]
    pairs = [(one, other, False) for one, other in itertools.combinations(asked, 2)]
    (run,) = evaluate(ThresholdJudge(0.8), pairs, embedder=model)
    assert (run.total, run.answered) == (15, 0)
    for one, other, _ in pairs:
        _, words_shared, *_ = pair_features(one, other, 0.3, ()).numbers
        assert words_shared < 0.5


def test_explain_says_what_was_compared(make_manager, model):
    manager = make_manager(embedder=model, **PATIENT)

    @manager.exp_cache(judge=ThresholdJudge(0.8))
    def ask(question):
        return question

    ask(INSTRUCTIONS["before"].format(QUESTIONS[0]))
    manager.sync.flush()
    said = ask.explain(INSTRUCTIONS["before"].format(QUESTIONS[1]))
    assert "the most similar request has a similarity of 0.2" in said
    assert "only the rest was compared: 'please cancel my order' with 'where is my parcel'" in said
