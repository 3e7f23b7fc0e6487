"""Looking after a pool: back it up, put it back, find out what is wrong, mend it, erase what somebody wants gone.

The same from the command line: ``exp-pool doctor|reindex|backup|restore|vacuum``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from exp_pool import ExpManager, exp_cache


@exp_cache(exclude=["model"])
def advise(question: str, model: str = "large") -> str:
    return f"{model} thinks about: {question}"  # your slow, expensive call


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    settings = {"store": f"sqlite:///{folder}/pool.db", "index": f"chroma:///{folder}/chroma"}

    with ExpManager(**settings) as manager:
        pool = manager.sync
        ask = manager.exp_cache(advise.original)
        for question in ("How do I reset my password?", "Where is my invoice?", "Alice Doe wants to know her salary."):
            ask(question)

        # A copy as of this moment, while others go on using the pool.
        pool.backup(folder / "monday.db")

        # An accident, and back again. What is there now is set aside, not overwritten.
        pool.delete_all_exps()
        aside = pool.restore(folder / "monday.db")
        print(f"restored {pool.get_exps_count()} experiences; the present state is {aside and aside.name}")

        # Somebody wants to be forgotten: no byte is left in the store or the index. (The backup is yours to remove.)
        print(f"erased {pool.erase({'request': 'Alice Doe wants to know her salary.'})}")
        (folder / "monday.db").unlink()
        aside and aside.unlink()

    left = [path.name for path in folder.rglob("*") if path.is_file() and b"Alice Doe" in path.read_bytes()]
    print(f"files that still hold her name: {left}")

    # A disk error: some bytes in the middle of the file are wrong.
    with (folder / "pool.db").open("r+b") as file:
        file.seek(20_000)
        file.write(b"\xff" * 30_000)

    with ExpManager(**settings) as manager:
        ask = manager.exp_cache(advise.original)
        print(ask("Where is my invoice?"))  # the call has its value, whatever became of the pool
        report = manager.sync.doctor()
        print(f"problems: {len(report.problems)}, such as {report.problems[0].rpartition('/')[2][:60]}...")
        report = manager.sync.doctor(fix=True)
        print(f"sound again: {report.sound}")
        for done in report.done:
            print(done.rpartition("/")[2])


if __name__ == "__main__":
    main()
