"""Training samples made from phantoms on the fly; torch, numpy and scipy only, seeded and endless.

A detector sample is a straightened picture `(rows, 128)` HU with key points (A, row) mm of the vertebrae in it;
a localizer sample a 4 mm volume `[s, a, r]` HU with a curve point and a spine flag for each slice.
Painting is dear and degrading cheap, so each phantom gives several samples that differ in crop, scanner and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional as F

from ..networks.detector import COLUMNS, HALF_WIDTH_MM
from ..networks.localizer import SPACING_MM as COARSE_SPACING_MM
from ..phantom.alignment import rotation
from ..phantom.anatomy import Anatomy, draw_anatomy
from ..phantom.keypoints import Endplates, endplates_of, exact_keypoints
from ..phantom.metal import sagittal_bands
from ..phantom.options import PhantomOptions
from ..phantom.painting import Painter
from ..phantom.scanner import AIR, acquire_picture, draw_protocol
from ..spine.curve import SpineCurve, fit_curve
from ..spine.genant import expected_height, genant_ratio, heights
from ..spine.levels import LEVELS
from ..spine.straightening import Straightening

ROWS = 192
OBJECT_RADIUS_MM = 5.0
MOST_VERTEBRAE = 24  # that one detector picture can hold
TURNED_DEG = 8.0  # standard deviation of how far patients lie turned about S; the picture's plane is the scanner's
THICKEST_SLAB_MM = 4.5  # to both sides; three planes 3.5 mm apart blur as much as the detector's five over 8 mm
# How a picture is bent: distance (mm) between the knots of a smooth random field, and its displacement at them.
BENDS_MM = ((36.0, 1.8), (14.0, 1.1), (7.0, 0.45))
# In thick slices two endplates and a thin disc are one bright band: more of them than scanners make.
THICK_SHARE, THICK_MM = 0.2, (3.0, 4.0, 5.0, 5.0, 6.0, 7.0)
SCREWED_SHARE = 0.2  # of patients with screws, whose bands are no endplates; every other crop shows some
CROP = (48, 64, 64)  # localizer, voxels [s, a, r]
SEVERE_SHARE = 0.25  # of trunks for the localizer with 40 to 75 degrees of scoliosis: rare, and easily lost


@dataclass(frozen=True)
class PaintedColumn:
    """A whole column's straightened picture before the scanner, with where its pixels are and its key points."""

    picture: Tensor  # (rows, columns) HU
    points: Tensor  # (rows, columns, 3) RAS mm
    keypoints: np.ndarray  # (n, 3, 2, 2): (A, row) mm, C2 first; on the bone's surface
    outward: np.ndarray  # (n, 3, 2, 2): the step in the picture of a millimetre out of the body
    heights: np.ndarray  # (n, 3) patient mm
    endplates: Endplates


@dataclass(frozen=True)
class PaintedTrunk:
    """A whole trunk at 4 mm: voxels `[s, a, r]`, the curve's (a, r) voxel position by slice, and where spine is."""

    voxels: Tensor
    position: np.ndarray
    holds_spine: np.ndarray


def paint_column(rng: np.random.Generator, device: str = "cpu") -> PaintedColumn:
    """A new patient, painted on `device`, straightened along a curve as imperfect as a localizer's."""
    anatomy = draw_anatomy(rng, PhantomOptions(fracture_rate=float(rng.choice([0.0, 0.2, 0.6]))))
    lying = rotation(0.0, 0.0, np.deg2rad(rng.normal(0, TURNED_DEG)))
    straightening = Straightening(imperfect(rng, fit_curve(anatomy.curve.points @ lying)))
    half_mm = float(rng.uniform(0.0, THICKEST_SLAB_MM))
    picture, points = _painted_slab(Painter(anatomy, device), lying, straightening, half_mm)
    exact = exact_keypoints(anatomy)
    plates = endplates_of(anatomy, exact)
    flat, outside = (_flat(straightening, p @ lying) for p in (exact, exact + plates.outward))
    return PaintedColumn(picture.cpu(), points.cpu(), flat, outside - flat, heights(exact), plates)


def _painted_slab(
    painter: Painter, lying: np.ndarray, straightening: Straightening, half_mm: float
) -> tuple[Tensor, Tensor]:
    """HU `(rows, columns)` and patient points of the middle plane: the mean over `half_mm` to both sides, as the
    detector sees a scan of the anatomy's points `@ lying`. Soft tissue is much the same in these planes and painted in
    the middle one only."""
    planes = [
        torch.as_tensor(
            straightening.sagittal_grid(HALF_WIDTH_MM, lateral_mm=x)[:, :COLUMNS],
            dtype=torch.float32,
            device=painter.device,
        )
        for x in (-half_mm, 0.0, half_mm)
    ]
    upright = torch.as_tensor(lying.T, dtype=torch.float32, device=painter.device)
    painted = [plane.reshape(-1, 3) @ upright for plane in planes]
    background = painter.background(painted[1], 0.5)
    pictures = [painter.spine(plane, background, 0.5) for plane in painted]
    return torch.stack(pictures).mean(0).reshape(planes[1].shape[:2]), planes[1]


def _flat(straightening: Straightening, points: np.ndarray) -> np.ndarray:
    straight = straightening.to_straight(points)
    return np.stack([straight[..., 1], -straight[..., 2]], -1)


def imperfect(rng: np.random.Generator, curve: SpineCurve, scale: float = 1.0) -> SpineCurve:
    """The curve as a network might see it: off by a millimetre or three times `scale`, slowly varying."""
    n = len(curve.points)
    amplitude = scale * abs(rng.normal(0, 1.2, 3)) * (1, 1.5, 0)
    noise = np.zeros((n, 3))
    for axis in (0, 1):
        for wavelength in rng.uniform(50, 250, 3):
            noise[:, axis] += (
                amplitude[axis] * rng.normal() * np.sin(np.arange(n) * 6.283 / wavelength + rng.uniform(0, 6.28))
            )
    return fit_curve(curve.points + noise + rng.normal(0, 0.7, 3) * (1, 1, 0))


def detector_sample(column: PaintedColumn, rng: np.random.Generator) -> dict[str, Tensor]:
    """One crop of a column, scanned: `picture`, `objectness` and its `weight`, `offsets` and their `emphasis`, the
    paper's 1/G, more for a crush."""
    rows = column.picture.shape[0]
    start = int(rng.integers(-30, max(1, rows - ROWS + 30)))
    inside = slice(max(0, start), min(rows, start + ROWS))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    wide = slice(max(0, start - 20), min(rows, start + ROWS + 20))  # the slice profile reaches over the crop's edge
    protocol = draw_protocol(rng, float(rng.choice(THICK_MM)) if rng.random() < THICK_SHARE else None)
    bend = _bend(rng, column.picture[wide].shape)
    seen = acquire_picture(_bent(column.picture[wide], bend), column.points[wide], protocol, generator)
    if rng.random() < SCREWED_SHARE:
        seen = seen + sagittal_bands(column.points[wide], _screw_tips(column, rng), protocol, rng, generator)
    seen = seen[inside.start - wide.start : inside.stop - wide.start]
    box = _field_of_view(rng, column.points[inside])
    outside = ((column.points[inside] < box[0]) | (column.points[inside] > box[1])).any(-1)
    seen = torch.where(outside, float(rng.choice([AIR, AIR, -1024.0, 0.0], p=[0.5, 0.3, 0.15, 0.05])), seen)
    picture = torch.full((ROWS, COLUMNS), AIR)
    top = inside.start - start
    picture[top : top + seen.shape[0]] = seen
    visible = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    visible[top : top + seen.shape[0]] = ~outside
    shifts = column.endplates.shifts(protocol)
    exact, stretch = _bent_keypoints(column.keypoints, bend, wide.start)
    keypoints = exact + shifts * column.outward - np.array([0.0, start])
    known = slice(len(LEVELS))  # the sacrum is no vertebra to find
    remaining = _remaining((column.heights * stretch + shifts.sum((2, 3)))[known])
    return {"picture": picture, **_targets(keypoints[known], remaining, visible.numpy())}


def _screw_tips(patient: PaintedColumn, rng: np.random.Generator) -> np.ndarray:
    """(A, S) mm `(n, 2)` of screws' tips in two to five vertebrae that follow one another; those between may have
    none."""
    count = int(rng.integers(2, 6))
    first = int(rng.integers(1, len(LEVELS) - count + 1))
    chosen = [i for i in range(first, first + count) if i in (first, first + count - 1) or rng.random() < 0.7]
    a, row = patient.keypoints[chosen].mean((1, 2)).T
    rows, columns = patient.picture.shape
    row, column = row.round().clip(0, rows - 1), (a + HALF_WIDTH_MM).round().clip(0, columns - 1)
    middles = patient.points[row.astype(int), column.astype(int), 1:].numpy()
    return middles + rng.uniform((-3, -6), (10, 8), (len(chosen), 2))


def _remaining(heights_mm: np.ndarray) -> np.ndarray:
    """What remains of each vertebra `(n,)`, of heights `(n, 3)` mm, C2 first: G, or where this is less the part of the
    height that its neighbours lead to expect. A crush has three low heights, and a millimetre is much of its G too."""
    means = heights_mm[1:].mean(1)  # C2 is no measure for C3
    parts = [1.0, *(mean / expected_height(means, i) for i, mean in enumerate(means))]
    return np.fmin([genant_ratio(h) for h in heights_mm], parts)


def _bend(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A smooth random displacement `(rows, columns, 2)` mm (A, row): phantoms have the shapes that somebody thought
    of, a bent one has a shape of its own, so that the network must look instead of guessing from the neighbours."""
    strength = rng.uniform(0.0, 1.5)
    bend = np.zeros((*shape, 2))
    for knots, amplitude in BENDS_MM:
        size = [int(np.ceil(n / knots)) + 3 for n in shape]
        values = torch.as_tensor(rng.normal(0, strength * amplitude, (1, 2, *size)))
        fine = F.interpolate(values, scale_factor=knots, mode="bicubic", align_corners=False)[0]
        top, left = (int(knots + rng.uniform(0, knots)) for _ in range(2))
        bend += fine[:, top : top + shape[0], left : left + shape[1]].permute(1, 2, 0).numpy()
    return bend


def _bent(picture: Tensor, bend: np.ndarray) -> Tensor:
    """The picture that shows at each pixel what lay `bend` farther on."""
    rows, columns = picture.shape
    place = np.indices(bend.shape[:2])[::-1].transpose(1, 2, 0) + bend
    grid = torch.as_tensor(place / (columns - 1, rows - 1) * 2 - 1, dtype=picture.dtype)
    bent = F.grid_sample(picture[None, None], grid[None], mode="bicubic", align_corners=True, padding_mode="border")
    return bent[0, 0]


def _bent_keypoints(keypoints: np.ndarray, bend: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Where key points `(n, 3, 2, 2)` (A, row) are in a bent picture that begins at row `top`, and how far their
    heights `(n, 3)` are stretched."""
    moved = keypoints
    for _ in range(4):  # the point that shows the old one is sought
        at = np.stack([moved[..., 1] - top, moved[..., 0] + HALF_WIDTH_MM])
        shift = [map_coordinates(bend[..., axis], at, order=1, mode="nearest") for axis in (0, 1)]
        moved = keypoints - np.stack(shift, -1)
    before, after = (np.linalg.norm(k[:, :, 0] - k[:, :, 1], axis=-1) for k in (keypoints, moved))
    return moved, after / np.maximum(before, 1.0)


def _field_of_view(rng: np.random.Generator, points: Tensor) -> Tensor:
    """A box in patient A and S; mostly larger than the crop."""
    low, high = points.reshape(-1, 3).amin(0), points.reshape(-1, 3).amax(0)
    low[0], high[0] = -1e4, 1e4
    if rng.random() < 0.3:
        middle = points[:, COLUMNS // 2, 1]
        low[1], high[1] = middle.min() - rng.uniform(20, 70), middle.max() + rng.uniform(20, 70)
    if rng.random() < 0.5:
        cut = rng.uniform(0, 0.45) * float(high[2] - low[2])
        if rng.random() < 0.5:
            low[2] += cut
        else:
            high[2] -= cut
    return torch.stack([low, high])


def _targets(keypoints: np.ndarray, remaining: np.ndarray, visible: np.ndarray) -> dict[str, Tensor]:
    """Objectness and offsets by pixel, key points (row, column) by vertebra. A vertebra that the field of view cuts
    keeps its true points, beyond the border: so the network learns to say that they lie outside, and inference can
    leave it out. C2 has no upper endplate and, like what the crop's own edge cuts, is ignored."""
    objectness, weight = np.zeros((ROWS, COLUMNS), np.float32), np.ones((ROWS, COLUMNS), np.float32)
    offsets, emphasis = np.zeros((12, ROWS, COLUMNS), np.float32), np.zeros((ROWS, COLUMNS), np.float32)
    places, known = np.zeros((MOST_VERTEBRAE, 6, 2), np.float32), np.zeros((MOST_VERTEBRAE, 6), np.float32)
    a = np.arange(COLUMNS)[None] - HALF_WIDTH_MM
    row = np.arange(ROWS)[:, None]
    for i, points in enumerate(keypoints):
        center = points.mean((0, 1))
        if not -25 < center[1] < ROWS + 25:
            continue
        height = np.linalg.norm(points[:, 0] - points[:, 1], axis=-1).mean()
        distance = np.hypot(a - center[0], row - center[1])
        cut_by_crop = points[..., 1].min() < 1 or points[..., 1].max() > ROWS - 2
        disc = distance < min(OBJECT_RADIUS_MM, max(2.5, 0.4 * height))
        if i == 0 or cut_by_crop:
            weight[distance < 14] = 0
            continue
        seen = visible[np.clip(int(center[1]), 0, ROWS - 1), np.clip(int(center[0] + HALF_WIDTH_MM), 0, COLUMNS - 1)]
        if not seen:
            continue
        disc &= visible
        weight[disc] = 1  # a neighbour that is cut must not hide this one
        objectness[disc] = 1
        emphasis[disc] = 1 / remaining[i]
        slot = int((known.max(1) > 0).sum())
        places[slot], known[slot] = points.reshape(6, 2)[:, ::-1] + (0.0, HALF_WIDTH_MM), 1 / remaining[i]
        for n, (p, e) in enumerate((p, e) for p in range(3) for e in range(2)):
            offsets[2 * n, disc] = (points[p, e, 0] - a.repeat(ROWS, 0))[disc]
            offsets[2 * n + 1, disc] = (points[p, e, 1] - row.repeat(COLUMNS, 1))[disc]
    arrays = {
        "objectness": objectness,
        "weight": weight,
        "offsets": offsets,
        "emphasis": emphasis,
        "places": places,
        "known": known,
    }
    return {k: torch.as_tensor(v) for k, v in arrays.items()}


def paint_trunk(rng: np.random.Generator, device: str = "cpu") -> PaintedTrunk:
    """A new patient's trunk at 4 mm, painted on `device`: all of the spine or a part, at times skull and hips."""
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
    """The curve's (a, r) voxel position on every slice, and whether the slice lies between C2's top and L5's bottom."""
    points = anatomy.curve.points
    order = np.argsort(points[:, 2])
    at = [np.interp(s, points[order, 2], points[order, d]) for d in (1, 0)]
    position = np.stack([(at[0] - a0) / COARSE_SPACING_MM, (at[1] - r0) / COARSE_SPACING_MM], -1)
    exact = exact_keypoints(anatomy)
    low, high = exact[len(LEVELS) - 1, :, 1, 2].mean(), exact[0, :, 0, 2].mean()
    return position, (s > low) & (s < high)


def localizer_sample(trunk: PaintedTrunk, rng: np.random.Generator) -> dict[str, Tensor]:
    """One crop of a trunk with its own field of view and noise: `volume`, `position` `(s, 2)`, `holds_spine` `(s,)`."""
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
    """Shares of the crop that a small field of view takes off on both sides of s, a and r."""
    if rng.random() < 0.5:
        return [(0.0, 0.0)] * 3
    return [tuple(rng.uniform(0, 0.35, 2) * (rng.random(2) < 0.5)) for _ in range(3)]


def scan_coarse(voxels: Tensor, rng: np.random.Generator) -> Tensor:
    """HU `(s, a, r)` at 4 mm as some scanner shows them: noise, thick slices, calibration."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(voxels.shape, generator=generator) * abs(rng.normal(0, 20))
    if rng.random() < 0.4:  # thick slices
        voxels = (voxels + voxels.roll(1, 0) + voxels.roll(-1, 0)) / 3
    return (voxels + noise) * float(rng.normal(1, 0.06)) + float(rng.normal(0, 20))


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


def flip(sample: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """The sample or, every other time, its mirror image: `volume` along r, `position` with it."""
    if rng.random() < 0.5:
        sample["volume"] = sample["volume"].flip(2)
        sample["position"][:, 1] = sample["volume"].shape[2] - 1 - sample["position"][:, 1]
    return sample


class Stream(torch.utils.data.IterableDataset):
    """An endless, seeded stream of samples; `pool` phantoms stand ready, each is replaced after `reuse` samples."""

    def __init__(self, paint: Callable, sample: Callable, seed: int | tuple[int, ...], pool: int = 6, reuse: int = 10):
        self.paint, self.sample, self.seed, self.pool, self.reuse = paint, sample, seed, pool, reuse

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        if worker:
            torch.set_num_threads(1)
        rng = np.random.default_rng([*np.atleast_1d(self.seed), worker.id if worker else 0])
        stock: list[list] = []
        while True:
            if len(stock) < self.pool:
                stock.append([self.paint(rng), self.reuse])
            pick = stock[int(rng.integers(len(stock)))]
            pick[1] -= 1
            yield self.sample(pick[0], rng)
            stock = [s for s in stock if s[1] > 0]
