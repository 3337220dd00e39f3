"""Which vertebrae carry ribs: the level cue that stands in nearly every CT of the chest, and looks alike in all of them.

A rib is a bridge of bone from a vertebra's upper half, sideways and never upwards, to a plane so far out that few
transverse processes reach it; its strength is the HU at the weakest place of the best way. The bridges of T1 to T10 end
level, those of T11 and T12 fall; so does the way from C7 by the arch to the first rib. All is in straight space, R, A,
S mm; vertebrae and arc lengths go from cranial to caudal.
"""

from __future__ import annotations

import numpy as np

from .ct import CTVolume
from .straightening import Straightening

STEP_MM = 2.0
START_MM, END_MM = 16.0, 54.0  # from the midline: beside the body, and beyond the longest transverse processes
A_MM = (-36.0, 20.0)  # where ribs run, from the body's posterior wall
ROOT_A_MM = (-22.0, 8.0)  # where they begin,
ROOT_ARC_MM = (-8.0, 12.0)  # from the upper posterior corner
LONGEST_FALL_MM = 44.0  # the twelfth rib's at the end plane
FALLING_MM, BEHIND_MM = 18.0, -8.0  # a rib that falls by more runs behind the wall
OUTSIDE_HU = -2000.0  # marks what the scan does not hold
LEVEL_SHARE = 0.8  # of the distance to the next vertebra: what falls by more may be the next one's rib
HALF_HU, SLOPE_HU = 122.0, 14.0  # a bridge of this strength is as likely bone as none


def rib_signs(ct: CTVolume, straightening: Straightening, corners: np.ndarray) -> np.ndarray:
    """`(n, 2, 3)` how well what a vertebra's left and right side show agrees with a level rib, a falling one, none.

    Nothing seen agrees with a rib as far as the scan does not hold the place where it would be.
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


def _side(
    ct: CTVolume, straightening: Straightening, roots: np.ndarray, side: float
) -> tuple[np.ndarray, np.ndarray]:
    columns = np.arange(START_MM, END_MM + STEP_MM / 2, STEP_MM)
    strengths, shares = [], []
    apart = spacing(roots)
    for (middle, wall, up), gap in zip(roots, apart, strict=True):
        arcs = -up + np.arange(ROOT_ARC_MM[0], LONGEST_FALL_MM, STEP_MM)
        depth = wall + np.arange(*A_MM, STEP_MM)
        grid = np.stack(np.meshgrid(-arcs, depth, middle + side * columns, indexing="ij"), -1)[..., ::-1]
        box = ct.sample(straightening.to_patient(grid), fill=OUTSIDE_HU)
        shares.append(_held(box > OUTSIDE_HU + 1, arcs + up, depth - wall))
        strengths.append(_strengths(box, arcs + up, depth - wall, LEVEL_SHARE * gap))
    return np.array(strengths), np.array(shares)


def spacing(roots: np.ndarray) -> np.ndarray:
    """`(n,)` mm from each to the next."""
    gaps = np.linalg.norm(np.diff(roots, axis=0), axis=1)
    return np.minimum(np.r_[gaps[:1], gaps], np.r_[gaps, gaps[-1:]])


def _held(held: np.ndarray, fall: np.ndarray, depth: np.ndarray) -> tuple[float, float]:
    """Shares of the place of a level rib and of that of a falling one."""
    level = held[(fall >= 0) & (fall <= FALLING_MM)][:, depth >= ROOT_A_MM[0]]
    falling = held[fall >= FALLING_MM][:, depth <= BEHIND_MM]
    return float(level.mean()), float(falling.mean())


def _strengths(box: np.ndarray, fall: np.ndarray, depth: np.ndarray, limit: float) -> tuple[float, float]:
    """Of the best level and the best falling bridge through `box` `(fall, depth, r)` HU, whose first column is beside
    the body."""
    at_root = (fall <= ROOT_ARC_MM[1])[:, None] & ((depth >= ROOT_A_MM[0]) & (depth <= ROOT_A_MM[1]))
    way = np.where(at_root, box[..., 0], -np.inf)
    for column in np.moveaxis(box[..., 1:], -1, 0):
        way = np.minimum(column, _sideways(way))
    return float(way[fall <= limit].max()), float(way[fall > limit].max())


def _sideways(way: np.ndarray) -> np.ndarray:
    """What reaches each place `(arc, a)` from one column nearer: the best of the same arc and of two steps further up,
    and of neighbouring depths."""
    rows, depths = way.shape
    padded = np.pad(way, ((2, 0), (1, 1)), constant_values=-np.inf)
    best: np.ndarray = np.max([padded[i : i + rows, j : j + depths] for i in range(3) for j in range(3)], 0)
    return best
