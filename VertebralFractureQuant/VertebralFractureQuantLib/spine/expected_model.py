"""The coefficients of `expected`: `Resources/Weights/expected-heights.json`, a readable file with its own SHA-256.

Four lengths describe a vertebra: anterior, middle and posterior height, and body depth, in mm. All coefficients belong
to their natural logarithms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from .levels import LEVELS

NAME = "expected-heights"
BESIDE = {"T13": ("T12", "L1"), "L6": ("L5",)}  # whose mean a level has that phantoms lack
LENGTHS = 4


@dataclass(frozen=True, eq=False)
class Coefficients:
    """The distribution of healthy shapes, and the classifier of losses.

    Attributes
    ----------
    name, sha256 : identity of the coefficients.
    level_means : `(23, 4)`, means of the levels `LEVELS`.
    lags : `(7, 4, 4)`, covariances of a vertebra with one 0 to 6 levels below it, relative to the means.
    line : `(2, 4)`, mean at the first level and growth per level, for columns without names.
    line_lags : `(7, 4, 4)`, covariances relative to that line.
    noise : `(4,)`, standard deviations of measured lengths.
    planes : `(6, 4)`, one plane for each pair of grades: three weights of the losses, and a constant.
    """

    name: str
    sha256: str
    level_means: np.ndarray
    lags: np.ndarray
    line: np.ndarray
    line_lags: np.ndarray
    noise: np.ndarray
    planes: np.ndarray

    @property
    def stamp(self) -> str:
        """Name and beginning of the SHA-256."""
        return f"{self.name} {self.sha256[:8]}"

    def means(self, levels: Sequence[str | None], places: Sequence[int]) -> np.ndarray:
        """Return the means `(n, 4)` of vertebrae with these names at these places (`expected._places`)."""
        if all(level is None for level in levels):
            return np.asarray(self.line[0] + np.array(places)[:, None] * self.line[1])
        return np.stack([self._mean(level, at) for level, at in zip(levels, places, strict=True)])

    def _mean(self, level: str | None, place: int) -> np.ndarray:
        if level in BESIDE:
            return np.asarray(self.level_means[[LEVELS.index(name) for name in BESIDE[level]]].mean(0))
        at = LEVELS.index(level) if level in LEVELS else min(max(place, 0), len(LEVELS) - 1)
        return np.asarray(self.level_means[at])

    def covariance(self, named: bool = True) -> np.ndarray:
        """Return the covariance `(28, 28)` of the lengths of seven successive vertebrae."""
        lags = self.lags if named else self.line_lags
        n = len(lags)
        rows = [[lags[j - i] if j >= i else lags[i - j].T for j in range(n)] for i in range(n)]
        return np.block(rows)

    def grades(self, loss: np.ndarray) -> np.ndarray:
        """Return the index of the grade for each loss `(n, 3)`: the one that wins most pairs, the milder of two."""
        side = np.nan_to_num(loss) @ self.planes[:, :3].T + self.planes[:, 3]
        votes = np.zeros((len(loss), LENGTHS))
        for column, (i, j) in zip(side.T, PAIRS, strict=True):
            votes[:, i] += column > 0
            votes[:, j] += column <= 0
        return votes.argmax(1)


PAIRS = tuple((i, j) for i in range(LENGTHS) for j in range(i + 1, LENGTHS))  # of the four grades


@lru_cache(maxsize=1)
def coefficients() -> Coefficients:
    """Return the shipped coefficients. VFQError `bad_weights` if the file is missing, damaged or was replaced."""
    return read_coefficients(_folder() / f"{NAME}.json")


def read_coefficients(path: Path) -> Coefficients:
    """Read coefficients. VFQError `bad_weights`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        given = data["coefficients"]
        if digest(given) != data["sha256"]:
            raise ValueError("its coefficients do not have the SHA-256 that it names")
        return as_coefficients(given, str(data["name"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise VFQError(
            "bad_weights", f"The coefficients {path.name} cannot be used ({error}). Reinstall the program."
        ) from error


def as_coefficients(given: dict[str, Any], name: str = NAME) -> Coefficients:
    """Return coefficients from plain lists of numbers. ValueError, LookupError or TypeError for anything else."""
    arrays = {key: np.array(given[key], float) for key in SHAPES}
    for key, shape in SHAPES.items():
        if arrays[key].shape != shape or not np.isfinite(arrays[key]).all():
            raise ValueError(f"{key} are not finite numbers of shape {shape}")
    return Coefficients(name, digest(given), **arrays)


SHAPES = {
    "level_means": (len(LEVELS), LENGTHS),
    "lags": (7, LENGTHS, LENGTHS),
    "line": (2, LENGTHS),
    "line_lags": (7, LENGTHS, LENGTHS),
    "noise": (LENGTHS,),
    "planes": (6, LENGTHS),
}


def digest(given: dict[str, Any]) -> str:
    """Return the SHA-256 of coefficients, however their file is laid out."""
    return hashlib.sha256(json.dumps(given, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _folder() -> Path:
    """The module's Resources in a checkout or in Slicer, the package itself after pip."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "Resources" / "Weights"
    return beside if beside.is_dir() else package / "weights"
