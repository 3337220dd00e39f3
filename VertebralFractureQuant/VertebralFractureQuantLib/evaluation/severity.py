"""How well fractures are recognised: tables 2 and 3 of Zakharov et al. 2023, reported grades, and confusion matrices.

Positives of a task are fractures by G; a score is higher the more likely the fracture (minus G).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..spine.genant import GRADES, MILD, MODERATE_METRIC, ROUNDING, grade
from .metrics import Figures, auc, mean, sensitivity_at
from .scans import Scan, pool, worst_ratios

# Tasks of table 3: the highest G of a positive, and the G above which a vertebra is a negative.
TASKS = {
    "G0 vs G1-3": (MILD, MILD),
    "G0 vs G2-3": (MODERATE_METRIC, MILD),  # leaves out mild fractures
    "G0-1 vs G2-3": (MODERATE_METRIC, MODERATE_METRIC),  # also the task of table 2
}


def severity_labels(task: str, ratio: np.ndarray, true_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and positives `(k,)` of a task of `TASKS`, without the true grades that the task leaves out.

    `ratio` and `true_ratio` `(n,)` are measured and true G. Where nothing was measured (nan) the score is the worst
    possible: a failure must not look like a healthy spine.
    """
    highest, least = TASKS[task]
    positive, negative = true_ratio <= highest + ROUNDING, true_ratio > least + ROUNDING
    scores = np.where(np.isnan(ratio), np.where(positive, -np.inf, np.inf), -ratio)
    taken = positive | negative
    return scores[taken], positive[taken]


def severity_figures(scans: Sequence[Scan]) -> Figures:
    """Return AUC and sensitivity of each task, over vertebrae, and over patients by the smallest G of each scan."""
    pairs = pool(scans)
    return {
        **_severity("vertebra", pairs.ratio, pairs.true_ratio),
        **_severity("patient", *worst_ratios(scans)),
    }


def called_figures(scans: Sequence[Scan]) -> Figures:
    """Return sensitivity and specificity of the reported grade "moderate or worse".

    A missed vertebra counts as reported below moderate. A scan in which nothing was measured counts as wrong, fractured
    or not.
    """
    pairs, called = pool(scans), GRADES.index("moderate")
    missed = np.concatenate([s.missed_grades for s in scans])
    kinds = {"vertebra": (np.r_[pairs.grade, np.zeros_like(missed)], np.r_[pairs.true_grade, missed])}
    worst = [np.r_[-1, s.pairs.grade, s.false_grades].max() for s in scans]
    true_worst = [np.r_[-1, s.pairs.true_grade, s.missed_grades].max() for s in scans]
    kinds["patient"] = np.array(worst), np.array(true_worst)
    result: Figures = {}
    for kind, (grades, true) in kinds.items():
        positive = true >= called
        result["called", kind, "sensitivity"] = mean(grades[positive] >= called)
        result["called", kind, "specificity"] = mean((grades[~positive] >= 0) & (grades[~positive] < called))
    return result


def confusion(scans: Sequence[Scan]) -> np.ndarray:
    """Return counts `(5, 5)` by G alone (moderate: G <= 0.75).

    Rows are true grades, then vertebrae that do not exist; columns are measured grades, then missed vertebrae.
    """
    pairs = pool(scans)
    missed, false = (np.concatenate([getattr(s, side) for s in scans]) for side in ("missed", "false"))
    return _counted(*map(_grades, (pairs.true_ratio, pairs.ratio, missed, false)))


def reported_confusion(scans: Sequence[Scan]) -> np.ndarray:
    """Return counts `(5, 5)` as `confusion`, by reported grades.

    These grade a crush, which G cannot show, by its neighbours.
    """
    pairs = pool(scans)
    missed, false = (np.concatenate([getattr(s, f"{side}_grades") for s in scans]) for side in ("missed", "false"))
    return _counted(pairs.true_grade, pairs.grade, missed, false)


def _counted(true: np.ndarray, measured: np.ndarray, missed: np.ndarray, false: np.ndarray) -> np.ndarray:
    absent = len(GRADES)
    table = np.zeros((absent + 1,) * 2, int)
    np.add.at(table, (true, measured), 1)
    np.add.at(table[:, absent], missed, 1)
    np.add.at(table[absent], false, 1)
    return table


def _grades(ratios: np.ndarray) -> np.ndarray:
    return np.array([GRADES.index(grade(r)) for r in ratios], int)


def _severity(kind: str, ratio: np.ndarray, true_ratio: np.ndarray) -> Figures:
    result: Figures = {}
    for task in TASKS:
        scores, positive = severity_labels(task, ratio, true_ratio)
        result["severity", kind, task, "auc"] = auc(scores, positive)
        result["severity", kind, task, "sensitivity"] = sensitivity_at(scores, positive)
    return result
