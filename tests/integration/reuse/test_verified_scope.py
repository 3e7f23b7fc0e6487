"""Guarantee 12, for the judge that learns: whatever it has learned, what it answers with is of the same scope."""

import random
from datetime import UTC, datetime

import pytest
from conftest import letters
from hypothesis import given
from hypothesis import strategies as st
from support.judged_calls import RATE, Asking, labelled, word

from exp_pool import Experience, ExpManager, VerifiedJudge, in_namespace

LONGEST = 200


class Reads:
    """The tiny embedder, which reads only so much."""

    identity = "letters"

    def embed(self, texts):
        return letters([text[:LONGEST] for text in texts])

    def fits(self, texts):
        return [len(text) <= LONGEST for text in texts]


def long(text):
    return text + " please" * LONGEST


FOREIGN = {
    "namespace": {"namespace": "other"},
    "function": {"function": "g"},
    "version": {"version": "2"},
    "reuse scope": {"model": "b"},
    "trust": {"trust": "quarantined"},
    "kind": {"kind": "failure"},
    "expiry": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)},
    "a text cut off": {"long": True},
}


SEEN = set()


class Seeing(VerifiedJudge):
    """The judge, and what it was shown: what it is shown it learns from, answered or not."""

    def judge(self, question):
        SEEN.update(hit.experience.value for hit in question.hits)
        return VerifiedJudge.judge(self, question)


class World:
    """One judge that has learned to answer, in two namespaces; every example tells it of a subject of its own."""

    def __init__(self, manager):
        judge = Seeing.fit(labelled(400), max_error_rate=RATE)
        self.manager, self.answered, self.subjects = manager, 0, 0
        self.asking = Asking(manager, judge, name="f")
        self.asking.go(100)
        with in_namespace("tenant"):
            self.asking.go(100)

        @manager.exp_cache(judge=judge, name="f", exclude=())
        def f(req, model="a"):
            return "live"

        self.f = f

    def told_of(self, coin, foreign=None, namespace="default"):
        """A stored answer, and what is said to a request nearly like its own."""
        fields = dict(FOREIGN[foreign]) if foreign else {}
        kept = {"namespace": namespace, "function": "f", **fields}
        self.subjects += 1
        subject = "".join(coin.sample("abcdefghijklmnopqrstuvwxyz", 9))
        stored = f"tell me about {subject} {word(coin, 4)}"
        stored = long(stored) if kept.pop("long", False) else stored
        arguments = {"req": stored, "model": kept.pop("model", "a")}
        self.manager.sync.create_exp(
            Experience(request=stored, arguments=arguments, response=f"foreign {self.subjects}", **kept)
        )
        self.manager.sync.flush()
        with in_namespace(namespace):
            said = self.f.call(f"tell me about {subject} {word(coin, 4)}")
        self.manager.sync.flush()
        return said, f"foreign {self.subjects}"


@pytest.fixture(scope="module")
def world():
    with ExpManager(store="memory://", index="exact://", embedder=Reads()) as manager:
        yield World(manager)


@given(st.sampled_from(sorted(FOREIGN)), st.sampled_from(["default", "tenant"]))
def test_what_it_learned_never_reaches_beyond_its_scope(world, border, namespace):
    coin = random.Random(world.subjects)  # a subject of its own each time, or it would be an identical request
    said, foreign = world.told_of(coin, border, namespace)
    assert said.value != foreign
    assert foreign not in SEEN
    for studied in world.manager.sync._judge_training.all("other"):
        assert studied.memory.answered == 0, "what was learned here answers nothing there"


def test_within_its_scope_the_same_is_answered(world):
    """Or the test above would show nothing."""
    coin = random.Random(10**6)
    said = [world.told_of(coin, None, namespace) for namespace in ("default", "tenant") for _ in range(60)]
    assert sum(answer.value == stored for answer, stored in said) >= 5
    assert sum(stored in SEEN for _, stored in said) >= 60


@pytest.mark.parametrize("seed", range(20))
def test_a_request_that_the_embedder_cuts_off_is_not_answered(world, seed):
    coin = random.Random(seed)
    said = world.f.call(long(f"tell me about cats {word(coin, 4)}"))
    assert said.found_by in (None, "exact")
