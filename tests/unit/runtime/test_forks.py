"""What a child process makes of its parent's objects."""

import gc
import os
import threading
import weakref

import pytest

from exp_pool.runtime import forks
from exp_pool.runtime.forks import reinit, reinit_after_fork


class Connection:
    """Something that would be closed if it were dropped."""


@reinit_after_fork(keep=("count",), leave=("connection",))
class Part:
    def __init__(self, name, *, size=1):
        self.name, self.size = name, size
        self.count = 0
        self.running = []
        self.lock = threading.Lock()
        self.connection = Connection()


def test_a_part_is_made_anew_in_place_from_its_first_arguments():
    part = Part("a", size=3)
    part.size, part.count, part.running = 4, 5, ["of the parent"]
    before = weakref.ref(part.connection)
    reinit(part)
    assert (part.name, part.size, part.count, part.running) == ("a", 3, 5, [])
    gc.collect()
    assert before() is not None, "dropping it would close the parent's connection"
    assert part.connection is not before()


def test_parts_are_held_weakly():
    part = weakref.ref(Part("a"))
    assert part() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_child_finds_a_part_made_anew_with_a_lock_that_is_free():
    part = Part("a")
    part.running.append("of the parent")
    with part.lock:
        child = os.fork()
        if child == 0:
            with part.lock:
                os._exit(len(part.running))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert part.running == ["of the parent"]


def test_one_that_cannot_be_made_anew_keeps_no_other_from_it():
    renewed = []

    class Failing:
        def reset(self):
            raise ZeroDivisionError

    class Good:
        def reset(self):
            renewed.append(self)

    parts = [Failing(), Good()]
    references = [weakref.WeakMethod(part.reset) for part in parts]
    with pytest.raises(ZeroDivisionError):
        forks._call(references)
    assert renewed == parts[1:]
