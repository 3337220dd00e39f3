"""M-SCN (Wang et al. 2024): centres in 3D, a mask around each, and six key points on the mask."""

from __future__ import annotations

import numpy as np

from ..analysis.found import Found
from ..imaging.ct import CTVolume
from ..networks.mscn import find_bodies
from ..networks.predictor import Predictor
from ..spine.curve import SpineCurve

ROLES = ("m-scn-centres", "m-scn-mask", "m-scn-points")


def find(predictors: tuple[Predictor, ...], ct: CTVolume, curve: SpineCurve) -> Found:
    """Return the vertebrae of `ct` along `curve`; the paper gives no standard deviation of G."""
    centre, mask, point = predictors
    bodies = find_bodies(centre, mask, point, ct, curve)
    return Found(bodies.keypoints, bodies.scores, np.full(len(bodies.scores), np.nan))
