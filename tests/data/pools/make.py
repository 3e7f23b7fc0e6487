"""Makes the pools beside this file: ``python make.py FOLDER``. Those here were written by the code of November 2026."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pool_agents import calls

from exp_pool import Experience, ExpManager, snapshots


def fill(manager):
    for function, args, answer in calls(manager):
        assert function(*args) == answer
    by_hand = Experience(function="notes", request="what is exp_pool?", response="a pool", metadata={"team": "docs"})
    kept = manager.sync.create_exp(by_hand)
    manager.sync.annotate(kept, expected="an experience pool")
    manager.sync.feedback(kept, 0.75, "good")
    gone = manager.sync.create_exp(Experience(function="notes", request="gone", response="gone"))
    manager.sync.delete_exp(gone)
    manager.sync.flush()


def main():
    folder = Path(sys.argv[1])
    for url in (f"sqlite:///{folder}/pool.db", f"json:///{folder}/json"):
        with ExpManager(store=url, index="none://", embedder="none") as manager:
            fill(manager)
            if url.startswith("sqlite"):
                snapshots.save(manager, folder / "snapshot")


if __name__ == "__main__":
    main()
