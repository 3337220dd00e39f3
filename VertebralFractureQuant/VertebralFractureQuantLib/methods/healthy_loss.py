"""Height loss of a vertebra against its synthetic healthy body: RHLV by thirds, and heights at the six key points.

Masks are shares of pixels `(ROWS, COLUMNS)` of `healthy_frame`, 0 to 1. The height of a column is the sum of its
shares in rows, so that it is finer than a row. RHLV = 1 - measured / synthetic (HealthiVert-GAN 2025), not clamped:
a vertebra that is taller than its synthetic body has a negative loss.
"""

from __future__ import annotations

import numpy as np

LEAST_SHARE = 0.67  # of the middle column's height: lower columns are walls and corners
LEAST_COLUMNS = 6


def column_heights(mask: np.ndarray) -> np.ndarray:
    """Return the heights `(COLUMNS,)` of a mask's columns, in rows."""
    heights: np.ndarray = np.asarray(mask, float).sum(-2)
    return heights


def tall_columns(columns: np.ndarray) -> np.ndarray:
    """Return the indices of the columns of a healthy body `(COLUMNS,)`: those next to the middle one that are tall.

    They are posterior first, and none if there is no body.
    """
    total = columns.sum()
    if total <= 1:
        return np.arange(0)
    middle = round(float(columns @ np.arange(len(columns)) / total))
    low = columns < LEAST_SHARE * np.median(columns[max(middle - 2, 0) : middle + 3])
    before, after = np.flatnonzero(low[:middle]), np.flatnonzero(low[middle:])
    first = before[-1] + 1 if len(before) else 0
    last = middle + after[0] if len(after) else len(columns)
    return np.arange(first, last)


def thirds(synthetic: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the mean heights `(3,)` in rows of the thirds [anterior, middle, posterior]: synthetic and measured.

    synthetic, measured : heights of columns `(COLUMNS,)`. The thirds are those of the synthetic body; columns that the
    measured body does not reach are left out. None if the synthetic body has too few columns.
    """
    tall = tall_columns(synthetic)
    if len(tall) < LEAST_COLUMNS:
        return None
    both: list[tuple[float, float]] = []
    for third in np.array_split(tall, 3)[::-1]:
        there = third[measured[third] > 1.0]
        if not len(there):
            return None
        both.append((float(synthetic[there].mean()), float(measured[there].mean())))
    found = np.array(both)
    return found[:, 0], found[:, 1]


def at_points(synthetic: np.ndarray, measured: np.ndarray) -> np.ndarray | None:
    """Return 1 - measured / synthetic height `(3,)` at the front, the middle and the back of the synthetic body.

    Both are parabolas through the heights of columns `(COLUMNS,)`. None as `thirds`.
    """
    tall = tall_columns(synthetic)
    tall = tall[measured[tall] > 1.0]
    if len(tall) < LEAST_COLUMNS:
        return None
    x = np.linspace(-1, 1, len(tall))  # posterior to anterior
    healthy, found = (
        np.polyval(np.polyfit(x, heights[tall], 2), [1.0, 0.0, -1.0]) for heights in (synthetic, measured)
    )
    loss: np.ndarray = 1 - found / healthy
    return loss
