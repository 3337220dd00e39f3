"""Statistics of plain arrays: ROC, sensitivity at a specificity, Bland-Altman, and bootstrap intervals over patients.

Arrays are `(n,)`. A score is higher the more likely the case is positive (for fractures: minus G); `positive` holds
booleans. A statistic that cannot be computed is nan.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

SPECIFICITY = 0.9  # for which Zakharov et al. 2023 give the sensitivity
LIMITS_SD = 1.96  # standard deviations that hold 95 % of a normal distribution
REPEATS = 1000  # bootstrap draws
COVERAGE = 0.95  # of the intervals
LEAST_DRAWN = 0.8  # share of the draws in which a figure must exist to get an interval

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; `low` and `high` are nan if there is no interval."""

    value: float
    low: float
    high: float


Key = tuple[str, ...]  # (section, name, ...)
Figures = dict[Key, float]
Estimates = dict[Key, Estimate]


@dataclass(frozen=True)
class BlandAltman:
    """Bias and standard deviation (n - 1) of measured minus reference, and the 95 % limits of agreement."""

    bias: float
    sd: float

    @property
    def low(self) -> float:
        """The lower 95 % limit of agreement."""
        return self.bias - LIMITS_SD * self.sd

    @property
    def high(self) -> float:
        """The upper 95 % limit of agreement."""
        return self.bias + LIMITS_SD * self.sd


def mean(values: np.ndarray) -> float:
    """Return the mean; nan of an empty array."""
    return float(np.mean(values)) if np.size(values) else float("nan")


def median(values: np.ndarray) -> float:
    """Return the median; nan of an empty array."""
    return float(np.median(values)) if np.size(values) else float("nan")


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve.

    It is the probability that a positive scores higher than a negative; a tie counts half.
    """
    negatives, positives = np.sort(scores[~positive]), scores[positive]
    if not len(negatives) or not len(positives):
        return float("nan")
    below = np.searchsorted(negatives, positives) + np.searchsorted(negatives, positives, side="right")
    return float(below.mean() / 2 / len(negatives))


def sensitivity_at(scores: np.ndarray, positive: np.ndarray, specificity: float = SPECIFICITY) -> float:
    """Return the highest sensitivity of any threshold whose specificity is at least `specificity`."""
    negatives, positives = np.sort(scores[~positive]), scores[positive]
    if not len(negatives) or not len(positives):
        return float("nan")
    spared = int(np.ceil(specificity * len(negatives) - 1e-9))
    return float((positives > negatives[spared - 1]).mean()) if spared else 1.0


def roc(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 - specificity and sensitivity at every threshold, `(thresholds,)` each, both from 0 to 1.

    Both arrays are empty if there are no positives or no negatives.
    """
    negatives, positives = np.sort(scores[~positive]), np.sort(scores[positive])
    if not len(negatives) or not len(positives):
        return np.empty(0), np.empty(0)
    thresholds = np.r_[np.inf, np.unique(scores)[::-1]]
    return tuple(1 - np.searchsorted(s, thresholds) / len(s) for s in (negatives, positives))  # type: ignore[return-value]


def bland_altman(measured: np.ndarray, reference: np.ndarray) -> BlandAltman:
    """Compare two arrays of the same shape after Bland & Altman 1986; nan for fewer than two values."""
    difference = np.ravel(measured) - np.ravel(reference)
    if len(difference) < 2:
        return BlandAltman(float("nan"), float("nan"))
    return BlandAltman(float(difference.mean()), float(difference.std(ddof=1)))


def bootstrap(
    patients: Sequence[Sequence[T]],
    figures: Callable[[list[T]], dict[K, float]],
    repeats: int = REPEATS,
    seed: int = 0,
    shares: Callable[[K], bool] = lambda key: False,
) -> dict[K, Estimate]:
    """Compute `figures` of all items, with percentile intervals from drawing whole patients with replacement.

    Vertebrae and scans of one patient are alike, so the items of a patient stay together. A figure that depends on a
    single patient exists in at most three of four draws, which is below `LEAST_DRAWN`: it gets no interval.

    Parameters
    ----------
    patients : the items (scans, or vertebrae) of each patient.
    figures : computes the figures of a list of items.
    repeats, seed : number of draws, and seed of the random generator.
    shares : whether the figure of a key is a share. A share of 0 or 1 is the same in every draw; it gets the exact
        interval for this number of patients.
    """
    rng = np.random.default_rng(seed)
    values = figures([item for patient in patients for item in patient])
    repeats = repeats if len(patients) > 1 else 0
    drawn = []
    for _ in range(repeats):
        chosen = rng.integers(len(patients), size=len(patients))
        drawn.append(figures([item for i in chosen for item in patients[i]]))
    found = {key: _estimate(value, [d.get(key, np.nan) for d in drawn]) for key, value in values.items()}
    return {key: _widened(e, len(patients)) if shares(key) else e for key, e in found.items()}


def _widened(estimate: Estimate, patients: int) -> Estimate:
    """Replace an interval of width zero at 0 or 1 by the exact binomial one (Clopper & Pearson 1934)."""
    rest = 1 - ((1 - COVERAGE) / 2) ** (1 / patients)
    if estimate.low == estimate.high == 0:
        return replace(estimate, high=rest)
    return replace(estimate, low=1 - rest) if estimate.low == estimate.high == 1 else estimate


def _estimate(value: float, draws: list[float]) -> Estimate:
    finite = np.array([d for d in draws if np.isfinite(d)])
    if not draws or len(finite) < LEAST_DRAWN * len(draws):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(finite, [50 * (1 - COVERAGE), 50 * (1 + COVERAGE)])
    return Estimate(value, float(low), float(high))
