"""The two panels of the overview image: the straightened sagittal plane, and a sagittal of the patient.

A panel shows HU in the radiologist's view (anterior on the left, cranial up). Its coordinates are mm [A, S]. Drawing is
left to `overview`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..imaging.ct import CTVolume
from ..spine.curve import SpineCurve, fit_curve
from ..spine.record import SpineAnalysis
from ..spine.straightening import AIR, Straightening

HALF_WIDTH_MM = 42.0  # of the straightened panel
ANTERIOR_MM, POSTERIOR_MM = 75.0, 60.0  # around the curve, in the patient's sagittal
MARGIN_MM = 14.0  # above the first and below the last vertebra
PIXEL_MM = 0.5


@dataclass(frozen=True)
class Panel:
    """An image with key points.

    Attributes
    ----------
    title : heading of the panel.
    image : `(rows, columns)` HU.
    across, up : pixel centres along A and S in mm.
    points : key points `(n, 3, 2, 2)` [A, S] mm.
    bar_mm : length of the scale bar.
    """

    title: str
    image: np.ndarray
    across: np.ndarray
    up: np.ndarray
    points: np.ndarray
    bar_mm: float

    @property
    def width(self) -> float:
        """Width from edge to edge in mm."""
        return float(np.ptp(self.across)) + PIXEL_MM

    @property
    def height(self) -> float:
        """Height from edge to edge in mm."""
        return float(np.ptp(self.up)) + PIXEL_MM


def straightened_panel(analysis: SpineAnalysis, ct: CTVolume, curve: SpineCurve) -> Panel:
    """Return the plane along the curve; `up` is S in straight space (0 at the upper end of the curve)."""
    straightening = Straightening(curve)
    points = straightening.to_straight(_keypoints(analysis))[..., 1:]
    picture = straightening.sample_sagittal(ct, HALF_WIDTH_MM, PIXEL_MM)
    up = -PIXEL_MM * np.arange(len(picture))
    low, high = _span(points[..., 1], up[-1], up[0])
    shown = (up >= low) & (up <= high)
    across = np.linspace(-HALF_WIDTH_MM, HALF_WIDTH_MM, picture.shape[1])
    return Panel("Straightened sagittal", picture[shown], across, up[shown], points, 10.0)


def stored_panel(analysis: SpineAnalysis, stored: CTVolume) -> Panel:
    """Return the middle plane of the straightened volume that `outputs.write_straightened` wrote, like the above."""
    points = Straightening(fit_curve(analysis.curve)).to_straight(_keypoints(analysis))[..., 1:]
    low, high = _span(points[..., 1], 1.0 - stored.voxels.shape[0], 0.0)
    up = np.arange(high, low, -PIXEL_MM)
    across = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + PIXEL_MM, PIXEL_MM)
    grid = np.zeros((len(up), len(across), 3))
    grid[..., 1], grid[..., 2] = across[None], up[:, None]
    return Panel("Straightened sagittal", stored.sample(grid, fill=AIR), across, up, points, 10.0)


def patient_panel(analysis: SpineAnalysis, ct: CTVolume, curve: SpineCurve) -> Panel:
    """Return a sagittal whose R follows the curve at each S, so that a scoliotic spine stays in the image."""
    points = _keypoints(analysis)[..., 1:]
    lowest, highest = _bounds(ct)
    # The borders of the volume limit the image, not the ends of the curve: the outermost vertebrae may reach farther.
    low, high = _span(points[..., 1] if points.size else curve.points[:, 2], lowest[2], highest[2])
    up = np.arange(high, low, -PIXEL_MM)
    seen = curve.points[(curve.points[:, 2] >= low) & (curve.points[:, 2] <= high)]
    across = np.arange(
        max(seen[:, 1].min() - POSTERIOR_MM, lowest[1]), min(seen[:, 1].max() + ANTERIOR_MM, highest[1]), PIXEL_MM
    )
    order = np.argsort(curve.points[:, 2])
    right = np.interp(up, curve.points[order, 2], curve.points[order, 0])
    grid = np.empty((len(up), len(across), 3))
    grid[..., 0], grid[..., 1], grid[..., 2] = right[:, None], across[None], up[:, None]
    return Panel("Sagittal through the spine", ct.sample(grid, fill=AIR), across, up, points, 50.0)


def _keypoints(analysis: SpineAnalysis) -> np.ndarray:
    return np.array([v.keypoints for v in analysis.vertebrae], float).reshape(-1, 3, 2, 3)


def _span(heights: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The part of [low, high] that contains the vertebrae with a margin; all of it without vertebrae."""
    if heights.size == 0:
        return float(low), float(high)
    return max(float(low), heights.min() - MARGIN_MM), min(float(high), heights.max() + MARGIN_MM)


def _bounds(ct: CTVolume) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest R, A, S of the corners of the volume."""
    last = np.array(ct.voxels.shape[::-1]) - 1
    corners = np.stack(np.meshgrid(*[(0, n) for n in last], indexing="ij"), axis=-1).reshape(-1, 3)
    ras = corners @ ct.ijk_to_ras[:3, :3].T + ct.ijk_to_ras[:3, 3]
    return ras.min(0), ras.max(0)
