"""The axes of a volume, which may be sheared: a tilted gantry displaces each slice against the one before it.

`ijk_to_ras` `(4, 4)` maps (i, j, k, 1) to RAS mm; its columns are the axes. In a sheared volume the lengths of the
columns, the sizes of the voxels and the distances between planes of voxels differ. Which volumes are refused is left to
`checks`.
"""

from __future__ import annotations

import numpy as np

# About 0.3 degrees: far above the rounding of headers, below any gantry tilt that would change a height by 1 %.
ORTHONORMAL_TOLERANCE = 5e-3


def directions(ijk_to_ras: np.ndarray) -> np.ndarray:
    """Return the unit vectors along the axes, `(3, 3)`: columns i, j, k."""
    axes: np.ndarray = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    return axes


def slice_axis(ijk_to_ras: np.ndarray) -> int | None:
    """Return the axis (0 for i) across the slices: the other two are at right angles to each other.

    It is k wherever that is possible, as it always is in DICOM. None if no two axes are at right angles.
    """
    cosines = np.abs(directions(ijk_to_ras).T @ directions(ijk_to_ras))
    for axis, (one, other) in ((2, (0, 1)), (1, (0, 2)), (0, (1, 2))):
        if cosines[one, other] <= ORTHONORMAL_TOLERANCE:
            return axis
    return None


def tilt_deg(ijk_to_ras: np.ndarray) -> float:
    """Return the angle between the axis across the slices and the slices' normal, in degrees.

    It is 90 if no two axes are at right angles, or if all three lie in one plane.
    """
    axis = slice_axis(ijk_to_ras)
    if axis is None:
        return 90.0
    along = directions(ijk_to_ras)
    one, other = np.delete(along, axis, axis=1).T
    normal = np.cross(one, other)
    return float(np.degrees(np.arccos(np.clip(abs(normal @ along[:, axis]) / np.linalg.norm(normal), 0, 1))))


def is_sheared(ijk_to_ras: np.ndarray, tolerance: float = ORTHONORMAL_TOLERANCE) -> bool:
    """True if the axes deviate from right angles by more than rounding; `tolerance` : greatest cosine between two."""
    cosines = directions(ijk_to_ras).T @ directions(ijk_to_ras)
    return bool(np.abs(cosines - np.eye(3)).max() > tolerance)


def upright(ijk_to_ras: np.ndarray) -> np.ndarray:
    """Return the `(4, 4)` of the same slices stacked along their normal, without shear; the first voxel stays.

    A matrix without shear is returned as it is.
    """
    axis = slice_axis(ijk_to_ras)
    if axis is None or not is_sheared(ijk_to_ras):
        return ijk_to_ras
    matrix = np.array(ijk_to_ras, float)
    one, other = np.delete(matrix[:3, :3], axis, axis=1).T
    normal = np.cross(one, other)
    normal /= np.linalg.norm(normal)
    matrix[:3, axis] = normal * (normal @ matrix[:3, axis])
    return matrix


def voxel_size(ijk_to_ras: np.ndarray) -> tuple[float, float, float]:
    """Return the voxel size along k, j, i, mm: pixel spacing within slices, and the distance of slices along their
    normal. In a sheared volume the axis across the slices is longer than this distance."""
    i, j, k = np.linalg.norm(upright(ijk_to_ras)[:3, :3], axis=0)
    return float(k), float(j), float(i)


def plane_distances(ijk_to_ras: np.ndarray) -> np.ndarray:
    """Return the perpendicular distances between neighbouring planes of voxels `(3,)` [i, j, k], mm.

    A point this far outside the plane of the first voxels has an index of -1. Without shear it is the voxel size.
    """
    distances: np.ndarray = 1 / np.linalg.norm(np.linalg.inv(ijk_to_ras[:3, :3]), axis=1)
    return distances
