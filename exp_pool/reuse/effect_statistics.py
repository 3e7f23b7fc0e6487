"""Statistics of effects: differences of means, many of them shrunken together, and which are surely real. Pure.

Shapes: n is the number of experiences. An arm is the calls that were shown an experience, or those from which it was
left out at random.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_NEGLIGIBLE = 0.025  # a lift of up to this is no help and no harm; the grid's own coarseness
_FDR = 0.05  # expected share of wrong ones among those labelled "helps", and among those labelled "hurts"
# Effects that the mixture of `posterior` allows, and how many imaginary experiences without effect it begins with:
# ten, as ash has it, so that a pool of three does not learn from its own noise that effects are common.
_GRID = np.linspace(-1.0, 1.0, 81)
_NULLS = 10.0
_EM_STEPS = 100


def difference_of_means(shown: Floats, left_out: Floats) -> tuple[Floats, Floats, Floats]:
    """Difference of two arms' means, centre of its interval and standard error, each (n,); NaN where an arm is empty.

    Hájek's weighted means, one less the other: where all weights of an arm are equal, the difference in means. The
    interval is that of Agresti and Caffo (The American Statistician 54, 2000): two imaginary calls in each arm, one
    that went well and one that failed, which keeps its coverage where only a handful was left out.

    Args:
        shown: (n, 6) sums over the calls of the arm: of 1, w, w², wr, w²r, w²r², where w is a call's weight and r its
            outcome less what was predicted, so that r of the two imaginary calls is 0.5 and -0.5.
        left_out: (n, 6) likewise, of the other arm.
    """
    means, centres, variance = [], [], np.zeros(len(shown))
    for sums in (shown, left_out):
        n, w, ww, wr, wwr, wwrr = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            typical = np.where(n > 0, w / n, math.nan)
            means.append(wr / w)
            w, ww, wwrr, n = w + 2 * typical, ww + 2 * typical**2, wwrr + 0.5 * typical**2, n + 2
            centre = wr / w
            squares = np.maximum(wwrr - 2 * centre * wwr + centre**2 * ww, 0.0)
            variance += squares / w**2 * n / (n - 1)
            centres.append(centre)
    return means[0] - means[1], centres[0] - centres[1], np.sqrt(variance)


def drawn_to_mean(centre: Floats, error: Floats, among: Bools) -> tuple[Floats, float]:
    """Estimates shrunken towards their mean, as far as they are uncertain (normal prior and errors); and that mean.

    Args:
        centre: (n,) estimates.
        error: (n,) their standard errors.
        among: (n,) whether an estimate counts for the mean.
    """
    if not among.any():
        return centre, 0.0
    mean, spread = _moments(centre[among], error[among])
    return mean + spread / (spread + error**2) * (centre - mean), mean


def _moments(centre: Floats, error: Floats) -> tuple[float, float]:
    """Mean and variance of the true effects, from estimates and their errors (DerSimonian and Laird's moments)."""
    weight = 1 / error**2
    mean = float(weight @ centre / weight.sum())
    excess = float(weight @ (centre - mean) ** 2) - (len(centre) - 1)
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    return mean, max(excess / scale, 0.0) if scale > 0 else 0.0


def posterior(centre: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """For each row the posterior mean of its effect, and the chances that it does not help, and that it does not hurt.

    Empirical Bayes: the distribution of effects is itself estimated, by maximum likelihood over a grid (Kiefer and
    Wolfowitz 1956; Jiang and Zhang, General maximum likelihood empirical Bayes estimation of normal means, Annals of
    Statistics 37, 2009), with a penalty that favours "no effect" (Stephens 2017). NaN, 1 and 1 where nothing is known.
    """
    known = np.isfinite(error)
    shrunken, not_above, not_below = np.full(len(centre), math.nan), np.ones(len(centre)), np.ones(len(centre))
    if not known.any():
        return shrunken, not_above, not_below
    away = (centre[known, None] - _GRID) / error[known, None]
    fit = np.exp(-0.5 * (away**2 - (away**2).min(axis=1, keepdims=True)))
    zero = _GRID.size // 2
    prior = np.full(_GRID.size, 0.5 / (_GRID.size - 1))
    prior[zero] = 0.5
    for _ in range(_EM_STEPS):
        counts = prior * (fit.T @ (1 / (fit @ prior)))
        counts[zero] += _NULLS
        prior = counts / counts.sum()
    chance = fit * prior
    chance /= chance.sum(axis=1, keepdims=True)
    shrunken[known] = chance @ _GRID
    negligible = _NEGLIGIBLE + 1e-9
    not_above[known] = chance[:, negligible >= _GRID].sum(axis=1)
    not_below[known] = chance[:, -negligible <= _GRID].sum(axis=1)
    return shrunken, not_above, not_below


def surest(chance_of_error: Floats) -> Bools:
    """Which effects to name, the surest first, so that on average at most `_FDR` of those named are wrong."""
    order = np.argsort(chance_of_error, kind="stable")
    average = np.cumsum(chance_of_error[order]) / np.arange(1, len(order) + 1)
    named = np.zeros(len(order), dtype=bool)
    named[order[average <= _FDR]] = True
    return named


def rejected(e_values: Floats, confidence: float) -> Bools:
    """Which hypotheses are rejected, by their e-values: the expected share of wrong ones is at most 1 - `confidence`.

    The e-BH procedure (Wang and Ramdas, False discovery rate control with e-values, Journal of the Royal Statistical
    Society B 84, 2022), which needs no independence.
    """
    ranked = np.sort(e_values)[::-1]
    enough = ranked * np.arange(1, len(ranked) + 1) >= len(ranked) / (1 - confidence)
    return e_values >= (ranked[enough][-1] if enough.any() else math.inf)
