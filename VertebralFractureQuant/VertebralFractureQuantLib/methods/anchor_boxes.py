"""Anchor boxes (Pisov et al. 2020): our straightened image and trunk, with a region-proposal head."""

from __future__ import annotations

from ..analysis.detection import straightened_slab, to_patient
from ..analysis.found import Found
from ..imaging.ct import CTVolume
from ..networks.anchors import detect_boxes
from ..networks.detector import SPACING_MM
from ..networks.predictor import Predictor
from ..spine.curve import SpineCurve

ROLES = ("anchor-boxes",)


def find(predictors: tuple[Predictor, ...], ct: CTVolume, curve: SpineCurve) -> Found:
    """Return the vertebrae of `ct` along `curve`; the paper gives no standard deviation of G.

    The pixels are those of the training images: an anchor has a size in millimetres.
    """
    found = detect_boxes(predictors[0], straightened_slab(ct, curve, SPACING_MM))
    return Found(to_patient(curve, found.keypoints), found.scores, found.spreads)
