"""Matplotlib axes in one style: titles, legends, labels, colours and fonts."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from exp_pool.curation.optional_packages import package

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from exp_pool.api.manager import ExpManager

# Okabe, Ito, "Color universal design", 2008: told apart by the colour-blind, too.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"
COLOURS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9", "#F0E442")
_SIZE = (7.0, 4.0)  # inches
_TEXT = 44  # characters of a request, a function
_SCRIPTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "SimHei")


def new_axes(ax: Axes | None, title: str) -> Axes:
    """The axes to draw on, or new ones, with a title."""
    if ax is None:
        pyplot = package("matplotlib.pyplot", "plots")
        _, ax = pyplot.subplots(figsize=_SIZE, layout="constrained")
    assert ax is not None
    ax.set_title(title)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def nothing_to_show(ax: Axes, manager: ExpManager, why: str) -> Axes:
    """Axes with a text that says why they are empty.

    Args:
        ax: where to draw.
        manager: whose namespace is named.
        why: the reason.
    """
    said = f"{why}\n(namespace {brief(manager.sync.namespace)})"
    ax.text(0.5, 0.5, said, ha="center", va="center", color=GREY, transform=ax.transAxes, **_plain())
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def name_rows(ax: Axes, names: Sequence[str], start: int = 0) -> None:
    """Names along the left side, as plain text: what people write is no formula.

    Args:
        ax: where to draw.
        names: from the bottom up.
        start: the position of the first one.
    """
    ax.set_yticks(range(start, start + len(names)), names, **_plain())
    ax.tick_params(axis="y", length=0)


def add_legend(ax: Axes, handles: Sequence[Any], labels: Sequence[str], **where: Any) -> None:
    """Legend without a frame.

    Args:
        ax: where to draw.
        handles: one mark for each label; what is left over on either side is dropped.
        labels: what the marks mean.
        where: as for ``Axes.legend``.
    """
    # A label that begins with "_" would be left out.
    legend = ax.legend(
        handles[: len(labels)], [f" {label}" for label in labels][: len(handles)], frameon=False, **where
    )
    for text in legend.get_texts():
        text.set(**_plain())


def dot(colour: str) -> Any:
    """The mark of a colour, for a legend."""
    line = importlib.import_module("matplotlib.lines").Line2D
    return line([], [], marker="o", linestyle="", color=colour, markersize=6)


def _plain() -> dict[str, Any]:
    """Text as it is written, in a font that has Chinese, where one is installed."""
    fonts = importlib.import_module("matplotlib.font_manager")
    known = set(fonts.get_font_names())
    return {"parse_math": False, "fontfamily": ["DejaVu Sans", *(name for name in _SCRIPTS if name in known)]}


def brief(text: str) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    line = "".join(letter for letter in line if letter.isprintable())
    return line if len(line) <= _TEXT else line[: _TEXT - 1] + "…"


def amount_text(amount: float) -> str:
    """A number with as many digits as people read."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"  # noqa: PLR2004


def percent() -> Any:
    """A formatter of axes."""
    return importlib.import_module("matplotlib.ticker").PercentFormatter(1.0)


def show_dates(ax: Axes) -> None:
    """Dates along the bottom."""
    dates = importlib.import_module("matplotlib.dates")
    locator = dates.AutoDateLocator(maxticks=7)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
