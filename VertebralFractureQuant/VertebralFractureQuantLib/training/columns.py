"""Training samples of the detector: straightened images with the key points of their vertebrae.

An image is `(rows, 128)` HU at 1 mm; key points are (A, row) mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..networks.detector import COLUMNS, HALF_WIDTH_MM
from ..phantom.alignment import rotation
from ..phantom.anatomy import draw_anatomy
from ..phantom.keypoints import Endplates, endplates_of, exact_keypoints
from ..phantom.metal import sagittal_bands
from ..phantom.options import PhantomOptions
from ..phantom.painting import Painter
from ..phantom.scanner import AIR, Protocol, acquire_picture, draw_protocol
from ..spine.curve import fit_curve
from ..spine.genant import expected_height, genant_ratio, heights
from ..spine.levels import LEVELS
from ..spine.straightening import Straightening
from .augmentation import imperfect
from .bending import bent, bent_keypoints, draw_bend

ROWS = 192
OBJECT_RADIUS_MM = 5.0
IGNORED_MM = 14.0
EMPHASIS = 1.5  # errors weigh 1/G to this power; in the paper it is 1
MOST_VERTEBRAE = 24  # in one image
TURNED_DEG = 8.0  # standard deviation of the patients' rotation about S; the image's plane is the scanner's
THICKEST_SLAB_MM = 4.5  # to both sides; three planes 3.5 mm apart blur as much as the detector's five over 8 mm
# In thick slices two endplates and a thin disc are one bright band, so thick slices are more frequent than in practice.
THICK_SHARE, THICK_MM = 0.35, (3.0, 4.0, 5.0, 5.0, 6.0, 7.0)
MEASURED = slice(1, len(LEVELS))  # of a phantom's bodies: C2 has no upper endplate, the sacrum is not to be detected
# A real image is already a scan: a third of the samples keep its slices, the others get thicker ones, and less noise.
AS_IT_IS_SHARE, AS_IT_IS_MM, LESS_NOISE, LESS_BLUR = 0.35, 0.4, 0.7, 0.5
SCREWED_SHARE = 0.2  # of the samples have screws, whose bands are not endplates; about half of these crops show some


@dataclass(frozen=True)
class PaintedColumn:
    """The straightened image of a whole column, with its pixels' places and its key points.

    A phantom is not yet scanned: it has `endplates`, and its key points lie on the bone's surface. A real scan
    (`real`) has none, and its key points lie where a reader sees the edge.
    """

    picture: Tensor  # (rows, columns) HU
    points: Tensor  # (rows, columns, 3) RAS mm
    keypoints: np.ndarray  # (n, 3, 2, 2): (A, row) of the vertebrae to be detected, from cranial to caudal
    outward: np.ndarray  # (n, 3, 2, 2): step in the image for each mm out of the body
    heights: np.ndarray  # (n, 3) patient mm
    endplates: Endplates | None
    ignored: np.ndarray  # (m, 2): (A, row) of vertebrae that are neither to be detected nor background
    held: Tensor | None = None  # (rows, columns): whether the scan contains the pixel; None if it contains all


def paint_column(rng: np.random.Generator, device: str = "cpu") -> PaintedColumn:
    """Paint a new patient on `device`, straightened along a curve as imperfect as a localizer's."""
    anatomy = draw_anatomy(rng, PhantomOptions(fracture_rate=float(rng.choice([0.0, 0.2, 0.6]))))
    lying = rotation(0.0, 0.0, np.deg2rad(rng.normal(0, TURNED_DEG)))
    straightening = Straightening(imperfect(rng, fit_curve(anatomy.curve.points @ lying)))
    half_mm = float(rng.uniform(0.0, THICKEST_SLAB_MM))
    picture, points = _painted_slab(Painter(anatomy, device), lying, straightening, half_mm)
    exact = exact_keypoints(anatomy)
    plates = endplates_of(anatomy, exact)
    seen, outside = (flat(straightening, p @ lying) for p in (exact, exact + plates.outward))
    return PaintedColumn(
        picture=picture.cpu(),
        points=points.cpu(),
        keypoints=seen[MEASURED],
        outward=(outside - seen)[MEASURED],
        heights=heights(exact)[MEASURED],
        endplates=plates,
        ignored=seen[:1].mean((1, 2)),
    )


def _painted_slab(
    painter: Painter, lying: np.ndarray, straightening: Straightening, half_mm: float
) -> tuple[Tensor, Tensor]:
    """Return the straightened image of a patient who lies turned by `lying`, and the points of its middle plane.

    The image is the mean over `half_mm` to both sides, as in the detector's input. Soft tissue differs little between
    these planes and is painted in the middle one only.
    """
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


def flat(straightening: Straightening, points: np.ndarray) -> np.ndarray:
    """Return (A, row) mm `(..., 2)` in the straightened image of RAS mm points `(..., 3)`."""
    straight = straightening.to_straight(points)
    return np.stack([straight[..., 1], -straight[..., 2]], -1)


def detector_sample(column: PaintedColumn, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return one crop of a column as a scanner would show it, with the targets of the detector.

    The keys are `picture` `(ROWS, COLUMNS)` HU, and those of `_targets`.
    """
    rows = column.picture.shape[0]
    start = int(rng.integers(-30, max(1, rows - ROWS + 30)))
    inside = slice(max(0, start), min(rows, start + ROWS))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    wide = slice(max(0, start - 20), min(rows, start + ROWS + 20))  # the slice profile reaches beyond the crop's edge
    protocol = _protocol(column, rng)
    bend = draw_bend(rng, column.picture[wide].shape)
    seen = acquire_picture(bent(column.picture[wide], bend), column.points[wide], protocol, generator)
    if rng.random() < SCREWED_SHARE:
        seen = seen + sagittal_bands(column.points[wide], _screw_tips(column, rng), protocol, rng, generator)
    seen = seen[inside.start - wide.start : inside.stop - wide.start]
    box = _field_of_view(rng, column.points[inside])
    outside = ((column.points[inside] < box[0]) | (column.points[inside] > box[1])).any(-1)
    if column.held is not None:
        outside |= ~column.held[inside]
    seen = torch.where(outside, float(rng.choice([AIR, AIR, -1024.0, 0.0], p=[0.5, 0.3, 0.15, 0.05])), seen)
    picture = torch.full((ROWS, COLUMNS), AIR)
    top = inside.start - start
    picture[top : top + seen.shape[0]] = seen
    visible = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    visible[top : top + seen.shape[0]] = ~outside
    shifts = column.endplates.shifts(protocol)[MEASURED] if column.endplates else np.zeros((1, 3, 2, 1))
    exact, stretch = bent_keypoints(column.keypoints, bend, wide.start)
    keypoints = exact + shifts * column.outward - np.array([0.0, start])
    remaining = _remaining(column.heights * stretch + shifts.sum((2, 3)))
    ignored = column.ignored - np.array([0.0, start])
    return {"picture": picture, **_targets(keypoints, remaining, ignored, visible.numpy())}


def _protocol(column: PaintedColumn, rng: np.random.Generator) -> Protocol:
    """Draw how the column is scanned; a real image is not blurred by thin slices once more."""
    drawn = draw_protocol(rng, float(rng.choice(THICK_MM)) if rng.random() < THICK_SHARE else None)
    if column.endplates:
        return drawn
    softer = replace(drawn, noise_hu=LESS_NOISE * drawn.noise_hu, blur_mm=LESS_BLUR * drawn.blur_mm)
    as_it_is = rng.random() < AS_IT_IS_SHARE
    return replace(softer, slice_mm=AS_IT_IS_MM, thickness_mm=AS_IT_IS_MM) if as_it_is else softer


def _screw_tips(patient: PaintedColumn, rng: np.random.Generator) -> np.ndarray:
    """Draw the places (A, S) mm `(n, 2)` of screws' tips in two to five consecutive vertebrae.

    The first and the last have screws; those between may have none.
    """
    count = int(rng.integers(2, 6))
    count = min(count, len(patient.keypoints))
    first = int(rng.integers(0, len(patient.keypoints) - count + 1))
    chosen = [i for i in range(first, first + count) if i in (first, first + count - 1) or rng.random() < 0.7]
    a, row = patient.keypoints[chosen].mean((1, 2)).T
    rows, columns = patient.picture.shape
    row, column = row.round().clip(0, rows - 1), (a + HALF_WIDTH_MM).round().clip(0, columns - 1)
    middles = patient.points[row.astype(int), column.astype(int), 1:].numpy()
    return middles + rng.uniform((-3, -6), (10, 8), (len(chosen), 2))


def _remaining(heights_mm: np.ndarray) -> np.ndarray:
    """Return what remains of each vertebra's height `(n,)`, from heights `(n, 3)` mm, cranial first.

    It is G or, if lower, the mean height relative to what the neighbours predict. In a crush all three heights are low:
    G is near 1, yet an error of one mm changes it much.
    """
    means = heights_mm.mean(1)
    parts = [mean / expected_height(means, i) for i, mean in enumerate(means)]
    return np.fmin([genant_ratio(h) for h in heights_mm], parts)


def _field_of_view(rng: np.random.Generator, points: Tensor) -> Tensor:
    """Draw a box `(2, 3)` RAS mm that limits A and S; it is mostly larger than the crop."""
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


def _targets(
    keypoints: np.ndarray, remaining: np.ndarray, ignored: np.ndarray, visible: np.ndarray
) -> dict[str, Tensor]:
    """Return the targets of the detector.

    By pixel: `objectness` and its `weight` (0 = ignored), `offsets` and their `emphasis`, which is a power of 1/G, or
    of the remaining height in a crush. By vertebra: the `places` (row, column) of the key points, and `known`, their
    emphasis or 0.

    A vertebra that the field of view cuts keeps its true points beyond the border, so that the network learns to place
    them outside, and inference can leave the vertebra out. What the crop's own edge cuts is ignored, and so is the
    surrounding of the places `ignored` `(m, 2)`: C2, which has no superior endplate, and vertebrae without key points.
    """
    objectness, weight = np.zeros((ROWS, COLUMNS), np.float32), np.ones((ROWS, COLUMNS), np.float32)
    offsets, emphasis = np.zeros((12, ROWS, COLUMNS), np.float32), np.zeros((ROWS, COLUMNS), np.float32)
    places, known = np.zeros((MOST_VERTEBRAE, 6, 2), np.float32), np.zeros((MOST_VERTEBRAE, 6), np.float32)
    a = np.arange(COLUMNS)[None] - HALF_WIDTH_MM
    row = np.arange(ROWS)[:, None]
    for place in ignored:
        weight[np.hypot(a - place[0], row - place[1]) < IGNORED_MM] = 0
    for i, points in enumerate(keypoints):
        center = points.mean((0, 1))
        if not -25 < center[1] < ROWS + 25:
            continue
        height = np.linalg.norm(points[:, 0] - points[:, 1], axis=-1).mean()
        distance = np.hypot(a - center[0], row - center[1])
        cut_by_crop = points[..., 1].min() < 1 or points[..., 1].max() > ROWS - 2
        disc = distance < min(OBJECT_RADIUS_MM, max(2.5, 0.4 * height))
        if cut_by_crop:
            weight[distance < IGNORED_MM] = 0
            continue
        seen = visible[np.clip(int(center[1]), 0, ROWS - 1), np.clip(int(center[0] + HALF_WIDTH_MM), 0, COLUMNS - 1)]
        if not seen:
            continue
        disc &= visible
        weight[disc] = 1  # an ignored neighbour must not hide this one
        objectness[disc] = 1
        emphasis[disc] = remaining[i] ** -EMPHASIS
        slot = int((known.max(1) > 0).sum())
        places[slot], known[slot] = points.reshape(6, 2)[:, ::-1] + (0.0, HALF_WIDTH_MM), remaining[i] ** -EMPHASIS
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
