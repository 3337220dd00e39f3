"""A later examination of a phantom: the same patient with another posture and perhaps new fractures.

Lengths in mm, angles in radians, vertebrae from cranial to caudal.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from ..spine.levels import LEVELS
from .morphometry import COLUMN
from .options import PhantomOptions
from .shapes import FRACTURED, fracture, with_room

MOST_BEND_DEG = 10.0  # another posture changes the curvature by up to this


@dataclass(frozen=True)
class FollowUp:
    """What has changed: the shapes of all bodies, and how far each leans further ahead and to the right `(n,)`."""

    shapes: list[dict]
    ahead: np.ndarray
    sideways: np.ndarray


def follow_up(seed: int, shapes: list[dict], options: PhantomOptions) -> FollowUp:
    """Draw what has changed since the first examination, in which the bodies had `shapes`."""
    rng = np.random.default_rng([seed, 1])
    later = copy.deepcopy(shapes)
    for level, shape in zip(LEVELS, later, strict=False):
        if level in FRACTURED and not shape["fracture"] and rng.random() < options.new_fracture_rate:
            fracture(rng, shape)
    return FollowUp(with_room(later), _bend(rng), _bend(rng))


def _bend(rng: np.random.Generator) -> np.ndarray:
    """Return a smooth change of the bodies' directions whose range is at most `MOST_BEND_DEG`."""
    apex, reach = rng.uniform(4, 20), rng.uniform(3.0, 7.0)
    x = (np.arange(len(COLUMN)) - apex) / reach
    bump = -x * np.exp(0.5 - 0.5 * x**2)  # between -1 and 1
    bend: np.ndarray = np.deg2rad(MOST_BEND_DEG) / 2 * rng.uniform(-1, 1) * bump
    return bend
