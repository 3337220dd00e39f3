"""The public six-point annotations (github.com/neuro-ml/anchor-free-genant): what each expert marked on each patient.

Points are `(3, 2, 3)` = [anterior, middle, posterior] x [superior, inferior] x [row, column, slice] in voxels of the
DICOM array: row grows posteriorly, column to the patient's left, slice caudally. The files store no spacing; the
pixel's is recovered from the grid of the screen on which the points were clicked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from .problems import Problem, as_points, fault, known_level, listed, read_object, rough_center

EXPERTS = ("expert1", "expert2", "expert3")  # of Zakharov et al. 2023; a fourth marked three patients
SLICE_STEP_MM = 0.8
GRID_TOLERANCE = 1e-3  # voxels; the files' own rounding is below 1e-5, the finest grid above 1e-2
LEAST_VOTES = 3
ROUNDED = 1e-3  # voxels; where all coordinates are multiples of it, their grid is the file's and not the screen's
FARTHEST = 1000.0  # voxels, from the middle of a file's vertebrae: no spine is as long

Reading = dict[str, np.ndarray]  # level to points


@dataclass(frozen=True, eq=False)
class AnnotatedPatient:
    """`readings` holds the vertebrae of each expert; `pixel_mm` is None where the click grid does not tell it;
    `left_out` `(k, 3)` are the rough centres, in voxels, of vertebrae that are not sound."""

    name: str
    file: str
    readings: dict[str, Reading]
    pixel_mm: float | None
    left_out: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))


def read_annotations(folder: Path) -> tuple[list[AnnotatedPatient], list[Problem]]:
    """All patients of a folder, and what is wrong with its files.

    Raises
    ------
    VFQError
        `not_found` without the folder, `nothing_to_evaluate` where it holds no usable annotation.
    """
    if not folder.is_dir():
        raise VFQError("not_found", f"There is no folder {folder.name}.")
    problems: list[Problem] = []
    patients = []
    for path in sorted(folder.glob("*.json")):
        data = read_object(path, problems)
        patient = data and parse_patient(data, path, problems)
        if patient:
            patients.append(patient)
    if not patients:
        raise VFQError(
            "nothing_to_evaluate", f"{folder.name} holds no usable annotation{listed(problems) or ', no JSON file'}."
        )
    return patients, problems


def parse_patient(data: dict[str, Any], path: Path, problems: list[Problem]) -> AnnotatedPatient | None:
    """One file's experts 1 to 3; None where none of them has a sound vertebra. What is wrong goes to `problems`."""
    annotation = data.get("Annotation")
    if not isinstance(annotation, dict):
        problems.append(Problem("wrong_schema", path.name, None, "Annotation.expertN with lists is expected."))
        return None
    given = {expert: annotation[expert] for expert in EXPERTS if expert in annotation}
    for expert, entries in given.items():
        if not isinstance(entries, list):
            problems.append(Problem("wrong_schema", path.name, expert, "Annotation.expertN with lists is expected."))
    lists = {expert: entries for expert, entries in given.items() if isinstance(entries, list)}
    left_out: list[np.ndarray] = []
    found = {e: _reading(entries, e, path.name, problems, left_out) for e, entries in lists.items()}
    readings = {expert: reading for expert, reading in _near(found, path.name, problems).items() if reading}
    if not readings:
        return None
    pixel_mm = pixel_spacing([v for reading in readings.values() for v in reading.values()])
    if pixel_mm is None:
        problems.append(Problem("no_spacing", path.name, None, "The points lie on no common grid: nothing in mm."))
    return AnnotatedPatient(path.stem, path.name, readings, pixel_mm, np.reshape(left_out, (-1, 3)))


def to_ras(points: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """`(..., 3)` [row, column, slice] as [R, A, S] up to an offset; `scale` is that of a pixel and of a slice step."""
    return -points[..., [1, 0, 2]] * np.array([scale[0], scale[0], scale[1]])


def pixel_spacing(vertebrae: Sequence[np.ndarray]) -> float | None:
    """The pixel's size in mm, from points `(3, 2, 3)` in voxels of slices `SLICE_STEP_MM` apart.

    The points of a vertebra were clicked on a screen whose pixels are square in mm, so rows and slices are whole
    multiples of one length. Each vertebra whose points share no coarser grid tells it, to the thousandth of a DICOM
    header; None unless three agree, twice as many as for any other size. Points rounded to a few decimals tell nothing:
    rows and slices share that grid.
    """
    exact = [v for v in vertebrae if not _is_rounded(v)]
    ratios = [_grid_step(v[..., 2].ravel()) / _grid_step(v[..., 0].ravel()) for v in exact]
    votes = Counter(round(float(r) * SLICE_STEP_MM, 3) for r in ratios if np.isfinite(r))
    (best, count), (_, second) = [*votes.most_common(2), (0.0, 0), (0.0, 0)][:2]
    return best if count >= max(LEAST_VOTES, 2 * second) else None


def _grid_step(coordinates: np.ndarray) -> float:
    """The largest step of which all differences are multiples (Euclid's algorithm); nan where there is none."""
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
    """The readings without vertebrae that lie farther from the others than a spine is long."""
    middles = {(e, level): points.mean((0, 1)) for e, reading in found.items() for level, points in reading.items()}
    middle = np.median(list(middles.values()), axis=0) if middles else np.zeros(3)
    far = {key for key, place in middles.items() if np.abs(place - middle).max() > FARTHEST}
    for expert, level in sorted(far):
        problems.append(Problem("outside_volume", file, f"{expert} {level}", "It lies far from all other vertebrae."))
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
            wrong = "unknown_level", f"{entry.get('type')!r}: experts are paired by the level's name."
        if wrong is None and level in reading:
            wrong = "duplicate_level", "The first one counts."
        if wrong:
            problems.append(Problem(wrong[0], file, f"{expert} {level or i + 1}", wrong[1]))
            left_out += rough_center(entry.get("segments"))
        elif points is not None and level is not None:
            reading[level] = points
    return reading
