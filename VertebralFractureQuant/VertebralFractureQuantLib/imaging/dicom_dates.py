"""When a DICOM study was made. The date serves to count days between examinations, and is written nowhere."""

from __future__ import annotations

import warnings
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path

from .dicom_header import is_dicom, plain_stream

TAGS = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")


def study_date(path: Path) -> date | None:
    """Return the date of a DICOM file, or of the first DICOM file in a folder; None if there is none."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        with suppress(OSError):
            if file.name.upper() != "DICOMDIR" and is_dicom(file):
                return date_of(file)
    return None


def date_of(file: Path) -> date | None:
    """Return the date of a DICOM file; None if it has none."""
    from pydicom import dcmread

    with warnings.catch_warnings(), suppress(Exception), plain_stream(file) as stream:
        warnings.simplefilter("ignore")  # a damaged file can make pydicom raise or warn of anything
        held = dcmread(stream, stop_before_pixels=True, specific_tags=[*TAGS], force=True)
        for tag in TAGS:
            with suppress(ValueError):
                return datetime.strptime(str(held.get(tag) or "")[:8], "%Y%m%d").date()
    return None
