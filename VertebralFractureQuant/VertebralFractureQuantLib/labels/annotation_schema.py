"""The public six-point annotations (github.com/neuro-ml/anchor-free-genant), read and written without loss.

Their points are [row, column, slice] in voxels: rows count to the back, columns to the patient's left, slices to the
feet. In memory they are RAS mm, by the matrix of the case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..evaluation.annotations import SLICE_STEP_MM, pixel_spacing
from ..evaluation.problems import as_points
from .dataset import Case
from .incoming import Incoming, level_of, read_data, unreadable
from .reading import Label, LabelReading

KEPT = ("Folder", "SeriesInstanceUID")


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, list[tuple[str | None, np.ndarray]]]]:
    """Return what a file says beside its vertebrae, and level and points `(3, 2, 3)` in voxels of each expert's.

    Raises
    ------
    VFQError
        `not_found`, `bad_import`; `bad_labels` for faulty points or levels.
    """
    data = read_data(path)
    annotation = data.get("Annotation") if isinstance(data, dict) else None
    if not isinstance(annotation, dict) or not all(isinstance(given, list) for given in annotation.values()):
        raise unreadable(path, "it has no list of vertebrae for each expert (Annotation.expertN)")
    found = {expert: [_vertebra(v, path) for v in given] for expert, given in annotation.items()}
    return {key: value for key, value in data.items() if key != "Annotation"}, found


def _vertebra(entry: Any, path: Path) -> tuple[str | None, np.ndarray]:
    entry = entry if isinstance(entry, dict) else {}
    points, code = as_points(entry.get("segments"), (3, 2, 3))
    unknown = sorted(set(entry) - {"segments", "type"})
    if points is None or unknown:
        why = f"the key {unknown[0]!r} is unknown" if unknown else f"its points are faulty ({code})"
        raise VFQError("bad_labels", f"{path.name}: vertebra {entry.get('type')!r:.20}: {why}. Correct the file.")
    return level_of(entry.get("type"), path), points


def matrix_of(path: Path, pixel_mm: float | None = None, slice_mm: float = SLICE_STEP_MM) -> np.ndarray:
    """Return the matrix `(4, 4)` of a file's voxels (i column, j row, k slice) to RAS mm, up to an offset.

    Without `pixel_mm`, the pixel size is recovered from the grid of the clicks. VFQError `no_voxel_size` if it cannot
    be; as `read_file`.
    """
    found = read_file(path)[1]
    pixel_mm = pixel_mm or pixel_spacing([points for given in found.values() for _, points in given])
    if pixel_mm is None:
        message = f"{path.name}: the size of a pixel cannot be recovered from the points. Give it with --pixel-mm."
        raise VFQError("no_voxel_size", message)
    return np.diag([-pixel_mm, -pixel_mm, -slice_mm, 1.0])


def incoming(path: Path, case: Case) -> list[Incoming]:
    """Return the vertebrae of each expert in a file, in the space of `case`. VFQError as `read_file`."""
    matrix = voxel_matrix(case)
    return [
        Incoming(tuple(Label(level, points @ matrix[:3, :3].T + matrix[:3, 3]) for level, points in given), expert)
        for expert, given in read_file(path)[1].items()
    ]


def voxel_matrix(case: Case) -> np.ndarray:
    """Return the matrix `(4, 4)` of [row, column, slice, 1] to RAS mm: the axes of the scan in the annotations' order.

    VFQError `no_voxel_size` for a case without a matrix.
    """
    if case.ijk_to_ras is None:
        message = f"{case.name}: annotations are in voxels, but neither the CT nor the voxel size is known. Add the CT."
        raise VFQError("no_voxel_size", message)
    matrix = case.ijk_to_ras
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    along = -axes[[1, 0, 2]]  # rows: cosines of each voxel axis (columns) with back, left and feet
    order = max(permutations(range(3)), key=lambda p: sum(abs(along[row, axis]) for row, axis in enumerate(p)))
    turned, shift = np.empty((3, 3)), matrix[:3, 3].copy()
    for row, axis in enumerate(order):
        turned[:, row] = matrix[:3, axis] * (1 if along[row, axis] > 0 else -1)
        if along[row, axis] < 0:
            if case.shape is None:
                raise VFQError("no_voxel_size", f"{case.name}: the size of the scan is not known. Add its CT.")
            shift += matrix[:3, axis] * (case.shape[::-1][axis] - 1)
    return np.block([[turned, shift[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])


def document(case: Case, readings: Sequence[LabelReading]) -> tuple[dict[str, Any], list[str]]:
    """Return the file of a case, with the readings of its readers, and what it cannot say. VFQError `no_voxel_size`."""
    inverse = np.linalg.inv(voxel_matrix(case))
    annotation: dict[str, list[dict[str, Any]]] = {}
    left_out = []
    for reading in readings:
        kept = [label for label in reading.labels if label.keypoints is not None and label.level]
        lost = len(reading.labels) - len(kept)
        if lost:
            left_out.append(f"{case.name}, {reading.reader}: vertebrae without key points or level: {lost}.")
        annotation[reading.reader] = [
            {"segments": _voxels(label, inverse).tolist(), "type": (label.level or "").replace("T", "Th")}
            for label in kept
        ]
    return {**_kept(case.imported, case.name), "Annotation": annotation}, left_out


def _voxels(label: Label, inverse: np.ndarray) -> np.ndarray:
    """Return the points in voxels; those of one plane keep one column, free of rounding."""
    points: np.ndarray = np.asarray(label.keypoints) @ inverse[:3, :3].T + inverse[:3, 3]
    return np.round(points, 9) + 0.0


def _kept(imported: Mapping[str, Any], case: str) -> dict[str, Any]:
    return dict(imported) or dict(zip(KEPT, (case, ""), strict=True))
