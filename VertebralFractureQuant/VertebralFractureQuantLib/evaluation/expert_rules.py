"""What each rule of grading says on the experts' points: how well two experts agree by it, and what it finds.

The annotations are those of `annotations`: in the sagittal plane, without images, so that rules which read masks or
images have no row. The truth of a vertebra is what the other experts' G says. All intervals come from drawing patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..spine.expected import expectations
from ..spine.genant import GRADES, MILD, MODERATE, MODERATE_METRIC, ROUNDING, heights
from ..spine.keypoints import POSITIONS
from ..spine.levels import NAMES
from .annotations import AnnotatedPatient, read_annotations
from .experts import in_plane
from .graders import BY_G, BY_LOSS, GRADERS, UNGRADED
from .method_figures import weighted_kappa
from .metrics import Estimates, Figures, auc, bootstrap, mean, sensitivity_at
from .problems import Problem
from .records import nested
from .scans import ratios_of
from .spines import Spine

BLOCK = "experts' annotations"
# Grades that a reading may be asked for: the least grade, and the G that gives it.
CALLS = {"mild": (GRADES.index("mild"), MILD), "moderate": (GRADES.index("moderate"), MODERATE)}
SHARES = {"share", "agreement", "graded", "sensitivity", "specificity"}


@dataclass(frozen=True, eq=False)
class Readings:
    """The `n` readings of one patient: one expert's vertebra each.

    Attributes
    ----------
    key : `(n,)` the level as an index into `levels.NAMES`; readings of one vertebra share it.
    ratio : `(n,)` G.
    grade, score : by rule, `(n,)` as in `graders.Graded`.
    expected_off : `(n, 3)` expected minus measured heights, mm; nan without neighbours or without a pixel size.
    pairs : `(k, 2)` indices of the readings of one vertebra by two experts.
    """

    key: np.ndarray
    ratio: np.ndarray
    grade: dict[str, np.ndarray]
    score: dict[str, np.ndarray]
    expected_off: np.ndarray
    pairs: np.ndarray


@dataclass(frozen=True)
class ExpertBlock:
    """The rules on the annotations of `patients` patients, each with its figures."""

    patients: int
    readings: int
    estimates: dict[str, Estimates]
    problems: tuple[Problem, ...] = ()  # of the annotations' files

    def to_json(self) -> dict[str, Any]:
        """Return one of the `blocks` of `vfq-methods/1`."""
        rows = [
            {"name": name, "patients": self.patients, "missing": None, "figures": nested(found)}
            for name, found in self.estimates.items()
        ]
        return {"name": BLOCK, "patients": self.patients, "rows": rows, "status": {}}


def expert_block(folder: Path, repeats: int, seed: int) -> ExpertBlock:
    """Apply every rule to the annotations in `folder`; raises as `annotations.read_annotations` does.

    Patients without a pixel size are left out: expected heights need mm, and G in the plane too.
    """
    patients, problems = read_annotations(folder)
    found = [readings(p) for p in patients if p.pixel_mm is not None]
    drawn = bootstrap([[r] for r in found], rule_figures, repeats, seed, lambda key: not SHARES.isdisjoint(key))
    rules: dict[str, Estimates] = {name: {} for name in GRADERS}
    for (rule, *key), estimate in drawn.items():
        rules[rule][tuple(key)] = estimate
    return ExpertBlock(len(found), sum(len(r.key) for r in found), rules, tuple(problems))


def readings(patient: AnnotatedPatient) -> Readings:
    """Apply every rule to each expert's readings of a patient, whose pixel size is known."""
    keys, ratios, off = [], [], []
    graded: dict[str, list] = {name: [] for name in GRADERS}
    for reading in patient.readings.values():
        levels = sorted(reading, key=NAMES.index)
        points = in_plane(patient, np.stack([reading[level] for level in levels]), "mm")
        spine = Spine(patient.name, patient.file, points, tuple(levels))
        for name, rule in GRADERS.items():
            graded[name].append(rule(spine))
        keys += [NAMES.index(level) for level in levels]
        ratios.append(ratios_of(points))
        expected = [(np.nan,) * 3 if e is None else e.heights_mm for e in expectations(points, levels)]
        off.append(np.array(expected) - heights(points))
    key = np.array(keys)
    return Readings(
        key=key,
        ratio=np.concatenate(ratios),
        grade={name: np.concatenate([g.grade for g in each]) for name, each in graded.items()},
        score={name: np.concatenate([g.score for g in each]) for name, each in graded.items()},
        expected_off=np.concatenate(off),
        pairs=np.array([p for p in combinations(range(len(key)), 2) if key[p[0]] == key[p[1]]], int).reshape(-1, 2),
    )


def rule_figures(patients: Sequence[Readings]) -> Figures:
    """Return the figures of all rules; the first part of a key is the rule."""
    starts = np.cumsum([0, *(len(p.key) for p in patients)])
    pairs = np.concatenate([p.pairs + start for p, start in zip(patients, starts, strict=False)])
    ratio = np.concatenate([p.ratio for p in patients])
    whose = np.concatenate([p.key + i * len(NAMES) for i, p in enumerate(patients)])
    off = np.concatenate([p.expected_off for p in patients])
    result: Figures = {}
    for rule in GRADERS:
        grade, score = (np.concatenate([getattr(p, part)[rule] for p in patients]) for part in ("grade", "score"))
        figures = {
            ("graded",): mean(grade != UNGRADED),
            **agreement_figures(grade, score, ratio, pairs),
            **finding_figures(grade, score, ratio, whose, pairs),
        }
        if rule == BY_LOSS:
            normal = (ratio > MILD + ROUNDING) & np.isfinite(off).all(1)
            figures |= {("expected_mm", p): mean(np.abs(x)) for p, x in zip(POSITIONS, off[normal].T, strict=True)}
        result |= {(rule, *key): value for key, value in figures.items()}
    return result | _more_than_by_g(result)


def _more_than_by_g(figures: Figures) -> Figures:
    """Return how much larger the kappas of each other rule are than those of G."""
    kappas = [key for key in figures if key[1] in ("kappa", "kappa_same_share") and key[0] != BY_G]
    return {
        (rule, "more_than_by_g", kind, call): figures[rule, kind, call] - figures[BY_G, "kappa", call]
        for rule, kind, call in kappas
        if np.isfinite(figures[rule, kind, call])
    }


def agreement_figures(grade: np.ndarray, score: np.ndarray, ratio: np.ndarray, pairs: np.ndarray) -> Figures:
    """Return how well two experts agree by one rule; pairs `(k, 2)` are indices of readings.

    `kappa_same_share` is that of the readings with the highest scores, as many as G calls mild (moderate) or worse: a
    rule that calls more or fewer vertebrae would have another kappa for that alone.
    """
    one, other = pairs[(grade[pairs] != UNGRADED).all(1)].T
    result: Figures = {
        ("agreement",): mean(grade[one] == grade[other]),
        ("kappa", "grades"): weighted_kappa(grade[one], grade[other]),
    }
    for name, (least, threshold) in CALLS.items():
        called = grade >= least
        result["share", name] = mean(called[grade != UNGRADED])
        result["kappa", name] = kappa(called[one], called[other])
        result["kappa_same_share", name] = _kappa_same_share(score, ratio <= threshold + ROUNDING, pairs)
    both = pairs[np.isfinite(score[pairs]).all(1)].T
    result["correlation",] = float(np.corrcoef(score[both])[0, 1]) if both.size > 2 else np.nan
    return result


def finding_figures(
    grade: np.ndarray, score: np.ndarray, ratio: np.ndarray, whose: np.ndarray, pairs: np.ndarray
) -> Figures:
    """Return what one rule finds, against the G of the other experts.

    A vertebra is a positive if most of the others' G are at most 0.75, and a negative if none is. AUC and sensitivity
    at a specificity of 0.9 compare the scores of one expert with G <= 0.74 of another, over ordered pairs.
    """
    worse = ratio <= MODERATE + ROUNDING
    _, at = np.unique(whose, return_inverse=True)
    votes, count = np.bincount(at, worse)[at] - worse, np.bincount(at)[at] - 1
    graded = grade != UNGRADED
    positive, negative = graded & (2 * votes > count), graded & (votes == 0) & (count > 0)
    result: Figures = {}
    for name, (least, _) in CALLS.items():
        result["sensitivity", name] = mean(grade[positive] >= least)
        result["specificity", name] = mean(grade[negative] < least)
    ordered = np.concatenate([pairs, pairs[:, ::-1]])
    one, other = ordered[np.isfinite(score[ordered[:, 0]])].T
    true = ratio[other] <= MODERATE_METRIC + ROUNDING
    return {**result, ("auc",): auc(score[one], true), ("sensitivity_at",): sensitivity_at(score[one], true)}


def kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Return Cohen's kappa of two yes-or-no readings; nan if both are always the same."""
    by_chance = mean(one) * mean(other) + (1 - mean(one)) * (1 - mean(other))
    return float((mean(one == other) - by_chance) / (1 - by_chance)) if by_chance < 1 else float("nan")


def _kappa_same_share(score: np.ndarray, called: np.ndarray, pairs: np.ndarray) -> float:
    known = np.isfinite(score)
    if not known.any():
        return float("nan")
    least = np.quantile(score[known], 1 - mean(called[known]))
    chosen = score > least
    return kappa(*chosen[pairs[known[pairs].all(1)]].T)
