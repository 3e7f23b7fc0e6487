"""An agent action, answered from the pool the second time, found again by other words, and corrected by a person.

The action is slow for real: it reads the documentation of Python's standard library, hundreds of source files, and
looks for what answers the question. Run it with ``make demo``, or ``python examples/01_quickstart.py [FOLDER]``.
"""

import ast
import re
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from exp_pool import ExpManager, exp_cache, set_exp_manager

QUESTION = "How do I copy a whole directory tree?"
PARAPHRASE = "What is the way to duplicate a folder with everything in it?"
OTHERS = ("How do I split a shell command into words?", "How can I pretty-print a nested list?")


@exp_cache(name="docs_agent.answer")
def answer(question: str) -> str:
    """The documented function of the standard library that fits the question best."""
    wanted = words(question)
    best = max(documented_functions(), key=lambda found: fit(wanted, words(f"{found[0]} {found[1]}")))
    return f"{best[0]}: {best[1].strip().splitlines()[0]}"


def documented_functions() -> Iterator[tuple[str, str]]:
    """(name, docstring) of every public function in the standard library's source files."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and (doc := ast.get_docstring(node)):
                yield f"{path.stem}.{node.name}", doc


def words(text: str) -> Counter[str]:
    """Lower-case words of three letters and more."""
    return Counter(re.findall(r"[a-z]{3,}", text.lower()))


def fit(wanted: Counter[str], found: Counter[str]) -> float:
    """Shared words, less for long texts."""
    return sum(1 for word in wanted if word in found) / (1 + len(found)) ** 0.3


def timed(question: str) -> tuple[str, float]:
    """The answer, and how long it took in seconds."""
    began = time.perf_counter()
    return answer(question), time.perf_counter() - began


def main() -> None:
    """Ask, ask again, ask in other words, correct."""
    given = len(sys.argv) > 1
    folder = Path(sys.argv[1] if given else tempfile.mkdtemp(prefix="exp_pool_")).resolve()
    with ExpManager(store=f"sqlite:///{folder}/pool.db", index=f"chroma:///{folder}/chroma") as manager:
        set_exp_manager(manager)  # without this line the pool is .exp_pool/ in the project's folder

        print(f"asked            {QUESTION}")
        found, first = timed(QUESTION)
        print(f"  read the docs  {found}  ({first:.2f} s)")
        found, second = timed(QUESTION)
        print(f"  from the pool  {found}  ({second * 1000:.2f} ms, {first / second:,.0f} times faster)")
        for question in OTHERS:
            answer(question)

        print(f"\nin other words   {PARAPHRASE}")
        for hit in manager.sync.search(PARAPHRASE, top_k=2):
            print(f"  similarity {hit.similarity:.2f}  {hit.experience.request}  ->  {hit.experience.value}")

        best = manager.sync.query_exps(PARAPHRASE, top_k=1)[0]
        manager.sync.annotate(best.id, expected="shutil.copytree(src, dst)", metadata={"by": "a person"})
        print("\ncorrected by a person; the next call is answered with the correction")
        print(f"  from the pool  {answer(QUESTION)}")

        print(f"\n{manager.stats()}")
        print(f"it all lives in {folder}/pool.db: {manager.sync.get_exps_count()} experiences")


if __name__ == "__main__":
    main()
