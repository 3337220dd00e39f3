"""The vertebra detector: finds vertebrae with six key points in a straightened sagittal image (anchor-free).

The image is `(rows, columns)` HU at 1 mm; rows run along the arc (cranial first), columns along A (posterior first,
A = column - 64 mm). For each pixel the network gives an objectness logit, six (A, row) offsets in mm from the pixel to
the key points (Zakharov et al. 2023, section 2.2), and how much the pixel itself looks like each of the six points.

Departures from the paper:

- A fixed HU window instead of zero mean and unit variance, so that an image keeps its contrast if half of it is outside
  the field of view.
- A vertebra's points are first the score-weighted mean over all pixels that agree with the best pixel, instead of that
  pixel's points alone.
- Each point is then moved to the place that its own map indicates nearby, because a corner is seen better from close by
  than from the middle of the body 15 mm away. The width of the maps gives the standard deviation of G.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..spine.butterfly import NMS_THRESHOLD, suppress
from .predictor import Predictor

if TYPE_CHECKING:
    from torch import Tensor

HU = TypeVar("HU", np.ndarray, "Tensor")

SPACING_MM = 1.0
HALF_WIDTH_MM = 64.0
COLUMNS = 128
OFFSET_SCALE_MM = 16.0
OUTPUTS = 13  # objectness, six (A, row) offsets
POINTS = 6  # maps: anterior, middle, posterior x superior, inferior
MAP_REACH = 8  # pixels around a point's first place in which its map is used
WINDOW_HU = (-300.0, 1000.0)
AIR_HU = -1000.0
DEPTH = 4  # poolings: sides are padded to multiples of 2 ** DEPTH

# Logits of the maps are multiplied by this: of a deep depression, a wider mean misses less than the mode does.
MAP_SHARPNESS = 0.75
SPREAD_SCALE = 0.30  # calibrates the standard deviation of G, from the maps' widths, to scans: see the model card
SCORE_THRESHOLD = 0.7  # of the objectness, as in the paper


@dataclass(frozen=True)
class Detections:
    """The vertebrae of one image, cranial to caudal.

    `keypoints` `(n, 3, 2, 2)` are (A, row) mm; `scores` `(n,)` are objectness; `spreads` `(n,)` are the standard
    deviations of G.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    spreads: np.ndarray


def window(picture: HU) -> HU:
    """Scale HU of any shape to the network's input range; takes a numpy array or a torch tensor."""
    low, high = WINDOW_HU
    return (picture.clip(low, high) - 150.0) / 350.0


def pixel_positions(rows: int, columns: int, spacing_mm: float = SPACING_MM) -> np.ndarray:
    """Return (A, row) mm of every pixel, `(rows, columns, 2)`; A is 0 in column 64."""
    row, column = np.indices((rows, columns), np.float32)
    return np.stack([column - HALF_WIDTH_MM / SPACING_MM, row], -1) * spacing_mm


def detect(
    predict: Predictor, picture: np.ndarray, score_threshold: float = SCORE_THRESHOLD, spacing_mm: float = SPACING_MM
) -> Detections:
    """Detect the vertebrae in one straightened image `(rows, 128)` HU with pixels of `spacing_mm`.

    The network was trained with pixels of 1 mm; with smaller pixels, patients look larger to it.
    """
    scores, points, maps = _pixels(predict, picture, spacing_mm)
    return _settled(*_decode(scores, points, score_threshold), maps, spacing_mm)


def propose(
    predict: Predictor, picture: np.ndarray, anterior_mm: float, row_mm: float, spacing_mm: float = SPACING_MM
) -> Detections | None:
    """Return the vertebra that the network sees from one pixel of an image `(rows, 128)` HU, where a reader clicked.

    Its points are the mean over all pixels that agree with the clicked one, which takes part however low its objectness
    is. Return None if the pixel is outside the image.
    """
    row, column = round(row_mm / spacing_mm), round(anterior_mm / spacing_mm + HALF_WIDTH_MM / SPACING_MM)
    if not (0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]):
        return None
    scores, points, maps = _pixels(predict, picture, spacing_mm)
    clicked = row * picture.shape[1] + column
    votes = _votes(points, np.maximum(scores, np.arange(len(scores)) == clicked), clicked)
    return _settled(np.einsum("c,cpex->pex", votes, points)[None], scores[[clicked]], maps, spacing_mm)


def _pixels(predict: Predictor, picture: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return objectness `(n,)` and key points `(n, 3, 2, 2)`, (A, row) mm, of every pixel, and the maps of the points.

    The maps are `(POINTS, rows, columns)`.
    """
    from scipy.special import expit

    rows, columns = picture.shape
    rest = [(0, -n % 2**DEPTH) for n in picture.shape]
    padded = np.pad(picture.astype(np.float32), rest, constant_values=AIR_HU)
    out, maps = (x[0, :, :rows, :columns].astype(float) for x in predict(window(padded)[None, None]))
    points = pixel_positions(rows, columns, spacing_mm)[..., None, :] + _offsets(out) * (spacing_mm / SPACING_MM)
    return expit(out[0]).ravel(), points.reshape(-1, 3, 2, 2), maps


def _settled(points: np.ndarray, scores: np.ndarray, maps: np.ndarray, spacing_mm: float) -> Detections:
    """Move each key point `(n, 3, 2, 2)` to the mean of its map within `MAP_REACH` pixels of its first place."""
    from scipy.special import softmax

    first = points.reshape(-1, POINTS, 2)[..., ::-1] / spacing_mm  # (row, column)
    first = first + (0.0, HALF_WIDTH_MM / SPACING_MM)
    reach = np.arange(-MAP_REACH, MAP_REACH + 1)
    around = np.stack(np.meshgrid(reach, reach, indexing="ij"), -1).reshape(-1, 2)
    at = np.round(first).astype(int)[..., None, :] + around  # (n, POINTS, pixels, 2)
    size = np.array(maps.shape[1:])
    held = np.all((at >= 0) & (at < size), axis=-1)
    row, column = np.moveaxis(at.clip(0, size - 1), -1, 0)
    seen = MAP_SHARPNESS * maps[np.arange(POINTS)[:, None], row, column]
    weight = softmax(np.where(held, seen, -1e9), -1)
    place = np.where(held.any(-1, keepdims=True), np.einsum("npk,npkx->npx", weight, at), first)
    settled = ((place - (0.0, HALF_WIDTH_MM / SPACING_MM))[..., ::-1] * spacing_mm).reshape(points.shape)
    off = (np.einsum("npk,npk->np", weight, at[..., 0] ** 2) - place[..., 0] ** 2).clip(0) * spacing_mm**2
    return Detections(settled, scores, _spreads(settled, off.reshape(-1, 3, 2)))


def _spreads(points: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the standard deviation `(n,)` of G = min / max of the heights between `points` `(n, 3, 2, 2)` mm.

    `variances` `(n, 3, 2)` mm2 are those of the points along the spine, before the scale `SPREAD_SCALE`.
    """
    tall = np.linalg.norm(points[:, :, 0] - points[:, :, 1], axis=-1)
    relative = variances.sum(-1) / np.maximum(tall, 1.0) ** 2
    low, high = (np.take_along_axis(relative, i(tall, axis=1)[:, None], 1)[:, 0] for i in (np.argmin, np.argmax))
    spreads: np.ndarray = SPREAD_SCALE * tall.min(1) / np.maximum(tall.max(1), 1.0) * np.sqrt(low + high)
    return spreads


def _offsets(out: np.ndarray) -> np.ndarray:
    """Return the offsets `(rows, columns, 6, 2)` in mm from the network's output."""
    offsets: np.ndarray = out[1:13].reshape(6, 2, *out.shape[1:]).transpose(2, 3, 0, 1) * OFFSET_SCALE_MM
    return offsets


def _decode(scores: np.ndarray, points: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return key points `(n, 3, 2, 2)` and scores `(n,)` of the vertebrae.

    Butterfly-IoU suppression, then a weighted mean over the pixels that agree with each remaining one.
    """
    order = np.flatnonzero(scores > threshold)
    points, scores = points[order].reshape(-1, 3, 2, 2), scores[order]
    if len(scores) == 0:
        return points, scores
    kept = suppress(points, scores, NMS_THRESHOLD)
    votes = np.stack([_votes(points, scores, i) for i in kept])
    voted = np.einsum("kc,cpex->kpex", votes, points)
    down = np.argsort(voted[..., 1].mean((1, 2)))
    return voted[down], scores[kept][down]


def _votes(points: np.ndarray, scores: np.ndarray, best: int) -> np.ndarray:
    """Return the weights, by score, of the candidates whose points are within a third of a height of the best's.

    Their sum is 1.
    """
    reach = np.linalg.norm(points[best, :, 0] - points[best, :, 1], axis=-1).max() / 3
    distance = np.linalg.norm(points - points[best], axis=-1).mean((1, 2))
    weight = scores * (distance < reach)
    votes: np.ndarray = weight / weight.sum()
    return votes
