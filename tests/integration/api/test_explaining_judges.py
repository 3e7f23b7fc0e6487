"""Why a judge did not answer is told to whoever asks; what a judge can never do is told before it is asked."""

import asyncio

import pytest

from exp_pool import PerfectJudge, Score, ThresholdJudge, VerifiedJudge
from exp_pool.errors import ConfigurationError, ExpPoolWarning, InvalidInputError
from exp_pool.evaluation import evaluate
from exp_pool.protocols import Verdict


class Saying:
    """A judge that says this, or raises it."""

    candidates = 1

    def __init__(self, said):
        self.said = said

    def judge(self, question):
        if isinstance(self.said, Exception):
            raise self.said
        return Verdict(None, self.said)


@pytest.fixture
def asked(make_manager, embedder):
    def make(judge, **options):
        manager = make_manager(embedder=embedder)
        ask = manager.exp_cache(judge=judge, name="ask", **options)(lambda q: q)
        ask("take 3 pills of aspirin")
        manager.sync.flush()
        return ask

    return make


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (Saying("I do not like it"), "; the judge: I do not like it"),
        (Saying(ValueError("broken")), "; the judge could not be asked: ValueError('broken')"),
        (ThresholdJudge(0.5), "the numbers differ"),
        (VerifiedJudge(0.05), "; the judge: too little is known yet"),
        (PerfectJudge(), "; the judge: nothing similar is stored that may answer"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_it_says_why_the_judge_did_not_answer(asked, judge, said):
    explained = asked(judge).explain("take 5 pills of aspirin")
    assert said in explained
    assert "the nearest stored call differs in q" in explained


def test_asking_why_changes_nothing(asked):
    ask = asked(VerifiedJudge(0.05))
    for _ in range(3):
        ask.explain("take 5 pills of aspirin")
    assert ask.cache_info().currsize == 1
    ask._binder.pool().flush()
    (report,) = ask._binder.pool().report().functions
    assert report.reuse.requests == 0


def test_it_says_what_a_judge_would_answer_with(asked):
    explained = asked(ThresholdJudge(0.5)).explain("take 3 pills of aspirin!")
    assert "; the judge lets " in explained
    assert "(similarity " in explained


def test_where_nothing_is_similar_it_says_so(make_manager, embedder):
    ask = make_manager(embedder=embedder).exp_cache(judge=ThresholdJudge(0.5), name="ask")(lambda q: q)
    assert "; the judge: nothing similar is stored that may answer" in ask.explain("anything")


def test_coroutine_functions_say_so_too(make_manager, embedder):
    manager = make_manager(embedder=embedder)

    @manager.exp_cache(judge=Saying("not today"), name="ask")
    async def ask(q):
        return q

    async def run():
        await ask("take 3 pills of aspirin")
        await manager.flush()
        return await ask.explain("take 5 pills of aspirin")

    assert asyncio.run(run()).endswith("; the judge: not today")


def test_min_score_is_named_where_it_refuses(make_manager):
    manager = make_manager(index="none://", embedder="none")
    ask = manager.exp_cache(scorer=lambda c: Score(value=0.1), min_score=0.8, name="ask")(lambda q: q)
    ask("x")
    manager.sync.flush()
    assert "but min_score=0.8 refuses it (its score: 0.1)" in ask.explain("x")


def test_a_trouble_without_words_is_named_by_its_kind(asked):
    ask = asked(Saying(TimeoutError()))
    with pytest.warns(ExpPoolWarning, match=r"went on without it\. TimeoutError\(\)"):
        ask("take 5 pills of aspirin")


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda m: ThresholdJudge(None), ConfigurationError, "min_similarity=None"),
        (lambda m: PerfectJudge(None), ConfigurationError, "min_score=None"),
        (lambda m: m.exp_cache(judge=VerifiedJudge(same="no such"))(len), ConfigurationError, "no such"),
        (lambda m: VerifiedJudge.fit(None), InvalidInputError, "None is no list of labelled pairs"),
        (lambda m: VerifiedJudge.fit([]), InvalidInputError, "no pairs to learn from"),
        (lambda m: evaluate(ThresholdJudge(0.9), None), InvalidInputError, "None is no list of labelled pairs"),
        (lambda m: evaluate(ThresholdJudge(0.9), [("a", "b", 1)], orders=2.5), InvalidInputError, "orders=2.5"),
    ],
    ids=range(7),
)
def test_what_can_never_work_is_refused_at_once(make_manager, embedder, make, error, said, monkeypatch):
    manager = make_manager(embedder=embedder)
    with pytest.raises(error, match=said):
        make(manager)
