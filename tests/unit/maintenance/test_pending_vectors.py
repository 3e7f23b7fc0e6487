"""What a child process knows of vectors: what its parent knew, with a lock of its own."""

from exp_pool.maintenance.pending_vectors import PendingVectors
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.forks import reinit
from exp_pool.runtime.notices import Notices
from exp_pool.stores.memory import MemoryStore


def test_a_child_takes_back_no_namespace_and_catches_up_with_nothing_twice():
    pending = PendingVectors(MemoryStore(), None, Counters(), Notices())
    pending._owned.add("n")
    pending._caught_up["n", "f"] = 0
    pending._behind = pending._wanted = True
    pending._turn.acquire()
    reinit(pending)
    assert (pending._owned, pending._caught_up, pending._behind, pending._wanted) == (
        {"n"},
        {("n", "f"): 0},
        True,
        True,
    )
    assert not pending._turn.locked()
