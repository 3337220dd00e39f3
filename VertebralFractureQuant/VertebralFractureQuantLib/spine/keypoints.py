"""The six key points of a vertebral body on its own mid-sagittal plane.

Key points are an array `(..., 3, 2, 3)`: [anterior, middle, posterior] x [superior, inferior] x [R, A, S] mm. In a
straightened image the last axis may have length 2: [A, S]. The points lie on the outer edge of the endplates.
"""

from __future__ import annotations

import numpy as np

ANTERIOR, MIDDLE, POSTERIOR = 0, 1, 2
SUPERIOR, INFERIOR = 0, 1
POSITIONS = ("anterior", "middle", "posterior")
ENDPLATES = ("superior", "inferior")

# The closed outline A+ M+ P+ P- M- A-, as (position, endplate) pairs.
OUTLINE = ((0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1))
_OUTLINE_ROW = np.array([[OUTLINE.index((p, e)) for e in (0, 1)] for p in (0, 1, 2)])

# The three heights, then the four parts of the endplates, as pairs of the six points [A+, A-, M+, M-, P+, P-].
SEGMENTS = ((0, 1), (2, 3), (4, 5), (0, 2), (2, 4), (1, 3), (3, 5))

FAULTS = {
    "anterior_posterior_swapped": "The anterior points lie behind the posterior ones.",
    "endplates_swapped": "A lower point lies above its upper one.",
    "segments_cross": "The lines between its points cross.",
}


def check_keypoints(keypoints: np.ndarray) -> np.ndarray:
    """Return `keypoints` as a float array. ValueError unless finite and of shape `(..., 3, 2, 2 or 3)`."""
    points = np.asarray(keypoints, float)
    if points.ndim < 3 or points.shape[-3:-1] != (3, 2) or points.shape[-1] not in (2, 3):
        raise ValueError(f"key points must be (..., 3, 2, 3), got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("key points must be finite")
    return points


def outline(keypoints: np.ndarray) -> np.ndarray:
    """Return the hexagon `(..., 6, d)` of the six points in the order A+ M+ P+ P- M- A-."""
    points = check_keypoints(keypoints)
    return np.stack([points[..., p, e, :] for p, e in OUTLINE], axis=-2)


def from_outline(hexagon: np.ndarray) -> np.ndarray:
    """Return key points `(..., 3, 2, d)` from a hexagon `(..., 6, d)`: the inverse of `outline`.

    ValueError for another shape.
    """
    hexagon = np.asarray(hexagon, float)
    if hexagon.ndim < 2 or hexagon.shape[-2] != len(OUTLINE):
        raise ValueError(f"an outline has six points (..., 6, d), got {hexagon.shape}")
    points: np.ndarray = hexagon[..., _OUTLINE_ROW, :]
    return points


def centers(keypoints: np.ndarray) -> np.ndarray:
    """Return the mean `(..., d)` of the six points."""
    return check_keypoints(keypoints).mean(axis=(-3, -2))


def faults(flat: np.ndarray) -> tuple[str, ...]:
    """Return the faults of one vertebra's key points `(3, 2, 2)` ([A, S] mm in straight space), as keys of `FAULTS`."""
    points = np.asarray(flat, float)
    forward, height = points[:, :, 0].mean(1), points[:, SUPERIOR, 1] - points[:, INFERIOR, 1]
    judged = {
        "anterior_posterior_swapped": not forward[ANTERIOR] > forward[MIDDLE] > forward[POSTERIOR],
        "endplates_swapped": bool((height <= 0).any()),
        "segments_cross": _crosses(points),
    }
    return tuple(name for name, wrong in judged.items() if wrong)


_INDEX = np.array(SEGMENTS)
# All pairs of segments without a common point.
_PAIRS = np.array([(a, b) for a in range(7) for b in range(a) if not set(SEGMENTS[a]) & set(SEGMENTS[b])])


def _crosses(points: np.ndarray) -> bool:
    p, q = points.reshape(6, 2)[_INDEX[_PAIRS[:, 0]]].transpose(1, 0, 2)
    r, s = points.reshape(6, 2)[_INDEX[_PAIRS[:, 1]]].transpose(1, 0, 2)
    return bool(((_side(p, q, r) * _side(p, q, s) < 0) & (_side(r, s, p) * _side(r, s, q) < 0)).any())


def _side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return a positive number if r lies left of the line from p to q."""
    side: np.ndarray = (q - p)[:, 0] * (r - p)[:, 1] - (q - p)[:, 1] * (r - p)[:, 0]
    return side
