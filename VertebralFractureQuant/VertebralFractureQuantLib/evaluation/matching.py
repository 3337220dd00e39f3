"""Match measured with true vertebrae, and measure the distances between their key points (RAS mm).

Vertebrae are key points `(n, 3, 2, 3)`. They are paired one to one, by the distance of their centres or by their
overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..spine.butterfly import butterfly_iou
from ..spine.genant import Measurement, measure_column
from ..spine.keypoints import centers
from ..spine.record import SpineAnalysis, vertebra_name

HALF_A_VERTEBRA_MM = 15.0
PARTIAL_RADIUS_MM = 15.0  # a prediction this close to the centre of a partial vertebra is neither right nor wrong
CENTER_THRESHOLD_MM = 20.0  # Zakharov et al. 2023 on VerSe, after Loeffler et al. 2020
# Zakharov et al. 2023 (Cancer500) discard pairs below "a given threshold" without stating it; this one is of their NMS.
OVERLAP_THRESHOLD = 0.1


@dataclass(frozen=True)
class Matching:
    """A one-to-one matching, as indices.

    Attributes
    ----------
    pairs : (predicted, true) of each pair.
    false : the predictions without a true vertebra.
    missed : the true vertebrae without a prediction.
    """

    pairs: tuple[tuple[int, int], ...]
    false: tuple[int, ...]
    missed: tuple[int, ...]


def match(predicted: np.ndarray, truth: np.ndarray, max_distance_mm: float = HALF_A_VERTEBRA_MM) -> Matching:
    """Pair `(n, 3, 2, 3)` with `(m, 3, 2, 3)` mm so that the sum of the distances between centres is smallest.

    No pair is farther apart than `max_distance_mm`. Pairs are in the order of `predicted`.
    """
    predicted, truth = _column(predicted), _column(truth)
    return _pair(_center_distances(predicted, truth), max_distance_mm)


def match_overlap(predicted: np.ndarray, truth: np.ndarray, threshold: float = OVERLAP_THRESHOLD) -> Matching:
    """Pair `(n, 3, 2, 3)` with `(m, 3, 2, 3)` mm by the largest sum of Butterfly-IoU, in the order of `predicted`.

    No pair overlaps less than `threshold`.

    Outlines are compared in the plane of the true vertebra, so lateral distance does not count.
    """
    predicted, truth = _column(predicted), _column(truth)
    overlap = np.zeros((len(predicted), len(truth)))
    for j, vertebra in enumerate(truth):
        plane = _plane(vertebra)
        true, found = vertebra @ plane, predicted @ plane
        near = (found.max((1, 2)) > true.min((0, 1))).all(1) & (found.min((1, 2)) < true.max((0, 1))).all(1)
        for i in np.flatnonzero(near):
            overlap[i, j] = butterfly_iou(found[i], true)
    return _pair(1 - overlap, 1 - threshold)


def is_partial(keypoints: np.ndarray, partial: np.ndarray) -> np.ndarray:
    """Return which vertebrae of `(n, 3, 2, 3)` mm lie within `PARTIAL_RADIUS_MM` of a centre in `partial` `(p, 3)`."""
    distance = np.linalg.norm(centers(_column(keypoints))[:, None] - np.reshape(partial, (1, -1, 3)), axis=-1)
    return (distance <= PARTIAL_RADIUS_MM).any(axis=1)


def _pair(cost: np.ndarray, most: float) -> Matching:
    """Find the one-to-one pairs of smallest total `cost` `(predicted, true)`; none costs more than `most`."""
    from scipy.optimize import linear_sum_assignment  # heavy import, needed by evaluation only

    allowed = cost <= most
    # A forbidden pair costs more than all allowed ones together, so it never displaces an allowed one.
    forbidden = (most + 1) * (sum(cost.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(allowed, cost, forbidden))
    pairs = tuple((int(i), int(j)) for i, j in zip(rows, columns, strict=True) if allowed[i, j])
    used, found = {i for i, _ in pairs}, {j for _, j in pairs}
    return Matching(
        pairs=pairs,
        false=tuple(i for i in range(cost.shape[0]) if i not in used),
        missed=tuple(j for j in range(cost.shape[1]) if j not in found),
    )


def _center_distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(centers(predicted)[:, None] - centers(truth)[None], axis=-1)


def _plane(keypoints: np.ndarray) -> np.ndarray:
    """Two orthonormal directions `(3, 2)`, forward and up, in the plane of six points `(3, 2, 3)`."""
    front = keypoints[0].mean(0) - keypoints[2].mean(0)
    front = front / np.linalg.norm(front)
    up = (keypoints[:, 0] - keypoints[:, 1]).mean(0)
    up = up - (up @ front) * front
    return np.stack([front, up / np.linalg.norm(up)], axis=1)


def point_errors(predicted: np.ndarray, truth: np.ndarray, matching: Matching) -> np.ndarray:
    """Return the distances `(pairs, 3, 2)` in mm between the key points of matched vertebrae."""
    rows = [i for i, _ in matching.pairs]
    columns = [j for _, j in matching.pairs]
    return np.linalg.norm(_column(predicted)[rows] - _column(truth)[columns], axis=-1)


@dataclass(frozen=True)
class VertebraComparison:
    """One true vertebra and its measurement; `measured` and `point_error_mm` are None if it was missed."""

    name: str
    truth: Measurement
    measured: Measurement | None
    point_error_mm: float | None


@dataclass(frozen=True)
class Comparison:
    """An analysis compared with the known truth; `false` names the measured vertebrae that do not exist."""

    vertebrae: tuple[VertebraComparison, ...]
    false: tuple[str, ...]

    @property
    def found(self) -> int:
        """The number of true vertebrae that were found."""
        return sum(v.measured is not None for v in self.vertebrae)

    @property
    def mean_point_error_mm(self) -> float | None:
        """The mean distance between measured and true key points over found vertebrae; None if none was found."""
        errors = [v.point_error_mm for v in self.vertebrae if v.point_error_mm is not None]
        return float(np.mean(errors)) if errors else None


def compare(analysis: SpineAnalysis, truth: np.ndarray, levels: list[str] | None = None) -> Comparison:
    """Compare the vertebrae of `analysis` that count with true key points `(m, 3, 2, 3)` RAS mm, cranial first.

    levels : names of the true vertebrae; V1, V2, ... if not given.
    """
    assessed = analysis.graded
    truth = _column(truth)
    predicted = _column(np.array([v.keypoints for v in assessed]))
    matching = match(predicted, truth)
    errors = point_errors(predicted, truth, matching).mean((1, 2))
    error_of = {j: float(e) for (_, j), e in zip(matching.pairs, errors, strict=True)}
    measured = {j: assessed[i].measurement for i, j in matching.pairs}
    names = levels or [f"V{j + 1}" for j in range(len(truth))]
    return Comparison(
        vertebrae=tuple(
            VertebraComparison(names[j], m, measured.get(j), error_of.get(j))
            for j, m in enumerate(measure_column(truth))
        ),
        false=tuple(vertebra_name(assessed[i], i) for i in matching.false),
    )


def _column(keypoints: np.ndarray) -> np.ndarray:
    return np.asarray(keypoints, float).reshape(-1, 3, 2, 3)
