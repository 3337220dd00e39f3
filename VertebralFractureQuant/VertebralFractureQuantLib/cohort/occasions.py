"""Whose each scan of a cohort is, and when it was made: from columns of the manifest, or from DICOM headers.

Headers are read again each time that this is asked: neither dates nor PatientIDs are kept. A patient of DICOM is the
hash with which the names of the cases begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ..errors import VFQError
from ..imaging.dicom_dates import date_of
from ..imaging.dicom_identity import identify
from .manifest import lacking
from .planning import READERS, hashed
from .sources import files_of
from .state import CohortState, Known, state_path

COLUMNS = ("patient", "date")  # of a manifest, unless the user names others
PATIENT_DIGITS = 12
NOTHING: tuple[str, date | None] = ("", None)


@dataclass(frozen=True, order=True)
class Occasion:
    """A scan of a patient: the patient as in the manifest or as a hash, the day, and the case."""

    patient: str
    day: date
    case: str


@dataclass(frozen=True)
class Occasions:
    """The measured scans, by patient and day.

    left_out : number of measured scans that do not say whose they are, or when they were made.
    from_dicom : True if patients or dates were read from DICOM headers.
    """

    known: tuple[Occasion, ...]
    left_out: int
    from_dicom: bool


def read_occasions(folder: Path, patient: str | None = None, day: str | None = None) -> Occasions:
    """Return whose the measured scans of a cohort are, and when they were made.

    patient, day : columns of the manifest; None for "patient" and "date", and for DICOM headers where there is no such
        column.

    VFQError `not_a_cohort`; `bad_manifest`: there is no such column, or nothing is known; `bad_dates`;
    `missing_dependency`; `cohort_in_use`.
    """
    state_path(folder)
    table = _measured(folder)
    given = zip((patient, day), COLUMNS, strict=True)
    columns = [name or (usual if usual in table.columns else None) for name, usual in given]
    if missing := [name for name in columns if name and name not in table.columns]:
        raise VFQError(
            "bad_manifest",
            f"The tables of the cohort have no column {' and no column '.join(missing)}. "
            "Name the columns of the manifest with --patient and --date.",
        )
    cases = table["case"].to_list()
    headers = _headers(folder, cases) if None in columns else {}
    whose = _texts(table, columns[0]) if columns[0] else [headers.get(case, NOTHING)[0] for case in cases]
    when = _dates(table, columns[1]) if columns[1] else [headers.get(case, NOTHING)[1] for case in cases]
    known = sorted(Occasion(w, d, c) for w, d, c in zip(whose, when, cases, strict=True) if w and d)
    if not known:
        raise _nothing(columns)
    return Occasions(tuple(known), len(cases) - len(known), None in columns)


def _measured(folder: Path) -> Any:
    try:
        import polars as pl
    except ImportError:
        raise lacking("polars") from None
    return pl.read_parquet(folder / "patients.parquet").filter(pl.col("status") == "ok")


def _texts(table: Any, column: str) -> list[str]:
    return [str("" if value is None else value).strip() for value in table[column].to_list()]


def _dates(table: Any, column: str) -> list[date | None]:
    try:
        return [date.fromisoformat(text) if text else None for text in _texts(table, column)]
    except ValueError:
        message = f"A date in the column {column} cannot be read. Write dates as 2026-11-30."
        raise VFQError("bad_dates", message) from None


def _headers(folder: Path, cases: Sequence[str]) -> dict[str, tuple[str, date | None]]:
    """Return the hash of the patient and the date of each case that is DICOM."""
    wanted = set(cases)
    with CohortState(folder) as state:
        salt, planned = state.salt(), [one for one in state.planned() if one.name in wanted]
    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(_header, planned))
    return {
        one.name: (hashed(salt, who, PATIENT_DIGITS) if who else "", when)
        for one, (who, when) in zip(planned, found, strict=True)
    }


def _header(one: Known) -> tuple[str, date | None]:
    """Return the patient and the date in the first DICOM file of a scan; `NOTHING` without one."""
    with suppress(OSError, VFQError):
        for file in files_of(Path(one.path), one.files):
            identity = identify(file)
            if identity and identity.study:
                return identity.patient, date_of(file)
    return NOTHING


def _nothing(columns: Sequence[str | None]) -> VFQError:
    absent = [usual for name, usual in zip(columns, COLUMNS, strict=True) if name is None]
    if not absent:
        named = " and ".join(map(str, columns))
        return VFQError("bad_manifest", f"No measured scan has a value in both columns, {named}. Fill them in.")
    return VFQError(
        "bad_manifest",
        f"The tables of the cohort have no column {' and no column '.join(absent)}, and no scan is DICOM that says "
        "whose it is and when it was made, where the cohort was measured. Give a manifest with the patient and the "
        "date of each scan, and name its columns with --patient and --date; or put the DICOM files back.",
    )
