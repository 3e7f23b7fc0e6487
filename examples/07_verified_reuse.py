"""Similar questions answered from the pool, with a bound on wrong answers, on the real model.

    python examples/07_verified_reuse.py [PLOT.png]

Of labelled pairs of questions (do they want the same answer?) the first is stored and the second asked, as if the label
were what comparing the two answers shows. VerifiedJudge learns as it goes which pairs may be reused; a fixed threshold
is shown beside it. The questions stand in examples/questions; bring your own as (a, b, same).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from questions import generated_pairs

from exp_pool import ThresholdJudge, VerifiedJudge
from exp_pool.evaluation import Evaluation, evaluate
from exp_pool.search.embedders.sentence_transformers import SentenceTransformerEmbedder

PAIRS, RATE = 1000, 0.05


class Once:
    """The default model; no text is embedded twice, although several judges are tried."""

    def __init__(self) -> None:
        self.model = SentenceTransformerEmbedder("all-MiniLM-L6-v2")
        self.identity = self.model.identity
        self.vectors: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self.vectors]
        self.vectors |= dict(zip(new, self.model.embed(new), strict=True)) if new else {}
        return np.array([self.vectors[text] for text in texts])

    def fits(self, texts: Sequence[str]) -> list[bool]:
        return self.model.fits(texts)


def told(name: str, run: Evaluation) -> None:
    shares = f"answered {run.answered_share:6.1%}   wrong {run.error_rate:6.2%} of all   explored {run.explored}"
    print(f"{name:<38} {shares}")


def plot(curve: list[Evaluation], verified: Evaluation, path: str) -> None:
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(6, 4))
    axes.plot([run.error_rate for run in curve], [run.answered_share for run in curve], label="fixed thresholds")
    axes.plot(verified.error_rate, verified.answered_share, "o", label="VerifiedJudge")
    axes.axvline(RATE, color="0.7", linestyle=":", label="allowed")
    axes.set(xlabel="wrong answers, of all requests", ylabel="answered, of all requests")
    axes.legend(frameon=False)
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")
    print(f"the curve is in {path}")


def main() -> None:
    pairs, model = generated_pairs(PAIRS), Once()
    print(f"{len(pairs)} pairs of questions; {RATE:.0%} of all requests may be answered wrongly\n")
    (verified,) = evaluate(VerifiedJudge(max_error_rate=RATE), pairs, embedder=model)
    told(f"VerifiedJudge(max_error_rate={RATE})", verified)
    for number, half in enumerate(verified.halves, 1):
        print(f"{f'  half {number}':<38} answered {half.answered_share:6.1%}   wrong {half.error_rate:6.2%} of all")
    assert verified.error_rate <= RATE

    thresholds = [0.99, 0.95, 0.9, 0.85, 0.8] if len(sys.argv) > 1 else [0.95, 0.9]
    curve = []
    for threshold in thresholds:
        (run,) = evaluate(ThresholdJudge(threshold), pairs, embedder=model)
        told(f"ThresholdJudge({threshold})", run)
        curve.append(run)
    print(
        "\nNobody knows beforehand which threshold keeps to the rate; VerifiedJudge finds out, and abstains until then."
    )
    if len(sys.argv) > 1:
        plot(curve, verified, sys.argv[1])


if __name__ == "__main__":
    main()
