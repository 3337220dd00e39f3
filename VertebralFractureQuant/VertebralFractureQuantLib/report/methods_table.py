"""The table of `vfq evaluate methods` for the terminal (rich) and as a figure (matplotlib).

All numbers come from `evaluation/`. "-" stands for a figure that a row does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..evaluation.methods import Block, Comparison, Row
from ..evaluation.metrics import Estimates, Key

# heading, key, factor, decimals
FINDING: tuple[tuple[str, Key, float, int], ...] = (
    ("recall", ("recall",), 1, 3),
    ("precision", ("precision",), 1, 3),
    ("centre mm", ("centre_mm",), 1, 2),
    ("off > 4 mm, %", ("outliers", "4"), 100, 1),
    ("> 10 mm, %", ("outliers", "10"), 100, 1),
    ("> 20 mm, %", ("outliers", "20"), 100, 1),
    ("points mm", ("point_mm",), 1, 2),
    ("heights mm", ("height_mm",), 1, 2),
    ("|dG|", ("ratio",), 1, 3),
    ("s a scan", ("seconds",), 1, 1),
)
GRADING: tuple[tuple[str, Key, float, int], ...] = (
    ("AUC vertebra", ("auc", "vertebra"), 1, 3),
    ("AUC patient", ("auc", "patient"), 1, 3),
    ("sens.@.9 vertebra", ("sensitivity", "vertebra"), 1, 2),
    ("sens.@.9 patient", ("sensitivity", "patient"), 1, 2),
    ("accuracy", ("accuracy",), 1, 3),
    ("macro F1", ("macro_f1",), 1, 3),
    ("kappa", ("kappa",), 1, 3),
    ("crushes found", ("crushes",), 1, 2),
    ("wedged, called normal", ("physiologic",), 1, 2),
)
OF_METHODS = {("point_mm",), ("centre_mm",), ("recall",), ("precision",), ("seconds",)}  # not of rules that read masks
OF_FINDING = {key for _, key, _, _ in FINDING}


def methods_tables(comparison: Comparison) -> Group:
    """Return two tables for each block: how vertebrae are found and measured, and how they are graded."""
    return Group(*(part for block in comparison.blocks for part in _block(block)))


def _block(block: Block) -> Iterator[Table | Text]:
    count = max((len(row.trials) for row in block.rows), default=0)
    yield Text(f"{block.name}: {count} patients")
    for title, columns in (("finding and measuring", FINDING), ("grading (G <= 0.74)", GRADING)):
        table = Table(title, *(name for name, _, _, _ in columns), title_justify="left")
        for row in block.rows:
            cells = [_cell(row, block.estimates[row.name], *column[1:]) for column in columns]
            if any(cell != "-" for cell in cells):
                table.add_row(row.name, *cells)
        yield table
    for row in block.rows:
        if row.missing:
            yield Text(f"{row.name}: {row.missing}", style="dim")


def _cell(row: Row, estimates: Estimates, key: Key, factor: float, decimals: int) -> str:
    if key not in estimates or not shown(row, key) or not np.isfinite(estimates[key].value):
        return "-"
    e = estimates[key]
    text = f"{factor * e.value:.{decimals}f}"
    if not np.isfinite(e.low):
        return text
    return f"{text} [{factor * e.low:.{decimals}f}, {factor * e.high:.{decimals}f}]"


def shown(row: Row, key: Key) -> bool:
    """True if a figure says something about a row.

    Rules that read masks set no key points; rules of grading find nothing.
    """
    if ", grade by" in row.name:
        return key not in OF_FINDING
    return row.points or not (key in OF_METHODS or key[0] == "outliers")


def write_methods_figure(comparison: Comparison, path: Path) -> None:
    """Draw |dG|, error of heights, recall and macro F1 of each row with intervals, into a PNG file.

    Raises OSError if it cannot be written.
    """
    from matplotlib.figure import Figure

    panels = (FINDING[0], FINDING[7], FINDING[8], GRADING[5])
    figure = Figure(figsize=(13, 3.2 * len(comparison.blocks)), layout="constrained")
    axes = figure.subplots(len(comparison.blocks), len(panels), squeeze=False)
    for block, line in zip(comparison.blocks, axes, strict=True):
        for (title, key, factor, _), ax in zip(panels, line, strict=True):
            rows = [r for r in block.rows if key in block.estimates[r.name] and shown(r, key)]
            known = [(r.name, block.estimates[r.name][key]) for r in rows]
            for place, (_, e) in enumerate(known):
                ax.plot([factor * e.low, factor * e.high], [place, place], color="#7a8791")
                ax.plot(factor * e.value, place, "o", color="#2a6fb0")
            ax.set_yticks(range(len(known)), [name for name, _ in known])
            ax.invert_yaxis()
            ax.set_title(f"{title} ({block.name})", fontsize=9)
            ax.tick_params(labelsize=8)
    figure.savefig(path, dpi=150, format="png")
