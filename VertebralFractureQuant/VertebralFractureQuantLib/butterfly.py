"""Butterfly-IoU: the overlap of two vertebrae as the polygons built on their six key points, and its suppression.

A vertebra in a picture is key points `(3, 2, 2)`. Its polygon is the union of the anterior quadrilateral
(A+ M+ M- A-) and the posterior one (M+ P+ P- M-): for sound points just the hexagon A+ M+ P+ P- M- A-, and where
the outline crosses itself (a point dragged or predicted over another) still a well-defined area.
Exact polygons by shapely, as rasters would quantise thin, collapsed vertebrae.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import VFQError
from .keypoints import check_keypoints, outline

NMS_THRESHOLD = 0.1  # Zakharov et al. 2023
# Plain floating point makes GEOS fail, or err unnoticed, on slivers as thin as rounding; on a grid (in the units of the
# key points, far below any accuracy) it is robust.
GRID = 1e-6


def butterfly_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two vertebrae `(3, 2, 2)`; 0 where both have no area."""
    return float(_iou(_polygons(a[None]), _polygons(b[None]))[0])


def suppress(keypoints: np.ndarray, scores: np.ndarray, threshold: float = NMS_THRESHOLD) -> np.ndarray:
    """Indices kept by greedy non-maximum suppression, best first.

    keypoints : `(n, 3, 2, 2)` mm or pixels; scores : `(n,)`. A vertebra goes where its Butterfly-IoU with a kept,
    better one exceeds `threshold`. VFQError `missing_dependency` without shapely.
    """
    points = np.asarray(keypoints, float).reshape(-1, 3, 2, 2)
    polygons = _polygons(points)
    low, high = points.min((1, 2)), points.max((1, 2))
    alive = np.ones(len(points), bool)
    kept: list[int] = []
    for i in np.argsort(-np.asarray(scores, float), kind="stable"):
        if not alive[i]:
            continue
        kept.append(int(i))
        alive[i] = False
        near = np.flatnonzero(alive & (low < high[i]).all(1) & (high > low[i]).all(1))
        alive[near] = _iou(polygons[i], polygons[near]) <= threshold
    return np.array(kept, int)


def _polygons(keypoints: np.ndarray) -> np.ndarray:
    """One polygon or multi-polygon for each of `(n, 3, 2, 2)`; an empty one where the points enclose nothing."""
    shapely, points = _shapely(), check_keypoints(keypoints)
    polygons: np.ndarray = shapely.polygons(outline(points))
    halves = [shapely.polygons(corners) for corners in _halves(points)]
    folded = ~_are_sound(polygons, *halves)
    polygons[folded] = _areas(shapely.union(*(_areas(shapely.make_valid(h[folded])) for h in halves), grid_size=GRID))
    return polygons


def _are_sound(hexagons: np.ndarray, anterior: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Where the hexagon is the union of its halves: nothing crosses, and no half is folded over the other."""
    shapely = _shapely()
    simple = shapely.is_valid(hexagons) & shapely.is_valid(anterior) & shapely.is_valid(posterior)
    added = shapely.area(anterior) + shapely.area(posterior)
    sound: np.ndarray = simple & np.isclose(shapely.area(hexagons), added, rtol=0, atol=GRID)
    return sound


def _halves(points: np.ndarray) -> list[np.ndarray]:
    """The anterior and the posterior quadrilateral, `(n, 4, 2)` each."""
    return [np.stack([points[:, i, 0], points[:, i + 1, 0], points[:, i + 1, 1], points[:, i, 1]], 1) for i in (0, 1)]


def _areas(shapes: np.ndarray) -> np.ndarray:
    """`shapes` on the grid without the lines and points that collapsed parts leave: GEOS overlays no mixtures."""
    shapely = _shapely()
    snapped: np.ndarray = shapely.set_precision(shapes, GRID)
    mixed = ~np.isin(shapely.get_type_id(snapped), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    snapped[mixed] = shapely.buffer(snapped[mixed], 0)
    return snapped


def _iou(a: Any, b: np.ndarray) -> np.ndarray:
    shapely = _shapely()
    shared = shapely.area(shapely.intersection(a, b, grid_size=GRID))
    union = shapely.area(a) + shapely.area(b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _shapely() -> Any:
    try:
        import shapely
    except ImportError as error:
        raise VFQError("missing_dependency", "Butterfly-IoU needs shapely. Install it: pip install shapely.") from error
    return shapely
