"""Reuse by similarity: how many questions a judge answers, at which rate of wrong answers.

``python benchmarks/reuse.py [--orders 20] [--rates 0.01,0.02,0.05] [--pairs N] [--adversarial] [--plot FILE]
[--results FILE]``, or ``make bench-reuse``. Every labelled pair (a, b) is replayed: of a pool that
holds a, b is asked, in random orders (seeds 0, 1, ...), one judge learning as it goes. The shares are of
all requests; what was explored counts as not answered. ``hindsight``: the best threshold of the similarity for
the same half, chosen with its labels. ``offline``: logistic regression on the judge's own features, five-fold, its
threshold in hindsight, too. The vectors of the real model are computed once, and kept in the virtual environment.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from exp_pool import VerifiedJudge
from exp_pool.evaluation import evaluate
from exp_pool.protocols import Question
from exp_pool.reuse.boilerplate import without_boilerplate
from exp_pool.reuse.guard import differences, guard
from exp_pool.reuse.pair_features import pair_features
from exp_pool.search.embedders.sentence_transformers import SentenceTransformerEmbedder

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from questions import generated_pairs, large_pairs

MODEL, CACHE = "all-MiniLM-L6-v2", Path(sys.prefix) / "question_vectors.npz"


class Looked:
    """An embedder that looks vectors up."""

    identity = "stored"

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self.vectors = vectors

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, d)."""
        return np.array([self.vectors[text] for text in texts])

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """Whole, all of them."""
        return [True] * len(texts)


def questions(count: int | None) -> list[tuple[str, str, bool]]:
    return (large_pairs() or generated_pairs())[:count]


def vectors_of(pairs: Sequence[tuple[str, str, bool]]) -> dict[str, np.ndarray]:
    texts = sorted({text for a, b, _ in pairs for text in (a, b, *(without_boilerplate(a, b) or ()))})
    if CACHE.exists():
        kept = np.load(CACHE, allow_pickle=False)
        if set(texts) <= set(kept["texts"].tolist()):
            return dict(zip(kept["texts"].tolist(), kept["vectors"], strict=True))
    embedder = SentenceTransformerEmbedder(MODEL)
    starts = track(range(0, len(texts), 256), "embedding the questions", console=Console(stderr=True))
    vectors = np.concatenate([embedder.embed(texts[start : start + 256]) for start in starts]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.savez(CACHE, texts=np.array(texts), vectors=vectors)
    return dict(zip(texts, vectors, strict=True))


def most_answered(surest_first: np.ndarray, wrong: np.ndarray, rate: float) -> float:
    """The share that the best threshold in hindsight answers."""
    spent = np.cumsum(wrong[np.argsort(-surest_first, kind="stable")])
    within = np.flatnonzero(spent <= rate * len(wrong))
    return float(within[-1] + 1) / len(wrong) if len(within) else 0.0


def orders_of(kind: str, wrong: np.ndarray, cosines: np.ndarray, seed: int) -> list[int]:
    places = list(range(len(wrong)))
    random.Random(seed).shuffle(places)
    if kind == "right first":
        return sorted(places, key=lambda place: wrong[place])
    if kind == "wrong first":
        return sorted(places, key=lambda place: not wrong[place])
    if kind == "easy, then hard":  # where similar means the same, then where it means nothing: both have near pairs
        near = [place for place in places if cosines[place] > np.median(cosines)]
        easy, hard = [p for p in near if not wrong[p]], [p for p in near if wrong[p]]
        half = min(len(easy), len(hard))
        far = [place for place in places if cosines[place] <= np.median(cosines)]
        mixed = easy[: half // 2] + far[: half - half // 2]  # so that the shift comes halfway
        random.Random(seed + 1).shuffle(mixed)
        return mixed + hard[:half]
    return places


def replay(job: tuple[str, float, int, int | None]) -> dict[str, Any]:
    kind, rate, seed, count = job
    pairs = questions(count)
    vectors = vectors_of(pairs)
    wrong = np.array([not same for _, _, same in pairs])
    cosines = np.array([float(vectors[a] @ vectors[b]) for a, b, _ in pairs])
    order = orders_of(kind, wrong, cosines, seed)
    judge = VerifiedJudge(max_error_rate=rate)
    (done,) = evaluate(judge, pairs, embedder=Looked(vectors), orders=[order], seed=seed)
    half = np.array(order[len(order) // 2 :])
    first, second = done.halves
    return {
        "kind": kind,
        "rate": rate,
        "seed": seed,
        "first": first.answered_share,
        "second": second.answered_share,
        "explored": second.explored / second.total,
        "wrong": done.error_rate / rate,
        "wrong_first": first.error_rate / rate,
        "wrong_second": second.error_rate / rate,
        "hindsight": most_answered(cosines[half], wrong[half], rate),
        "alarms": [place / len(order) for place in done.alarms],
    }


def offline(pairs: Sequence[tuple[str, str, bool]], vectors: dict[str, np.ndarray], rate: float) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = [pair_features(b, a, float(vectors[a] @ vectors[b]), differences(b, a)).numbers for a, b, _ in pairs]
    wrong = np.array([not same for _, _, same in pairs], dtype=int)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    chances = cross_val_predict(model, np.array(rows, dtype=float), wrong, cv=5, method="predict_proba")[:, 1]
    return most_answered(-chances, wrong, rate)


def table_of(results: Sequence[dict[str, Any]], baseline: dict[float, float]) -> Table:
    table = Table("order", "allowed", "hindsight, 2nd half", "offline", title="answered, of all requests; medians")
    for name in ("1st half", "2nd half", "2nd / hindsight", "explored", "wrong / allowed", "2nd half (worst)"):
        table.add_column(name, justify="right")
    table.add_column("over", justify="right")
    for kind, rate in dict.fromkeys((result["kind"], result["rate"]) for result in results):
        mine = [result for result in results if (result["kind"], result["rate"]) == (kind, rate)]
        middle = {name: statistics.median(r[name] for r in mine) for name in mine[0] if name not in ("kind", "alarms")}
        ratio = statistics.median(r["second"] / r["hindsight"] if r["hindsight"] else 0 for r in mine)
        over = sum(r["wrong"] > 1 for r in mine), sum(r["wrong_second"] > 1 for r in mine)
        table.add_row(
            kind,
            f"{rate:.0%}",
            f"{middle['hindsight']:.1%}",
            f"{baseline[rate]:.1%}" if rate in baseline else "",
            f"{middle['first']:.1%}",
            f"{middle['second']:.1%}",
            f"{ratio:.2f}",
            f"{middle['explored']:.1%}",
            f"{middle['wrong']:.2f} ({max(r['wrong'] for r in mine):.2f})",
            f"{middle['wrong_second']:.2f} ({max(r['wrong_second'] for r in mine):.2f})",
            f"{over[0]} and {over[1]} of {len(mine)}",
        )
    return table


def plot(results: Sequence[dict[str, Any]], pairs: Any, vectors: dict[str, np.ndarray], path: str) -> None:
    import matplotlib.pyplot as plt

    wrong = np.array([not same for _, _, same in pairs])
    cosines = np.array([float(vectors[a] @ vectors[b]) for a, b, _ in pairs])
    rates = np.linspace(0.002, 0.07, 60)
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.plot(rates, [most_answered(cosines, wrong, rate) for rate in rates], label="best threshold, in hindsight")
    mine = [result for result in results if result["kind"] == "random"]
    wrong_shares = [result["wrong_second"] * result["rate"] for result in mine]
    axes.scatter(wrong_shares, [r["second"] for r in mine], s=14, color="C1", label="VerifiedJudge, second halves")
    for rate in sorted({result["rate"] for result in mine}):
        axes.axvline(rate, color="0.8", linewidth=1, zorder=0)
    axes.set(xlabel="wrong answers, of all requests", ylabel="answered, of all requests", xlim=0, ylim=0)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100, bbox_inches="tight")


def guard_table(pairs: Sequence[tuple[str, str, bool]]) -> Table:
    """What the guard lets pass of made-up near misses, and vetoes of questions. `seen` while it was written."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.near_misses import HELD, SEEN
    from support.near_misses import pairs as made

    table = Table("pairs", "in", title="the guard")
    for name in ("seen", "passed", "held", "passed"):
        table.add_column(name, justify="right")
    passed: dict[tuple[str, str], list[int]] = {}
    for at, templates in enumerate((SEEN, HELD)):
        for kind, language, one, other in made(templates):
            counts = passed.setdefault((kind, language), [0, 0, 0, 0])
            counts[2 * at] += 1
            counts[2 * at + 1] += guard(one, other) is None
    passed["all", ""] = [sum(column) for column in zip(*passed.values(), strict=True)]
    for (kind, language), (seen, of_seen, held, of_held) in passed.items():
        shares = (f"{of_seen / seen:.1%}" if seen else "", f"{of_held / held:.1%}" if held else "")
        table.add_row(kind, language, f"{seen}", shares[0], f"{held}", shares[1])
    for name, wanted in (("the same", True), ("not the same", False)):
        real = [(a, b) for a, b, same in pairs if same is wanted]
        vetoed = sum(guard(b, a) is not None for a, b in real) / len(real)
        table.add_row(f"{len(real):,} questions, {name}", "en", "", "", "vetoed", f"{vetoed:.1%}")
    return table


def decision_times(pairs: Sequence[tuple[str, str, bool]], vectors: dict[str, np.ndarray]) -> list[float]:
    """Milliseconds of single decisions, without embedding, of a judge that has learned from 2,000 pairs."""
    from exp_pool import Experience, Hit
    from exp_pool.reuse.judge_memory import JudgeMemory
    from exp_pool.reuse.training_examples import TrainingExample, label_entry

    memory = JudgeMemory(0.05, 0.95)
    hits = [
        (b, Hit(Experience(function="f", request=a, response=1), float(vectors[a] @ vectors[b]), "semantic"), same)
        for a, b, same in pairs[:2500]
    ]
    for request, hit, same in hits[:2000]:
        stored = hit.experience.request
        pair = pair_features(request, stored, hit.similarity, differences(request, stored))
        memory.add([label_entry(TrainingExample(pair, None, 1.0), wrong=not same)])
    memory.study()
    judge, times = VerifiedJudge(max_error_rate=0.05), []
    for request, hit, _ in hits[2000:]:
        began = time.perf_counter()
        judge.judge(Question("f", request, (hit,), memory))
        times.append((time.perf_counter() - began) * 1000)
    return times


def replayed(
    jobs: Sequence[tuple[str, float, int, int | None]], processes: int, kept: Path | None
) -> list[dict[str, Any]]:
    """One result for each job; those in ``kept`` are not replayed again, so that an hour's run can be cut off."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.exists() else []
    results = [json.loads(line) for line in lines]
    known = {(result["kind"], result["rate"], result["seed"]) for result in results}
    missing = [job for job in jobs if job[:3] not in known]
    with ProcessPoolExecutor(processes) as pool:
        done = (future.result() for future in as_completed([pool.submit(replay, job) for job in missing]))
        for result in track(done, "replaying", total=len(missing), console=Console(stderr=True)):
            results.append(result)
            if kept:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
    wanted = {job[:3] for job in jobs}
    return [result for result in results if (result["kind"], result["rate"], result["seed"]) in wanted]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, default=20)
    arguments.add_argument("--rates", default="0.01,0.02,0.05")
    arguments.add_argument("--pairs", type=int, help="only so many, from the beginning")
    arguments.add_argument("--adversarial", action="store_true", help="orders that are not random, too")
    arguments.add_argument("--plot", help="file for the curve")
    arguments.add_argument(
        "--results", type=Path, help="keep each replay's result in this file of lines; go on from it"
    )
    arguments.add_argument("--processes", type=int, default=os.cpu_count())
    options = arguments.parse_args()
    pairs = questions(options.pairs)
    vectors = vectors_of(pairs)
    rates = [float(rate) for rate in options.rates.split(",")]
    kinds = ["random", *(["right first", "wrong first", "easy, then hard"] if options.adversarial else [])]
    jobs = [(kind, rate, seed, options.pairs) for kind in kinds for seed in range(options.orders) for rate in rates]
    console = Console(width=150) if not sys.stdout.isatty() else Console()  # a file has no width of its own
    results = replayed(jobs, options.processes, options.results)
    results.sort(key=lambda result: (kinds.index(result["kind"]), result["rate"]))
    console.print(table_of(results, {rate: offline(pairs, vectors, rate) for rate in rates}))
    shifted = [result for result in results if result["kind"] == "easy, then hard"]
    if shifted:
        heard = sum(any(place >= 0.5 for place in result["alarms"]) for result in shifted)
        early = sum(any(place < 0.5 for place in result["alarms"]) for result in shifted)
        console.print(
            f"the shift was noticed in {heard} of {len(shifted)} orders; in {early} there was an alarm before"
        )
    random_ones = [result for result in results if result["kind"] == "random"]
    without = sum(bool(result["alarms"]) for result in random_ones)
    console.print(f"alarms where nothing had changed: in {without} of {len(random_ones)} random orders")
    console.print(guard_table(pairs))
    times = decision_times(pairs, vectors)
    p50, p99 = np.percentile(times, [50, 99])
    console.print(f"one decision without embedding: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    if options.plot:
        plot(results, pairs, vectors, options.plot)


if __name__ == "__main__":
    main()
