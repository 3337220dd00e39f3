"""Alignment of the column: how its bodies lean, rotate and stand on each other, and the curve through them.

Angles are in radians, positions in patient RAS mm, vertebrae from cranial to caudal.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from ..spine.curve import SpineCurve, fit_curve
from ..spine.levels import LEVELS
from .morphometry import COLUMN
from .options import PhantomOptions
from .shapes import corner_heights

LEAN_AT_T8_DEG = -4.0  # forward lean of the upward axis
MOST_LEAN_DEG = 65.0, 50.0  # forward, backward


def lean_forward(rng: np.random.Generator, shapes: list[dict]) -> np.ndarray:
    """Return how far each body's upward axis leans forward `(n,)`, radians.

    The sagittal curves are not drawn: they follow from the wedges of the stacked bodies and discs.
    """
    slopes = np.array([(c[0] - c[2]) / s["depth"] for s in shapes for c in [corner_heights(s)]])  # (n, 2)
    discs = np.array([(s["disc"][0] - s["disc"][1]) / s["depth"] for s in shapes])
    steps = np.arctan(slopes[1:, 0]) - np.arctan(slopes[:-1, 1]) + np.arctan(discs[:-1])
    lean = np.r_[0.0, np.cumsum(steps)]
    lean += np.deg2rad(rng.normal(LEAN_AT_T8_DEG, 8)) - lean[LEVELS.index("T8")]
    # If many wedges together lean too far, all lean less in proportion; else a single disc would have to compensate.
    forward, backward = np.deg2rad(MOST_LEAN_DEG)
    return lean / max(1.0, lean.max() / forward, -lean.min() / backward)


def draw_lean_right(rng: np.random.Generator, options: PhantomOptions) -> np.ndarray:
    """Draw how far each body's upward axis leans to the right `(n,)`, radians."""
    cobb = options.scoliosis_deg if options.scoliosis_deg is not None else _random_cobb(rng)
    apex, reach = rng.uniform(8, 19), rng.uniform(3.0, 5.0)
    x = (np.arange(len(COLUMN)) - apex) / reach
    bump = -x * np.exp(0.5 - 0.5 * x**2)  # tangent angle of a lateral curve: peaks of +-1 on both sides of the apex
    jitter = rng.normal(0, np.deg2rad(1.0), len(COLUMN))
    lean: np.ndarray = np.deg2rad(cobb) / 2 * bump * rng.choice([-1, 1]) + np.deg2rad(rng.normal(0, 2)) + jitter
    return lean


def _random_cobb(rng: np.random.Generator) -> float:
    return float(abs(rng.normal(0, 8)) if rng.random() < 0.7 else rng.uniform(10, 65))


def draw_axial_rotation(rng: np.random.Generator, lean_right: np.ndarray) -> np.ndarray:
    """Draw the axial rotations `(n,)`, radians.

    Scoliotic vertebrae rotate with the lateral bend, up to about 20 degrees.
    """
    bend = np.gradient(lean_right)
    return np.clip(bend * rng.uniform(0.5, 2.0), -0.35, 0.35) + rng.normal(0, np.deg2rad(2), len(lean_right))


def upright_frames(ahead: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return frames `(n, 3, 3)` with the rows right, anterior, up, of bodies that lean `ahead` and to the `right`.

    The anterior axis stays in the sagittal plane.
    """
    up = np.stack([np.sin(right), np.cos(right) * np.sin(ahead), np.cos(right) * np.cos(ahead)], 1)
    anterior = np.stack([np.zeros_like(ahead), np.cos(ahead), -np.sin(ahead)], 1)
    return np.stack([np.cross(anterior, up), anterior, up], 1)


def stacked_centers(shapes: list[dict], frames: np.ndarray) -> np.ndarray:
    """Return the centres of the stacked bodies `(n, 3)` mm; the middle body of the column is at the origin."""
    centers = [np.zeros(3)]
    for i, (above, below) in enumerate(zip(shapes, shapes[1:], strict=False)):
        bottom, top = corner_heights(above)[[0, 2], 1].mean(), corner_heights(below)[[0, 2], 0].mean()
        down = -_unit(frames[i, 2] + frames[i + 1, 2]) * above["disc"].mean()
        centers.append(centers[-1] + bottom * frames[i, 2] + down - top * frames[i + 1, 2])
    return np.array(centers) - centers[len(centers) // 2]


def curve_through(centers: np.ndarray, frames: np.ndarray) -> SpineCurve:
    """Return the smooth curve through the centres, extended by 20 mm at both ends."""
    through = np.vstack([centers[0] + 20 * frames[0, 2], centers, centers[-1] - 20 * frames[-1, 2]])
    place = np.r_[0, np.cumsum(np.linalg.norm(np.diff(through, axis=0), axis=1))]
    return fit_curve(CubicSpline(place, through)(np.arange(0, place[-1], 0.5)))


def draw_coronal_wedges(rng: np.random.Generator, lean_right: np.ndarray) -> np.ndarray:
    """Draw the lateral slopes `(n, 2)` of the endplates: in a scoliosis, bodies and discs share the coronal wedging."""
    share = 0.35 * np.diff(lean_right)
    tilt: np.ndarray = rng.normal(0, 0.03, (len(lean_right), 2))
    tilt[:-1, 1] -= share
    tilt[1:, 0] += share
    return tilt


def rotation(pitch: float, roll: float, twist: float) -> np.ndarray:
    """Return the matrix that rotates the rows (right, anterior, up) of a frame; angles in radians.

    It applies the twist about up, then the roll about anterior, then the pitch about right.
    """
    cp, sp, cr, sr, ct, st = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll), np.cos(twist), np.sin(twist)
    about_right = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_anterior = np.array([[cr, 0, -sr], [0, 1, 0], [sr, 0, cr]])
    about_up = np.array([[ct, st, 0], [-st, ct, 0], [0, 0, 1]])
    return about_right @ about_anterior @ about_up


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)
