"""Map of requests: vectors projected to two dimensions (PCA, UMAP), drawn by function or by score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from exp_pool.curation.optional_packages import package
from exp_pool.curation.plots.axes import COLOURS, GREY, add_legend, brief, dot

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _pca(vectors: Any) -> tuple[Any, tuple[str, str]]:
    """(n, 2) points of (n, d) vectors, by principal components, and what the two axes are."""
    centred = vectors - vectors.mean(axis=0)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2] * np.sign(directions[:2].sum(axis=1, keepdims=True) + 1e-12)  # or it flips at will
    if len(directions) < 2:  # noqa: PLR2004  (an embedder of one dimension)
        directions = np.vstack([directions, np.zeros_like(directions)])
    shares = np.append(spread**2 / max(float((spread**2).sum()), 1e-12), 0.0)
    return centred @ directions.T, (f"PC 1 ({shares[0]:.0%} of the variance)", f"PC 2 ({shares[1]:.0%})")


def _umap(vectors: Any) -> tuple[Any, tuple[str, str]]:
    umap = package("umap", "", "pip install umap-learn")
    neighbours = min(15, len(vectors) - 1)
    return umap.UMAP(n_neighbors=neighbours, metric="cosine", random_state=0, n_jobs=1).fit_transform(vectors), (
        "UMAP 1",
        "UMAP 2",
    )


METHODS: Mapping[str, Callable[[Any], tuple[Any, tuple[str, str]]]] = {"pca": _pca, "umap": _umap}


def by_function(ax: Axes, points: Any, functions: Sequence[str]) -> None:
    """Draw points in the colours of their functions; the most frequent functions have one each.

    Args:
        ax: where to draw.
        points: (n, 2).
        functions: (n,) their names.
    """
    counts = {name: functions.count(name) for name in dict.fromkeys(functions)}
    names = sorted(counts, key=lambda name: -counts[name])
    colours = {name: COLOURS[at] if at < len(COLOURS) else GREY for at, name in enumerate(names)}
    ax.scatter(*points.T, c=[colours[name] for name in functions], s=_dots(len(points)), alpha=0.6, linewidths=0)
    labelled = names[: len(COLOURS)]
    handles = [dot(colours[name]) for name in labelled]
    labels = [f"{brief(name)} ({counts[name]:,})" for name in labelled]
    if len(names) > len(labelled):
        handles.append(dot(GREY))
        labels.append(f"{len(names) - len(labelled)} others")
    add_legend(ax, handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)


def by_score(ax: Axes, points: Any, found: Sequence[float | None]) -> None:
    """Draw points in the colours of their scores; grey: none.

    Args:
        ax: where to draw.
        points: (n, 2).
        found: (n,) scores of 0 to 1.
    """
    values = np.array([math.nan if score is None else score for score in found])
    none = np.isnan(values)
    size = _dots(len(points))
    ax.scatter(*points[none].T, color=GREY, s=size, alpha=0.25, linewidths=0)
    drawn = ax.scatter(*points[~none].T, c=values[~none], cmap="viridis", vmin=0, vmax=1, s=size, linewidths=0)
    ax.figure.colorbar(drawn, ax=ax, label="score")


def _dots(count: int) -> float:
    return 30.0 if count < 300 else 12.0 if count < 2000 else 6.0  # noqa: PLR2004
