"""An executor of one thread: order of priority, time-outs, recovery."""

import threading

import pytest

from exp_pool.runtime.single_thread import SingleThreadExecutor


def test_one_thread_does_jobs_in_order_of_priority():
    thread, gate, done = SingleThreadExecutor("t"), threading.Event(), []
    first = threading.Thread(target=lambda: thread.run(gate.wait, 10))
    first.start()
    while not thread._began:
        pass
    others = [
        threading.Thread(target=lambda i=i: thread.run(lambda: done.append(i), 10, priority=i)) for i in (2, 1, 0)
    ]
    for waiting, other in enumerate(others, 1):
        other.start()
        while thread._jobs.qsize() < waiting:
            pass
    gate.set()
    [t.join() for t in (first, *others)]
    assert done == [0, 1, 2]
    thread.stop(5)
    assert thread.run(lambda: "again", 5) == "again"


def test_one_thread_gives_up_and_recovers():
    thread, gate = SingleThreadExecutor("t"), threading.Event()
    with pytest.raises(TimeoutError, match="no result within 0.05 s"):
        thread.run(gate.wait, 0.05)
    with pytest.raises(TimeoutError, match="still busy"):
        thread.run(lambda: 1, 0.01)
    gate.set()
    assert thread.run(lambda: 2, 10) == 2
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 / 0, 1)
