"""Repeatability for people: tables for the terminal, `repeatability.csv`, and Bland-Altman plots of heights and G."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..evaluation.metrics import Estimate
from ..evaluation.repeatability import MEASURES, Repeatability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = (
    "patient", "prior_case", "current_case", "vertebra", "verdict",
    *(f"{h}_{what}_mm" for h in ("ha", "hm", "hp") for what in ("prior", "current", "error")),
    "prior_g", "current_g", "g_error",
)  # fmt: skip
TITLES = {
    "anterior": "anterior height mm",
    "middle": "middle height mm",
    "posterior": "posterior height mm",
    "heights": "all heights mm",
    "genant_ratio": "G",
}
COLORS = ("#2a6fb0", "#3aa17e", "#e07b1a")
SIZE_INCHES, DPI = (11.0, 4.5), 150


def repeatability_tables(found: Repeatability) -> Group:
    """Return a table with one row for each measure, and what was left out."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("measure")
    for name in ("SD", "95 %", "bias", "limits of agreement", "smallest detectable change", "error / expected"):
        table.add_column(name, justify="right", no_wrap=True)
    for measure in MEASURES:
        e = {name: found.estimates[measure, name] for (m, name) in found.estimates if m == measure}
        digits = 4 if measure == "genant_ratio" else 2
        table.add_row(
            TITLES[measure],
            f"{e['sd'].value:.{digits}f}",
            _interval(e["sd"], digits),
            f"{e['bias'].value:+.{digits}f}",
            f"{e['limit_low'].value:+.{digits}f} to {e['limit_high'].value:+.{digits}f}",
            f"{e['smallest_detectable_change'].value:.{digits}f}",
            f"{e['error_ratio'].value:.2f}",
        )
    pairs = len({(r.patient, r.prior, r.current) for r in found.repeats})
    heading = f"{found.patients} patients, {pairs} pairs of examinations, {len(found.repeats)} vertebrae"
    parts: list[Text | Table] = [Text(heading), Text(""), table, Text("")]
    if found.changed:
        names = ", ".join(f"{r.patient} {r.name}: {r.change.verdict}" for r in found.changed[:10])
        parts.append(Text(f"Called changed: {len(found.changed)} ({names})", style="yellow"))
    parts += [Text(f"{patient}: {code}: {message}", style="yellow") for patient, code, message in found.problems]
    return Group(*parts)


def _interval(e: Estimate, digits: int) -> str:
    known = np.isfinite([e.low, e.high]).all()
    return f"{e.low:.{digits}f} to {e.high:.{digits}f}" if known else "-"


def write_repeatability_rows(found: Repeatability, path: Path) -> None:
    """Write a row for each vertebra of each pair. Raises OSError if it cannot be written."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for r in found.repeats:
            (before, now), errors = r.change.heights_mm or ((), ()), r.change.error_mm or ()
            heights = [x for three in zip(before, now, errors, strict=True) for x in three]
            numbers = [f"{x:.3f}" for x in heights] + [
                f"{x:.5f}" for x in (*(r.change.ratios or ()), r.change.ratio_error)
            ]
            writer.writerow([r.patient, r.prior, r.current, r.name, r.change.verdict, *numbers])


def write_repeatability_figure(found: Repeatability, path: Path) -> None:
    """Draw Bland-Altman plots of the heights and of G into a PNG file. Raises OSError if it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=SIZE_INCHES, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    heights = np.array([r.change.heights_mm for r in found.repeats])  # (n, 2, 3)
    for k, name in enumerate(MEASURES[:3]):
        _scatter(left, heights[:, 0, k], heights[:, 1, k], COLORS[k], name)
    left.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")
    ratios = np.array([r.change.ratios for r in found.repeats])
    _scatter(right, ratios[:, 0], ratios[:, 1], COLORS[0], "G")
    for axes, measure, label in ((left, "heights", "height mm"), (right, "genant_ratio", "G")):
        low, high = (found.estimates[measure, name].value for name in ("limit_low", "limit_high"))
        for limit in (low, high):
            axes.axhline(limit, color="black", lw=0.8, ls="--")
        axes.axhline(found.estimates[measure, "bias"].value, color="black", lw=1)
        axes.set(xlabel=f"mean of both, {label}", ylabel=f"second - first, {label}")
        axes.set_title(f"95 % limits {low:+.3f} to {high:+.3f}")
        axes.margins(y=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("Research use only - not for diagnosis", size=8, color="#7a8791")
    figure.savefig(path, dpi=DPI)


def _scatter(axes: Axes, before: np.ndarray, now: np.ndarray, color: str, name: str) -> None:
    axes.scatter((before + now) / 2, now - before, 16, color, alpha=0.7, lw=0, label=name)
