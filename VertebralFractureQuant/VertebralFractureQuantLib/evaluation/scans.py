"""`Scan`: one prediction compared with its reference, as rows of plain arrays.

Each row is a pair of a measured and a true vertebra. Lengths are mm; G is the Genant ratio, the smallest of the three
heights divided by the largest. All figures of an evaluation are functions of such scans, so that the bootstrap can draw
patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..spine.genant import GRADES, heights, measure_column
from ..spine.keypoints import centers
from ..spine.levels import NAMES
from .matching import CENTER_THRESHOLD_MM, Matching, is_partial, match, match_overlap, point_errors
from .spines import Spine


@dataclass(frozen=True, eq=False)
class Pairs:
    """Measured vertebrae and the true ones they were matched with by overlap; `n` rows.

    Attributes
    ----------
    ratio, true_ratio : G, `(n,)`.
    spread : the standard deviation of G that the prediction gives, `(n,)`, nan where it gives none.
    heights, true_heights : `(n, 3)` mm.
    points_mm : distances between key points, `(n, 3, 2)`.
    centers_mm : distances between centres, `(n,)`.
    level, name : the true level and the name that the prediction gives, `(n,)` as indices into `levels.NAMES`, -1 if
        unknown.
    sure : whether that name is free of doubt, `(n,)`.
    grade, true_grade : the reported and the true grade, `(n,)` as indices into `genant.GRADES`; a crush may raise it.
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
    """One prediction compared with its reference.

    Attributes
    ----------
    case, patient : names of the prediction and of the reference.
    status : "ok", or the code of a failed analysis.
    pairs : the vertebrae that were found.
    missed : G of the true vertebrae that were not found.
    false : G of the measured vertebrae that do not exist.
    missed_levels, missed_grades, false_grades : as in `Pairs`.
    by_center : numbers of found, false and missed vertebrae, matched by the distance of centres.
    line_mm : distances from the reference's line to the predicted curve.
    limits_mm : absolute errors of the lower and the upper end of the spine, along S.
    worst, true_worst : the smallest measured and the smallest true G, nan if there is none.
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
        """Numbers of found, false and missed vertebrae, matched by Butterfly-IoU."""
        return len(self.pairs.ratio), len(self.false), len(self.missed)


def compare_spines(prediction: Spine, reference: Spine) -> Scan:
    """Compare a prediction with a reference in the same space.

    A measured vertebra without a partner is not counted as false if it lies at a partial one of the reference.
    """
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


def pool(scans: Sequence[Scan]) -> Pairs:
    """Concatenate the rows of all scans."""
    return Pairs(**{f.name: np.concatenate([getattr(s.pairs, f.name) for s in scans]) for f in fields(Pairs)})


def worst_ratios(scans: Sequence[Scan]) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest measured G of each scan `(n,)`, nan if nothing was measured, and the smallest true one."""
    return np.array([s.worst for s in scans]), np.array([s.true_worst for s in scans])


def ratios_of(keypoints: np.ndarray) -> np.ndarray:
    """Return G `(n,)` of key points `(n, 3, 2, d)`."""
    h = heights(keypoints)
    ratios: np.ndarray = h.min(-1) / h.max(-1)
    return ratios


def grades_of(spine: Spine) -> np.ndarray:
    """Return the grades `(n,)` as indices into `GRADES`.

    They are the grades that the file gives; else they are computed from the points, with crushes graded by their
    neighbours.
    """
    if spine.grades:
        return np.array([GRADES.index(g) for g in spine.grades], int)
    order = np.argsort(-centers(spine.keypoints)[:, 2])  # cranial to caudal
    grades = np.zeros(len(order), int)
    grades[order] = [GRADES.index(m.grade) for m in measure_column(spine.keypoints[order])]
    return grades


def _level_places(levels: Sequence[str | None]) -> np.ndarray:
    return np.array([NAMES.index(name) if name in NAMES else -1 for name in levels], int)


def _without(matching: Matching, partial: np.ndarray) -> Matching:
    return Matching(matching.pairs, tuple(i for i in matching.false if not partial[i]), matching.missed)


def _line_errors(prediction: Spine, reference: Spine) -> np.ndarray:
    """Distances from the reference's line, where it passes complete vertebrae, or from their centres if it has none."""
    line = centers(reference.keypoints)
    if prediction.curve is None or not len(line):
        return np.empty(0)
    if reference.curve is not None:
        up = reference.curve.points[:, 2]
        line = reference.curve.points[(up >= line[:, 2].min()) & (up <= line[:, 2].max())]
    return prediction.curve.distance_to(line)


def _limit_errors(prediction: Spine, reference: Spine) -> np.ndarray:
    """Errors of the lower and the upper end along S; a reference without limits ends with its outermost points."""
    ends = reference.limits if len(reference.limits) else reference.keypoints.reshape(-1, 3)
    if not len(ends) or not len(prediction.limits):
        return np.empty(0)
    return np.abs(np.sort(prediction.limits[:, 2]) - (ends[:, 2].min(), ends[:, 2].max()))
