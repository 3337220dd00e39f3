"""Rules that grade the vertebrae of one spine from their key points; a further rule is one entry of `GRADERS`.

A rule takes key points `(n, 3, 2, 3)` RAS mm, cranial to caudal, and returns the grades `(n,)` as indices into
`genant.GRADES`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..spine.genant import GRADES, grade, measure_column


def by_ratio(keypoints: np.ndarray) -> np.ndarray:
    """Grade each vertebra by its own G."""
    return np.array([GRADES.index(grade(m.genant_ratio)) for m in measure_column(keypoints)], int)


def by_neighbours(keypoints: np.ndarray) -> np.ndarray:
    """Grade by G, and a crush by the heights of its neighbours, as the program reports it."""
    return np.array([GRADES.index(m.grade) for m in measure_column(keypoints)], int)


GRADERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"G": by_ratio, "G and neighbours": by_neighbours}
REPORTED = "G and neighbours"
