"""Finding the CT slices among DICOM files: one header for each, and what else lies in the folder.

Positions are DICOM's: LPS mm. Which series to take, and whether it is complete, is decided elsewhere.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .dicom_header import DICOM_MARK, Header, has_mark, is_dicom, modality, read_header, start
from .dicom_pixels import read_plane

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = (CT_STORAGE + ".1", CT_STORAGE + ".2")
# CT images that are not slices, as messages name them.
SCOUT, COLOURED = "CT scout or secondary image", "CT colour image"
FRAMES, ENHANCED = "CT image with several frames", "enhanced CT with several frames"
GEOMETRY = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}  # and their numbers of values
# Beyond these, a number is not what it should be: no table moves a patient as far, and axes are unit vectors.
FARTHEST_MM, LONGEST_AXIS, WIDEST_PIXEL_MM = 1e5, 2.0, 1e3
IMAGES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")

__all__ = ["Blind", "Findings", "Slice", "files_below", "find_slices", "has_mark", "is_dicom", "series_of"]


@dataclass(frozen=True)
class Slice:
    """The header of one image file: positions in LPS mm, `pixel_spacing` between columns and between rows (i, j)."""

    path: Path
    header: Header
    position: np.ndarray  # (3,)
    axes: np.ndarray  # (2, 3): unit vectors along i and j
    pixel_spacing: tuple[float, float]
    thickness_mm: float = 0.0  # nominal; 0 if unknown

    @property
    def study_uid(self) -> str:
        """The Study Instance UID; "" if absent."""
        return self.header.text["StudyInstanceUID"]

    @property
    def series_uid(self) -> str:
        """The Series Instance UID; "" if absent."""
        return self.header.text["SeriesInstanceUID"]

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return self.header.number["Columns"], self.header.number["Rows"]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector `(3,)` across the slice."""
        return np.cross(self.axes[0], self.axes[1])

    def voxels(self) -> np.ndarray:
        """Read the voxels `[j, i]` int16 HU. VFQError `corrupt_file`."""
        return read_plane(self.path, self.header)


@dataclass(frozen=True)
class Blind:
    """A CT slice that does not say where it lies: `lacks` names the attribute, `absent` or unreadable."""

    path: Path
    series_uid: str
    lacks: str
    absent: bool


@dataclass(frozen=True)
class Findings:
    """The contents of a folder.

    Attributes
    ----------
    ct : CT slices by series UID.
    others : counts of other images, by modality or kind.
    blind : CT slices without a readable position, orientation or pixel spacing.
    unreadable : DICOM files without a whole image. Not all are damaged: plans and notes contain no image.
    blank : files that are empty or begin with zeros only, and links that lead nowhere.
    images : files of other formats that hold images.
    n_files : all files that were looked at.
    """

    ct: dict[str, list[Slice]]
    others: Counter[str]
    blind: tuple[Blind, ...]
    unreadable: tuple[Path, ...]
    blank: tuple[Path, ...]
    images: tuple[Path, ...]
    n_files: int


def files_below(folder: Path) -> list[Path]:
    """List the files in a folder and its sub-folders; linked folders are followed, and each file is listed once.

    Links that lead nowhere are listed too: their files are missing.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        if not _is_new(Path(here), seen):
            folders.clear()
            continue
        folders.sort()
        found += [Path(here, name) for name in names]
    return [path for path in sorted(found) if _is_new(path, seen) and (path.is_file() or not path.exists())]


def _is_new(path: Path, seen: set[tuple[int, int]]) -> bool:
    """Tell whether a file or folder has not been reached before; a link that leads nowhere is new."""
    try:
        status = path.stat()
    except OSError:
        return True
    identity = (status.st_dev, status.st_ino)
    known = identity in seen and status.st_ino != 0  # some network drives number no files
    seen.add(identity)
    return not known


def find_slices(paths: Iterable[Path]) -> Findings:
    """Read the headers of all DICOM images among `paths`; images that are not CT slices are only counted."""
    found = Findings({}, Counter(), (), (), (), (), 0)
    blind, unreadable, blank, images, n_files = [], [], [], [], 0
    for path in paths:
        n_files += 1
        if path.name.upper() == "DICOMDIR":
            continue
        if path.name.lower().endswith(IMAGES):
            images.append(path)
        elif not is_dicom(path):
            blank += [path] if not start(path).strip(b"\0") else []
        elif (header := read_header(path) if path.exists() else None) is None:
            unreadable.append(path)
        elif (one := _slice(path, header, found.others)) is None:
            continue
        elif isinstance(one, Blind):
            blind.append(one)
        else:
            found.ct.setdefault(one.series_uid, []).append(one)
    return Findings(found.ct, found.others, tuple(blind), tuple(unreadable), tuple(blank), tuple(images), n_files)


def series_of(path: Path) -> str:
    """Return the Series Instance UID of a CT file. VFQError `not_an_image`, `corrupt_file`, `no_ct_series`."""
    header = read_header(path)
    if header is None and DICOM_MARK not in start(path):
        raise VFQError(
            "not_an_image", f"{path.name!r} is not a DICOM file, although it is named like one. Export the CT again."
        )
    other = "" if header else modality(path)
    if header is None and other in ("", "CT"):
        raise VFQError("corrupt_file", f"{path.name!r} is truncated or contains no image. Copy or export it again.")
    found = _modality(header) if header else other
    if header is None or found != "CT":
        raise VFQError(
            "no_ct_series",
            f"{path.name!r} is of modality {found or 'unknown'}, not CT. Give a file of a CT series.",
        )
    if (kind := _kind_of_image(header)) in (SCOUT, COLOURED):
        raise VFQError("no_ct_series", f"{path.name!r} is a {kind}. Give a slice of a CT series, or its folder.")
    return header.text["SeriesInstanceUID"]


def _slice(path: Path, header: Header, others: Counter[str]) -> Slice | Blind | None:
    """Return a CT slice, or None and count the image among `others`."""
    found = _modality(header)
    kind = (found or "unknown") if found != "CT" else _kind_of_image(header)
    if kind:
        others[kind] += 1
        return None
    lengths = {keyword: len(header.decimals(keyword)) for keyword in GEOMETRY}
    for keyword, length in lengths.items():
        if length != GEOMETRY[keyword]:
            return Blind(path, header.text["SeriesInstanceUID"], keyword, not header.text[keyword])
    position, axes, spacing = (header.decimals(keyword) for keyword in GEOMETRY)
    odd = {
        "ImagePositionPatient": np.abs(position).max() > FARTHEST_MM,
        "ImageOrientationPatient": np.abs(axes).max() > LONGEST_AXIS,
        "PixelSpacing": min(spacing) <= 0 or max(spacing) > WIDEST_PIXEL_MM,
    }
    if any(odd.values()):
        return Blind(path, header.text["SeriesInstanceUID"], max(odd, key=lambda keyword: odd[keyword]), False)
    return Slice(
        path=path,
        header=header,
        position=np.array(position),
        axes=np.array(axes).reshape(2, 3),
        pixel_spacing=(spacing[1], spacing[0]),  # DICOM puts the distance between rows first
        thickness_mm=next(iter(header.decimals("SliceThickness")), 0.0),
    )


def _modality(header: Header) -> str:
    """Return the modality; where it is absent, CT if the file's class is that of CT images."""
    is_ct = header.text["SOPClassUID"] in (CT_STORAGE, *ENHANCED_CT)
    return header.text["Modality"] or ("CT" if is_ct else "")


def _kind_of_image(header: Header) -> str:
    """Return how messages name a CT image that is not a slice; "" for a slice."""
    if "LOCALIZER" in header.text["ImageType"].upper():
        return SCOUT
    if header.number["SamplesPerPixel"] > 1 or header.text["PhotometricInterpretation"] == "PALETTE COLOR":
        return COLOURED
    if header.frames > 1 or header.text["SOPClassUID"] in ENHANCED_CT:
        return ENHANCED if header.text["SOPClassUID"] in ENHANCED_CT else FRAMES
    placed = any(header.text[keyword] for keyword in ("ImagePositionPatient", "ImageOrientationPatient"))
    return "" if placed or header.text["SOPClassUID"] in ("", CT_STORAGE) else SCOUT
