"""What a method finds along a curve: the key points of vertebrae in the patient, before they are measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Found:
    """Vertebrae that a method found, cranial to caudal.

    `keypoints` `(n, 3, 2, 3)` are RAS mm; `scores` `(n,)` lie between 0 and 1; `spreads` `(n,)` are the standard
    deviations of G, nan where the method gives none.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    spreads: np.ndarray
