"""Breaking of vertebrae in a straightened image: real bodies become wedges, biconcaves and crushes.

An image is `(rows, columns)` HU; places are (A, row) in pixels, A = 0 at column 64. In each column of pixels the
endplates get new rows, and everything between them is stretched or pressed along the column: the bone keeps its own
texture and its endplates their thickness, the disc follows a sunken endplate, and the key points go with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..networks.detector import HALF_WIDTH_MM

PLATE, FLANK = 2.5, 1.2  # at most so many rows inside and outside of an endplate keep their thickness
LEAST_BODY, LEAST_DISC = 3.5, 0.6  # rows
LOCAL_ROWS = 22.0  # the curve follows a wedge: farther from it than about this, the column is straight again
MARROW_HU, MOST_DENSER_HU = -80.0, 350.0
# Chosen by hand. Among the public annotations with G <= 0.80 the middle height is the lowest in 77 %, the anterior one
# in 23 %; wedges and crushes are drawn more often here, so that they are learned as well.
KINDS, SHARES = ("wedge", "biconcave", "crush"), (0.3, 0.55, 0.15)
CEMENT_HU, CEMENT_RADII = (1000.0, 3000.0), (2.0, 8.0)  # the radii are rows and columns
LEAST_LEFT, MOST_LEFT = 0.35, 0.88


@dataclass(frozen=True)
class Fracture:
    """How one body is deformed.

    Attributes
    ----------
    front, back : share of the height that remains in front and behind.
    sunk : share of the height by which the upper and the lower endplate sink.
    deepest : where they sink deepest, as a share of the depth from behind, 0 to 1.
    wide : share of the depth over which they sink, 0 to 1.
    sharpness : of the depression: less than 1 is a funnel, 1 a V, 2 a bow, more a flat floor.
    band_hu, band : HU and thickness in rows of the dense band that a sunken endplate presses before itself.
    plate : share of `PLATE` and `FLANK` that keeps its thickness; at 0 an endplate that is pressed becomes thin.
    denser : how much denser pressed bone becomes; 1 if its mass is kept.
    """

    front: float
    back: float
    sunk: tuple[float, float]
    deepest: float
    wide: float
    sharpness: float
    band_hu: float
    band: float
    plate: float
    denser: float


def draw_fracture(rng: np.random.Generator) -> Fracture:
    """Draw a fracture, from barely visible to nearly flat."""
    kind = str(rng.choice(KINDS, p=SHARES))
    left = float(rng.uniform(LEAST_LEFT, MOST_LEFT))
    front = back = float(rng.uniform(0.92, 1.0))
    sunk = float(rng.uniform(0, 0.1))
    if kind == "wedge":
        front = left
        sunk = float(rng.uniform(0, 0.25)) * left
    elif kind == "biconcave":
        sunk = back - left
        front = back * float(rng.uniform(0.85, 1.0))
    else:
        front, back = left * float(rng.uniform(0.85, 1.1)), left * float(rng.uniform(0.95, 1.2))
        sunk = float(rng.uniform(0, 0.15))
    upper = float(rng.choice([1.0, 0.75, 0.5, 0.25, 0.0], p=[0.3, 0.2, 0.25, 0.1, 0.15]))
    return Fracture(
        front=front,
        back=min(back, 1.05),
        sunk=(sunk * upper, sunk * (1 - upper)),
        deepest=float(np.clip(rng.normal(0.52, 0.1), 0.25, 0.75)),
        wide=float(rng.uniform(0.5, 1.0)),
        sharpness=float(rng.choice([rng.uniform(0.6, 1.3), rng.uniform(1.5, 2.5), rng.uniform(2.5, 5)])),
        band_hu=float(rng.uniform(50, 300) * (rng.random() < 0.5)),
        band=float(rng.uniform(1.5, 5.0)),
        plate=float(rng.choice([0.05, 1.0])),
        denser=float(rng.uniform(0, 0.8)),
    )


def broken(
    picture: Tensor, keypoints: np.ndarray, fractures: dict[int, Fracture], discs: np.ndarray | None = None
) -> tuple[Tensor, np.ndarray]:
    """Return an image in which the vertebrae of these indices are fractured, and its key points.

    picture : `(rows, columns)` HU; keypoints : `(n, 3, 2, 2)` (A, row) pixels, from cranial to caudal.
    discs : `(n - 1,)` factors of the discs' heights; 1 if None.
    """
    if len(keypoints) == 0:
        return picture, keypoints
    rows, columns = picture.shape
    across = np.arange(columns) - HALF_WIDTH_MM
    plates = np.stack([_plates(k, across) for k in keypoints])  # (n, 2, columns)
    new = _new_plates(plates, keypoints, across, fractures, np.ones(len(keypoints) - 1) if discs is None else discs)
    kept = np.array([fractures[i].plate if i in fractures else 1.0 for i in range(len(keypoints))])
    old_knots, new_knots = _knots(plates, kept), _knots(new, kept)
    place = np.stack([_line(np.arange(rows), new_knots[:, x], old_knots[:, x]) for x in range(columns)], 1)
    seen = _taken(picture, place)
    for i, fracture in fractures.items():
        seen = _compacted(seen, place, new[i], keypoints[i], across, fracture)
    moved = keypoints.copy()
    for index in np.ndindex(keypoints.shape[:3]):
        x = int(np.clip(round(keypoints[index][0] + HALF_WIDTH_MM), 0, columns - 1))
        moved[index][1] = _line(keypoints[index][1], old_knots[:, x], new_knots[:, x])
    return seen, moved


def cemented(picture: Tensor, points: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return an image with bone cement in the vertebra of the key points `(3, 2, 2)` (A, row): a few blobs that merge.

    The cement stays between the endplates; it may leave the body in front.
    """
    rows, columns = picture.shape
    a, row = np.arange(columns)[None] - HALF_WIDTH_MM, np.arange(rows)[:, None]
    upper, lower = _plates(points, a[0])
    cement = np.zeros((rows, columns))
    for _ in range(int(rng.integers(2, 6))):
        place = points.mean((0, 1)) + rng.normal(0, (6.0, 3.0))
        radii = rng.uniform(*CEMENT_RADII, 2)
        cement += np.exp(-((((a - place[0]) / radii[0]) ** 2 + ((row - place[1]) / radii[1]) ** 2) ** 2))
    within = np.clip(row - upper, 0, 1) * np.clip(lower - row, 0, 1)
    share = torch.as_tensor(np.clip(2 * cement, 0, 1) * within, dtype=picture.dtype)
    return torch.lerp(picture, picture.new_full((), float(rng.uniform(*CEMENT_HU))).expand_as(picture), share)


def _plates(points: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return the rows `(2, columns)` of both endplates of key points `(3, 2, 2)`, level beyond the walls."""
    found = []
    for end in (0, 1):
        a, row = points[::-1, end].T  # posterior first
        x = np.clip(across, a[0], a[2])
        found.append(np.polyval(np.polyfit(a, row, 2), x))
    return np.stack(found)


def _new_plates(
    plates: np.ndarray, keypoints: np.ndarray, across: np.ndarray, fractures: dict[int, Fracture], discs: np.ndarray
) -> np.ndarray:
    """Return the rows `(n, 2, columns)` of the endplates after the fractures; the first upper endplate stays."""
    tall, gap = plates[:, 1] - plates[:, 0], (plates[1:, 0] - plates[:-1, 1]) * discs[:, None]
    tall, gap = np.maximum(tall, LEAST_BODY), np.maximum(gap, LEAST_DISC)
    sunk_first = np.zeros(len(across))
    for i, f in fractures.items():
        back, front = keypoints[i, 2, :, 0].mean(), keypoints[i, 0, :, 0].mean()
        along = np.clip((across - back) / max(front - back, 1.0), 0, 1)
        reach = np.where(along < f.deepest, f.deepest, 1 - f.deepest) * f.wide
        dent = np.clip(1 - np.abs((along - f.deepest) / reach) ** f.sharpness, 0, 1)
        height = float(np.median(tall[i]))
        sunk = [part * height * dent for part in f.sunk]
        pressed = tall[i] * (f.back + (f.front - f.back) * along) - sunk[0] - sunk[1]
        tall[i] = np.maximum(pressed, LEAST_BODY)
        for side, part in ((i - 1, sunk[0]), (i, sunk[1])):
            if 0 <= side < len(gap):
                gap[side] = gap[side] + part
        if i == 0:
            sunk_first = sunk[0]
    ends = np.concatenate([plates[:1, 0] + sunk_first, np.empty((2 * len(plates) - 1, len(across)))])
    ends[1::2], ends[2::2] = tall, gap
    ends = np.cumsum(ends, axis=0)
    return _straightened(ends, plates.reshape(ends.shape)).reshape(plates.shape)


def _straightened(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Take from the rows `(knots, columns)` the tilt that the curve would follow, but not their order."""
    moved = new - old
    tilt = moved - moved.mean(1, keepdims=True)
    middle = new.mean(1)
    weight = np.exp(-0.5 * ((middle[:, None] - middle) / LOCAL_ROWS) ** 2)
    straight = new - (weight / weight.sum(1, keepdims=True)) @ tilt
    steps = np.maximum(
        np.diff(straight, axis=0), np.where(np.arange(len(new) - 1) % 2, LEAST_DISC, LEAST_BODY)[:, None]
    )
    return np.concatenate([straight[:1], straight[:1] + np.cumsum(steps, axis=0)])


def _knots(plates: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return rows `(6 n, columns)`: for each body a flank, a plate and its inside, above and below.

    kept : `(n,)` shares of the thickness of a flank and a plate that stay as they are.
    """
    tall = plates[:, 1] - plates[:, 0]
    gap = np.concatenate([np.full((1, plates.shape[2]), 9.0), plates[1:, 0] - plates[:-1, 1]])
    below = np.concatenate([gap[1:], gap[:1]])
    inner = kept[:, None] * np.minimum(PLATE, 0.33 * tall)
    top, bottom = plates[:, 0], plates[:, 1]
    flank_above, flank_below = (kept[:, None] * np.minimum(FLANK, 0.3 * g) for g in (gap, below))
    knots = np.stack([top - flank_above, top, top + inner, bottom - inner, bottom, bottom + flank_below], 1)
    return knots.reshape(-1, plates.shape[2])


def _line(at: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate `y(x)` linearly; beyond the ends the slope is 1."""
    inside = np.interp(at, x, y)
    return inside + np.minimum(at - x[0], 0) + np.maximum(at - x[-1], 0)


def _taken(picture: Tensor, place: np.ndarray) -> Tensor:
    """Return the image that shows at each pixel what was at the row `place` `(rows, columns)` of its column."""
    rows, columns = picture.shape
    down = torch.as_tensor(place / (rows - 1) * 2 - 1, dtype=picture.dtype)
    right = (torch.arange(columns, dtype=picture.dtype) / (columns - 1) * 2 - 1).expand_as(down)
    grid = torch.stack([right, down], -1)[None]
    return F.grid_sample(picture[None, None], grid, mode="bicubic", align_corners=True, padding_mode="border")[0, 0]


def _compacted(
    picture: Tensor, place: np.ndarray, plates: np.ndarray, points: np.ndarray, across: np.ndarray, fracture: Fracture
) -> Tensor:
    """Make the bone between `plates` `(2, columns)` denser where it is pressed, and before a sunken endplate."""
    row = np.arange(len(place))[:, None]
    within = (row > plates[0]) & (row < plates[1])
    within &= (across > points[2, :, 0].min() - 1) & (across < points[0, :, 0].max() + 1)
    pressed = np.clip(np.gradient(place, axis=0) - 1, 0, 1.5) * within * fracture.denser
    more = (picture - MARROW_HU).clamp_min(0) * torch.as_tensor(pressed, dtype=picture.dtype)
    depth = [row - plates[0], plates[1] - row]
    tall = max(fracture.back, fracture.front)
    bands = [
        part / tall * within * (d > 0) * np.exp(-((d / fracture.band) ** 2))
        for part, d in zip(fracture.sunk, depth, strict=True)
    ]
    dense = torch.as_tensor(fracture.band_hu * np.minimum(3 * sum(bands), 1), dtype=picture.dtype)
    return picture + more.clamp_max(MOST_DENSER_HU) + dense
