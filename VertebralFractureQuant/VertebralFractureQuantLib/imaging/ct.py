"""A CT volume: voxels `[k, j, i]` in HU (int16), and the matrix that places them in the patient, RAS millimetres.

It is made from an array here and from a file in `files`; both refuse what cannot be measured (`checks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .axes import plane_distances, voxel_size
from .checks import check_axes, check_ct, check_shape, to_int16

PADDING_HU = -990.0  # voxels up to this value may be padding
# A point this little outside (in voxels) counts as on the border: inverted matrices are not exact.
BORDER = 1e-4


@dataclass(frozen=True, eq=False)
class CTVolume:
    """One CT.

    Attributes
    ----------
    voxels : `[k, j, i]` int16 HU.
    ijk_to_ras : `(4, 4)`, (i, j, k, 1) to RAS mm; the axes may be oblique, flipped, or sheared by a tilted gantry.
    name : the case: the name of the file without its extensions, or that of the DICOM folder.
    notes : decisions made while reading, in sentences for the user. They may list series by UID: keep them out of
        records.
    series : fingerprint of the DICOM series (`dicom_choice.Series.fingerprint`); None for other formats and
        without a UID.
    widest_gap_mm : the widest distance between neighbouring slices as they were acquired. It exceeds the spacing where
        slices were interpolated. 0 if the spacing tells it.
    """

    voxels: np.ndarray
    ijk_to_ras: np.ndarray
    name: str
    notes: tuple[str, ...] = ()
    widest_gap_mm: float = 0.0
    series: str | None = None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along k, j, i, mm: pixels, and the distance of slices along their normal (`axes.voxel_size`)."""
        return voxel_size(self.ijk_to_ras)

    @property
    def ras_to_ijk(self) -> np.ndarray:
        """The inverse of `ijk_to_ras`, `(4, 4)`: RAS mm to (i, j, k, 1)."""
        return np.linalg.inv(self.ijk_to_ras)

    def sample(self, points_ras: np.ndarray, fill: float = -1000) -> np.ndarray:
        """Interpolate HU trilinearly, float32 `(...)`, at RAS mm points `(..., 3)`.

        Outside the outermost voxel centres the value is `fill`. Only the eight neighbours of each point are read.
        """
        points = np.asarray(points_ras, float)
        turn, shift = self.ras_to_ijk[:3, :3].copy(), self.ras_to_ijk[:3, 3:]
        ijk = turn @ points.reshape(-1, 3).T  # a row for each axis: numpy is several times faster along long rows
        ijk += shift
        last = np.array(self.voxels.shape[::-1]) - 1
        inside = np.logical_and.reduce([(x >= -BORDER) & (x <= n + BORDER) for x, n in zip(ijk, last, strict=True)])
        outside = ~inside
        ijk[:, outside] = 0  # any voxel; to leave these points out takes longer
        values = _trilinear(self.voxels, np.clip(ijk, 0, last[:, None], out=ijk), last)
        values[outside] = fill
        return values.reshape(points.shape[:-1])


def from_array(
    voxels: np.ndarray, ijk_to_ras: np.ndarray, name: str = "volume", notes: tuple[str, ...] = ()
) -> CTVolume:
    """Return a checked CTVolume from an array `[k, j, i]` of HU and its `(4, 4)` ijk_to_ras; int16 is not copied.

    VFQError as in `check_ct`; `bad_voxels` for NaN or infinity.
    """
    check_shape(voxels.shape)
    matrix = np.array(ijk_to_ras, float)
    check_axes(matrix)
    hounsfield = to_int16(voxels)
    check_ct(hounsfield, matrix)
    return CTVolume(hounsfield, matrix, name, notes)


def inside(ct: CTVolume, points: np.ndarray, margin_mm: float = 0.0) -> np.ndarray:
    """Tell which RAS mm points `(..., 3)` lie in the volume, up to the outer edges of its voxels: booleans `(...)`.

    `margin_mm` widens the volume on every side.
    """
    ijk = points @ ct.ras_to_ijk[:3, :3].T + ct.ras_to_ijk[:3, 3]
    size = np.array(ct.voxels.shape[::-1])
    margin = 0.5 + margin_mm / plane_distances(ct.ijk_to_ras)
    return ((ijk >= -margin) & (ijk <= size - 1 + margin)).all(-1)


def inside_of(shape: Sequence[int], ijk_to_ras: np.ndarray, margin_mm: float) -> Callable[[np.ndarray], bool]:
    """Return a function that tells if RAS mm points `(..., 3)` all lie in a volume `[k, j, i]`, as `inside` does.

    It is for a scan of which only the shape and the matrix are known, and for many calls.
    """
    matrix = np.linalg.inv(ijk_to_ras)
    turn, shift = matrix[:3, :3].T, matrix[:3, 3]
    margin = 0.5 + margin_mm / plane_distances(ijk_to_ras)
    low, high = -margin, np.array(shape[::-1]) - 1 + margin

    def whole(points: np.ndarray) -> bool:
        """True if all points lie in the volume."""
        ijk = points.reshape(-1, 3) @ turn + shift
        return bool((ijk.min(0) >= low).all() and (ijk.max(0) <= high).all())

    return whole


def without_padding(ct: CTVolume) -> CTVolume:
    """Return `ct` without the outer slices, rows and columns whose voxels are all `PADDING_HU` or less.

    The result is a view of the same voxels; it is `ct` itself if no voxel lies above.
    """
    held = tuple(_held(np.moveaxis(ct.voxels, axis, 0)) for axis in range(3))
    if any(range_ is None for range_ in held):
        return ct
    k, j, i = (range_.start for range_ in held if range_)
    matrix = ct.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, :3] @ (i, j, k)
    return replace(ct, voxels=ct.voxels[held], ijk_to_ras=matrix)


def _held(planes: np.ndarray) -> slice | None:
    """Return the range from the first to the last of `planes` with a voxel above padding; None without any."""
    count = len(planes)
    first = next((n for n in range(count) if planes[n].max() > PADDING_HU), None)
    if first is None:
        return None
    last = next(n for n in reversed(range(count)) if planes[n].max() > PADDING_HU)
    return slice(first, last + 1)


def _trilinear(voxels: np.ndarray, ijk: np.ndarray, last: np.ndarray) -> np.ndarray:
    base = np.minimum(ijk.astype(np.intp), np.maximum(last - 1, 0)[:, None])
    steps = np.minimum(1, last)  # an axis of one voxel has no upper neighbour
    u, v, w = (ijk - base).astype(np.float32)
    flat, strides = _flattened(voxels)
    where = base[0] * strides[0] + base[1] * strides[1] + base[2] * strides[2]
    di, dj, dk = steps * strides
    rest_u, rest_v = 1 - u, 1 - v

    def row(first: np.ndarray) -> np.ndarray:
        """Interpolate along i, between two neighbours."""
        value: np.ndarray = flat.take(first) * rest_u
        value += flat.take(first + di) * u
        return value

    near = row(where) * rest_v + row(where + dj) * v
    far = row(where + dk) * rest_v + row(where + (dj + dk)) * v
    return near * (1 - w) + far * w


def _flattened(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels `[k, j, i]` as one row, and how far apart neighbours along i, j, k lie in it.

    A part of a larger array is not copied: the row then begins and ends in it.
    """
    strides = np.array(voxels.strides[::-1]) // voxels.itemsize
    if (strides < 0).any() or (strides * voxels.itemsize != voxels.strides[::-1]).any():
        voxels = np.ascontiguousarray(voxels)
        strides = np.array(voxels.strides[::-1]) // voxels.itemsize
    length = int((np.array(voxels.shape[::-1]) - 1) @ strides) + 1
    return np.lib.stride_tricks.as_strided(voxels, (length,), (voxels.itemsize,)), strides
