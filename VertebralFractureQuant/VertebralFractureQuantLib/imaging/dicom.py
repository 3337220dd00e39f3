"""CT series in a folder of DICOM files: found, one chosen, its slices put in order along their common normal.

Positions are DICOM's (LPS mm) until the last step, which returns voxels `[k, j, i]` in HU and `ijk_to_ras`.
Order and spacing come from the slices' positions, never from instance numbers or the nominal thickness.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from .checks import LPS_TO_RAS, MIN_SLICES, ORTHONORMAL_TOLERANCE, itk_name, require_memory, to_int16

DICOM_MARK = b"DICM"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = (CT_STORAGE + ".1", CT_STORAGE + ".2")
SOP_CLASS, SOP_UID, STUDY_UID, SERIES_UID = "0008|0016", "0008|0018", "0020|000d", "0020|000e"
MODALITY, IMAGE_TYPE = "0008|0060", "0008|0008"
POSITION, ORIENTATION, PIXEL_SPACING = "0020|0032", "0020|0037", "0028|0030"
# Positions in headers are rounded, some to 0.01 mm; thin slices are 0.3 mm apart.
SAME_PLACE_MM = 0.02
SAME_AXES = 1e-3
# CT images that are no slices, in words for people.
PICTURE, COLOURED = "CT scout or secondary picture", "CT colour picture"
FRAMES, ENHANCED = "CT picture of several frames", "enhanced CT of several frames"


@dataclass(frozen=True)
class Slice:
    """The header of one image file. Positions LPS mm, `pixel_spacing` along rows' and columns' direction (i, j)."""

    path: Path
    study_uid: str
    series_uid: str
    sop_uid: str
    size: tuple[int, ...]  # (columns, rows, frames)
    position: np.ndarray  # (3,)
    axes: np.ndarray  # (2, 3): unit vectors along i and j
    pixel_spacing: tuple[float, float]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector `(3,)` across the slice."""
        return np.cross(self.axes[0], self.axes[1])


@dataclass(frozen=True)
class Findings:
    """What a folder holds: CT slices by series UID, counts of other images, DICOM files without a readable image
    (not all of which are damaged: plans and notes hold none), and files of no bytes or of zeros."""

    ct: dict[str, list[Slice]]
    others: Counter[str]
    unreadable: tuple[Path, ...]
    blank: tuple[Path, ...]
    n_files: int


def is_dicom(path: Path) -> bool:
    """Whether the file bears DICOM's mark (or, without one, its usual extension)."""
    return _has_mark(path) or path.suffix.lower() in (".dcm", ".ima")


def read_dicom(
    path: Path, series: str | None = None, max_bytes: int | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Voxels `[k, j, i]` int16 HU, `ijk_to_ras` `(4, 4)` and notes, which may list series by UID, of one CT series.

    Parameters
    ----------
    path : a folder, searched with its sub-folders, or one DICOM file, whose series is taken from its own folder.
    series : Series Instance UID; without it the series with most slices.
    max_bytes : as in `read_ct`.

    VFQError: `no_ct_series`, `several_studies`, `missing_slices`, `mixed_series`, `bad_direction`, `too_few_slices`,
    `too_large`, `corrupt_file`, `not_3d`, `not_an_image`.
    """
    if path.is_dir():
        found = find_slices(_files_below(path))
    else:
        series = series or _series_of(path)
        found = find_slices(sorted(p for p in path.parent.iterdir() if p.is_file()))
    slices, notes = _choose(found, series)
    slices, repeats = _without_copies(slices)
    if repeats:
        notes += (f"left out {repeats} files that repeat a slice of the series",)
    _refuse_damaged(found, slices)
    slices, matrix = _stack(slices)
    columns, rows, _ = slices[0].size
    require_memory(len(slices) * rows * columns * 2, max_bytes)
    return _read_voxels(slices), matrix, notes


def find_slices(paths: Iterable[Path]) -> Findings:
    """Headers of all DICOM images among `paths`; what is no slice of a CT is counted and left out."""
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
        elif kind := _kind_of_picture(header):
            others[kind] += 1
        else:
            one = _slice(path, header)
            ct.setdefault(one.series_uid, []).append(one)
    return Findings(ct, others, tuple(unreadable), tuple(blank), n_files)


def _has_mark(path: Path) -> bool:
    return _start(path)[128:] == DICOM_MARK


def _is_blank(path: Path) -> bool:
    """Whether a file is empty or begins with zeros alone, as copies do that were interrupted."""
    return not _start(path).strip(b"\0")


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(132)


def _files_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _reader(path: Path) -> Any:
    import SimpleITK as sitk  # imported where used: loading it takes longer than most commands

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(itk_name(path))
    return reader


def _read_header(path: Path) -> dict[str, Any] | None:
    """Tags as stripped text plus "size" and "components"; None where GDCM cannot read an image from the file."""
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    header: dict[str, Any] = {key: reader.GetMetaData(key).strip("\0 ") for key in reader.GetMetaDataKeys()}
    header["size"] = (tuple(reader.GetSize()) + (1,))[:3]
    header["components"] = reader.GetNumberOfComponents()
    return header


def _kind_of_picture(header: dict[str, Any]) -> str:
    """What a CT image is that is no slice, in words for people; "" for a slice."""
    if "LOCALIZER" in header.get(IMAGE_TYPE, "").upper():
        return PICTURE
    if header["components"] > 1:
        return COLOURED
    if header["size"][2] > 1:
        return ENHANCED if header.get(SOP_CLASS) in ENHANCED_CT else FRAMES
    lengths = [len(_numbers(header, tag)) for tag in (POSITION, ORIENTATION, PIXEL_SPACING)]
    return "" if lengths == [3, 6, 2] else PICTURE


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
        pixel_spacing=(spacing[1], spacing[0]),  # DICOM names the distance between rows first
    )


def _numbers(header: dict[str, Any], tag: str) -> list[float]:
    try:
        numbers = [float(v) for v in header.get(tag, "").split("\\")]
    except ValueError:
        return []
    return numbers if np.isfinite(numbers).all() else []


def _series_of(path: Path) -> str:
    header = _read_header(path)
    if header is None and DICOM_MARK not in path.read_bytes()[:132]:
        raise VFQError("not_an_image", f"{path.name!r} is not DICOM, whatever its name says. Export the CT again.")
    if header is None:
        raise VFQError("corrupt_file", f"{path.name!r} is truncated or holds no image. Copy or export it again.")
    if header.get(MODALITY) != "CT":
        raise VFQError("no_ct_series", f"{path.name!r} is of modality {header.get(MODALITY) or 'unknown'}, not CT.")
    return str(header.get(SERIES_UID, ""))


def _choose(found: Findings, series: str | None) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices of the wanted, else of the largest, series; ties go to the first UID, so that runs agree."""
    if not found.ct:
        raise _no_ct_series(found)
    if series in found.ct:
        return found.ct[series], ()
    uids = sorted(found.ct, key=lambda u: (-len(found.ct[u]), u))
    counts = [len(found.ct[uid]) for uid in uids]
    if series is not None:  # no UID in the message: it is written into the record of the failure
        raise VFQError(
            "no_ct_series",
            f"None of the {len(counts)} CT series ({', '.join(map(str, counts))} slices) has the UID asked for. "
            "Leave the UID out: the largest is taken, and the UIDs of all are listed.",
        )
    studies = {slices[0].study_uid for slices in found.ct.values()}
    if len(studies) > 1:
        raise VFQError(
            "several_studies",
            f"The folder holds CT of {len(studies)} studies. Give the folder of each as an input of its own.",
        )
    if found.others[ENHANCED]:
        raise _many_frames(found, "Give one file of another series to measure that, or convert")
    if len(uids) == 1:
        return found.ct[uids[0]], ()
    listed = "; ".join(f"{count} slices, UID {uid or 'absent'}" for count, uid in zip(counts, uids, strict=True))
    return found.ct[uids[0]], (f"chose the largest of {len(uids)} CT series ({listed})",)


def _many_frames(found: Findings, advice: str) -> VFQError:
    held = ", ".join(f"{found.others[kind]} of {kind}" for kind in (ENHANCED, FRAMES) if found.others[kind])
    return VFQError(
        "not_3d",
        f"The folder holds files of many slices each: {held}. {advice} these to NIfTI first, for example with "
        "dcm2niix, or export the series as one file a slice.",
    )


def _no_ct_series(found: Findings) -> VFQError:
    if found.others[ENHANCED] or found.others[FRAMES]:
        return _many_frames(found, "Convert")
    if found.others:
        held = ", ".join(f"{n} of {kind}" for kind, n in found.others.most_common())
        return VFQError("no_ct_series", f"The folder holds no CT series, but images: {held}. Choose a CT study.")
    if found.unreadable:
        return VFQError(
            "corrupt_file", f"None of the {len(found.unreadable)} DICOM files holds a readable image. Copy them again."
        )
    return VFQError(
        "no_ct_series", f"None of the {found.n_files} files in the folder is DICOM. Choose the folder of a CT study."
    )


def _without_copies(slices: list[Slice]) -> tuple[list[Slice], int]:
    """One of each slice, and how many were left out. A UID alone makes no copy: anonymisers give one to many slices."""
    unique = {(s.sop_uid or str(s.path), *s.position.tolist(), *s.axes.ravel().tolist()): s for s in slices}
    return list(unique.values()), len(slices) - len(unique)


def _refuse_damaged(found: Findings, slices: list[Slice]) -> None:
    """A truncated slice is no missing slice: say so, and do not measure a scan that lost its last slices."""
    told = {path: _identity(path) for path in (*found.unreadable, *found.blank)}
    series = {path: uid for path, (sop_class, uid) in told.items() if sop_class in (None, CT_STORAGE, *ENHANCED_CT)}
    broken = [path for path, uid in series.items() if uid == slices[0].series_uid]
    if broken:
        raise VFQError(
            "corrupt_file",
            f"{len(broken)} files of the series are truncated or damaged ({broken[0].name!r}). Copy them again.",
        )
    beside = {(s.path.parent, _extension(s.path)) for s in slices}
    cut = [path for path, uid in series.items() if uid is None or slices[0].series_uid.startswith(uid)]
    unknown = [path for path in cut if _looks_like_a_slice(path, beside)]
    if unknown:
        raise VFQError(
            "corrupt_file",
            f"{len(unknown)} files beside the series are empty or damaged, so that they do not tell whether they "
            f"belong to it ({unknown[0].name!r}). Copy them again or, where they are no slices, take them out of the "
            "folder.",
        )


def _looks_like_a_slice(path: Path, beside: set[tuple[Path, str]]) -> bool:
    """Whether an unreadable file lies where slices do and bears DICOM's mark or a name like theirs."""
    if path.name.startswith("."):  # what systems and copying programs leave behind
        return False
    folders = {folder for folder, _ in beside}
    return (path.parent, _extension(path)) in beside or (path.parent in folders and _has_mark(path))


def _extension(path: Path) -> str:
    """In small letters; "" where it is a number, the end of a UID that serves as name."""
    suffix = path.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _identity(path: Path) -> tuple[str | None, str | None]:
    """SOP class and Series Instance UID that a file without a readable image gives as its own, not in a sequence; None
    for each that it no longer holds."""
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    sop_class = series = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(Exception):  # pydicom knows as many as there are ways to be damaged
            sop_class = read_file_meta_info(path).get("MediaStorageSOPClassUID")
        with suppress(Exception):
            held = dcmread(path, stop_before_pixels=True, force=True)
            sop_class, series = sop_class or held.get("SOPClassUID"), held.get("SeriesInstanceUID")
    return sop_class and str(sop_class), series and str(series)


def _stack(slices: list[Slice]) -> tuple[list[Slice], np.ndarray]:
    """Slices in order along their normal, and `ijk_to_ras`."""
    if len(slices) < MIN_SLICES:
        raise VFQError(
            "too_few_slices",
            f"The largest or chosen CT series has {len(slices)} slices; at least {MIN_SLICES} are needed.",
        )
    _require_one_geometry(slices)
    normal = slices[0].normal / np.linalg.norm(slices[0].normal)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.array([s.position for s in slices])
    heights = positions @ normal
    _require_single_pass(heights)
    _require_straight_stack(positions, normal)
    spacing = _require_no_gaps(heights)
    return slices, _matrix(slices[0], normal * spacing)


def _require_one_geometry(slices: list[Slice]) -> None:
    first = slices[0]
    if not np.allclose(first.axes @ first.axes.T, np.eye(2), atol=ORTHONORMAL_TOLERANCE):
        raise VFQError("bad_direction", "The slices' axes are no unit vectors at right angles. Export the CT again.")
    odd = {
        "size": sum(s.size != first.size for s in slices),
        "orientation": sum(not np.allclose(s.axes, first.axes, atol=SAME_AXES) for s in slices),
        "pixel spacing": sum(not np.allclose(s.pixel_spacing, first.pixel_spacing, rtol=1e-3) for s in slices),
    }
    mixed = [f"{name} ({n} of {len(slices)} slices differ from the first)" for name, n in odd.items() if n]
    if mixed:
        raise VFQError(
            "mixed_series", f"One series mixes images of different {', '.join(mixed)}. Export its parts as series."
        )


def _require_single_pass(heights: np.ndarray) -> None:
    repeated = int((np.diff(heights) < SAME_PLACE_MM).sum())
    if repeated:
        raise VFQError(
            "mixed_series",
            f"{repeated} of {len(heights)} slices lie where another one lies (several phases or reconstructions "
            "in one series). Export them as separate series.",
        )


def _require_straight_stack(positions: np.ndarray, normal: np.ndarray) -> None:
    offsets = positions - positions[0]
    along = offsets @ normal
    aside = offsets - along[:, None] * normal
    tilt = np.linalg.norm(aside[-1]) / along[-1]
    if tilt > ORTHONORMAL_TOLERANCE:
        raise VFQError(
            "bad_direction",
            f"The slices are sheared by {np.degrees(np.arctan(tilt)):.1f} degrees (gantry tilt). Correct the tilt "
            "when converting (dcm2niix does), or resample to an orthogonal grid, and give the result.",
        )
    wander = np.linalg.norm(aside, axis=1).max()
    if wander > 1.0 + ORTHONORMAL_TOLERANCE * along[-1]:
        raise VFQError("mixed_series", f"Slices are shifted sideways by up to {wander:.1f} mm within one series.")


def _require_no_gaps(heights: np.ndarray) -> float:
    """The distance between slices, mm; VFQError `missing_slices` or, where it merely varies, `mixed_series`."""
    steps = np.diff(heights)
    spacing = float(np.median(steps))
    absent = np.rint(steps / spacing).astype(int) - 1
    if absent.max() > 0:
        raise VFQError("missing_slices", _missing(absent, heights))
    if np.abs(steps - spacing).max() > max(0.05 * spacing, SAME_PLACE_MM):
        raise VFQError(
            "mixed_series",
            f"The distance between slices varies from {steps.min():.2f} to {steps.max():.2f} mm within the series. "
            "Resample it to one distance first.",
        )
    return float((heights[-1] - heights[0]) / len(steps))


def _missing(absent: np.ndarray, heights: np.ndarray) -> str:
    gaps = np.flatnonzero(absent > 0)
    places = [f"{absent[g]} between {heights[g]:.1f} and {heights[g + 1]:.1f} mm" for g in gaps[:4]]
    more = f" and {len(gaps) - 4} more gaps" if len(gaps) > 4 else ""
    return (
        f"{int(absent[gaps].sum())} slices are missing from a series of {len(heights)}: {', '.join(places)}{more} "
        "along the slices' normal. Copy or export the series again."
    )


def _matrix(first: Slice, step: np.ndarray) -> np.ndarray:
    lps = np.eye(4)
    lps[:3, 0] = first.axes[0] * first.pixel_spacing[0]
    lps[:3, 1] = first.axes[1] * first.pixel_spacing[1]
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return LPS_TO_RAS @ lps


def _read_voxels(slices: list[Slice]) -> np.ndarray:
    """`[k, j, i]` HU. One by one: ITK's series reader would give all slices the first one's type, truncating."""
    columns, rows, _ = slices[0].size
    voxels = np.empty((len(slices), rows, columns), np.int16)
    for k, one in enumerate(slices):
        voxels[k] = _read_slice(one.path)
    return voxels


def _read_slice(path: Path) -> np.ndarray:
    import SimpleITK as sitk

    try:
        image = _reader(path).Execute()  # GDCM applies this slice's own rescale slope and intercept
    except RuntimeError:
        raise VFQError("corrupt_file", f"The voxels of {path.name!r} cannot be read. Copy the series again.") from None
    return to_int16(sitk.GetArrayFromImage(image))[0]
