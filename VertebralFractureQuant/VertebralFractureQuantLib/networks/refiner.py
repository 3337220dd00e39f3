"""The spine refiner: finds the curve through the vertebral bodies, and likely levels, in a tube around a coarse curve.

At 4 mm the localizer finds the spine, but not its middle to a millimetre: a bright aorta displaces the curve. Therefore
the CT is sampled again along the coarse curve, at the resolution of Zakharov et al. 2023 (2 x 2 mm in planes normal to
the curve, every 4 mm), and given to the same kind of network. Ribs, facets, size and the sacrum, which it sees there,
also indicate the level: each slice gets log-probabilities over `levels.CLASSES`, here called looks. Tubes are
`[s, a, r]` in straight space: slices from caudal to cranial, rows towards anterior, columns towards R.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..imaging.ct import CTVolume
from ..spine.straightening import Straightening
from .localizer import AIR_HU, continuous_path, scale
from .predictor import Predictor

SLICE_MM = 4.0
SPACING_MM = 2.0
A_MM = (-48.0, 32.0)  # from the curve
R_MM = (-40.0, 40.0)
DEPTH = 3
# The voxels are larger than in training by this factor, so that patients look smaller: at their true size, real
# vertebrae look like those one level lower.
ZOOM = 1.06
# A bright vessel beside the body may look like bone in some slices. The mean of each slice's map is therefore taken
# under a window around the path that explains all slices best, and the window moves to that mean until it rests: what
# lies a body's width aside has no weight. The path is sought in the map blurred to the size of a small body, and near
# the coarse curve, which is mostly right within 5 mm.
BODY_MM, COARSE_MM, WINDOW_MM = 6.0, 10.0, 12.0  # standard deviations
WINDOW_STEPS = 12


@dataclass(frozen=True)
class Refined:
    """By slice, caudal first: the body's middle `(s, 3)` in straight mm, and the look `(s, len(levels.CLASSES))`."""

    middles: np.ndarray
    looks: np.ndarray

    def looks_at(self, arc: float, height: float) -> np.ndarray:
        """Return the mean look of the slices of a vertebra `height` mm tall, centred at `arc` mm.

        All classes are equally likely if there is no such slice.
        """
        inside = np.abs(-self.middles[:, 2] - arc) <= height / 2
        look: np.ndarray = (
            self.looks[inside].mean(0) if inside.any() else np.full(self.looks.shape[1], -np.log(self.looks.shape[1]))
        )
        return look


def tube_arcs(length: float, zoom: float = 1.0) -> np.ndarray:
    """Return the arc lengths, descending, of a tube's slices on a curve of `length` mm.

    Voxels and tube are `zoom` times as large as in training.
    """
    return np.arange(length, 0.0, -SLICE_MM * zoom)


def tube_grid(arcs: np.ndarray, zoom: float = 1.0) -> np.ndarray:
    """Return the straight-space points `(s, a, r, 3)` mm of a tube's voxels, also `zoom` times as large."""
    return np.stack(np.meshgrid(-arcs, *tube_axes(zoom), indexing="ij"), -1)[..., ::-1]


def tube_axes(zoom: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return A and R, mm, of the voxels of a tube's slices."""
    a, r = (zoom * (np.arange(low, high, SPACING_MM) + SPACING_MM / 2) for low, high in (A_MM, R_MM))
    return a, r


def refine(predict: Predictor, ct: CTVolume, straightening: Straightening) -> Refined:
    """Apply the refiner to `ct` along the coarse curve of `straightening`."""
    arcs = tube_arcs(straightening.curve.length, ZOOM)
    tube = ct.sample(straightening.grid(arcs, *tube_axes(ZOOM)), fill=AIR_HU)
    rest = [(0, -n % 2**DEPTH) for n in tube.shape]
    padded = np.pad(tube.astype(np.float32), rest, constant_values=AIR_HU)
    heat, looks = predict(scale(padded)[None, None])
    slices, rows, columns = tube.shape
    place = ZOOM * (middle_voxels(heat[0, :slices, :rows, :columns]) * SPACING_MM + SPACING_MM / 2 + (A_MM[0], R_MM[0]))
    middles = np.column_stack([place[:, 1], place[:, 0], -arcs])
    look = looks[0, :, :slices].T
    return Refined(middles, look - np.logaddexp.reduce(look, axis=1, keepdims=True))


def middle_voxels(heat: np.ndarray) -> np.ndarray:
    """Return the (a, r) voxel position `(s, 2)` of the body's middle on every slice of `heat` `(s, a, r)`."""
    from scipy.ndimage import gaussian_filter
    from scipy.special import logit, softmax

    weight = softmax(heat, (1, 2))
    places = [np.arange(n, dtype=float) for n in heat.shape[1:]]
    coarse = -np.array([A_MM[0], R_MM[0]]) / SPACING_MM - 0.5
    likely = gaussian_filter(weight, (0, BODY_MM / SPACING_MM, BODY_MM / SPACING_MM))
    likely = _windowed(likely / likely.max((1, 2), keepdims=True), places, coarse[None], COARSE_MM)
    middle = continuous_path(logit(likely.clip(1e-4, 1 - 1e-4))).astype(float)
    for _ in range(WINDOW_STEPS):
        seen = _windowed(weight, places, middle, WINDOW_MM)
        total = seen.sum((1, 2)) + np.finfo(float).tiny
        middle = np.stack([seen.sum(2) @ places[0], seen.sum(1) @ places[1]], -1) / total[:, None]
    return middle


def _windowed(weight: np.ndarray, places: list[np.ndarray], middle: np.ndarray, width_mm: float) -> np.ndarray:
    """Return `weight` `(s, a, r)` under a Gaussian window around `middle` `(s, 2)` or `(1, 2)`, voxels."""
    width = 2 * (width_mm / SPACING_MM) ** 2
    near_a, near_r = (np.exp(-((x - middle[:, i, None]) ** 2) / width) for i, x in enumerate(places))
    return weight * near_a[:, :, None] * near_r[:, None, :]
