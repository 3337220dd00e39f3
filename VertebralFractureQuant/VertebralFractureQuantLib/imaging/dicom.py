"""Reading one CT series from a folder of DICOM files: try the fittest first, refuse damaged files, read its voxels.

`dicom_slices` finds the slices, `dicom_choice` ranks the series, `dicom_parts` removes what is no slice of the stack,
and `dicom_stack` puts the slices in order. The result is voxels `[k, j, i]` in HU and `ijk_to_ras` (RAS mm).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .checks import MIN_SLICES, check_ct, require_memory
from .dicom_choice import Series, all_series, described, fittest, kind, with_uid
from .dicom_damage import refuse_damaged
from .dicom_header import Header, modality
from .dicom_parts import MOST_ODD, divided, phases, repeats, without_copies, without_odd
from .dicom_pixels import rescale
from .dicom_slices import (
    ENHANCED,
    FRAMES,
    Blind,
    Findings,
    Slice,
    files_below,
    find_slices,
    series_of,
)
from .dicom_stack import Stack, stack

# A series that fails in one of these ways is passed over for the next; other failures concern the folder or computer.
PASSED_OVER = ("too_few_slices", "bad_direction", "bad_spacing", "mixed_series", "missing_slices", "not_ct")
MOST_NAMED = 5  # files that a note names


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """One series as a volume.

    Attributes
    ----------
    voxels : `[k, j, i]` int16 HU.
    ijk_to_ras : `(4, 4)`, RAS mm.
    notes : what was decided, in sentences for the user; they may contain series UIDs and file names.
    widest_gap_mm : the widest distance between neighbouring slices as they were acquired.
    series : fingerprint of the series (`dicom_choice.Series.fingerprint`); None if it has no UID.
    """

    voxels: np.ndarray
    ijk_to_ras: np.ndarray
    notes: tuple[str, ...]
    widest_gap_mm: float
    series: str | None


def read_dicom(
    path: Path, series: str | None = None, max_bytes: int | None = None, files: Sequence[str] | None = None
) -> DicomVolume:
    """Read one CT series.

    Parameters
    ----------
    path : a folder, searched with its sub-folders and linked folders, or its DICOMDIR; or one DICOM file, whose series
        is read from its own folder.
    series : Series Instance UID or fingerprint; if None, the fittest series that can be read.
    max_bytes, files : as in `read_ct`.

    VFQError: `no_ct_series`, `several_studies`, `missing_slices`, `mixed_series`, `bad_direction`, `bad_spacing`,
    `too_few_slices`, `too_large`, `corrupt_file`, `not_3d`, `not_an_image`, `not_ct`. The `notes` of the error list the
    series with their UIDs.
    """
    series = series_of(path) if files is None and series is None and _is_one_slice(path) else series
    found = _findings(path) if files is None else find_slices(map(Path, files))
    asked, there = series is not None, all_series(found.ct)
    tried = _to_try(found, there, series)
    refused: list[tuple[Series, VFQError]] = []
    for one in tried:
        try:
            volume = _read_series(found, one, max_bytes, alone=len(tried) == 1)
        except VFQError as error:
            if len(tried) == 1 or error.code not in PASSED_OVER:
                raise
            refused.append((one, error))
        else:
            beside = _images_beside(found, one) + (() if asked else _unplaced(found, there))
            return replace(volume, notes=_choice_notes(tried, one, refused) + volume.notes + beside)
    raise _none_readable(refused)


def series_stack(path: Path, series: str) -> tuple[Series, Stack]:
    """Return a series and its slices in order, as `read_dicom` reads them, without the voxels.

    series : Series Instance UID or fingerprint. VFQError as `read_dicom`.
    """
    found = _findings(path)
    one = _to_try(found, all_series(found.ct), series)[0]
    refuse_damaged(found, one)
    return one, _stacked(one.slices)[0]


def _findings(path: Path) -> Findings:
    if _is_one_slice(path):
        return find_slices(sorted(p for p in path.parent.iterdir() if p.is_file() or not p.exists()))
    return find_slices(files_below(path if path.is_dir() else path.parent))


def _is_one_slice(path: Path) -> bool:
    """True for a file that is not a DICOMDIR, which stands for its folder."""
    return path.is_file() and path.name.upper() != "DICOMDIR"


def _to_try(found: Findings, there: list[Series], series: str | None) -> list[Series]:
    """Return the series to try, the fittest first; a requested one has no alternative."""
    asked = [one for one in there if series in (*one.uids, one.fingerprint)]
    if asked:
        return asked
    if series is not None and (blind := [one for one in found.blind if one.series_uid == series]):
        raise _cannot_be_placed(blind)
    if not there:
        raise _no_ct_series(found)
    listed = tuple(f"The folder contains {with_uid(one)}." for one in there)
    if series is not None:  # no UID in the message: it is written into the record of the failure
        counts = ", ".join(str(len(one.slices)) for one in there)
        raise VFQError(
            "no_ct_series",
            f"None of the {len(there)} CT series ({counts} slices) has the requested UID. Leave the UID out: then the "
            "fittest series is analysed, and the UIDs of all are listed.",
            listed,
        )
    _require_one_study(there, listed)
    if found.others[ENHANCED]:
        raise _many_frames(found, "Give one file of another series to measure that one, or convert these files", listed)
    return there


def _require_one_study(there: list[Series], listed: tuple[str, ...]) -> None:
    studies = Counter(one.slices[0].study_uid for one in there)
    if len(studies) == 1:
        return
    single = len(studies) >= MIN_SLICES and all(len(one.slices) == 1 for one in there)
    why = (
        "Each has one slice, as after anonymisation with new UIDs for each file: anonymise the scan again with one "
        "Study and Series Instance UID for all its slices, or convert it to NIfTI."
    )
    raise VFQError(
        "several_studies",
        f"The folder contains CT of {len(studies)} studies. "
        f"{why if single else 'Give the folder of each study as a separate input.'}",
        listed,
    )


def _read_series(found: Findings, series: Series, max_bytes: int | None, alone: bool) -> DicomVolume:
    blind = [one for one in found.blind if one.series_uid in series.uids or series.joined]
    if len(blind) > MOST_ODD * len(series.slices):
        raise _cannot_be_placed(blind)
    refuse_damaged(found, series)
    stacked, notes = _stacked(series.slices)
    _require_one_scale(stacked.slices)
    columns, rows = stacked.slices[0].size
    require_memory(stacked.count * rows * columns * 2, max_bytes)
    voxels = _read_voxels(stacked)
    if not alone:
        check_ct(voxels, stacked.ijk_to_ras)
    notes = series.note() + notes + stacked.notes + _header_notes(stacked.slices)
    if blind:
        notes += (f"{len(blind)} images of the series without {blind[0].lacks} were left out.",)
    return DicomVolume(voxels, stacked.ijk_to_ras, notes, stacked.widest_gap_mm, series.fingerprint)


def _require_one_scale(slices: list[Slice]) -> None:
    """Raise VFQError `not_ct` if some slices have no rescale to HU, and others have one that changes values."""
    bare: set[tuple[float, float]] = set()
    scaled: set[tuple[float, float]] = set()
    for one in slices:
        (scaled if _has_rescale(one.header) else bare).add(rescale(one.header))
    if scaled and not bare <= scaled:
        count = sum(not _has_rescale(one.header) for one in slices)
        raise VFQError(
            "not_ct",
            f"{count} of {len(slices)} slices have no rescale to HU, but the others have one that changes their "
            "values, so their intensities cannot be compared. Export the series again.",
        )


def _has_rescale(header: Header) -> bool:
    return bool(header.decimals("RescaleSlope") and header.decimals("RescaleIntercept"))


def _stacked(slices: list[Slice]) -> tuple[Stack, tuple[str, ...]]:
    """Return the stack of a series, or of the fittest of its phases that can be stacked, and what was left out."""
    part = without_odd(slices)
    if repeats(part):
        part = without_copies(part)
    refused: list[VFQError] = []
    if not repeats(part):
        try:
            return stack(part.slices), part.notes
        except VFQError as error:
            refused.append(error)
    parts = fittest(phases(part) if repeats(part) else divided(part, refused[0].code))
    for one in parts:
        try:
            stacked = stack(one.slices)
        except VFQError as error:
            refused.append(error)
            continue
        others = "; ".join(f"{p.label} ({len(p.slices)} slices)" for p in parts if p is not one)
        lost = len(part.slices) - sum(len(p.slices) for p in parts)
        others += f"; {lost} slices that no header tells apart" if lost else ""
        note = f"The series has several phases or reconstructions: the slices of {one.label} were read."
        return stacked, (*one.notes, note + (f" Left out: {others}." if others else ""))
    raise refused[0]


def _choice_notes(tried: list[Series], chosen: Series, refused: list[tuple[Series, VFQError]]) -> tuple[str, ...]:
    """Say which series was read, and list all others with their UIDs and why they were passed over."""
    if len(tried) == 1:
        return ()
    reasons = {id(one): f"{error.code}: {error.message.split('. ')[0].rstrip('.')}" for one, error in refused}
    listed = [
        f"{with_uid(one)} ({reasons.get(id(one)) or kind(one.slices) or 'less fit'})"
        for one in tried
        if one is not chosen
    ]
    first = f"The fittest of {len(tried)} CT series was chosen: {with_uid(chosen)}."
    return (f"{first} Passed over: {'; '.join(listed)}. To choose another, use --series with its UID.",)


def _none_readable(refused: list[tuple[Series, VFQError]]) -> VFQError:
    """Return the failure of the fittest series, with what was wrong with the others; the notes give the UIDs."""
    first, error = refused[0]
    listed = tuple(f"Not read: {with_uid(one)} ({why.code}: {why.message})" for one, why in refused)
    if len(refused) >= MIN_SLICES and all(len(one.slices) == 1 for one, _ in refused):
        return VFQError(
            "too_few_slices",
            f"The folder contains {len(refused)} CT series of one slice each, which do not make one stack. If an "
            "anonymiser gave each slice its own series UID, anonymise the scan again with one Series Instance UID.",
            listed,
        )
    others = "; ".join(f"{described(one)} ({why.code})" for one, why in refused[1:])
    return VFQError(
        error.code,
        f"None of the {len(refused)} CT series can be read. The fittest ({described(first)}): {error.message} The "
        f"others: {others}.",
        listed,
    )


def _header_notes(slices: list[Slice]) -> tuple[str, ...]:
    """Say what the headers of the slices lack, or how they had to be read."""
    headers = [one.header for one in slices]
    bare = sum(not _has_rescale(header) for header in headers)
    commas = sum("," in h.text[key] for h in headers for key in ("ImagePositionPatient",))
    notes = (
        bare and f"{bare} slices have no rescale to HU: their stored values were taken as HU.",
        commas and f"The numbers in the headers of {commas} slices have decimal commas, which were read as points.",
    )
    return tuple(note for note in notes if note)


def _unplaced(found: Findings, there: list[Series]) -> tuple[str, ...]:
    """Name the series of which no slice says where it lies."""
    uids = {uid for one in there for uid in one.uids}
    if any(one.joined for one in there):
        return ()
    lost = Counter((one.series_uid, one.lacks) for one in found.blind if one.series_uid not in uids)
    return tuple(
        f"Passed over: {n} CT slices whose {lacks} is absent or unreadable, UID {uid or 'absent'}."
        for (uid, lacks), n in lost.items()
    )


def _images_beside(found: Findings, series: Series) -> tuple[str, ...]:
    """Name the images of other formats that lie beside the slices: they were not read."""
    folders = {one.path.parent for one in series.slices}
    names = [repr(path.name) for path in found.images if path.parent in folders]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    sentence = (
        f"The DICOM slices were read. Images beside them are separate scans: {', '.join(names[:MOST_NAMED])}{more}."
    )
    return (sentence,) if names else ()


def _many_frames(found: Findings, advice: str, notes: tuple[str, ...] = ()) -> VFQError:
    held = ", ".join(f"{found.others[kind]} of {kind}" for kind in (ENHANCED, FRAMES) if found.others[kind])
    return VFQError(
        "not_3d",
        f"The folder contains files with many slices each: {held}. {advice} to NIfTI, for example with dcm2niix, or "
        "export the series with one file per slice.",
        notes,
    )


def _no_ct_series(found: Findings) -> VFQError:
    if found.others[ENHANCED] or found.others[FRAMES]:
        return _many_frames(found, "Convert these files")
    if found.blind:
        return _cannot_be_placed(found.blind)
    if found.others:
        held = ", ".join(f"{n} of {kind}" for kind, n in found.others.most_common())
        return VFQError("no_ct_series", f"The folder contains no CT series, only images: {held}. Choose a CT study.")
    without = Counter(filter(None, map(modality, found.unreadable)))
    if found.unreadable and "CT" not in without and without.total() == len(found.unreadable):
        held = ", ".join(f"{n} of {kind}" for kind, n in without.most_common())
        return VFQError(
            "no_ct_series",
            f"The DICOM files in the folder contain no CT slices: {held}. Choose the folder of a CT study.",
        )
    if found.unreadable:
        return VFQError(
            "corrupt_file",
            f"None of the {len(found.unreadable)} DICOM files contains a readable image. Copy them again.",
        )
    images = [repr(path.name) for path in found.images[:MOST_NAMED]]
    empty = f" {len(found.blank)} of them are empty, or links that lead nowhere." if found.blank else ""
    advice = (
        f"Give one of its images as the input: {', '.join(images)}." if images else "Choose the folder of a CT study."
    )
    return VFQError("no_ct_series", f"None of the {found.n_files} files in the folder is DICOM.{empty} {advice}")


def _cannot_be_placed(blind: Sequence[Blind]) -> VFQError:
    """Name the attribute that is absent from slices, or unreadable in them."""
    (lacks, absent), _ = Counter((one.lacks, one.absent) for one in blind).most_common(1)[0]
    count = sum((one.lacks, one.absent) == (lacks, absent) for one in blind)
    return VFQError(
        "bad_spacing" if lacks == "PixelSpacing" else "bad_direction",
        f"{count} CT slices have {'no' if absent else 'an unreadable'} {lacks}, so their "
        f"{'size' if lacks == 'PixelSpacing' else 'place'} in mm is unknown. Export the CT again with this attribute.",
    )


def _read_voxels(stacked: Stack) -> np.ndarray:
    """Read `[k, j, i]` HU slice by slice; each has its own rescale."""
    columns, rows = stacked.slices[0].size
    voxels = np.empty((stacked.count, rows, columns), np.int16)
    before = None
    for index, one in enumerate(stacked.slices):
        plane = one.voxels()
        stacked.fill(voxels, index, before, plane)
        before = plane
    return voxels
