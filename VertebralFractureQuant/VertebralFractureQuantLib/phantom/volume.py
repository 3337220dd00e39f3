"""A phantom: a whole synthetic CT volume, `[k, j, i]` int16 HU, and its truth in patient RAS mm.

Soft tissue is painted on a 3 mm grid and interpolated; the surroundings of the spine are painted at full resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..imaging.ct import CTVolume
from ..spine.genant import heights, measure_column
from ..spine.levels import LEVELS
from .anatomy import Anatomy, draw_anatomy
from .keypoints import seen_keypoints
from .metal import metal_artefact
from .morphometry import COLUMN
from .options import PhantomOptions
from .painting import Painter
from .scanner import STREAK_MM, STREAK_WIDE_MM, Protocol, draw_protocol, gaussian

TRUTH_SCHEMA = "vfq-truth/1"
COARSE_MM = 3.0
FIELDS_OF_VIEW = {"whole": ("C2", "S2"), "chest": ("C7", "L2"), "abdomen": ("T10", "S1"), "spine": ("T3", "L4")}
SPINE_BOX_MM = ((-62.0, 62.0), (-95.0, 45.0))  # R and A around the curve
COMPLETE_MARGIN_MM = 0.5
LEAST_CEMENT_HU = 1200.0


@dataclass(frozen=True)
class PhantomTruth:
    """The truth of a phantom.

    Attributes
    ----------
    keypoints : `(n, 3, 2, 3)` RAS mm of the complete vertebrae C3 to L5, cranial first, where readers of this scan
        would set them (`seen_keypoints`); `levels` and `fractures` are in the same order.
    partial : level and centre of C2, of the sacrum and of what the field of view cuts.
    curve : points of the spine's curve `(m, 3)` RAS mm, 1 mm apart.
    limits_mm : arc lengths on `curve` where C2 begins and L5 ends, or where the field of view does.
    cobb_deg : largest angle between two directions of the curve in the coronal plane, C7 to L5, degrees.
    """

    seed: int
    levels: tuple[str, ...]
    keypoints: np.ndarray
    fractures: tuple[str | None, ...]
    partial: tuple[tuple[str, tuple[float, ...]], ...]
    curve: np.ndarray
    limits_mm: tuple[float, float]
    cobb_deg: float

    def to_json(self) -> dict[str, Any]:
        """Return the truth as a JSON object of schema `vfq-truth/1`."""
        measurements = measure_column(self.keypoints)
        return {
            "schema": TRUTH_SCHEMA,
            "seed": self.seed,
            "space": "RAS_mm",
            "cobb_deg": round(self.cobb_deg, 2),
            "vertebrae": [
                {
                    "level": level,
                    "keypoints": np.round(k, 3).tolist(),
                    "heights_mm": [round(h, 3) for h in m.heights_mm],
                    "genant_ratio": round(m.genant_ratio, 4),
                    "grade": m.grade,
                    "fracture": fracture,
                }
                for level, k, m, fracture in zip(self.levels, self.keypoints, measurements, self.fractures, strict=True)
            ],
            "partial": [{"level": level, "center": list(center)} for level, center in self.partial],
            "curve": np.round(self.curve, 3).tolist(),
            "limits_mm": list(self.limits_mm),
        }


def make_phantom(
    seed: int, options: PhantomOptions | None = None, device: str = "cpu"
) -> tuple[CTVolume, PhantomTruth]:
    """Return the CT and the truth of phantom `seed`; the same seed and options give the same phantom."""
    rng, anatomy, pixel, protocol, axes = _laid(seed, options or PhantomOptions())
    painter = Painter(anatomy, device)
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    voxels = _scan(painter, axes, pixel, protocol, generator)
    ct = CTVolume(voxels, _matrix(axes, pixel, protocol.slice_mm), f"phantom-{seed}")
    return ct, _truth(seed, anatomy, protocol, axes)


def phantom_anatomy(seed: int, options: PhantomOptions | None = None) -> tuple[Anatomy, PhantomTruth]:
    """Return the anatomy and the truth of phantom `seed` without painting it."""
    _, anatomy, _, protocol, axes = _laid(seed, options or PhantomOptions())
    return anatomy, _truth(seed, anatomy, protocol, axes)


def phantom_heights(seed: int, options: PhantomOptions | None = None) -> dict[str, np.ndarray]:
    """Return the heights `(3,)` mm of every level, also outside of the field of view, as readers of the scan see them.

    With `options.healed` they are the heights before the fractures.
    """
    _, anatomy, _, protocol = _draw(seed, options or PhantomOptions())
    return dict(zip(COLUMN, heights(seen_keypoints(anatomy, protocol)), strict=True))


def phantom_traits(seed: int, options: PhantomOptions | None = None) -> dict[str, Any]:
    """Return traits of phantom `seed` without painting it.

    They are the median HU of the spongiosa, the slice distance, the levels with cement, and whether there are screws.
    """
    _, anatomy, _, protocol = _draw(seed, options or PhantomOptions())
    return {
        "spongiosa_hu": float(np.median([b.spongiosa for b in anatomy.bodies])),
        "slice_mm": protocol.slice_mm,
        "cement": [b.level for b in anatomy.bodies if any(growth.hu >= LEAST_CEMENT_HU for growth in b.growths)],
        "screws": bool(anatomy.soft["screws"]),
    }


def _laid(
    seed: int, options: PhantomOptions
) -> tuple[np.random.Generator, Anatomy, float, Protocol, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return what `_draw` does, and the coordinates of the voxels."""
    rng, anatomy, pixel, protocol = _draw(seed, options)
    field = options.field_of_view or str(rng.choice(list(FIELDS_OF_VIEW)))
    return rng, anatomy, pixel, protocol, _axes(rng, anatomy, field, pixel, protocol.slice_mm)


def _draw(seed: int, options: PhantomOptions) -> tuple[np.random.Generator, Anatomy, float, Protocol]:
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(rng, options)
    if options.later is not None:  # another scanner and another field of view
        rng = np.random.default_rng([options.later, 2])
    pixel, slice_mm = options.spacing_mm or (float(rng.uniform(0.65, 0.98)), None)
    return rng, anatomy, pixel, draw_protocol(rng, slice_mm, options.noise_hu)


def _axes(
    rng: np.random.Generator, anatomy: Anatomy, field: str, pixel: float, slice_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the coordinates of the voxels: R (descending), A (descending), S (ascending), mm."""
    first, last = (COLUMN.index(level) for level in FIELDS_OF_VIEW[field])
    if field == "spine":
        first = int(rng.integers(2, 14))
        last = first + int(rng.integers(7, 11))
    points = anatomy.curve.points
    low = anatomy.bodies[last].center[2] - rng.uniform(0, 25)
    high = anatomy.bodies[first].center[2] + rng.uniform(0, 25)
    seen = points[(points[:, 2] > low) & (points[:, 2] < high)]
    if field == "spine":
        sides = [seen[:, 0].min() - rng.uniform(35, 60), seen[:, 0].max() + rng.uniform(35, 60)]
        depth = [seen[:, 1].min() - rng.uniform(45, 70), seen[:, 1].max() + rng.uniform(35, 60)]
    else:
        half = rng.uniform(150, 190)
        sides = [seen[:, 0].mean() - half, seen[:, 0].mean() + half]
        depth = [seen[:, 1].min() - rng.uniform(70, 95), seen[:, 1].max() + rng.uniform(130, 190)]
    return (
        np.arange(sides[1], sides[0], -pixel),
        np.arange(depth[1], depth[0], -pixel),
        np.arange(low, high, slice_mm),
    )


def _matrix(axes: tuple[np.ndarray, np.ndarray, np.ndarray], pixel: float, slice_mm: float) -> np.ndarray:
    matrix = np.diag([-pixel, -pixel, slice_mm, 1.0])
    matrix[:3, 3] = [a[0] for a in axes]
    return matrix


def _scan(
    painter: Painter,
    axes: tuple[np.ndarray, np.ndarray, np.ndarray],
    pixel: float,
    protocol: Protocol,
    generator: torch.Generator,
) -> np.ndarray:
    """Return the voxels: each slice is painted as the mean over its thickness, then reconstructed."""
    soft = _Background(painter, axes)
    taps = max(1, round(protocol.thickness_mm / 1.2))
    offsets = ((np.arange(taps) + 0.5) / taps - 0.5) * protocol.thickness_mm
    slices = [
        _reconstruct(torch.stack([soft.slice_with_spine(z + o) for o in offsets]).mean(0), pixel, protocol, generator)
        for z in axes[2]
    ]
    return np.stack(slices)


class _Background:
    """Soft tissue on a coarse grid, from which axial slices are interpolated; the spine is painted over them."""

    def __init__(self, painter: Painter, axes: tuple[np.ndarray, np.ndarray, np.ndarray]):
        self.painter, self.axes = painter, axes
        self.r, self.a = (torch.as_tensor(x, dtype=torch.float32, device=painter.device) for x in axes[:2])
        r = np.arange(axes[0][-1] - COARSE_MM, axes[0][0] + COARSE_MM, COARSE_MM)
        a = np.arange(axes[1][-1] - COARSE_MM, axes[1][0] + COARSE_MM, COARSE_MM)
        self.s = np.arange(axes[2][0] - 8, axes[2][-1] + 8 + COARSE_MM, COARSE_MM)
        self.low = (r[0], a[0])
        self.coarse = torch.stack([self._paint(r, a, z) for z in self.s])
        table = painter.anatomy.curve.points
        order = np.argsort(table[:, 2])
        self.curve = table[order]

    def _paint(self, r: np.ndarray, a: np.ndarray, z: float) -> Tensor:
        grid = np.stack([*np.meshgrid(r, a, indexing="xy"), np.full((len(a), len(r)), z)], -1)
        points = torch.as_tensor(grid.reshape(-1, 3), dtype=torch.float32, device=self.painter.device)
        return self.painter.background(points, 1.2).reshape(len(a), len(r))

    def slice_with_spine(self, z: float) -> Tensor:
        """Return HU `(j, i)` of the axial plane at S = z."""
        hu = self._interpolated(z)
        center = [np.interp(z, self.curve[:, 2], self.curve[:, d]) for d in (0, 1)]
        i, j = (
            ((x > c + box[0]) & (x < c + box[1])).nonzero()[:, 0]
            for x, c, box in zip((self.r, self.a), center, SPINE_BOX_MM, strict=True)
        )
        if len(i) and len(j):
            window = (slice(int(j[0]), int(j[-1]) + 1), slice(int(i[0]), int(i[-1]) + 1))
            a, r = torch.meshgrid(self.a[window[0]], self.r[window[1]], indexing="ij")
            points = torch.stack([r, a, torch.full_like(r, float(z))], -1).reshape(-1, 3)
            hu[window] = self.painter.spine(points, hu[window].reshape(-1), 0.4).reshape(r.shape)
        return hu

    def _interpolated(self, z: float) -> Tensor:
        x = float(np.clip((z - self.s[0]) / COARSE_MM, 0, len(self.s) - 1.001))
        plane = self.coarse[int(x)] * (1 - x % 1) + self.coarse[int(x) + 1] * (x % 1)
        y = ((self.a - self.low[1]) / COARSE_MM) / (plane.shape[0] - 1) * 2 - 1
        x_ = ((self.r - self.low[0]) / COARSE_MM) / (plane.shape[1] - 1) * 2 - 1
        grid = torch.stack(torch.meshgrid(y, x_, indexing="ij")[::-1], -1)
        return F.grid_sample(plane[None, None], grid[None], align_corners=True, padding_mode="border")[0, 0]


def _reconstruct(plane: Tensor, pixel: float, p: Protocol, generator: torch.Generator) -> np.ndarray:
    """Apply metal artefacts, kernel, noise and calibration to one axial slice `(a, r)`."""
    plane = plane + metal_artefact(plane, pixel, generator)
    plane = gaussian(plane, p.blur_mm / pixel)
    if p.sharpen:
        plane = plane + p.sharpen * (plane - gaussian(plane, 1.1 / pixel))
    if p.noise_hu:
        noise = torch.randn(plane.shape, generator=generator, device=plane.device)
        sigma = 0.5 * p.grain_mm / pixel
        plane = plane + p.noise_hu * gaussian(noise, sigma) * max(1.0, 3.5 * sigma)  # blurring reduces the variance
    if p.streaks_hu:
        knots = [math.ceil(n * pixel / mm) + 1 for n, mm in zip(plane.shape, (STREAK_MM, STREAK_WIDE_MM), strict=True)]
        noise = torch.randn(1, 1, *knots, generator=generator, device=plane.device)
        plane = plane + p.streaks_hu * F.interpolate(noise, plane.shape, mode="bilinear", align_corners=True)[0, 0]
    plane = plane * p.gain + p.shift_hu
    return plane.clamp(-1024, 3071).round().to(torch.int16).cpu().numpy()


def _truth(
    seed: int, anatomy: Anatomy, protocol: Protocol, axes: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> PhantomTruth:
    seen = seen_keypoints(anatomy, protocol)
    low = np.array([a.min() for a in axes]) + COMPLETE_MARGIN_MM
    high = np.array([a.max() for a in axes]) - COMPLETE_MARGIN_MM
    whole = ((seen > low) & (seen < high)).all((1, 2, 3))
    whole &= np.array([level in LEVELS[1:] for level in COLUMN])
    touched = ((seen > low) & (seen < high)).all(-1).reshape(len(seen), -1).any(1) & ~whole
    complete = np.flatnonzero(whole)
    return PhantomTruth(
        seed=seed,
        levels=tuple(COLUMN[i] for i in complete),
        keypoints=seen[complete],
        fractures=tuple(anatomy.bodies[i].fracture for i in complete),
        partial=tuple((COLUMN[i], tuple(seen[i].mean((0, 1)).round(2).tolist())) for i in np.flatnonzero(touched)),
        curve=anatomy.curve.points,
        limits_mm=_limits(anatomy, seen, axes[2]),
        cobb_deg=_cobb(anatomy),
    )


def _limits(anatomy: Anatomy, seen: np.ndarray, slices: np.ndarray) -> tuple[float, float]:
    """Return the arc lengths of C2's superior and L5's inferior endplate, or of the outermost `slices` between them.

    `slices` are the S of the slices, mm.
    """
    curve = anatomy.curve
    ends = seen[0, :, 0].mean(0), seen[len(LEVELS) - 1, :, 1].mean(0)
    first, last = (int(np.linalg.norm(curve.points - p, axis=1).argmin()) for p in ends)
    up = curve.points[first : last + 1, 2]
    inside = first + np.flatnonzero((up >= slices.min()) & (up <= slices.max()))
    return (float(inside[0] * curve.step), float(inside[-1] * curve.step)) if len(inside) else (0.0, 0.0)


def _cobb(anatomy: Anatomy) -> float:
    """Return the largest angle between two directions of the curve in the coronal plane, C7 to L5, in degrees."""
    up = -anatomy.curve.tangents
    angle = np.rad2deg(np.arctan2(up[:, 0], up[:, 2]))
    spine = slice(int(anatomy.arcs[5]), int(anatomy.arcs[len(LEVELS) - 1]))
    return float(np.ptp(angle[spine]))
