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

from ..failures import Failure
from ..spine.keypoints import FAULTS, POSITIONS, faults
from ..spine.levels import NAMES

PROBLEMS = {
    "not_json": Failure("the file cannot be read as JSON", "Check the file in a text editor, or write it again."),
    "wrong_schema": Failure(
        "the file has no known schema, or lacks a part that its schema requires",
        "Give files as the formats page describes them; write the file again if it is an old one.",
    ),
    "missing_points": Failure(
        "a vertebra does not have three segments of two points with three coordinates each",
        "Mark all six points of the vertebra, or remove it from the file.",
    ),
    "not_finite": Failure(
        "a coordinate is NaN, infinite or null",
        "Correct the coordinate, or remove the vertebra from the file.",
    ),
    "coincident_points": Failure("the points span no area", "Mark the six points of the vertebra again."),
    "implausible_size": Failure(
        "the points lie farther apart than those of any vertebra",
        "Check the points and their unit, which is mm.",
    ),
    "swapped_ends": Failure(
        "a superior point lies below its inferior point",
        "Exchange the superior and the inferior points.",
    ),
    "swapped_sides": Failure(
        "the points are not in the order anterior, middle, posterior",
        "Exchange the anterior and the posterior points, and check if the coordinates are RAS or LPS.",
    ),
    "crossed_points": Failure("the lines between the points cross", "Mark the six points of the vertebra again."),
    "wrong_axis_order": Failure(
        "the coordinates are not in the order of the schema",
        "Write the coordinates in the order of the schema.",
    ),
    "unknown_level": Failure("no vertebra has this name", "Correct the name, for example to T12."),
    "duplicate_level": Failure(
        "one expert has two vertebrae of the same name",
        "Correct the name of one of the two vertebrae, or remove one.",
    ),
    "outside_volume": Failure(
        "points lie outside the scan",
        "Check that the points belong to this scan, and its coordinates.",
    ),
    "bad_curve": Failure(
        "the points of the spine's curve form no curve",
        "Remove the curve from the file, or write it again.",
    ),
    "no_vertebra": Failure(
        "the reference has no usable vertebra",
        "Correct the vertebrae that are listed for this file, or give another reference.",
    ),
    "uncorrected": Failure(
        "no reader has corrected or confirmed anything in this analysis, so it is not a reference",
        "Review the case with vfq review, or take it out of the folder of references.",
    ),
    "corrected": Failure(
        "a reader has changed this analysis, and the original (machine.json) is missing",
        "Analyse the scan again into another folder, or use --reviewed.",
    ),
    "no_spacing": Failure(
        "the pixel spacing cannot be recovered",
        "Use the original file, with coordinates that are not rounded; without it only G is evaluated, in voxels.",
    ),
    "no_common_space": Failure(
        "the prediction and the reference are in different coordinates",
        "Analyse the scan again with this version, whose analysis.json holds source.ijk_to_ras.",
    ),
    "duplicate_case": Failure(
        "two files are of the same case",
        "Take one of the two files out of the folder, or rename its case.",
    ),
    "no_reference": Failure(
        "no reference has the name of the prediction",
        "Name the reference as the case, or take the case out of the folder.",
    ),
    "no_prediction": Failure(
        "no prediction belongs to the reference",
        "Analyse the scan of the reference, or take the reference out of the folder.",
    ),
    "no_scan": Failure(
        "the CT of the reference is not in the folder of scans",
        "Put the CT into the folder of --scans, or take the reference out of its folder.",
    ),
    "not_measured": Failure(
        "no method could measure the scan",
        "Look up the code that the message gives, and check that the file is a whole CT of the spine.",
    ),
    "no_pair": Failure(
        "the patient has a single examination, and two are needed",
        "Analyse another examination of the patient into the same folder, or remove the folder.",
    ),
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

    @property
    def text(self) -> str:
        """The message, or the text of the code."""
        return self.message or PROBLEMS[self.code].meaning


OF_A_CASE = ("analysis.json", "machine.json", "truth.json")


def named(path: Path) -> str:
    """Return the name of a file for messages, with its folder if every case has a file of that name."""
    return f"{path.parent.name}/{path.name}" if path.name in OF_A_CASE else path.name


def listed(problems: Sequence[Problem], most: int = 6) -> str:
    """Return the first `most` problems as text for a message, one on each line."""
    lines = [f"\n  {p.code} {p.file}{f', {p.vertebra}' if p.vertebra else ''}: {p.text}" for p in problems]
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


def remedies(problems: Sequence[Problem]) -> dict[str, str]:
    """Return what to do, by each code that occurs in `problems`."""
    return {code: PROBLEMS[code].remedy for code in dict.fromkeys(p.code for p in problems)}
