"""Does the patient lie as the header says? Cues from the bones behind the bodies, without a network.

Behind a vertebral body lies the spinal canal, soft tissue in a ring of bone; nothing in front of a body looks like
this. Pedicles spring from the upper half of a body, and the spinous process behind the canal hangs down: upside down,
both are the other way round. Left and right cannot be told apart on a spine. Key points are `(n, 3, 2, 3)` RAS mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..imaging.ct import CTVolume

STEP_MM = 2.0
FROM_WALL_MM = (-2.0, 32.0)  # depth that is looked at, outward from the wall of the body
HALF_WIDTH_MM = 20.0
AT_HEIGHT = np.array([-0.45, -0.3, -0.15, 0.15, 0.3, 0.45])  # of the body's height, from its middle
UPPER, LOWER = AT_HEIGHT > 0, AT_HEIGHT < 0
HU = (-100.0, 500.0)
OUTSIDE_HU, MOST_OUTSIDE = -3000.0, 0.4
# Depths from the wall, and distances from the middle plane, mm.
CANAL, CANAL_HALF = (4.0, 14.0), 4.0
SIDE, SIDE_FROM = (2.0, 12.0), 8.0
BACK, BACK_HALF = (14.0, 32.0), 6.0
PEDICLE, PEDICLE_ACROSS = (-2.0, 6.0), (8.0, 18.0)
SPINOUS, SPINOUS_HALF = (14.0, 28.0), 6.0


@dataclass(frozen=True, eq=False)
class Cues:
    """What the bones around each body tell, `(n,)` HU each; nan where too much lies outside the scan.

    Attributes
    ----------
    ring : how much denser a ring of bone is than what it encloses, behind (or in front of) the body.
    upright : how much denser the upper half is at the pedicles, and the lower half at the spinous process.
    """

    ring: np.ndarray
    upright: np.ndarray


def cues(ct: CTVolume, keypoints: np.ndarray, in_front: bool = False) -> Cues:
    """Return the cues of bodies `(n, 3, 2, 3)` RAS mm, from what lies behind them; or `in_front` of them."""
    if not len(keypoints):
        return Cues(np.empty(0), np.empty(0))
    outward = np.arange(FROM_WALL_MM[0], FROM_WALL_MM[1] + STEP_MM / 2, STEP_MM)
    across = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + STEP_MM / 2, STEP_MM)
    hu = ct.sample(_grid(keypoints, outward, across, 1.0 if in_front else -1.0), fill=OUTSIDE_HU)
    lost = (hu <= OUTSIDE_HU).mean((1, 2, 3)) > MOST_OUTSIDE
    hu = hu.clip(*HU)
    ring, upright = _ring(hu, outward, across), _upright(hu, outward, across)
    return Cues(np.where(lost, np.nan, ring), np.where(lost, np.nan, upright))


def mirrored(ct: CTVolume, axis: int) -> CTVolume:
    """Return a view of `ct` whose patient is reversed along `axis` (0 R, 1 A, 2 S); voxels are not copied."""
    matrix = ct.ijk_to_ras.copy()
    matrix[axis] *= -1
    return replace(ct, ijk_to_ras=matrix)


def _grid(keypoints: np.ndarray, outward: np.ndarray, across: np.ndarray, side: float) -> np.ndarray:
    """Return points `(n, outward, across, heights, 3)` RAS mm before (`side` 1) or behind (-1) each body."""
    up = (keypoints[:, :, 0] - keypoints[:, :, 1]).mean(1)
    tall = np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-6)
    up = up / tall
    ahead = keypoints[:, 0].mean(1) - keypoints[:, 2].mean(1)
    ahead = ahead - up * (ahead * up).sum(-1, keepdims=True)
    deep = np.maximum(np.linalg.norm(ahead, axis=-1, keepdims=True), 1e-6)
    ahead = ahead / deep
    right = np.cross(ahead, up)
    along = side * (deep / 2 + outward)  # (n, outward)
    return np.asarray(
        keypoints.mean((1, 2))[:, None, None, None]
        + along[:, :, None, None, None] * ahead[:, None, None, None]
        + across[:, None, None] * right[:, None, None, None]
        + (tall * AT_HEIGHT)[:, None, None, :, None] * up[:, None, None, None]
    )


def _ring(hu: np.ndarray, outward: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return `(n,)`: bone that lies at both sides, and bone at the back, less what they enclose."""
    symmetric = np.minimum(hu, hu[:, :, ::-1])
    enclosed = hu[:, _within(outward, CANAL)][:, :, np.abs(across) <= CANAL_HALF].mean((1, 2))
    sides = symmetric[:, _within(outward, SIDE)][:, :, across <= -SIDE_FROM].max(2).mean(1)
    back = hu[:, _within(outward, BACK)][:, :, np.abs(across) <= BACK_HALF].mean(2).max(1)
    return np.asarray(np.minimum(sides, back).mean(-1) - enclosed.mean(-1))


def _upright(hu: np.ndarray, outward: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return `(n,)`: how much denser the upper half is at the pedicles, and the lower half at the spinous process."""
    more_above = hu[..., UPPER].mean(-1) - hu[..., LOWER].mean(-1)
    pedicles = more_above[:, _within(outward, PEDICLE)][:, :, _within(np.abs(across), PEDICLE_ACROSS)].mean((1, 2))
    spinous = more_above[:, _within(outward, SPINOUS)][:, :, np.abs(across) <= SPINOUS_HALF].mean((1, 2))
    return np.asarray(pedicles - spinous)


def _within(places: np.ndarray, range_mm: tuple[float, float]) -> np.ndarray:
    return (places >= range_mm[0] - 1e-6) & (places <= range_mm[1] + 1e-6)
