"""`comparison.png`: the straightened images of examinations side by side, with lines between the same vertebrae.

All images have one scale, so that a loss of height is seen as it is. They are moved along the spine only, until matched
vertebrae lie as near to each other as they can. Lengths around the panels are in inches, as in `overview`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..followup.change import Change
from ..followup.comparison import Examination
from ..followup.course import Step
from ..spine.record import SpineAnalysis
from .markups import GRADE_COLORS
from .overview import REJECTED, WINDOW_HU, draw_orientation, draw_scale_bar, draw_vertebra, spread
from .panels import PIXEL_MM, Panel, stored_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
HEIGHT, MOST_WIDE, BETWEEN, TOP, EDGE = 9.0, 2.6, 2.3, 0.35, 0.12
LINE = 0.17
CHARACTER = 0.066  # mean width of a character of a case's name
HALF_WIDTH_MM = 34.0
INK, QUIET = "#16191d", "#6b737c"
COLORS = {"unchanged": QUIET, "new fracture": "#c00000", "progressed": "#c00000", "better": "#8a4b00"}


def drawable(examinations: Sequence[Examination]) -> list[int]:
    """Return the indices of the examinations that have a straightened image."""
    return [i for i, e in enumerate(examinations) if e.straightened is not None and e.analysis.vertebrae]


def write_comparison_picture(examinations: Sequence[Examination], steps: Sequence[Step], path: Path) -> None:
    """Draw the examinations that have a straightened image, at least two, into a PNG. OSError if it fails."""
    draw_comparison(examinations, steps).savefig(path, format="png", dpi=DPI, facecolor="white")


def draw_comparison(examinations: Sequence[Examination], steps: Sequence[Step]) -> Figure:
    """Draw the examinations from left to right as a matplotlib figure, each joined to the next one compared with it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = drawable(examinations)
    panels = _aligned([_panel(examinations[i]) for i in shown], shown, steps)
    high, low = max(p.up[0] for p in panels), min(p.up[-1] for p in panels)
    scale = min(HEIGHT / (high - low), MOST_WIDE / panels[0].width)
    width, height = scale * panels[0].width, scale * (high - low)
    total = 2 * EDGE + len(panels) * width + (len(panels) - 1) * BETWEEN
    figure = Figure(figsize=(total, height + TOP + EDGE), facecolor="white")
    FigureCanvasAgg(figure)
    sheet = figure.add_axes((0, 0, 1, 1), facecolor="none", zorder=2)
    sheet.set(xlim=(0, total), ylim=(0, height + TOP + EDGE))
    sheet.axis("off")
    sheet.text(total / 2, 0.02, "Research use only - not for diagnosis", size=6, color=QUIET, ha="center", va="bottom")
    lefts = [EDGE + k * (width + BETWEEN) for k in range(len(panels))]
    for left, panel, i in zip(lefts, panels, shown, strict=True):
        bottom = EDGE + scale * (panel.up[-1] - PIXEL_MM / 2 - low)
        size = (width / total, scale * panel.height / (height + TOP + EDGE))
        axes = figure.add_axes((left / total, bottom / (height + TOP + EDGE), *size), facecolor="black")
        _draw_panel(axes, panel, examinations[i].analysis, scale)
        place = {"ha": "right", "x": left + width} if left == lefts[-1] else {"ha": "left", "x": left}
        name = _short(examinations[i].analysis.case, int((width + BETWEEN / 2) / CHARACTER))
        sheet.text(y=height + EDGE + 0.12, s=name, size=8, color=INK, parse_math=False, **place)
    for k, (i, j) in enumerate(zip(shown, shown[1:], strict=False)):
        step = next((s for s in steps if (s.prior, s.current) == (i, j)), None)
        if step and step.comparison:
            ends = lefts[k] + width, lefts[k + 1]
            rows = [(n, c) for n, c in zip(step.comparison.names, step.comparison.changes, strict=True)]
            _join(sheet, rows, panels[k : k + 2], ends, lambda up: EDGE + scale * (up - low))
    return figure


def _panel(examination: Examination) -> Panel:
    if examination.straightened is None:
        raise ValueError("a picture needs the straightened volume")
    panel = stored_panel(replace(examination.analysis, curve=examination.curve), examination.straightened)
    shown = np.abs(panel.across) <= HALF_WIDTH_MM
    return replace(panel, image=panel.image[:, shown], across=panel.across[shown])


def _aligned(panels: list[Panel], shown: Sequence[int], steps: Sequence[Step]) -> list[Panel]:
    """Move each panel along the spine to the one before it."""
    placed = [panels[0]]
    for panel, i, j in zip(panels[1:], shown, shown[1:], strict=False):
        step = next((s for s in steps if (s.prior, s.current) == (i, j) and s.comparison), None)
        middles = [p.points[..., 1].mean((1, 2)) for p in (placed[-1], panel)]
        if step and step.comparison:
            before, now = np.array(step.comparison.alignment.pairs).T
            move = float(np.median(middles[0][before] - middles[1][now]))
        else:
            move = float(placed[-1].up[0] - panel.up[0])
        placed.append(replace(panel, up=panel.up + move, points=panel.points + (0.0, move)))
    return placed


def _draw_panel(axes: Axes, panel: Panel, analysis: SpineAnalysis, scale: float) -> None:
    half, (low, high) = PIXEL_MM / 2, WINDOW_HU
    extent = (panel.across[0] - half, panel.across[-1] + half, panel.up[-1] - half, panel.up[0] + half)
    axes.imshow(panel.image, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bicubic", aspect="auto")
    axes.set(xlim=(extent[1], extent[0]), ylim=(extent[2], extent[3]), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for vertebra, points in zip(analysis.vertebrae, panel.points, strict=True):
        color = GRADE_COLORS[vertebra.called] if vertebra.counts else REJECTED
        draw_vertebra(axes, points, color, vertebra.review == "rejected")
    draw_orientation(axes)
    draw_scale_bar(axes, panel, scale)


def _join(
    sheet: Axes,
    rows: Sequence[tuple[str, Change]],
    panels: Sequence[Panel],
    ends: tuple[float, float],
    to_sheet: Callable[[float], float],
) -> None:
    """Draw a line from each vertebra to itself in the next panel, with its name and what has changed on it."""
    pairs = [(n, c) for n, c in rows if c.prior is not None and c.current is not None]
    middles = [p.points[..., 1].mean((1, 2)) for p in panels]
    heights = np.array([[to_sheet(middles[0][c.prior]), to_sheet(middles[1][c.current])] for _, c in pairs])
    places = spread(heights.mean(1), LINE, 0.0, sheet.get_ylim()[1])
    for (name, change), (before, now), at in zip(pairs, heights, places, strict=True):
        color = COLORS.get(change.verdict, QUIET)
        xs = [ends[0], ends[0] + 0.2, ends[1] - 0.2, ends[1]]
        sheet.plot(xs, [before, at, at, now], color=color, lw=0.8)
        style: dict[str, Any] = {"size": 7.5, "ha": "center", "va": "center", "parse_math": False, "color": color}
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        weight = "normal" if change.verdict in ("unchanged", "not comparable") else "bold"
        sheet.text(sum(ends) / 2, at, f"{name}  {_told(change)}", bbox=box, weight=weight, **style)


def _told(change: Change) -> str:
    """Return "new fracture, -6.2 mm": the verdict, and the largest loss of height."""
    if change.difference_mm is None:
        return change.verdict
    largest = max(change.difference_mm, key=abs)
    number = f"{largest:+.1f}" if abs(largest) >= 0.05 else "0.0"  # "-0.0" is no loss
    return f"{change.verdict}, {number} mm".replace("-", "\N{MINUS SIGN}")


def _short(case: str, most: int) -> str:
    """Return a name of at most `most` characters; its middle is left out, as names of one patient differ at the end."""
    return case if len(case) <= most else f"{case[: most // 2 - 1]}…{case[-(most - most // 2) :]}"
