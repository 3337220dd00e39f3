"""`evaluation.png`: four panels that sum up an evaluation, drawn without a display or global state.

Lengths are mm; G is the Genant ratio. All numbers come from `evaluation/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.experts import PUBLISHED_ROW, SEVERITY_KEYS, Agreement, AnnotationsEvaluation, LevelStatistics
from ..evaluation.metrics import SPECIFICITY, Estimates, bland_altman, roc
from ..evaluation.predictions import Evaluation
from ..evaluation.scans import Pairs, Scan, pool, worst_ratios
from ..evaluation.severity import TASKS, reported_confusion, severity_labels
from ..spine.genant import GRADES, MILD, MODERATE, SEVERE, grade
from ..spine.keypoints import POSITIONS
from ..spine.levels import NAMES
from .markups import GRADE_COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (12.5, 9.5)
DPI = 150
SAME, OTHER = "#2a6fb0", "#e07b1a"  # as in figure 7 of Zakharov et al. 2023: blue if the grade is right, else orange
TASK_COLORS = ("#7a8791", "#3aa17e", "#2a6fb0")
QUIET = "#7a8791"
TABLE_2_TASK = SEVERITY_KEYS[0][2]


def write_predictions_figure(evaluation: Evaluation, path: Path) -> None:
    """Draw Bland-Altman of G, ROC, grades, and errors by level, into a PNG file.

    Raises OSError if it cannot be written.
    """
    figure, axes = _sheet()
    _draw_bland_altman(axes[0], pool(evaluation.scans), "G measured - reference")
    _draw_roc(axes[1], evaluation.scans, evaluation.estimates)
    _draw_confusion(axes[2], reported_confusion(evaluation.scans))
    _draw_level_errors(axes[3], evaluation.estimates)
    figure.savefig(path, dpi=DPI)


def write_annotations_figure(evaluation: AnnotationsEvaluation, path: Path) -> None:
    """Draw grades and heights by level, and Bland-Altman and ROC of the experts, into a PNG file.

    Raises OSError if it cannot be written.
    """
    figure, axes = _sheet()
    _draw_grades(axes[0], evaluation.levels)
    _draw_heights(axes[1], evaluation.levels)
    if evaluation.agreements:
        nearest = evaluation.agreements[0]
        _draw_bland_altman(axes[2], pool(nearest.scans), f"G of {nearest.rule.replace('against', '-', 1)}")
        _draw_experts_roc(axes[3], nearest)
    figure.savefig(path, dpi=DPI)


def _sheet() -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=SIZE_INCHES, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).ravel()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("Research use only - not for diagnosis", size=8, color=QUIET)
    return figure, axes


def _draw_bland_altman(axes: Axes, pairs: Pairs, label: str) -> None:
    mean, difference = (pairs.ratio + pairs.true_ratio) / 2, pairs.ratio - pairs.true_ratio
    right = np.array([grade(a) == grade(b) for a, b in zip(pairs.ratio, pairs.true_ratio, strict=True)], bool)
    size = 14 if len(mean) < 300 else 4
    for chosen, color, name in ((right, SAME, "same grade"), (~right, OTHER, "different grade")):
        axes.scatter(mean[chosen], difference[chosen], size, color, alpha=0.6, lw=0, label=f"{name}: {chosen.sum()}")
    agreement = bland_altman(pairs.ratio, pairs.true_ratio)
    axes.axhline(agreement.bias, color="black", lw=1)
    for limit in (agreement.low, agreement.high):
        axes.axhline(limit, color="black", lw=0.8, ls="--")
    for threshold in (MILD, MODERATE, SEVERE):
        axes.axvline(threshold, color=QUIET, lw=0.6, ls=":")
    axes.set(xlabel="mean of both G", ylabel=label)
    axes.set_title(
        f"Bland-Altman: bias {agreement.bias:+.3f}, 95 % limits {agreement.low:+.3f} to {agreement.high:+.3f}"
    )
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)


def _draw_roc(axes: Axes, scans: Sequence[Scan], estimates: Estimates) -> None:
    pairs = pool(scans)
    both = {
        "vertebra": (pairs.ratio, pairs.true_ratio),
        "patient": worst_ratios(scans),
    }
    _prepare_roc(axes)
    for task, color in zip(TASKS, TASK_COLORS, strict=True):
        for kind, style in (("vertebra", "-"), ("patient", "--")):
            x, y = roc(*severity_labels(task, *both[kind]))
            area = estimates["severity", kind, task, "auc"].value
            text = f"{task}, {kind}: " + (f"AUC {area:.3f}" if len(x) else "only one class")
            axes.plot(x, y, style, color=color, label=text)
    axes.set_title("ROC of fracture severity")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_experts_roc(axes: Axes, agreement: Agreement) -> None:
    pairs = pool(agreement.scans)
    _prepare_roc(axes)
    for task, color in zip(TASKS, TASK_COLORS, strict=True):
        x, y = roc(*severity_labels(task, pairs.ratio, pairs.true_ratio))
        area = agreement.estimates["severity", "vertebra", task, "auc"].value
        axes.plot(x, y, color=color, label=f"{task}: AUC {area:.3f}")
    published = PUBLISHED_ROW[SEVERITY_KEYS[1]]
    axes.errorbar(
        1 - SPECIFICITY,
        published.value,
        published.sd,
        fmt="D",
        color="black",
        ms=4,
        capsize=3,
        label=f"published, {TABLE_2_TASK}: AUC {PUBLISHED_ROW[SEVERITY_KEYS[0]].value}",
    )
    axes.set_title(f"ROC: {agreement.rule}, {agreement.unit}", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _prepare_roc(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.6)
    axes.axvline(1 - SPECIFICITY, color=QUIET, lw=0.6, ls=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")


def _draw_confusion(axes: Axes, table: np.ndarray) -> None:
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for (row, column), count in np.ndenumerate(table):
        if (row, column) != (len(GRADES), len(GRADES)):
            axes.text(column, row, str(count), ha="center", va="center")
    axes.set_xticks(range(len(GRADES) + 1), [*GRADES, "missed"])
    axes.set_yticks(range(len(GRADES) + 1), [*GRADES, "no vertebra"])
    axes.set(xlabel="reported grade", ylabel="reference grade")
    axes.set_title("Number of vertebrae by grade, shaded by share of the row")


def _draw_level_errors(axes: Axes, estimates: Estimates) -> None:
    levels = [n for n in (*NAMES, "unknown") if ("level", n, "point_mm") in estimates]
    other = axes.twinx()
    other.spines["top"].set_visible(False)
    for ax, key, color, shift in ((axes, "point_mm", SAME, -0.12), (other, "ratio", OTHER, 0.12)):
        found = [estimates["level", level, key] for level in levels]
        values = np.array([f.value for f in found])
        bars = np.array([[max(f.value - f.low, 0), max(f.high - f.value, 0)] for f in found]).reshape(-1, 2)
        at = np.arange(len(levels)) + shift
        ax.errorbar(at, values, np.nan_to_num(bars).T, fmt="o", color=color, ms=4, lw=1.2)
        ax.set_ylim(bottom=0)
        ax.tick_params(axis="y", colors=color)
    axes.set_xticks(range(len(levels)), levels, rotation=45 if len(levels) > 12 else 0)
    axes.set_ylabel("mean point error, mm", color=SAME)
    other.set_ylabel("mean |dG|", color=OTHER)
    axes.set_title("Mean errors by level, with 95 % intervals over patients")


def _draw_grades(axes: Axes, levels: dict[str, LevelStatistics]) -> None:
    bottom = np.zeros(len(levels))
    for name in GRADES:
        counts = np.array([s.grades[name] for s in levels.values()], float)
        axes.bar(list(levels), counts, bottom=bottom, color=GRADE_COLORS[name], label=f"{name}: {counts.sum():.0f}")
        bottom += counts
    axes.tick_params(axis="x", rotation=45)
    axes.set(ylabel="annotations", title="Grades by level, from heights in mm", ylim=(0, 1.3 * bottom.max(initial=1)))
    axes.legend(frameon=False, fontsize=8)


def _draw_heights(axes: Axes, levels: dict[str, LevelStatistics]) -> None:
    at = np.arange(len(levels))
    names = ("heights_mm", "heights_sd_mm")
    means, spreads = (np.reshape([getattr(s, n) for s in levels.values()], (-1, 3)) for n in names)
    for p, (position, color) in enumerate(zip(POSITIONS, TASK_COLORS, strict=True)):
        axes.errorbar(
            at + 0.18 * (p - 1), means[:, p], spreads[:, p], fmt="o-", color=color, ms=3, lw=1, label=position
        )
    axes.set_xticks(at, list(levels), rotation=45)
    axes.set(ylabel="height, mm (mean, SD)", title="Heights by level, including fractured vertebrae")
    axes.legend(frameon=False, fontsize=8)
