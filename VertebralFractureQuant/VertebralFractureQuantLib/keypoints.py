"""The six key points of a vertebral body on its own mid-sagittal plane.

A key point array is `(..., 3, 2, 3)`: [anterior, middle, posterior] x [superior, inferior] x [R, A, S] mm
(in a straightened picture the last axis may be 2: [A, S]). Points lie on the outer edge of the endplates.
"""

from __future__ import annotations

import numpy as np

ANTERIOR, MIDDLE, POSTERIOR = 0, 1, 2
SUPERIOR, INFERIOR = 0, 1
POSITIONS = ("anterior", "middle", "posterior")
ENDPLATES = ("superior", "inferior")

# The closed outline A+ M+ P+ P- M- A-, as (position, endplate) pairs.
OUTLINE = ((0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1))


def check_keypoints(keypoints: np.ndarray) -> np.ndarray:
    """`keypoints` as a float array; ValueError unless it is finite and of shape `(..., 3, 2, 2 or 3)`."""
    points = np.asarray(keypoints, float)
    if points.ndim < 3 or points.shape[-3:-1] != (3, 2) or points.shape[-1] not in (2, 3):
        raise ValueError(f"key points must be (..., 3, 2, 3), got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("key points must be finite")
    return points


def outline(keypoints: np.ndarray) -> np.ndarray:
    """The hexagon `(..., 6, d)` of the six points in the order A+ M+ P+ P- M- A-."""
    points = check_keypoints(keypoints)
    return np.stack([points[..., p, e, :] for p, e in OUTLINE], axis=-2)


def from_outline(hexagon: np.ndarray) -> np.ndarray:
    """Inverse of `outline`: `(..., 6, d)` to `(..., 3, 2, d)`. ValueError for another shape."""
    hexagon = np.asarray(hexagon, float)
    if hexagon.ndim < 2 or hexagon.shape[-2] != len(OUTLINE):
        raise ValueError(f"an outline has six points (..., 6, d), got {hexagon.shape}")
    points = np.empty((*hexagon.shape[:-2], 3, 2, hexagon.shape[-1]))
    for i, (p, e) in enumerate(OUTLINE):
        points[..., p, e, :] = hexagon[..., i, :]
    return points


def centers(keypoints: np.ndarray) -> np.ndarray:
    """The mean of the six points, `(..., d)`."""
    return check_keypoints(keypoints).mean(axis=(-3, -2))
