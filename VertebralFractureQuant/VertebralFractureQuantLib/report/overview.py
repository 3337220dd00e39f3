"""`overview.png`, the overview image: two sagittal panels side by side with key points, ratios and grades.

Both panels have true proportions and the same scale. Panels are in mm [A, S]; the sheet around them, with labels and
leader lines, is in inches from its lower left corner. What the panels show is left to `panels`.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..imaging.ct import CTVolume
from ..spine.curve import fit_curve
from ..spine.genant import MILD, MODERATE, SEVERE, deciding_text
from ..spine.keypoints import outline
from ..spine.quality import place
from ..spine.record import SpineAnalysis, Vertebra, not_counted_text, physiologic_text, shown_names, worst_text
from .markups import GRADE_COLORS
from .panels import PIXEL_MM, Panel, patient_panel, straightened_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

WINDOW_HU = (-250.0, 950.0)

DPI = 200
TOP, BOTTOM, SIDE = 1.12, 0.78, 0.35
NAME, LETTER = 0.36, 0.066  # widths of a vertebra's name, and of each letter after it
LABELS, SHORT_LABELS = 2.2, 1.2  # least widths of the columns of labels
LINE = 0.165  # between the lines of labels
MOST_WIDE = 9.5
INK, QUIET, GROUND = "#e8e8e8", "#8c9299", "#0b0d10"
REJECTED = (0.5, 0.5, 0.5)
_IMPORTING = threading.Lock()
# Each letter comes from the first font that has it: matplotlib's own, then fonts of Linux, Windows and macOS.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Nirmala UI",
    "Leelawadee UI",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
)


def import_matplotlib() -> None:
    """Import what draws, which takes half a second the first time; another thread can do it before it is needed."""
    with _IMPORTING:
        import matplotlib.backends.backend_agg
        import matplotlib.figure
        import matplotlib.patheffects  # noqa: F401


def write_overview(analysis: SpineAnalysis, ct: CTVolume, path: Path) -> None:
    """Draw `analysis` of `ct` into a PNG file. Raises OSError if it cannot be written."""
    from PIL import Image

    # Missing fonts are no concern of the user; a letter that no font has becomes a box.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure = draw_overview(analysis, ct)
        figure.set_dpi(DPI)
        canvas: Any = figure.canvas
        canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # Level 2 takes two thirds of the time of level 4, for a file that is 3 % larger.
    picture.save(path, "PNG", compress_level=2, dpi=(DPI, DPI))


def draw_overview(analysis: SpineAnalysis, ct: CTVolume) -> Figure:
    """Draw the overview image as a matplotlib figure, without a display or global state.

    Raises ValueError if `analysis` has no curve.
    """
    import_matplotlib()
    curve = fit_curve(analysis.curve)
    panels = straightened_panel(analysis, ct, curve), patient_panel(analysis, ct, curve)
    return _Sheet(panels, analysis).draw()


def spread(positions: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Move positions `(n,)` as little as possible (least squares) so that neighbours are at least `gap` apart.

    The order is kept, and all positions lie within [low, high]. If there is too little room, the gap shrinks evenly.
    """
    positions = np.asarray(positions, float)
    if len(positions) == 0:
        return positions
    gap = min(gap, (high - low) / max(len(positions) - 1, 1))
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(positions))
    moved = np.clip(_isotonic(positions[order] - steps), low, high - steps[-1]) + steps
    result = np.empty_like(moved)
    result[order] = moved
    return result


def _isotonic(values: np.ndarray) -> np.ndarray:
    """The nearest non-decreasing sequence (least squares): neighbours in the wrong order are replaced by their mean."""
    blocks: list[list[float]] = []  # [mean, count]
    for value in values:
        blocks.append([float(value), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, count = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * count) / (before[1] + count)
            before[1] += count
    return np.concatenate([np.full(int(count), mean) for mean, count in blocks])


def _pixels(hounsfield: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return `(height, width, 4)` uint8 RGBA of an image in HU: windowed, and enlarged bilinearly."""
    from PIL import Image

    low, high = WINDOW_HU
    gray = np.rint(np.clip((hounsfield - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)
    resized = Image.fromarray(gray).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.convert("RGBA"))


def _show(axes: Axes, hounsfield: np.ndarray) -> None:
    """Fill the axes with an image in HU, posterior column first; it is shown with anterior on the left.

    matplotlib's own images take many times the time: they are resampled and coloured in double precision.
    """
    from matplotlib.artist import Artist

    class Pixels(Artist):
        """An image that fills its axes."""

        def draw(self, renderer: Any) -> None:
            """See matplotlib; the renderer wants the lowest row first."""
            left, bottom, right, top = np.rint(axes.bbox.extents).astype(int)
            pixels = _pixels(hounsfield, max(1, right - left), max(1, top - bottom))
            renderer.draw_image(renderer.new_gc(), left, bottom, np.ascontiguousarray(pixels[::-1, ::-1]))

    axes.add_artist(Pixels())


def _color(vertebra: Vertebra) -> tuple[float, float, float]:
    return GRADE_COLORS[vertebra.measurement.grade] if vertebra.counts else REJECTED


def _verdict(vertebra: Vertebra, detailed: bool) -> str:
    """ "0.71 moderate wedge ~ !": the ratio; if `detailed`, also grade and shape of a fracture. "!" is a doubt."""
    m = vertebra.measurement
    if not vertebra.counts:
        return "rejected" if vertebra.review == "rejected" else "not counted !"
    if not detailed:
        return deciding_text(m) + (" !" if vertebra.quality else "")
    grade = () if m.grade == "normal" else (m.grade, m.shape or "")
    usual = "(physiologic)" if vertebra.physiologic else ""
    doubt = "!" if vertebra.quality else ""
    return " ".join(filter(None, (deciding_text(m), *grade, usual, "~" if m.borderline else "", doubt)))


def _column_width(texts: Sequence[str]) -> float:
    """The width in inches that the labels `texts` need right of their panel."""
    return 0.2 + NAME + LETTER * max(map(len, texts), default=0)


class _Sheet:
    """One figure: the places of the panels on it (inches), and everything drawn on and around them."""

    def __init__(self, panels: Sequence[Panel], analysis: SpineAnalysis):
        self.panels = panels
        self.analysis = analysis
        tallest = max(p.height for p in panels)
        self.picture_height = float(np.clip(0.0225 * tallest, 6.5, 11.0))
        self.scale = min(self.picture_height / tallest, MOST_WIDE / sum(p.width for p in panels))
        # Short, wide panels limit the scale, but the labels still need their height.
        self.picture_height = max(self.scale * tallest, LINE * (len(analysis.vertebrae) + 1))
        self.verdicts = tuple([_verdict(v, detailed) for v in analysis.vertebrae] for detailed in (True, False))
        long, short = map(_column_width, self.verdicts)
        self.lefts = (SIDE, SIDE + self.scale * panels[0].width + max(LABELS, long))
        self.width = max(self.lefts[1] + self.scale * panels[1].width + max(SHORT_LABELS, short), 7.0)
        self.height = TOP + self.picture_height + BOTTOM

    def draw(self) -> Figure:
        """Draw all panels on one sheet."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width, self.height), facecolor=GROUND)
        FigureCanvasAgg(figure)
        for panel, left in zip(self.panels, self.lefts, strict=True):
            self._draw_panel(figure, panel, left)
        self.axes = figure.add_axes((0, 0, 1, 1), facecolor="none", zorder=2)
        self.axes.set(xlim=(0, self.width), ylim=(0, self.height))
        self.axes.axis("off")
        for panel, left, verdicts in zip(self.panels, self.lefts, self.verdicts, strict=True):
            self._label_vertebrae(panel, left, verdicts)
        self._write_heading()
        self._write_footer()
        return figure

    def _draw_panel(self, figure: Figure, panel: Panel, left: float) -> None:
        width, height = self.scale * panel.width, self.scale * panel.height
        bottom = self._top() - height
        rectangle = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        axes = figure.add_axes(rectangle, facecolor="black")
        half = PIXEL_MM / 2
        extent = (panel.across[0] - half, panel.across[-1] + half, panel.up[-1] - half, panel.up[0] + half)
        _show(axes, panel.image)
        axes.set(xlim=(extent[1], extent[0]), ylim=(extent[2], extent[3]), xticks=[], yticks=[])
        axes.spines[:].set_color("#2a2e33")
        for vertebra, points in zip(self.analysis.vertebrae, panel.points, strict=True):
            draw_vertebra(axes, points, _color(vertebra), vertebra.review == "rejected")
        draw_orientation(axes)
        draw_scale_bar(axes, panel, self.scale)

    def _label_vertebrae(self, panel: Panel, left: float, verdicts: Sequence[str]) -> None:
        """Write a column of labels right of the panel, each joined to the back of its vertebra by a leader line."""
        edge = left + self.scale * panel.width
        back = panel.points[:, 2].mean(axis=1)
        x = left + self.scale * (panel.across[-1] + PIXEL_MM / 2 - back[:, 0])
        y = self._top() - self.scale * (panel.up[0] + PIXEL_MM / 2 - back[:, 1])
        label_y = spread(y, LINE, self._top() - self.picture_height + LINE / 2, self._top() - LINE / 2)
        names = shown_names(self.analysis.vertebrae)
        for i, (vertebra, name) in enumerate(zip(self.analysis.vertebrae, names, strict=True)):
            color = _color(vertebra)
            leader = [(x[i] + 0.04, y[i]), (edge + 0.02, label_y[i]), (edge + 0.16, label_y[i])]
            _draw_line(self.axes, np.array(leader), color=color, lw=0.6, alpha=0.55, solid_joinstyle="round")
            self._write(edge + 0.2, label_y[i], name, color=color, weight="bold")
            self._write(edge + 0.2 + NAME, label_y[i], verdicts[i], color=color)

    def _write_heading(self) -> None:
        a = self.analysis
        case = self._write(SIDE, self.height - 0.27, a.case, size=13, weight="bold", family=FONTS)
        _shorten(case, self.axes.bbox.width * (1 - 2 * SIDE / self.width))
        self._write(SIDE, self.height - 0.52, _summary(a), size=9.5, color=_patient_color(a))
        doubts = self._write(SIDE, self.height - 0.72, _doubts(a), size=8.5, color=GRADE_COLORS["moderate"])
        _shorten(doubts, self.axes.bbox.width * (1 - 2 * SIDE / self.width))
        for panel, left in zip(self.panels, self.lefts, strict=True):
            self._write(left, self._top() + 0.11, panel.title, size=8.5, color=QUIET)

    def _write_footer(self) -> None:
        x = SIDE
        for grade, meaning in _legend():
            text = f"{grade} {meaning}"
            self.axes.plot([x + 0.05], [0.5], "s", ms=5, color=GRADE_COLORS[grade])
            self._write(x + 0.15, 0.5, text, size=7.5)
            x += 0.32 + 0.062 * len(text)
        self._write(x, 0.5, "~ near a threshold   ? level in doubt   ! measurement in doubt", size=7.5)
        self._write(SIDE, 0.24, "Research use only - not for diagnosis", size=7.5, color=QUIET)
        self._write(self.width - SIDE, 0.24, _provenance(self.analysis), size=7.5, color=QUIET, ha="right")

    def _write(self, x: float, y: float, text: str, **style: Any) -> Text:
        # parse_math off: a dollar sign in the name of a case does not begin a formula.
        options = {"size": 8, "color": INK, "va": "center_baseline", "ha": "left", "parse_math": False, **style}
        return self.axes.text(x, y, text, **options)

    def _top(self) -> float:
        return self.height - TOP


def draw_vertebra(axes: Axes, points: np.ndarray, color: tuple[float, float, float], rejected: bool) -> None:
    """Draw hexagon, three heights and six key points of one vertebra `(3, 2, 2)` [A, S] mm."""
    hexagon = outline(points)
    hexagon = np.concatenate([hexagon, hexagon[:1]])
    heights = np.insert(points, 2, np.nan, axis=1).reshape(-1, 2)  # three separate segments
    _draw_line(axes, hexagon, color=color, lw=0.7, alpha=0.75, ls="--" if rejected else "-")
    _draw_line(axes, heights, color=color, lw=1.1, alpha=0.9)
    marks = {"ms": 2.6, "mfc": color, "mec": "black", "mew": 0.4}
    _draw_line(axes, points.reshape(-1, 2), color=color, ls="none", marker="o", **marks)


def _draw_line(axes: Axes, points: np.ndarray, **style: Any) -> None:
    """Draw a line through points `(n, 2)`. `Axes.plot` takes twice the time, most of it for limits that are set."""
    from matplotlib.lines import Line2D

    axes.add_artist(Line2D(*np.transpose(points), **style))


# S and I are off the middle, where the spine is.
_LETTERS = (("S", 0.97, 0.985), ("I", 0.97, 0.015), ("A", 0.03, 0.5), ("P", 0.97, 0.5))


def draw_orientation(axes: Axes) -> None:
    """Write the letters S, I, A and P at the borders of a sagittal panel."""
    for letter, x, y in _LETTERS:
        ha = "left" if x < 0.5 else "right"
        va = {0.985: "top", 0.015: "bottom"}.get(y, "center")
        axes.text(x, y, letter, transform=axes.transAxes, ha=ha, va=va, size=8, color=INK, path_effects=_halo())


def draw_scale_bar(axes: Axes, panel: Panel, scale: float) -> None:
    """Draw a horizontal bar in the lower left corner, with its length above it."""
    inset = 0.1 / scale
    x = panel.across[-1] - inset
    y = panel.up[-1] + inset
    axes.plot([x, x - panel.bar_mm], [y, y], color=INK, lw=1.6, solid_capstyle="butt", path_effects=_halo())
    text = f"{panel.bar_mm:.0f} mm"
    axes.text(x, y + 0.05 / scale, text, size=7, color=INK, ha="left", va="bottom", path_effects=_halo())


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.0, foreground="black")]


def _summary(analysis: SpineAnalysis) -> str:
    if not analysis.graded:
        return not_counted_text(analysis) or "no vertebra assessed"
    worst, left_out = worst_text(analysis), physiologic_text(analysis)
    count = len(analysis.graded)
    borderline = sum(v.measurement.borderline for v in analysis.graded)
    return "   ·   ".join(
        (
            *([f"worst {worst}"] if worst else []),
            *filter(None, (left_out, not_counted_text(analysis))),
            f"SDI {analysis.spinal_deformity_index}",
            f"{count} {'vertebra' if count == 1 else 'vertebrae'}, {borderline} near a threshold (~)",
        )
    )


def _doubts(analysis: SpineAnalysis) -> str:
    """ "! curve_off_bone T7 to T9, thick_slices": the reasons to doubt the study and their places."""
    told = [f"{flag.code} {place(flag.where)}".strip() for flag in analysis.quality]
    return f"! {', '.join(told)}" if told else ""


def _patient_color(analysis: SpineAnalysis) -> Any:
    grade = analysis.patient_grade
    return INK if grade is None else GRADE_COLORS[grade]


def _legend() -> tuple[tuple[str, str], ...]:
    return (
        ("normal", f"G > {MILD:.2f}"),
        ("mild", f"\N{LESS-THAN OR EQUAL TO} {MILD:.2f}"),
        ("moderate", f"\N{LESS-THAN OR EQUAL TO} {MODERATE:.2f}"),
        ("severe", f"\N{LESS-THAN OR EQUAL TO} {SEVERE:.2f}"),
    )


def _provenance(analysis: SpineAnalysis) -> str:
    return "  ".join((*(f"{m.role} {m.sha256[:8]}" for m in analysis.models), f"vfq {__version__}"))


def _shorten(text: Text, width: float) -> None:
    """Shorten `text` until it is no wider than `width` pixels of the figure."""
    whole = text.get_text()
    for length in range(len(whole) - 1, 0, -1):
        if text.get_window_extent().width <= width:
            break
        text.set_text(whole[:length] + "...")
