"""Straightening: patient RAS mm to straight space and back, and sampling of a CT along the spine's curve.

Straight space is R, A, S in mm as well. S = -(arc length): cranial is up, 0 is the curve's cranial end. A is anterior
and R the patient's right, both measured from the curve in the plane normal to it. A straightened sagittal image has
rows along the arc (cranial first) and columns along A (posterior first).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .curve import SpineCurve

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume

AIR = -1000.0
CONVERGED_MM = 1e-10
POINTS_AT_ONCE = 20_000  # limits the memory of the search for the nearest point of the curve


@dataclass(frozen=True, eq=False)
class Straightening:
    """Maps patient to straight space and back, one to one within the curve's radius of curvature."""

    curve: SpineCurve

    def to_patient(self, straight: np.ndarray) -> np.ndarray:
        """Map straight [R, A, S] `(..., 3)` mm to patient RAS mm."""
        straight = np.asarray(straight, float)
        flat = straight.reshape(-1, 3)
        origin, frames = self.curve.at(-flat[:, 2])
        patient = origin + flat[:, :1] * frames[:, 0] + flat[:, 1:2] * frames[:, 1]
        return patient.reshape(straight.shape)

    def grid(self, arcs: np.ndarray, anterior_mm: np.ndarray, right_mm: np.ndarray) -> np.ndarray:
        """Return patient RAS mm points `(s, a, r, 3)` in the planes normal to the curve at `arcs` `(s,)` mm.

        They are what `to_patient` returns for the same points. The curve is evaluated once for each plane.
        """
        origin, frames = (x[:, None, None] for x in self.curve.at(arcs))
        sideways = origin + right_mm[:, None] * frames[..., 0, :]
        return sideways + anterior_mm[:, None, None] * frames[..., 1, :]

    def to_straight(self, patient: np.ndarray, iterations: int = 20) -> np.ndarray:
        """Map patient RAS `(..., 3)` mm to straight [R, A, S] mm.

        Newton's method finds the arc length whose normal plane contains the point.
        """
        patient = np.asarray(patient, float)
        flat = patient.reshape(-1, 3)
        arc = self._nearest_arc(flat)
        for _ in range(iterations):
            step = self._along_tangent(flat, arc)
            arc = arc + step
            if not (np.abs(step) > CONVERGED_MM).any():
                break
        origin, frames = self.curve.at(arc)
        local = np.einsum("nij,nj->ni", frames, flat - origin)
        straight = np.stack([local[:, 0], local[:, 1], -arc], axis=1)
        return straight.reshape(patient.shape)

    def _nearest_arc(self, patient: np.ndarray) -> np.ndarray:
        coarse = self.curve.points[::4]
        blocks = np.array_split(patient, len(patient) // POINTS_AT_ONCE + 1)
        nearest = [np.linalg.norm(b[:, None] - coarse[None], axis=-1).argmin(1) for b in blocks]
        return np.concatenate(nearest) * 4.0 * self.curve.step

    def _along_tangent(self, patient: np.ndarray, arc: np.ndarray) -> np.ndarray:
        """Return one damped Newton step of (p - c(s)) . t(s) = 0."""
        origin, frames = self.curve.at(arc)
        h = self.curve.step
        _, ahead = self.curve.at(arc + h)
        _, behind = self.curve.at(arc - h)
        offset = patient - origin
        value = -(offset * frames[:, 2]).sum(-1)
        bend = -(offset * (ahead[:, 2] - behind[:, 2])).sum(-1) / (2 * h)
        return np.clip(value / np.maximum(1 - bend, 0.2), -8.0, 8.0)

    def sagittal_grid(self, half_width_mm: float, spacing_mm: float = 1.0, lateral_mm: float = 0.0) -> np.ndarray:
        """Return patient RAS mm points `(rows, columns, 3)` of the sagittal plane `lateral_mm` right of the curve.

        Rows run along the arc from 0 every `spacing_mm`, columns along A from -half_width to +half_width.
        """
        return next(self._grids(half_width_mm, spacing_mm, [lateral_mm]))

    def _grids(self, half_width_mm: float, spacing_mm: float, laterals_mm: Iterable[float]) -> Iterator[np.ndarray]:
        """Yield the grid of each lateral offset; the curve is evaluated once."""
        arc = np.arange(0, self.curve.length + 1e-6, spacing_mm)
        across = np.arange(-half_width_mm, half_width_mm + 1e-6, spacing_mm)
        origin, frames = self.curve.at(arc)
        anterior = across[None, :, None] * frames[:, None, 1]
        for lateral_mm in laterals_mm:
            yield (origin + lateral_mm * frames[:, 0])[:, None] + anterior

    def sample_sagittal(
        self, ct: CTVolume, half_width_mm: float, spacing_mm: float = 1.0, lateral_mm: float = 0.0
    ) -> np.ndarray:
        """Return the straightened sagittal image `(rows, columns)` in HU, trilinear; air outside the volume."""
        return ct.sample(self.sagittal_grid(half_width_mm, spacing_mm, lateral_mm), fill=AIR)

    def sample_slab(
        self, ct: CTVolume, half_width_mm: float, laterals_mm: np.ndarray, spacing_mm: float = 1.0
    ) -> np.ndarray:
        """Return parallel sagittal images `(len(laterals), rows, columns)` in HU, one for each lateral offset, mm."""
        grids = self._grids(half_width_mm, spacing_mm, map(float, laterals_mm))
        return np.stack([ct.sample(grid, fill=AIR) for grid in grids])
