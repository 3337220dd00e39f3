"""Training samples of the synthetic picture: frames of intact vertebrae, some of whose neighbours are fractured.

The target is always intact, so that the image itself is the answer. Images are straightened phantoms, `(rows, 128)` HU
at 1 mm, or real scans of references; key points are (A, row) mm where a reader sees them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..methods.healthy_frame import (
    BAND,
    OUTSIDE,
    attention,
    body_mask,
    crop,
    hidden_rows,
    left_column,
    scaled,
    spread,
)
from ..networks.detector import HALF_WIDTH_MM
from ..phantom.anatomy import Anatomy, draw_anatomy
from ..phantom.keypoints import endplates_of, exact_keypoints
from ..phantom.options import PhantomOptions
from ..phantom.painting import Painter
from ..phantom.scanner import AIR, Protocol, acquire_picture, draw_protocol
from ..spine.curve import fit_curve
from ..spine.genant import genant_ratio, heights
from ..spine.straightening import Straightening
from .augmentation import imperfect
from .breaking import broken, draw_fracture
from .columns import MEASURED, flat
from .real import PIXELS_MM, RealCase

PAINTED_MM = 44.0  # of the image to both sides of the curve; the rest is never in a frame
THICKEST_SLAB_MM = 4.5
FRACTURED_SHARE, FUSED_SHARE, FUSED = 0.35, 0.15, (0.5, 1.0)
CUT_SHARE = 0.25  # of the frames lie at an end of the scan
HEALTHY_RATIO = 0.80  # a real vertebra with a lower G is no target


@dataclass(frozen=True)
class Straightened:
    """A straightened image `(rows, 128)` HU and its key points `(n, 3, 2, 2)` (A, row) mm."""

    picture: np.ndarray
    keypoints: np.ndarray


@dataclass(frozen=True)
class Patient:
    """A phantom patient with the curve and the protocol of one scan; `points` `(n, 3, 2, 3)` RAS mm are its key points.

    A reader of this scan would set them there.
    """

    anatomy: Anatomy
    straightening: Straightening
    half_mm: float
    protocol: Protocol
    points: np.ndarray

    @property
    def keypoints(self) -> np.ndarray:
        """The key points `(n, 3, 2, 2)` (A, row) mm in the straightened image."""
        return flat(self.straightening, self.points)


def patient(seed: int, fracture_rate: float = 0.0, healed: bool = False) -> Patient:
    """Return phantom patient `seed`; `healed` is the same patient, scanned in the same way, before the fractures."""
    anatomy = draw_anatomy(np.random.default_rng(seed), PhantomOptions(fracture_rate=fracture_rate, healed=healed))
    rng = np.random.default_rng((seed, 1))
    straightening = Straightening(imperfect(rng, fit_curve(anatomy.curve.points)))
    half, protocol = float(rng.uniform(0, THICKEST_SLAB_MM)), draw_protocol(rng)
    exact = exact_keypoints(anatomy)
    plates = endplates_of(anatomy, exact)
    seen = (exact + plates.shifts(protocol) * plates.outward)[MEASURED]
    return Patient(anatomy, straightening, half, protocol, seen)


def painted(seed: int, fracture_rate: float = 0.0) -> Straightened:
    """Return the straightened image of phantom patient `seed`, as a scanner shows it."""
    one = patient(seed, fracture_rate)
    grids = [
        torch.as_tensor(one.straightening.sagittal_grid(PAINTED_MM, lateral_mm=x), dtype=torch.float32)
        for x in (-one.half_mm, 0.0, one.half_mm)
    ]
    painter = Painter(one.anatomy)
    background = painter.background(grids[1].reshape(-1, 3), 0.5)
    planes = [painter.spine(g.reshape(-1, 3), background, 0.5).reshape(g.shape[:2]) for g in grids]
    generator = torch.Generator().manual_seed(seed)
    seen = acquire_picture(torch.stack(planes).mean(0), grids[1], one.protocol, generator).numpy()
    return Straightened(_wide(seen), one.keypoints)


def _wide(seen: np.ndarray) -> np.ndarray:
    side = int(HALF_WIDTH_MM - PAINTED_MM)
    return np.pad(seen, ((0, 0), (side, side)), mode="edge")[:, : int(2 * HALF_WIDTH_MM)]


def straightened(case: RealCase, rng: np.random.Generator) -> Straightened:
    """Return a real scan straightened along an imperfect curve, with pixels of a random size."""
    straightening = Straightening(imperfect(rng, case.curve))
    pixel, half = float(rng.uniform(*PIXELS_MM)), float(rng.uniform(0.0, THICKEST_SLAB_MM))
    wide = int(2 * HALF_WIDTH_MM)
    grids = [straightening.sagittal_grid(HALF_WIDTH_MM * pixel, pixel, x)[:, :wide] for x in (-half, 0.0, half)]
    picture = np.mean([case.ct.sample(g, fill=-1000.0) for g in grids], 0)
    return Straightened(picture, flat(straightening, case.reference.keypoints) / pixel)


def samples(image: Straightened, rng: np.random.Generator, breaks: bool) -> list[dict[str, np.ndarray]]:
    """Return the frames of the intact vertebrae of an image; with `breaks`, some neighbours are fractured first."""
    healthy = np.array([genant_ratio(h) > HEALTHY_RATIO for h in heights(image.keypoints)])
    picture, points = image.picture, image.keypoints
    if breaks:
        chosen = np.flatnonzero(rng.random(len(points)) < FRACTURED_SHARE)
        healthy[chosen] = False
        fused = rng.uniform(*FUSED, len(points) - 1) if rng.random() < FUSED_SHARE else None
        before = heights(points)
        turned, points = broken(
            torch.as_tensor(picture, dtype=torch.float32), points, {int(i): draw_fracture(rng) for i in chosen}, fused
        )
        picture = turned.numpy()
        healthy &= np.abs(heights(points) / before - 1).max(1) < 0.03
    found = [sample(picture, points, int(i), rng) for i in np.flatnonzero(healthy)]
    return [s for s in found if s is not None]


def sample(
    picture: np.ndarray, keypoints: np.ndarray, index: int, rng: np.random.Generator
) -> dict[str, np.ndarray] | None:
    """Return the frame of an intact vertebra with its answer, as 8-bit images; None if it is taller than the band.

    Keys: `ct` `(ROWS, COLUMNS)` with the vertebra in the middle of the band, `target` and `adjacent` (body masks),
    `attention` `(ROWS,)`, `height` (hidden rows; the rest of the band is void).
    """
    first, last = hidden_rows(keypoints[index])
    left = left_column(keypoints[index])
    tall = last - first
    if tall > BAND or first < 0 or last > len(picture):
        return None
    rows = np.arange(first - OUTSIDE, last + OUTSIDE)
    known = _known(rows, first, last, len(picture), rng)
    seen = np.where(known[:, None], crop(picture, rows[0], len(rows), left), AIR)
    masks = [body_mask(points, rows[0], len(rows), left) for points in keypoints]
    adjacent = np.clip(sum(m for i, m in enumerate(masks) if i != index), 0, 1) * known[:, None]
    looked = np.where(known, attention(keypoints, rows, index), 1.0)
    parts = {"ct": (scaled(seen) + 1) / 2, "target": masks[index], "adjacent": adjacent, "attention": looked}
    images = {key: np.round(255 * spread(part, 0.0)).astype(np.uint8) for key, part in parts.items()}
    images["attention"][OUTSIDE : OUTSIDE + BAND] = 255  # what is left of the band must not tell the height
    return {**images, "height": np.float32(tall)}


def _known(rows: np.ndarray, first: int, last: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return which rows the scan contains: some frames lie at its end."""
    low, high = 0, count
    if rng.random() < CUT_SHARE:
        cut = int(rng.integers(0, OUTSIDE))
        low, high = (first - cut, high) if rng.random() < 0.5 else (low, last + cut)
    known: np.ndarray = (rows >= low) & (rows < high)
    return known
