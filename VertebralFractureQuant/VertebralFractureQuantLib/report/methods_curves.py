"""The curves of `vfq evaluate methods` as a picture: ROC by both truths, distances of centres, measured height loss.

All numbers come from `evaluation.curves`. Curves differ by colour, line and marker, so that they can be told apart
without colours; the colours are those of Okabe & Ito, legible to the colour-blind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.curves import LOSS_EDGES, Band, distance_band, loss_band, roc_band
from ..evaluation.graders import BY_G, BY_LOSS, BY_PICTURE
from ..evaluation.methods import EXACT, OURS, Block, Comparison, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# color, line, marker
STYLES = (
    ("#0072b2", "-", "o"),
    ("#d55e00", "--", "s"),
    ("#009e73", "-.", "^"),
    ("#cc79a7", ":", "D"),
    ("#000000", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#e69f00", (0, (1, 1)), "P"),
)
RULES = (f"{OURS}, {BY_G}", f"{OURS}, {BY_LOSS}", f"{OURS}, {BY_PICTURE}", f"{EXACT}, {BY_G}", f"{EXACT}, {BY_LOSS}")
LOSSES = (f"{OURS}, {BY_LOSS}", f"{OURS}, {BY_PICTURE}", f"{EXACT}, {BY_LOSS}")
QUIET = "#7a8791"


def write_methods_curves(comparison: Comparison, path: Path) -> None:
    """Draw four panels for each block that has them into a PNG file. Raises OSError if it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    blocks = [block for block in comparison.blocks if any(row.trials for row in block.rows)]
    figure = Figure(figsize=(13, 10.5 * max(len(blocks), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * max(len(blocks), 1), 2, squeeze=False)
    for block, pair in zip(blocks, axes.reshape(-1, 4), strict=False):
        _draw_block(list(pair), block, comparison.repeats, comparison.seed)
    if not blocks:
        for ax in axes.ravel():
            ax.text(0.5, 0.5, "no scans with truth", ha="center", color=QUIET)
            ax.set_axis_off()
    figure.savefig(path, dpi=110, format="png")


def _draw_block(axes: Sequence[Axes], block: Block, repeats: int, seed: int) -> None:
    rows = {row.name: row for row in block.rows if row.trials}
    methods = [row for row in rows.values() if row.kind != "grader"]
    rules = [rows[name] for name in RULES if name in rows]
    _draw_roc(axes[0], methods, lambda row: roc_band(row.trials, False, repeats, seed))
    axes[0].set_title(f"ROC of vertebrae, truth: G of at most 0.74 ({block.name})", fontsize=10, loc="left")
    _draw_roc(axes[1], rules, lambda row: roc_band(row.trials, True, repeats, seed))
    axes[1].set_title("ROC of vertebrae, truth: lost a quarter of a height or more", fontsize=10, loc="left")
    found = [row for row in methods if row.kind == "method"]
    _draw_curves(axes[2], found, lambda row: distance_band(row.trials, repeats, seed))
    axes[2].set(xlabel="distance, mm", ylabel="share of true vertebrae without a centre so near", xlim=(0, 20))
    axes[2].set_title("Distance of the nearest centre", fontsize=10, loc="left")
    _draw_losses(axes[3], [rows[name] for name in LOSSES if name in rows], repeats, seed)


def _draw_roc(ax: Axes, rows: Sequence[Row], band_of: Callable[[Row], Band]) -> None:
    ax.plot([0, 1], [0, 1], color=QUIET, lw=0.8)
    _draw_curves(ax, rows, band_of)
    ax.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))


def _draw_curves(ax: Axes, rows: Sequence[Row], band_of: Callable[[Row], Band]) -> None:
    known = [(row, band) for row in rows if np.isfinite((band := band_of(row)).y).any()]
    for place, (row, band) in enumerate(known):
        color, line, _ = STYLES[place % len(STYLES)]
        ax.fill_between(band.x, band.low, band.high, color=color, alpha=0.13, lw=0)
        ax.plot(band.x, band.y, color=color, linestyle=line, lw=1.8, label=f"{row.name} ({len(row.trials)} patients)")
    _finish(ax, bool(known))


def _draw_losses(ax: Axes, rows: Sequence[Row], repeats: int, seed: int) -> None:
    """Draw the mean measured loss over the true one, with the interval of the mean."""
    ends = 100 * LOSS_EDGES[[0, -1]]
    ax.plot(ends, ends, color=QUIET, lw=0.8)
    known = [(row, band) for row in rows if np.isfinite((band := loss_band(row.trials, repeats, seed)).y).any()]
    for place, (row, band) in enumerate(known):
        color, line, marker = STYLES[place % len(STYLES)]
        x = 100 * band.x + 0.5 * (place - len(known) / 2)
        ax.vlines(x, 100 * band.low, 100 * band.high, color=color, lw=1.6)
        ax.plot(x, 100 * band.y, color=color, linestyle=line, marker=marker, ms=5, lw=1.2, label=row.name)
    ax.set(xlabel="true height loss, %", ylabel="measured height loss, mean, %")
    ax.set_title("Height loss, measured against true", fontsize=10, loc="left")
    _finish(ax, bool(known))


def _finish(ax: Axes, known: bool) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e3e6e8", lw=0.6)
    if known:
        ax.legend(fontsize=8, frameon=False)
    else:
        ax.text(0.5, 0.5, "not known here", transform=ax.transAxes, ha="center", color=QUIET)
