"""The scorers that need neither a model nor a process."""

import asyncio
import math

import pytest
from exp_pool.scorers.composite import CompositeScorer
from exp_pool.scorers.exact import ExactScorer
from exp_pool.scorers.feedback import FeedbackScorer
from exp_pool.scorers.rules import RulesScorer, check, contains, fits, lacks, length, matches
from exp_pool.scorers.similarity import SimilarityScorer

from exp_pool import Experience, Score
from exp_pool.errors import ConfigurationError, NotScorableError, ScorerError
from exp_pool.protocols import ScoreContext


def context(response, feedback=(), **fields):
    return ScoreContext(Experience(function="f", request="q", response=response, **fields), feedback=feedback)


def points(scorer, *args, **fields):
    return scorer(context(*args, **fields)).value


# exact


@pytest.mark.parametrize(
    ("response", "expected", "score"), [("a", "a", 1), ("a", "b", 0), (1, 1.0, 0), (None, None, 1)]
)
def test_exact(response, expected, score):
    assert points(ExactScorer(), response, expected=expected) == score


def test_exact_needs_a_person_first():
    with pytest.raises(NotScorableError, match="annotate"):
        ExactScorer()(context("a"))


# similarity


def test_similarity_counts_words_in_order():
    same = SimilarityScorer()
    assert points(same, "The cat sat.", expected="The cat sat.") == 1
    assert points(same, "the CAT sat", expected="The cat lay") == pytest.approx(2 * 2 / 6)
    assert points(same, "sat cat the", expected="the cat sat") == pytest.approx(2 * 1 / 6)
    assert points(same, "北京是首都", expected="北京是城市") == pytest.approx(2 * 3 / 10)
    assert points(same, {"a": 1, "b": 2}, expected={"b": 2, "a": 1}) == 1
    assert points(same, "", expected="x") == 0


def test_similarity_to_a_reference_where_nobody_annotated():
    with pytest.raises(NotScorableError):
        SimilarityScorer()(context("a"))
    assert points(SimilarityScorer(reference="a b"), "a b") == 1
    assert points(SimilarityScorer(reference=lambda c: c.experience.metadata["gold"]), "a", metadata={"gold": "a"}) == 1
    assert points(SimilarityScorer(reference="a"), "b", expected="b") == 1, "a person knows better"


def test_similarity_by_embeddings():
    vectors = {"a": [1, 0], "b": [3, 4], "c": [-1, 0]}

    async def embed(texts):
        return [vectors[text] for text in texts]

    assert points(
        SimilarityScorer(embed=lambda texts: [vectors[t] for t in texts]), "a", expected="b"
    ) == pytest.approx(0.6)
    assert points(SimilarityScorer(embed=lambda texts: [vectors[t] for t in texts]), "a", expected="c") == 0
    later = asyncio.run(SimilarityScorer(embed=embed)(context("a", expected="b")))
    assert later.value == pytest.approx(0.6)


@pytest.mark.parametrize(
    "vectors", [[[1, 0]], [[1, 0], [1, 0, 0]], [[0, 0], [1, 0]], [["a"], ["b"]], None, [[math.nan], [1]]]
)
def test_what_is_no_vectors_is_no_score(vectors):
    with pytest.raises(ScorerError, match="vectors"):
        SimilarityScorer(embed=lambda _: vectors)(context("a", expected="b"))


@pytest.mark.slow
def test_similarity_by_the_real_model():
    from exp_pool.api.registry import embedder_maker

    scorer = SimilarityScorer(embed=embedder_maker("sentence-transformers/all-MiniLM-L6-v2")())
    said = "Paris is the capital of France."
    like = points(scorer, "The capital of France is Paris.", expected=said)
    unlike = points(scorer, "Bake the bread for forty minutes.", expected=said)
    assert like > 0.9 > 0.3 > unlike


# rules


def test_rules_name_what_is_broken():
    scorer = RulesScorer([length(1, 10), contains("SELECT", weight=2), lacks("drop"), matches(r"^\w")])
    assert scorer(context("SELECT 1")) == Score(value=1.0, reason="keeps all 4 rules")
    score = scorer(context("xDROP table now"))
    assert score.value == pytest.approx(1 / 5)
    assert score.reason == "broken: length 1 to 10; contains 'SELECT'; lacks 'drop'"


SCHEMA = {"title": "a person", "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ('{"name": "Ada"}', 1),
        ('{"name": 1}', 0),
        ("{}", 0),
        ("Ada", 0),
        ({"name": "Ada"}, 1),
        ({"name": None}, 0),
        ([], 0),
    ],
)
def test_a_json_schema(answer, kept):
    assert points(RulesScorer([fits(SCHEMA)]), answer) == kept


def test_a_schema_fetches_nothing():
    with pytest.raises(ScorerError, match="failed"):
        RulesScorer([fits({"$ref": "http://127.0.0.1:9/schema.json"})])(context("{}"))


def test_callables_say_how_well():
    assert points(RulesScorer([check(lambda value: value["n"] > 1), check(lambda value: 0.5)]), {"n": 2}) == 0.75
    for wrong in (2, -0.1, "yes", None, math.nan):
        with pytest.raises(ScorerError, match="must say True"):
            RulesScorer([check(lambda value, wrong=wrong: wrong, "odd")])(context("x"))
    with pytest.raises(ScorerError, match="'odd' failed.*ZeroDivisionError"):
        RulesScorer([check(lambda value: 1 / 0, "odd")])(context("x"))


def test_a_pattern_that_backtracks_without_end_is_ended(monkeypatch):
    monkeypatch.setattr("exp_pool.scorers.rules._PATTERN_S", 0.01)
    with pytest.raises(ScorerError, match="took more than"):
        RulesScorer([matches(r"^(a+)+(b+)+(a|b|ab)*c$(?<=x)")])(context("ab" * 40 + "a" * 5000))


def test_a_version_goes_with_the_rules():
    versions = {RulesScorer(rules).version for rules in ([length(1)], [length(2)], [length(1, weight=2)], [lacks("a")])}
    assert len(versions) == 4
    assert RulesScorer([length(1)]).version == RulesScorer([length(1)]).version
    assert RulesScorer([length(1)]).version != RulesScorer([length(1)], version="2").version


@pytest.mark.parametrize(
    "make",
    [
        lambda: RulesScorer([]),
        lambda: RulesScorer("length"),
        lambda: RulesScorer([len]),
        lambda: length(5, 1),
        lambda: matches("("),
        lambda: fits({"type": "nothing"}),
        lambda: contains("a", weight=0),
        lambda: contains("a", weight=True),
        lambda: FeedbackScorer(prior=2),
        lambda: FeedbackScorer(weight=0),
        lambda: SimilarityScorer(embed=3),
        lambda: CompositeScorer([ExactScorer()]),
        lambda: CompositeScorer([ExactScorer, FeedbackScorer]),
        lambda: CompositeScorer(["exact", "feedback"]),
        lambda: CompositeScorer([ExactScorer(), FeedbackScorer()], "most"),
        lambda: CompositeScorer([ExactScorer(), FeedbackScorer()], weights=[1]),
        lambda: CompositeScorer([ExactScorer(), FeedbackScorer()], "min", weights=[1, 2]),
        lambda: CompositeScorer([ExactScorer(), FeedbackScorer()], weights=[1, 0]),
        lambda: CompositeScorer([ExactScorer(), FeedbackScorer()], threshold=0),
    ],
)
def test_what_cannot_be_is_said_where_it_is_written(make):
    with pytest.raises(ConfigurationError):
        make()


# feedback


def test_feedback_is_drawn_to_the_middle():
    assert points(FeedbackScorer(), "a", [1.0]) == pytest.approx(2 / 3)
    assert points(FeedbackScorer(), "a", [1.0] * 10) == pytest.approx(11 / 12)
    assert points(FeedbackScorer(), "a", [0.0, 1.0]) == 0.5
    assert points(FeedbackScorer(prior=0.2, weight=8), "a", [1.0, 1.0]) == pytest.approx(3.6 / 10)
    with pytest.raises(NotScorableError, match="0 feedback values"):
        FeedbackScorer()(context("a"))
    with pytest.raises(NotScorableError):
        FeedbackScorer(at_least=3)(context("a", [1.0, 1.0]))


# composite


def says(value, name="says", calls=None):
    async def scorer(context):
        if calls is not None:
            calls.append(name)
        if isinstance(value, Exception):
            raise value
        return Score(value=value, reason=f"{name}'s reason") if isinstance(value, float) else value

    scorer.name = name
    return scorer


def composed(*args, **options):
    return asyncio.run(CompositeScorer(*args, **options)(context("a")))


def plain(context):
    return Score(value=0.25)


def test_the_mean_and_the_least():
    assert composed([says(1.0), plain]).value == pytest.approx(0.625)
    assert composed([says(1.0), plain], weights=[3, 1]).value == pytest.approx(0.8125)
    least = composed([says(0.8, "a"), says(0.3, "b")], "min")
    assert (least.value, least.reason) == (0.3, "least of a 0.80, b 0.30: b's reason")
    for how in ("mean", "min"):
        with pytest.raises(NotScorableError):
            composed([says(1.0), says(NotScorableError("no"))], how)


def test_the_first_that_decides():
    nothing = says(NotScorableError("no feedback"), "feedback")
    assert composed([nothing, says(0.4, "b"), says(1.0, "c")], "first") == Score(value=0.4, reason="b: b's reason")
    with pytest.raises(NotScorableError, match="feedback: no feedback; feedback: no feedback"):
        composed([nothing, nothing], "first")
    with pytest.raises(ZeroDivisionError):
        composed([says(ZeroDivisionError()), says(1.0)], "first")


def test_a_veto_spares_the_expensive_one():
    calls = []
    vetoed = composed([says(0.4, "rules", calls), says(1.0, "model", calls)], "veto")
    assert (vetoed.value, calls) == (0.0, ["rules"])
    assert vetoed.reason.startswith("vetoed by rules (0.40)")
    assert composed([says(0.5, "rules", calls), says(0.9, "model", calls)], "veto").value == 0.9


@pytest.mark.parametrize("lie", [11, "10/10", True, None, 2.5j])
@pytest.mark.parametrize("how", ["mean", "min", "first", "veto"])
def test_a_part_that_lies_is_no_score(lie, how):
    with pytest.raises(ScorerError, match="returned"):
        composed([says(lie), says(1.0)], how)


def test_a_plain_part_keeps_the_loop_free():
    async def both():
        import threading

        free = threading.Event()

        def slow(context):
            assert free.wait(30)
            return Score(value=1.0)

        scoring = asyncio.create_task(CompositeScorer([slow, plain])(context("a")))
        await asyncio.sleep(0)
        free.set()  # on the loop, which is not blocked
        return await scoring

    assert asyncio.run(both()).value == pytest.approx(0.625)


def test_a_version_goes_with_the_parts():
    a, b = says(1.0, "a"), says(1.0, "b")
    versions = {
        CompositeScorer(parts, how).version for parts in ([a, b], [b, a], [a, b, b]) for how in ("mean", "min", "first")
    }
    assert len(versions) == 9
