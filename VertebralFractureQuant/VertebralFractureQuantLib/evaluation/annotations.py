"""The public six-point annotations (github.com/neuro-ml/anchor-free-genant): the vertebrae that each expert marked.

Points are `(3, 2, 3)` = [anterior, middle, posterior] x [superior, inferior] x [row, column, slice] in voxels of the
DICOM array: rows count posteriorly, columns to the patient's left, slices caudally. The files store no spacing; the
pixel size is recovered from the grid of the screen on which the points were clicked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..whole import visible
from .problems import Problem, as_points, fault, known_level, listed, read_object, rough_center

EXPERTS = ("expert1", "expert2", "expert3")  # of Zakharov et al. 2023; a fourth marked three patients
SLICE_STEP_MM = 0.8
GRID_TOLERANCE = 1e-3  # voxels; the rounding of the files is below 1e-5, the finest grid above 1e-2
NO_LISTS = "The file needs a list of vertebrae for each expert (Annotation.expertN)."
LEAST_VOTES = 3  # vertebrae that must agree on the pixel size
ROUNDED = 1e-3  # voxels; if all coordinates are multiples of it, their grid comes from the file, not from the screen
FARTHEST = 1000.0  # voxels from the median vertebra of a file; no spine is that long

Reading = dict[str, np.ndarray]  # points of each level


@dataclass(frozen=True, eq=False)
class AnnotatedPatient:
    """The annotations of one patient.

    Attributes
    ----------
    name, file : name of the patient and of the file.
    readings : the vertebrae of each expert.
    pixel_mm : the pixel size, None if the grid of clicks does not give it.
    left_out : `(k, 3)` rough centres, in voxels, of faulty vertebrae.
    """

    name: str
    file: str
    readings: dict[str, Reading]
    pixel_mm: float | None
    left_out: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))


def read_annotations(folder: Path) -> tuple[list[AnnotatedPatient], list[Problem]]:
    """Read all patients of a folder, and list the problems of its files.

    Raises
    ------
    VFQError
        `not_found`: there is no such folder; `nothing_to_evaluate`: it holds no usable annotation.
    """
    if not folder.is_dir():
        raise VFQError("not_found", f"There is no folder {folder.name!r}. Check the path.")
    problems: list[Problem] = []
    patients = []
    for path in visible(folder.glob("*.json")):
        data = read_object(path, problems)
        patient = data and parse_patient(data, path, problems)
        if patient:
            patients.append(patient)
    if not patients:
        message = f"{folder.name} holds no usable annotation. Give a folder of the public annotations (JSON files)."
        raise VFQError("nothing_to_evaluate", message + listed(problems))
    return patients, problems


def parse_patient(data: dict[str, Any], path: Path, problems: list[Problem]) -> AnnotatedPatient | None:
    """Read experts 1 to 3 of one file; None if none of them has a sound vertebra. Faults are added to `problems`."""
    annotation = data.get("Annotation")
    if not isinstance(annotation, dict):
        problems.append(Problem("wrong_schema", path.name, None, NO_LISTS))
        return None
    given = {expert: annotation[expert] for expert in EXPERTS if expert in annotation}
    for expert, entries in given.items():
        if not isinstance(entries, list):
            problems.append(Problem("wrong_schema", path.name, expert, NO_LISTS))
    lists = {expert: entries for expert, entries in given.items() if isinstance(entries, list)}
    left_out: list[np.ndarray] = []
    found = {e: _reading(entries, e, path.name, problems, left_out) for e, entries in lists.items()}
    readings = {expert: reading for expert, reading in _near(found, path.name, problems).items() if reading}
    if not readings:
        return None
    pixel_mm = pixel_spacing([v for reading in readings.values() for v in reading.values()])
    if pixel_mm is None:
        message = "The points share no common grid, so the pixel size is unknown and nothing is measured in mm."
        problems.append(Problem("no_spacing", path.name, None, message))
    return AnnotatedPatient(path.stem, path.name, readings, pixel_mm, np.reshape(left_out, (-1, 3)))


def to_ras(points: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Convert `(..., 3)` [row, column, slice] to [R, A, S] up to an offset.

    scale : size of a pixel and of a slice step.
    """
    return -points[..., [1, 0, 2]] * np.array([scale[0], scale[0], scale[1]])


def pixel_spacing(vertebrae: Sequence[np.ndarray]) -> float | None:
    """Recover the pixel size in mm from points `(3, 2, 3)` in voxels of slices `SLICE_STEP_MM` apart.

    The points of a vertebra were clicked on a screen whose pixels are square in mm, so rows and slices are whole
    multiples of one length. Each vertebra votes for a size, to the thousandth of a mm as in a DICOM header; it votes
    for a wrong one if its points happen to share a coarser grid. The result is None unless at least three vertebrae
    agree, and at least twice as many as on any other size. Points rounded to a few decimals have no vote: their rows
    and slices share the grid of the decimals.
    """
    exact = [v for v in vertebrae if not _is_rounded(v)]
    ratios = [_grid_step(v[..., 2].ravel()) / _grid_step(v[..., 0].ravel()) for v in exact]
    votes = Counter(round(float(r) * SLICE_STEP_MM, 3) for r in ratios if np.isfinite(r))
    (best, count), (_, second) = [*votes.most_common(2), (0.0, 0), (0.0, 0)][:2]
    return best if count >= max(LEAST_VOTES, 2 * second) else None


def _grid_step(coordinates: np.ndarray) -> float:
    """The largest step of which all differences are multiples (Euclid's algorithm); nan if there is none."""
    differences = np.abs(coordinates - coordinates[0])
    step = 0.0
    for longer in differences:
        while step > GRID_TOLERANCE:
            rest = longer % step
            longer, step = step, min(rest, step - rest)
        step = longer
    if step <= GRID_TOLERANCE:
        return float("nan")
    multiples = np.rint(differences / step)
    return float(differences @ multiples / (multiples @ multiples))


def _is_rounded(points: np.ndarray) -> bool:
    multiples = points[..., [0, 2]] / ROUNDED
    return bool(np.abs(multiples - np.rint(multiples)).max() < GRID_TOLERANCE)


def _near(found: dict[str, Reading], file: str, problems: list[Problem]) -> dict[str, Reading]:
    """Drop vertebrae that lie farther from the others than a spine is long."""
    middles = {(e, level): points.mean((0, 1)) for e, reading in found.items() for level, points in reading.items()}
    middle = np.median(list(middles.values()), axis=0) if middles else np.zeros(3)
    far = {key for key, place in middles.items() if np.abs(place - middle).max() > FARTHEST}
    for expert, level in sorted(far):
        problems.append(Problem("outside_volume", file, f"{expert} {level}", "It lies too far from the others."))
    return {e: {level: p for level, p in r.items() if (e, level) not in far} for e, r in found.items()}


def _reading(
    entries: list[Any], expert: str, file: str, problems: list[Problem], left_out: list[np.ndarray]
) -> Reading:
    reading: Reading = {}
    for i, entry in enumerate(entries):
        entry = entry if isinstance(entry, dict) else {}
        level = known_level(entry.get("type"))
        points, code = as_points(entry.get("segments"), (3, 2, 3))
        wrong = (code, "") if points is None else fault(to_ras(points, (1, 1)))
        if wrong is None and points is not None and points.min() < 0:
            wrong = "outside_volume", "A coordinate is negative."
        if wrong is None and level is None:
            wrong = "unknown_level", f"{entry.get('type')!r} is not a level, and experts are paired by level."
        if wrong is None and level in reading:
            wrong = "duplicate_level", "The expert marked this level twice; the first one counts."
        if wrong:
            problems.append(Problem(wrong[0], file, f"{expert} {level or i + 1}", wrong[1]))
            left_out += rough_center(entry.get("segments"))
        elif points is not None and level is not None:
            reading[level] = points
    return reading
