"""Where screws lie in a vertebra, the dark band between them looks like a disc, and its two halves like two vertebrae.

Two that are low, have metal beside them, and together are as high as the neighbours lead to expect of one, are one.
Key points `(n, 3, 2, 3)` RAS mm, cranial to caudal.
"""

from __future__ import annotations

import numpy as np

from .ct import CTVolume
from .genant import expected_height, heights

METAL_HU = 2500.0  # 12-bit scans store 3071 where screws are; phantoms have cement of 1200 to 2800 HU
MOST_OF_A_HALF, WHOLE = 0.75, (0.8, 1.25)  # of the height that is expected of one vertebra
ACROSS_MM, AHEAD_MM = (-24.0, 24.0), (-45.0, 20.0)  # where screws and rods lie, from the middle of the bodies
STEP_MM = 2.0


def split_vertebrae(ct: CTVolume, keypoints: np.ndarray) -> list[int]:
    """The indices `i` of vertebrae that are the upper half of one, the lower half of which is `i + 1`."""
    found: list[int] = []
    for i in range(len(keypoints) - 1):
        if (not found or found[-1] < i - 1) and _are_halves(keypoints, i) and _holds_metal(ct, keypoints[i : i + 2]):
            found.append(i)
    return found


def joined(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The one vertebra `(3, 2, 3)` from the upper points of its upper half and the lower points of its lower half."""
    return np.stack([upper[:, 0], lower[:, 1]], 1)


def _are_halves(keypoints: np.ndarray, i: int) -> bool:
    one = joined(keypoints[i], keypoints[i + 1])
    means = heights(np.concatenate([keypoints[:i], one[None], keypoints[i + 2 :]])).mean(-1)
    expected = expected_height(means, i)
    halves = heights(keypoints[i : i + 2]).mean(-1) / expected
    return bool((halves < MOST_OF_A_HALF).all() and WHOLE[0] < means[i] / expected < WHOLE[1])


def _holds_metal(ct: CTVolume, pair: np.ndarray) -> bool:
    """Whether metal lies in the two, or beside or behind them."""
    up = pair[0, :, 0].mean(0) - pair[1, :, 1].mean(0)
    tall = np.linalg.norm(up)
    up = up / tall
    ahead = pair[:, 0].mean((0, 1)) - pair[:, 2].mean((0, 1))
    ahead = ahead - up * (ahead @ up)
    ahead = ahead / np.linalg.norm(ahead)
    spans = (ACROSS_MM, AHEAD_MM, (-tall / 2, tall / 2))
    steps = np.meshgrid(*(np.arange(low, high + STEP_MM, STEP_MM) for low, high in spans), indexing="ij")
    places = np.stack(steps, -1) @ np.stack([np.cross(ahead, up), ahead, up])
    return bool((ct.sample(pair.mean((0, 1, 2)) + places) > METAL_HU).any())
