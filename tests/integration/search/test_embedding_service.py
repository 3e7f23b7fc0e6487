"""Concurrent callers are embedded together, each with its own deadline; repeated texts are not embedded again."""

import os
import threading

import numpy as np
import pytest
from conftest import letters

from exp_pool.errors import EmbedderError
from exp_pool.search.embedders import service as module
from exp_pool.search.embedders.callable import CallableEmbedder
from exp_pool.search.embedders.loader import EmbedderLoader
from exp_pool.search.embedders.service import EmbeddingService


class Gated:
    """Embeds by letters, when the gate is open; notes each batch."""

    def __init__(self):
        self.batches, self.gate, self.entered = [], threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, texts):
        self.batches.append(texts)
        self.entered.set()
        assert self.gate.wait(30)
        if "bad" in texts:
            raise ValueError("bad text")
        return letters(texts)


@pytest.fixture
def gated():
    return Gated()


@pytest.fixture
def service(gated):
    service = EmbeddingService(EmbedderLoader(lambda: CallableEmbedder(gated, "gated")))
    yield service
    gated.gate.set()
    service.close(10)


class Callers:
    """Calls of `embed` on threads of their own."""

    def __init__(self, service):
        self.service, self.threads, self.results = service, [], {}

    def start(self, name, texts, timeout_s=30, **options):
        def call():
            try:
                self.results[name] = self.service.embed(texts, timeout_s, **options)
            except EmbedderError as err:
                self.results[name] = err

        before = self.service._thread._jobs.qsize()
        self.threads.append(threading.Thread(target=call))
        self.threads[-1].start()
        return before

    def queue(self, name, texts, timeout_s=30, **options):
        """Start one, and wait until it stands in the queue."""
        before = self.start(name, texts, timeout_s, **options)
        while self.service._thread._jobs.qsize() <= before:
            assert self.threads[-1].is_alive()

    def join(self):
        for thread in self.threads:
            thread.join(30)


def blocked(service, gated):
    """Callers, one of whom keeps the embedder busy."""
    callers = Callers(service)
    gated.gate.clear()
    gated.entered.clear()
    callers.start("first", ["first"])
    assert gated.entered.wait(10)
    return callers


def same(embedded, texts):
    vectors = letters(texts)
    return np.allclose(embedded.vectors, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), atol=1e-6)


def test_who_waits_is_embedded_together(service, gated):
    callers = blocked(service, gated)
    texts = {i: [f"text {chr(97 + i)}", f"other {chr(97 + i)}"] for i in range(10)}
    for name, each in texts.items():
        callers.queue(name, each)
    gated.gate.set()
    callers.join()
    assert [len(batch) for batch in gated.batches] == [1, 20]
    assert all(same(callers.results[name], each) for name, each in texts.items())


def test_a_batch_is_bounded(service, gated):
    callers = blocked(service, gated)
    for i in range(40):
        callers.queue(i, [f"text {i}"])
    gated.gate.set()
    callers.join()
    assert [len(batch) for batch in gated.batches] == [1, 32, 8]


def test_one_bad_text_fails_nobody_else(service, gated):
    callers = blocked(service, gated)
    for text in ("good", "bad", "fine"):
        callers.queue(text, [text])
    gated.gate.set()
    callers.join()
    assert same(callers.results["good"], ["good"])
    assert same(callers.results["fine"], ["fine"])
    with pytest.raises(EmbedderError, match="bad text"):
        raise callers.results["bad"]
    assert gated.batches == [["first"], ["good", "bad", "fine"], ["good"], ["bad"], ["fine"]]


def test_who_gave_up_is_not_embedded_and_holds_nobody_up(service, gated):
    callers = blocked(service, gated)
    callers.start("hasty", ["hasty"], timeout_s=0.05)
    callers.threads[-1].join(30)
    assert isinstance(callers.results["hasty"], EmbedderError)
    callers.queue("patient", ["patient"])
    gated.gate.set()
    callers.join()
    assert gated.batches == [["first"], ["patient"]]
    assert service._waiting == []


def test_upkeep_comes_last_and_alone(service, gated):
    callers = blocked(service, gated)
    callers.queue("later", ["later"], urgent=False)
    callers.queue("now", ["now"])
    callers.queue("too", ["too"])
    gated.gate.set()
    callers.join()
    assert gated.batches == [["first"], ["now", "too"], ["later"]]


def test_a_repeated_text_is_not_embedded_again_and_waits_for_nobody(service, gated):
    first = service.embed(["a", "b"], 30)
    callers = blocked(service, gated)
    again = service.embed(["b", "a"], 0.001)
    assert (again.vectors == first.vectors[::-1]).all()
    assert (again.whole, again.embedder) == (first.whole, first.embedder)
    callers.queue("half", ["a", "c"])
    callers.queue("later", ["a", "d"], urgent=False)
    gated.gate.set()
    callers.join()
    assert gated.batches == [["a", "b"], ["first"], ["c"], ["d"]]
    assert same(callers.results["half"], ["a", "c"])
    assert same(callers.results["later"], ["a", "d"])


def test_the_least_recently_asked_is_forgotten(service, gated, monkeypatch):
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    for text in ("a", "b", "c", "a", "d", "a", "b"):
        service.embed([text], 30)
    assert gated.batches == [["a"], ["b"], ["c"], ["d"], ["b"]]
    service.embed(["e", "f"], 30, urgent=False)
    assert len(service._recent._rows) == 3
    service.embed(["a"], 30)
    assert gated.batches[-1] == ["e", "f"]


def test_what_callers_do_with_vectors_changes_no_later_answer(service):
    first = service.embed(["a"], 30)
    kept = first.vectors.copy()
    for mine in (first, service.embed(["a"], 30)):
        mine.vectors[:] = 0
        assert (service.embed(["a"], 30).vectors == kept).all()


def test_a_lone_surrogate_is_no_reason_to_fail(service, gated):
    service.embed(["\ud800 a", "\ufeffé \ud83d\ude00"], 30)
    assert gated.batches == [["\ufffd a", "\ufeffé 😀"]]


def test_a_model_that_cannot_be_made_is_tried_once_for_all_who_wait(gated):
    tries, entered, gate = [], threading.Event(), threading.Event()

    def make():
        tries.append(1)
        entered.set()
        assert gate.wait(30)
        raise EmbedderError("no model")

    service = EmbeddingService(EmbedderLoader(make))
    callers = Callers(service)
    callers.start(0, ["a"])
    assert entered.wait(10)
    for i in range(1, 5):
        callers.start(i, [f"text {i}"])
    gate.set()
    callers.join()
    assert [str(callers.results[i]) for i in range(5)] == ["no model"] * 5
    assert len(tries) == 1
    service.close(10)


def test_a_forked_child_makes_its_own(service, gated):
    service.embed(["a"], 30)
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if service._embedder is None and same(service.embed(["b"], 10), ["b"]) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
