"""The published tables (Zakharov et al. 2023, tables 1 to 3) and the errors behind them, for any set of scans.

Each scan becomes rows of plain arrays, one a pair of a measured and a true vertebra; every figure is a function of such
scans, so that the bootstrap can draw patients. Lengths are mm; G is the Genant ratio by min/max of the three heights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..spine.genant import GRADES, MILD, MODERATE_METRIC, ROUNDING, grade, heights, measure_column
from ..spine.keypoints import ENDPLATES, POSITIONS, centers
from ..spine.levels import NAMES
from .matching import (
    CENTER_THRESHOLD_MM,
    OVERLAP_THRESHOLD,
    PARTIAL_RADIUS_MM,
    Matching,
    is_partial,
    match,
    match_overlap,
    point_errors,
)
from .metrics import COVERAGE, REPEATS, SPECIFICITY, Estimate, auc, bland_altman, bootstrap, sensitivity_at
from .problems import Problem, listed
from .sources import Spine, in_common_space, pair_cases, read_predictions, read_references

Key = tuple[str, ...]
Figures = dict[Key, float]
Estimates = dict[Key, Estimate]

EVALUATION_SCHEMA = "vfq-evaluation/1"

# Splits of Table 3: the highest G of a positive, and the G above which one is negative.
TASKS = {
    "G0 vs G1-3": (MILD, MILD),
    "G0 vs G2-3": (MODERATE_METRIC, MILD),  # mild ones are left out
    "G0-1 vs G2-3": (MODERATE_METRIC, MODERATE_METRIC),  # also that of Table 2
}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of measured vertebrae and the true ones they were paired with by overlap.

    Ratios `(n,)` and the spread that was given with them, nan where none was; heights `(n, 3)` mm, distances of key
    points `(n, 3, 2)` and centres `(n,)` mm, and the places of the true level and of the name given in `levels.NAMES`
    `(n,)`, -1 where unknown; whether that name is sure; the grade that was reported and the true one `(n,)`, places in
    `genant.GRADES`, which a crush decides, too.
    """

    ratio: np.ndarray
    spread: np.ndarray
    true_ratio: np.ndarray
    heights: np.ndarray
    true_heights: np.ndarray
    points_mm: np.ndarray
    centers_mm: np.ndarray
    level: np.ndarray
    name: np.ndarray
    sure: np.ndarray
    grade: np.ndarray
    true_grade: np.ndarray


@dataclass(frozen=True, eq=False)
class Scan:
    """One prediction held against its reference.

    Attributes
    ----------
    case, patient, status : names of the prediction and of the reference, and how the analysis ended.
    pairs : of the vertebrae found.
    missed, false : G of true vertebrae that were not found, and of measured ones that are not there.
    missed_levels, missed_grades, false_grades : as in `Pairs`.
    by_center : found, false, missed by the distance of centres.
    line_mm : distances from the reference's line to the predicted curve.
    limits_mm : absolute errors of the spine's upper and lower end along S.
    worst, true_worst : the smallest G that was measured and that is true, nan without any.
    """

    case: str
    patient: str
    status: str
    pairs: Pairs
    missed: np.ndarray
    false: np.ndarray
    missed_levels: np.ndarray
    missed_grades: np.ndarray
    false_grades: np.ndarray
    by_center: tuple[int, int, int]
    line_mm: np.ndarray
    limits_mm: np.ndarray
    worst: float
    true_worst: float

    @property
    def by_overlap(self) -> tuple[int, int, int]:
        """Found, false, missed by Butterfly-IoU."""
        return len(self.pairs.ratio), len(self.false), len(self.missed)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scans held against their references, what follows from them, and what was wrong with the files."""

    scans: list[Scan]
    estimates: Estimates
    problems: list[Problem]
    repeats: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON object of schema `vfq-evaluation/1`."""
        return {
            "schema": EVALUATION_SCHEMA,
            "kind": "predictions",
            "settings": settings(self.repeats, self.seed),
            "counts": counts(self.scans),
            "figures": nested(self.estimates),
            "confusion": {
                "order": [*GRADES, "absent"],
                "true_by_measured": confusion(self.scans).tolist(),
                "true_by_reported": reported_confusion(self.scans).tolist(),
            },
            "scans": [_scan_json(s) for s in self.scans],
            "problems": [vars(p) for p in self.problems],
        }


def evaluate_predictions(
    predictions: Path, references: Path, repeats: int = REPEATS, seed: int = 0, reviewed: bool = False
) -> Evaluation:
    """Hold a folder of analyses against references (see `sources`); an analysis is no reference for itself.

    A single file given as the reference of a single analysis is its reference, whatever their names. Of cases that a
    person has reviewed, what the machine had said is held against the references, or the `reviewed` analyses.

    VFQError `not_found` without either; `nothing_to_evaluate` where no prediction could be held against a reference.
    """
    found, problems = read_predictions(predictions, reviewed)
    known, more = read_references(references, predictions, reviewed)
    if references.is_file() and len(found) == len(known) == 1:
        known = [replace(known[0], case=found[0].case)]
    pairs, unpaired = pair_cases(found, known)
    problems += more + unpaired
    scans = []
    for prediction, reference in pairs:
        common, trouble = in_common_space(prediction, reference)
        problems += trouble
        if common is not None and len(common.keypoints):
            scans.append(compare_spines(prediction, common))
        elif common is not None:
            problems.append(Problem("no_vertebra", reference.file, None, f"{prediction.case}: not evaluated"))
    if not scans:
        told = listed(problems)
        if not found:
            told += f" {predictions.name} holds no CASE/analysis.json."
        raise VFQError("nothing_to_evaluate", f"No prediction could be held against a reference.{told}")
    return Evaluation(scans, estimate(scans, repeats, seed), problems, repeats, seed)


def settings(repeats: int, seed: int) -> dict[str, Any]:
    """The thresholds behind the figures."""
    return {
        "butterfly_iou_at_least": OVERLAP_THRESHOLD,
        "center_distance_mm_at_most": CENTER_THRESHOLD_MM,
        "partial_radius_mm": PARTIAL_RADIUS_MM,
        "specificity": SPECIFICITY,
        "tasks_positive_at_most_negative_above": {name: list(limits) for name, limits in TASKS.items()},
        "bootstrap": {"repeats": repeats, "seed": seed, "unit": "patient", "interval": COVERAGE},
    }


def nested(estimates: Estimates) -> dict[str, Any]:
    """Estimates as a tree of `{"value", "ci95"}`; null where there is no number."""
    tree: dict[str, Any] = {}
    for key, e in estimates.items():
        branch = tree
        for name in key[:-1]:
            branch = branch.setdefault(name, {})
        interval = [number(e.low), number(e.high)]
        branch[key[-1]] = {"value": number(e.value), "ci95": None if None in interval else interval}
    return tree


def number(value: float) -> float | None:
    """For JSON, which knows no nan."""
    return round(float(value), 5) if np.isfinite(value) else None


def compare_spines(prediction: Spine, reference: Spine) -> Scan:
    """Hold a prediction against a reference in the same space; where a vertebra is partial, neither way."""
    partial = is_partial(prediction.keypoints, reference.partial)
    found, true = prediction.keypoints, reference.keypoints
    overlap = _without(match_overlap(found, true), partial)
    near = _without(match(found, true, CENTER_THRESHOLD_MM), partial)
    i, j = (np.array([p[side] for p in overlap.pairs], int) for side in (0, 1))
    levels, names = _level_places(reference.levels), _level_places(prediction.levels)
    ratios, true_ratios = ratios_of(found), ratios_of(true)
    grades, true_grades = grades_of(prediction), grades_of(reference)
    pairs = Pairs(
        ratio=ratios[i],
        spread=np.array(prediction.spreads or [np.nan] * len(found), float)[i],
        true_ratio=true_ratios[j],
        heights=heights(found)[i],
        true_heights=heights(true)[j],
        points_mm=point_errors(found, true, overlap),
        centers_mm=np.linalg.norm(centers(found[i]) - centers(true[j]), axis=-1),
        level=levels[j],
        name=names[i],
        sure=np.array(prediction.sure or [True] * len(found), bool)[i],
        grade=grades[i],
        true_grade=true_grades[j],
    )
    return Scan(
        case=prediction.case,
        patient=reference.case,
        status=prediction.status,
        pairs=pairs,
        missed=true_ratios[list(overlap.missed)],
        false=ratios[list(overlap.false)],
        missed_levels=levels[list(overlap.missed)],
        missed_grades=true_grades[list(overlap.missed)],
        false_grades=grades[list(overlap.false)],
        by_center=(len(near.pairs), len(near.false), len(near.missed)),
        line_mm=_line_errors(prediction, reference),
        limits_mm=_limit_errors(prediction, reference),
        worst=min([*ratios[i], *ratios[list(overlap.false)]], default=np.nan),
        true_worst=min(true_ratios, default=np.nan),
    )


def _level_places(levels: Sequence[str | None]) -> np.ndarray:
    return np.array([NAMES.index(name) if name in NAMES else -1 for name in levels], int)


def ratios_of(keypoints: np.ndarray) -> np.ndarray:
    """G `(n,)` of key points `(n, 3, 2, d)`."""
    h = heights(keypoints)
    ratios: np.ndarray = h.min(-1) / h.max(-1)
    return ratios


def grades_of(spine: Spine) -> np.ndarray:
    """Places in `GRADES` `(n,)`: as the file tells them, else as its points do, crushes by their neighbours."""
    if spine.grades:
        return np.array([GRADES.index(g) for g in spine.grades], int)
    order = np.argsort(-centers(spine.keypoints)[:, 2])  # cranial to caudal
    grades = np.zeros(len(order), int)
    grades[order] = [GRADES.index(m.grade) for m in measure_column(spine.keypoints[order])]
    return grades


def estimate(scans: Sequence[Scan], repeats: int, seed: int) -> Estimates:
    """All figures with 95 % intervals over patients; a patient's scans are drawn together."""
    patients: dict[str, list[Scan]] = {}
    for scan in scans:
        patients.setdefault(scan.patient, []).append(scan)
    return bootstrap(list(patients.values()), figures, repeats, seed, _is_share)


def _is_share(key: Key) -> bool:
    return key[0] in ("detection", "called", "names") or key[-1] == "sensitivity"


def figures(scans: Sequence[Scan]) -> Figures:
    """Every figure of the tables, by (section, name, ...); at patient level each scan is a row, by its smallest G.

    A scan in which nothing was measured counts against the method there, fractured or not.
    """
    pairs = pool(scans)
    return {
        **_line(scans),
        **_detection(scans),
        **_severity("vertebra", pairs.ratio, pairs.true_ratio),
        **_severity("patient", *worst_ratios(scans)),
        **_called(scans),
        **_errors(pairs),
        **_calibration(pairs),
        **_agreement(pairs),
        **_names(scans),
        **_by_level(pairs, np.concatenate([s.missed_levels for s in scans])),
    }


def pool(scans: Sequence[Scan]) -> Pairs:
    """The rows of all scans."""
    return Pairs(**{f.name: np.concatenate([getattr(s.pairs, f.name) for s in scans]) for f in fields(Pairs)})


def severity_labels(task: str, ratio: np.ndarray, true_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and positives of a task of `TASKS`, without those whose true grade it leaves out.

    Where nothing was measured (nan) the score is the wrong one: a failure must not look like a healthy spine.
    """
    highest, least = TASKS[task]
    positive, negative = true_ratio <= highest + ROUNDING, true_ratio > least + ROUNDING
    scores = np.where(np.isnan(ratio), np.where(positive, -np.inf, np.inf), -ratio)
    taken = positive | negative
    return scores[taken], positive[taken]


def confusion(scans: Sequence[Scan]) -> np.ndarray:
    """`(5, 5)` counts: true grade, or not there, by measured grade, or missed, of G alone (moderate: G <= 0.75)."""
    pairs = pool(scans)
    missed, false = (np.concatenate([getattr(s, side) for s in scans]) for side in ("missed", "false"))
    return _counted(*map(_grades, (pairs.true_ratio, pairs.ratio, missed, false)))


def reported_confusion(scans: Sequence[Scan]) -> np.ndarray:
    """As `confusion`, of the grades as they are reported: a crush that G cannot see is graded by its neighbours."""
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


def counts(scans: Sequence[Scan]) -> dict[str, int]:
    """How many patients, scans, failed scans, true vertebrae, and fractures (G <= 0.74) among those found."""
    true = pool(scans).true_ratio
    return {
        "patients": len({s.patient for s in scans}),
        "scans": len(scans),
        "failed_scans": sum(s.status != "ok" for s in scans),
        "vertebrae": len(true) + sum(len(s.missed) for s in scans),
        "found": len(true),
        "missed": sum(len(s.missed) for s in scans),
        "false": sum(len(s.false) for s in scans),
        "mild_or_worse": int((true <= MILD + ROUNDING).sum()),
        "moderate_or_worse": int((true <= MODERATE_METRIC + ROUNDING).sum()),
    }


def _without(matching: Matching, partial: np.ndarray) -> Matching:
    return Matching(matching.pairs, tuple(i for i in matching.false if not partial[i]), matching.missed)


def _line_errors(prediction: Spine, reference: Spine) -> np.ndarray:
    """From the reference's line beside its complete vertebrae, else from their centres."""
    line = centers(reference.keypoints)
    if prediction.curve is None or not len(line):
        return np.empty(0)
    if reference.curve is not None:
        up = reference.curve.points[:, 2]
        line = reference.curve.points[(up >= line[:, 2].min()) & (up <= line[:, 2].max())]
    return prediction.curve.distance_to(line)


def _limit_errors(prediction: Spine, reference: Spine) -> np.ndarray:
    """Of the lower and the upper end along S; a reference that tells no limits ends with its outermost points."""
    ends = reference.limits if len(reference.limits) else reference.keypoints.reshape(-1, 3)
    if not len(ends) or not len(prediction.limits):
        return np.empty(0)
    return np.abs(np.sort(prediction.limits[:, 2]) - (ends[:, 2].min(), ends[:, 2].max()))


def _scan_json(scan: Scan) -> dict[str, Any]:
    found, false, missed = scan.by_overlap
    return {
        "case": scan.case,
        "reference": scan.patient,
        "status": scan.status,
        "found": found,
        "false": false,
        "missed": missed,
        "point_mm": number(_mean(scan.pairs.points_mm)),
        "line_mm": number(_mean(scan.line_mm)),
        "ratio_error": number(_mean(np.abs(scan.pairs.ratio - scan.pairs.true_ratio))),
        "worst_ratio": number(scan.worst),
        "true_worst_ratio": number(scan.true_worst),
    }


def worst_ratios(scans: Sequence[Scan]) -> tuple[np.ndarray, np.ndarray]:
    """The smallest G measured in each scan `(n,)`, nan where nothing was, and the true one."""
    return np.array([s.worst for s in scans]), np.array([s.true_worst for s in scans])


def _grades(ratios: np.ndarray) -> np.ndarray:
    return np.array([GRADES.index(grade(r)) for r in ratios], int)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if np.size(values) else float("nan")


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if np.size(values) else float("nan")


def _line(scans: Sequence[Scan]) -> Figures:
    per_scan = np.array([_mean(s.line_mm) for s in scans])
    return {
        ("line", "mean_mm"): _mean(per_scan[np.isfinite(per_scan)]),
        ("line", "limits_mm"): _mean(np.concatenate([s.limits_mm for s in scans])),
    }


def _detection(scans: Sequence[Scan]) -> Figures:
    result: Figures = {}
    for name in ("overlap", "center"):
        found, false, missed = np.array([getattr(s, f"by_{name}") for s in scans], float).T
        with np.errstate(invalid="ignore"):
            precision, recall = found / (found + false), found / (found + missed)
            result["detection", name, "precision"] = float(found.sum() / (found + false).sum())
            result["detection", name, "recall"] = float(found.sum() / (found + missed).sum())
        result["detection", name, "precision_by_scan"] = _mean(precision[np.isfinite(precision)])
        result["detection", name, "recall_by_scan"] = _mean(recall[np.isfinite(recall)])
    return result


def _severity(kind: str, ratio: np.ndarray, true_ratio: np.ndarray) -> Figures:
    result: Figures = {}
    for task in TASKS:
        scores, positive = severity_labels(task, ratio, true_ratio)
        result["severity", kind, task, "auc"] = auc(scores, positive)
        result["severity", kind, task, "sensitivity"] = sensitivity_at(scores, positive)
    return result


def _called(scans: Sequence[Scan]) -> Figures:
    """Of the calls "moderate or worse" as they are reported: a missed vertebra was not called; a scan in which nothing
    was measured is wrong either way."""
    pairs, called = pool(scans), GRADES.index("moderate")
    missed = np.concatenate([s.missed_grades for s in scans])
    kinds = {"vertebra": (np.r_[pairs.grade, np.zeros_like(missed)], np.r_[pairs.true_grade, missed])}
    worst = [np.r_[-1, s.pairs.grade, s.false_grades].max() for s in scans]
    true_worst = [np.r_[-1, s.pairs.true_grade, s.missed_grades].max() for s in scans]
    kinds["patient"] = np.array(worst), np.array(true_worst)
    result: Figures = {}
    for kind, (grades, true) in kinds.items():
        positive = true >= called
        result["called", kind, "sensitivity"] = _mean(grades[positive] >= called)
        result["called", kind, "specificity"] = _mean((grades[~positive] >= 0) & (grades[~positive] < called))
    return result


def _errors(pairs: Pairs) -> Figures:
    height = np.abs(pairs.heights - pairs.true_heights)
    result: Figures = {
        ("error", "point_mm"): _mean(pairs.points_mm),
        ("error", "center_mm"): _mean(pairs.centers_mm),
        ("error", "height_mm"): _mean(height),
        ("error", "ratio"): _mean(np.abs(pairs.ratio - pairs.true_ratio)),
        ("error", "ratio_median"): _median(np.abs(pairs.ratio - pairs.true_ratio)),
    }
    for p, position in enumerate(POSITIONS):
        result["error", f"{position}_height_mm"] = _mean(height[:, p])
        for e, endplate in enumerate(ENDPLATES):
            result["error", f"{position}_{endplate}_mm"] = _mean(pairs.points_mm[:, p, e])
    return result


def _calibration(pairs: Pairs) -> Figures:
    """How the errors of G compare with the spreads that stand beside it: the ratio of their root mean squares, and the
    shares of vertebrae within one and two spreads (of a normal error 1, 0.68 and 0.95)."""
    known = np.isfinite(pairs.spread)
    error, spread = np.abs(pairs.ratio - pairs.true_ratio)[known], pairs.spread[known]
    if not known.any():
        return {}
    return {
        ("calibration", "error_by_spread"): float(np.sqrt(np.mean(error**2) / np.mean(spread**2))),
        ("calibration", "within_one"): _mean(error <= spread),
        ("calibration", "within_two"): _mean(error <= 2 * spread),
    }


def _agreement(pairs: Pairs) -> Figures:
    result: Figures = {}
    for name, measured, true in (
        ("ratio", pairs.ratio, pairs.true_ratio),
        ("height_mm", pairs.heights, pairs.true_heights),
    ):
        agreement = bland_altman(measured, true)
        for part in ("bias", "sd", "low", "high"):
            result["agreement", name, part] = getattr(agreement, part)
    return result


def _names(scans: Sequence[Scan]) -> Figures:
    """Shares of the vertebrae found that are named right, wrong, and wrong without doubt, and of scans in which all
    are, or any is."""
    known = [(s.pairs, s.pairs.level >= 0) for s in scans if (s.pairs.level >= 0).any()]
    right = [(p.name == p.level)[k] for p, k in known]
    wrong = [((p.name >= 0) & (p.name != p.level))[k] for p, k in known]
    surely = [w & p.sure[k] for w, (p, k) in zip(wrong, known, strict=True)]
    if not right:
        return {}
    return {
        ("names", "right"): _mean(np.concatenate(right)),
        ("names", "wrong"): _mean(np.concatenate(wrong)),
        ("names", "surely_wrong"): _mean(np.concatenate(surely)),
        ("names", "scans_all_right"): _mean(np.array([r.all() for r in right])),
        ("names", "scans_any_wrong"): _mean(np.array([w.any() for w in wrong])),
        ("names", "scans_any_surely_wrong"): _mean(np.array([w.any() for w in surely])),
    }


def _by_level(pairs: Pairs, missed: np.ndarray) -> Figures:
    """Means of each level that was found, and how many of it were missed."""
    size = len(NAMES) + 1  # the last is the unknown level, -1
    found = np.bincount(pairs.level % size, minlength=size)
    lost = np.bincount(missed % size, minlength=size)
    values = {
        "point_mm": pairs.points_mm.mean((1, 2)),
        "center_mm": pairs.centers_mm,
        "ratio_bias": pairs.ratio - pairs.true_ratio,
        "ratio": np.abs(pairs.ratio - pairs.true_ratio),
    }
    result: Figures = {}
    for i in np.flatnonzero(found + lost):
        name = (*NAMES, "unknown")[i]
        result["level", name, "found"] = float(found[i])
        result["level", name, "missed"] = float(lost[i])
    for key, value in values.items():
        sums = np.bincount(pairs.level % size, value, minlength=size)
        for i in np.flatnonzero(found):
            result["level", (*NAMES, "unknown")[i], key] = float(sums[i] / found[i])
    return result
