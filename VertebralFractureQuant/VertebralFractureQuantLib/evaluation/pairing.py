"""Pair each prediction with its reference, and place the reference in the coordinates of the prediction (RAS mm)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np

from .annotations import to_ras
from .problems import Problem
from .spines import RAS, VOXELS, Grid, Spine, inside


def pair_cases(
    predictions: Sequence[Spine], references: Sequence[Spine]
) -> tuple[list[tuple[Spine, Spine]], list[Problem]]:
    """Pair each prediction with the reference of the same case, or with the longest name that its own begins with.

    Several predictions may share a reference: they count as several scans of one patient. Returns the pairs
    (prediction, reference), and a problem for each file that has no partner.
    """
    pairs: list[tuple[Spine, Spine]] = []
    problems: list[Problem] = []
    for prediction in predictions:
        fitting = [r for r in references if r.case == prediction.case or _begins(r.case, prediction.case)]
        if fitting:
            pairs.append((prediction, max(fitting, key=lambda r: len(r.case))))
        else:
            problems.append(Problem("no_reference", prediction.file, None, _no_partner(prediction, "reference")))
    paired = {id(reference) for _, reference in pairs}
    problems += [
        Problem("no_prediction", r.file, None, _no_partner(r, "prediction")) for r in references if id(r) not in paired
    ]
    return pairs, problems


def in_common_space(prediction: Spine, reference: Spine) -> tuple[Spine | None, list[Problem]]:
    """Place `reference` in the space of `prediction`, without the vertebrae that lie outside its scan.

    The public annotations need `source.ijk_to_ras` (4 x 4) and `source.shape` in the prediction's analysis.json.
    Without them the result is None, with a `no_common_space` problem; only if the prediction has no vertebra does the
    reference still count, all of it as missed.
    """
    if reference.space == VOXELS:
        if prediction.grid is None or prediction.grid.ijk_to_ras is None:
            message = f"{prediction.case}: the annotation is in voxels, but the analysis has no source.ijk_to_ras."
            if len(prediction.keypoints):
                return None, [Problem("no_common_space", reference.file, None, message)]
            message += " Nothing was measured, so every vertebra counts as missed; G is computed in voxels."
            upright = replace(reference, keypoints=to_ras(reference.keypoints, (1, 1)), space=RAS)
            return upright, [Problem("no_common_space", reference.file, None, message)]
        reference = _from_voxels(reference, prediction.grid)
    return inside(reference, prediction.grid, prediction.landmark)


def _no_partner(spine: Spine, wanted: str) -> str:
    return f"{spine.case} is not evaluated: it has no {wanted}."


def _begins(reference: str, prediction: str) -> bool:
    """True if the prediction's name starts with the reference's name and continues after the end of a word.

    "X_ct" continues "X"; "X2" does not. Neither does "X-2": that is our name for a different scan whose file is also
    called X.
    """
    rest = prediction[len(reference) :]
    return prediction.startswith(reference) and not rest[:1].isalnum() and not re.fullmatch(r"-\d+", rest)


def _from_voxels(spine: Spine, grid: Grid) -> Spine:
    """Convert an annotation from voxels [row, column, slice] to RAS mm.

    Its columns count to the patient's left, its rows posteriorly and its slices caudally. The axes of the scan may run
    the other way, or come in another order.
    """
    assert grid.ijk_to_ras is not None
    matrix = grid.ijk_to_ras
    voxel_axes = max(permutations(range(3)), key=lambda order: abs(matrix[range(3), order]).sum())

    def to_patient(voxels: np.ndarray) -> np.ndarray:
        """Return RAS mm of points `(..., 3)` in voxels of the annotation."""
        ijk = np.empty_like(voxels)
        for patient_axis, axis in enumerate(voxel_axes):
            along, size = voxels[..., (1, 0, 2)[patient_axis]], grid.shape[::-1][axis]
            ijk[..., axis] = size - 1 - along if matrix[patient_axis, axis] > 0 else along
        ras: np.ndarray = ijk @ matrix[:3, :3].T + matrix[:3, 3]
        return ras

    return replace(spine, keypoints=to_patient(spine.keypoints), partial=to_patient(spine.partial), space=RAS)
