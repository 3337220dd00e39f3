"""Finding the CT slices among DICOM files: one header for each, and counts of everything else.

Positions are DICOM's: LPS mm. Which series to take, and whether it is complete, is decided elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from .checks import itk_name

DICOM_MARK = b"DICM"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = (CT_STORAGE + ".1", CT_STORAGE + ".2")
SOP_CLASS, SOP_UID, STUDY_UID, SERIES_UID = "0008|0016", "0008|0018", "0020|000d", "0020|000e"
MODALITY, IMAGE_TYPE = "0008|0060", "0008|0008"
POSITION, ORIENTATION, PIXEL_SPACING, THICKNESS = "0020|0032", "0020|0037", "0028|0030", "0018|0050"
# CT images that are not slices, as messages name them.
SCOUT, COLOURED = "CT scout or secondary image", "CT colour image"
FRAMES, ENHANCED = "CT image with several frames", "enhanced CT with several frames"


@dataclass(frozen=True)
class Slice:
    """The header of one image file: positions in LPS mm, `pixel_spacing` between columns and between rows (i, j)."""

    path: Path
    study_uid: str
    series_uid: str
    sop_uid: str
    size: tuple[int, ...]  # (columns, rows, frames)
    position: np.ndarray  # (3,)
    axes: np.ndarray  # (2, 3): unit vectors along i and j
    pixel_spacing: tuple[float, float]
    thickness_mm: float = 0.0  # nominal; 0 if unknown

    @property
    def normal(self) -> np.ndarray:
        """Unit vector `(3,)` across the slice."""
        return np.cross(self.axes[0], self.axes[1])


@dataclass(frozen=True)
class Findings:
    """The contents of a folder.

    Attributes
    ----------
    ct : CT slices by series UID.
    others : counts of other images, by modality or kind.
    unreadable : DICOM files without a readable image. Not all are damaged: plans and notes contain no image.
    blank : files that are empty or begin with zeros only.
    n_files : all files that were looked at.
    """

    ct: dict[str, list[Slice]]
    others: Counter[str]
    unreadable: tuple[Path, ...]
    blank: tuple[Path, ...]
    n_files: int


def find_slices(paths: Iterable[Path]) -> Findings:
    """Read the headers of all DICOM images among `paths`; images that are not CT slices are only counted."""
    ct: dict[str, list[Slice]] = {}
    others: Counter[str] = Counter()
    unreadable, blank = [], []
    n_files = 0
    for path in paths:
        n_files += 1
        if path.name.upper() == "DICOMDIR":
            continue
        if not is_dicom(path):
            if _is_blank(path):
                blank.append(path)
            continue
        header = _read_header(path)
        if header is None:
            unreadable.append(path)
        elif header.get(MODALITY) != "CT":
            others[header.get(MODALITY) or "unknown"] += 1
        elif kind := _kind_of_image(header):
            others[kind] += 1
        else:
            one = _slice(path, header)
            ct.setdefault(one.series_uid, []).append(one)
    return Findings(ct, others, tuple(unreadable), tuple(blank), n_files)


def series_of(path: Path) -> str:
    """Return the Series Instance UID of a CT file. VFQError `not_an_image`, `corrupt_file`, `no_ct_series`."""
    header = _read_header(path)
    if header is None and DICOM_MARK not in path.read_bytes()[:132]:
        raise VFQError(
            "not_an_image", f"{path.name!r} is not a DICOM file, although it is named like one. Export the CT again."
        )
    if header is None:
        raise VFQError("corrupt_file", f"{path.name!r} is truncated or contains no image. Copy or export it again.")
    if header.get(MODALITY) != "CT":
        raise VFQError(
            "no_ct_series",
            f"{path.name!r} is of modality {header.get(MODALITY) or 'unknown'}, not CT. Give a file of a CT series.",
        )
    return str(header.get(SERIES_UID, ""))


def is_dicom(path: Path) -> bool:
    """True if the file has DICOM's mark or, without the mark, one of its usual extensions (.dcm, .ima)."""
    return has_mark(path) or path.suffix.lower() in (".dcm", ".ima")


def has_mark(path: Path) -> bool:
    """True if "DICM" follows the first 128 bytes of the file."""
    return _start(path)[128:] == DICOM_MARK


def _is_blank(path: Path) -> bool:
    """True if a file is empty or begins with zeros alone, as after an interrupted copy."""
    return not _start(path).strip(b"\0")


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(132)


def image_reader(path: Path) -> Any:
    """Return SimpleITK's reader for one DICOM file; nothing is read yet."""
    import SimpleITK as sitk  # imported where used: loading it takes longer than most commands

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(itk_name(path))
    return reader


def _read_header(path: Path) -> dict[str, Any] | None:
    """Return the tags as stripped text, "size" and "components"; None if GDCM cannot read an image from the file."""
    reader = image_reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    header: dict[str, Any] = {key: reader.GetMetaData(key).strip("\0 ") for key in reader.GetMetaDataKeys()}
    header["size"] = (tuple(reader.GetSize()) + (1,))[:3]
    header["components"] = reader.GetNumberOfComponents()
    return header


def _kind_of_image(header: dict[str, Any]) -> str:
    """Return how messages name a CT image that is not a slice; "" for a slice."""
    if "LOCALIZER" in header.get(IMAGE_TYPE, "").upper():
        return SCOUT
    if header["components"] > 1:
        return COLOURED
    if header["size"][2] > 1:
        return ENHANCED if header.get(SOP_CLASS) in ENHANCED_CT else FRAMES
    lengths = [len(_numbers(header, tag)) for tag in (POSITION, ORIENTATION, PIXEL_SPACING)]
    return "" if lengths == [3, 6, 2] else SCOUT


def _slice(path: Path, header: dict[str, Any]) -> Slice:
    position, axes, spacing = (_numbers(header, tag) for tag in (POSITION, ORIENTATION, PIXEL_SPACING))
    return Slice(
        path=path,
        study_uid=header.get(STUDY_UID, ""),
        series_uid=header.get(SERIES_UID, ""),
        sop_uid=header.get(SOP_UID, ""),
        size=header["size"],
        position=np.array(position),
        axes=np.array(axes).reshape(2, 3),
        pixel_spacing=(spacing[1], spacing[0]),  # DICOM puts the distance between rows first
        thickness_mm=next(iter(_numbers(header, THICKNESS)), 0.0),
    )


def _numbers(header: dict[str, Any], tag: str) -> list[float]:
    try:
        numbers = [float(v) for v in header.get(tag, "").split("\\")]
    except ValueError:
        return []
    return numbers if np.isfinite(numbers).all() else []
