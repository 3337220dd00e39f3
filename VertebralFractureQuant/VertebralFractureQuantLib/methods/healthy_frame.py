"""The frame in which a vertebra is synthesised as it was before it broke: a widened crop of a straightened image.

A straightened image is `(rows, 128)` HU at 1 mm, key points in it are (A, row) mm, as for the detector. The frame is
`(ROWS, COLUMNS)`: the image above the vertebra, a band of `BAND` rows that hides it, and the image below. The band is
as tall for every vertebra, so that nothing in the frame says how tall this one is today (HealthiVert-GAN 2025,
self-adaptive height restoration).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..networks.detector import HALF_WIDTH_MM
from ..spine.genant import expected_height, genant_ratio, heights

ROWS, COLUMNS, BAND = 160, 64, 48
OUTSIDE = (ROWS - BAND) // 2  # rows above and below the band
MARGIN = 2  # rows beyond the outermost points that are hidden as well
WINDOW_HU = (-300.0, 800.0)  # as in the paper
# A neighbour with so little of its height left gets no attention; with so much, all.
NO_ATTENTION, FULL_ATTENTION = 0.65, 0.85


@dataclass(frozen=True)
class Frame:
    """The frame of one vertebra.

    Attributes
    ----------
    ct : `(ROWS, COLUMNS)`, -1 to 1 in `WINDOW_HU`; 0 in the band.
    attention : `(ROWS,)`, 0 to 1: how far the network may look at each row; 0 at a neighbour that is crushed.
    rows : first and last hidden row of the image, the last one excluded.
    left : column of the image that is the frame's first.
    """

    ct: np.ndarray
    attention: np.ndarray
    rows: tuple[int, int]
    left: int

    @property
    def channels(self) -> np.ndarray:
        """The input of the network `(3, ROWS, COLUMNS)` float32: CT, band, attention."""
        band = np.zeros((ROWS, COLUMNS), np.float32)
        band[OUTSIDE : OUTSIDE + BAND] = 1
        attention = np.broadcast_to(self.attention[:, None], band.shape)
        return np.stack([self.ct, band, attention]).astype(np.float32)


def frame_of(picture: np.ndarray, keypoints: np.ndarray, index: int) -> Frame:
    """Return the frame of vertebra `index`.

    picture : `(rows, 128)` HU; keypoints : `(n, 3, 2, 2)` (A, row) mm of all vertebrae, cranial first.
    """
    first, last = hidden_rows(keypoints[index])
    left = left_column(keypoints[index])
    seen = scaled(crop(picture, first - OUTSIDE, last - first + 2 * OUTSIDE, left))
    ct = np.concatenate([seen[:OUTSIDE], np.zeros((BAND, COLUMNS)), seen[-OUTSIDE:]])
    rows = np.r_[first - OUTSIDE : first, np.full(BAND, -(10**6)), last : last + OUTSIDE]
    return Frame(ct, attention(keypoints, rows, index), (first, last), left)


def spread(seen: np.ndarray, fill: float) -> np.ndarray:
    """Place consecutive rows `(2 * OUTSIDE + tall, ...)` of an image in a frame `(ROWS, ...)`.

    The vertebra stands in the middle of the band; what is left of the band is `fill`.
    """
    tall = len(seen) - 2 * OUTSIDE
    top = OUTSIDE + (BAND - tall) // 2
    out = np.full((ROWS, *seen.shape[1:]), fill, float)
    out[:OUTSIDE], out[top : top + tall], out[-OUTSIDE:] = seen[:OUTSIDE], seen[OUTSIDE:-OUTSIDE], seen[-OUTSIDE:]
    return out


def hidden_rows(points: np.ndarray) -> tuple[int, int]:
    """Return the first row that is hidden and the first below it that is not, for key points `(3, 2, 2)`."""
    across = np.arange(points[..., 0].min(), points[..., 0].max() + 0.5)
    upper, lower = np.round(endplate_rows(points, across), 6)
    return int(np.floor(upper.min())) - MARGIN, int(np.ceil(lower.max())) + 1 + MARGIN


def left_column(points: np.ndarray) -> int:
    """Return the column of the image that is the frame's first: the body is in the middle of the frame."""
    return round(float(points[..., 0].mean()) + HALF_WIDTH_MM) - COLUMNS // 2


def crop(picture: np.ndarray, first: int, count: int, left: int, fill: float = -1000.0) -> np.ndarray:
    """Return `count` rows from row `first` and `COLUMNS` columns from column `left`; `fill` outside of the image."""
    out = np.full((count, COLUMNS), fill)
    rows, columns = picture.shape
    top, bottom, right = max(first, 0), min(first + count, rows), min(left + COLUMNS, columns)
    start = max(left, 0)
    if top < bottom and start < right:
        out[top - first : bottom - first, start - left : right - left] = picture[top:bottom, start:right]
    return out


def scaled(hu: np.ndarray) -> np.ndarray:
    """Return HU as -1 to 1 in `WINDOW_HU`."""
    low, high = WINDOW_HU
    return (np.clip(hu, low, high) - low) / (high - low) * 2 - 1


def unscaled(ct: np.ndarray) -> np.ndarray:
    """Return the HU of `scaled` values."""
    low, high = WINDOW_HU
    return (np.asarray(ct) + 1) / 2 * (high - low) + low


def endplate_rows(points: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return the rows `(2, n)` of both endplates at `across` `(n,)` A mm: parabolas through the points, flat beyond."""
    found = []
    for end in (0, 1):
        a, row = points[::-1, end].T
        found.append(np.polyval(np.polyfit(a, row, 2), np.clip(across, a[0], a[2])))
    return np.stack(found)


def body_mask(points: np.ndarray, first: int, count: int, left: int) -> np.ndarray:
    """Return the body of key points `(3, 2, 2)` as shares of pixels `(count, COLUMNS)`, 0 to 1, see `crop`.

    Endplates are parabolas through the three points, walls straight lines between the corners.
    """
    across = np.arange(left, left + COLUMNS) - HALF_WIDTH_MM
    row = np.arange(first, first + count)[:, None]
    upper, lower = endplate_rows(points, across)
    tall = np.clip(np.minimum(row + 0.5, lower) - np.maximum(row - 0.5, upper), 0, 1)
    back, front = (np.interp(row, points[p, :, 1], points[p, :, 0]) for p in (2, 0))
    deep = np.clip(np.minimum(across + 0.5, front) - np.maximum(across - 0.5, back), 0, 1)
    return tall * deep


def remaining(heights_mm: np.ndarray) -> np.ndarray:
    """Return what remains of each vertebra `(n,)` from heights `(n, 3)` mm, cranial first.

    G or, if lower, the mean height relative to what the neighbours predict: in a crush G is near 1.
    """
    means = heights_mm.mean(1)
    parts = [mean / expected_height(means, i) for i, mean in enumerate(means)]
    return np.fmin([genant_ratio(h) for h in heights_mm], parts)


def attention(keypoints: np.ndarray, rows: np.ndarray, index: int) -> np.ndarray:
    """Return how far the network may look at `rows` `(m,)` of the image: away from fractured neighbours, 0 to 1."""
    out = np.ones(len(rows))
    part = remaining(heights(keypoints)) if len(keypoints) > 1 else np.ones(1)
    weight = np.clip((part - NO_ATTENTION) / (FULL_ATTENTION - NO_ATTENTION), 0, 1)
    for i, points in enumerate(keypoints):
        if i != index:
            low, high = points[..., 1].min() - 1, points[..., 1].max() + 1
            out[(rows >= low) & (rows <= high)] = weight[i]
    return out
