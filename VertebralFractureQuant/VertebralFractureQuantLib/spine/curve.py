"""The spine's curve: a smooth line through the vertebral bodies, from cranial to caudal, by arc length in mm.

Points and tangents are RAS mm. Each point has a right-handed frame [right, anterior, up]. `up` is minus the tangent
(cranial). `anterior` stays in the sagittal plane, so the frame does not twist along the curve (Zakharov et al. 2023,
"the second basis vector stays in the sagittal plane").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

PATIENT_RIGHT = np.array([1.0, 0.0, 0.0])
WHOLE_STEP = 0.01  # a last step counts as whole if it lacks less than this share: stored curves are rounded
FINER = 10  # arc lengths are measured on a polyline with this many segments per step


@dataclass(frozen=True, eq=False)
class SpineCurve:
    """Equidistant samples of a spine's curve.

    Attributes
    ----------
    points : `(n, 3)` RAS mm, cranial first, each `step` from the next along the curve.
    step : arc length between neighbouring points, mm.
    """

    points: np.ndarray
    step: float = 1.0

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 3 or len(self.points) < 3:
            raise ValueError(f"a curve needs at least three points (n, 3), got {self.points.shape}")

    @property
    def length(self) -> float:
        """Arc length in mm."""
        return (len(self.points) - 1) * self.step

    @cached_property
    def tangents(self) -> np.ndarray:
        """Unit vectors `(n, 3)` towards caudal."""
        return _unit(np.gradient(self.points, axis=0))

    @cached_property
    def frames(self) -> np.ndarray:
        """Frames `(n, 3, 3)` in RAS: rows right, anterior, up at every point."""
        up = -self.tangents
        anterior = _unit(np.cross(up, PATIENT_RIGHT))
        right = np.cross(anterior, up)
        return np.stack([right, anterior, up], axis=1)

    @cached_property
    def curvatures(self) -> np.ndarray:
        """Derivatives `(n, 3)` of the tangent by arc length, 1/mm."""
        return np.gradient(self.tangents, self.step, axis=0)

    def at(self, arc_length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points `(m, 3)` and frames `(m, 3, 3)` at arc lengths `(m,)` mm.

        Beyond its ends the curve continues straight.
        """
        position = np.asarray(arc_length, float) / self.step
        inside = np.clip(position, 0, len(self.points) - 1)
        low = np.minimum(inside.astype(int), len(self.points) - 2)
        weight = (inside - low)[..., None]
        points = self.points[low] * (1 - weight) + self.points[low + 1] * weight
        frames = self.frames[low] * (1 - weight[..., None]) + self.frames[low + 1] * weight[..., None]
        frames = _orthonormal(frames)
        beyond = (position - inside)[..., None] * self.step
        return points - beyond * frames[..., 2, :], frames

    def distance_to(self, points: np.ndarray) -> np.ndarray:
        """Return the shortest distances `(m,)` mm from RAS mm points `(m, 3)` to the curve's polyline."""
        from scipy.spatial import cKDTree  # heavy import, needed by evaluation only

        fine = np.arange(0, self.length + 0.05, 0.1)
        return cKDTree(self.at(fine)[0]).query(np.asarray(points, float))[0]


def fit_curve(points: np.ndarray, smoothing_mm: float = 0.0, step: float = 1.0) -> SpineCurve:
    """Fit a smooth curve to ordered points `(n, 3)` RAS mm (in either direction), resampled every `step` mm.

    `smoothing_mm` is the standard deviation of a Gaussian along the curve that removes the localizer's noise. Both ends
    are continued by point reflection, so they are not drawn inward. The cranial end is kept exactly, the caudal end to
    within a step. Fitting a fitted curve again changes nothing.
    ValueError for fewer than three distinct points, points that are not finite, or a length below two steps.
    """
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(f"a curve needs finite points (n, 3), got {points.shape}")
    points = points[np.linalg.norm(np.diff(points, axis=0, prepend=points[:1] - 1), axis=1) > 1e-6]
    if len(points) < 3:
        raise ValueError("a curve needs at least three distinct points")
    if points[0, 2] < points[-1, 2]:
        points = points[::-1]
    if smoothing_mm > 0:
        points = smoothed(_resample(points, step, to_the_end=True), smoothing_mm / step)
    return SpineCurve(_resample(points, step), step)


def _resample(points: np.ndarray, step: float, to_the_end: bool = False) -> np.ndarray:
    """Return points `step` apart by arc length on a cubic through `points`.

    The last one ends the last whole step, less than a step before the last of `points`. With `to_the_end` it lies
    exactly there, and the step is a little shorter.
    """
    chords = _arc_lengths(points)
    fine = np.linspace(0, chords[-1], FINER * int(np.ceil(chords[-1] / step)) + 1)
    arc = _arc_lengths(cubic(chords, points, fine))
    count = int(np.floor(arc[-1] / step + WHOLE_STEP))
    if count < 2:
        raise ValueError(f"a curve needs at least two steps of {step} mm, got {arc[-1]:.2f} mm")
    wanted = np.linspace(0, arc[-1], count + 2) if to_the_end else np.arange(count + 1) * step
    beyond = np.maximum(wanted - arc[-1], 0)
    return cubic(chords, points, np.interp(wanted, arc, fine) + beyond)


def _arc_lengths(points: np.ndarray) -> np.ndarray:
    return np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]


def cubic(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolate `y` `(n, d)`, given at ascending `x` `(n,)`, by cubic Hermite pieces; return the values `at` `(m,)`.

    Slopes are central differences, so each value acts locally.
    """
    slopes = np.gradient(y, x, axis=0)
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    h = (x[i + 1] - x[i])[:, None]
    t = ((at - x[i])[:, None]) / h
    return (
        (2 * t**3 - 3 * t**2 + 1) * y[i]
        + (t**3 - 2 * t**2 + t) * h * slopes[i]
        + (3 * t**2 - 2 * t**3) * y[i + 1]
        + (t**3 - t**2) * h * slopes[i + 1]
    )


def smoothed(points: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth points `(n, d)` by a Gaussian of `sigma` samples; the ends are continued by point reflection."""
    reach = min(int(np.ceil(3 * sigma)), len(points) - 1)
    head = 2 * points[:1] - points[reach:0:-1]
    tail = 2 * points[-1:] - points[-2 : -reach - 2 : -1]
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    padded = np.concatenate([head, points, tail])
    columns = [np.convolve(c, kernel / kernel.sum(), "valid") for c in padded.T]
    return np.stack(columns, axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _orthonormal(frames: np.ndarray) -> np.ndarray:
    up = _unit(frames[..., 2, :])
    anterior = frames[..., 1, :]
    anterior = _unit(anterior - (anterior * up).sum(-1, keepdims=True) * up)
    return np.stack([np.cross(anterior, up), anterior, up], axis=-2)
