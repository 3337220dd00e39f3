"""Every figure of an evaluation with its 95 % interval: tables 1 to 3 of Zakharov et al. 2023, and errors behind them.

A figure is a number with a key (section, name, ...). All are functions of a list of scans, so that the bootstrap can
draw patients. Lengths are mm; G is the Genant ratio, the smallest of the three heights divided by the largest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..spine.genant import MILD, MODERATE_METRIC, ROUNDING
from ..spine.keypoints import ENDPLATES, POSITIONS
from ..spine.levels import NAMES
from .metrics import Estimates, Figures, Key, bland_altman, bootstrap, mean, median
from .scans import Pairs, Scan, pool
from .severity import called_figures, severity_figures


def estimate(scans: Sequence[Scan], repeats: int, seed: int) -> Estimates:
    """Compute all figures with 95 % bootstrap intervals over patients; the scans of a patient are drawn together."""
    patients: dict[str, list[Scan]] = {}
    for scan in scans:
        patients.setdefault(scan.patient, []).append(scan)
    return bootstrap(list(patients.values()), figures, repeats, seed, _is_share)


def figures(scans: Sequence[Scan]) -> Figures:
    """Compute every figure of the tables.

    At patient level each scan is a row, by its smallest G. A scan in which nothing was measured counts against the
    method there, fractured or not.
    """
    pairs = pool(scans)
    return {
        **_line(scans),
        **_detection(scans),
        **severity_figures(scans),
        **called_figures(scans),
        **_errors(pairs),
        **_calibration(pairs),
        **_agreement(pairs),
        **_names(scans),
        **_by_level(pairs, np.concatenate([s.missed_levels for s in scans])),
    }


def counts(scans: Sequence[Scan]) -> dict[str, int]:
    """Count patients, scans, failed scans, true vertebrae, and the fractures among the vertebrae found.

    "mild_or_worse" is G <= 0.80, "moderate_or_worse" G <= 0.74.
    """
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


def _is_share(key: Key) -> bool:
    return key[0] in ("detection", "called", "names") or key[-1] == "sensitivity"


def _line(scans: Sequence[Scan]) -> Figures:
    """Table 1: mean distance between the curves, and mean absolute error of the limits."""
    per_scan = np.array([mean(s.line_mm) for s in scans])
    return {
        ("line", "mean_mm"): mean(per_scan[np.isfinite(per_scan)]),
        ("line", "limits_mm"): mean(np.concatenate([s.limits_mm for s in scans])),
    }


def _detection(scans: Sequence[Scan]) -> Figures:
    """Table 2: precision and recall over all vertebrae, and their means over scans."""
    result: Figures = {}
    for name in ("overlap", "center"):
        found, false, missed = np.array([getattr(s, f"by_{name}") for s in scans], float).T
        with np.errstate(invalid="ignore"):
            precision, recall = found / (found + false), found / (found + missed)
            result["detection", name, "precision"] = float(found.sum() / (found + false).sum())
            result["detection", name, "recall"] = float(found.sum() / (found + missed).sum())
        result["detection", name, "precision_by_scan"] = mean(precision[np.isfinite(precision)])
        result["detection", name, "recall_by_scan"] = mean(recall[np.isfinite(recall)])
    return result


def _errors(pairs: Pairs) -> Figures:
    height = np.abs(pairs.heights - pairs.true_heights)
    result: Figures = {
        ("error", "point_mm"): mean(pairs.points_mm),
        ("error", "center_mm"): mean(pairs.centers_mm),
        ("error", "height_mm"): mean(height),
        ("error", "ratio"): mean(np.abs(pairs.ratio - pairs.true_ratio)),
        ("error", "ratio_median"): median(np.abs(pairs.ratio - pairs.true_ratio)),
    }
    for p, position in enumerate(POSITIONS):
        result["error", f"{position}_height_mm"] = mean(height[:, p])
        for e, endplate in enumerate(ENDPLATES):
            result["error", f"{position}_{endplate}_mm"] = mean(pairs.points_mm[:, p, e])
    return result


def _calibration(pairs: Pairs) -> Figures:
    """Compare the errors of G with the standard deviations that the prediction gives.

    The ratio of their root mean squares, and the shares of vertebrae within one and within two standard deviations. For
    normal errors of the given size these are 1, 0.68 and 0.95.
    """
    known = np.isfinite(pairs.spread)
    error, spread = np.abs(pairs.ratio - pairs.true_ratio)[known], pairs.spread[known]
    if not known.any():
        return {}
    return {
        ("calibration", "error_by_spread"): float(np.sqrt(np.mean(error**2) / np.mean(spread**2))),
        ("calibration", "within_one"): mean(error <= spread),
        ("calibration", "within_two"): mean(error <= 2 * spread),
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
    """Shares of found vertebrae of known level that are named right, named wrong, and named wrong without doubt.

    Also the shares of scans in which all names are right, any is wrong, and any is wrong without doubt.
    """
    known = [(s.pairs, s.pairs.level >= 0) for s in scans if (s.pairs.level >= 0).any()]
    right = [(p.name == p.level)[k] for p, k in known]
    wrong = [((p.name >= 0) & (p.name != p.level))[k] for p, k in known]
    surely = [w & p.sure[k] for w, (p, k) in zip(wrong, known, strict=True)]
    if not right:
        return {}
    return {
        ("names", "right"): mean(np.concatenate(right)),
        ("names", "wrong"): mean(np.concatenate(wrong)),
        ("names", "surely_wrong"): mean(np.concatenate(surely)),
        ("names", "scans_all_right"): mean(np.array([r.all() for r in right])),
        ("names", "scans_any_wrong"): mean(np.array([w.any() for w in wrong])),
        ("names", "scans_any_surely_wrong"): mean(np.array([w.any() for w in surely])),
    }


def _by_level(pairs: Pairs, missed: np.ndarray) -> Figures:
    """Mean errors of each level, and how many of its vertebrae were found and missed."""
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
