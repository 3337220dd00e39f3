"""`Spine`: the vertebrae, curve and limits that one file gives for one scan, whether prediction or reference.

Coordinates are RAS mm, except in the public annotations: those are in voxels [row, column, slice] until `pairing`
places them in the prediction's scan. Reading the files is left to `sources`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np

from ..imaging.axes import plane_distances
from ..spine.curve import SpineCurve
from ..spine.keypoints import centers
from .problems import Problem

RAS, VOXELS = "RAS_mm", "voxels"
BORDER_MM = 5.0  # key points may lie a little beyond the outermost voxels


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxel grid of a scan.

    Attributes
    ----------
    shape, spacing_mm : number of voxels and their size, both [k, j, i].
    ijk_to_ras : 4 x 4, or None if the file does not say where the scan lies.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    ijk_to_ras: np.ndarray | None = None

    @property
    def diagonal_mm(self) -> float:
        """The largest possible distance between two points of the scan."""
        return float(np.linalg.norm(np.array(self.shape) * self.spacing_mm))


@dataclass(frozen=True, eq=False)
class Spine:
    """The contents of one file about one scan.

    Attributes
    ----------
    case, file : names of the case and of the file.
    keypoints : `(n, 3, 2, 3)` in `space`.
    levels : the name of each vertebra, None if unknown.
    partial : `(p, 3)` approximate centres of vertebrae that exist but are not compared, because the border of the scan
        cuts them or because their points are faulty.
    curve : the spine's curve, None if the file has none.
    limits : `(2, 3)` the two ends of the spine, or `(0, 3)` if unknown.
    status : "ok", or the code of a failed analysis.
    space : `RAS` or `VOXELS`.
    grid : the grid of the scan, if known.
    sure : for each vertebra of a prediction, whether its name is free of doubt (`levels.SURE`). Empty if the file does
        not say.
    spreads : for each vertebra of a prediction, the standard deviation of G, nan where none is given. Empty as above.
    grades : for each vertebra of a prediction, its grade (one of `genant.GRADES`). Empty as above.
    """

    case: str
    file: str
    keypoints: np.ndarray
    levels: tuple[str | None, ...]
    partial: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    curve: SpineCurve | None = None
    limits: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    status: str = "ok"
    space: str = RAS
    grid: Grid | None = None
    sure: tuple[bool, ...] = ()
    spreads: tuple[float, ...] = ()
    grades: tuple[str, ...] = ()

    @property
    def landmark(self) -> np.ndarray | None:
        """A point `(3,)` that certainly lies in the scan; None if the spine has neither curve nor vertebrae."""
        points = self.curve.points if self.curve is not None else centers(self.keypoints)
        return np.median(points, axis=0) if len(points) else None


def inside(spine: Spine, grid: Grid | None, landmark: np.ndarray | None) -> tuple[Spine, list[Problem]]:
    """Drop the vertebrae that lie outside the scan; coordinates are RAS mm, `landmark` `(3,)`.

    With `grid.ijk_to_ras` the test is exact. Without it, vertebrae farther from `landmark` than the scan's diagonal are
    dropped; without a landmark or a grid, none. The centres of dropped vertebrae are added to `partial`, because the
    border may cut one of them.

    Returns
    -------
    The remaining spine, and an `outside_volume` problem for each vertebra that was dropped.
    """
    points = spine.keypoints.reshape(-1, 6, 3)
    if grid is None or (grid.ijk_to_ras is None and landmark is None):
        return spine, []
    if grid.ijk_to_ras is None:
        outside = (np.linalg.norm(points - landmark, axis=-1) > grid.diagonal_mm).any(1)
    else:
        inverse = np.linalg.inv(grid.ijk_to_ras)
        kji = (points @ inverse[:3, :3].T + inverse[:3, 3])[..., ::-1]
        margin = BORDER_MM / plane_distances(grid.ijk_to_ras)[::-1]
        outside = ((kji < -margin) | (kji > np.array(grid.shape) - 1 + margin)).any((1, 2))
    problems = [
        Problem("outside_volume", spine.file, spine.levels[i] or f"V{i + 1}", "It lies outside the analysed scan.")
        for i in np.flatnonzero(outside)
    ]
    kept = replace(
        spine,
        keypoints=spine.keypoints[~outside],
        levels=tuple(compress(spine.levels, ~outside)),
        sure=tuple(compress(spine.sure, ~outside)),
        spreads=tuple(compress(spine.spreads, ~outside)),
        grades=tuple(compress(spine.grades, ~outside)),
        partial=np.concatenate([spine.partial, centers(spine.keypoints[outside])]),
    )
    return kept, problems
