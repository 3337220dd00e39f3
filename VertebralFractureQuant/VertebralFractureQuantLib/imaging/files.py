"""Reading a CT from a file or a DICOM folder, and writing one: NIfTI, NRRD, MetaImage.

In this room, only this file and those named `dicom_*` use LPS, the convention of ITK and DICOM. Every CT that
is read is checked; a refusal is a coded VFQError, whose text never contains folders, identifiers or other patient data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from .axes import directions, is_sheared
from .checks import LPS_TO_RAS, check_shape, itk_name, require_memory, to_int16
from .ct import CTVolume, from_array
from .dicom import read_dicom
from .dicom_header import is_dicom
from .headers import (
    NIFTI_PAIR,
    check_text_header,
    nifti_files,
    read_nifti_header,
    read_nifti_voxels,
    write_sheared_nifti,
)

NIFTI = (".nii", ".nii.gz")
WRITTEN = (*NIFTI, ".nrrd", ".mha")  # formats with the whole image in one file
TEXT_HEADED = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (".nii.gz", ".nii", *TEXT_HEADED, ".gz")


def read_ct(path: Path | str, series: str | None = None, max_bytes: int | None = None) -> CTVolume:
    """Read the CT in a NIfTI, NRRD or MetaImage file, in a DICOM folder, or in the series of one DICOM file.

    Parameters
    ----------
    path : file or folder; folders are searched with their sub-folders.
    series : Series Instance UID to read from a DICOM folder; if None, the fittest CT series that can be read.
    max_bytes : memory that the voxels may take; if None, what is available.

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
        raise VFQError(
            "corrupt_file",
            f"{path.name!r} cannot be read: {error.strerror or error}. Check the file and its permissions.",
        ) from None
    except MemoryError:
        raise VFQError(
            "out_of_memory", f"Memory ran out while reading {path.name!r}. Close other programs and try again."
        ) from None


def _read(path: Path, series: str | None, max_bytes: int | None) -> CTVolume:
    if path.is_dir() or is_dicom(path):
        folder = (path if path.is_dir() else path.parent).resolve()
        read = read_dicom(path, series, max_bytes)
        ct = from_array(read.voxels, read.ijk_to_ras, folder.name, read.notes)
        return replace(ct, widest_gap_mm=read.widest_gap_mm)
    if path.name.lower().endswith((*NIFTI, *NIFTI_PAIR)):
        voxels, matrix = _read_nifti(path, max_bytes)
    else:
        voxels, matrix = _read_itk(path, max_bytes)
    return from_array(voxels, matrix, case_name(path))


def case_name(path: Path) -> str:
    """Return the file's name without its extensions: "a b.nii.gz" gives "a b", "p.1.mha" gives "p.1"."""
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return path.name[: len(path.name) - len(suffix)] or path.name


def _read_nifti(path: Path, max_bytes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Read the geometry by ITK, as Slicer does, but the voxels without it: it fills missing ones with zeros."""
    header_file, voxel_file = nifti_files(path)
    header = read_nifti_header(header_file, alone=header_file == voxel_file)
    voxels = read_nifti_voxels(voxel_file, header, max_bytes)
    matrix = _matrix(_itk_header(header_file)) if header.sheared is None else header.sheared
    return to_int16(voxels, header.slope, header.intercept), matrix


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
    """Return a SimpleITK reader that has read the header alone."""
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
    """Choose the code by the words in ITK's error, as it has no types. The words contain paths: do not pass them on."""
    if "unable to determine imageio" in text:
        return VFQError(
            "not_an_image",
            f"{name!r} is not an image in a known format. Give NIfTI, NRRD, MetaImage or a DICOM folder.",
        )
    if "allocate" in text:
        return VFQError("out_of_memory", f"Memory ran out while reading {name!r}. Close other programs and try again.")
    if "spacing" in text:
        return VFQError(
            "bad_spacing", f"The header of {name!r} gives a zero or invalid voxel spacing. Export the CT again."
        )
    if "direction" in text or "orthonormal" in text:
        return VFQError(
            "bad_direction",
            f"The axes of {name!r} are not orthogonal (shear). Resample the scan to an orthogonal grid.",
        )
    return VFQError("corrupt_file", f"{name!r} is truncated or damaged, or its data file is missing. Copy it again.")


def _volume_shape(reader: Any) -> tuple[int, ...]:
    """Return the shape `[k, j, i]`; trailing dimensions of size one are dropped.

    VFQError `not_3d` for colours, two-dimensional images and time series.
    """
    if reader.GetNumberOfComponents() != 1:
        raise VFQError(
            "not_3d",
            f"Each voxel has {reader.GetNumberOfComponents()} values (a colour or vector), but a CT has one. Give the "
            "original CT.",
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
    """Return ijk_to_ras `(4, 4)` of ITK's image or header, which is LPS; dimensions beyond the third are ignored."""
    n = reader.GetDimension()
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(reader.GetDirection(), (n, n))[:3, :3] * np.array(reader.GetSpacing()[:3])
    lps[:3, 3] = reader.GetOrigin()[:3]
    return LPS_TO_RAS @ lps


def write_ct(ct: CTVolume, path: Path | str) -> None:
    """Write NIfTI, NRRD or MetaImage, chosen by the extension of `path`: int16, compressed for .gz and .nrrd.

    VFQError `output_not_writable`.
    """
    path = Path(path)
    name = itk_name(path, "output_not_writable")
    try:
        if path.name.lower().endswith(NIFTI) and is_sheared(ct.ijk_to_ras):
            write_sheared_nifti(path, ct.voxels, ct.ijk_to_ras)
        else:
            _write_itk(ct, name, compressed=path.suffix.lower() in (".gz", ".nrrd"))
    except (RuntimeError, OSError):
        raise VFQError(
            "output_not_writable",
            f"{path.name!r} cannot be written. Check the extension, the folder's permissions and the free space.",
        ) from None


def _write_itk(ct: CTVolume, name: str, compressed: bool) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(ct.voxels)
    lps = LPS_TO_RAS @ ct.ijk_to_ras
    image.SetSpacing(np.linalg.norm(lps[:3, :3], axis=0).tolist())
    image.SetDirection(directions(lps).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, name, compressed)
