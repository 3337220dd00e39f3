"""The vertebra detector: a straightened sagittal picture in, vertebrae with six key points out (anchor-free).

A picture is `(rows, columns)` HU at 1 mm, rows along the arc (cranial first), columns along A (posterior
first, A = column - 64 mm). For each pixel the network gives an objectness logit and six (A, row) offsets in
mm from the pixel to the key points (Zakharov et al. 2023, section 2.2), how far it expects its G to be off, and how
much it looks like each of the six points itself.

Departures from the paper: a fixed HU window instead of zero mean and unit variance, so that a picture half outside
the field of view keeps its contrast; a vertebra's points are first the score-weighted mean over the pixels that agree
with the best one, instead of that pixel's alone; and each then settles where its own map, around that place, says: a
corner is seen better on the spot than from the middle of the body 15 mm away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..butterfly import NMS_THRESHOLD, suppress
from .predictor import Predictor

if TYPE_CHECKING:
    from torch import Tensor

HU = TypeVar("HU", np.ndarray, "Tensor")

SPACING_MM = 1.0
HALF_WIDTH_MM = 64.0
COLUMNS = 128
OFFSET_SCALE_MM = 16.0
OUTPUTS = 14  # objectness, six (A, row) offsets, log of the spread of G
POINTS = 6  # maps: anterior, middle, posterior x upper, lower
MAP_REACH = 6  # pixels around a point's first place in which its map is looked at
WINDOW_HU = (-300.0, 1000.0)
AIR_HU = -1000.0
DEPTH = 4  # poolings: sides are padded to multiples of 2 ** DEPTH

LOG_SPREAD = (-6.0, 0.0)
SPREAD_SCALE = 1.15  # from the network's spread (Laplace) to a standard deviation that holds on scans: see model card
SCORE_THRESHOLD = 0.7  # objectness, paper


@dataclass(frozen=True)
class Detections:
    """Vertebrae of one picture, cranial to caudal: key points `(n, 3, 2, 2)` as (A, row) mm, scores `(n,)` and the
    standard deviations `(n,)` of their G."""

    keypoints: np.ndarray
    scores: np.ndarray
    spreads: np.ndarray


def window(picture: HU) -> HU:
    """HU to the network's input range; of a numpy array or a torch tensor."""
    low, high = WINDOW_HU
    return (picture.clip(low, high) - 150.0) / 350.0


def pixel_positions(rows: int, columns: int, spacing_mm: float = SPACING_MM) -> np.ndarray:
    """`(rows, columns, 2)`: (A, row) mm of every pixel; A is 0 in column 64."""
    row, column = np.indices((rows, columns), np.float32)
    return np.stack([column - HALF_WIDTH_MM / SPACING_MM, row], -1) * spacing_mm


def detect(
    predict: Predictor, picture: np.ndarray, score_threshold: float = SCORE_THRESHOLD, spacing_mm: float = SPACING_MM
) -> Detections:
    """Vertebrae of one straightened picture `(rows, 128)` HU with pixels of `spacing_mm`.

    The network knows pixels of 1 mm: in smaller ones it sees a larger patient.
    """
    seen = _pixels(predict, picture, spacing_mm)
    return _settled(_decode(seen.scores, seen.points, seen.spreads, score_threshold), seen.maps, spacing_mm)


def propose(
    predict: Predictor, picture: np.ndarray, anterior_mm: float, row_mm: float, spacing_mm: float = SPACING_MM
) -> Detections | None:
    """The vertebra that the network sees from one pixel of `(rows, 128)` HU, for a person who clicked there.

    The pixel's six points, voted on by the pixels that agree with it; the clicked one counts as any other, however low
    its objectness. None where the pixel lies outside the picture.
    """
    row, column = round(row_mm / spacing_mm), round(anterior_mm / spacing_mm + HALF_WIDTH_MM / SPACING_MM)
    if not (0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]):
        return None
    seen = _pixels(predict, picture, spacing_mm)
    clicked = row * picture.shape[1] + column
    votes = _votes(seen.points, np.maximum(seen.scores, np.arange(len(seen.scores)) == clicked), clicked)
    voted = np.einsum("c,cpex->pex", votes, seen.points)
    found = Detections(voted[None], seen.scores[[clicked]], (votes @ seen.spreads)[None])
    return _settled(found, seen.maps, spacing_mm)


@dataclass(frozen=True)
class _Pixels:
    """For every pixel: objectness `(n,)`, key points `(n, 3, 2, 2)` as (A, row) mm, spread of G `(n,)`; and the points'
    maps `(POINTS, rows, columns)`."""

    scores: np.ndarray
    points: np.ndarray
    spreads: np.ndarray
    maps: np.ndarray


def _pixels(predict: Predictor, picture: np.ndarray, spacing_mm: float) -> _Pixels:
    from scipy.special import expit

    rows, columns = picture.shape
    rest = [(0, -n % 2**DEPTH) for n in picture.shape]
    padded = np.pad(picture.astype(np.float32), rest, constant_values=AIR_HU)
    out, maps = (x[0, :, :rows, :columns].astype(float) for x in predict(window(padded)[None, None]))
    points = pixel_positions(rows, columns, spacing_mm)[..., None, :] + _offsets(out) * (spacing_mm / SPACING_MM)
    spreads = SPREAD_SCALE * np.exp(out[-1].clip(*LOG_SPREAD))
    return _Pixels(expit(out[0]).ravel(), points.reshape(-1, 3, 2, 2), spreads.ravel(), maps)


def _settled(found: Detections, maps: np.ndarray, spacing_mm: float) -> Detections:
    """Each key point where its map, no farther than `MAP_REACH` pixels from its place, expects it."""
    from scipy.special import softmax

    first = found.keypoints.reshape(-1, POINTS, 2)[..., ::-1] / spacing_mm  # (row, column)
    first = first + (0.0, HALF_WIDTH_MM / SPACING_MM)
    reach = np.arange(-MAP_REACH, MAP_REACH + 1)
    around = np.stack(np.meshgrid(reach, reach, indexing="ij"), -1).reshape(-1, 2)
    at = np.round(first).astype(int)[..., None, :] + around  # (n, POINTS, pixels, 2)
    size = np.array(maps.shape[1:])
    held = np.all((at >= 0) & (at < size), axis=-1)
    row, column = np.moveaxis(at.clip(0, size - 1), -1, 0)
    weight = softmax(np.where(held, maps[np.arange(POINTS)[:, None], row, column], -1e9), -1)
    place = np.where(held.any(-1, keepdims=True), np.einsum("npk,npkx->npx", weight, at), first)
    settled = (place - (0.0, HALF_WIDTH_MM / SPACING_MM))[..., ::-1] * spacing_mm
    return replace(found, keypoints=settled.reshape(found.keypoints.shape))


def _offsets(out: np.ndarray) -> np.ndarray:
    """`(rows, columns, 6, 2)` offsets in mm of the 13-channel output."""
    offsets: np.ndarray = out[1:13].reshape(6, 2, *out.shape[1:]).transpose(2, 3, 0, 1) * OFFSET_SCALE_MM
    return offsets


def _decode(scores: np.ndarray, points: np.ndarray, spreads: np.ndarray, threshold: float) -> Detections:
    """Butterfly-IoU suppression, then a vote of the pixels around each survivor."""
    order = np.flatnonzero(scores > threshold)
    points, scores = points[order].reshape(-1, 3, 2, 2), scores[order]
    if len(scores) == 0:
        return Detections(np.empty((0, 3, 2, 2)), np.empty(0), np.empty(0))
    kept = suppress(points, scores, NMS_THRESHOLD)
    votes = np.stack([_votes(points, scores, i) for i in kept])
    voted = np.einsum("kc,cpex->kpex", votes, points)
    down = np.argsort(voted[..., 1].mean((1, 2)))
    return Detections(voted[down], scores[kept][down], (votes @ spreads[order])[down])


def _votes(points: np.ndarray, scores: np.ndarray, best: int) -> np.ndarray:
    """Weights of all candidates whose points lie within a third of a height of the best's, by score; their sum is 1."""
    reach = np.linalg.norm(points[best, :, 0] - points[best, :, 1], axis=-1).max() / 3
    distance = np.linalg.norm(points - points[best], axis=-1).mean((1, 2))
    weight = scores * (distance < reach)
    votes: np.ndarray = weight / weight.sum()
    return votes
