"""Butterfly-IoU: how much two vertebrae overlap, as polygons on their six key points; and suppression of duplicates.

Here a vertebra is key points `(3, 2, 2)` in a sagittal plane, in mm or pixels. Its area is the union of the anterior
quadrilateral (A+ M+ M- A-) and the posterior one (M+ P+ P- M-). For sound points it is the hexagon A+ M+ P+ P- M- A-.
Where the outline crosses itself (a point dragged or predicted over another), the area is still well defined.
shapely computes the polygons on a grid; without a grid it fails or is wrong on the hair-thin spikes of folded outlines.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..errors import VFQError
from .keypoints import check_keypoints

NMS_THRESHOLD = 0.1  # Zakharov et al. 2023
GRID = 1e-9  # corners and crossings are rounded to multiples of this
NO_AREA = 1e-6  # smaller areas are rounding: GRID times the longest outlines, with reserve


def butterfly_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over union of two vertebrae `(3, 2, 2)`; 0 where neither has an area.

    VFQError `missing_dependency` without shapely.
    """
    one, other = (_polygons(check_keypoints(np.reshape(points, (1, 3, 2, 2)))) for points in (a, b))
    return float(_iou(one, other)[0])


def suppress(keypoints: np.ndarray, scores: np.ndarray, threshold: float = NMS_THRESHOLD) -> np.ndarray:
    """Return the indices that greedy non-maximum suppression keeps, best score first.

    keypoints : `(n, 3, 2, 2)` mm or pixels; scores : `(n,)`. A vertebra is dropped if its Butterfly-IoU with a kept
    vertebra of higher score exceeds `threshold`. VFQError `missing_dependency` without shapely.
    """
    points = check_keypoints(np.reshape(keypoints, (-1, 3, 2, 2)))
    low, high = points.min((1, 2)), points.max((1, 2))
    polygons = _polygons(points)
    alive = np.ones(len(points), bool)
    kept: list[int] = []
    for i in np.argsort(-np.asarray(scores, float), kind="stable"):
        if not alive[i]:
            continue
        kept.append(int(i))
        alive[i] = False
        near = np.flatnonzero(alive & (low < high[i]).all(1) & (high > low[i]).all(1))
        alive[near] = _iou(polygons[i : i + 1], polygons[near]) <= threshold
    return np.array(kept, int)


def import_shapely() -> ModuleType:
    """Return the package shapely. VFQError `missing_dependency` if it is not installed."""
    try:
        import shapely
    except ImportError as error:
        raise VFQError(
            "missing_dependency",
            f"Overlaps of vertebrae are computed with the package shapely, which cannot be imported ({error}). "
            "Install it: pip install shapely; in 3D Slicer's Python console slicer.util.pip_install('shapely').",
        ) from error
    return shapely


def _polygons(points: np.ndarray) -> np.ndarray:
    """Return the areas `(n,)` of vertebrae `(n, 3, 2, 2)` as shapely geometries."""
    shapely = import_shapely()
    corners = np.stack([points[:, [i, i + 1, i + 1, i], [0, 0, 1, 1]] for i in (0, 1)], axis=1)
    halves = _areal(shapely.make_valid(shapely.polygons(corners)))
    return _areal(shapely.union(halves[:, 0], halves[:, 1], grid_size=GRID))


def _areal(shapes: np.ndarray) -> np.ndarray:
    """Drop the lines and points that flat parts leave; shapely cannot overlay areas mixed with them."""
    areal: np.ndarray = import_shapely().buffer(shapes, 0)
    return areal


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the overlaps `(n,)` of polygons `a` `(1 or n,)` with `b` `(n,)`."""
    shapely = import_shapely()
    shared = shapely.area(shapely.intersection(a, b, grid_size=GRID))
    united = shapely.area(a) + shapely.area(b) - shared
    return np.divide(shared, united, out=np.zeros(len(b)), where=united > NO_AREA)
