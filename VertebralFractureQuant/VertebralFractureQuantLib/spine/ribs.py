"""Finding the vertebrae that carry ribs, which helps to name levels: nearly every CT of the chest shows ribs.

A rib is a bridge of bone from the upper half of a vertebra, sideways and never upwards, to a plane so far out that few
transverse processes reach it. Its strength is the HU at the weakest place of the best path. The bridges of T1 to T10
are level. Those of T11 and T12 fall, and so does the path from C7 by the arch to the first rib. Coordinates are
straight R, A, S mm; vertebrae and arc lengths run from cranial to caudal.
"""

from __future__ import annotations

import numpy as np

from ..imaging.ct import PADDING_HU, CTVolume
from .straightening import Straightening

STEP_MM = 2.0
START_MM, END_MM = 16.0, 54.0  # from the midline: beside the body, and beyond the longest transverse processes
A_MM = (-36.0, 20.0)  # ribs run in this range of A, from the posterior wall of the body
ROOT_A_MM = (-22.0, 8.0)  # ribs begin in this range of A,
ROOT_ARC_MM = (-8.0, 12.0)  # and in this range of arc, from the upper posterior corner
LONGEST_FALL_MM = 44.0  # of the twelfth rib, at the end plane
FALLING_MM, BEHIND_MM = 18.0, -8.0  # a rib that falls by more runs this far behind the wall
OUTSIDE_HU = -2000.0  # marks places outside the scan
APART_MM = 7.0  # least distance between two ribs
LEVEL_SHARE = 0.8  # of the distance to the nearer neighbour: a rib that falls by more may belong to the next vertebra
MOST_LEVEL_MM = 26.0
HALF_HU, SLOPE_HU = 122.0, 14.0  # logistic function: a bridge of HALF_HU is bone with probability 1/2


def rib_signs(ct: CTVolume, straightening: Straightening, corners: np.ndarray) -> np.ndarray:
    """Return rib signs `(n, 2, 3)`: agreement of the left and right side with a level rib, a falling rib, no rib.

    Where no rib is seen, the sign still agrees with one as far as its place is outside the scan or contains only air.
    corners : `(n, 3)` RAS mm of the upper posterior corners, in the middle of the posterior walls.
    """
    return agreement(*rib_bridges(ct, straightening, corners))


def agreement(strengths: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Return rib signs `(n, 2, 3)`, as `rib_signs`, from the result of `rib_bridges`."""
    bone = 1 / (1 + np.exp(-(np.maximum(strengths, 0.0) - HALF_HU) / SLOPE_HU))
    seen = bone * np.stack([np.ones_like(bone[..., 0]), 1 - bone[..., 0]], -1)  # a level rib hides a falling one
    nothing = 1 - seen.sum(-1, keepdims=True)
    return np.concatenate([seen + nothing * (1 - held), nothing], -1)


def rib_bridges(ct: CTVolume, straightening: Straightening, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return strengths, HU, and shares of their place that lie in the scan, both `(n, 2, 2)`.

    Axes: vertebra, [left, right], [level, falling] bridge.
    """
    roots = straightening.to_straight(corners)
    found = [_side(ct, straightening, roots, side) for side in (-1.0, 1.0)]
    return np.stack([f[0] for f in found], 1), np.stack([f[1] for f in found], 1)


def _side(ct: CTVolume, straightening: Straightening, roots: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the result of `rib_bridges` for one side.

    Vertebrae share no level bridge: one that ends at the level bridge of the next vertebra came through that vertebra's
    root, and counts as falling.
    """
    strengths, held = np.empty((len(roots), 2)), np.empty((len(roots), 2))
    limits, next_end = np.minimum(LEVEL_SHARE * spacing(roots), MOST_LEVEL_MM), np.inf
    fall, depth = np.arange(ROOT_ARC_MM[0], LONGEST_FALL_MM, STEP_MM), np.arange(*A_MM, STEP_MM)
    for i in reversed(range(len(roots))):
        box = _box(ct, straightening, roots[i], side, fall, depth)
        held[i] = _held(np.all(box > PADDING_HU, -1), fall, depth)
        ends = _ends(box, fall, depth)
        own = (fall <= limits[i]) & (fall - roots[i, 2] < next_end - APART_MM)
        strengths[i] = ends[own].max(initial=OUTSIDE_HU), ends[~own].max(initial=OUTSIDE_HU)
        next_end = float(fall[own][ends[own].argmax()] - roots[i, 2]) if strengths[i, 0] > HALF_HU else np.inf
    return strengths, held


def _box(
    ct: CTVolume, straightening: Straightening, root: np.ndarray, side: float, fall: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Return HU `(fall, depth, r)` beside a vertebra, outwards from its body."""
    outwards = root[0] + side * np.arange(START_MM, END_MM + STEP_MM / 2, STEP_MM)
    origins, frames = (x[:, None, None] for x in straightening.curve.at(fall - root[2]))
    ahead = frames[..., 1, :] * (root[1] + depth)[:, None, None]
    return ct.sample(origins + ahead + frames[..., 0, :] * outwards[:, None], fill=OUTSIDE_HU)


def spacing(roots: np.ndarray) -> np.ndarray:
    """Return the distance `(n,)` mm to the nearer neighbour, for points `(n, 3)` mm in order."""
    gaps = np.linalg.norm(np.diff(roots, axis=0), axis=1)
    return np.minimum(np.r_[gaps[:1], gaps], np.r_[gaps, gaps[-1:]])


def _held(held: np.ndarray, fall: np.ndarray, depth: np.ndarray) -> tuple[float, float]:
    """Return the shares of the places of a level and of a falling rib that lie in the scan."""
    level = held[(fall >= 0) & (fall <= FALLING_MM)][:, depth >= ROOT_A_MM[0]]
    falling = held[fall >= FALLING_MM][:, depth <= BEHIND_MM]
    return float(level.mean()), float(falling.mean())


def _ends(box: np.ndarray, fall: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return the strength of the best bridge for each fall at its end, through `box` `(fall, depth, r)` HU."""
    deep = (depth >= ROOT_A_MM[0]) & (depth <= ROOT_A_MM[1])
    way = np.where((fall <= ROOT_ARC_MM[1])[:, None] & deep, box[..., 0], -np.inf)
    for column in np.moveaxis(box[..., 1:], -1, 0):
        way = np.minimum(column, _sideways(way))
    ends: np.ndarray = way.max(1)
    return ends


def _sideways(way: np.ndarray) -> np.ndarray:
    """Return the best strength that reaches each place `(arc, a)` from the column before.

    A path comes from the same arc or up to two steps above, and from the same depth or a neighbouring one.
    """
    reached = np.full((way.shape[0] + 2, way.shape[1] + 2), -np.inf, way.dtype)
    reached[2:, 1:-1] = way
    deepest = np.maximum(np.maximum(reached[:, :-2], reached[:, 1:-1]), reached[:, 2:])
    best: np.ndarray = np.maximum(np.maximum(deepest[:-2], deepest[1:-1]), deepest[2:])
    return best
