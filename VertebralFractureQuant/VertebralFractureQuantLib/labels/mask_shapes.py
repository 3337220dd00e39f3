"""Vertebrae of a label map as signed distances, and the six key points on their surface.

Points, axes and distances are in RAS mm; arrays are `[k, j, i]`; the rows of a frame are right, anterior, up. The rule
of the corners is the one that readers follow: the outermost points without osteophytes. Which number is which vertebra
is left to `masks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

GRID_MM = 0.8
SMOOTH_MM = 0.9  # smooths the steps of a 1 mm mask's surface
SMALLEST_ML = 4.0  # a smaller part is no vertebra


@dataclass(frozen=True, eq=False)
class Shape:
    """A vertebra: its signed distance `[k, j, i]` mm (negative inside) on a grid of GRID_MM from `origin`.

    `cut` is true if the map's border cuts it. `center` and `frame` are the body's; `back` is the A of its posterior
    wall in that frame, `canal` the centre of the canal, None if it was not found.
    """

    level: str
    distance: np.ndarray
    origin: np.ndarray
    cut: bool
    center: np.ndarray
    frame: np.ndarray
    back: float = 0.0
    canal: np.ndarray | None = None

    @property
    def end(self) -> np.ndarray:
        """The grid's corner opposite to `origin`."""
        return self.origin + np.array(self.distance.shape[::-1]) * GRID_MM

    def sample(self, points: np.ndarray) -> np.ndarray:
        """Return the signed distance (mm) at RAS points `(..., 3)`; it is 9 mm outside the grid."""
        index = np.moveaxis((np.asarray(points) - self.origin) / GRID_MM, -1, 0)[::-1]
        sampled: np.ndarray = ndimage.map_coordinates(self.distance, index, order=1, cval=9.0)
        return sampled

    def local(self, points: np.ndarray) -> np.ndarray:
        """Return RAS points in the body's frame: mm to the right, anterior and up of its centre."""
        turned: np.ndarray = (points - self.center) @ self.frame.T
        return turned


def shapes_of(labels: np.ndarray, names: Mapping[int, str], spacing: np.ndarray, origin: np.ndarray) -> list[Shape]:
    """Return the vertebrae of a map whose axes run to R, A and S, cranial first, without their frames.

    labels : `[k, j, i]`; names : level of each number; spacing, origin : `(3,)` mm along R, A, S.
    """
    boxes = {n: box for n, box in enumerate(ndimage.find_objects(labels.astype(int)), 1) if box and n in names}
    large = [n for n, box in boxes.items() if (labels[box] == n).sum() * spacing.prod() > SMALLEST_ML * 1000]
    shapes = [_shape(names[n], labels == n, boxes[n], spacing, origin) for n in large]
    return sorted(shapes, key=lambda s: -float(s.center[2]))


def with_sacrum(shapes: list[Shape]) -> list[Shape]:
    """Return the vertebrae with a sacrum below a last L5: L5 itself, one step further down and backwards."""
    if len(shapes) < 2 or shapes[-1].level != "L5":
        return shapes
    last = shapes[-1]
    step = (last.center - shapes[-2].center) * [1, 0, 1.05] + [0, -12, 0]
    return [*shapes, replace(last, level="S1", origin=last.origin + step, center=last.center + step, cut=True)]


def in_frames(shapes: list[Shape]) -> list[Shape]:
    """Return two or more vertebrae, cranial first, with centres and frames of their bodies."""
    for _ in range(3):  # frames and bodies depend on each other
        up = -np.gradient([s.center for s in shapes], axis=0)
        shapes = [_in_frame(s, u) for s, u in zip(shapes, up, strict=True)]
    return shapes


def _shape(level: str, mask: np.ndarray, box: tuple[slice, ...], spacing: np.ndarray, origin: np.ndarray) -> Shape:
    """Return one vertebra of a map.

    Anisotropic masks are interpolated by their distances, so that thick slices leave no steps.
    """
    cut = any(s.start == 0 or s.stop == n for s, n in zip(box, mask.shape, strict=True))
    pad = np.ceil(8 / spacing[::-1]).astype(int)
    part = np.pad(mask[box], [(p, p) for p in pad])
    out, within = (ndimage.distance_transform_edt(m, sampling=spacing[::-1]) for m in (~part, part))
    signed = np.where(part, spacing.min() / 2 - within, out - spacing.min() / 2)
    fine = ndimage.zoom(signed, spacing[::-1] / GRID_MM, order=1, grid_mode=True, mode="nearest")
    fine = ndimage.gaussian_filter(fine, np.maximum(SMOOTH_MM, 0.6 * spacing[::-1]) / GRID_MM)
    low = origin + (np.array([s.start for s in box])[::-1] - pad[::-1] - 0.5) * spacing + GRID_MM / 2
    center = low + np.argwhere(fine < 0).mean(0)[::-1] * GRID_MM
    return Shape(level, fine.astype(np.float32), low, cut, center, np.eye(3))


def _in_frame(shape: Shape, up: np.ndarray) -> Shape:
    """Return `shape` with centre and frame of the body; the canal is behind it.

    The canal is found as a hole in the projection of the bone along `up`.
    """
    up = up / np.linalg.norm(up)
    ahead = np.array([0, 1.0, 0]) if shape.canal is None else shape.center - shape.canal
    ahead = ahead - (ahead @ up) * up
    ahead /= np.linalg.norm(ahead)
    frame = np.stack([np.cross(ahead, up), ahead, up])
    r, a, z = np.meshgrid(np.arange(-40.0, 41), np.arange(-60.0, 41), np.arange(-35.0, 36), indexing="ij")
    bone = shape.sample(np.stack([r, a, z], -1) @ frame + shape.center) < 0
    shadow = bone.any(2)
    holes, count = ndimage.label(ndimage.binary_fill_holes(shadow) & ~shadow)
    if count == 0:
        return replace(shape, frame=frame, back=-14.0 if shape.canal is None else shape.back)
    hole = holes == np.argmax(np.bincount(holes.ravel())[1:]) + 1
    middle = np.array([r[hole, 0].mean(), a[hole, 0].mean()])
    back = a[hole & (abs(r[..., 0] - middle[0]) < 4), 0].max() + 0.5
    body = bone & (a > back) & (abs(r - middle[0]) < 32)
    shift = np.array([r[body].mean(), a[body].mean(), z[body].mean()])
    canal = np.array([*middle, shift[2]]) @ frame + shape.center
    return replace(shape, frame=frame, center=shape.center + shift @ frame, back=back - shift[1], canal=canal)


def six_points(shape: Shape) -> np.ndarray:
    """Return the key points `(3, 2, 3)` RAS mm on the mask's surface in the body's mid-sagittal plane."""
    axes = shape.frame[1:]
    for _ in range(3):  # turn the axes to the endplates' mean direction
        flat = _flat_points(shape, axes)
        points: np.ndarray = shape.center + flat @ axes
        x, y = (flat[0] - flat[2]).sum(0)
        axes = np.array([[x, y], [-y, x]]) / np.hypot(x, y) @ axes
    return points


def _flat_points(shape: Shape, axes: np.ndarray, step: float = 0.25) -> np.ndarray:
    """Return the key points `(3, 2, 2)` along `axes` (anterior, up).

    Corners are the outermost points, without osteophytes; posterior points are as high as the endplate beside them.
    """
    grid = np.arange(-32, 32, step)
    a, z = np.meshgrid(grid, grid, indexing="ij")
    plane = np.stack([a, z], -1) @ axes + shape.center
    bone = (shape.sample(plane) < 0) & (shape.local(plane)[..., 1] > shape.back - 4)
    parts, _ = ndimage.label(bone)
    body = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    disk = np.hypot(*np.mgrid[-6:7, -6:7]) <= 6
    blunt = ndimage.binary_opening(body, disk)
    points = np.zeros((3, 2, 2))
    for position, forward in ((0, 1), (2, -1)):
        for end, upward in ((0, 1), (1, -1)):
            reach = np.where(blunt, forward * a + upward * z, -np.inf)
            points[position, end] = grid[list(np.unravel_index(reach.argmax(), reach.shape))]
    for end, pick, out in ((0, np.max, step / 2), (1, np.min, -step / 2)):
        middle = points[[0, 2], end, 0].mean()
        near = _edge(grid, body, middle, pick)
        points[1, end] = middle, np.mean(near) + out  # follows a broad depression, not a focal one
        points[2, end, 1] = pick(_edge(grid, body, points[2, end, 0], pick)) + out
    return points


def _edge(grid: np.ndarray, body: np.ndarray, at: float, pick: Callable[..., float]) -> list[float]:
    """Return the heights of the body's surface within 3 mm of `at`."""
    return [pick(grid[body[c]]) for c in np.flatnonzero(abs(grid - at) < 3) if body[c].any()]
