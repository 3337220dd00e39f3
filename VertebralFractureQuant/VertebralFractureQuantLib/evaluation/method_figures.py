"""The figures of `vfq evaluate methods`: one method, or one rule of grading, on many patients.

Lengths are mm; a figure that cannot be computed is nan. Intervals come from drawing patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..spine.genant import GRADES, MILD, ROUNDING
from ..spine.keypoints import centers
from .matching import match_overlap
from .metrics import Estimates, Figures, bootstrap, mean
from .scans import Scan, compare_spines, pool, ratios_of
from .severity import severity_figures
from .spines import Spine

OUTLIERS_MM = (4, 10, 20)
TASK = "G0-1 vs G2-3"  # G <= 0.74
MODERATE = GRADES.index("moderate")
SHARES = ("recall", "precision", "outliers", "sensitivity", "accuracy", "crushes", "physiologic")


@dataclass(frozen=True, eq=False)
class Trial:
    """One method on one patient; arrays are over the `m` true vertebrae.

    Attributes
    ----------
    scan : the comparison with the truth.
    away_mm : distance from each true centre to the nearest that the method found, infinite if it found none.
    grade, true_grade : indices into `genant.GRADES`; -1 where the vertebra was missed.
    crushed : whether only its neighbours show the true fracture.
    wedged : whether it is not fractured although its true G is at most 0.80.
    seconds : of the analysis; nan if the method had none.
    """

    scan: Scan
    away_mm: np.ndarray
    grade: np.ndarray
    true_grade: np.ndarray
    crushed: np.ndarray
    wedged: np.ndarray
    seconds: float


def trial(
    found: Spine, truth: Spine, grades: np.ndarray, true_grades: np.ndarray, fractured: np.ndarray, seconds: float
) -> Trial:
    """Compare what a method found with the truth; `fractured` `(m,)` tells which true vertebrae are."""
    near = np.linalg.norm(centers(truth.keypoints)[:, None] - centers(found.keypoints)[None], axis=-1)
    graded = np.full(len(truth.keypoints), -1)
    for i, j in match_overlap(found.keypoints, truth.keypoints).pairs:
        graded[j] = grades[i]
    ratios = ratios_of(truth.keypoints)
    by_ratio = ratios > MILD + ROUNDING
    return Trial(
        scan=compare_spines(found, truth),
        away_mm=near.min(1) if near.size else np.full(len(graded), np.inf),
        grade=graded,
        true_grade=true_grades,
        crushed=fractured & by_ratio & (true_grades >= MODERATE),
        wedged=~fractured & ~by_ratio,
        seconds=seconds,
    )


def estimate_method(trials: Sequence[Trial], repeats: int, seed: int) -> Estimates:
    """Return all figures with intervals over patients."""
    return bootstrap([[t] for t in trials], method_figures, repeats, seed, lambda key: key[0] in SHARES)


def method_figures(trials: Sequence[Trial]) -> Figures:
    """Return the figures of one method."""
    scans = [t.scan for t in trials]
    pairs = pool(scans)
    found, false, missed = (sum(s.by_overlap[k] for s in scans) for k in range(3))
    away = np.concatenate([t.away_mm for t in trials])
    severe = severity_figures(scans)
    return {
        ("recall",): found / (found + missed) if found + missed else np.nan,
        ("precision",): found / (found + false) if found + false else np.nan,
        ("centre_mm",): mean(pairs.centers_mm),
        **{("outliers", f"{mm}"): mean(away > mm) for mm in OUTLIERS_MM},
        ("point_mm",): mean(pairs.points_mm),
        ("height_mm",): mean(np.abs(pairs.heights - pairs.true_heights)),
        ("ratio",): mean(np.abs(pairs.ratio - pairs.true_ratio)),
        **{("auc", kind): severe["severity", kind, TASK, "auc"] for kind in ("vertebra", "patient")},
        **{("sensitivity", kind): severe["severity", kind, TASK, "sensitivity"] for kind in ("vertebra", "patient")},
        **grade_figures(trials),
        ("seconds",): mean(np.array([t.seconds for t in trials])),
    }


def grade_figures(trials: Sequence[Trial]) -> Figures:
    """Return the figures of the grades of the vertebrae that were found."""
    grade, true, crushed, wedged = (
        np.concatenate([getattr(t, name) for t in trials]) for name in ("grade", "true_grade", "crushed", "wedged")
    )
    found = grade >= 0
    return {
        ("accuracy",): mean(grade[found] == true[found]),
        ("macro_f1",): macro_f1(grade[found], true[found]),
        ("kappa",): weighted_kappa(grade[found], true[found]),
        ("crushes",): mean(grade[found & crushed] >= MODERATE),
        ("physiologic",): mean(grade[found & wedged] == 0),
    }


def macro_f1(grade: np.ndarray, true: np.ndarray) -> float:
    """Return the mean over the grades that occur of F1, the harmonic mean of precision and recall."""
    scores = []
    for g in np.unique(true):
        both, either = ((grade == g) & (true == g)).sum(), (grade == g).sum() + (true == g).sum()
        scores.append(2 * both / either)
    return mean(np.array(scores))


def weighted_kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Return Cohen's kappa with quadratic weights; nan if only one grade occurs."""
    count = len(GRADES)
    table = np.zeros((count, count))
    np.add.at(table, (one, other), 1)
    weight = np.subtract.outer(np.arange(count), np.arange(count)) ** 2
    by_chance = np.outer(table.sum(1), table.sum(0)) / max(table.sum(), 1)
    expected = (weight * by_chance).sum()
    return float(1 - (weight * table).sum() / expected) if expected else float("nan")
