"""The anatomy of one synthetic patient: vertebrae C2 to L5 and the sacrum on a curve, and the tissue around them.

Plain numbers from a seeded generator: lengths in mm, angles in radians, positions in patient RAS mm, vertebrae from
cranial to caudal. Nothing is painted here, see `painting`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..spine.curve import SpineCurve
from .alignment import (
    curve_through,
    draw_axial_rotation,
    draw_coronal_wedges,
    draw_lean_right,
    lean_forward,
    rotation,
    stacked_centers,
    upright_frames,
)
from .body import Body, draw_body, draw_look
from .morphometry import COLUMN
from .options import PhantomOptions
from .shapes import draw_shapes
from .tissue import draw_tissue


@dataclass(frozen=True)
class Anatomy:
    """A patient: vertebrae, the curve through them, and properties of the soft tissue (`tissue.draw_tissue`).

    `arcs` `(n,)` are the arc lengths of the bodies' centres on `curve`, in mm; `seed` is for what is drawn in painting.
    """

    bodies: tuple[Body, ...]
    curve: SpineCurve
    arcs: np.ndarray
    soft: dict[str, float] = field(default_factory=dict)
    seed: int = 0


def draw_anatomy(rng: np.random.Generator, options: PhantomOptions | None = None) -> Anatomy:
    """Draw a random patient."""
    options = options or PhantomOptions()
    shapes = draw_shapes(rng, options)
    ahead = lean_forward(rng, shapes)
    sideways = draw_lean_right(rng, options)
    twist = draw_axial_rotation(rng, sideways)
    frames = upright_frames(ahead, sideways)
    centers = stacked_centers(shapes, frames)
    curve = curve_through(centers, frames)
    arcs = np.array([np.linalg.norm(curve.points - c, axis=1).argmin() * curve.step for c in centers])
    turned = np.stack([rotation(0.0, 0.0, t) @ f for t, f in zip(twist, frames, strict=True)])
    tilt = draw_coronal_wedges(rng, sideways)
    look = draw_look(rng, options)
    bodies = tuple(
        draw_body(rng, name, centers[i], turned[i], twist[i], shapes[i], tilt[i], look, options)
        for i, name in enumerate(COLUMN)
    )
    return Anatomy(bodies, curve, arcs, draw_tissue(rng, options.pathology), int(rng.integers(2**31)))
