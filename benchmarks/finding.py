"""What finding near-duplicates costs, and what it misses: against brute force over a sample.

python benchmarks/finding.py [--sizes 10000 100000] [--sample 5000]

The clone's questions, or those of EXP_POOL_TEST_DATA, each at times with a word or two changed, so many of them
near-duplicates; vectors of 384 dimensions in 300 clusters, a third of them near another one. Each size runs in a
process of its own.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from exp_pool import Experience, ExpManager, curation
from exp_pool.core.record import Vector
from exp_pool.protocols import Put

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from questions import generated_texts, labelled_pairs, large_pairs

LEAST = {"letters": 0.8, "meaning": 0.95}
DIMENSIONS, CENTRES = 384, 300


def texts_of(count: int) -> list[str]:
    """Questions, and versions of them in which something little is different."""
    coin = random.Random(0)
    pairs = large_pairs()
    known = generated_texts() if pairs is None else []
    known = list(dict.fromkeys([*known, *(text for a, b, _ in pairs or labelled_pairs() for text in (a, b))]))
    texts = dict.fromkeys(coin.sample(known, min(count // 2, len(known))))
    plain = list(texts)
    while len(texts) < count:
        words = coin.choice(plain).split()
        for _ in range(coin.randint(1, 2)):
            words[coin.randrange(len(words))] = coin.choice(coin.choice(plain).split())
        texts[" ".join(words)] = None
    return list(texts)[:count]


def vectors_of(count: int) -> np.ndarray:
    """Unit vectors in clusters; a third are near another one, at a cosine of 0.9 to 1."""
    noise = np.random.default_rng(0)
    centres = noise.standard_normal((CENTRES, DIMENSIONS))
    vectors = centres[noise.integers(0, CENTRES, count)] * 0.9 + noise.standard_normal((count, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = np.flatnonzero(noise.random(count) < 1 / 3)
    other = noise.standard_normal((len(near), DIMENSIONS)) / np.sqrt(DIMENSIONS)
    vectors[near] = vectors[noise.integers(0, count, len(near))] + other * noise.uniform(0.05, 0.48, (len(near), 1))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fill(manager: ExpManager, texts: list[str], vectors: np.ndarray) -> list[str]:
    rows = [
        replace(manager.sync.editor.record_of(Experience(function="f", request=text, response="x")), embed_due=None)
        for text in texts
    ]
    for start in range(0, len(rows), 5000):
        part = zip(rows[start : start + 5000], vectors[start : start + 5000], strict=True)
        manager.sync.store.put_many([Put(row, vector=Vector("e", vector.tobytes())) for row, vector in part])
    return [row.id for row in rows]


def truth(by: str, texts: list[str], vectors: np.ndarray, sample: np.ndarray) -> list[tuple[int, int]]:
    """The near pairs of the sample's rows with all, each compared: cosines, or sets of 5-letter pieces."""
    pairs = []
    if by == "letters":
        names: dict[str, int] = {}
        pieces = []
        for text in texts:
            plain = " ".join(text.casefold().split()).ljust(5)
            pieces.append({names.setdefault(plain[at : at + 5], len(names)) for at in range(len(plain) - 4)})
        sizes = np.array([len(each) for each in pieces])
        columns = [piece for each in pieces for piece in each]
        rows = csr_matrix((np.ones(len(columns), np.int32), columns, np.r_[0, np.cumsum(sizes)]))
        turned = rows.T.tocsr()
    for start in range(0, len(sample), 250):
        part = sample[start : start + 250]
        if by == "letters":
            common = (rows[part] @ turned).tocoo()
            either = sizes[part[common.row]] + sizes[common.col] - common.data
            near = common.data / either >= LEAST[by]
            found = zip(part[common.row[near]], common.col[near], strict=True)
        else:
            left, right = np.nonzero(vectors[part] @ vectors.T >= LEAST[by])
            found = zip(part[left], right, strict=True)
        pairs += [(int(one), int(other)) for one, other in found if one != other]
    return pairs


def run(count: int, sampled: int) -> None:
    texts, vectors = texts_of(count), vectors_of(count)
    manager = ExpManager(store="memory://", index="exact://", embedder="none")
    ids = fill(manager, texts, vectors)
    sample = np.random.default_rng(1).choice(count, min(sampled, count), replace=False)
    print(f"{count:,} experiences")
    for by in ("letters", "meaning"):
        before, busy = time.perf_counter(), time.process_time()
        frame = curation.duplicates(manager, by=by)
        took, busy = time.perf_counter() - before, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        # A pair is dealt with where at most one of it is kept.
        going = set(frame["id"][~frame["found.keep"]])
        pairs = truth(by, texts, vectors, sample)
        met = sum(ids[one] in going or ids[other] in going for one, other in pairs)
        print(
            f"  duplicates, {by:<8} {took:7.1f} s ({busy:.1f} s of all cores), {peak:,.0f} MB at most; "
            f"{len(going):,} can go; {met:,} of {len(pairs):,} near pairs of a sample: {met / max(1, len(pairs)):.4f}",
            flush=True,
        )
    others: dict[str, Any] = {
        "conflicts": lambda: curation.conflicts(manager),
        "clusters, meaning": lambda: curation.clusters(manager),
        "clusters, words": lambda: curation.clusters(manager, by="words"),
        "outliers": lambda: curation.outliers(manager),
        "stale": lambda: curation.stale(manager),
        "low_scores": lambda: curation.low_scores(manager),
    }
    for name, work in others.items():
        before = time.perf_counter()
        found = len(work())
        print(f"  {name:<20} {time.perf_counter() - before:7.1f} s  {found:7,} rows", flush=True)
    manager.sync.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000])
    options.add_argument("--sample", type=int, default=5000)
    given = options.parse_args()
    if len(given.sizes) == 1:
        run(given.sizes[0], given.sample)
    else:
        for size in given.sizes:
            one = [sys.executable, str(Path(__file__)), "--sizes", str(size), "--sample", str(given.sample)]
            subprocess.run(one, check=True)
