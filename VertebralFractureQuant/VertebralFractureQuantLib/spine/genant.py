"""Heights, Genant ratio, grade and shape of a vertebral body, from its six key points.

Heights are 3D distances in patient millimetres, never lengths in a straightened image, which is stretched.
G = min(ha, hm, hp) / max(ha, hm, hp). Grades follow Genant et al. 1993, as used by Zakharov et al. 2023.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from .keypoints import POSTERIOR, check_keypoints

GRADES = ("normal", "mild", "moderate", "severe")
SHAPES = ("wedge", "biconcave", "crush")  # the lowest height is the anterior, middle, posterior one

MILD = 0.80  # fractured: G <= 0.80
MODERATE = 0.75  # data table of Zakharov et al. 2023
MODERATE_METRIC = 0.74  # "at least moderate" in the metrics of the same paper
SEVERE = 0.60
# Rounding, as of millimetres in a rotated frame, must not move a ratio across the threshold on which it lies.
ROUNDING = 1e-9

# For key points without a known standard deviation of G. Between readers, the 95 % limits of agreement for height loss
# on CT reach +-12.5 percentage points, a standard deviation of about 6. Half of this from a threshold, another reader
# may well choose the other grade.
BORDERLINE_MARGIN = 0.03

# A body is crushed if its mean height is at most this share of the height expected from its neighbours, even if its own
# G is normal.
CRUSH_RATIO = 0.80
# The first and the last vertebra have neighbours on one side alone. There a normal neck looks collapsed: from C6 to T1
# the height grows by 12 % per level. In 100 patients annotated by experts, a topmost C6 or C7 reaches down to 0.75.
CRUSH_RATIO_AT_END = 0.70
CRUSH_NEIGHBOURS = 2
GROWTH = 1.035  # normal height of a vertebra divided by that of the one above


@dataclass(frozen=True)
class Measurement:
    """The measurement of one vertebra from its six key points.

    Attributes
    ----------
    heights_mm : (anterior, middle, posterior).
    genant_ratio : G = min / max of the heights.
    grade : one of `GRADES`.
    shape : one of `SHAPES`, or None.
    borderline : True if the ratio that gave the grade is close to a threshold.
    crush_ratio : mean height divided by the height expected from the neighbours; None if they give no expectation.
    """

    heights_mm: tuple[float, float, float]
    genant_ratio: float
    grade: str
    shape: str | None
    borderline: bool
    crush_ratio: float | None = None


def heights(keypoints: np.ndarray) -> np.ndarray:
    """Return the heights `(..., 3)`: distances superior to inferior, in the units of `keypoints` `(..., 3, 2, d)`."""
    points = check_keypoints(keypoints)
    return np.linalg.norm(points[..., 0, :] - points[..., 1, :], axis=-1)


def genant_ratio(heights_mm: Sequence[float] | np.ndarray) -> float:
    """Return G = min / max of the three heights `(3,)` mm.

    ValueError unless all are finite, none is negative and the largest is positive.
    """
    values = np.asarray(heights_mm, float)
    if values.shape != (3,) or not np.isfinite(values).all() or values.min() < 0 or values.max() <= 0:
        raise ValueError(f"three finite heights are needed, one of them positive; got {heights_mm}")
    return float(values.min() / values.max())


def ratio_text(ratio: float) -> str:
    """Write G with two decimals; with three if it lies less than 0.005 from a threshold of a grade."""
    near = any(abs(ratio - t) < 0.005 for t in (MILD, MODERATE, SEVERE))
    return f"{ratio:.3f}" if near else f"{ratio:.2f}"


def deciding_ratio(m: Measurement) -> float:
    """Return the ratio that gave the grade: the crush ratio if G alone gives another grade, else G."""
    return m.genant_ratio if m.crush_ratio is None or grade(m.genant_ratio) == m.grade else m.crush_ratio


def deciding_text(m: Measurement) -> str:
    """Write G, "0.71"; if the crush ratio gave the grade, it follows: "0.95 (0.57 of neighbours)"."""
    decided = deciding_ratio(m)
    crush = f" ({ratio_text(decided)} of neighbours)" if decided < m.genant_ratio else ""
    return ratio_text(m.genant_ratio) + crush


def severity(m: Measurement) -> tuple[int, float]:
    """Return a key to sort by, worst first: by grade, and within a grade by the ratio that gave it."""
    return -GRADES.index(m.grade), deciding_ratio(m)


def grade(ratio: float, moderate: float = MODERATE) -> str:
    """Return the Genant grade of a ratio; a ratio on a threshold t gets the worse grade (G <= t)."""
    if ratio <= SEVERE + ROUNDING:
        return "severe"
    if ratio <= moderate + ROUNDING:
        return "moderate"
    return "mild" if ratio <= MILD + ROUNDING else "normal"


def worst_grade(grades: Iterable[str]) -> str | None:
    """Return the most severe of `grades`; None if there are none."""
    return max(grades, key=GRADES.index, default=None)


def deformity_index(grades: Iterable[str]) -> int:
    """Return the spinal deformity index (SDI): the sum of grades 0 to 3 (Crans et al. 2005)."""
    return sum(map(GRADES.index, grades))


def is_borderline(ratio: float, margin: float = BORDERLINE_MARGIN) -> bool:
    """True if a grade's threshold lies within `margin` of the ratio."""
    return any(abs(ratio - t) <= margin + ROUNDING for t in (MILD, MODERATE, SEVERE))


def grade_doubt(ratio: float, spread: float) -> float:
    """Return the probability that the true G has another grade, for a normal error with standard deviation `spread`."""
    spread = max(spread, ROUNDING)
    thresholds = np.array([-np.inf, SEVERE, MODERATE, MILD, np.inf])
    above = int(np.searchsorted(thresholds[1:-1] + ROUNDING, ratio)) + 1
    low, high = (0.5 * (1 + math.erf((t - ratio) / (spread * math.sqrt(2)))) for t in thresholds[above - 1 : above + 1])
    return 1.0 - (high - low)


def crush_neighbourhood(index: int, count: int) -> range:
    """Return the indices, of `count` vertebrae, whose measurement depends on vertebra `index`, including its own."""
    return range(max(0, index - CRUSH_NEIGHBOURS), min(count, index + CRUSH_NEIGHBOURS + 1))


def expected_height(heights: Sequence[float] | np.ndarray, i: int) -> float:
    """Return the mean height, mm, that is expected of vertebra `i` from up to two neighbours on either side.

    heights : `(n,)` mean heights in mm, cranial to caudal. The result is nan with fewer than two neighbours. It is the
    median of the neighbours' heights, each scaled by the normal growth per level, so one fractured neighbour matters
    little. A neighbour whose height is nan is left out.
    """
    near = _near(heights, i)
    if len(near) < CRUSH_NEIGHBOURS:
        return float("nan")
    return median(float(heights[j]) * GROWTH ** (i - j) for j in near)


def _near(heights: Sequence[float] | np.ndarray, i: int) -> list[int]:
    """Return the indices of the neighbours of vertebra `i` whose height is known."""
    return [j for j in crush_neighbourhood(i, len(heights)) if j != i and not math.isnan(heights[j])]


def _crush_threshold(heights: Sequence[float] | np.ndarray, i: int) -> float:
    near = _near(heights, i)
    on_both_sides = bool(near) and near[0] < i < near[-1]
    return CRUSH_RATIO if on_both_sides else CRUSH_RATIO_AT_END


def measure(
    keypoints: np.ndarray,
    expected_height: float = float("nan"),
    crush_threshold: float = CRUSH_RATIO,
    margin: float = BORDERLINE_MARGIN,
) -> Measurement:
    """Measure one vertebra.

    Parameters
    ----------
    keypoints : `(3, 2, 3)` RAS mm.
    expected_height : mean height expected from the neighbours, mm; nan if unknown: then there is no crush test.
    crush_threshold : the vertebra is crushed if its mean height is at most this share of `expected_height`.
    margin : a ratio within this distance of a threshold is borderline; the standard deviation of G if it is known.

    Raises
    ------
    ValueError : for key points that have another shape, are not finite, or have no height at all.
    """
    return _measurement(heights(keypoints), expected_height, crush_threshold, margin)


def measure_column(
    keypoints: Sequence[np.ndarray] | np.ndarray,
    spreads: Sequence[float | None] | None = None,
    only: Collection[int] | None = None,
    left_out: Collection[int] = (),
) -> list[Measurement]:
    """Measure vertebrae `(n, 3, 2, 3)` RAS mm, cranial to caudal, each with the crush test against its neighbours.

    spreads : standard deviations of G, None where unknown.
    only : indices of the vertebrae to measure (`crush_neighbourhood` of one that moved); all if None. The result has
        one measurement for each, in the order of the column.
    left_out : indices of vertebrae from which no other's height is expected (`plausibility.impossible`).
    """
    count = len(keypoints)
    if count == 0:
        return []
    all_heights = heights(keypoints if isinstance(keypoints, np.ndarray) else np.stack(list(keypoints)))
    known = all_heights.mean(-1).tolist()
    for i in left_out:
        known[i] = float("nan")
    margins = [BORDERLINE_MARGIN if s is None else s for s in spreads or [None] * count]
    return [
        _measurement(
            all_heights[i],
            expected_height(known, i),
            _crush_threshold(known, i),
            margins[i],
        )
        for i in sorted(range(count) if only is None else only)
    ]


def _measurement(h: np.ndarray, expected_height: float, crush_threshold: float, margin: float) -> Measurement:
    ratio = genant_ratio(h)
    mean = float(h.mean())
    crush = mean / expected_height if math.isfinite(expected_height) else None
    crushed = crush is not None and crush <= crush_threshold and bool(h.max() <= 0.9 * expected_height)
    deciding = min(ratio, crush) if crushed and crush is not None else ratio
    return Measurement(
        heights_mm=(float(h[0]), float(h[1]), float(h[2])),
        genant_ratio=ratio,
        grade=grade(deciding),
        shape=_shape(h, ratio, crushed),
        borderline=is_borderline(deciding, margin),
        crush_ratio=crush,
    )


def _shape(h: np.ndarray, ratio: float, crushed: bool) -> str | None:
    """Return None for a normal vertebra, and for a mildly lower posterior wall: a lordotic L5 is not crushed."""
    if crushed and ratio > MODERATE + ROUNDING:
        return "crush"
    if ratio > MILD + ROUNDING:
        return None
    if np.argmin(h) == POSTERIOR and not crushed and ratio > MODERATE + ROUNDING:
        return None
    return SHAPES[int(np.argmin(h))]
