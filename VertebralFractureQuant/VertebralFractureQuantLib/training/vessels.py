"""Bright vessels painted beside the spine: an aorta full of contrast, widened, dissected or with a stent.

In few scans a vessel touches a body and is as bright as bone. A network that has not seen it takes it for a body.
Volumes are `[s, a, r]` HU; positions are voxels (a, r).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

VESSEL_SHARE = 0.4
RADIUS_MM, BEYOND_MM = (9.0, 22.0), (12.0, 24.0)  # beyond the middle of the body, to the vessel's wall
BLOOD_HU, WALL_HU, STENT_HU, BONE_HU = (130.0, 480.0), 45.0, (600.0, 2500.0), 180.0


def with_vessel(rng: np.random.Generator, voxels: Tensor, position: np.ndarray, spacing_mm: float) -> Tensor:
    """Return a volume in which, in some cases, a vessel runs beside or in front of the curve's `position` `(s, 2)`.

    Bone in its way stays.
    """
    if rng.random() >= VESSEL_SHARE:
        return voxels
    slices, rows, columns = voxels.shape
    along = np.arange(slices)
    wave = rng.normal(0, 3, 2) * np.sin(along[:, None] / rng.uniform(6, 20) + rng.uniform(0, 6.3, 2))
    radius = rng.uniform(*RADIUS_MM) * (1 + 0.15 * np.sin(along / rng.uniform(4, 15) + rng.uniform(0, 6.3)))
    angle = rng.uniform(-0.35, np.pi / 2) + rng.normal(0, 0.012) * (along - slices / 2)  # from the left to the front
    away = rng.uniform(*BEYOND_MM) + radius
    side = -1 if rng.random() < 0.8 else 1
    a = position[:, 0] * spacing_mm + away * np.sin(angle) + wave[:, 0]
    r = position[:, 1] * spacing_mm + side * away * np.cos(angle) + wave[:, 1]
    at_a = torch.arange(rows)[None, :, None] * spacing_mm - torch.as_tensor(a, dtype=torch.float32)[:, None, None]
    at_r = torch.arange(columns)[None, None] * spacing_mm - torch.as_tensor(r, dtype=torch.float32)[:, None, None]
    far = torch.hypot(at_a, at_r) - torch.as_tensor(radius, dtype=torch.float32)[:, None, None]
    hu = float(rng.uniform(*BLOOD_HU))
    lumen = torch.full_like(far, hu)
    if rng.random() < 0.3:  # a flap parts a brighter from a darker lumen
        turn = rng.uniform(0, 6.3)
        lumen = torch.where(at_a * np.sin(turn) + at_r * np.cos(turn) > rng.uniform(-5, 5), lumen, hu * rng.uniform(0.3, 1))
    inner = rng.uniform(0, 4) * (rng.random() < 0.4)  # a wall of thrombus
    painted = torch.where(far < -inner, lumen, WALL_HU)
    if rng.random() < 0.35:
        struts = (far + inner).abs() < rng.uniform(0.8, 1.6)
        broken = torch.as_tensor(rng.random(tuple(far.shape)) < 0.7)
        painted = torch.where(struts & broken, float(rng.uniform(*STENT_HU)), painted)
    held = torch.as_tensor((along > rng.uniform(-slices, 0.6 * slices)) & (along < rng.uniform(0.4, 2) * slices))
    inside = (far < 0) & held[:, None, None] & (voxels < BONE_HU)
    return torch.where(inside, painted.to(voxels.dtype), voxels)
