"""Training samples of the localizer: 4 mm volumes `[s, a, r]` HU with a curve point and a spine flag by slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks.localizer import SPACING_MM as COARSE_SPACING_MM
from ..phantom.anatomy import Anatomy, draw_anatomy
from ..phantom.keypoints import exact_keypoints
from ..phantom.options import PhantomOptions
from ..phantom.painting import Painter
from ..phantom.scanner import AIR
from ..spine.levels import LEVELS
from .augmentation import flip, scan_coarse

CROP = (48, 64, 64)  # voxels [s, a, r]
SEVERE_SHARE = 0.25  # of trunks have 40 to 75 degrees of scoliosis: it is rare, and the curve is easily lost there


@dataclass(frozen=True)
class PaintedTrunk:
    """A whole trunk at 4 mm.

    `voxels` `[s, a, r]` HU; by slice, the curve's (a, r) voxel `position` `(s, 2)`, and whether it `holds_spine`.
    """

    voxels: Tensor
    position: np.ndarray
    holds_spine: np.ndarray


def paint_trunk(rng: np.random.Generator, device: str = "cpu") -> PaintedTrunk:
    """Paint the trunk of a new patient at 4 mm on `device`: all or part of the spine, sometimes skull and hips."""
    severe = float(rng.uniform(40, 75)) if rng.random() < SEVERE_SHARE else None
    anatomy = draw_anatomy(rng, PhantomOptions(severe, fracture_rate=0.1))
    levels = np.sort(rng.choice(len(LEVELS) + 2, 2, replace=False))
    if levels[1] - levels[0] < 8:
        levels = np.array([0, len(LEVELS) + 1])
    z = [anatomy.bodies[min(i, len(anatomy.bodies) - 1)].center[2] for i in levels]
    pad = rng.uniform(0, 50, 2)
    if rng.random() < 0.4:  # hips or skull in view
        pad = rng.uniform((30, 0), (260, 130))
    points = anatomy.curve.points
    middle = points[:, :2].mean(0)
    s = np.arange(z[1] - pad[0], z[0] + pad[1], COARSE_SPACING_MM)
    a = np.arange(points[:, 1].min() - 100, points[:, 1].max() + rng.uniform(100, 210), COARSE_SPACING_MM)
    r = np.arange(middle[0] - 190, middle[0] + 190, COARSE_SPACING_MM)
    grid = np.stack(np.meshgrid(s, a, r, indexing="ij"), -1)[..., ::-1].reshape(-1, 3)
    painter = Painter(anatomy, device)
    chunks = torch.as_tensor(grid.copy(), dtype=torch.float32, device=device).split(400_000)
    softness = float(rng.uniform(1.0, 2.0))
    voxels = torch.cat([painter.hounsfield(c, softness) for c in chunks]).reshape(len(s), len(a), len(r))
    return PaintedTrunk(voxels.cpu(), *_slice_targets(anatomy, s, a[0], r[0]))


def _slice_targets(anatomy: Anatomy, s: np.ndarray, a0: float, r0: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve's (a, r) voxel position on every slice, and whether it lies between C2's top and L5's bottom."""
    points = anatomy.curve.points
    order = np.argsort(points[:, 2])
    at = [np.interp(s, points[order, 2], points[order, d]) for d in (1, 0)]
    position = np.stack([(at[0] - a0) / COARSE_SPACING_MM, (at[1] - r0) / COARSE_SPACING_MM], -1)
    exact = exact_keypoints(anatomy)
    low, high = exact[len(LEVELS) - 1, :, 1, 2].mean(), exact[0, :, 0, 2].mean()
    return position, (s > low) & (s < high)


def localizer_sample(trunk: PaintedTrunk, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return one crop of a trunk with its own field of view and noise.

    The keys are `volume` `(s, a, r)` HU, `position` `(s, 2)` and `holds_spine` `(s,)`.
    """
    shape = np.array(trunk.voxels.shape)
    anchor = trunk.position[int(rng.integers(shape[0]))]
    start = np.array([
        int(rng.integers(-8, max(1, shape[0] - CROP[0] + 9))),
        int(np.clip(anchor[0] - rng.uniform(0.05, 0.75) * CROP[1], -12, shape[1] - CROP[1] // 2)),
        int(np.clip(anchor[1] - rng.uniform(0.1, 0.9) * CROP[2], -12, shape[2] - CROP[2] // 2)),
    ])  # fmt: skip
    volume, inside = torch.full(CROP, AIR), torch.zeros(CROP, dtype=torch.bool)
    source = tuple(slice(max(0, a), min(n, a + c)) for a, n, c in zip(start, shape, CROP, strict=True))
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(source, start, strict=True))
    volume[target] = scan_coarse(trunk.voxels[source], rng)
    inside[target] = True
    margins = _margins(rng)
    box = tuple(slice(int(m * c), c - int(n * c)) for (m, n), c in zip(margins, CROP, strict=True))
    kept = torch.zeros_like(inside)
    kept[box] = True
    kept &= inside
    volume = torch.where(kept, volume, torch.tensor(AIR))
    return flip({"volume": volume, **_crop_targets(trunk, start, kept)}, rng)


def _margins(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Draw the shares of the crop that a small field of view cuts off at both ends of s, a and r."""
    if rng.random() < 0.5:
        return [(0.0, 0.0)] * 3
    return [tuple(rng.uniform(0, 0.35, 2) * (rng.random(2) < 0.5)) for _ in range(3)]


def _crop_targets(trunk: PaintedTrunk, start: np.ndarray, kept: Tensor) -> dict[str, Tensor]:
    rows = np.arange(start[0], start[0] + CROP[0])
    known = (rows >= 0) & (rows < len(trunk.position))
    rows = np.clip(rows, 0, len(trunk.position) - 1)
    position = trunk.position[rows] - start[1:]
    cell = np.clip(np.round(position).astype(int), 0, np.array(CROP[1:]) - 1)
    margin = (position > 0).all(1) & (position < np.array(CROP[1:]) - 1).all(1)
    seen = kept.numpy()[np.arange(CROP[0]), cell[:, 0], cell[:, 1]] & margin
    return {
        "position": torch.as_tensor(position, dtype=torch.float32),
        "holds_spine": torch.as_tensor(trunk.holds_spine[rows] & known & seen).float(),
    }
