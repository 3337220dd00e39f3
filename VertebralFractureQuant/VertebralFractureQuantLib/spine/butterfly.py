"""Butterfly-IoU: the overlap of two vertebrae as the polygons built on their six key points, and its suppression.

A vertebra in a picture is key points `(3, 2, 2)`. Its area is the union of the anterior quadrilateral
(A+ M+ M- A-) and the posterior one (M+ P+ P- M-): for sound points just the hexagon A+ M+ P+ P- M- A-, and where
the outline crosses itself (a point dragged or predicted over another) still a well-defined area.
Areas are exact, as rasters would quantise thin, collapsed vertebrae, and need no topology: polygon libraries fail, or
err unnoticed, on the hair-thin spikes of folded outlines.
"""

from __future__ import annotations

import numpy as np

from .keypoints import check_keypoints

NMS_THRESHOLD = 0.1  # Zakharov et al. 2023
EDGES = 16  # of two vertebrae, two quadrilaterals each
FIRST, SECOND = 0b0011, 0b1100  # bits of the quadrilaterals that make up either vertebra
NO_WIDTH = 1e-12  # slabs thinner than this are rounding
NO_AREA = 1e-9  # as are such areas: of a flat outline in a turned picture, between edges that are all but parallel


def butterfly_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two vertebrae `(3, 2, 2)`; 0 where both have no area."""
    return float(_iou(check_keypoints(a)[None], check_keypoints(b)[None])[0])


def suppress(keypoints: np.ndarray, scores: np.ndarray, threshold: float = NMS_THRESHOLD) -> np.ndarray:
    """Indices kept by greedy non-maximum suppression, best first.

    keypoints : `(n, 3, 2, 2)` mm or pixels; scores : `(n,)`. A vertebra goes where its Butterfly-IoU with a kept,
    better one exceeds `threshold`.
    """
    points = check_keypoints(np.reshape(keypoints, (-1, 3, 2, 2)))
    low, high = points.min((1, 2)), points.max((1, 2))
    alive = np.ones(len(points), bool)
    kept: list[int] = []
    for i in np.argsort(-np.asarray(scores, float), kind="stable"):
        if not alive[i]:
            continue
        kept.append(int(i))
        alive[i] = False
        near = np.flatnonzero(alive & (low < high[i]).all(1) & (high > low[i]).all(1))
        alive[near] = _iou(points[i : i + 1], points[near]) <= threshold
    return np.array(kept, int)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Overlaps `(n,)` of `a` `(1 or n, 3, 2, 2)` with `b` `(n, 3, 2, 2)`.

    Vertical lines through all corners and crossings cut the plane into slabs, in which the covered length changes
    linearly: each slab's area is its width times the length covered at its middle.
    """
    corners = np.concatenate(np.broadcast_arrays(_quadrilaterals(a), _quadrilaterals(b)), axis=1)
    start, end = corners.reshape(-1, EDGES, 2), np.roll(corners, -1, axis=2).reshape(-1, EDGES, 2)
    cuts = np.sort(np.concatenate([start[..., 0], _crossings(start, end)], axis=1), axis=1)
    widths = np.diff(cuts, axis=1)
    pair, slab = np.nonzero(widths > NO_WIDTH)
    middle = (cuts[pair, slab] + cuts[pair, slab + 1]) / 2
    shared, united = widths[pair, slab] * _covered(start[pair], end[pair], middle)
    shared, united = (np.bincount(pair, area, len(corners)) for area in (shared, united))
    return np.divide(shared, united, out=np.zeros(len(corners)), where=united > NO_AREA)


def _quadrilaterals(points: np.ndarray) -> np.ndarray:
    """`(n, 2, 4, 2)`: corners of the anterior and the posterior quadrilateral."""
    return np.stack([points[:, [i, i + 1, i + 1, i], [0, 0, 1, 1]] for i in (0, 1)], axis=1)


def _crossings(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """`(n, pairs)` x where any two edges cross; elsewhere some x on one of them, where a cut does no harm."""
    i, j = np.triu_indices(EDGES, 1)
    edges = end - start
    one, other = edges[:, i], edges[:, j]
    along = _cross(start[:, j] - start[:, i], other)
    sine = _cross(one, other)
    part = np.divide(along, sine, out=np.zeros_like(along), where=np.abs(sine) > NO_AREA)
    return start[:, i, 0] + np.clip(part, 0, 1) * one[..., 0]


def _covered(start: np.ndarray, end: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`(2, n)`: lengths on the vertical lines at `x` `(n,)` that both vertebrae cover, and that any of them does."""
    x = x[:, None]
    meets = (start[..., 0] <= x) != (end[..., 0] <= x)
    run = np.where(meets, end[..., 0] - start[..., 0], 1)
    heights = np.where(meets, start[..., 1] + (x - start[..., 0]) / run * (end[..., 1] - start[..., 1]), np.inf)
    edge = np.argsort(heights, axis=1)[:, : meets.sum(1).max(initial=0)]
    met = np.take_along_axis(meets, edge, axis=1)
    heights = np.take_along_axis(heights, edge, axis=1)
    inside = np.bitwise_xor.accumulate(np.where(met, 1 << (edge // 4), 0), axis=1)[:, :-1]
    lengths = np.diff(np.where(met, heights, 0), axis=1)  # what follows the last edge is covered by nothing
    both = (inside & FIRST > 0) & (inside & SECOND > 0)
    return np.stack([(lengths * both).sum(1), (lengths * (inside > 0)).sum(1)])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
