"""The spine refiner: the tube around a coarse curve in, the curve through the vertebral bodies and level looks out.

The localizer's 4 mm see a spine, but not its middle to a millimetre: a bright aorta draws the curve aside. So the
CT is sampled again along the coarse curve, at the resolution of Zakharov et al. 2023 (2 x 2 mm in planes normal to
the curve, every 4 mm), and the same kind of network looks once more. What it sees there, ribs, facets, size and the
sacrum, also tells the level: each slice gets log-probabilities over `levels.CLASSES`.
Tubes are `[s, a, r]` in straight space: slices from caudal to cranial, rows towards anterior, columns towards R.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..imaging.ct import CTVolume
from ..spine.straightening import Straightening
from .localizer import AIR_HU, scale, soft_argmax
from .predictor import Predictor

SLICE_MM = 4.0
SPACING_MM = 2.0
A_MM = (-48.0, 32.0)  # from the curve
R_MM = (-40.0, 40.0)
DEPTH = 3
# Larger voxels than those that the network learned from, in which patients look smaller: at their own size real
# vertebrae look a level lower than they are.
ZOOM = 1.06


@dataclass(frozen=True)
class Refined:
    """By slice, caudal first: the body's middle `(s, 3)` straight mm, and the look `(s, len(levels.CLASSES))`."""

    middles: np.ndarray
    looks: np.ndarray

    def looks_at(self, arc: float, height: float) -> np.ndarray:
        """The mean look of the slices of a vertebra `height` mm tall, centred at `arc` mm; all classes alike beyond."""
        inside = np.abs(-self.middles[:, 2] - arc) <= height / 2
        look: np.ndarray = (
            self.looks[inside].mean(0) if inside.any() else np.full(self.looks.shape[1], -np.log(self.looks.shape[1]))
        )
        return look


def tube_arcs(length: float, zoom: float = 1.0) -> np.ndarray:
    """Arc lengths of a tube's slices on a curve of `length` mm, falling; voxels and tube `zoom` times as large."""
    return np.arange(length, 0.0, -SLICE_MM * zoom)


def tube_grid(arcs: np.ndarray, zoom: float = 1.0) -> np.ndarray:
    """Straight-space points `(s, a, r, 3)` mm of a tube's voxels, which are `zoom` times as large across."""
    a, r = (zoom * (np.arange(low, high, SPACING_MM) + SPACING_MM / 2) for low, high in (A_MM, R_MM))
    return np.stack(np.meshgrid(-arcs, a, r, indexing="ij"), -1)[..., ::-1]


def refine(predict: Predictor, ct: CTVolume, straightening: Straightening) -> Refined:
    """Look at `ct` along the coarse curve of `straightening`."""
    arcs = tube_arcs(straightening.curve.length, ZOOM)
    tube = ct.sample(straightening.to_patient(tube_grid(arcs, ZOOM)), fill=AIR_HU)
    rest = [(0, -n % 2**DEPTH) for n in tube.shape]
    padded = np.pad(tube.astype(np.float32), rest, constant_values=AIR_HU)
    heat, looks = predict(scale(padded)[None, None])
    slices, rows, columns = tube.shape
    place = ZOOM * (soft_argmax(heat[0, :slices, :rows, :columns]) * SPACING_MM + SPACING_MM / 2 + (A_MM[0], R_MM[0]))
    middles = np.column_stack([place[:, 1], place[:, 0], -arcs])
    look = looks[0, :, :slices].T
    return Refined(middles, look - np.logaddexp.reduce(look, axis=1, keepdims=True))
