"""Naming the detected vertebrae: levels follow from the refiner's looks, the ribs and the heights (`spine.levels`).

Vertebrae are plain data in patient RAS mm, from cranial to caudal.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..imaging.ct import CTVolume
from ..spine.genant import measure_column
from ..spine.levels import SURE, UNMEASURED, name_levels, steps_between
from ..spine.record import Vertebra, with_neighbours
from ..spine.ribs import rib_signs
from .curve_finding import Spine

FEWEST_VERTEBRAE = 2  # a single vertebra has no neighbour to compare with


def with_levels(ct: CTVolume, vertebrae: tuple[Vertebra, ...], spine: Spine) -> tuple[Vertebra, ...]:
    """Return the vertebrae with level names, where they or the places beyond the outermost ones identify them."""
    if len(vertebrae) < FEWEST_VERTEBRAE:
        return vertebrae
    middles = np.stack([v.keypoints.mean((0, 1)) for v in vertebrae])
    tall = np.array([np.mean(v.measurement.heights_mm) for v in vertebrae])
    arcs = -spine.coarse.to_straight(middles)[:, 2]
    steps = steps_between(middles, tall)
    beyond = _with_next(arcs, steps)
    looks = [spine.refined.looks_at(arc, h) for arc, h in zip(beyond, tall[[0, *range(len(tall)), -1]], strict=True)]
    corners = np.stack([v.keypoints[2, 0] for v in vertebrae])
    ribs = rib_signs(ct, spine.coarse, _with_next(corners, steps))
    tallest = [np.nan, *(max(v.measurement.heights_mm) for v in vertebrae), np.nan]
    named = name_levels(np.stack(looks), np.r_[1, steps, 1], ribs, np.array(tallest))[1:-1]
    return tuple(
        replace(v, level=n.name, level_probabilities=n.distribution) for v, n in zip(vertebrae, named, strict=True)
    )


def _with_next(places: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Add the places one level beyond either end to `places` `(n, ...)`, which are `steps` `(n - 1,)` levels apart."""
    above, below = (places[0] - places[1]) / steps[0], (places[-1] - places[-2]) / steps[-1]
    return np.concatenate([places[:1] + above, places, places[-1:] + below])


def measurable(vertebrae: tuple[Vertebra, ...]) -> tuple[Vertebra, ...]:
    """Drop the vertebrae that surely are one of `UNMEASURED`, and judge the others again without these neighbours."""
    chances = [sum(v.level_probabilities.get(name, 0.0) for name in UNMEASURED) for v in vertebrae]
    kept = [v for v, chance in zip(vertebrae, chances, strict=True) if chance < SURE]
    measured = measure_column([v.keypoints for v in kept], [v.spread for v in kept])
    return with_neighbours([replace(v, measurement=m) for v, m in zip(kept, measured, strict=True)])
