"""Training samples and losses of M-SCN's three networks (`networks.mscn`): centres, masks, and points on masks.

Centres learn from phantoms and, where references exist, from real CT; masks and points learn from phantoms, whose
masks are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.mscn import (
    AIR_HU,
    CENTRE_SD_MM,
    CROP,
    CROP_MM,
    POINT_SD_MM,
    POINT_SHARPNESS,
    SLICE,
    SLICE_MM,
    TUBE_MM,
    TUBE_SIDE,
    crop_axes,
    crop_points,
    scaled,
    tube_arcs,
    tube_points,
)
from ..phantom.anatomy import Anatomy, draw_anatomy
from ..phantom.keypoints import endplates_of, exact_keypoints
from ..phantom.masks import body_distance
from ..phantom.morphometry import SEEN_OUTSIDE_MM
from ..phantom.options import PhantomOptions
from ..phantom.painting import Painter
from ..spine.genant import MILD, heights
from ..spine.levels import LEVELS
from ..spine.straightening import Straightening
from .augmentation import imperfect, scan_coarse

ROWS = 48  # slices of a crop of a tube
MOST_CENTRES = 26
IGNORED_MM = 14.0  # around C2, the sacrum and what the scan cuts
EMPHASIS = 10.0  # a centre's voxels weigh so much more than background, of which there is more
MEASURED = range(1, len(LEVELS))
BODIES = 6  # vertebrae of a phantom whose crops are painted
CENTRE_ERROR_MM = (2.5, 2.0, 2.0)  # standard deviation of a centre that the first network finds
POINT_SHARE = 0.1  # of the error of the points, a millimetre, beside that of the heat maps


@dataclass(frozen=True)
class PaintedCentres:
    """A tube `voxels` `(s, a, r)` HU, and in its voxels the `centres` `(n, 3)` and the `ignored` ones `(m, 3)`."""

    voxels: Tensor
    centres: np.ndarray
    ignored: np.ndarray


def paint_centres(rng: np.random.Generator, device: str = "cpu") -> PaintedCentres:
    """Paint the tube of a new patient along an imperfect curve."""
    anatomy = draw_anatomy(rng, PhantomOptions(fracture_rate=float(rng.choice([0.0, 0.2, 0.6]))))
    straightening = Straightening(imperfect(rng, anatomy.curve))
    points = straightening.to_patient(tube_points(tube_arcs(straightening.curve.length)))
    flat = torch.as_tensor(points.reshape(-1, 3), dtype=torch.float32, device=device)
    painter, softness = Painter(anatomy, device), float(rng.uniform(0.8, 1.6))
    voxels = torch.cat([painter.hounsfield(c, softness) for c in flat.split(100_000)]).reshape(points.shape[:3]).cpu()
    places = in_tube(straightening, exact_keypoints(anatomy).mean((1, 2)))
    others = [i for i in range(len(places)) if i not in MEASURED]
    return PaintedCentres(voxels, places[list(MEASURED)], places[others])


def in_tube(straightening: Straightening, points: np.ndarray) -> np.ndarray:
    """Return the voxel places `(n, 3)` (s, a, r) in the tube of RAS mm points `(n, 3)`."""
    straight = straightening.to_straight(np.reshape(points, (-1, 3)))
    half = TUBE_SIDE * TUBE_MM / 2
    return np.stack([-straight[:, 2], straight[:, 1] + half, straight[:, 0] + half], -1) / TUBE_MM - 0.5


def centres_sample(tube: PaintedCentres, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return a stretch of a tube as a scanner would show it.

    The keys are `volume`, `heat` and `weight` `(s, a, r)`, and `centres` `(MOST_CENTRES, 3)` voxels, nan where none is.
    """
    rows = len(tube.voxels)
    start = int(rng.integers(-8, max(1, rows - ROWS + 8)))
    inside = slice(max(0, start), min(rows, start + ROWS))
    volume = torch.full((ROWS, *tube.voxels.shape[1:]), AIR_HU)
    volume[inside.start - start : inside.stop - start] = scan_coarse(tube.voxels[inside], rng)
    low, high = max(0, -start) - 0.5, min(ROWS, rows - start) - 0.5
    if rng.random() < 0.35:
        low = max(low, float(rng.integers(0, ROWS // 2)) - 0.5)
        volume[: int(low + 0.5)] = AIR_HU
    if rng.random() < 0.35:
        high = min(high, float(rng.integers(ROWS // 2, ROWS)) - 0.5)
        volume[int(high + 0.5) :] = AIR_HU
    centres, ignored = tube.centres - (start, 0, 0), tube.ignored - (start, 0, 0)
    if rng.random() < 0.5:
        volume = volume.flip(2)
        centres, ignored = (c * (1, 1, -1) + (0, 0, TUBE_SIDE - 1) for c in (centres, ignored))
    known = (centres[:, 0] > low) & (centres[:, 0] < high)
    cut = known & ((centres[:, 0] < low + 3) | (centres[:, 0] > high - 3))
    heat = _heat(centres[known & ~cut], volume.shape)
    doubtful = _heat(np.concatenate([ignored, centres[cut]]), volume.shape, IGNORED_MM / 2) > np.exp(-2)
    weight = np.where(doubtful & (heat < 0.05), 0.0, 1.0).astype(np.float32)
    listed = np.full((MOST_CENTRES, 3), np.nan, np.float32)
    listed[: (known & ~cut).sum()] = centres[known & ~cut]
    arrays = {"heat": heat, "weight": weight, "centres": listed}
    return {"volume": volume.contiguous(), **{k: torch.as_tensor(v) for k, v in arrays.items()}}


def _heat(centres: np.ndarray, shape: torch.Size, sd_mm: float = CENTRE_SD_MM) -> np.ndarray:
    """Return the highest of the Gaussians with peak 1 around `centres` `(n, 3)` voxels, `(s, a, r)`."""
    heat = np.zeros(shape, np.float32)
    for centre in centres:
        s, a, r = (
            np.exp(-(((np.arange(n) - c) * TUBE_MM / sd_mm) ** 2) / 2) for n, c in zip(shape, centre, strict=True)
        )
        heat = np.maximum(heat, s[:, None, None] * a[:, None] * r, dtype=np.float32)
    return heat


def centres_step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the paper's smooth L1 of the heat map, summed over the voxels and divided by the number of centres."""
    out = model(scaled(batch["volume"])[:, None]).float()[:, 0]
    weight = batch["weight"] * (1 + EMPHASIS * batch["heat"])
    count = batch["centres"][..., 0].isfinite().sum().clamp_min(1)
    return (F.smooth_l1_loss(out, batch["heat"], reduction="none") * weight).sum() / count


@dataclass(frozen=True)
class PaintedBodies:
    """Crops `voxels` `(n, s, a, r)` HU around vertebrae of a patient, and `labels`: 0, 1 normal, 2 fractured."""

    voxels: Tensor
    labels: Tensor


def paint_bodies(rng: np.random.Generator, device: str = "cpu") -> PaintedBodies:
    """Paint crops around `BODIES` vertebrae of a new patient; half of the vertebrae are fractured where possible."""
    anatomy = draw_anatomy(rng, PhantomOptions(fracture_rate=float(rng.choice([0.2, 0.6]))))
    painter, softness = Painter(anatomy, device), float(rng.uniform(0.5, 1.3))
    middles, axes = _seats(anatomy, rng, CENTRE_ERROR_MM)
    exact = heights(exact_keypoints(anatomy))
    voxels, labels = [], []
    for i in rng.choice(list(MEASURED), BODIES, replace=False):
        points = crop_points(middles[i], axes[i])
        flat = torch.as_tensor(points.reshape(-1, 3), dtype=torch.float32, device=device)
        voxels.append(painter.hounsfield(flat, softness).reshape(CROP).cpu())
        fractured = exact[i].min() / exact[i].max() <= MILD or anatomy.bodies[i].fracture is not None
        labels.append((body_distance(anatomy.bodies[i], points) < 0).long() * (2 if fractured else 1))
    return PaintedBodies(torch.stack(voxels), torch.stack(labels))


def _seats(anatomy: Anatomy, rng: np.random.Generator, error_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the middles `(n, 3)` and axes `(n, 3, 3)` of crops as they would be along an imperfect curve."""
    curve = imperfect(rng, anatomy.curve)
    centres = exact_keypoints(anatomy).mean((1, 2))
    _, frames = curve.at(-Straightening(curve).to_straight(centres)[:, 2])
    axes = np.stack([crop_axes(frame) for frame in frames])
    errors = rng.normal(0, 1, (len(centres), 3)) * error_mm
    return centres + np.einsum("nx,nxd->nd", errors, axes), axes


def bodies_sample(bodies: PaintedBodies, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return one crop as a scanner would show it, `volume` `(s, a, r)` HU, and its `labels`."""
    i = int(rng.integers(len(bodies.voxels)))
    seen = bodies.voxels[i].numpy()
    thick = float(rng.choice([0.5, 1.0, 2.0, 3.0, 5.0])) / 3.5 / CROP_MM[0]  # as the standard deviation of a Gaussian
    seen = gaussian_filter1d(seen, max(thick, 0.1), axis=0)
    grain = gaussian_filter(rng.normal(0, 1, seen.shape), float(rng.uniform(0.2, 0.7)))
    seen = seen + grain / max(grain.std(), 1e-6) * abs(rng.normal(0, 25))
    seen = seen * rng.normal(1, 0.05) + rng.normal(0, 15)
    volume, labels = torch.as_tensor(seen, dtype=torch.float32), bodies.labels[i]
    if rng.random() < 0.35:
        beyond = torch.as_tensor(_beyond_a_border(rng))
        volume, labels = volume.masked_fill(beyond, AIR_HU), labels.masked_fill(beyond, 0)
    if rng.random() < 0.5:
        volume, labels = volume.flip(2), labels.flip(2)
    return {"volume": volume.contiguous(), "labels": labels.contiguous()}


def _beyond_a_border(rng: np.random.Generator) -> np.ndarray:
    """Return which voxels `(s, a, r)` of a crop lie beyond a scan's border, which is mostly above or below."""
    axis = int(rng.choice(3, p=(0.8, 0.1, 0.1)))
    normal = rng.normal(0, 0.25, 3)
    normal[axis] = rng.choice([-1.0, 1.0])
    steps = [(np.arange(n) + 0.5 - n / 2) * mm for n, mm in zip(CROP, CROP_MM, strict=True)]
    along = np.stack(np.meshgrid(*steps, indexing="ij"), -1) @ (normal / np.linalg.norm(normal))
    return np.asarray(along > rng.uniform(2, 30))


def mask_step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the paper's loss: cross-entropy and Dice of the labels, here with a Dice of all bone as well."""
    out = model(scaled(batch["volume"])[:, None]).float()
    labels = batch["labels"]
    true = F.one_hot(labels, 3).movedim(-1, 1).to(out)
    chances = out.softmax(1)
    dice = _dice(chances[:, 1:].sum(1), true[:, 1:].sum(1)) + 0.5 * _dice(chances[:, 1:], true[:, 1:])
    return F.cross_entropy(out, labels) + dice


def _dice(chances: Tensor, true: Tensor) -> Tensor:
    shared, both = (chances * true).sum(), chances.sum() + true.sum()
    return 1 - 2 * shared / both.clamp_min(1e-5)


@dataclass(frozen=True)
class PaintedSlices:
    """Distances `(n, row, column)` mm to the surfaces of bodies in their sagittal slices, and key points `(n, 6, 2)`.

    The key points are (A, S) mm from the slices' middles.
    """

    distances: np.ndarray
    points: np.ndarray


def paint_slices(rng: np.random.Generator, device: str = "cpu") -> PaintedSlices:
    """Cut the exact masks of a new patient's vertebrae; nothing is painted, so `device` has no effect."""
    anatomy = draw_anatomy(rng, PhantomOptions(fracture_rate=float(rng.choice([0.2, 0.6]))))
    middles, axes = _seats(anatomy, rng, CENTRE_ERROR_MM)
    exact = exact_keypoints(anatomy)
    seen = exact + SEEN_OUTSIDE_MM * endplates_of(anatomy, exact).outward
    steps = (np.arange(SLICE) + 0.5 - SLICE / 2) * SLICE_MM
    distances, points = [], []
    for i in MEASURED:
        right = float((exact[i].mean((0, 1)) - middles[i]) @ axes[i, 2] + rng.normal(0, 1.0))
        plane = middles[i] + right * axes[i, 2] - steps[:, None, None] * axes[i, 0] + steps[:, None] * axes[i, 1]
        distances.append(body_distance(anatomy.bodies[i], plane).numpy())
        points.append(((seen[i] - middles[i]) @ axes[i, [1, 0]].T).reshape(6, 2))
    return PaintedSlices(np.stack(distances), np.stack(points))


def slices_sample(slices: PaintedSlices, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return one mask, as imperfect as a network's: `mask` `(row, column)`, and `points` `(6, 2)`, (A, S) mm."""
    i = int(rng.integers(len(slices.points)))
    wave = gaussian_filter(rng.normal(0, 1, (SLICE, SLICE)), float(rng.uniform(2, 6)))
    rough = wave / wave.std() * abs(rng.normal(0, 0.5)) + rng.normal(0, 0.3)
    distance = gaussian_filter(slices.distances[i], float(rng.uniform(0.1, 1.5))) + rough
    mask = torch.as_tensor(distance < 0, dtype=torch.float32)
    return {"mask": mask, "points": torch.as_tensor(slices.points[i], dtype=torch.float32)}


def points_step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the smooth L1 of the heat maps, and the error of the points that they give."""
    heat = model(batch["mask"][:, None]).float()
    steps = (torch.arange(SLICE) + 0.5 - SLICE / 2).to(heat) * SLICE_MM
    a, s = batch["points"].unbind(-1)
    across = torch.exp(-((steps - a[..., None]) ** 2) / (2 * POINT_SD_MM**2))
    down = torch.exp(-((-steps - s[..., None]) ** 2) / (2 * POINT_SD_MM**2))
    true = down[..., :, None] * across[..., None, :]
    weight = 1 + EMPHASIS * true
    fit = (F.smooth_l1_loss(heat, true, reduction="none") * weight).sum() / true.shape[0] / true.shape[1]
    return fit + POINT_SHARE * (soft_places(heat, steps) - batch["points"]).abs().sum(-1).mean()


def soft_places(heat: Tensor, steps: Tensor) -> Tensor:
    """Return the places `(b, 6, 2)`, (A, S) mm, of heat maps `(b, 6, row, column)`, as `mscn.slice_keypoints`."""
    weight = (POINT_SHARPNESS * heat).flatten(2).softmax(-1).reshape(heat.shape)
    return torch.stack([weight.sum(2) @ steps, weight.sum(3) @ -steps], -1)
