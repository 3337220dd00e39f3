"""Reading one CT series from a folder of DICOM files: choose it, refuse damaged files, read its voxels.

`dicom_slices` finds the slices, `dicom_stack` puts them in order. The result is voxels `[k, j, i]` in HU and
`ijk_to_ras` (RAS mm).
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .checks import require_memory, to_int16
from .dicom_slices import (
    CT_STORAGE,
    ENHANCED,
    ENHANCED_CT,
    FRAMES,
    Findings,
    Slice,
    find_slices,
    has_mark,
    image_reader,
    series_of,
)
from .dicom_stack import Stack, stack


def read_dicom(
    path: Path, series: str | None = None, max_bytes: int | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read one CT series: voxels `[k, j, i]` int16 HU, `ijk_to_ras` `(4, 4)`, and notes that may list series by UID.

    Parameters
    ----------
    path : a folder, searched with its sub-folders; or one DICOM file, whose series is read from its own folder.
    series : Series Instance UID; if None, the series with the most slices.
    max_bytes : as in `read_ct`.

    VFQError: `no_ct_series`, `several_studies`, `missing_slices`, `mixed_series`, `bad_direction`, `too_few_slices`,
    `too_large`, `corrupt_file`, `not_3d`, `not_an_image`.
    """
    if path.is_dir():
        found = find_slices(sorted(p for p in path.rglob("*") if p.is_file()))
    else:
        series = series or series_of(path)
        found = find_slices(sorted(p for p in path.parent.iterdir() if p.is_file()))
    slices, notes = _choose(found, series)
    slices, repeats = _without_copies(slices)
    if repeats:
        notes += (f"{repeats} files that repeat a slice of the series were left out.",)
    _refuse_damaged(found, slices)
    stacked = stack(slices)
    columns, rows, _ = slices[0].size
    require_memory(stacked.count * rows * columns * 2, max_bytes)
    return _read_voxels(stacked), stacked.ijk_to_ras, notes + stacked.notes


def _choose(found: Findings, series: str | None) -> tuple[list[Slice], tuple[str, ...]]:
    """Return the slices of the requested series, or else of the largest; the first UID wins a tie, so runs agree."""
    if not found.ct:
        raise _no_ct_series(found)
    if series in found.ct:
        return found.ct[series], ()
    uids = sorted(found.ct, key=lambda u: (-len(found.ct[u]), u))
    counts = [len(found.ct[uid]) for uid in uids]
    if series is not None:  # no UID in the message: it is written into the record of the failure
        raise VFQError(
            "no_ct_series",
            f"None of the {len(counts)} CT series ({', '.join(map(str, counts))} slices) has the requested UID. "
            "Leave the UID out: then the largest series is analysed, and the UIDs of all are listed.",
        )
    studies = {slices[0].study_uid for slices in found.ct.values()}
    if len(studies) > 1:
        raise VFQError(
            "several_studies",
            f"The folder contains CT of {len(studies)} studies. Give the folder of each study as a separate input.",
        )
    if found.others[ENHANCED]:
        raise _many_frames(found, "Give one file of another series to measure that one, or convert these files")
    if len(uids) == 1:
        return found.ct[uids[0]], ()
    listed = "; ".join(f"{count} slices, UID {uid or 'absent'}" for count, uid in zip(counts, uids, strict=True))
    return found.ct[uids[0]], (f"The largest of {len(uids)} CT series ({listed}) was chosen.",)


def _many_frames(found: Findings, advice: str) -> VFQError:
    held = ", ".join(f"{found.others[kind]} of {kind}" for kind in (ENHANCED, FRAMES) if found.others[kind])
    return VFQError(
        "not_3d",
        f"The folder contains files with many slices each: {held}. {advice} to NIfTI, for example with dcm2niix, or "
        "export the series with one file per slice.",
    )


def _no_ct_series(found: Findings) -> VFQError:
    if found.others[ENHANCED] or found.others[FRAMES]:
        return _many_frames(found, "Convert these files")
    if found.others:
        held = ", ".join(f"{n} of {kind}" for kind, n in found.others.most_common())
        return VFQError("no_ct_series", f"The folder contains no CT series, only images: {held}. Choose a CT study.")
    if found.unreadable:
        return VFQError(
            "corrupt_file",
            f"None of the {len(found.unreadable)} DICOM files contains a readable image. Copy them again.",
        )
    return VFQError(
        "no_ct_series", f"None of the {found.n_files} files in the folder is DICOM. Choose the folder of a CT study."
    )


def _without_copies(slices: list[Slice]) -> tuple[list[Slice], int]:
    """Return each slice once, and the number left out.

    Copies share UID, position and axes. The UID alone is not enough: anonymisers may give one UID to many slices.
    """
    unique = {(s.sop_uid or str(s.path), *s.position.tolist(), *s.axes.ravel().tolist()): s for s in slices}
    return list(unique.values()), len(slices) - len(unique)


def _refuse_damaged(found: Findings, slices: list[Slice]) -> None:
    """Refuse a series with truncated slices: otherwise they would count as missing, or the scan would end early."""
    identities = {path: _identity(path) for path in (*found.unreadable, *found.blank)}
    series = {
        path: uid for path, (sop_class, uid) in identities.items() if sop_class in (None, CT_STORAGE, *ENHANCED_CT)
    }
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
            f"{len(unknown)} files beside the series are empty or damaged, and may belong to it "
            f"({unknown[0].name!r}). Copy them again or, if they are not slices, take them out of the folder.",
        )


def _looks_like_a_slice(path: Path, beside: set[tuple[Path, str]]) -> bool:
    """True if an unreadable file lies in a folder of slices and has DICOM's mark or a name like theirs."""
    if path.name.startswith("."):  # left behind by operating systems and copying programs
        return False
    folders = {folder for folder, _ in beside}
    return (path.parent, _extension(path)) in beside or (path.parent in folders and has_mark(path))


def _extension(path: Path) -> str:
    """Return the extension in lower case; "" if it is a number: the end of a UID that is used as a file name."""
    suffix = path.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _identity(path: Path) -> tuple[str | None, str | None]:
    """Return SOP class and Series Instance UID of a file without a readable image; None for each that is lost.

    Only the file's own attributes count, not those in a sequence, which may refer to another series.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    sop_class = series = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(Exception):  # a damaged file can make pydicom raise anything
            sop_class = read_file_meta_info(path).get("MediaStorageSOPClassUID")
        with suppress(Exception):
            held = dcmread(path, stop_before_pixels=True, force=True)
            sop_class, series = sop_class or held.get("SOPClassUID"), held.get("SeriesInstanceUID")
    return sop_class and str(sop_class), series and str(series)


def _read_voxels(stacked: Stack) -> np.ndarray:
    """Read `[k, j, i]` HU slice by slice: ITK's series reader would truncate all slices to the first one's type."""
    columns, rows, _ = stacked.slices[0].size
    voxels = np.empty((stacked.count, rows, columns), np.int16)
    before = None
    for index, one in enumerate(stacked.slices):
        plane = _read_slice(one.path)
        stacked.fill(voxels, index, before, plane)
        before = plane.astype(np.float32)
    return voxels


def _read_slice(path: Path) -> np.ndarray:
    import SimpleITK as sitk

    try:
        image = image_reader(path).Execute()  # GDCM applies this slice's own rescale slope and intercept
    except RuntimeError:
        raise VFQError("corrupt_file", f"The voxels of {path.name!r} cannot be read. Copy the series again.") from None
    return to_int16(sitk.GetArrayFromImage(image))[0]
