"""Detecting vertebrae with anchor boxes (Pisov et al. 2020): 16 boxes around each pixel of the straightened image.

The image and its places are those of `detector`. For each pixel and anchor the network gives an objectness logit and
the offsets of six key points, (A, row), in units of the anchor's width and height.

What the paper leaves out is chosen here: an anchor of scale s and aspect r is s * sqrt(r) wide and s / sqrt(r) tall;
the thresholds are those of Zakharov et al. 2023. The boxes that suppress one another are those around the six points.
The HU window is fixed, as for the detector, instead of zero mean and unit variance.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from .detector import AIR_HU, DEPTH, HALF_WIDTH_MM, SPACING_MM, Detections, window
from .predictor import Predictor

SCALES_MM = (17.0, 23.0, 28.0, 35.0)
ASPECTS = (0.8, 1.1, 1.3, 2.0)  # width : height
ANCHORS_MM = np.array([(s * r**0.5, s / r**0.5) for s, r in product(SCALES_MM, ASPECTS)])  # (16, 2): A, row
VALUES = 13  # of each anchor: objectness, six (A, row) offsets
POSITIVE_IOU = 0.5
SCORE_THRESHOLD = 0.7
SUPPRESSED_IOU = 0.1
MOST_CANDIDATES = 4000  # the best ones are kept: a vertebra has about a thousand


def detect_boxes(
    predict: Predictor,
    picture: np.ndarray,
    score_threshold: float = SCORE_THRESHOLD,
    spacing_mm: float = SPACING_MM,
    suppressed_iou: float = SUPPRESSED_IOU,
) -> Detections:
    """Detect the vertebrae in a straightened image `(rows, 128)` HU with pixels of `spacing_mm`, as the detector.

    The paper gives no standard deviation of G: the spreads are nan.
    """
    scores, points = _candidates(predict, picture, score_threshold)
    kept = suppress_boxes(points, scores, suppressed_iou)
    kept = kept[np.argsort(points[kept][..., 1].mean((1, 2)))]
    return Detections(points[kept] * spacing_mm, scores[kept], np.full(len(kept), np.nan))


def _candidates(predict: Predictor, picture: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return scores `(n,)` and key points `(n, 3, 2, 2)`, (A, row) pixels, of the anchors above `threshold`."""
    from scipy.special import expit

    rows, columns = picture.shape
    rest = [(0, -n % 2**DEPTH) for n in picture.shape]
    padded = np.pad(picture.astype(np.float32), rest, constant_values=AIR_HU)
    out = predict(window(padded)[None, None])[0][0, :, :rows, :columns].reshape(-1, VALUES, rows, columns)
    scores = expit(out[:, 0].astype(float))
    anchor, row, column = np.nonzero(scores > threshold)
    best = np.argsort(-scores[anchor, row, column], kind="stable")[:MOST_CANDIDATES]
    anchor, row, column = anchor[best], row[best], column[best]
    offsets = out[anchor, 1:, row, column].reshape(-1, 6, 2) * ANCHORS_MM[anchor][:, None]
    middles = np.stack([column - HALF_WIDTH_MM / SPACING_MM, row], -1)
    return scores[anchor, row, column], (middles[:, None] + offsets).reshape(-1, 3, 2, 2)


def boxes_around(points: np.ndarray) -> np.ndarray:
    """Return the axis-aligned boxes `(n, 4)`, (A low, row low, A high, row high), around points `(n, 3, 2, 2)`."""
    return np.concatenate([points.min((1, 2)), points.max((1, 2))], -1)


def box_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union `(n,)` of `box` `(4,)` with `boxes` `(n, 4)`."""
    sides = (np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(0)
    shared = sides.prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    iou: np.ndarray = shared / np.maximum((box[2:] - box[:2]).prod() + areas - shared, 1e-9)
    return iou


def suppress_boxes(points: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the indices that greedy suppression by box IoU keeps, best score first."""
    boxes, left, kept = boxes_around(points), np.argsort(-scores, kind="stable"), []
    while len(left):
        kept.append(left[0])
        left = left[box_iou(boxes[left[0]], boxes[left]) <= threshold] if len(left) > 1 else left[:0]
    return np.array(kept, int)
