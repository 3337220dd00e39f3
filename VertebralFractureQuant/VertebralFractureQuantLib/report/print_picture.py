"""The picture of a report: the straightened image with key points and labels, on white ground for print.

Colours of grades stand beside dark text, because yellow letters cannot be read on paper. Lengths around the panel are
in inches, as in `overview`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..spine.genant import GRADES, deciding_ratio, ratio_text
from ..spine.record import SpineAnalysis, Vertebra
from .markups import GRADE_COLORS
from .overview import REJECTED, WINDOW_HU, draw_orientation, draw_scale_bar, draw_vertebra, spread
from .panels import PIXEL_MM, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 220
HEIGHT, MOST_WIDE, LEAST_HIGH = 9.6, 1.9, 3.0
HALF_WIDTH_MM = 34.0
GAP, LINE, LETTER = 0.12, 0.19, 0.072  # the last is the width of a letter of a label
INK, LEADER = "#16191d", "#6b737c"


def print_picture(analysis: SpineAnalysis, panel: Panel, names: Sequence[str], decimal: str = ".") -> bytes:
    """Return the picture as PNG, at most 9.6 inches high; `names` are those of the vertebrae.

    decimal : the decimal sign of the report's language.
    """
    buffer = io.BytesIO()
    draw_print(analysis, panel, names, decimal).savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def draw_print(analysis: SpineAnalysis, panel: Panel, names: Sequence[str], decimal: str = ".") -> Figure:
    """Draw the panel, and right of it the name, ratio and grade of each vertebra, as a matplotlib figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panel = _narrow(panel)
    scale = min(HEIGHT / panel.height, MOST_WIDE / panel.width)
    width, height = scale * panel.width, max(scale * panel.height, LINE * len(analysis.vertebrae), LEAST_HIGH)
    labels = [f"{name}  {_verdict(v, decimal)}" for name, v in zip(names, analysis.vertebrae, strict=True)]
    total = width + GAP + 0.2 + LETTER * max(map(len, labels), default=0)
    figure = Figure(figsize=(total, height), facecolor="white")
    FigureCanvasAgg(figure)
    panel_height = scale * panel.height
    axes = figure.add_axes((0, 1 - panel_height / height, width / total, panel_height / height), facecolor="black")
    _draw_panel(axes, panel, analysis, scale)
    sheet = figure.add_axes((0, 0, 1, 1), facecolor="none", zorder=2)
    sheet.set(xlim=(0, total), ylim=(0, height))
    sheet.axis("off")
    back = panel.points[:, 2].mean(axis=1)
    x = scale * (panel.across[-1] + PIXEL_MM / 2 - back[:, 0])
    y = height - scale * (panel.up[0] + PIXEL_MM / 2 - back[:, 1])
    _label(sheet, analysis, labels, width, np.stack([x, y]), spread(y, LINE, LINE / 2, height - LINE / 2))
    return figure


def _narrow(panel: Panel) -> Panel:
    """Leave out what lies far in front of and behind the spine: a report has little room."""
    shown = np.abs(panel.across) <= max(HALF_WIDTH_MM, np.abs(panel.points[..., 0]).max(initial=0) + 2)
    return replace(panel, image=panel.image[:, shown], across=panel.across[shown])


def _draw_panel(axes: Axes, panel: Panel, analysis: SpineAnalysis, scale: float) -> None:
    half = PIXEL_MM / 2
    extent = (panel.across[0] - half, panel.across[-1] + half, panel.up[-1] - half, panel.up[0] + half)
    low, high = WINDOW_HU
    axes.imshow(panel.image, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bicubic", aspect="auto")
    axes.set(xlim=(extent[1], extent[0]), ylim=(extent[2], extent[3]), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for vertebra, points in zip(analysis.vertebrae, panel.points, strict=True):
        draw_vertebra(axes, points, _color(vertebra), vertebra.review == "rejected")
    draw_orientation(axes)
    draw_scale_bar(axes, panel, scale)


def _label(
    sheet: Axes, analysis: SpineAnalysis, labels: Sequence[str], edge: float, backs: np.ndarray, heights: np.ndarray
) -> None:
    """Write each vertebra's label at its height right of the panel's edge, with a line from its back `(2, n)`."""
    for label, vertebra, (x, y), at in zip(labels, analysis.vertebrae, backs.T, heights, strict=True):
        sheet.plot([x + 0.04, edge + 0.01], [y, at], color=_color(vertebra), lw=0.7)
        sheet.plot([edge + 0.01, edge + GAP], [at, at], color=LEADER, lw=0.6)
        sheet.plot([edge + GAP + 0.06], [at], "s", ms=5.5, mfc=_color(vertebra), mec=INK, mew=0.5)
        fractured = vertebra.counts and vertebra.called != "normal"
        style: dict[str, Any] = {"size": 8, "color": INK, "va": "center_baseline"}
        sheet.text(edge + GAP + 0.15, at, label, parse_math=False, weight="bold" if fractured else "normal", **style)


def _color(vertebra: Vertebra) -> tuple[float, float, float]:
    return GRADE_COLORS[vertebra.called] if vertebra.counts else REJECTED


def _verdict(vertebra: Vertebra, decimal: str) -> str:
    """ "0.71 (2)": G, and the grade after Genant of a fracture; without G if the neighbours gave the grade."""
    if not vertebra.counts:
        return "\N{EN DASH}"
    m = vertebra.measurement
    ratio = ratio_text(m.genant_ratio).replace(".", decimal) if deciding_ratio(m) == m.genant_ratio else ""
    grade = f"({GRADES.index(vertebra.called)})" if vertebra.called != "normal" else ""
    return "  ".join(filter(None, (ratio, grade)))
