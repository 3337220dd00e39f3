"""Training samples of the refiner: straightened tubes `[s, a, r]` HU around an imperfect curve, with truth by slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks.refiner import A_MM, R_MM, SPACING_MM, tube_arcs, tube_grid
from ..phantom.anatomy import draw_anatomy
from ..phantom.keypoints import exact_keypoints
from ..phantom.options import PhantomOptions
from ..phantom.painting import Painter
from ..phantom.scanner import AIR
from ..spine.levels import LEVELS
from ..spine.straightening import Straightening
from .augmentation import flip, imperfect, scan_coarse
from .vessels import with_vessel

ROWS = 64
COARSE_CURVE = 2.5  # error of the localizer's curve relative to the refined curve's
UNKNOWN = -1


@dataclass(frozen=True)
class PaintedTube:
    """A whole tube, with the truth by slice."""

    voxels: Tensor  # [s, a, r] HU
    height: Tensor  # (s, a, r) patient S of the voxels
    position: np.ndarray  # (s, 2): (a, r) voxel of the true curve
    holds_spine: np.ndarray  # (s,)
    level: np.ndarray  # (s,) index in `levels.CLASSES`


def paint_tube(rng: np.random.Generator, device: str = "cpu") -> PaintedTube:
    """Paint a new patient's spine and 4 cm around it, straightened along a curve as the localizer might find it."""
    anatomy = draw_anatomy(rng, PhantomOptions(fracture_rate=float(rng.choice([0.0, 0.2, 0.6]))))
    straightening = Straightening(imperfect(rng, anatomy.curve, COARSE_CURVE))
    arcs = tube_arcs(straightening.curve.length)
    grid = tube_grid(arcs)
    points = torch.as_tensor(straightening.to_patient(grid), dtype=torch.float32, device=device)
    painter, softness = Painter(anatomy, device), float(rng.uniform(0.5, 1.2))
    voxels = torch.cat([painter.hounsfield(c, softness) for c in points.reshape(-1, 3).split(100_000)])
    ends = -straightening.to_straight(exact_keypoints(anatomy).mean(1))[..., 2]  # arcs (n, [top, bottom])
    borders = np.r_[ends[0, 0], (ends[:-1, 1] + ends[1:, 0]) / 2][: len(LEVELS) + 1]
    return PaintedTube(
        voxels=voxels.reshape(grid.shape[:3]).cpu(),
        height=points[..., 2].cpu(),
        position=positions(straightening.to_straight(anatomy.curve.points), arcs),
        holds_spine=(arcs > ends[0, 0]) & (arcs < ends[len(LEVELS), 1]),
        level=np.searchsorted(borders, arcs),
    )


def positions(curve: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Return the (a, r) voxels `(s, 2)` of the true `curve` `(n, 3)`, straight-space mm, in the slices at `arcs`."""
    curve = curve[np.argsort(curve[:, 2])]
    at = [np.interp(-arcs, curve[:, 2], curve[:, axis]) for axis in (1, 0)]
    return (np.stack(at, -1) - (A_MM[0], R_MM[0])) / SPACING_MM - 0.5


def refiner_sample(tube: PaintedTube, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return a stretch of a tube as a scanner would show it, with its truth.

    The keys are `volume` `(s, a, r)` HU, `position` `(s, 2)`, `holds_spine` and `level` `(s,)`; `level` is `UNKNOWN`
    where nothing can be seen.
    """
    rows = len(tube.voxels)
    start = int(rng.integers(-10, max(1, rows - ROWS + 10)))
    inside = slice(max(0, start), min(rows, start + ROWS))
    target = slice(inside.start - start, inside.stop - start)
    kept = _field_of_view(rng, tube.height[inside])
    volume = torch.full((ROWS, *tube.voxels.shape[1:]), AIR)
    seen = scan_coarse(with_vessel(rng, tube.voxels[inside], tube.position[inside], SPACING_MM), rng)
    volume[target] = torch.where(kept, seen, torch.tensor(AIR))
    position, spine, level = np.zeros((ROWS, 2)), np.zeros(ROWS), np.full(ROWS, UNKNOWN)
    position[target] = tube.position[inside]
    cell = np.clip(np.round(position[target]).astype(int), 0, np.array(kept.shape[1:]) - 1)
    visible = kept.numpy()[np.arange(len(cell)), cell[:, 0], cell[:, 1]]
    spine[target] = tube.holds_spine[inside] & visible
    level[target] = np.where(visible, tube.level[inside], UNKNOWN)
    sample = {
        "volume": volume,
        "position": torch.as_tensor(position, dtype=torch.float32),
        "holds_spine": torch.as_tensor(spine).float(),
        "level": torch.as_tensor(level),
    }
    return flip(sample, rng)


def _field_of_view(rng: np.random.Generator, height: Tensor) -> Tensor:
    """Draw which voxels a scan contains; it may end above or below, or close to the spine."""
    low, high = float(height.min()), float(height.max())
    cut = rng.uniform(0, 0.5, 2) * (rng.random(2) < 0.35) * (high - low)
    kept = (height > low + cut[0]) & (height < high - cut[1])
    if rng.random() < 0.25:
        a, r = (torch.arange(n) * SPACING_MM for n in height.shape[1:])
        narrow = (r > rng.uniform(0, 22)) & (r < r[-1] - rng.uniform(0, 22))
        deep = (a > rng.uniform(0, 35)) & (a < a[-1] - rng.uniform(0, 12))
        kept &= deep[:, None] & narrow[None]
    return kept
