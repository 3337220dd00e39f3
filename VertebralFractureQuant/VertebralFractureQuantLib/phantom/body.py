"""A vertebral body: its shape, position and bone; lengths in mm, densities in HU.

Endplates above a disc are thicker than those below it (Palepu et al. 2019). The painting of a body is in `vertebrae`,
its surface in `body_surface`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .growths import Growth, draw_growths
from .morphometry import SACRUM, TAPER
from .options import PhantomOptions
from .shapes import corner_heights

# The point of a rounded corner of radius 1 that is nearest to the sharp corner lies this far inside of both sides.
ROUND_CORNER = 1 - 0.5**0.5


@dataclass(frozen=True)
class Body:
    """One vertebral body in its own frame (right, anterior, up; origin in the middle), with its degenerative findings.

    `corners` `(3, 2)` are the heights of the key points [A, M, P] x [sup, inf] above the origin, before ripple and
    rotation.
    """

    level: str
    center: np.ndarray
    frame: np.ndarray  # rows right, anterior, up in RAS
    twist: float  # axial rotation relative to the curve's frame, radians
    depth: float
    width: float
    corners: np.ndarray
    scale_ends: tuple[float, float]  # size of the superior and inferior endplate, relative to the mean
    waist: float  # how much narrower the body is halfway between its endplates
    exponent: float  # of the superellipse that is the outline
    taper: float  # how much narrower the front is than the middle
    rounding: float  # radius of the edge between endplate and wall
    notch: float  # depth of the posterior concavity
    plateau: float  # exponent of the endplate's concavity: 2 is round, 4 is flat-bottomed
    lateral_tilt: tuple[float, float]  # slope of the superior and inferior endplate along R
    ripple: np.ndarray  # (2, 4): amplitude, wave numbers in a and r, phase
    fracture: str | None
    spongiosa: float  # HU
    texture: float  # contrast of the trabecular pattern, as a share of the spongiosa's HU
    cortex: float  # HU
    endplates: tuple[float, float]  # HU of the superior and inferior endplate, as shares of the cortex's
    shell: tuple[float, float]  # thickness of the endplates and of the walls
    walls: tuple[float, float]  # HU of the posterior and anterior wall far from the endplates, likewise
    collar: float  # distance from the endplates up to which the walls are dense
    ring: float  # how much brighter an endplate's periphery (the ring apophysis) is than its middle
    subchondral: tuple[float, float]  # thickness of the denser zone under the endplates, and its extra HU
    growths: tuple[Growth, ...] = ()


def draw_look(rng: np.random.Generator, options: PhantomOptions) -> dict:
    """Draw what one patient's bones have in common: density, cortex and the frequencies of degenerative findings."""
    density = rng.choice([rng.normal(60, 25), rng.normal(140, 40), rng.normal(230, 60)], p=[0.35, 0.45, 0.2])
    inferior = float(rng.uniform(0.25, 1.1))
    return {
        "spongiosa": float(np.clip(density, 5, 450)),
        "cortex": float(rng.uniform(250, 1100)),
        "rounding": float(abs(rng.normal(0, 2.0))),
        "endplates": (inferior * float(rng.uniform(0.35, 1.05)), inferior),
        "texture": float(rng.uniform(0.05, 0.4)),
        "shell": (float(rng.uniform(0.25, 1.3)), float(rng.uniform(0.4, 1.8))),
        "walls": (float(rng.uniform(0.1, 0.55)), float(rng.uniform(0.3, 1.1))),
        "collar": float(rng.uniform(1.5, 4.0)),
        "subchondral": (float(rng.uniform(1.0, 4.0)), float(max(0.0, rng.normal(10, 80)))),
        "ring": float(max(0.0, rng.normal(0.3, 0.5))),
        "lips": float(rng.choice([0, 0.35, 0.8], p=[0.35, 0.35, 0.3]) * options.pathology),
        "dense_corners": float(rng.choice([0, 0.3, 0.7], p=[0.5, 0.3, 0.2]) * options.pathology),
        "osteophytes": float(rng.choice([0, 0.15, 0.6], p=[0.4, 0.35, 0.25]) * options.pathology),
        "schmorl": float(rng.choice([0, 0.2], p=[0.7, 0.3]) * options.pathology),
        "cement": float(rng.choice([0, 0.15], p=[0.92, 0.08]) * options.pathology),
        "sclerosis": float(rng.choice([0, 0.2, 0.6], p=[0.5, 0.3, 0.2]) * options.pathology),
    }


def draw_body(
    rng: np.random.Generator,
    level: str,
    center: np.ndarray,
    frame: np.ndarray,
    twist: float,
    shape: dict,
    tilt: np.ndarray,
    look: dict,
    options: PhantomOptions,
) -> Body:
    """Draw one vertebral body.

    `shape` is from `shapes.draw_shapes`, `look` from `draw_look`, `tilt` `(2,)` from `alignment.draw_coronal_wedges`.
    """
    rounding = look["rounding"] * float(rng.uniform(0.6, 1.4))
    inset = ROUND_CORNER * rounding  # `shape` gives sizes between key points, and these lie on the rounded corners
    corners = corner_heights(shape) + inset * np.array([[1, -1], [0, 0], [1, -1]])
    ripple = np.stack(
        [rng.normal(0, 0.35, 2), rng.uniform(0.1, 0.5, 2), rng.uniform(0.1, 0.4, 2), rng.uniform(0, 6, 2)]
    )
    dense = rng.random() < 0.08
    return Body(
        level=level,
        center=center,
        frame=frame,
        twist=float(twist),
        depth=float(shape["depth"]) + 2 * inset,
        width=float(shape["width"]),
        corners=corners,
        scale_ends=_end_scales(rng, level),
        waist=float(np.clip(rng.normal(0.08, 0.04), 0, 0.2)),
        exponent=float(rng.uniform(2.0, 2.9)),
        taper=TAPER.get(level, 0.0) + float(rng.normal(0, 0.05)),
        rounding=rounding,
        notch=float(rng.uniform(0.0, 2.0)),
        plateau=float(rng.uniform(1.8, 4.0)),
        lateral_tilt=(float(tilt[0]), float(tilt[1])),
        ripple=ripple.T,
        fracture=None if options.healed else shape["fracture"],
        spongiosa=look["spongiosa"] * rng.normal(1, 0.12) + (rng.uniform(80, 300) if dense else 0),
        texture=look["texture"],
        cortex=look["cortex"] * rng.normal(1, 0.1),
        endplates=(
            look["endplates"][0] * float(rng.normal(1, 0.15)),
            look["endplates"][1] * float(rng.normal(1, 0.15)),
        ),
        shell=look["shell"],
        walls=(look["walls"][0] * float(rng.normal(1, 0.2)), look["walls"][1] * float(rng.normal(1, 0.2))),
        collar=look["collar"] * float(rng.uniform(0.7, 1.3)),
        ring=look["ring"] * float(rng.uniform(0.3, 1.7)),
        subchondral=(look["subchondral"][0] * rng.uniform(0.7, 1.3), look["subchondral"][1] * rng.uniform(0.6, 1.4)),
        growths=draw_growths(rng, shape, corners, look),
    )


def _end_scales(rng: np.random.Generator, level: str) -> tuple[float, float]:
    if level in SACRUM:  # a sacral body narrows downward
        return float(rng.uniform(1.0, 1.15)), float(rng.uniform(0.7, 0.85))
    return float(rng.normal(0.99, 0.025)), float(rng.normal(1.01, 0.025))
