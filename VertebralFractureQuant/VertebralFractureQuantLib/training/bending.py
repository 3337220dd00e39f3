"""Bending of straightened images, so that no two vertebrae of the same phantom have the same shape.

Phantoms have only the shapes that their authors thought of. In a bent image the network has to look at each vertebra
instead of guessing it from its neighbours. Pixels are 1 mm; displacements are (A, row) in mm.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional as F

from ..networks.detector import HALF_WIDTH_MM

# Smooth random fields: distance between their knots (mm), and displacement at the knots (mm).
BENDS_MM = ((36.0, 1.8), (14.0, 1.1), (7.0, 0.45))


def draw_bend(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a smooth random displacement `(rows, columns, 2)` mm (A, row) of an image of this `shape`."""
    strength = rng.uniform(0.0, 1.5)
    bend = np.zeros((*shape, 2))
    for knots, amplitude in BENDS_MM:
        size = [int(np.ceil(n / knots)) + 3 for n in shape]
        values = torch.as_tensor(rng.normal(0, strength * amplitude, (1, 2, *size)))
        fine = F.interpolate(values, scale_factor=knots, mode="bicubic", align_corners=False)[0]
        top, left = (int(knots + rng.uniform(0, knots)) for _ in range(2))
        bend += fine[:, top : top + shape[0], left : left + shape[1]].permute(1, 2, 0).numpy()
    return bend


def bent(picture: Tensor, bend: np.ndarray) -> Tensor:
    """Return the image `(rows, columns)` that shows at each pixel what was `bend` away, `(rows, columns, 2)` mm."""
    rows, columns = picture.shape
    place = np.indices(bend.shape[:2])[::-1].transpose(1, 2, 0) + bend
    grid = torch.as_tensor(place / (columns - 1, rows - 1) * 2 - 1, dtype=picture.dtype)
    bent = F.grid_sample(picture[None, None], grid[None], mode="bicubic", align_corners=True, padding_mode="border")
    return bent[0, 0]


def bent_keypoints(keypoints: np.ndarray, bend: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return key points `(n, 3, 2, 2)` (A, row) in a bent image that begins at row `top`.

    Also return the factors `(n, 3)` by which their heights are stretched.
    """
    moved = keypoints
    for _ in range(4):  # fixed-point iteration for the pixel that shows the original point
        at = np.stack([moved[..., 1] - top, moved[..., 0] + HALF_WIDTH_MM])
        shift = [map_coordinates(bend[..., axis], at, order=1, mode="nearest") for axis in (0, 1)]
        moved = keypoints - np.stack(shift, -1)
    before, after = (np.linalg.norm(k[:, :, 0] - k[:, :, 1], axis=-1) for k in (keypoints, moved))
    return moved, after / np.maximum(before, 1.0)
