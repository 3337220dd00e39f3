"""Rules that grade the vertebrae of one spine from their key points; a further rule is one entry of `GRADERS`.

A rule takes a `Spine` whose vertebrae are ordered cranial to caudal (key points in mm, names where known), and returns
a `Graded`. Height loss is 1 - height / height before the fracture, a share, negative where a vertebra is taller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..spine.expected import FITS, Expectation, expectations
from ..spine.genant import GRADES, Measurement, deciding_ratio, grade, measure_column
from ..spine.physiologic import physiologic_shapes
from .spines import Spine

UNGRADED = -1
MILD, NORMAL = GRADES.index("mild"), GRADES.index("normal")


@dataclass(frozen=True, eq=False)
class Graded:
    """What a rule says of the `n` vertebrae of a spine.

    Attributes
    ----------
    grade : `(n,)` indices into `genant.GRADES`; `UNGRADED` where the rule has no answer.
    score : `(n,)`, higher the more likely a fracture; nan where the rule gives none.
    loss : `(n, 3)` height loss [anterior, middle, posterior]; nan where the rule does not measure it.
    thirds : True if the losses are means of the thirds of the depth, False if they are those at the key points.
    """

    grade: np.ndarray
    score: np.ndarray
    loss: np.ndarray
    thirds: bool = False


def by_ratio(spine: Spine) -> Graded:
    """Grade each vertebra by its own G."""
    measured = measure_column(spine.keypoints)
    return _graded([grade(m.genant_ratio) for m in measured], [-m.genant_ratio for m in measured])


def by_neighbours(spine: Spine) -> Graded:
    """Grade by G, and a crush by the heights of its neighbours, as the program reports it."""
    measured = measure_column(spine.keypoints)
    return _graded([m.grade for m in measured], [-deciding_ratio(m) for m in measured])


def without_physiologic(spine: Spine) -> Graded:
    """Grade as `by_neighbours`, but a shape that is usual at its level or in the patient is normal.

    This is the grade that counts for the patient. The names of the levels are taken to be certain.
    """
    measured = measure_column(spine.keypoints)
    count = len(measured)
    told = physiologic_shapes(measured, spine.levels, [{}] * count, [False] * count)
    return _graded(["normal" if why else m.grade for m, why in zip(measured, told, strict=True)])


def mild_with_loss(spine: Spine) -> Graded:
    """Grade as `by_neighbours`, but mild only with a height loss of at least `expected.FITS`.

    Without neighbours nothing tells the loss, and a mild vertebra stays mild.
    """
    measured = measure_column(spine.keypoints)
    found = expectations(spine.keypoints, spine.levels)
    return _graded(["normal" if _fits(m, e) else m.grade for m, e in zip(measured, found, strict=True)])


def by_loss(spine: Spine) -> Graded:
    """Grade by the largest height loss against the expected heights, with the thresholds of Genant et al. 1993."""
    found = expectations(spine.keypoints, spine.levels)
    return _lost(found, [None if e is None else GRADES.index(grade(1 - max(e.loss))) for e in found])


def by_machine(spine: Spine) -> Graded:
    """Grade the three height losses against the expected heights by the shipped linear support vector machine."""
    found = expectations(spine.keypoints, spine.levels)
    return _lost(found, [None if e is None else GRADES.index(e.grade) for e in found])


def graded_losses(losses: np.ndarray, grades: Sequence[int | None], thirds: bool) -> Graded:
    """Return the `Graded` of losses `(n, 3)`, nan where unknown; the score is the largest loss."""
    grade_of = np.array([UNGRADED if g is None else g for g in grades], int)
    return Graded(grade_of, losses.max(1), losses, thirds)


def loss_grades(loss: np.ndarray, fractured: np.ndarray) -> np.ndarray:
    """Return the grades `(n,)` of true losses `(n, 3)`: by the largest, as `by_loss`; normal without a fracture.

    `UNGRADED` where the loss is not known.
    """
    largest = np.where(fractured, loss.max(1), np.where(np.isnan(loss).any(1), np.nan, 0.0))
    return np.array([UNGRADED if np.isnan(x) else GRADES.index(grade(1 - x)) for x in largest], int)


def _fits(m: Measurement, e: Expectation | None) -> bool:
    return m.grade == "mild" and e is not None and max(e.loss) < FITS


def _graded(grades: Sequence[str], scores: Sequence[float] | None = None) -> Graded:
    count = len(grades)
    score = np.full(count, np.nan) if scores is None else np.array(scores, float)
    return Graded(np.array([GRADES.index(g) for g in grades], int), score, np.full((count, 3), np.nan))


def _lost(found: Sequence[Expectation | None], grades: Sequence[int | None]) -> Graded:
    losses = np.array([[np.nan] * 3 if e is None else e.loss for e in found], float).reshape(-1, 3)
    return graded_losses(losses, grades, thirds=False)


Rule = Callable[[Spine], Graded]

BY_G = "G"
REPORTED = "G and neighbours"
BY_LOSS, BY_MACHINE = "height loss", "height loss, SVM"
BY_PICTURE = "synthetic picture, SVM"  # not of points alone: see `picture_losses`
GRADERS: dict[str, Rule] = {
    BY_G: by_ratio,
    REPORTED: by_neighbours,
    "G, physiologic shapes normal": without_physiologic,
    "G, mild only with height loss": mild_with_loss,
    BY_LOSS: by_loss,
    BY_MACHINE: by_machine,
}
