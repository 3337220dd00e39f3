"""Heights, Genant ratio, grade and shape of a vertebral body, from its six key points.

Heights are 3D distances in patient millimetres, never lengths in a straightened picture (which stretches).
G = min(ha, hm, hp) / max(ha, hm, hp); grades after Genant et al. 1993, as used by Zakharov et al. 2023.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from .keypoints import POSTERIOR, check_keypoints

GRADES = ("normal", "mild", "moderate", "severe")
SHAPES = ("wedge", "biconcave", "crush")  # by which height is lowest: anterior, middle, posterior

MILD = 0.80  # fractured: G <= 0.80
MODERATE = 0.75  # data table of Zakharov et al. 2023
MODERATE_METRIC = 0.74  # "at least moderate" in the metrics of the same paper
SEVERE = 0.60
# Rounding of millimetres in a rotated frame shall not move a ratio across the threshold that it lies on.
ROUNDING = 1e-9

# For points without a spread of their own: human 95 % limits of agreement for height loss on CT reach +-12.5
# percentage points (METHOD), so SD about 6; half an SD from a threshold the next reader could well grade otherwise.
BORDERLINE_MARGIN = 0.03

# A body lower than this part of what its neighbours lead to expect is crushed even if its own ratio is normal.
CRUSH_RATIO = 0.80
# The first and the last vertebra are judged from one side, where a normal neck looks collapsed: heights jump by 12 %
# a level from C6 to T1. Topmost C6 and C7 of 100 expert-annotated patients reach down to 0.75.
CRUSH_RATIO_AT_END = 0.70
CRUSH_NEIGHBOURS = 2
GROWTH = 1.035  # normal height of a vertebra over that of the one above


@dataclass(frozen=True)
class Measurement:
    """What one vertebra's six points say; `heights_mm` is (anterior, middle, posterior).

    `crush_ratio` is the mean height over the height its neighbours lead to expect, None without neighbours.
    """

    heights_mm: tuple[float, float, float]
    genant_ratio: float
    grade: str
    shape: str | None
    borderline: bool
    crush_ratio: float | None = None


def heights(keypoints: np.ndarray) -> np.ndarray:
    """`(..., 3)` distances superior-inferior in the units of `keypoints` `(..., 3, 2, d)`."""
    points = check_keypoints(keypoints)
    return np.linalg.norm(points[..., 0, :] - points[..., 1, :], axis=-1)


def genant_ratio(heights_mm: Sequence[float] | np.ndarray) -> float:
    """G = min / max of the three heights. ValueError unless all are finite and the largest is positive."""
    values = np.asarray(heights_mm, float)
    if values.shape != (3,) or not np.isfinite(values).all() or values.min() < 0 or values.max() <= 0:
        raise ValueError(f"three finite heights are needed, one of them positive; got {heights_mm}")
    return float(values.min() / values.max())


def ratio_text(ratio: float) -> str:
    """G to two digits; to three where two would not tell on which side of a grade's threshold it lies."""
    near = any(abs(ratio - t) < 0.005 for t in (MILD, MODERATE, SEVERE))
    return f"{ratio:.3f}" if near else f"{ratio:.2f}"


def deciding_ratio(m: Measurement) -> float:
    """The ratio that gave the grade: the crush ratio where G alone would give a milder one, else G."""
    return m.genant_ratio if m.crush_ratio is None or grade(m.genant_ratio) == m.grade else m.crush_ratio


def deciding_text(m: Measurement) -> str:
    """ "0.71": G; behind it the crush ratio, where that gave the grade: "0.95 (0.57 of neighbours)"."""
    decided = deciding_ratio(m)
    crush = f" ({ratio_text(decided)} of neighbours)" if decided < m.genant_ratio else ""
    return ratio_text(m.genant_ratio) + crush


def severity(m: Measurement) -> tuple[int, float]:
    """To sort by, the worst first: by grade, and within a grade by the ratio that gave it."""
    return -GRADES.index(m.grade), deciding_ratio(m)


def grade(ratio: float, moderate: float = MODERATE) -> str:
    """Genant grade of a ratio; a ratio on a threshold takes the worse grade (G <= t)."""
    if ratio <= SEVERE + ROUNDING:
        return "severe"
    if ratio <= moderate + ROUNDING:
        return "moderate"
    return "mild" if ratio <= MILD + ROUNDING else "normal"


def worst_grade(grades: Iterable[str]) -> str | None:
    """The most severe of `grades`; None when there is none."""
    return max(grades, key=GRADES.index, default=None)


def deformity_index(grades: Iterable[str]) -> int:
    """SDI, the spinal deformity index: the sum of grades 0 to 3 (Crans et al. 2005)."""
    return sum(map(GRADES.index, grades))


def is_borderline(ratio: float, margin: float = BORDERLINE_MARGIN) -> bool:
    """Whether a grade threshold lies within `margin` of the ratio."""
    return any(abs(ratio - t) <= margin + ROUNDING for t in (MILD, MODERATE, SEVERE))


def grade_doubt(ratio: float, spread: float) -> float:
    """The chance that G lies in another grade than it stands in, its error being normal with SD `spread` > 0."""
    spread = max(spread, ROUNDING)
    thresholds = np.array([-np.inf, SEVERE, MODERATE, MILD, np.inf])
    above = int(np.searchsorted(thresholds[1:-1] + ROUNDING, ratio)) + 1
    low, high = (0.5 * (1 + math.erf((t - ratio) / (spread * math.sqrt(2)))) for t in thresholds[above - 1 : above + 1])
    return 1.0 - (high - low)


def crush_neighbourhood(index: int, count: int) -> range:
    """The vertebrae of `count` whose measurement depends on where vertebra `index` stands, itself among them."""
    return range(max(0, index - CRUSH_NEIGHBOURS), min(count, index + CRUSH_NEIGHBOURS + 1))


def expected_height(heights: np.ndarray, i: int) -> float:
    """What the neighbours of vertebra `i` (up to two on either side) lead to expect as its mean height, mm.

    heights : `(n,)` mean heights in mm, cranial to caudal. nan where there are fewer than two neighbours. The median of
    the neighbours' heights, each carried over by the normal growth from level to level, resists a fractured neighbour.
    """
    near = [j for j in crush_neighbourhood(i, len(heights)) if j != i]
    if len(near) < CRUSH_NEIGHBOURS:
        return float("nan")
    return median(float(heights[j]) * GROWTH ** (i - j) for j in near)


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
    expected_height : the mean height that its neighbours lead to expect, mm; nan, if unknown, omits the crush test.
    crush_threshold : the vertebra is crushed where its mean height is at most this part of `expected_height`.
    margin : borderline is a ratio nearer than this to a threshold; the spread of G where it is known.

    Raises
    ------
    ValueError : for key points of another shape, not finite, or without any height.
    """
    return _measurement(heights(keypoints), expected_height, crush_threshold, margin)


def measure_column(
    keypoints: Sequence[np.ndarray] | np.ndarray,
    spreads: Sequence[float | None] | None = None,
    only: Collection[int] | None = None,
) -> list[Measurement]:
    """Measure vertebrae `(n, 3, 2, 3)` RAS mm given from cranial to caudal, each with its neighbours' crush test.

    spreads : standard deviations of their G, None where unknown.
    only : indices of those to measure (`crush_neighbourhood` of one that moved); all if not given. The result has one
        measurement for each, in the order of the column.
    """
    count = len(keypoints)
    if count == 0:
        return []
    all_heights = heights(np.stack(list(keypoints)))
    means = all_heights.mean(-1)
    margins = [BORDERLINE_MARGIN if s is None else s for s in spreads or [None] * count]
    return [
        _measurement(
            all_heights[i],
            expected_height(means, i),
            CRUSH_RATIO_AT_END if i in (0, count - 1) else CRUSH_RATIO,
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
    """None for a normal vertebra, and for a mildly lower posterior wall: a lordotic L5 is no crush."""
    if crushed and ratio > MODERATE + ROUNDING:
        return "crush"
    if ratio > MILD + ROUNDING:
        return None
    if np.argmin(h) == POSTERIOR and not crushed and ratio > MODERATE + ROUNDING:
        return None
    return SHAPES[int(np.argmin(h))]
