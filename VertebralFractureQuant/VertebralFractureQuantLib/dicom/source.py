"""The DICOM series that was analysed, with the identity of its patient and study: read at export time, kept nowhere.

Identities go into DICOM objects only. No message, log or other file holds them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VFQError
from ..imaging.dicom import series_stack
from ..imaging.dicom_header import is_dicom, plain_stream
from ..spine.record import SpineAnalysis, check_belongs

if TYPE_CHECKING:
    from pydicom import Dataset

# Attributes of the patient and the study that are copied; the optional ones only where they are present.
REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
OPTIONAL = (
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDescription",
    "InstitutionName",
    "TimezoneOffsetFromUTC",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
)
METHODS = "DeidentificationMethodCodeSequence"
OF_A_SLICE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
ONE_FOR_ALL = ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID")
SEXES = ("M", "F", "O")
UNDECODABLE = ("\ufffd", "\x1b")
CHINESE = "\x1b$)A"  # the escape sequence of ISO 2022 IR 58, which pydicom 3.0 leaves in the text
ONLY_PDF = "Use vfq report instead: PDF and HTML need no identity."


@dataclass(frozen=True, eq=False)
class Source:
    """The series that was analysed.

    Attributes
    ----------
    identity : attributes of patient and study, as text in UTF-8, with the UIDs of the first slice.
    evidence : UIDs of all slices along the stack, the first being `identity`.
    frame_of_reference : its UID.
    """

    identity: Dataset
    evidence: tuple[Dataset, ...]
    frame_of_reference: str

    @property
    def series(self) -> str:
        """The Series Instance UIDs, sorted; one, except where each slice has its own."""
        return "\\".join(sorted({str(one.SeriesInstanceUID) for one in self.evidence}))


def read_source(path: Path | None, analysis: SpineAnalysis, series: str | None = None) -> Source:
    """Return the series in a DICOM folder that an analysis was made from.

    Parameters
    ----------
    path : a folder or one file of the series; None if the user gave none.
    analysis : the record, which knows a fingerprint of the series.
    series : UID that the user gives instead, for older records.

    Raises
    ------
    VFQError
        `no_identity` if there is no DICOM series to take the identity from, or the identity is unusable;
        `missing_slices`, `other_ct`; as `imaging.dicom.read_dicom` about the series.
    """
    path = _dicom(path, analysis, series)
    found, stack = series_stack(path, series or analysis.series or "")
    if len(stack.slices) < 2 or analysis.shape is None:
        raise _no_identity("The record does not say which voxels were analysed.")
    if analysis.series and found.fingerprint != analysis.series:
        raise VFQError("other_ct", "The analysis was made from another series. Leave --series out to have it found.")
    columns, rows = stack.slices[0].size
    if analysis.series == found.fingerprint and stack.count < analysis.shape[0]:
        raise VFQError(
            "missing_slices",
            f"The series has {stack.count} of the {analysis.shape[0]} slices that were analysed. Copy or export the "
            "complete series again.",
        )
    check_belongs(analysis, (stack.count, rows, columns), stack.ijk_to_ras)
    with silenced():
        headers = [_header(one.path) for one in stack.slices]
        frame = _same_for_all(headers)
        identity = _identity(headers[0])
        return Source(identity, (identity, *map(_reference, headers[1:])), frame)


def _dicom(path: Path | None, analysis: SpineAnalysis, series: str | None) -> Path:
    """Return the path if it can hold the series of the record."""
    unknown = analysis.series is None and series is None
    if path is None and not unknown:
        raise _no_identity("DICOM objects need the identity of patient and study. Give the DICOM folder with --source.")
    if path is not None and not path.exists():
        raise VFQError("not_found", f"There is no file or folder {path.name!r}. Check the path.")
    if path is not None and path.is_file() and not is_dicom(path):
        raise _no_identity(f"{path.name!r} is not DICOM, so it holds no identity of patient and study. {ONLY_PDF}")
    if path is None or unknown:
        raise _no_identity(
            "The record does not say which DICOM series was analysed: the case came as NIfTI or another format, from a "
            f"series without a UID, or from an older version. {ONLY_PDF} If it came from a DICOM series, give its "
            "folder with --source and its UID with --series."
        )
    return path


@contextmanager
def silenced(*more: str) -> Iterator[None]:
    """Keep warnings and logs of the DICOM libraries from the user: they quote values such as patients' names.

    more : the names of further loggers to silence.
    """
    loggers = [logging.getLogger(name) for name in ("highdicom", "pydicom", *more)]
    before = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


def _header(path: Path) -> Dataset:
    from pydicom import dcmread

    wanted = {*REQUIRED, *OPTIONAL, METHODS, *OF_A_SLICE, *ONE_FOR_ALL, "SpecificCharacterSet"}
    with plain_stream(path) as stream:
        return dcmread(stream, stop_before_pixels=True, force=True, specific_tags=sorted(wanted))


def _same_for_all(headers: list[Dataset]) -> str:
    """Return the frame of reference of all slices. VFQError `no_identity` if it or another identity differs."""
    for keyword in (*OF_A_SLICE, "FrameOfReferenceUID"):
        if lacking := sum(not one.get(keyword) for one in headers):
            raise _no_identity(
                f"{lacking} slices of the series have no {keyword}, so nothing can refer to them. Export the series "
                f"from the archive again. {ONLY_PDF}"
            )
    for keyword in ONE_FOR_ALL:
        if len({str(one.get(keyword, "")) for one in headers}) > 1:
            raise _no_identity(f"The slices of the series differ in {keyword}, so it is unclear whose they are.")
    if len({str(one.SOPInstanceUID) for one in headers}) < len(headers):
        raise _no_identity(
            "Several slices have the same SOPInstanceUID, so nothing can refer to one of them. Export the series from "
            f"the archive again. {ONLY_PDF}"
        )
    return str(headers[0].FrameOfReferenceUID)


def _identity(header: Dataset) -> Dataset:
    """Return what is copied of patient and study, decoded from its character set and encoded as UTF-8."""
    identity = _reference(header)
    identity.SpecificCharacterSet = "ISO_IR 192"
    if METHODS in header:
        identity[METHODS] = header[METHODS]
    for keyword in (*REQUIRED, *OPTIONAL):
        text = _text(header, keyword)
        if text or keyword in REQUIRED:
            setattr(identity, keyword, text)
    if identity.get("PatientIdentityRemoved") == "YES" and not (
        METHODS in identity or "DeidentificationMethod" in identity
    ):
        identity.DeidentificationMethod = "Not stated"  # required beside it
    return identity


def _text(header: Dataset, keyword: str) -> str:
    """Return a value as text; "" if it is absent, or no date, time or sex where it has to be one."""
    from pydicom.multival import MultiValue
    from pydicom.valuerep import DA, TM

    try:
        value = header.get(keyword)
        text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str("" if value is None else value)
    except (UnicodeError, LookupError, ValueError):
        text = UNDECODABLE[0]
    text = text.replace(CHINESE, "")
    if any(mark in text for mark in UNDECODABLE):
        raise _no_identity(
            f"{keyword} cannot be read with the character set that the header names (SpecificCharacterSet). Correct "
            "it, or export the series again."
        )
    checks: dict[str, Any] = {"Date": DA, "Time": TM}
    check = next((made for end, made in checks.items() if keyword.endswith(end)), str)
    try:
        check(text)
    except ValueError:
        return ""
    return "" if keyword == "PatientSex" and text not in SEXES else text


def _reference(header: Dataset) -> Dataset:
    from pydicom import Dataset

    reference = Dataset()
    for keyword in OF_A_SLICE:
        setattr(reference, keyword, str(header[keyword].value))
    return reference


def _no_identity(message: str) -> VFQError:
    return VFQError("no_identity", message)
