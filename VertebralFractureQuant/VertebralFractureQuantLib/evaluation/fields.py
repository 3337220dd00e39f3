"""The fields of analyses and references: each is read from JSON into arrays, RAS mm.

Whatever is faulty is left out and added to `problems`; nothing here raises an exception. Which fields a file has, and
what they mean together, is left to `sources`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..spine.curve import SpineCurve, fit_curve
from ..spine.genant import GRADES
from ..spine.levels import in_doubt
from .problems import PROBLEMS, Problem, as_points, fault, known_level, rough_center
from .spines import Grid

LONGEST_CURVE_MM = 3000.0  # along an axis; no scanner's table is as long


class Vertebrae(NamedTuple):
    """The vertebrae of one file, with the names and shapes of the attributes of `Spine`."""

    keypoints: np.ndarray
    levels: tuple[str | None, ...]
    sure: tuple[bool, ...]
    spreads: tuple[float, ...]
    grades: tuple[str, ...]
    partial: np.ndarray


def read_vertebrae(raw: list[Any], file: str, problems: list[Problem]) -> Vertebrae:
    """Read the vertebrae whose six points are sound.

    A level name that no vertebra has is noted and taken as unknown. A level that the file marks as uncertain is taken
    as unknown too.
    """
    kept, levels, shares, pinned, spreads, grades, left_out = [], [], [], [], [], [], []
    for i, entry in enumerate(raw):
        entry = entry if isinstance(entry, dict) else {}
        name = None if entry.get("level_certain") is False else entry.get("level")
        level = None if name is None else known_level(name)
        if name is not None and level is None:
            problems.append(Problem("unknown_level", file, f"V{i + 1}", f"{name!r} is taken as unknown."))
        points, code = as_points(entry.get("keypoints"), (3, 2, 3))
        wrong = (code, "") if points is None else fault(points)
        if wrong:
            problems.append(Problem(wrong[0], file, level or f"V{i + 1}", wrong[1]))
            left_out += rough_center(entry.get("keypoints"))
        else:
            kept.append(points)
            levels.append(level)
            shares.append(_shares(entry.get("level_probabilities")))
            pinned.append(entry.get("pinned") is True)
            spreads.append(_spread(entry.get("genant_spread")))
            grades.append(entry.get("grade"))
    sure = tuple(doubt is None for doubt in in_doubt(levels, shares, pinned))
    keypoints, partial = np.array(kept, float).reshape(-1, 3, 2, 3), np.reshape(left_out, (-1, 3))
    known = tuple(str(g) for g in grades) if all(g in GRADES for g in grades) else ()
    return Vertebrae(keypoints, tuple(levels), sure, tuple(spreads), known, partial)


def read_partial(raw: Any, file: str, problems: list[Problem]) -> np.ndarray:
    """Read the approximate centres `(p, 3)` of the vertebrae that the border of the scan cuts."""
    found = []
    for entry in raw if isinstance(raw, list) else []:
        entry = entry if isinstance(entry, dict) else {}
        center, code = as_points(entry.get("center"), (3,))
        if center is None:
            message = "The centre of this partial vertebra is not three finite numbers."
            problems.append(Problem(code, file, str(entry.get("level")), message))
        else:
            found.append(center)
    return np.reshape(found, (-1, 3))


def read_curve(raw: Any, file: str, problems: list[Problem]) -> SpineCurve | None:
    """Fit the spine's curve to a list of points; None if there is no list, or if it has a `bad_curve` problem."""
    if raw is None or raw == []:
        return None
    points, code = as_points(raw, (-1, 3))
    try:
        if points is None or not len(points) or np.ptp(points, axis=0).max() > LONGEST_CURVE_MM:
            raise ValueError(PROBLEMS[code].meaning if code else "Its points lie farther apart than in any scan.")
        return fit_curve(points)
    except ValueError as error:
        problems.append(Problem("bad_curve", file, None, str(error)))
        return None


def read_limits(curve: SpineCurve | None, raw: Any) -> np.ndarray:
    """Turn two arc lengths in mm along `curve` into the ends `(2, 3)` of the spine; `(0, 3)` if either is absent."""
    arc, _ = as_points(raw, (2,))
    return np.empty((0, 3)) if curve is None or arc is None else curve.at(arc)[0]


def curve_ends(curve: SpineCurve | None) -> np.ndarray:
    """Return the first and last point `(2, 3)` of `curve`; `(0, 3)` without one."""
    return np.empty((0, 3)) if curve is None else curve.points[[0, -1]]


def read_grid(raw: Any) -> Grid | None:
    """Read an analysis' `source`; None without shape and spacing. A singular `ijk_to_ras` is taken as unknown."""
    raw = raw if isinstance(raw, dict) else {}
    shape, _ = as_points(raw.get("shape"), (3,))
    spacing, _ = as_points(raw.get("spacing_mm"), (3,))
    matrix, _ = as_points(raw.get("ijk_to_ras"), (4, 4))
    if shape is None or spacing is None:
        return None
    if matrix is not None and abs(np.linalg.det(matrix)) < 1e-9:
        matrix = None
    return Grid(tuple(int(n) for n in shape), tuple(float(mm) for mm in spacing), matrix)


def _spread(raw: Any) -> float:
    spread, _ = as_points(raw, ())
    return float("nan") if spread is None else float(spread)


def _shares(raw: Any) -> dict[str, float]:
    return {name: p for name, p in raw.items() if isinstance(p, (int, float))} if isinstance(raw, dict) else {}
