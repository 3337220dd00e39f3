"""Vertebrae from label maps as signed distances, with their six points, and their compression to fractures.

Points, axes and distances are in RAS mm; arrays are `[k, j, i]`; the rows of frames are right, anterior, up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

Organs = tuple[np.ndarray, np.ndarray, np.ndarray]  # HU, spacing, origin
NAMES = [f"{region}{n}" for region, count in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, count + 1)]
VERSE = {i + 1: name for i, name in enumerate(NAMES)}
TOTALSEG = {50 - i: name for i, name in enumerate(NAMES)} | {26: "S1"}
# TotalSegmentator's organs: first label, last label, HU.
ORGANS = ((1, 3, 110), (5, 9, 90), (10, 14, -860), (15, 15, 30), (16, 16, -990), (17, 24, 40), (51, 63, 150),
          (69, 78, 260), (80, 89, 55), (92, 116, 330), (118, 118, 120))  # fmt: skip
GRID_MM = 0.8
SMOOTH_MM = 0.9  # smooths the steps of a 1 mm mask's surface
SMALLEST_ML = 4.0  # smaller parts of a vertebra are not painted
DISC_MM = 5.0  # a depressed endplate stretches the disc this far
Fractures = dict[str, tuple[float, float, float]]  # by level: remaining shares of the heights, front, middle, back


@dataclass(frozen=True, eq=False)
class Shape:
    """A vertebra: its signed distance `[k, j, i]` mm (negative inside) on a grid of GRID_MM from `origin`.

    `cut` is true if the map's border cuts it. `center` and `frame` are the body's; `back` is the A of its posterior
    wall in that frame, `canal` the centre of the canal.
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
        return ndimage.map_coordinates(self.distance, index, order=1, cval=9.0)

    def local(self, points: np.ndarray) -> np.ndarray:
        """Return RAS points in the body's frame: mm to the right, anterior and up of its centre."""
        return (points - self.center) @ self.frame.T


@lru_cache(maxsize=3)
def read_map(path: Path) -> tuple[list[Shape], Organs | None]:
    """Return the vertebrae, cranial first, and the other organs: `[k, j, i]` HU, spacing, origin (None: no organs)."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAS")
    labels, spacing, origin = sitk.GetArrayFromImage(image), np.array(image.GetSpacing()), np.array(image.GetOrigin())
    origin *= -1, -1, 1  # LPS to RAS
    names = TOTALSEG if "totalseg" in path.name else VERSE
    boxes = {n: box for n, box in enumerate(ndimage.find_objects(labels.astype(int)), 1) if box and n in names}
    large = [n for n, box in boxes.items() if (labels[box] == n).sum() * spacing.prod() > SMALLEST_ML * 1000]
    shapes = [_shape(names[n], labels == n, boxes[n], spacing, origin) for n in large]
    shapes.sort(key=lambda s: -s.center[2])
    if shapes[-1].level == "L5":  # the map lacks the sacrum: repeat L5 one step further down and backwards
        last = shapes[-1]
        step = (last.center - shapes[-2].center) * [1, 0, 1.05] + [0, -12, 0]
        shapes.append(replace(last, level="S1", origin=last.origin + step, center=last.center + step, cut=True))
    for _ in range(3):  # frames and bodies depend on each other
        up = -np.gradient([s.center for s in shapes], axis=0)
        shapes = [_in_frame(s, u) for s, u in zip(shapes, up, strict=True)]
    if labels.max() < 100:
        return shapes, None
    hu = np.full(256, -2000.0, np.float32)
    for low, high, value in ORGANS:
        hu[low : high + 1] = value
    return shapes, (hu[labels.astype(np.uint8)], spacing, origin)


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
        points = shape.center + flat @ axes
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

        def edge(at: float, pick=pick) -> list[float]:  # the surface within 3 mm
            return [pick(grid[body[c]]) for c in np.flatnonzero(abs(grid - at) < 3) if body[c].any()]

        middle = points[[0, 2], end, 0].mean()
        points[1, end] = middle, np.mean(edge(middle)) + out  # follows a broad depression, not a focal one
        points[2, end, 1] = pick(edge(points[2, end, 0])) + out
    return points


class Warp:
    """Compression of real bodies; everything above follows rigidly, as in a spine (a wedge makes a kyphosis)."""

    def __init__(self, shapes: list[Shape], fractures: Fractures | None):
        self.presses = [_press(s, *fractures[s.level]) for s in shapes if fractures and s.level in fractures]

    def to_source(self, points: np.ndarray) -> np.ndarray:
        """Return where points `(..., 3)` of the deformed spine are in the label map."""
        for press in reversed(self.presses):  # caudal first: each compression moves everything above it
            points = press(points)
        return points

    def to_target(self, points: np.ndarray) -> np.ndarray:
        """Return where points `(..., 3)` of the label map are in the deformed spine, by iteration."""
        target = np.array(points, float)
        for _ in range(150 * bool(self.presses)):
            target += 0.35 * (points - self.to_source(target))
        return target


def _press(shape: Shape, front_left: float, middle_left: float, back_left: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map from a fractured vertebra, and everything above it, to the intact one."""
    corners = shape.local(six_points(shape))[..., 1:]
    front, back = corners[0], corners[2]
    new_front = front[1] + front_left * (front[0] - front[1])
    new_back = back[1] + back_left * (back[0] - back[1])
    turn = np.diff([np.arctan2(*(f - b)[::-1]) for f, b in ((new_front, new_back), (front[0], back[0]))])[0]
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    height = np.linalg.norm(corners[1, 0] - corners[1, 1])
    mean_left = (front_left + back_left) / 2
    sunk = (1 - middle_left / mean_left) * height / 2

    def line(a: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return start[1] + (a - start[0]) * (end[1] - start[1]) / (end[0] - start[0])

    def press(points: np.ndarray) -> np.ndarray:
        local = shape.local(points)
        flat = local[..., 1:]
        low, high = line(flat[..., 0], back[1], front[1]), line(flat[..., 0], new_back, new_front)
        share = np.clip((flat[..., 1] - low) / np.maximum(high - low, 3.0), 0, 1)
        flat = flat + share[..., None] * ((flat - new_back) @ rotation + back[0] - flat)
        half = np.maximum((line(flat[..., 0], back[0], front[0]) - line(flat[..., 0], back[1], front[1])) / 2, 4.0)
        level = flat[..., 1] - line(flat[..., 0], back[1], front[1]) - half
        t = (flat[..., 0] - back[0, 0]) / (front[0, 0] - back[0, 0]) * 2 - 1
        bump = sunk * np.clip(1 - abs(t) ** 3, 0, 1) * np.clip(1 - (local[..., 0] / 24) ** 4, 0, 1)
        inner = abs(level) * bump / (half - bump)
        outer = bump * (half + DISC_MM - abs(level)) / (DISC_MM + bump)
        flat[..., 1] += np.sign(level) * np.clip(np.minimum(inner, outer), 0, None)
        return np.concatenate([local[..., :1], flat], -1) @ shape.frame + shape.center

    return press
