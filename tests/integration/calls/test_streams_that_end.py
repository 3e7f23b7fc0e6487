"""Guarantees 5 and 8: a stream that begins and ends between another caller's look-up and its joining."""

import threading

import pytest
from support.stream_kinds import Kind

from exp_pool.stores.memory import MemoryStore


@pytest.fixture(params=[False, True], ids=["generator", "async generator"])
def kind(request):
    return Kind(request.param)


class Slow(MemoryStore):
    """The first look-up of one caller takes until the gate opens: what it found need not be true any more."""

    def __init__(self):
        super().__init__()
        self.caller, self.looked, self.gate = None, threading.Event(), threading.Event()
        self.looks = 0

    def get_many(self, namespace, keys):
        found = super().get_many(namespace, keys)
        if threading.current_thread() is self.caller:
            self.looks += 1
            if self.looks == 1:
                self.looked.set()
                assert self.gate.wait(30)
        return found


@pytest.fixture
def late(make_manager, kind):
    """What a caller got whose look-up was over before `meanwhile(stream, manager)` and who went on after it."""

    def run(meanwhile, **options):
        store = Slow()
        manager = make_manager(store=store, index="none://", embedder="none")
        stream = kind.decorate(manager, [[1], [2]], **options)
        found = []
        store.caller = threading.Thread(target=lambda: found.extend(kind.read(stream("q"))))
        store.caller.start()
        assert store.looked.wait(30)
        meanwhile(stream, manager)
        store.gate.set()
        store.caller.join(30)
        assert found == [[1], [2]]
        return store, manager.stats()

    return run


def test_who_missed_just_before_a_stream_of_the_same_call_ended_looks_again(kind, late):
    store, stats = late(lambda stream, manager: kind.read(stream("q")))
    assert kind.runs == ["q"], "its answer was there by then"
    assert store.looks == 2
    assert (stats.misses, stats.hits) == (1, 1)


def test_a_stream_of_another_call_that_ended_is_no_reason_to_look_again(kind, late):
    store, stats = late(lambda stream, manager: kind.read(stream("other")))
    assert kind.runs == ["other", "q"]
    assert store.looks == 2, "the second is for an answer that came first, before this one is stored"


def test_a_stream_that_ended_unstored_is_no_reason_to_look_again(kind, late):
    store, stats = late(lambda stream, manager: kind.read(stream("q")), cache_if=lambda call, value: False)
    assert kind.runs == ["q", "q"]
    assert (store.looks, stats.misses) == (1, 2)


def test_who_looks_again_and_finds_nothing_runs_the_function(kind, late):
    def meanwhile(stream, manager):
        assert kind.read(stream("q")) == [[1], [2]]
        assert manager.sync.delete_all_exps() == 1

    store, stats = late(meanwhile)
    assert kind.runs == ["q", "q"]
    assert (stats.misses, stats.hits, stats.stored) == (2, 0, 2)
