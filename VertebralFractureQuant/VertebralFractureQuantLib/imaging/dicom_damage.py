"""Damaged files in a folder of DICOM slices: refused if they may belong to the series that is read.

A truncated slice would otherwise count as missing, or the scan would end early.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

from ..errors import VFQError
from .dicom_choice import Series
from .dicom_header import extension, plain_stream
from .dicom_slices import CT_STORAGE, ENHANCED_CT, Findings, has_mark


def refuse_damaged(found: Findings, one: Series) -> None:
    """Raise VFQError `corrupt_file` if truncated or damaged files belong, or may belong, to a series."""
    identities = {path: _identity(path) for path in (*found.unreadable, *found.blank)}
    series = {
        path: uid for path, (sop_class, uid) in identities.items() if sop_class in (None, CT_STORAGE, *ENHANCED_CT)
    }
    broken = [path for path, uid in series.items() if uid in one.uids or (uid and one.joined)]
    if broken:
        raise VFQError(
            "corrupt_file",
            f"{len(broken)} files of the series are truncated or damaged ({broken[0].name!r}). Copy them again.",
        )
    beside = {(s.path.parent, extension(s.path)) for s in one.slices}
    cut = [path for path, uid in series.items() if uid is None or one.uids[0].startswith(uid)]
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
    return (path.parent, extension(path)) in beside or (path.parent in folders and has_mark(path))


def _identity(path: Path) -> tuple[str | None, str | None]:
    """Return SOP class and Series Instance UID of a file without a readable image; None for each that is lost.

    Only the file's own attributes count, not those in a sequence, which may refer to another series.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_partial

    sop_class = series = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(Exception), plain_stream(path) as stream:  # a damaged file can make pydicom raise anything
            meta = read_partial(stream, lambda tag, vr, length: True, force=True).file_meta
            sop_class = meta.get("MediaStorageSOPClassUID")
        with suppress(Exception), plain_stream(path) as stream:
            held = dcmread(stream, stop_before_pixels=True, force=True)
            sop_class, series = held.get("SOPClassUID") or sop_class, held.get("SeriesInstanceUID")
    return sop_class and str(sop_class), series and str(series)
