"""How alike the straightened images around two vertebrae are: the share of matching that needs no key points.

A patch reaches from in front of the body to behind the spinous process. It is sampled in straight space (R, A, S mm)
around the middle of the vertebra, so neither posture nor scoliosis turns it.
"""

from __future__ import annotations

import numpy as np

from ..imaging.ct import CTVolume
from ..spine.curve import fit_curve
from ..spine.record import SpineAnalysis
from ..spine.straightening import Straightening

LATERAL_MM = np.arange(-16.0, 16.1, 4.0)
ANTERIOR_MM = np.arange(-54.0, 24.1, 3.0)
UP_MM = np.arange(-15.0, 15.1, 3.0)
LOW_HU, HIGH_HU = -150.0, 500.0  # of bone and soft tissue
LEAST_SHARED = 0.6  # of a patch that both examinations must show
MOST_ALIKE = 0.999


def patches(analysis: SpineAnalysis, straightened: CTVolume, curve: np.ndarray | None = None) -> np.ndarray:
    """Return HU around each vertebra `(n, samples)`, nan outside the straightened volume (`outputs.read_straightened`).

    Intensities are cut to those of bone and soft tissue. `curve` `(n, 3)` RAS mm is that of the volume; None for that
    of the record.
    """
    points = np.array([v.keypoints for v in analysis.vertebrae], float).reshape(-1, 3, 2, 3)
    middle = Straightening(fit_curve(analysis.curve if curve is None else curve)).to_straight(points).mean((1, 2))
    offsets = np.stack(np.meshgrid(LATERAL_MM, ANTERIOR_MM, UP_MM, indexing="ij"), -1).reshape(-1, 3)
    values = straightened.sample(middle[:, None] + offsets, fill=np.nan)
    return np.clip(values, LOW_HU, HIGH_HU)


def likeness(prior: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Return Fisher's z of the correlation of patches `(n, m)`; nan where too little is in both.

    What all vertebrae of an examination share is removed before: it says nothing about which is which.
    """
    prior, current = _own(prior), _own(current)
    return np.array([[_fisher(a, b) for b in current] for a in prior]).reshape(len(prior), len(current))


def _own(patches: np.ndarray) -> np.ndarray:
    """Return patches without the mean of all vertebrae."""
    known = np.isfinite(patches)
    total = np.where(known, patches, 0.0).sum(0)
    return np.asarray(patches - total / np.maximum(known.sum(0), 1))


def _fisher(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.isfinite(a) & np.isfinite(b)
    if shared.mean() < LEAST_SHARED:
        return float("nan")
    a, b = a[shared] - a[shared].mean(), b[shared] - b[shared].mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.arctanh(np.clip(a @ b / size, -MOST_ALIKE, MOST_ALIKE))) if size else float("nan")
