"""explain() compares with the nearest stored call, however old, and says what similarity, score and evidence there was."""

import pytest

from exp_pool import Experience, PerfectJudge, Score, ThresholdJudge, VerifiedJudge

PLANE = "What's the best way to sleep on a plane?"
ASKED = "What is the best way to sleep on a plane?"


def filled(manager, arguments, count=1200):
    """A pool whose oldest call is this one, with many others after it."""
    manager.sync.create_exp(Experience(function="ask", arguments=arguments, response="old"))
    others = [
        Experience(
            function="ask", arguments={**arguments, "question": f"Filler question {n} about nothing"}, response=""
        )
        for n in range(count)
    ]
    manager.sync.create_exps(others)
    another = [Experience(function="other", arguments={"question": ASKED}, response="") for _ in range(3)]
    manager.sync.create_exps(another)


def ask(question, model="a"):
    return "live"


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (PLANE, ASKED),
        ("怎么在飞机上睡觉最好", "怎么在飞机上睡得最好"),
        ("นอนบนเครื่องบินอย่างไรดี", "นอนบนเครื่องบินอย่างไร"),
        ("Wie schläft man im Flugzeug?", "Wie schläft man im Flugzeug am besten?"),
    ],
)
def test_the_nearest_call_is_compared_with_whatever_its_age(make_manager, stored, asked):
    manager = make_manager(index="none://", embedder="none")
    decorated = manager.exp_cache(name="ask")(ask)
    filled(manager, {"question": stored, "model": "a"})
    explained = decorated.explain(asked)
    assert f'"{stored}" there' in explained
    assert "Filler" not in explained


def test_a_call_of_the_same_text_is_nearer_than_one_of_another(make_manager):
    manager = make_manager(index="none://", embedder="none")
    decorated = manager.exp_cache(name="ask")(ask)
    filled(manager, {"question": ASKED, "model": "b"})
    assert decorated.explain(ASKED) == 'ask: the nearest stored call differs in model: "a" here, "b" there'


def test_history_and_failures_are_not_compared_with(make_manager):
    manager = make_manager(index="none://", embedder="none")
    decorated = manager.exp_cache(name="ask")(ask)
    filled(manager, {"question": "something else", "model": "a"})
    failed = Experience(function="ask", arguments={"question": PLANE, "model": "a"}, response="", kind="failure")
    manager.sync.create_exp(failed)
    assert PLANE not in decorated.explain(ASKED)


@pytest.fixture
def asked(make_manager):
    def make(judge, stored=PLANE, **options):
        manager = make_manager()
        decorated = manager.exp_cache(judge=judge, name="ask", **options)(ask)
        filled(manager, {"question": stored, "model": "a"}, count=1100)
        manager.sync.flush()
        return decorated

    return make


def test_both_sentences_are_about_one_call(asked):
    explained = asked(ThresholdJudge(0.9999, guard=False)).explain(ASKED)
    assert f'"{PLANE}" there' in explained
    assert "(similarity 0.9" in explained
    said = explained.partition("(similarity ")[2][:5]
    assert f"; the judge: the most similar request has a similarity of {said}, below 0.9999" in explained
    assert "score" not in explained, "none was asked for"


def test_what_answers_is_what_is_compared_with(asked):
    decorated = asked(ThresholdJudge(0.9, guard=False))
    explained = decorated.explain(ASKED)
    (hit,) = [decorated.lookup(ASKED)]
    assert f'"{hit.experience.request}" there (similarity {hit.similarity:.3f})' in explained
    assert f"; the judge lets {hit.experience.id} answer it (similarity {hit.similarity:.3f})" in explained


def test_a_score_that_was_asked_for_is_named(make_manager):
    manager = make_manager()
    manager.sync.create_exp(
        Experience(
            function="ask", arguments={"question": PLANE, "model": "a"}, response="", scores={"s": Score(value=0.25)}
        )
    )
    manager.sync.flush()

    def explained(judge, **options):
        return manager.exp_cache(judge=judge, name="ask", **options)(ask).explain(ASKED)

    assert "but a score of 0.25, and 0.5 is asked for" in explained(ThresholdJudge(0.5, min_score=0.5))
    said = explained(ThresholdJudge(0.5), min_score=0.5)
    assert "nothing similar is stored that may answer" in said
    assert "with a score of 0.5 at least" in said
    manager.exp_cache(name="ask")(ask)(ASKED)
    assert "no identical request with a score of 0.8 (that of the stored one: none)" in explained(PerfectJudge(0.8))


def test_the_evidence_is_named(make_manager):
    manager = make_manager()
    decorated = manager.exp_cache(judge=VerifiedJudge(0.05), name="ask")(ask)
    manager.sync.create_exp(Experience(function="ask", arguments={"question": PLANE, "model": "a"}, response="live"))
    manager.sync.flush()
    assert "too little is known yet: 0 of about 260 requests (similarity 0.9" in decorated.explain(ASKED)
    for n in range(5):
        decorated(f"{ASKED} {'abcde'[n]}")
        manager.sync.flush()
    assert "too little is known yet: 5 of about 260 requests" in decorated.explain(ASKED)


@pytest.mark.parametrize(("rate", "needed"), [(0.5, "200"), (0.02, "650"), (0.01, "1,300")])
def test_how_much_evidence_a_rate_takes(make_manager, rate, needed):
    manager = make_manager()
    decorated = manager.exp_cache(judge=VerifiedJudge(rate), name="ask")(ask)
    manager.sync.create_exp(Experience(function="ask", arguments={"question": PLANE, "model": "a"}, response="live"))
    manager.sync.flush()
    assert f"0 of about {needed} requests" in decorated.explain(ASKED)


def test_why_there_is_nothing_to_judge(make_manager):
    manager = make_manager()

    def route(city, country):
        return "live"

    decorated = manager.exp_cache(judge=ThresholdJudge(0.5), name="route")(route)
    decorated("Rome", "Italy")
    manager.sync.flush()
    explained = decorated.explain("Roma", "Italy")
    assert 'differs in city: "Roma" here, "Rome" there; the judge: nothing similar is stored' in explained
    assert "no argument is known to hold the text of the request, name it with request=" in explained
