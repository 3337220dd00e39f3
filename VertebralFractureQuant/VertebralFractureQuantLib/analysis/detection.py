"""Detecting vertebrae along a known curve: the straightened slab, and the detector's key points in the patient.

The slab is `(rows, 128)` HU with pixels of `PIXEL_MM`. The resulting key points are `(3, 2, 3)` patient RAS mm.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..imaging.ct import CTVolume, inside
from ..spine.curve import SpineCurve
from ..spine.genant import measure_column
from ..spine.keypoints import centers
from ..spine.record import Vertebra
from ..spine.straightening import Straightening
from .found import Found
from .models import Models

if TYPE_CHECKING:
    from ..networks.detector import Detections

# The detector sees the mean of these planes, which has less noise and shows the middle of a rotated endplate.
SLAB_MM = (-4.0, -2.0, 0.0, 2.0, 4.0)
# Finer than the 1 mm of the detector's training: corners are found better in real scans, painted label maps and
# phantoms. 0.8 mm is too fine.
PIXEL_MM = 0.85
BORDER_MM = 1.0  # a key point may lie this far outside the scan, as it is not exact
# A scan padded with air ends before its voxels do. At one of these distances inward of each key point there must be
# tissue.
INWARD_MM, TISSUE_HU = (1.0, 2.0, 3.0), -800.0
FARTHEST_FROM_CURVE_MM = 25.0
CUT_MM = 3.0  # an endplate nearer to the end of a curve is not seen whole


def straightened_slab(ct: CTVolume, curve: SpineCurve) -> np.ndarray:
    """Return the detector's input `(rows, 128)` HU with pixels of `PIXEL_MM`.

    Rows run along the arc, columns along A; A = 0 is at column 64.
    """
    from ..networks.detector import COLUMNS, HALF_WIDTH_MM, SPACING_MM

    half_mm = HALF_WIDTH_MM * PIXEL_MM / SPACING_MM
    planes = Straightening(curve).sample_slab(ct, half_mm, np.array(SLAB_MM), PIXEL_MM)
    slab: np.ndarray = planes.mean(0)[:, :COLUMNS]
    return slab


def measured_vertebrae(ct: CTVolume, curve: SpineCurve, found: Detections) -> tuple[Vertebra, ...]:
    """Return the detector's vertebrae, measured; those cut by the scan's border or by padding are left out."""
    near = np.abs(found.keypoints[..., 0].mean((1, 2))) < FARTHEST_FROM_CURVE_MM
    patient = to_patient(curve, found.keypoints)
    return _whole_in(ct, patient, near, found)


def measured_found(ct: CTVolume, curve: SpineCurve, found: Found, only_whole: bool = False) -> tuple[Vertebra, ...]:
    """Return the vertebrae of another method, measured and left out as those of the detector.

    only_whole : leave out those that the ends of the curve cut, as `whole_along`.
    """
    straight = Straightening(curve).to_straight(found.keypoints)
    near = np.abs(straight[..., 1].mean((1, 2))) < FARTHEST_FROM_CURVE_MM
    rows = -straight[..., 2]
    return _whole_in(ct, found.keypoints, near & (_whole_rows(curve, rows) if only_whole else near), found)


def _whole_in(ct: CTVolume, patient: np.ndarray, near: np.ndarray, found: Detections | Found) -> tuple[Vertebra, ...]:
    """Return the vertebrae `(n, 3, 2, 3)` RAS mm that are `near` `(n,)`, not cut by the border, not in padding."""
    whole = near & (inside(ct, patient, BORDER_MM) & in_tissue(ct, patient)).all((1, 2))
    return _vertebrae(patient[whole], found.scores[whole], found.spreads[whole])


def whole_along(curve: SpineCurve, found: Detections) -> Detections:
    """Leave out detections that reach nearer than `CUT_MM` to an end of the curve: they are cut there."""
    whole = _whole_rows(curve, found.keypoints[..., 1])
    return replace(found, keypoints=found.keypoints[whole], scores=found.scores[whole], spreads=found.spreads[whole])


def _whole_rows(curve: SpineCurve, rows: np.ndarray) -> np.ndarray:
    return np.asarray(((rows >= CUT_MM) & (rows <= curve.length - CUT_MM)).all((1, 2)))


def propose_vertebra(
    ct: CTVolume,
    curve: SpineCurve,
    models: Models,
    anterior_mm: float,
    arc_mm: float,
    slab: np.ndarray | None = None,
) -> Vertebra | None:
    """Return the vertebra that the detector proposes at one place of the straightened image: A and arc length, mm.

    slab : `straightened_slab` of the same curve; computed if None. The result is None if the place lies outside the
        image.
    """
    from ..networks.detector import propose

    image = straightened_slab(ct, curve) if slab is None else slab
    found = propose(models.detector, image, anterior_mm, arc_mm, PIXEL_MM)
    return _vertebrae(to_patient(curve, found.keypoints), found.scores, found.spreads)[0] if found else None


def to_patient(curve: SpineCurve, flat: np.ndarray) -> np.ndarray:
    """Map key points `(n, 3, 2, 2)`, (A, row) mm in the slab, to `(n, 3, 2, 3)` RAS mm."""
    straight = np.stack([np.zeros(flat.shape[:-1]), flat[..., 0], -flat[..., 1]], -1)
    return Straightening(curve).to_patient(straight)


def _vertebrae(patient: np.ndarray, scores: np.ndarray, spreads: np.ndarray) -> tuple[Vertebra, ...]:
    known = [None if np.isnan(spread) else spread for spread in spreads.tolist()]
    rows = zip(patient, measure_column(patient, known), scores.tolist(), known, strict=True)
    return tuple(Vertebra(k, m, score, spread=spread) for k, m, score, spread in rows)


def in_tissue(ct: CTVolume, keypoints: np.ndarray) -> np.ndarray:
    """Tell if there is tissue just inward of each key point `(n, 3, 2, 3)` RAS mm: booleans `(n, 3, 2)`."""
    inward = centers(keypoints)[:, None, None] - keypoints
    steps = np.reshape(INWARD_MM, (-1, 1, 1, 1, 1)) / np.linalg.norm(inward, axis=-1, keepdims=True)
    found: np.ndarray = ct.sample(keypoints + steps * inward).max(0) > TISSUE_HU
    return found
