"""Two processes share one pool on a server: what one has asked, the other does not ask again.

    python examples/06_shared_pool.py                                        # PostgreSQL on this machine
    python examples/06_shared_pool.py postgresql://me:secret@db/agents pgvector://
    python examples/06_shared_pool.py redis://127.0.0.1:6379/0
    python examples/06_shared_pool.py mysql://me:secret@db/agents

`docker compose up -d --wait postgres` starts a server with pgvector (compose.yml). What is stored here goes at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from exp_pool import ExpManager
from exp_pool.errors import StoreError

STORE = "postgresql://postgres@127.0.0.1:5432/postgres?schema=exp_pool_example"
QUESTIONS = [
    "How do I reset my password?",
    "Which plan includes single sign-on?",
    "Can I export my data as CSV?",
    "Why was my card charged twice?",
]
CALLS: list[str] = []  # of the model, in this process


def open_pool(store: str, index: str) -> ExpManager:
    return ExpManager(store=store, index=index, namespace="example-06")


def work(store: str, index: str) -> None:
    """What each process does: ask every question. Whoever is first computes, the other one waits for the answer."""
    with open_pool(store, index) as manager:

        @manager.exp_cache(name="support.answer")
        def answer(question: str) -> str:
            CALLS.append(question)
            time.sleep(0.2)  # a model would take longer
            return f"The answer to {question!r}"

        for question in QUESTIONS:
            answer(question)
        print(len(CALLS))


def main(store: str, index: str) -> None:
    manager = open_pool(store, index)
    try:
        manager.sync.get_exps_count()
    except StoreError as err:
        print(f"This example needs a server, and there is none: {err}")
        return
    with manager:
        manager.sync.delete_all_exps()  # of a run that was interrupted
        command = [sys.executable, __file__, store, index, "work"]
        workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        counts = [int(worker.communicate()[0]) for worker in workers]
        print(f"{len(QUESTIONS)} questions, asked by two processes: {counts[0]} + {counts[1]} calls of the model")
        assert sum(counts) == len(QUESTIONS)

        (hit,) = manager.sync.search("I forgot my password", top_k=1)
        print(f"{hit.similarity:.2f} {hit.experience.request!r} -> {hit.experience.value!r}")
        manager.sync.delete_all_exps()


if __name__ == "__main__":
    place, index, *role = (*sys.argv[1:], *(os.environ.get("EXP_POOL_STORE", STORE), "exact://")[len(sys.argv) - 1 :])
    if role:
        work(place, index)
    else:
        main(place, index)
