"""Problems of an annotation, a reference or a prediction: a code, the file, the vertebra, and a sentence.

A faulty vertebra or an unreadable file is left out; the rest is evaluated. Points are `(3, 2, 3)` = [anterior, middle,
posterior] x [superior, inferior] x [R, A, S], in any unit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..spine.keypoints import FAULTS, POSITIONS, faults
from ..spine.levels import NAMES

PROBLEMS = {
    "not_json": "the file cannot be read as JSON",
    "wrong_schema": "the file has no known schema, or lacks a part that its schema requires",
    "missing_points": "a vertebra does not have three segments of two points with three coordinates each",
    "not_finite": "a coordinate is NaN, infinite or null",
    "coincident_points": "the points span no area",
    "implausible_size": "the points lie farther apart than those of any vertebra",
    "swapped_ends": "a superior point lies below its inferior point",
    "swapped_sides": "the points are not in the order anterior, middle, posterior",
    "crossed_points": "the lines between the points cross",
    "wrong_axis_order": "the coordinates are not in the order of the schema",
    "unknown_level": "no vertebra has this name",
    "duplicate_level": "one expert has two vertebrae of the same name",
    "outside_volume": "points lie outside the scan",
    "bad_curve": "the points of the spine's curve form no curve",
    "no_vertebra": "the reference has no usable vertebra",
    "uncorrected": "no reader has corrected or confirmed anything in this analysis, so it is not a reference",
    "corrected": "a reader has changed this analysis, and the original (machine.json) is missing",
    "no_spacing": "the pixel spacing cannot be recovered",
    "no_common_space": "the prediction and the reference are in different coordinates",
    "duplicate_case": "two files are of the same case",
    "no_reference": "no reference has the name of the prediction",
    "no_prediction": "no prediction belongs to the reference",
}

LEAST_NORMAL = 0.2  # R component of the normal of the vertebra's plane; near 0 if the axes are in any wrong order
HALFWAY = 0.5  # cosine of 60 degrees
LARGEST = 150.0  # mm, or voxels of 0.5 mm or more: no two points of a vertebra are farther apart


@dataclass(frozen=True)
class Problem:
    """One problem: `code` is a key of `PROBLEMS`; `vertebra` is its name, or None if the whole file is meant.

    An empty `message` stands for the text of the code.
    """

    code: str
    file: str
    vertebra: str | None
    message: str


OF_A_CASE = ("analysis.json", "machine.json", "truth.json")


def named(path: Path) -> str:
    """Return the name of a file for messages, with its folder if every case has a file of that name."""
    return f"{path.parent.name}/{path.name}" if path.name in OF_A_CASE else path.name


def listed(problems: Sequence[Problem], most: int = 6) -> str:
    """Return the first `most` problems as text for a message, one on each line."""
    lines = [
        f"\n  {p.code} {p.file}{f', {p.vertebra}' if p.vertebra else ''}: {p.message or PROBLEMS[p.code]}"
        for p in problems
    ]
    return "".join(lines[:most]) + (f"\n  and {len(lines) - most} more" if len(lines) > most else "")


def read_object(path: Path, problems: list[Problem]) -> dict[str, Any] | None:
    """Read the JSON object in `path`; None, with an entry in `problems`, if there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problems.append(Problem("not_json", named(path), None, str(error).replace(str(path), path.name)))
        return None
    if not isinstance(data, dict):
        problems.append(Problem("wrong_schema", named(path), None, "The file does not hold a JSON object."))
        return None
    return data


def as_points(raw: Any, shape: tuple[int, ...]) -> tuple[np.ndarray | None, str]:
    """Turn lists of numbers into a finite array of `shape` (-1: any length); else return None and a problem code."""
    try:
        values = np.array(raw, object)
        if any(isinstance(v, (bool, str)) for v in values.flat):
            return None, "missing_points"
        points = values.astype(float)
    except OverflowError:
        return None, "not_finite"
    except (TypeError, ValueError, RuntimeError):  # numpy allows at most 64 dimensions
        return None, "missing_points"
    if points.ndim != len(shape) or any(s not in (-1, n) for s, n in zip(shape, points.shape, strict=True)):
        return None, "missing_points"
    return (points, "") if np.isfinite(points).all() else (None, "not_finite")


def rough_center(raw: Any) -> list[np.ndarray]:
    """Return the median `(3,)` of the readable points of a faulty vertebra as a list of one; empty if none is."""
    segments = raw if isinstance(raw, list) else []
    points = [as_points(point, (3,))[0] for segment in segments if isinstance(segment, list) for point in segment]
    known = [point for point in points if point is not None]
    return [np.median(known, axis=0)] if known else []


def known_level(raw: Any) -> str | None:
    """Return a level's name as this library writes it ("Th7" becomes "T7"); None if no vertebra has that name."""
    name = str(raw).strip().replace("Th", "T")
    return name if name in NAMES else None


def fault(points: np.ndarray) -> tuple[str, str] | None:
    """Check the six points `(3, 2, 3)` of one vertebra, RAS; return code and sentence of the first fault, or None."""
    if np.ptp(points.reshape(-1, 3), axis=0).max() > LARGEST:
        return "implausible_size", "Two of its points lie farther apart than in any vertebra."
    front, up = points[0].mean(0) - points[2].mean(0), (points[:, 0] - points[:, 1]).mean(0)
    normal = np.cross(front, up)
    if np.linalg.norm(normal) <= 1e-6:
        return "coincident_points", "The six points span no area."
    front, up, normal = (v / np.linalg.norm(v) for v in (front, up, normal))
    return _axes_fault(front[1], up[2], normal[0]) or _order_fault(points, front, up)


def _axes_fault(forward: float, upward: float, normal: float) -> tuple[str, str] | None:
    """Judge the axes by three cosines: of the front to A, of up to S, and of the plane's normal to R."""
    if abs(normal) < LEAST_NORMAL or (normal < 0 and max(abs(forward), abs(upward)) < HALFWAY):
        return "wrong_axis_order", "The vertebra does not stand upright and face forward. Check the order of the axes."
    if upward < 0 and (upward < forward or forward < 0 < normal):
        return "swapped_ends", "The superior points lie below the inferior ones."
    if forward < 0 and normal < 0:
        return "swapped_sides", "The anterior points lie behind the posterior ones. Check their order, and RAS or LPS."
    return None


def _order_fault(points: np.ndarray, front: np.ndarray, up: np.ndarray) -> tuple[str, str] | None:
    for position, segment in zip(POSITIONS, points, strict=True):
        if (segment[0] - segment[1]) @ up <= 0:
            return "swapped_ends", f"The {position} superior point lies below the inferior one."
    if (np.diff(points @ front, axis=0) >= 0).any():
        return "swapped_sides", "The points are not in the order anterior, middle, posterior."
    across = up - (up @ front) * front
    if "segments_cross" in faults(np.stack([points @ front, points @ across], -1)):
        return "crossed_points", FAULTS["segments_cross"]
    return None
