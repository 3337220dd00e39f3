"""Reading a CT from a file or a DICOM folder, and writing one: NIfTI, NRRD, MetaImage.

`nifti`, `nrrd` and `metaimage` read headers, `stored` reads voxels; ITK only writes files. Every CT that is read is
checked; a refusal is a coded VFQError, whose text never contains folders, identifiers or other patient data.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .axes import directions, is_sheared
from .checks import LPS_TO_RAS, check_axes, itk_name, to_int16
from .ct import CTVolume, from_array
from .dicom import read_dicom
from .dicom_header import is_dicom
from .metaimage import is_metaimage, metaimage_header
from .nifti import NIFTI_PAIR, first_bytes, is_gzip, is_nifti, nifti_header
from .nrrd import nrrd_header
from .stored import StoredCT, read_voxels

NIFTI = (".nii", ".nii.gz")
METAIMAGE = (".mha", ".mhd")
WRITTEN = (*NIFTI, ".nrrd", ".mha")  # formats with the whole image in one file
SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", *METAIMAGE, ".gz")
MOST_ITK_KEEPS = 1e-6  # cosine between axes; ITK writes NIfTI with other axes beyond
ARCHIVE = (b"PK\3\4", b"7z\xbc\xaf", b"Rar!")  # how ZIP, 7z and RAR begin
PICTURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"GIF8": "GIF"}


def read_ct(
    path: Path | str,
    series: str | None = None,
    max_bytes: int | None = None,
    trust_header: bool = False,
    files: Sequence[str] | None = None,
) -> CTVolume:
    """Read the CT in a NIfTI, NRRD or MetaImage file, in a DICOM folder, or in the series of one DICOM file.

    Parameters
    ----------
    path : file or folder; folders are searched with their sub-folders.
    series : Series Instance UID, or fingerprint of the series, to read from a DICOM folder; if None, the fittest CT
        series that can be read.
    max_bytes : memory that the voxels may take; if None, what is available.
    trust_header : read a file that does not tell its orientation as if its axes ran to the left, to the back and to
        the head; otherwise it is refused as `orientation_unknown`.
    files : the DICOM files to choose from, in place of all that are in the folder `path`.

    Raises
    ------
    VFQError : with a code of `errors.CODES` and a message that says what to do.
    """
    path = Path(path)
    if not path.exists():
        raise VFQError("not_found", f"There is no file or folder {path.name!r}. Check the path.")
    if not path.is_file() and not path.is_dir():  # a pipe would be waited for without end
        raise VFQError(
            "not_an_image", f"{path.name!r} is neither a file nor a folder. Give an image or a DICOM folder."
        )
    try:
        return _read(path, series, max_bytes, trust_header, files)
    except OSError as error:
        raise VFQError(
            "corrupt_file",
            f"{path.name!r} cannot be read: {error.strerror or error}. Check the file and its permissions.",
        ) from None
    except MemoryError:
        raise VFQError(
            "out_of_memory", f"Memory ran out while reading {path.name!r}. Close other programs and try again."
        ) from None


def _read(
    path: Path, series: str | None, max_bytes: int | None, trust_header: bool, files: Sequence[str] | None
) -> CTVolume:
    if files is not None or path.is_dir() or is_dicom(path):
        folder = (path if path.is_dir() else path.parent).resolve()
        read = read_dicom(path, series, max_bytes, files)
        ct = from_array(read.voxels, read.ijk_to_ras, folder.name, read.notes)
        return replace(ct, widest_gap_mm=read.widest_gap_mm, series=read.series)
    itk_name(path)  # the name becomes that of the case, in files that other programs read
    with np.errstate(over="ignore", invalid="ignore"):  # such numbers are refused
        header = _header(path, trust_header)
        check_axes(header.ijk_to_ras)
    voxels, notes = read_voxels(header, max_bytes)
    hounsfield = to_int16(voxels, header.slope, header.intercept)
    return from_array(hounsfield, header.ijk_to_ras, case_name(path), header.notes + notes)


def case_name(path: Path) -> str:
    """Return the file's name without its extensions: "a b.nii.gz" gives "a b", "p.1.mha" gives "p.1"."""
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return path.name[: len(path.name) - len(suffix)] or path.name


def _header(path: Path, trust_header: bool) -> StoredCT:
    """Read the header by what the file contains; its name decides only where that says nothing."""
    name = path.name.lower()
    if name.endswith(NIFTI_PAIR):
        return nifti_header(path, trust_header)
    data = first_bytes(path, 1024)
    if data.startswith(b"NRRD") and not is_gzip(path):
        return nrrd_header(path, trust_header)
    if is_nifti(data) or name.endswith(NIFTI):
        return nifti_header(path, trust_header)
    if name.endswith(METAIMAGE) or is_metaimage(data):
        return metaimage_header(path, trust_header)
    raise _unknown(path.name, data)


def _unknown(name: str, data: bytes) -> VFQError:
    """Return the refusal of a file in none of the formats, with the reason if it can be told."""
    picture = next((kind for mark, kind in PICTURES.items() if data.startswith(mark)), None)
    if picture:
        return VFQError(
            "not_3d", f"{name!r} is a {picture} picture of 2 dimensions, but a CT volume has 3. Give the original CT."
        )
    if data.startswith(ARCHIVE):
        return VFQError("not_an_image", f"{name!r} is an archive. Unpack it, and give the scan that it contains.")
    return VFQError(
        "not_an_image",
        f"{name!r} is not an image in a known format. Give NIfTI, NRRD, MetaImage or a DICOM folder.",
    )


def write_ct(ct: CTVolume, path: Path | str) -> None:
    """Write NIfTI, NRRD or MetaImage, chosen by the extension of `path`: int16, compressed for .gz and .nrrd.

    VFQError `output_not_writable`.
    """
    path = Path(path)
    name = itk_name(path, "output_not_writable")
    try:
        if path.name.lower().endswith(NIFTI) and is_sheared(ct.ijk_to_ras, MOST_ITK_KEEPS):
            _write_sheared_nifti(path, ct.voxels, ct.ijk_to_ras)
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


def _write_sheared_nifti(path: Path, voxels: np.ndarray, ijk_to_ras: np.ndarray) -> None:
    """Write `[k, j, i]` int16 and a sheared `(4, 4)` as NIfTI-1 with an sform alone: ITK would write another matrix.

    It is compressed if the name ends in .gz.
    """
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *voxels.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, *np.linalg.norm(ijk_to_ras[:3, :3], axis=0), 0, 0, 0, 0)
    struct.pack_into("<f2fh2b", header, 108, 352, 1, 0, 0, 0, 2)
    struct.pack_into("<2h", header, 252, 0, 1)
    struct.pack_into("<12f", header, 280, *ijk_to_ras[:3].ravel())
    header[344:348] = b"n+1\0"
    data = bytes(header) + np.ascontiguousarray(voxels, "<i2").tobytes()
    path.write_bytes(gzip.compress(data, 6, mtime=0) if path.suffix.lower() == ".gz" else data)
