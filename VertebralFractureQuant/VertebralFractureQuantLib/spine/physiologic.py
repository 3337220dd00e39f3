"""Physiologic shapes: vertebrae whose heights differ as they do in healthy people at this level, or in this patient.

min / max of three heights knows no anatomy. L5 is lower behind in nearly everyone, T6 to T8 are lower in front, and the
middle height is a little lower at every level. Here a vertebra that the Genant grade calls fractured is divided by the
shape that is expected at its level; it is physiologic if its ratio then is normal. The grade itself does not change.

A shape is three heights (anterior, middle, posterior), each relative to the largest of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import median

from .genant import CRUSH_RATIO, MILD, ROUNDING, Measurement
from .levels import CERVICAL, NAMES, TALLEST_MM

Shape = tuple[float, float, float]

# Ratio of anterior to posterior height of healthy adults. From T1 to L3 the means of `phantom.morphometry` (Panjabi et
# al. 1991, 1992; readings of CT), which lie within 0.03 of MRI of healthy adults at T10 to T12 (0.92, 0.92, 0.90, SD
# 0.06 to 0.08; Surg Radiol Anat 2011;33:223). L4 and L5 are lower behind (Berry et al. 1987).
FRONT_TO_BACK = {
    **dict.fromkeys(CERVICAL, 0.97),
    **{"T1": 0.96, "T2": 0.97, "T3": 0.95, "T4": 0.935, "T5": 0.92, "T6": 0.89, "T7": 0.88, "T8": 0.895, "T9": 0.925},
    **{"T10": 0.94, "T11": 0.92, "T12": 0.93, "T13": 0.93},
    **{"L1": 0.94, "L2": 0.98, "L3": 1.02, "L4": 1.06, "L5": 1.15, "L6": 1.15},
}
# Middle height divided by the mean of the two others: endplates are hollow, most of all in the neck. Readers of CT find
# 0.90 on average. The norm is chosen closer to 1, because hollow endplates may be fractures, too: a biconcave vertebra
# with G <= 0.75 is never physiologic below the neck.
MIDDLE, MIDDLE_OF_NECK = 0.96, 0.90
# The least that is expected of each height. With these, a thoracic vertebra with G <= 0.72 is never physiologic.
LEAST: Shape = (0.90, 0.93, 0.84)
# A middle height below this share of both others is biconcave, whatever is usual.
BICONCAVE = 0.80
# A vertebra whose mean height is at most this share of what its neighbours lead to expect has lost height: a fracture.
# In the readings of 100 patients this is so for 0.3 % of normal vertebrae and 43 % of those with G <= 0.75.
LOST_HEIGHT = 0.90
LIKELY = 0.2  # a level counts as possible from this probability on; the least favourable one decides
HABIT_NEIGHBOURS = 2  # on either side
HABIT_PRIOR = 2.0  # the level's norm weighs as much as this many neighbours
MOST_HABIT = 0.05  # of the logarithm: what neighbours share changes an expected ratio by at most 5 %


def expected_shape(level: str, habit: tuple[float, float] = (0.0, 0.0)) -> Shape:
    """Return the shape that is expected at a level.

    habit : what the patient's neighbouring vertebrae share: how much the logarithms of anterior / posterior and of
        middle / mean of both differ from their norm.
    """
    front_to_back, middle = _norm(level)
    front = exp(front_to_back + habit[0])
    heights = (front, exp(middle + habit[1]) * (1 + front) / 2, 1.0)
    least = (LEAST[0], MIDDLE_OF_NECK if level in CERVICAL else LEAST[1], LEAST[2])
    a, m, p = (max(low, h / max(heights)) for low, h in zip(least, heights, strict=True))
    return a, m, p


def physiologic_shapes(
    measurements: Sequence[Measurement],
    levels: Sequence[str | None],
    probabilities: Sequence[Mapping[str, float]],
    pinned: Sequence[bool],
    expected_mm: Sequence[Shape | None] | None = None,
) -> list[str | None]:
    """Return for each vertebra of a column, cranial first, why its shape is physiologic: one sentence, or None.

    Parameters
    ----------
    measurements, levels : of the vertebrae; a vertebra without a level is never physiologic.
    probabilities : of each level name; empty where a reader placed the vertebra.
    pinned : True where a reader set the level. Levels in a column with one are certain.
    expected_mm : heights that are expected of single vertebrae, in mm, which then replace those of their level; None
        where there are none.
    """
    certain = any(pinned)
    told: list[str | None] = []
    for i, (m, level) in enumerate(zip(measurements, levels, strict=True)):
        if m.grade == "normal" or level is None or _is_collapsed(m) or _lost_height(i, measurements, levels):
            told.append(None)
            continue
        given = expected_mm[i] if expected_mm else None
        names = [level] if certain else _possible(level, probabilities[i])
        habit = _habit(i, measurements, levels)
        shapes = [given] if given else [expected_shape(name, habit) for name in names]
        fits = all(corrected_ratio(m.heights_mm, shape) > MILD + ROUNDING for shape in shapes)
        told.append(_reason(m, level, names) if fits else None)
    return told


def corrected_ratio(heights: Sequence[float], expected: Sequence[float]) -> float:
    """Return min / max of heights, each divided by the expected one (relative or in mm)."""
    relative = [h / e for h, e in zip(heights, expected, strict=True)]
    return min(relative) / max(relative)


def _norm(level: str) -> tuple[float, float]:
    return log(FRONT_TO_BACK[level]), log(MIDDLE_OF_NECK if level in CERVICAL else MIDDLE)


def _is_collapsed(m: Measurement) -> bool:
    """True for a crush, and for a middle height that is far below both others."""
    crushed = m.crush_ratio is not None and m.crush_ratio <= CRUSH_RATIO
    front, middle, back = m.heights_mm
    return crushed or middle < BICONCAVE * min(front, back)


def _lost_height(index: int, measurements: Sequence[Measurement], levels: Sequence[str | None]) -> bool:
    """True if the mean height is low against that of the neighbours, each relative to the usual one at its level."""
    shares = [_share(measurements[j], str(levels[j])) for j in _near(index, levels)]
    return bool(shares) and _share(measurements[index], str(levels[index])) <= LOST_HEIGHT * median(shares)


def _share(m: Measurement, level: str) -> float:
    return sum(m.heights_mm) / (TALLEST_MM[level] * sum(expected_shape(level)))


def _near(index: int, levels: Sequence[str | None]) -> list[int]:
    """Return the indices of the neighbours with a level."""
    near = range(max(0, index - HABIT_NEIGHBOURS), min(len(levels), index + HABIT_NEIGHBOURS + 1))
    return [j for j in near if j != index and levels[j] is not None]


def _possible(level: str, probabilities: Mapping[str, float]) -> list[str]:
    """Return the names that a vertebra may have, its own first."""
    others = [name for name, p in probabilities.items() if p >= LIKELY and name != level and name in NAMES]
    return [level, *others]


def _habit(index: int, measurements: Sequence[Measurement], levels: Sequence[str | None]) -> tuple[float, float]:
    """Return what the normal neighbours share, a fracture never being one of them; shrunk to 0, the norm."""
    near = [j for j in _near(index, levels) if measurements[j].grade == "normal"]
    shifts = [_shift(measurements[j], str(levels[j])) for j in near]
    front, middle = (sum(s[axis] for s in shifts) / (len(shifts) + HABIT_PRIOR) for axis in (0, 1))
    return _limited(front), _limited(middle)


def _shift(m: Measurement, level: str) -> tuple[float, float]:
    front, middle, back = m.heights_mm
    norm = _norm(level)
    return log(front / back) - norm[0], log(2 * middle / (front + back)) - norm[1]


def _limited(habit: float) -> float:
    return min(max(habit, -MOST_HABIT), MOST_HABIT)


def _reason(m: Measurement, level: str, names: Sequence[str]) -> str:
    """Return the sentence for the reader; what is usual for the level is said if that suffices without neighbours."""
    lowest = m.heights_mm.index(min(m.heights_mm))
    part = ("Lower in front", "Lower in the middle", "Lower behind")[lowest]
    usual = all(corrected_ratio(m.heights_mm, expected_shape(name)) > MILD + ROUNDING for name in names)
    return f"{part}, as usual for {level}." if usual else f"{part}, like the vertebrae beside it."
