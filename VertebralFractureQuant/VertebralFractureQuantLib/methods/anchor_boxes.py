"""Anchor boxes (Pisov et al. 2020): our straightened image and trunk, with a region-proposal head."""

from __future__ import annotations

from ..analysis.detection import PIXEL_MM, straightened_slab, to_patient
from ..analysis.found import Found
from ..imaging.ct import CTVolume
from ..networks.anchors import detect_boxes
from ..networks.predictor import Predictor
from ..spine.curve import SpineCurve

ROLES = ("anchor-boxes",)


def find(predictors: tuple[Predictor, ...], ct: CTVolume, curve: SpineCurve) -> Found:
    """Return the vertebrae of `ct` along `curve`; the paper gives no standard deviation of G.

    The pixels are those of our detector, a little smaller than in training: more of the small vertebrae are found, and
    the points are as exact as with pixels of 1 mm.
    """
    found = detect_boxes(predictors[0], straightened_slab(ct, curve), spacing_mm=PIXEL_MM)
    return Found(to_patient(curve, found.keypoints), found.scores, found.spreads)
