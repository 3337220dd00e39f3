"""Sizes and distances that no human spine has: what key points and levels alone say against a measurement.

Key points are `(n, 3, 2, 3)` RAS mm, cranial first. The limits leave room for adults of every stature and for children
from about eight years on. What needs the scan itself is checked in `analysis.quality`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import log
from statistics import median

import numpy as np

from .genant import GROWTH, heights
from .keypoints import FAULTS
from .levels import TALLEST_MM
from .quality import CODES, Flag

IMPOSSIBLE = "impossible_points"
GEOMETRIC = (IMPOSSIBLE, "implausible_size", "column_gap")  # the codes that follow from the points alone
# Depth of a body (anterior to posterior) divided by its height, adult means: see `phantom.morphometry`.
DEPTH_TO_HEIGHT = {
    **{"C2": 0.79, "C3": 0.98, "C4": 1.04, "C5": 1.07, "C6": 1.09, "C7": 0.98},
    **{"T1": 0.89, "T2": 0.92, "T3": 1.0, "T4": 1.07, "T5": 1.11, "T6": 1.18, "T7": 1.23, "T8": 1.26, "T9": 1.24},
    **{"T10": 1.19, "T11": 1.13, "T12": 1.09, "T13": 1.09},
    **{"L1": 1.07, "L2": 1.07, "L3": 1.1, "L4": 1.13, "L5": 1.15, "L6": 1.15},
}
# The larger of the anterior and posterior height, and the depth, of any vertebra: from a child's C3 to a tall man's L4.
HEIGHTS_MM, DEPTHS_MM = (8.0, 42.0), (8.0, 50.0)
DEPTH_TO_HEIGHT_WITHIN = (0.55, 2.0)
# Logarithms of size, and of depth / height, relative to an adult's at this level. In 269 readings of 100 patients by
# experts the patients' medians lie within 0.17 and 0.28; the rest is for small people, single vertebrae and children.
SIZE_OFF, DEPTH_OFF = 0.5, 0.5
# A vertebra is this much taller than the median of its three or four neighbours only if they are no vertebrae.
TALLER = 1.4
# Beside fractures a whole body is taller, but not for its depth: only one that is taller for both is impossible.
TALL_FOR_DEPTH = 1.35
# In 58 studies and their spoiled copies bodies overlap by 2.6 mm at most where the slice distance is right, and points
# at the border lie up to 2 mm outside. Of two that overlap, one that is this much taller for its neighbours than the
# other is alone to blame.
OVERLAP_MM, OUTSIDE_MM, BLAMED = 3.0, 3.0, 1.2
# Half the difference of both logarithms, as a wrong slice distance changes them: 98 % of those readings lie within
# -0.14 and 0.11. The median of three vertebrae only is less certain.
STRETCHED, FLATTENED = -0.15, 0.14
FEWEST_NAMED, FEW_WITHIN, LEAST_LIKELY = 3, 0.05, 0.5
# Distance of two centres divided by the mean height. Readers' and our scans: 1.1 to 1.4, to 1.5 in a lordotic L5.
WIDE_STEP, NARROW_STEP = 1.62, 0.95
REMEMBERED = 256  # sizes judged last: a drag changes one of a column's, and asks for all


def column_flags(
    keypoints: np.ndarray, levels: Sequence[str | None], wrong: Sequence[str] = ()
) -> list[tuple[Flag, ...]]:
    """Return the flags of each vertebra of a column that follow from the points alone, codes of `GEOMETRIC`.

    wrong : for each vertebra, why it is `impossible`, or "". Then this is its only flag here, and no gap beside it is
        told, which may well be its fault.
    """
    if not len(keypoints):
        return []
    sizes = _size_faults(keypoints, levels)
    gaps = _gaps(keypoints)
    found: list[list[Flag]] = [[] for _ in levels]
    for i, why in enumerate(wrong):
        if why:
            found[i].append(Flag(IMPOSSIBLE, f"{why} It is not counted. {CODES[IMPOSSIBLE].remedy}"))
            sizes[i] = ""
    gaps = [(i, text) for i, text in gaps if not (wrong and (wrong[i] or wrong[i + 1]))]
    for flags, fault in zip(found, sizes, strict=True):
        if fault:
            flags.append(Flag("implausible_size", f"{fault} {CODES['implausible_size'].remedy}"))
    for i, text in gaps:
        flag = Flag("column_gap", text)
        for j in (i, i + 1):
            if flag.code not in (f.code for f in found[j]):
                found[j].append(flag)
    return [tuple(flags) for flags in found]


def own_fault(wrong: Sequence[str], whole: bool = True) -> str:
    """Return why key points are impossible by themselves, or "".

    Parameters
    ----------
    wrong : what `keypoints.faults` says of them.
    whole : False if one of them lies more than `OUTSIDE_MM` outside the scan.
    """
    if wrong:
        return FAULTS[wrong[0]]
    return "" if whole else "Its points reach out of the scan."


def impossible(
    keypoints: np.ndarray,
    straight: np.ndarray,
    levels: Sequence[str | None],
    own: Sequence[str],
    rejected: Sequence[bool] = (),
) -> list[str]:
    """Return for each vertebra of a column why it cannot be a vertebral body, one sentence; "" where it can.

    A low body is never impossible: it may be crushed. Of two bodies that overlap, the one that is clearly the taller
    for its other neighbours is impossible; else both are.

    Parameters
    ----------
    keypoints, straight : `(n, 3, 2, 3)`, patient and straight RAS mm, cranial first.
    levels : names; None where unknown.
    own : what is wrong with each one by itself, `own_fault`.
    rejected : True for vertebrae that a reader rejected, which overlap nothing.
    """
    if not len(keypoints):
        return []
    tall, deep = heights(keypoints).max(1).tolist(), _depths(keypoints).tolist()
    found = [told or _impossible_size(_others(tall, i), tall[i], deep[i], levels[i]) for i, told in enumerate(own)]
    there = [i for i in range(len(tall)) if not (len(rejected) and rejected[i])]
    low, high = straight[there][:-1, :, 1, 2], straight[there][1:, :, 0, 2]
    for at, depth in enumerate((high - low).max(1, initial=-np.inf).tolist() if len(there) > 1 else []):
        upper, lower = there[at], there[at + 1]
        if depth > OVERLAP_MM and not found[upper] and not found[lower]:
            off = _relative(tall, upper, lower) / _relative(tall, lower, upper)
            if off > 1 / BLAMED:
                found[upper] = f"It overlaps the vertebra below by {depth:.0f} mm."
            if off < BLAMED:
                found[lower] = f"It overlaps the vertebra above by {depth:.0f} mm."
    return found


@lru_cache(REMEMBERED)
def _impossible_size(others: tuple[float, ...], h: float, d: float, level: str | None) -> str:
    if h > HEIGHTS_MM[1]:
        return f"A height of {h:.0f} mm is hardly possible for a vertebral body."
    if d > DEPTHS_MM[1]:
        return f"A depth of {d:.0f} mm is hardly possible for a vertebral body."
    usual = d / DEPTH_TO_HEIGHT.get(level or "", 1.0)
    if len(others) > 1 and h > max(TALLER * median(others), TALL_FOR_DEPTH * usual):
        return f"It is {h:.0f} mm high, much higher than the vertebrae beside it."
    return ""


def _near(values: list[float], i: int) -> list[int]:
    return [j for j in range(max(0, i - 2), min(len(values), i + 3)) if j != i]


def _others(values: list[float], i: int) -> tuple[float, ...]:
    return (*values[max(0, i - 2) : i], *values[i + 1 : i + 3])


def _relative(tall: list[float], i: int, but: int) -> float:
    """Return the height of vertebra `i` divided by that of its neighbours, without the one with index `but`."""
    expected = [tall[j] * GROWTH ** (i - j) for j in _near(tall, i) if j != but]
    return tall[i] / median(expected) if expected else 1.0


def scale_flag(
    keypoints: np.ndarray, levels: Sequence[str | None], likely: Sequence[Mapping[str, float]] | None = None
) -> Flag | None:
    """Return the flag of a study whose bodies are stretched or flattened as a whole, as by a wrong slice distance.

    likely : of each vertebra, the probabilities of names, which count where it has no name.
    None with fewer than `FEWEST_NAMED` vertebrae of which a name is known or likely.
    """
    tall, deep = _tallest(keypoints).tolist(), _depths(keypoints).tolist()
    chances = [
        {level: 1.0} if level else other for level, other in zip(levels, likely or [{}] * len(levels), strict=True)
    ]
    off = [value for value in map(_stretch, tall, deep, chances) if value is not None]
    if len(off) < FEWEST_NAMED:
        return None
    usual, rest = median(off), 0.0 if len(off) > FEWEST_NAMED else FEW_WITHIN
    if STRETCHED - rest <= usual <= FLATTENED + rest:
        return None
    shape = "flat" if usual > 0 else "tall"
    return Flag(
        "implausible_size",
        f"The vertebral bodies are unusually {shape} for their depth and level. Check the distance of the slices in "
        "the header of the scan: if it is wrong, all heights are.",
    )


def _stretch(tall: float, deep: float, chances: Mapping[str, float]) -> float | None:
    """Return the logarithm of how much a body is flattened along the spine, the mean over its likely names.

    None if these names have a probability of less than `LEAST_LIKELY` together.
    """
    known = {name: p for name, p in chances.items() if name in DEPTH_TO_HEIGHT}
    total = sum(known.values())
    if total < LEAST_LIKELY:
        return None
    off = sum(
        p * (log(deep / tall / DEPTH_TO_HEIGHT[name]) - log(tall / TALLEST_MM[name])) for name, p in known.items()
    )
    return off / total / 2


def implausible(keypoints: np.ndarray, levels: Sequence[str | None]) -> np.ndarray:
    """Return booleans `(n,)`: vertebrae of a size that is hardly possible."""
    return np.array([bool(fault) for fault in _size_faults(keypoints, levels)], bool)


def _size_faults(keypoints: np.ndarray, levels: Sequence[str | None]) -> list[str]:
    tall, deep = _tallest(keypoints).tolist(), _depths(keypoints).tolist()
    return [_size_fault(_others(tall, i), tall[i], deep[i], level) for i, level in enumerate(levels)]


@lru_cache(REMEMBERED)
def _size_fault(others: tuple[float, ...], h: float, d: float, level: str | None) -> str:
    """Return what is wrong with the size of a vertebra, one sentence; "" if nothing is.

    others : the heights of up to two neighbours on either side; h, d : its own height and depth, mm.
    """
    if not HEIGHTS_MM[0] <= h <= HEIGHTS_MM[1]:
        return f"A height of {h:.0f} mm is hardly possible for a vertebral body."
    if not DEPTHS_MM[0] <= d <= DEPTHS_MM[1]:
        return f"A depth of {d:.0f} mm is hardly possible for a vertebral body."
    if len(others) > 2 and h > TALLER * median(others):
        return f"It is {h:.0f} mm high, much higher than the vertebrae beside it."
    usual = max(h, median(others)) if len(others) > 1 else h  # a crushed body is low, and as deep as before
    ratio = d / usual
    low, high = DEPTH_TO_HEIGHT_WITHIN
    if not low <= ratio <= high or (level and abs(log(ratio / DEPTH_TO_HEIGHT[level])) > DEPTH_OFF):
        return f"A depth of {d:.0f} mm is hardly possible with a height of {h:.0f} mm."
    if level and abs(log(usual / TALLEST_MM[level])) > SIZE_OFF:
        return f"A height of {h:.0f} mm is hardly possible at {level}."
    return ""


def _gaps(keypoints: np.ndarray) -> list[tuple[int, str]]:
    """Return the places of steps that are too wide or too narrow, as the index above, and what is wrong."""
    middles, tall = keypoints.mean((1, 2)), heights(keypoints).mean(-1)
    near = tall.tolist()  # plain numbers: this runs while a reader drags a point
    usual = np.array([median(near[max(0, i - 2) : i + 3]) for i in range(len(near))])
    distances = np.linalg.norm(np.diff(middles, axis=0), axis=1)
    expected = np.maximum(tall, usual)  # a crushed vertebra is low, and its neighbours are not far
    found = []
    for i, distance in enumerate(distances):
        if distance > WIDE_STEP * (expected[i] + expected[i + 1]) / 2:
            found.append((i, "A vertebra seems to be missing. Press a and click it."))
        elif distance < NARROW_STEP * (tall[i] + tall[i + 1]) / 2:
            found.append((i, "Two vertebrae overlap, so one may be too many. Reject the one that is none."))
    return found


def _tallest(keypoints: np.ndarray) -> np.ndarray:
    tallest: np.ndarray = np.maximum(heights(keypoints)[:, [0, 2]].max(1), 0.1)
    return tallest


def _depths(keypoints: np.ndarray) -> np.ndarray:
    depths: np.ndarray = np.maximum(np.linalg.norm(keypoints[:, 0].mean(1) - keypoints[:, 2].mean(1), axis=-1), 0.1)
    return depths
