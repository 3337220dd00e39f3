"""Fractures that are new in a cohort: `incidents.csv`, a row for each two successive examinations of a patient.

Patient and date are columns of the manifest, or come from DICOM headers (`occasions`). Only days between dates are
written. Person-years are those between examinations that could be compared.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import VFQError
from ..followup.comparison import compare
from ..report.comparison_files import names_of, read_examination
from ..report.outputs import writing
from ..whole import whole_file
from .occasions import Occasion, read_occasions
from .work import CASES

FILE = "incidents.csv"
YEAR_DAYS = 365.25
COLUMNS = (
    "patient", "prior_case", "current_case", "days", "status", "message", "compared", "certainty", "matched_by",
    "other_weights", "new_fractures", "new_levels", "progressed_levels",
)  # fmt: skip


@dataclass(frozen=True)
class Incidence:
    """The new fractures of a cohort.

    Attributes
    ----------
    rows : the rows of `incidents.csv`, with the keys `COLUMNS`.
    left_out : number of measured scans that do not say whose they are, or when they were made.
    from_dicom : True if patients or dates were read from DICOM headers.
    """

    rows: tuple[dict[str, Any], ...]
    left_out: int = 0
    from_dicom: bool = False

    @property
    def compared(self) -> tuple[dict[str, Any], ...]:
        """The rows of examinations that could be compared."""
        return tuple(row for row in self.rows if row["status"] == "ok")

    @property
    def other_weights(self) -> int:
        """Number of comparisons of scans that were measured with different weights."""
        return sum(bool(row["other_weights"]) for row in self.compared)

    @property
    def patients(self) -> int:
        """Number of patients with a comparison."""
        return len({row["patient"] for row in self.compared})

    @property
    def fractured(self) -> int:
        """Number of patients with a new fracture."""
        return len({row["patient"] for row in self.compared if row["new_fractures"]})

    @property
    def fractures(self) -> int:
        """Number of vertebrae that are newly fractured."""
        return sum(row["new_fractures"] for row in self.compared)

    @property
    def person_years(self) -> float:
        """Years of observation."""
        return sum(row["days"] for row in self.compared) / YEAR_DAYS

    @property
    def rate(self) -> tuple[float, float, float] | None:
        """New fractures in 100 person-years, with the exact 95 % Poisson interval; None without observation."""
        from scipy.stats import chi2

        if not self.person_years:
            return None
        count, per = self.fractures, 100 / self.person_years
        low = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
        return count * per, float(low) * per, float(chi2.ppf(0.975, 2 * count + 2)) / 2 * per


def write_incidents(folder: Path, patient: str | None = None, day: str | None = None) -> Incidence:
    """Compare the successive examinations of each patient of a cohort, and write `incidents.csv`.

    patient, day : the covariates with the patient and the date (2026-11-30) of an examination; see
        `occasions.read_occasions`.

    Raises
    ------
    VFQError
        `not_a_cohort`; `bad_manifest`: patients or dates are not known; `bad_dates`; `missing_dependency`;
        `cohort_in_use`; `output_not_writable`.
    """
    found = read_occasions(folder, patient, day)
    rows = [_row(folder, one, other) for one, other in pairwise(found.known) if one.patient == other.patient]
    with (
        writing(folder),
        whole_file(folder / FILE) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _guarded(value) for key, value in row.items()} for row in rows)
    return Incidence(tuple(rows), found.left_out, found.from_dicom)


def _guarded(value: Any) -> Any:
    """Return text that a spreadsheet would take for a formula with an apostrophe in front, as in the other tables."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _row(folder: Path, one: Occasion, other: Occasion) -> dict[str, Any]:
    told: dict[str, Any] = dict.fromkeys(COLUMNS)
    days = (other.day - one.day).days
    told |= {"patient": one.patient, "prior_case": one.case, "current_case": other.case, "days": days}
    try:
        if not days:
            raise VFQError("same_day", "Both scans are of one day, so no fracture can be new between them.")
        prior, current = (read_examination(folder / CASES / each.case) for each in (one, other))
        found = compare(prior, current)
    except VFQError as error:
        return told | {"status": error.code, "message": error.message}
    new, worse = (names_of(found, verdict) for verdict in ("new fracture", "progressed"))
    return told | {
        "status": "ok",
        "compared": len(found.compared),
        "certainty": round(found.alignment.certainty, 4),
        "matched_by": found.alignment.reader or None,
        "other_weights": " ".join(found.other_weights),
        "new_fractures": len(new),
        "new_levels": " ".join(new),
        "progressed_levels": " ".join(worse),
    }
