"""A CT volume: voxels `[k, j, i]` in HU (int16) and the matrix that places them in the patient, RAS millimetres.

LPS, ITK's and DICOM's convention, exists only where files are read and written. Whatever cannot be measured is refused
here with a coded VFQError; its texts never hold paths, identifiers or other patient data. Notes may hold series' UIDs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from .checks import LPS_TO_RAS, check_axes, check_ct, check_shape, itk_name, require_memory, to_int16
from .dicom import is_dicom, read_dicom
from .headers import NIFTI_PAIR, check_text_header, nifti_files, read_nifti_header, read_nifti_voxels

__all__ = ["CTVolume", "case_name", "check_ct", "from_array", "read_ct", "write_ct"]

NIFTI = (".nii", ".nii.gz")
PADDING_HU = -990.0  # what is not above may be what a scan was padded with
WRITTEN = (*NIFTI, ".nrrd", ".mha")  # whole images in one file
TEXT_HEADED = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (".nii.gz", ".nii", *TEXT_HEADED, ".gz")
# A point this little outside (in voxels) is on the border: matrices that were inverted are not exact.
BORDER = 1e-4


@dataclass(frozen=True, eq=False)
class CTVolume:
    """One CT.

    Attributes
    ----------
    voxels : `[k, j, i]` int16 HU.
    ijk_to_ras : `(4, 4)`, (i, j, k, 1) to RAS mm; any orthogonal direction, oblique and flipped ones too.
    name : the case: a file's name without extensions, or a DICOM folder's.
    notes : what was decided while reading, in sentences for people; for no record, since they may list series by UID.
    """

    voxels: np.ndarray
    ijk_to_ras: np.ndarray
    name: str
    notes: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances between voxel centres along k, j, i."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(k), float(j), float(i)

    @property
    def ras_to_ijk(self) -> np.ndarray:
        """`(4, 4)`, RAS mm to (i, j, k, 1)."""
        return np.linalg.inv(self.ijk_to_ras)

    def sample(self, points_ras: np.ndarray, fill: float = -1000) -> np.ndarray:
        """Trilinear HU, float32 `(...)`, at RAS mm points `(..., 3)`; `fill` outside the outermost voxel centres.

        Touches only the eight neighbours of each point.
        """
        points = np.asarray(points_ras, float)
        ijk = points.reshape(-1, 3) @ self.ras_to_ijk[:3, :3].T + self.ras_to_ijk[:3, 3]
        last = np.array(self.voxels.shape[::-1]) - 1
        inside = ((ijk >= -BORDER) & (ijk <= last + BORDER)).all(axis=1)
        values = np.full(len(ijk), fill, np.float32)
        values[inside] = _trilinear(self.voxels, np.clip(ijk[inside], 0, last), last)
        return values.reshape(points.shape[:-1])


def without_padding(ct: CTVolume) -> CTVolume:
    """`ct` without the outer slices, rows and columns that hold nothing above `PADDING_HU`: it may have been padded.

    A view of the same voxels; `ct` itself where there is nothing else.
    """
    held = tuple(_held(np.moveaxis(ct.voxels, axis, 0)) for axis in range(3))
    if any(range_ is None for range_ in held):
        return ct
    k, j, i = (range_.start for range_ in held if range_)
    matrix = ct.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, :3] @ (i, j, k)
    return replace(ct, voxels=ct.voxels[held], ijk_to_ras=matrix)


def _held(planes: np.ndarray) -> slice | None:
    """From the first to the last of `planes` that holds more than padding."""
    count = len(planes)
    first = next((n for n in range(count) if planes[n].max() > PADDING_HU), None)
    if first is None:
        return None
    last = next(n for n in reversed(range(count)) if planes[n].max() > PADDING_HU)
    return slice(first, last + 1)


def _trilinear(voxels: np.ndarray, ijk: np.ndarray, last: np.ndarray) -> np.ndarray:
    base = np.minimum(ijk.astype(np.intp), np.maximum(last - 1, 0))
    i, j, k = base.T
    di, dj, dk = np.minimum(1, last)  # an axis of one voxel has no upper neighbour
    u, v, w = (ijk - base).astype(np.float32).T

    def row(kk: np.ndarray, jj: np.ndarray) -> np.ndarray:
        low, high = voxels[kk, jj, i], voxels[kk, jj, i + di]
        return low * (1 - u) + high * u

    near = row(k, j) * (1 - v) + row(k, j + dj) * v
    far = row(k + dk, j) * (1 - v) + row(k + dk, j + dj) * v
    return near * (1 - w) + far * w


def from_array(
    voxels: np.ndarray, ijk_to_ras: np.ndarray, name: str = "volume", notes: tuple[str, ...] = ()
) -> CTVolume:
    """A checked CTVolume from an array `[k, j, i]` of HU and its `(4, 4)` ijk_to_ras; int16 is not copied.

    VFQError as `check_ct`, and `bad_voxels` for NaN or infinity.
    """
    check_shape(voxels.shape)
    matrix = np.array(ijk_to_ras, float)
    check_axes(matrix)
    hounsfield = to_int16(voxels)
    check_ct(hounsfield, matrix)
    return CTVolume(hounsfield, matrix, name, notes)


def read_ct(path: Path | str, series: str | None = None, max_bytes: int | None = None) -> CTVolume:
    """The CT in a NIfTI, NRRD or MetaImage file, or in a DICOM folder (or the series of one DICOM file).

    Parameters
    ----------
    path : file or folder; folders are searched with their sub-folders.
    series : Series Instance UID to take from a DICOM folder; without it, the CT series with most slices.
    max_bytes : memory that the voxels may take; without it, what is available.

    Raises
    ------
    VFQError : with a code of `errors.CODES` and a message that says what to do.
    """
    path = Path(path)
    if not path.exists():
        raise VFQError("not_found", f"There is no file or folder {path.name!r}. Check the path.")
    try:
        return _read(path, series, max_bytes)
    except OSError as error:
        raise VFQError("corrupt_file", f"{path.name!r} cannot be read: {error.strerror or error}.") from None
    except MemoryError:
        raise VFQError("out_of_memory", f"Memory ran out while reading {path.name!r}. Close other programs.") from None


def _read(path: Path, series: str | None, max_bytes: int | None) -> CTVolume:
    if path.is_dir() or is_dicom(path):
        folder = (path if path.is_dir() else path.parent).resolve()
        voxels, matrix, notes = read_dicom(path, series, max_bytes)
        return from_array(voxels, matrix, folder.name, notes)
    if path.name.lower().endswith((*NIFTI, *NIFTI_PAIR)):
        voxels, matrix = _read_nifti(path, max_bytes)
    else:
        voxels, matrix = _read_itk(path, max_bytes)
    return from_array(voxels, matrix, case_name(path))


def case_name(path: Path) -> str:
    """The file's name without its extensions: "a b.nii.gz" is "a b", "p.1.mha" is "p.1"."""
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return path.name[: len(path.name) - len(suffix)] or path.name


def _read_nifti(path: Path, max_bytes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The geometry is ITK's, as in Slicer; the voxels are not, since ITK fills missing ones with zeros."""
    header_file, voxel_file = nifti_files(path)
    header = read_nifti_header(header_file, alone=header_file == voxel_file)
    voxels = read_nifti_voxels(voxel_file, header, max_bytes)
    return to_int16(voxels, header.slope, header.intercept), _matrix(_itk_header(header_file))


def _read_itk(path: Path, max_bytes: int | None) -> tuple[np.ndarray, np.ndarray]:
    import SimpleITK as sitk

    if path.name.lower().endswith(TEXT_HEADED):
        check_text_header(path)
    reader = _itk_header(path)
    shape = _volume_shape(reader)
    itemsize = _itemsize(reader)
    require_memory(int(np.prod(shape, dtype=object)) * (itemsize + 2), max_bytes)
    with _coded_itk_errors(path):
        voxels = sitk.GetArrayFromImage(reader.Execute())
    return to_int16(voxels.reshape(shape)), _matrix(reader)


def _itk_header(path: Path) -> Any:
    """A SimpleITK reader that has read the header, and nothing else."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    with _coded_itk_errors(path):
        reader.ReadImageInformation()
    return reader


@contextmanager
def _coded_itk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise _coded(str(error).lower(), path.name) from None


def _coded(text: str, name: str) -> VFQError:
    """ITK's exceptions have no types: the words in them tell what failed. They hold paths and are not passed on."""
    if "unable to determine imageio" in text:
        return VFQError("not_an_image", f"{name!r} is no image. Give NIfTI, NRRD, MetaImage or a DICOM folder.")
    if "allocate" in text:
        return VFQError("out_of_memory", f"Memory ran out while reading {name!r}. Close other programs.")
    if "spacing" in text:
        return VFQError("bad_spacing", f"The header of {name!r} gives a zero or invalid spacing. Export it again.")
    if "direction" in text or "orthonormal" in text:
        return VFQError(
            "bad_direction",
            f"The axes of {name!r} are not orthogonal (shear). Resample it to an orthogonal grid first.",
        )
    return VFQError("corrupt_file", f"{name!r} is truncated or damaged, or its data file is absent. Copy it again.")


def _volume_shape(reader: Any) -> tuple[int, ...]:
    """`[k, j, i]`, trailing dimensions of one dropped; VFQError `not_3d` for colours, pictures and time series."""
    if reader.GetNumberOfComponents() != 1:
        raise VFQError(
            "not_3d",
            f"Each voxel holds {reader.GetNumberOfComponents()} values (colour or vector); CT holds one.",
        )
    size = list(reader.GetSize())
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    check_shape(tuple(size[::-1]))
    return tuple(size[::-1])


def _itemsize(reader: Any) -> int:
    import SimpleITK as sitk

    bits = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    return int(bits.group(1)) // 8 if bits else 8


def _matrix(reader: Any) -> np.ndarray:
    """ijk_to_ras `(4, 4)` of an image or header of ITK, which is LPS; dimensions beyond the third are ignored."""
    n = reader.GetDimension()
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(reader.GetDirection(), (n, n))[:3, :3] * np.array(reader.GetSpacing()[:3])
    lps[:3, 3] = reader.GetOrigin()[:3]
    return LPS_TO_RAS @ lps


def write_ct(ct: CTVolume, path: Path | str) -> None:
    """Write NIfTI, NRRD or MetaImage by the extension of `path`; int16, compressed for .gz and .nrrd.

    VFQError `output_not_writable`.
    """
    import SimpleITK as sitk

    path = Path(path)
    name = itk_name(path, "output_not_writable")
    image = sitk.GetImageFromArray(ct.voxels)
    lps = LPS_TO_RAS @ ct.ijk_to_ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    try:
        sitk.WriteImage(image, name, path.suffix.lower() in (".gz", ".nrrd"))
    except RuntimeError:
        raise VFQError(
            "output_not_writable", f"{path.name!r} cannot be written. Check the folder, its rights and the extension."
        ) from None


def inside(ct: CTVolume, points: np.ndarray, margin_mm: float = 0.0) -> np.ndarray:
    """Whether RAS points `(..., 3)` lie within the volume's outer voxel edges, or no farther out than `margin_mm`;
    booleans `(...)`."""
    ijk = points @ ct.ras_to_ijk[:3, :3].T + ct.ras_to_ijk[:3, 3]
    size = np.array(ct.voxels.shape[::-1])
    margin = 0.5 + margin_mm / np.array(ct.spacing_mm[::-1])
    return ((ijk >= -margin) & (ijk <= size - 1 + margin)).all(-1)
