"""The loss that the synthetic picture measures against the truth: phantoms with fractures, and their healed twins.

A twin is the same patient before the fractures. The truth of a third is 1 - the third's height / that of the healed
twin; of a key point position, 1 - the height between the key points / that of the twin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..methods.healthy_frame import (
    BAND,
    COLUMNS,
    OUTSIDE,
    ROWS,
    attention,
    body_mask,
    crop,
    frame_of,
    hidden_rows,
    left_column,
    scaled,
)
from ..methods.healthy_loss import at_points, column_heights, thirds
from ..networks.predictor import Predictor
from ..spine.genant import heights, measure_column
from .columns import MEASURED
from .healthy_data import Straightened, painted, patient
from .healthy_losses import Parts

FRACTURE_RATE = 0.25
SHAPES = ("wedge", "biconcave", "crush")


@dataclass(frozen=True)
class Twins:
    """A fractured phantom and its healed twin.

    Attributes
    ----------
    image : the fractured one, straightened.
    healed : key points `(n, 3, 2, 2)` (A, row) mm of the twin in its own image.
    broken_mm, healed_mm : heights `(n, 3)` mm of both.
    fractures : their kinds, "" where there is none; `grades` as the program grades the true points.
    """

    image: Straightened
    healed: np.ndarray
    broken_mm: np.ndarray
    healed_mm: np.ndarray
    fractures: tuple[str, ...]
    grades: tuple[str, ...]


@dataclass(frozen=True)
class TwinLoss:
    """The loss of one vertebra `(3,)`: found and true for the thirds, and for the three positions of the points."""

    index: int
    fracture: str
    grade: str
    found: np.ndarray
    true: np.ndarray
    found_at_points: np.ndarray
    true_at_points: np.ndarray


def make_twins(seed: int, rate: float = FRACTURE_RATE) -> Twins:
    """Return phantom patient `seed` with and without fractures, scanned in the same way."""
    broken, healed = patient(seed, rate), patient(seed, rate, healed=True)
    return Twins(
        image=painted(seed, rate),
        healed=healed.keypoints,
        broken_mm=heights(broken.points),
        healed_mm=heights(healed.points),
        fractures=tuple(b.fracture or "" for b in broken.anatomy.bodies[MEASURED]),
        grades=tuple(m.grade for m in measure_column(broken.points)),
    )


def twin_losses(predict: Predictor, twins: Twins, parts: Parts) -> list[TwinLoss | None]:
    """Return the loss of each vertebra by a generator; None where it draws no body."""
    picture, points = twins.image.picture, twins.image.keypoints
    inputs = {i: _input(picture, points, i, parts) for i in range(len(points))}
    kept = [i for i, x in inputs.items() if x is not None]
    images = np.concatenate([predict(inputs[i][None])[0] for i in kept])  # type: ignore[index]
    return [_loss(twins, i, 1 / (1 + np.exp(-image[3].astype(float)))) for i, image in zip(kept, images, strict=True)]


def _loss(twins: Twins, i: int, mask: np.ndarray) -> TwinLoss | None:
    found = column_heights(mask)
    broken, healed = (_columns(p[i]) for p in (twins.image.keypoints, twins.healed))
    split, true, at = thirds(found, broken), thirds(healed, broken), at_points(found, broken)
    if split is None or true is None or at is None:
        return None
    of_points = 1 - twins.broken_mm[i] / twins.healed_mm[i]
    losses = [1 - measured / healthy for healthy, measured in (split, true)]
    return TwinLoss(i, twins.fractures[i], twins.grades[i], losses[0], losses[1], at, of_points)


def _columns(points: np.ndarray) -> np.ndarray:
    first, last = hidden_rows(points)
    return column_heights(body_mask(points, first, last - first, left_column(points)))


def _input(picture: np.ndarray, points: np.ndarray, i: int, parts: Parts) -> np.ndarray | None:
    """Return the generator's input `(3, ROWS, COLUMNS)` as it was in training; None if the vertebra is too tall."""
    if parts.restoration:
        channels = frame_of(picture, points, i).channels
    else:
        first, last = hidden_rows(points[i])
        tall = last - first
        if tall > BAND:
            return None
        top = OUTSIDE + (BAND - tall) // 2
        band = np.zeros((ROWS, COLUMNS))
        band[top : top + tall] = 1
        seen = scaled(crop(picture, first - top, ROWS, left_column(points[i])))
        looked = attention(points, np.arange(first - top, first - top + ROWS), i)
        channels = np.stack([seen * (1 - band), band, np.broadcast_to(looked[:, None], band.shape)]).astype(np.float32)
    if not parts.attention:
        channels[2] = 1
    return channels


def loss_figures(losses: Iterable[TwinLoss | None]) -> dict[str, Any]:
    """Return errors of the losses in percentage points, for intact and fractured vertebrae and by kind of fracture.

    `mae`, `bias`, `sd` are those of [anterior, middle, posterior] thirds; `points` is the mean absolute error at the
    positions of the key points.
    """
    every = list(losses)
    found = [each for each in every if each is not None]
    groups = {"intact": [e for e in found if not e.fracture], "fractured": [e for e in found if e.fracture]}
    groups |= {shape: [e for e in found if e.fracture == shape] for shape in SHAPES}
    figures: dict[str, Any] = {"vertebrae": len(found), "no_body": len(every) - len(found)}
    for name, group in groups.items():
        if group:
            off = 100 * np.array([e.found - e.true for e in group])
            points = 100 * np.abs([e.found_at_points - e.true_at_points for e in group])
            rows = {"mae": np.abs(off).mean(0), "bias": off.mean(0), "sd": off.std(0), "points": points.mean(0)}
            figures[name] = {"n": len(group), **{key: np.round(row, 1).tolist() for key, row in rows.items()}}
    return figures
