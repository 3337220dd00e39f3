"""Does the curve stay on the vertebral bodies? The refiner looks once more, along the curve that was measured.

Along a curve through the bodies' middles it finds these middles again. Where the curve has left the spine, or follows a
bright vessel beside it, it finds them, or something else, beside the curve.
"""

from __future__ import annotations

import numpy as np

from ..imaging.ct import CTVolume
from ..spine.curve import SpineCurve
from ..spine.record import Vertebra
from ..spine.straightening import Straightening
from .models import Models

AROUND_MM = 12.0  # of the curve beyond the first and last vertebra
NEAR_MM = 10.0  # slices this near to a vertebra's middle count for it


def off_bone(ct: CTVolume, curve: SpineCurve, vertebrae: tuple[Vertebra, ...], models: Models) -> np.ndarray:
    """Return `(n,)` mm: how far from the curve, in its normal plane, the middle of each body seems to lie."""
    from ..networks.refiner import refine

    if not vertebrae:
        return np.empty(0)
    middles = np.stack([v.keypoints.mean((0, 1)) for v in vertebrae])
    arcs = -Straightening(curve).to_straight(middles)[:, 2]
    first = max(0, int((arcs.min() - AROUND_MM) / curve.step))
    part = SpineCurve(curve.points[first : int((arcs.max() + AROUND_MM) / curve.step) + 1], curve.step)
    seen = refine(models.refiner, ct, Straightening(part)).middles
    beside = [np.abs(-seen[:, 2] - (arc - first * curve.step)) <= NEAR_MM for arc in arcs]
    return np.array([float(np.hypot(*np.median(seen[near, :2], 0))) if near.any() else 0.0 for near in beside])
