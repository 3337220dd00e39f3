"""Real scans with references as a source of training data, beside the phantoms.

Each role gets what its phantoms give: a column for the detector, a tube for the refiner, a trunk for the localizer
(`columns`, `tubes`, `trunks`). Only scans whose licence allows it may be used for weights that are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..errors import VFQError
from ..imaging.ct import CTVolume, inside
from ..imaging.files import read_ct
from ..networks.detector import COLUMNS, HALF_WIDTH_MM
from ..networks.mscn import tube_arcs as mscn_arcs
from ..networks.mscn import tube_points as mscn_tube
from ..networks.refiner import tube_arcs, tube_grid
from ..spine.curve import SpineCurve, fit_curve
from ..spine.genant import heights
from ..spine.levels import CLASSES
from ..spine.reference import Reference, read_reference
from ..spine.straightening import Straightening
from ..whole import visible
from . import columns, mscn, tubes
from .augmentation import imperfect
from .breaking import broken, cemented, draw_fracture

SMOOTHING_MM = 20.0  # as of the curves that the networks find
BEYOND_MM = 40.0  # the image continues beyond the outermost vertebrae
AROUND_MM = 90.0  # of a scan, so much around the curve is kept in memory
HALF_LEVEL_MM = 24.0  # from the middle of a vertebra, at most so far is its own level seen
PIXELS_MM = (0.8, 1.05)  # the detector is used with pixels of 0.85 mm
INTACT_SHARE = 0.25  # of the columns have no fracture but their own
FRACTURED_SHARE = 0.4  # of the vertebrae of the others are fractured
FUSED_SHARE, FUSED = 0.2, (0.45, 1.0)  # of the columns have thinner discs
CEMENTED_SHARE = 0.04  # of the fractured vertebrae contain cement
# Old bone differs little from its discs, young bone and low voltages more than the few patients here.
CONTRAST_SHARE, CONTRAST, SOFT_HU = 0.5, (0.45, 1.25), 40.0
LOST_SHARE = 0.3  # of the tubes follow a curve that has left the bodies
LOST_MM, LOST_OVER_MM = 9.0, (25.0, 90.0)


@dataclass(frozen=True, eq=False)
class RealCase:
    """One CT and its reference; `curve` runs along the middles of its bodies and beyond them.

    `whole` is True if the reference tells where the spine ends, so that what lies beyond it is none.
    """

    ct: CTVolume
    reference: Reference
    curve: SpineCurve
    whole: bool = True


@dataclass(frozen=True, eq=False)
class Lessons:
    """The real cases of a run.

    Attributes
    ----------
    cases : to learn from.
    aside : to see when to stop, never learned from; may be empty.
    told : where they come from, for the model card.
    digest : changes with what is learned from; a run is resumed with the same one only.
    """

    cases: tuple[RealCase, ...]
    aside: tuple[RealCase, ...] = ()
    told: str = ""
    digest: str = ""


def read_cases(references: Sequence[Path], scans: Path, left_out: Sequence[str] = ()) -> list[RealCase]:
    """Read the references in these folders with their CTs in `scans`; the cases named by their beginning stay out.

    VFQError `not_found`, `not_a_reference`, and those of `read_ct`.
    """
    found = []
    for path in visible(p for folder in references for p in folder.glob("*.json")):
        reference = read_reference(path)
        if len(reference.keypoints) < 2 or any(reference.case.startswith(name) for name in left_out):
            continue
        found.append(real_case(read_ct(scans / reference.ct_file), reference))
    if not found:
        raise VFQError("not_found", "The folders contain no reference with a CT that may be used. Check the paths.")
    return found


def real_case(ct: CTVolume, reference: Reference, whole: bool = True) -> RealCase:
    """Return the case of a CT and its reference, with the part of the CT around the spine alone."""
    curve = extended_curve(reference.curve)
    return RealCase(_around(ct, curve.points), reference, curve, whole)


def extended_curve(middles: np.ndarray) -> SpineCurve:
    """Return the smooth curve through middles of bodies `(n, 3)` RAS mm, and straight on beyond them."""
    fitted = fit_curve(middles, SMOOTHING_MM)
    count = round(BEYOND_MM / fitted.step)
    arcs = np.arange(-count, len(fitted.points) + count) * fitted.step
    return SpineCurve(fitted.at(arcs)[0], fitted.step)


def _around(ct: CTVolume, points: np.ndarray) -> CTVolume:
    """Return the part of a CT within `AROUND_MM` of RAS mm points `(n, 3)`."""
    matrix = ct.ras_to_ijk
    ijk = points @ matrix[:3, :3].T + matrix[:3, 3]
    reach = AROUND_MM * np.linalg.norm(matrix[:3, :3], axis=1)
    size = np.array(ct.voxels.shape[::-1])
    low = np.clip(np.floor(ijk.min(0) - reach).astype(int), 0, size - 2)
    high = np.clip(np.ceil(ijk.max(0) + reach).astype(int) + 1, low + 2, size)
    kept = np.ascontiguousarray(ct.voxels[tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))])
    moved = ct.ijk_to_ras.copy()
    moved[:3, 3] += moved[:3, :3] @ low
    return replace(ct, voxels=kept, ijk_to_ras=moved)


def _either(paint: Callable, real: Callable, share: float, rng: np.random.Generator, device: str = "cpu") -> object:
    return real(rng) if rng.random() < share else paint(rng, device=device)


def real_column(cases: Sequence[RealCase], rng: np.random.Generator) -> columns.PaintedColumn:
    """Return a scan straightened along an imperfect curve, some of its vertebrae broken, for the detector."""
    case = cases[int(rng.integers(len(cases)))]
    straightening = Straightening(imperfect(rng, case.curve))
    pixel = float(rng.uniform(*PIXELS_MM))
    half = float(rng.uniform(0.0, columns.THICKEST_SLAB_MM))
    grids = [straightening.sagittal_grid(HALF_WIDTH_MM * pixel, pixel, x)[:, :COLUMNS] for x in (-half, 0.0, half)]
    picture = torch.as_tensor(np.mean([case.ct.sample(g, fill=columns.AIR) for g in grids], 0))
    flat = columns.flat(straightening, case.reference.keypoints) / pixel
    partial_places = columns.flat(straightening, case.reference.partial) / pixel
    if rng.random() < CONTRAST_SHARE:
        picture = torch.where(picture > SOFT_HU, SOFT_HU + rng.uniform(*CONTRAST) * (picture - SOFT_HU), picture)
    if rng.random() >= INTACT_SHARE:
        chosen = np.flatnonzero(rng.random(len(flat)) < FRACTURED_SHARE)
        fused = rng.uniform(*FUSED, len(flat) - 1) if rng.random() < FUSED_SHARE else None
        before = flat
        picture, flat = broken(picture, flat, {int(i): draw_fracture(rng) for i in chosen}, fused)
        partial_places = _moved_with(partial_places, before, flat)
        for i in chosen[rng.random(len(chosen)) < CEMENTED_SHARE]:
            picture = cemented(picture, flat[i], rng)
    return columns.PaintedColumn(
        picture=picture,
        points=torch.as_tensor(grids[1], dtype=torch.float32),
        keypoints=flat,
        outward=np.zeros_like(flat),
        heights=heights(flat) * pixel,
        endplates=None,
        ignored=partial_places,
        held=torch.as_tensor(inside(case.ct, grids[1])),
    )


def _moved_with(places: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Move places `(m, 2)` beyond the outermost vertebrae `(n, 3, 2, 2)` as these moved."""
    old, new = before[..., 1].mean((1, 2)), after[..., 1].mean((1, 2))
    row = places[:, 1]
    shift = np.interp(row, old, new - old)
    return np.stack([places[:, 0], row + shift], -1)


def real_tube(cases: Sequence[RealCase], rng: np.random.Generator) -> tubes.PaintedTube:
    """Return a scan straightened along a curve as the localizer might find it, or one that has left the bone."""
    case = cases[int(rng.integers(len(cases)))]
    coarse = imperfect(rng, case.curve, tubes.COARSE_CURVE)
    if rng.random() < LOST_SHARE:
        coarse = _lost(rng, coarse)
    straightening = Straightening(coarse)
    arcs = tube_arcs(coarse.length)
    middles = case.reference.keypoints.mean((1, 2))
    ends = np.concatenate([case.reference.keypoints[:1, :, 0], case.reference.keypoints[-1:, :, 1]]).mean(1)
    upper, lower = -straightening.to_straight(ends)[:, 2]
    if not case.whole:
        arcs = arcs[(arcs > upper) & (arcs < lower)]
    points = straightening.to_patient(tube_grid(arcs))
    return tubes.PaintedTube(
        voxels=torch.as_tensor(case.ct.sample(points, fill=tubes.AIR)),
        height=torch.as_tensor(points[..., 2], dtype=torch.float32),
        position=tubes.positions(straightening.to_straight(case.curve.points), arcs),
        holds_spine=(arcs > upper) & (arcs < lower),
        level=_levels(case.reference, -straightening.to_straight(middles)[:, 2], arcs),
    )


def _lost(rng: np.random.Generator, curve: SpineCurve) -> SpineCurve:
    """Push the curve aside over a part of its length."""
    arcs = np.arange(len(curve.points)) * curve.step
    at, over = rng.uniform(0, curve.length), rng.uniform(*LOST_OVER_MM)
    side = rng.normal(0, LOST_MM, 2)
    bump = np.exp(-(((arcs - at) / (over / 2)) ** 4))
    pushed = curve.points + bump[:, None] * (side[0] * curve.frames[:, 0] + side[1] / 2 * curve.frames[:, 1])
    return fit_curve(pushed)


def _levels(reference: Reference, middles: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Return the class in `levels.CLASSES` of each slice; `UNKNOWN` beyond the vertebrae and without a certain name."""
    known = [CLASSES.index(name) if name in CLASSES else tubes.UNKNOWN for name in reference.levels]
    half = np.diff(middles, prepend=2 * middles[0] - middles[1], append=2 * middles[-1] - middles[-2]) / 2
    half = np.minimum(half, HALF_LEVEL_MM)  # a vertebra between two others may be without label
    level = np.full(len(arcs), tubes.UNKNOWN)
    for i, middle in enumerate(middles):
        level[(arcs > middle - half[i]) & (arcs <= middle + half[i + 1])] = known[i]
    return level


def real_centres(cases: list[RealCase], rng: np.random.Generator) -> mscn.PaintedCentres:
    """Return a real scan's tube along an imperfect curve, with the centres of its reference."""
    case = cases[int(rng.integers(len(cases)))]
    straightening = Straightening(imperfect(rng, case.curve))
    points = straightening.to_patient(mscn_tube(mscn_arcs(straightening.curve.length)))
    voxels = torch.as_tensor(case.ct.sample(points, fill=columns.AIR))
    return mscn.PaintedCentres(
        voxels,
        mscn.in_tube(straightening, case.reference.keypoints.mean((1, 2))),
        mscn.in_tube(straightening, case.reference.partial),
    )


def with_real(role: str, paint: Callable, cases: Sequence[RealCase], share: float) -> Callable:
    """Return the painter of a role that mixes phantoms with `cases`. VFQError as `maker_of`."""
    return partial(_either, paint, partial(maker_of(role), cases), share)


def maker_of(role: str) -> Callable:
    """Return the function that takes an image for a role from real cases.

    VFQError `no_real_data` for the localizer, and for networks that need masks.
    """
    makers = {"detector": real_column, "anchor-boxes": real_column, "refiner": real_tube, "m-scn-centres": real_centres}
    if role not in makers:
        raise VFQError("no_real_data", f"The {role} learns from phantoms only. Leave out --references and --dataset.")
    return makers[role]
