"""The tables of `vfq evaluate methods` for the terminal (rich), and the figures of the rows as a picture (matplotlib).

All numbers come from `evaluation/`. "-" stands for a figure that a row does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text

from ..evaluation.coverage import Cell
from ..evaluation.expert_rules import BLOCK, ExpertBlock
from ..evaluation.methods import Block, Comparison, Row
from ..evaluation.metrics import Estimates, Key
from .evaluation_terminal import problem_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Column = tuple[str, Key, float, int]  # heading, key, factor, decimals

FINDING: tuple[Column, ...] = (
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
GRADING: tuple[Column, ...] = (
    ("AUC vertebra", ("auc", "vertebra"), 1, 3),
    ("AUC patient", ("auc", "patient"), 1, 3),
    ("sens.@.9 vertebra", ("sensitivity", "vertebra"), 1, 2),
    ("sens.@.9 patient", ("sensitivity", "patient"), 1, 2),
    ("accuracy", ("accuracy",), 1, 3),
    ("macro F1", ("macro_f1",), 1, 3),
    ("kappa", ("kappa",), 1, 3),
    ("crushes found", ("crushes",), 1, 2),
    ("wedged, called normal", ("physiologic",), 1, 2),
    ("graded", ("graded",), 1, 3),
)
LOSS: tuple[Column, ...] = (
    ("AUC vertebra", ("by_loss", "auc", "vertebra"), 1, 3),
    ("AUC patient", ("by_loss", "auc", "patient"), 1, 3),
    ("sens.@.9 vertebra", ("by_loss", "sensitivity", "vertebra"), 1, 2),
    ("accuracy", ("by_loss", "accuracy"), 1, 3),
    ("macro F1", ("by_loss", "macro_f1"), 1, 3),
    ("kappa", ("by_loss", "kappa"), 1, 3),
    ("loss of fractured, bias, %", ("loss", "fractured", "bias", "all"), 100, 1),
    ("error, %", ("loss", "fractured", "error", "all"), 100, 1),
    ("loss of intact, bias, %", ("loss", "intact", "bias", "all"), 100, 1),
    ("error, %", ("loss", "intact", "error", "all"), 100, 1),
)
EXPERTS: tuple[Column, ...] = (
    ("share mild+", ("share", "mild"), 1, 3),
    ("kappa mild+", ("kappa", "mild"), 1, 2),
    ("same share, more than by G", ("more_than_by_g", "kappa_same_share", "mild"), 1, 2),
    ("share moderate+", ("share", "moderate"), 1, 3),
    ("kappa moderate+", ("kappa", "moderate"), 1, 2),
    ("same share, more than by G", ("more_than_by_g", "kappa_same_share", "moderate"), 1, 2),
    ("kappa of grades", ("kappa", "grades"), 1, 2),
    ("r of scores", ("correlation",), 1, 2),
    ("specificity mild+", ("specificity", "mild"), 1, 3),
    ("sensitivity mild+", ("sensitivity", "mild"), 1, 3),
    ("AUC", ("auc",), 1, 3),
)
GROUPS: tuple[tuple[str, tuple[Column, ...]], ...] = (
    ("finding and measuring", FINDING),
    ("grading: truth G of the true points", GRADING),
    ("grading: truth the lost height", LOSS),
)
VALUE, LINE = "#0072b2", "#56616b"  # legible to the colour-blind, and in grey
PANELS: tuple[Column, ...] = (
    FINDING[0],
    FINDING[5],
    FINDING[6],
    FINDING[7],
    FINDING[8],
    ("AUC, G <= 0.74", *GRADING[0][1:]),
    ("kappa, truth G", *GRADING[6][1:]),
    ("AUC, lost height", *LOSS[0][1:]),
    ("kappa, lost height", *LOSS[5][1:]),
    ("wedged, called normal", *GRADING[8][1:]),
)
EXPERT_PANELS: tuple[Column, ...] = (EXPERTS[1], EXPERTS[4], EXPERTS[6], EXPERTS[8], EXPERTS[9])
ACROSS = 5  # panels side by side


def methods_tables(comparison: Comparison) -> Group:
    """Return the tables of each block, of the experts, and of who measures what."""
    parts: list[Table | Text] = [part for block in comparison.blocks for part in _block(block)]
    if comparison.experts:
        parts += _experts(comparison.experts)
    if comparison.coverage:
        parts.append(coverage_table(comparison.coverage))
    parts += problem_texts(comparison.problems, "methods.json")
    return Group(*parts)


def coverage_table(covered: dict[str, dict[str, Cell]]) -> Table:
    """Return the table of who measures what: numbers of vertebrae, or the code of why there are none."""
    systems = list(next(iter(covered.values())))
    table = Table(RichColumn("vertebrae measured", no_wrap=True), *systems)
    for scan, cells in covered.items():
        table.add_row(scan, *(cell_text(cells[system]) for system in systems))
    return table


def cell_text(cell: Cell) -> str:
    """Write a cell: "14", "14; 2 no_neighbour", or the code of why nothing was measured."""
    if cell.status != "ok":
        return cell.status
    return "; ".join([str(cell.vertebrae), *(f"{count} {code}" for code, count in cell.refused.items())])


def _block(block: Block) -> Iterator[Table | Text]:
    yield Text(f"{block.name}: {block.patients} patients")
    for title, columns in GROUPS:
        rows = [(_named(row, block.patients), block.estimates[row.name]) for row in block.rows]
        yield from _table(title, columns, rows)
    for row in block.rows:
        if row.missing:
            yield Text(f"{row.name} is left out ({row.missing}): {row.why}", style="dim")


def _experts(block: ExpertBlock) -> Iterator[Table | Text]:
    yield Text(f"{BLOCK}: {block.patients} patients, {block.readings} readings of a vertebra")
    yield from _table("agreement of two experts, and what they call", EXPERTS, list(block.estimates.items()))


def _named(row: Row, patients: int) -> str:
    """Return the row's name, with the number of patients where it is not that of the block."""
    return row.name if len(row.trials) in (0, patients) else f"{row.name} ({len(row.trials)} patients)"


def _table(title: str, columns: Sequence[Column], rows: Sequence[tuple[str, Estimates]]) -> Iterator[Table]:
    """Yield the table, with the rows that have one of its figures; nothing if none has."""
    table = Table(RichColumn(title, no_wrap=True), *(name for name, _, _, _ in columns))
    for name, estimates in rows:
        cells = [_cell(estimates, *column[1:]) for column in columns]
        if any(cell != "-" for cell in cells):
            table.add_row(name, *cells)
    if table.row_count:
        yield table


def _cell(estimates: Estimates, key: Key, factor: float, decimals: int) -> str:
    if key not in estimates or not np.isfinite(estimates[key].value):
        return "-"
    e = estimates[key]
    text = f"{factor * e.value:.{decimals}f}"
    if not np.isfinite(e.low):
        return text
    return f"{text} [{factor * e.low:.{decimals}f}, {factor * e.high:.{decimals}f}]"


def write_methods_figure(comparison: Comparison, path: Path) -> None:
    """Draw the main figures of each row with their intervals, one band of panels for each block, into a PNG file.

    Raises OSError if it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bands = [panel for block in comparison.blocks for panel in _bands(block.name, PANELS, block.estimates)]
    if comparison.experts:
        bands += _bands(BLOCK, EXPERT_PANELS, comparison.experts.estimates)
    tall = [max(1.3, 0.24 * len(band[0][2]) + 0.6) for band in bands] or [1.0]
    figure = Figure(figsize=(17, sum(tall)), layout="constrained")
    FigureCanvasAgg(figure)
    lines = figure.subplots(max(len(bands), 1), ACROSS, squeeze=False, gridspec_kw={"height_ratios": tall})
    for line in lines:
        for ax in line:
            ax.set_visible(False)
    for band, line in zip(bands, lines, strict=False):
        for place, (panel, ax) in enumerate(zip(band, line, strict=False)):
            _draw_panel(ax, *panel, named=place == 0)
    figure.savefig(path, dpi=110, format="png")


def _bands(
    block: str, columns: Sequence[Column], estimates: dict[str, Estimates]
) -> Iterator[list[tuple[str, Column, list[str], dict[str, Estimates]]]]:
    """Yield rows of panels: all panels of one have the same rows of the table, those with one of the figures."""
    for first in range(0, len(columns), ACROSS):
        some = [c for c in columns[first : first + ACROSS] if any(_known(e, c) for e in estimates.values())]
        names = [name for name, e in estimates.items() if any(_known(e, c) for c in some)]
        if some and names:
            yield [(block, column, names, estimates) for column in some]


def _known(estimates: Estimates, column: Column) -> bool:
    return column[1] in estimates and bool(np.isfinite(estimates[column[1]].value))


def _draw_panel(
    ax: Axes, block: str, column: Column, names: list[str], estimates: dict[str, Estimates], named: bool
) -> None:
    title, key, factor, _ = column
    ax.set_visible(True)
    for place, name in enumerate(names):
        if not _known(estimates[name], column):
            ax.text(0.02, place, "-", transform=ax.get_yaxis_transform(), va="center", color=LINE)
            continue
        e = estimates[name][key]
        ax.plot([factor * e.low, factor * e.high], [place, place], color=LINE, lw=1.6)
        ax.plot(factor * e.value, place, "o", ms=5, color=VALUE)
    ax.set_yticks(range(len(names)), names if named else [""] * len(names), fontsize=9)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_title(title, fontsize=10, loc="left")
    if named:
        ax.text(-0.03, 1.02, block, transform=ax.transAxes, ha="right", va="bottom", fontsize=10, fontweight="bold")
    ax.tick_params(axis="x", labelsize=9)
    ax.grid(axis="y", color="#e3e6e8", lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)
