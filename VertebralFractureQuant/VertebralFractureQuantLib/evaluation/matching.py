"""Which measured vertebra is which true one, and how far apart their points lie (RAS mm).

Vertebrae are key points `(n, 3, 2, 3)`; they are paired one to one by the distance of their centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..genant import Measurement, measure_column
from ..keypoints import centers
from ..record import SpineAnalysis, vertebra_name

HALF_A_VERTEBRA_MM = 15.0


@dataclass(frozen=True)
class Matching:
    """`pairs` of (predicted index, true index), the predictions without a truth, the truths without a prediction."""

    pairs: tuple[tuple[int, int], ...]
    false: tuple[int, ...]
    missed: tuple[int, ...]


def match(predicted: np.ndarray, truth: np.ndarray, max_distance_mm: float = HALF_A_VERTEBRA_MM) -> Matching:
    """Pair `(n, 3, 2, 3)` with `(m, 3, 2, 3)` mm so that the sum of centre distances is least.

    No pair is farther apart than `max_distance_mm`; pairs are in the order of `predicted`.
    """
    from scipy.optimize import linear_sum_assignment  # heavy import, needed by evaluation only

    predicted, truth = _column(predicted), _column(truth)
    distance = np.linalg.norm(centers(predicted)[:, None] - centers(truth)[None], axis=-1)
    near = distance <= max_distance_mm
    # A forbidden pair costs more than all allowed ones together, so none is bought at the price of an allowed one.
    forbidden = (max_distance_mm + 1) * (sum(distance.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(near, distance, forbidden))
    pairs = tuple((int(i), int(j)) for i, j in zip(rows, columns, strict=True) if near[i, j])
    used, found = {i for i, _ in pairs}, {j for _, j in pairs}
    return Matching(
        pairs=pairs,
        false=tuple(i for i in range(len(predicted)) if i not in used),
        missed=tuple(j for j in range(len(truth)) if j not in found),
    )


def point_errors(predicted: np.ndarray, truth: np.ndarray, matching: Matching) -> np.ndarray:
    """Distances `(pairs, 3, 2)` mm between the key points of matched vertebrae."""
    rows = [i for i, _ in matching.pairs]
    columns = [j for _, j in matching.pairs]
    return np.linalg.norm(_column(predicted)[rows] - _column(truth)[columns], axis=-1)


@dataclass(frozen=True)
class VertebraComparison:
    """One true vertebra, and what was measured of it (None where it was missed)."""

    name: str
    truth: Measurement
    measured: Measurement | None
    point_error_mm: float | None


@dataclass(frozen=True)
class Comparison:
    """An analysis held against the known truth; `false` names the vertebrae that are not there."""

    vertebrae: tuple[VertebraComparison, ...]
    false: tuple[str, ...]

    @property
    def found(self) -> int:
        """How many of the true vertebrae were found."""
        return sum(v.measured is not None for v in self.vertebrae)

    @property
    def mean_point_error_mm(self) -> float | None:
        """The mean over found vertebrae of their mean distance between points; None when none was found."""
        errors = [v.point_error_mm for v in self.vertebrae if v.point_error_mm is not None]
        return float(np.mean(errors)) if errors else None


def compare(analysis: SpineAnalysis, truth: np.ndarray, levels: list[str] | None = None) -> Comparison:
    """Hold the assessed vertebrae of `analysis` against true key points `(m, 3, 2, 3)` RAS mm, cranial first."""
    assessed = analysis.assessed
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
