"""Detecting vertebrae along a known curve: the straightened slab, and the detector's key points in the patient.

The slab is `(rows, 128)` HU with pixels of `PIXEL_MM`; key points leave this file as `(3, 2, 3)` patient RAS mm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..imaging.ct import CTVolume, inside
from ..spine.curve import SpineCurve
from ..spine.genant import measure_column
from ..spine.keypoints import centers
from ..spine.record import Vertebra
from ..spine.straightening import Straightening
from .models import Models

if TYPE_CHECKING:
    from ..networks.detector import Detections

# The detector sees the mean of these planes: less noise, and a rotated endplate's middle rather than one cut of it.
SLAB_MM = (-4.0, -2.0, 0.0, 2.0, 4.0)
# Finer than the 1 mm that the detector learned from: corners are found better, in real scans, painted label maps and
# phantoms alike; .8 mm is too fine again.
PIXEL_MM = 0.85
BORDER_MM = 1.0  # so far out of the scan a point may lie for its own error
# A scan padded with air ends before its voxels do: at one of these places inward of each point there is tissue.
INWARD_MM, TISSUE_HU = (1.0, 2.0, 3.0), -800.0
FARTHEST_FROM_CURVE_MM = 25.0


def propose_vertebra(
    ct: CTVolume,
    curve: SpineCurve,
    models: Models,
    anterior_mm: float,
    arc_mm: float,
    slab: np.ndarray | None = None,
) -> Vertebra | None:
    """The vertebra that the detector sees from one place of the straightened picture: A and arc length, mm.

    `slab` is `straightened_slab` of the same curve, where it is at hand. None outside the picture.
    """
    from ..networks.detector import propose

    picture = straightened_slab(ct, curve) if slab is None else slab
    found = propose(models.detector, picture, anterior_mm, arc_mm, PIXEL_MM)
    return _vertebrae(_to_patient(curve, found.keypoints), found.scores, found.spreads)[0] if found else None


def straightened_slab(ct: CTVolume, curve: SpineCurve) -> np.ndarray:
    """The detector's input: `(rows, 128)` HU, pixels of `PIXEL_MM`, rows along the arc, columns along A with 0 in the
    64th."""
    from ..networks.detector import COLUMNS, HALF_WIDTH_MM, SPACING_MM

    half_mm = HALF_WIDTH_MM * PIXEL_MM / SPACING_MM
    planes = Straightening(curve).sample_slab(ct, half_mm, np.array(SLAB_MM), PIXEL_MM)
    slab: np.ndarray = planes.mean(0)[:, :COLUMNS]
    return slab


def measured_vertebrae(ct: CTVolume, curve: SpineCurve, found: Detections) -> tuple[Vertebra, ...]:
    """Vertebrae from what the detector found in the slab; those that the border or padding cuts are left out."""
    near = np.abs(found.keypoints[..., 0].mean((1, 2))) < FARTHEST_FROM_CURVE_MM
    patient = _to_patient(curve, found.keypoints)
    whole = near & (inside(ct, patient, BORDER_MM) & in_tissue(ct, patient)).all((1, 2))
    return _vertebrae(patient[whole], found.scores[whole], found.spreads[whole])


def _to_patient(curve: SpineCurve, flat: np.ndarray) -> np.ndarray:
    """Key points `(n, 3, 2, 2)` as (A, row) mm of the slab to `(n, 3, 2, 3)` RAS mm."""
    straight = np.stack([np.zeros(flat.shape[:-1]), flat[..., 0], -flat[..., 1]], -1)
    return Straightening(curve).to_patient(straight)


def _vertebrae(patient: np.ndarray, scores: np.ndarray, spreads: np.ndarray) -> tuple[Vertebra, ...]:
    rows = zip(patient, measure_column(patient, spreads.tolist()), scores.tolist(), spreads.tolist(), strict=True)
    return tuple(Vertebra(k, m, score, spread=spread) for k, m, score, spread in rows)


def in_tissue(ct: CTVolume, keypoints: np.ndarray) -> np.ndarray:
    """Whether there is tissue just inward of key points `(n, 3, 2, 3)` RAS mm; booleans `(n, 3, 2)`."""
    inward = centers(keypoints)[:, None, None] - keypoints
    steps = np.reshape(INWARD_MM, (-1, 1, 1, 1, 1)) / np.linalg.norm(inward, axis=-1, keepdims=True)
    found: np.ndarray = ct.sample(keypoints + steps * inward).max(0) > TISSUE_HU
    return found
