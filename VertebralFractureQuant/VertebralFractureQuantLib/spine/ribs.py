"""Which vertebrae carry ribs: the level cue that stands in nearly every CT of the chest and looks alike in all of them.

A rib is a bridge of bone from a vertebra's upper half, sideways and never upwards, to a plane so far out that few
transverse processes reach it; its strength is the HU at the weakest place of the best way. The bridges of T1 to T10 end
level, those of T11 and T12 fall; so does the way from C7 by the arch to the first rib. All is in straight space, R, A,
S mm; vertebrae and arc lengths go from cranial to caudal.
"""

from __future__ import annotations

import numpy as np

from ..imaging.ct import PADDING_HU, CTVolume
from .straightening import Straightening

STEP_MM = 2.0
START_MM, END_MM = 16.0, 54.0  # from the midline: beside the body, and beyond the longest transverse processes
A_MM = (-36.0, 20.0)  # where ribs run, from the body's posterior wall
ROOT_A_MM = (-22.0, 8.0)  # where they begin,
ROOT_ARC_MM = (-8.0, 12.0)  # from the upper posterior corner
LONGEST_FALL_MM = 44.0  # the twelfth rib's at the end plane
FALLING_MM, BEHIND_MM = 18.0, -8.0  # a rib that falls by more runs behind the wall
OUTSIDE_HU = -2000.0  # marks what the scan does not hold
APART_MM = 7.0  # two ribs are not nearer
LEVEL_SHARE = 0.8  # of the distance to the next vertebra: what falls by more may be the next one's rib
MOST_LEVEL_MM = 26.0
HALF_HU, SLOPE_HU = 122.0, 14.0  # a bridge of this strength is as likely bone as none


def rib_signs(ct: CTVolume, straightening: Straightening, corners: np.ndarray) -> np.ndarray:
    """`(n, 2, 3)` how well what a vertebra's left and right side show agrees with a level rib, a falling one, none.

    Nothing seen agrees with a rib as far as the scan does not hold the place where it would be, or only air there.
    corners : `(n, 3)` RAS mm of the upper posterior corners in the middle of the walls.
    """
    return agreement(*rib_bridges(ct, straightening, corners))


def agreement(strengths: np.ndarray, held: np.ndarray) -> np.ndarray:
    """As `rib_signs`, from what `rib_bridges` found."""
    bone = 1 / (1 + np.exp(-(np.maximum(strengths, 0.0) - HALF_HU) / SLOPE_HU))
    seen = bone * np.stack([np.ones_like(bone[..., 0]), 1 - bone[..., 0]], -1)  # a level one hides a falling one
    nothing = 1 - seen.sum(-1, keepdims=True)
    return np.concatenate([seen + nothing * (1 - held), nothing], -1)


def rib_bridges(ct: CTVolume, straightening: Straightening, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strengths `(n, 2, 2)` HU of the left and the right side's level and falling bridge, and the share of
    its place that the scan holds."""
    roots = straightening.to_straight(corners)
    found = [_side(ct, straightening, roots, side) for side in (-1.0, 1.0)]
    return np.stack([f[0] for f in found], 1), np.stack([f[1] for f in found], 1)


def _side(ct: CTVolume, straightening: Straightening, roots: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """As `rib_bridges`, of one side. Vertebrae share no level bridge: what ends where that of the next one ends came
    by its root, and counts as falling."""
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
    """HU `(fall, depth, r)` beside a vertebra, outwards from its body."""
    outwards = root[0] + side * np.arange(START_MM, END_MM + STEP_MM / 2, STEP_MM)
    origins, frames = (x[:, None, None] for x in straightening.curve.at(fall - root[2]))
    ahead = frames[..., 1, :] * (root[1] + depth)[:, None, None]
    return ct.sample(origins + ahead + frames[..., 0, :] * outwards[:, None], fill=OUTSIDE_HU)


def spacing(roots: np.ndarray) -> np.ndarray:
    """`(n,)` mm from each to the next."""
    gaps = np.linalg.norm(np.diff(roots, axis=0), axis=1)
    return np.minimum(np.r_[gaps[:1], gaps], np.r_[gaps, gaps[-1:]])


def _held(held: np.ndarray, fall: np.ndarray, depth: np.ndarray) -> tuple[float, float]:
    """Shares of the place of a level rib and of that of a falling one."""
    level = held[(fall >= 0) & (fall <= FALLING_MM)][:, depth >= ROOT_A_MM[0]]
    falling = held[fall >= FALLING_MM][:, depth <= BEHIND_MM]
    return float(level.mean()), float(falling.mean())


def _ends(box: np.ndarray, fall: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The strength of the best bridge by the fall at its end, through `box` `(fall, depth, r)` HU."""
    deep = (depth >= ROOT_A_MM[0]) & (depth <= ROOT_A_MM[1])
    way = np.where((fall <= ROOT_ARC_MM[1])[:, None] & deep, box[..., 0], -np.inf)
    for column in np.moveaxis(box[..., 1:], -1, 0):
        way = np.minimum(column, _sideways(way))
    ends: np.ndarray = way.max(1)
    return ends


def _sideways(way: np.ndarray) -> np.ndarray:
    """What reaches each place `(arc, a)` from one column nearer: the best of the same arc and of two steps further up,
    and of neighbouring depths."""
    rows, depths = way.shape
    padded = np.pad(way, ((2, 0), (1, 1)), constant_values=-np.inf)
    best: np.ndarray = np.max([padded[i : i + rows, j : j + depths] for i in range(3) for j in range(3)], 0)
    return best
