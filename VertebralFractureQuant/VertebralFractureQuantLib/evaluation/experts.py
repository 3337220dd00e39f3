"""The evaluation of the public annotations: counts by grade and level, and the agreement of the experts.

Counts are given in raw voxels, as published, and in mm. Agreement is measured within the sagittal plane, because each
expert chose a plane independently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from ..spine.genant import GRADES, MODERATE, grade, heights, worst_grade
from ..spine.levels import NAMES
from .annotations import SLICE_STEP_MM, AnnotatedPatient, Reading, read_annotations, to_ras
from .figures import estimate
from .metrics import REPEATS, Estimates
from .problems import Problem
from .records import EVALUATION_SCHEMA, nested, number, settings
from .scans import Scan, compare_spines, ratios_of
from .spines import Spine

UNITS = ("voxels", "mm")
PUBLISHED_COUNTS = {
    "annotations": dict(zip(GRADES, (2821, 440, 250, 54), strict=True)),
    "patients": dict(zip(GRADES, (11, 23, 44, 22), strict=True)),
}


@dataclass(frozen=True)
class Published:
    """A published value and its standard deviation."""

    value: float
    sd: float


# The experts' row of table 2, Zakharov et al. 2023.
PUBLISHED_ROW = {
    ("detection", "overlap", "precision"): Published(0.999, 0.001),
    ("detection", "overlap", "recall"): Published(0.994, 0.001),
    ("severity", "vertebra", "G0-1 vs G2-3", "auc"): Published(0.971, 0.005),
    ("severity", "vertebra", "G0-1 vs G2-3", "sensitivity"): Published(0.936, 0.018),
}
SEVERITY_KEYS = tuple(key for key in PUBLISHED_ROW if key[0] == "severity")


@dataclass(frozen=True)
class LevelStatistics:
    """All experts' annotations of one level: mean and SD of the three heights in mm and of G, and counts by grade."""

    count: int
    heights_mm: tuple[float, ...]
    heights_sd_mm: tuple[float, ...]
    ratio: float
    ratio_sd: float
    grades: dict[str, int]


@dataclass(frozen=True, eq=False)
class Agreement:
    """The experts' row of table 2, by one rule of pairing and in one unit.

    `distance` is the mean distance of its AUC and sensitivity from the published ones, in published SD.
    """

    rule: str
    unit: str
    scans: list[Scan]
    estimates: Estimates
    distance: float


@dataclass(frozen=True)
class Scatter:
    """How far the experts are apart, over vertebrae.

    Attributes
    ----------
    vertebrae : number of vertebrae that two or more experts marked.
    ratio_sd, height_sd_mm : pooled standard deviation (n - 1) of one expert's G and of one height.
    point_mm : mean distance of a point from the mean of the experts.
    """

    vertebrae: int
    ratio_sd: float
    height_sd_mm: float
    point_mm: float


@dataclass(frozen=True, eq=False)
class AnnotationsEvaluation:
    """The results of `vfq evaluate annotations`; `agreements` begins with the one nearest to the published row."""

    patients: list[AnnotatedPatient]
    counts: dict[str, dict[str, dict[str, int]]]  # by unit
    levels: dict[str, LevelStatistics]
    scatter: Scatter
    agreements: list[Agreement]
    problems: list[Problem]
    repeats: int
    seed: int

    @property
    def same_vertebrae(self) -> bool:
        """True if all experts of each patient marked the same vertebrae, so that none can be missed."""
        return all(len({frozenset(r) for r in p.readings.values()}) == 1 for p in self.patients)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of schema `vfq-evaluation/1`."""
        return {
            "schema": EVALUATION_SCHEMA,
            "kind": "annotations",
            "settings": {**settings(self.repeats, self.seed), "slice_step_mm": SLICE_STEP_MM},
            "counts": self.counts,
            "published_counts": PUBLISHED_COUNTS,
            "published_row": {" ".join(key): vars(p) for key, p in PUBLISHED_ROW.items()},
            "pixel_mm": {p.name: p.pixel_mm for p in self.patients},
            "levels": {level: vars(s) for level, s in self.levels.items()},
            "scatter": {name: number(value) for name, value in vars(self.scatter).items()},
            "experts": [_agreement_json(a) for a in self.agreements],
            "problems": [vars(p) for p in self.problems],
        }


def evaluate_annotations(folder: Path, repeats: int = REPEATS, seed: int = 0) -> AnnotationsEvaluation:
    """Evaluate a folder of public annotations; raises as `read_annotations` does."""
    patients, problems = read_annotations(folder)
    return AnnotationsEvaluation(
        patients=patients,
        counts={unit: grade_counts(patients, unit) for unit in UNITS},
        levels=level_statistics(patients),
        scatter=scatter(patients),
        agreements=agreements(patients, repeats, seed),
        problems=problems,
        repeats=repeats,
        seed=seed,
    )


def grade_counts(patients: Sequence[AnnotatedPatient], unit: str) -> dict[str, dict[str, int]]:
    """Count annotations by grade, and patients by the worst grade of any expert's vertebra (moderate: G <= 0.75)."""
    annotations, worst = [], []
    for patient in _measurable(patients, unit):
        grades = [grade(r, MODERATE) for points in _readings(patient, unit) for r in ratios_of(points)]
        annotations += grades
        worst.append(worst_grade(grades))
    return {
        "annotations": {g: annotations.count(g) for g in GRADES},
        "patients": {g: worst.count(g) for g in GRADES},
    }


def level_statistics(patients: Sequence[AnnotatedPatient]) -> dict[str, LevelStatistics]:
    """Return the statistics of each level in mm, cranial first."""
    found: dict[str, list[np.ndarray]] = {}
    for patient in _measurable(patients, "mm"):
        for reading in patient.readings.values():
            for level, points in reading.items():
                found.setdefault(level, []).append(in_plane(patient, points, "mm"))
    return {level: _statistics(np.array(found[level])) for level in sorted(found, key=NAMES.index)}


def scatter(patients: Sequence[AnnotatedPatient]) -> Scatter:
    """Measure how far the experts are apart on the vertebrae that two or more of them marked."""
    rows = []
    for patient in _measurable(patients, "mm"):
        for level in dict.fromkeys(name for reading in patient.readings.values() for name in reading):
            marked = [r[level] for r in patient.readings.values() if level in r]
            if len(marked) > 1:
                points = in_plane(patient, np.array(marked), "mm")
                apart = np.linalg.norm(points - points.mean(0), axis=-1).mean()
                spread = ratios_of(points).var(ddof=1), heights(points).var(0, ddof=1).mean()
                rows.append((*spread, apart))
    if not rows:
        return Scatter(0, *[np.nan] * 3)
    ratio, height, apart = np.mean(rows, axis=0)
    return Scatter(len(rows), float(ratio**0.5), float(height**0.5), float(apart))


def agreements(patients: Sequence[AnnotatedPatient], repeats: int, seed: int) -> list[Agreement]:
    """Compute the experts' row by each rule and in each unit; the one nearest to the published row comes first."""
    found = []
    for rule, pairing in RULES.items():
        for unit in UNITS:
            scans = [scan for p in _measurable(patients, unit) for scan in pairing(p, unit)]
            if scans:
                estimates = estimate(scans, repeats, seed)
                found.append(Agreement(rule, unit, scans, estimates, _distance(estimates)))
    return sorted(found, key=lambda a: a.distance)


def in_plane(patient: AnnotatedPatient, points: np.ndarray, unit: str) -> np.ndarray:
    """Return key points `(..., 3)` in voxels as [0, A, S] in `unit`, up to an offset."""
    scale = (patient.pixel_mm or np.nan, SLICE_STEP_MM) if unit == "mm" else (1.0, 1.0)
    return to_ras(points, scale) * np.array([0.0, 1.0, 1.0])


def _against_the_mean(patient: AnnotatedPatient, unit: str) -> list[Scan]:
    """Compare each expert with the mean of the others' points."""
    scans = []
    for expert, reading in patient.readings.items():
        others = [r for name, r in patient.readings.items() if name != expert]
        levels = dict.fromkeys(level for r in others for level in r)
        mean = {level: np.mean([r[level] for r in others if level in r], axis=0) for level in levels}
        if mean:
            scans.append(_compare(patient, expert, reading, mean, unit))
    return scans


def _against_each(patient: AnnotatedPatient, unit: str) -> list[Scan]:
    """Compare each expert with each other one."""
    both = permutations(patient.readings.items(), 2)
    return [_compare(patient, expert, reading, other, unit) for (expert, reading), (_, other) in both]


RULES: dict[str, Callable[[AnnotatedPatient, str], list[Scan]]] = {
    "each expert against the mean of the others": _against_the_mean,
    "every ordered pair of experts": _against_each,
}


def _compare(patient: AnnotatedPatient, expert: str, measured: Reading, true: Reading, unit: str) -> Scan:
    def spine(case: str, reading: Reading) -> Spine:
        """Return the vertebrae of one expert as a `Spine`."""
        points = in_plane(patient, np.array(list(reading.values())), unit)
        return Spine(case, patient.file, points, tuple(reading))

    return compare_spines(spine(expert, measured), spine(patient.name, true))


def _agreement_json(agreement: Agreement) -> dict[str, Any]:
    """The JSON of one agreement; in voxels, figures that are lengths are left out."""
    lengths = agreement.unit != "mm"
    kept = {
        key: e
        for key, e in agreement.estimates.items()
        if not (lengths and (key[:2] == ("detection", "center") or any(part.endswith("_mm") for part in key)))
    }
    return {
        "rule": agreement.rule,
        "unit": agreement.unit,
        "distance_to_published_sd": number(agreement.distance),
        "figures": nested(kept),
    }


def _distance(estimates: Estimates) -> float:
    published = [(estimates[key].value, PUBLISHED_ROW[key]) for key in SEVERITY_KEYS]
    distance = float(np.mean([abs(value - p.value) / p.sd for value, p in published]))
    return distance if np.isfinite(distance) else np.inf


def _measurable(patients: Sequence[AnnotatedPatient], unit: str) -> list[AnnotatedPatient]:
    return [p for p in patients if unit != "mm" or p.pixel_mm is not None]


def _readings(patient: AnnotatedPatient, unit: str) -> list[np.ndarray]:
    return [in_plane(patient, np.array(list(r.values())), unit) for r in patient.readings.values()]


def _statistics(points: np.ndarray) -> LevelStatistics:
    h, ratios = heights(points), ratios_of(points)
    grades = [grade(r, MODERATE) for r in ratios]
    return LevelStatistics(
        count=len(points),
        heights_mm=tuple(h.mean(0).tolist()),
        heights_sd_mm=tuple(h.std(0).tolist()),
        ratio=float(ratios.mean()),
        ratio_sd=float(ratios.std()),
        grades={g: grades.count(g) for g in GRADES},
    )
