"""Shrinks many noisy estimates of effects towards zero, and names those that are surely real."""

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


def drawn_to_mean(centre: Floats, error: Floats, among: Bools) -> tuple[Floats, float]:
    """Estimates drawn to the mean of those among them, as far as they are uncertain (normal, normal); and the mean."""
    if not among.any():
        return centre, 0.0
    mean, spread = _moments(centre[among], error[among])
    return mean + spread / (spread + error**2) * (centre - mean), mean


def _moments(centre: Floats, error: Floats) -> tuple[float, float]:
    """Mean and variance of true effects, from estimates and their errors (DerSimonian and Laird's moments)."""
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
    """Which to name, so that on average at most `_FDR` of those named are wrong: the surest first."""
    order = np.argsort(chance_of_error, kind="stable")
    average = np.cumsum(chance_of_error[order]) / np.arange(1, len(order) + 1)
    named = np.zeros(len(order), dtype=bool)
    named[order[average <= _FDR]] = True
    return named
