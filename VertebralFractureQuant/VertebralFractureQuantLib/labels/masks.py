"""First points from a vertebra mask with the numbers of TotalSegmentator or VerSe, said to be derived from it.

A mask must have the voxels of the CT of its case. A vertebra that the border cuts, or whose mask is too small or not
that of a vertebra, gets no points.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import VFQError
from ..evaluation.problems import fault
from ..imaging.checks import itk_name
from ..spine.levels import NAMES
from ..spine.record import SAME_PLACE_MM
from .dataset import Case
from .incoming import Incoming, unreadable
from .mask_shapes import Shape, in_frames, shapes_of, six_points, with_sacrum
from .reading import Label

_ORDER = [f"{region}{n}" for region, count in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, count + 1)]
VERSE = {i + 1: name for i, name in enumerate(_ORDER)} | {25: "L6", 28: "T13"}
TOTALSEGMENTATOR = {50 - i: name for i, name in enumerate(_ORDER)}
NUMBERS = {"verse": VERSE, "totalsegmentator": TOTALSEGMENTATOR}
SACRUM = 26  # in both; it helps to see how the last lumbar vertebra stands
LEAST_NUMBERED = 2
NO_BODY = "its mask has not the shape of a vertebral body"


def from_mask(path: Path, case: Case, numbers: str) -> list[Incoming]:
    """Return the vertebrae of the mask at `path`, with key points where they are whole.

    numbers : which numbers the mask has, a key of `NUMBERS`.

    Raises
    ------
    VFQError
        `other_ct` unless the mask has the voxels of the case's CT; `bad_labels` if its numbers are others; `not_found`,
        `bad_import`.
    """
    voxels, matrix = _read(path)
    _check_grid(case, voxels, matrix, path)
    labels, spacing, origin = _upright(voxels, matrix, path)
    shapes = shapes_of(labels, {**NUMBERS[numbers], SACRUM: "S1"}, spacing, origin)
    if len(shapes) < LEAST_NUMBERED:
        message = f"{path.name}: it has {len(shapes)} vertebrae with the numbers of {numbers}; at least 2 are needed."
        raise VFQError("bad_labels", f"{message} Check --numbers.")
    _check_order(shapes, path, numbers)
    found, left_out = [], []
    for shape in in_frames(with_sacrum(shapes)):
        if shape.level not in NAMES:
            continue  # C1 and the sacrum have no body
        points, why = _points(shape)
        if points is None:
            left_out.append(f"{path.name}: {shape.level}, {why}")
        else:
            found.append(Label(shape.level, points, source="mask"))
    return [Incoming(tuple(found), left_out=tuple(left_out))]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels `[k, j, i]` and their matrix to RAS mm."""
    import SimpleITK as sitk

    if not path.exists():
        raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.")
    try:
        image = sitk.ReadImage(itk_name(path, "bad_import"))
    except RuntimeError as error:
        raise unreadable(path, "it is not an image") from error
    voxels = sitk.GetArrayFromImage(image)
    if voxels.ndim != 3 or (voxels != np.rint(voxels)).any() or voxels.min() < 0 or voxels.max() > 255:
        raise unreadable(path, "its voxels are not whole numbers from 0 to 255, or it is not a single volume")
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return voxels.astype(np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


def _check_grid(case: Case, voxels: np.ndarray, matrix: np.ndarray, path: Path) -> None:
    """Compare the corners of the mask with those of the CT, whatever the order of their axes."""
    if case.shape is None or case.ijk_to_ras is None:
        message = f"{case.name}: a mask can only be imported for a case with its CT. Add the CT to the label set first."
        raise VFQError("other_ct", message)
    own, other = _corners(case.shape, case.ijk_to_ras), _corners(voxels.shape, matrix)
    same = sorted(case.shape) == sorted(voxels.shape)
    if not same or np.linalg.norm(own[:, None] - other, axis=-1).min(1).max() > SAME_PLACE_MM:
        message = f"{path.name} has other voxels than the CT of {case.name}. Give the mask of this CT, on its own grid."
        raise VFQError("other_ct", message)


def _corners(shape: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    ends = np.array(np.meshgrid(*[(0.0, n - 1.0) for n in shape[::-1]])).reshape(3, -1).T
    return ends @ matrix[:3, :3].T + matrix[:3, 3]


def _upright(voxels: np.ndarray, matrix: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the voxels with axes to R, A and S, their size and the first one's place, `(3,)` mm."""
    axis = [int(np.argmax(abs(row))) for row in matrix[:3, :3]]  # voxel axis along R, A, S
    turned = matrix[:3, axis]
    spacing = np.linalg.norm(turned, axis=0)
    if len(set(axis)) != 3 or abs(np.diag(turned) / spacing).min() < 1 - 1e-4:
        message = "its axes are oblique. Resample CT and mask to axes along the patient, and add that CT as the case"
        raise unreadable(path, message)
    upright = voxels.transpose([2 - axis[2], 2 - axis[1], 2 - axis[0]])
    origin = matrix[:3, 3].copy()
    for d in range(3):
        if turned[d, d] < 0:
            upright = np.flip(upright, 2 - d)
            origin[d] += turned[d, d] * (upright.shape[2 - d] - 1)
    return upright, spacing, origin


def _check_order(shapes: list[Shape], path: Path, numbers: str) -> None:
    names = [s.level for s in shapes]
    order = ["C1", *NAMES, "S1"]
    if names != sorted(names, key=order.index):
        message = f"{path.name}: with the numbers of {numbers}, the levels from the top are {', '.join(names)}."
        raise VFQError("bad_labels", f"{message} Check --numbers.")


def _points(shape: Shape) -> tuple[np.ndarray | None, str]:
    """Return the key points of a vertebra, or the reason why it has none."""
    if shape.cut:
        return None, "which the border of the scan cuts"
    if shape.canal is None:
        return None, "as its mask shows no spinal canal behind a body"
    try:
        points = six_points(shape)
    except (ValueError, IndexError):  # nothing of the mask lies in the middle plane
        return None, NO_BODY
    return (None, NO_BODY) if not np.isfinite(points).all() or fault(points) else (points, "")
