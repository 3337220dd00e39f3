"""Vertebrae from label maps (the library's `labels/mask_shapes.py`), and their compression to fractures.

Points, axes and distances are in RAS mm; arrays are `[k, j, i]`; the rows of frames are right, anterior, up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from VertebralFractureQuantLib.labels.mask_shapes import Shape, in_frames, shapes_of, six_points, with_sacrum

Organs = tuple[np.ndarray, np.ndarray, np.ndarray]  # HU, spacing, origin
NAMES = [f"{region}{n}" for region, count in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, count + 1)]
VERSE = {i + 1: name for i, name in enumerate(NAMES)}
TOTALSEG = {50 - i: name for i, name in enumerate(NAMES)} | {26: "S1"}
# TotalSegmentator's organs: first label, last label, HU.
ORGANS = ((1, 3, 110), (5, 9, 90), (10, 14, -860), (15, 15, 30), (16, 16, -990), (17, 24, 40), (51, 63, 150),
          (69, 78, 260), (80, 89, 55), (92, 116, 330), (118, 118, 120))  # fmt: skip
DISC_MM = 5.0  # a depressed endplate stretches the disc this far
Fractures = dict[str, tuple[float, float, float]]  # by level: remaining shares of the heights, front, middle, back


@lru_cache(maxsize=3)
def read_map(path: Path) -> tuple[list[Shape], Organs | None]:
    """Return the vertebrae, cranial first, and the other organs: `[k, j, i]` HU, spacing, origin (None: no organs)."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAS")
    labels, spacing, origin = sitk.GetArrayFromImage(image), np.array(image.GetSpacing()), np.array(image.GetOrigin())
    origin *= -1, -1, 1  # LPS to RAS
    names = TOTALSEG if "totalseg" in path.name else VERSE
    shapes = in_frames(with_sacrum(shapes_of(labels, names, spacing, origin)))
    if labels.max() < 100:
        return shapes, None
    hu = np.full(256, -2000.0, np.float32)
    for low, high, value in ORGANS:
        hu[low : high + 1] = value
    return shapes, (hu[labels.astype(np.uint8)], spacing, origin)


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
