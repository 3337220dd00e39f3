"""The CT around a point of a slice view, sampled finer than the view shows it: what a loupe shows.

Pictures are `[row, column]`, from the top of the view and from its left. Points are RAS mm of the view.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..imaging.ct import CTVolume

HALF_MM = 45.0  # from the centre of the picture to its edges, a multiple of the pitch
PITCH_MM = 0.3

ToPatient = Callable[[np.ndarray], np.ndarray]


def sampled(
    ct: CTVolume,
    slice_to_ras: np.ndarray,
    center: np.ndarray,
    to_patient: ToPatient | None,
    half_mm: float = HALF_MM,
    pitch_mm: float = PITCH_MM,
) -> np.ndarray:
    """Return HU `(n, n)` around `center` `(3,)` in the plane of a slice view.

    Parameters
    ----------
    slice_to_ras : `(4, 4)`; its first columns point to the right and up in the view.
    to_patient : from the view to the patient, along each row affine, as straight space is; None for a patient's view.
    half_mm, pitch_mm : from the centre to the edges, and between samples.
    """
    right, up, _ = slice_to_ras[:3, :3].T
    steps = np.linspace(-half_mm, half_mm, round(2 * half_mm / pitch_mm) + 1)
    ends = center + half_mm * np.array([-right, right])[:, None] - steps[:, None] * up  # (2, n, 3)
    if to_patient is not None:
        ends = to_patient(ends)
    share = (steps + half_mm) / (2 * half_mm)
    return ct.sample(ends[0][:, None] + share[:, None] * (ends[1] - ends[0])[:, None])


def shades(hounsfield: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Return grey values 0 to 255, uint8, of HU with a window (width, level)."""
    width, level = window
    return np.clip(np.rint((hounsfield - level) / width * 255 + 127.5), 0, 255).astype(np.uint8)
