"""Shapes of vertebral bodies and discs, fractures included; plain numbers in mm, one dict for each body.

The shapes vary more than in any population: the networks learn from them, and real spines should be easy cases.
"""

from __future__ import annotations

import numpy as np

from ..spine.levels import LEVELS
from .morphometry import (
    DEPTH,
    DISC_BACK,
    DISC_FRONT,
    HEIGHT,
    SACRUM_DEPTH,
    SACRUM_HEIGHT,
    SACRUM_WEDGE,
    SACRUM_WIDTH,
    SEEN_OUTSIDE_MM,
    WEDGE,
    WIDTH,
)
from .options import PhantomOptions

NARROWEST_DISC_MM = 0.7
FRACTURED = LEVELS[LEVELS.index("T4") :]  # the levels that may be fractured


def draw_shapes(rng: np.random.Generator, options: PhantomOptions) -> list[dict]:
    """Draw the shapes of all bodies of the column, cranial first.

    Each is a dict of `ha`, `hm`, `hp` (anterior, middle, posterior height), `depth`, `width`, `disc` (anterior and
    posterior height of the disc below), all in mm; `bias` and `split` (see `corner_heights`); `fracture` ("wedge",
    "biconcave", "crush" or None).
    """
    size = rng.normal(1.0, 0.09)
    depth = size * rng.normal(1.05, 0.09)
    disc = float(np.clip(rng.normal(1.05, 0.3), 0.4, 1.9))
    sag = float(np.clip(rng.normal(0.105, 0.05), -0.02, 0.25))  # endplate concavity of this patient
    wedge = rng.normal(-0.012, 0.015)
    lordosis = rng.normal(1.0, 0.2)
    shapes = []
    for i, name in enumerate(LEVELS):
        h = HEIGHT[i] * size * rng.normal(1, 0.03) - 2 * SEEN_OUTSIDE_MM
        ratio = WEDGE[i] + wedge + rng.normal(0, 0.03)
        slant = (DISC_FRONT[i] - DISC_BACK[i]) * (lordosis if name[0] == "L" else 1.0)
        gap = (DISC_FRONT[i] + DISC_BACK[i]) * np.clip(rng.normal(1, 0.22), 0.3, 1.7)
        shape = {
            "ha": h * min(ratio, 1.25),
            "hp": h,
            "hm": h * (1 + ratio) / 2 * (1 - np.clip(sag + rng.normal(0, 0.03), -0.04, 0.3)),
            "depth": DEPTH[i] * depth * rng.normal(1, 0.03),
            "width": WIDTH[i] * size * rng.normal(1.02, 0.04),
            "disc": size * disc * np.array([gap + slant, gap - slant]) / 2
            + 2 * SEEN_OUTSIDE_MM
            + rng.normal(0, 0.35, 2),
            "bias": rng.uniform(-0.5, 0.5),
            "split": rng.uniform(0.15, 0.8),
            "fracture": None,
        }
        if name in FRACTURED and rng.random() < options.fracture_rate:
            fracture(rng, shape)
        shapes.append(shape)
    for h, d, w, ratio in zip(SACRUM_HEIGHT, SACRUM_DEPTH, SACRUM_WIDTH, SACRUM_WEDGE, strict=True):
        shapes.append(
            {
                "ha": h * size * ratio * rng.normal(0.9, 0.03),
                "hp": h * size * 0.9,
                "hm": h * size * 0.9 * (1 + ratio) / 2 * rng.normal(0.98, 0.02),
                "depth": d * depth,
                "width": w * size,
                "disc": np.full(2, rng.uniform(0.0, 3.0)),
                "bias": 0.0,
                "split": 0.5,
                "fracture": None,
            }
        )
    if options.healed:
        for shape in shapes:
            shape.update(shape.get("whole", {}))  # it keeps its `fracture`, on which later draws depend
    return with_room(shapes)


def with_room(shapes: list[dict]) -> list[dict]:
    """Widen the discs in place in which neighbouring bodies would touch, and return the shapes."""
    for above, below in zip(shapes, shapes[1:], strict=False):
        above["disc"] = above["disc"] + max(0.0, NARROWEST_DISC_MM - _narrowest(above, below))
    return shapes


def _narrowest(above: dict, below: dict) -> float:
    """Return the smallest height of the disc between two bodies, among its front, middle and back."""
    middle = above["disc"].mean() + _sag(corner_heights(above)[:, 1]) - _sag(corner_heights(below)[:, 0])
    return float(min(*above["disc"], middle))


def _sag(endplate: np.ndarray) -> float:
    return float(endplate[1] - (endplate[0] + endplate[2]) / 2)


def fracture(rng: np.random.Generator, shape: dict) -> None:
    """Deform a healthy shape in place: a wedge, biconcave or crush fracture of any severity; `whole` is how it was."""
    shape["whole"] = {key: value for key, value in shape.items() if key != "fracture"}
    kind = str(rng.choice(["wedge", "biconcave", "crush"], p=[0.5, 0.33, 0.17]))
    left = rng.uniform(0.35, 0.88)
    if kind == "wedge":
        shape["ha"] *= left
        shape["hm"] *= min(1.0, (left + rng.uniform(0.35, 1.0)) / (1 + rng.uniform(0, 0.4)))
        shape["bias"] = rng.uniform(-1, 0.4)
    elif kind == "biconcave":
        shape["hm"] *= left
        shape["ha"] *= rng.uniform(0.85, 1.0)
        shape["split"] = rng.uniform(0, 1)
    else:
        for key in ("ha", "hm", "hp"):
            shape[key] *= np.clip(left * rng.normal(1, 0.06), 0.3, 1)
    shape["hm"] = min(shape["hm"], max(shape["ha"], shape["hp"]))
    shape["depth"] *= rng.uniform(1.0, 1.1)
    shape["fracture"] = kind


def corner_heights(shape: dict) -> np.ndarray:
    """Return the heights `(3, 2)` above the body's origin of the key points [A, M, P] x [sup, inf], mm.

    `bias` shares out a wedge: at 1 only the superior endplate slopes, at -1 only the inferior one, at 0 both do alike.
    `split` is the superior endplate's share of the concavity.
    """
    shift = shape["bias"] * (shape["ha"] - shape["hp"]) / 2
    front = np.array([shape["ha"] / 2 + shift, -shape["ha"] / 2 + shift])
    back = np.array([shape["hp"] / 2, -shape["hp"] / 2])
    line = (front + back) / 2
    sag = line[0] - line[1] - shape["hm"]
    middle = np.array([line[0] - sag * shape["split"], line[1] + sag * (1 - shape["split"])])
    corners = np.stack([front, middle, back])
    return corners - corners.mean()
