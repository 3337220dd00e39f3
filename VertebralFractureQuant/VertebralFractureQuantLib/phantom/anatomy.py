"""The anatomy of one synthetic patient: vertebrae C2 to L5 and the sacrum on a curve, and the tissue around them.

Plain numbers from a seeded generator: lengths in mm, angles in radians, positions in patient RAS mm, vertebrae from
cranial to caudal. Nothing is painted here, see `painting`.
"""

from __future__ import annotations

import copy
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
from .follow_up import follow_up
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
    """Draw a random patient, at a later examination if the options ask for one."""
    options = options or PhantomOptions()
    first = draw_shapes(rng, options)
    change = None if options.later is None else follow_up(options.later, first, options)
    shapes = change.shapes if change else first
    ahead, sideways = lean_forward(rng, shapes), draw_lean_right(rng, options)
    twist = draw_axial_rotation(rng, sideways)
    lean = (ahead + change.ahead, sideways + change.sideways) if change else (ahead, sideways)
    frames = upright_frames(*lean)
    centers = stacked_centers(shapes, frames)
    curve = curve_through(centers, frames)
    arcs = np.array([np.linalg.norm(curve.points - c, axis=1).argmin() * curve.step for c in centers])
    turned = np.stack([rotation(0.0, 0.0, t) @ f for t, f in zip(twist, frames, strict=True)])
    tilt = draw_coronal_wedges(rng, sideways)
    look = draw_look(rng, options)
    bodies = []
    for i, name in enumerate(COLUMN):
        place, again = (centers[i], turned[i], twist[i]), copy.deepcopy(rng)
        bodies.append(draw_body(rng, name, *place, first[i], tilt[i], look, options))
        if change:  # a fracture draws more; what is drawn for the other bodies must not depend on it
            bodies[i] = draw_body(again, name, *place, shapes[i], tilt[i], look, options)
    return Anatomy(tuple(bodies), curve, arcs, draw_tissue(rng, options.pathology), int(rng.integers(2**31)))
