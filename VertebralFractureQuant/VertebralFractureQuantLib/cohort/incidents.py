"""Fractures that are new in a cohort: `incidents.csv`, a row for each two successive examinations of a patient.

Patient and date are columns of the manifest, which the tables carry. Only days between dates are written. Person-years
are those between examinations that could be compared.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import VFQError
from ..followup.comparison import compare
from ..report.comparison_files import names_of, read_examination
from ..report.outputs import writing
from .manifest import lacking
from .state import state_path
from .work import CASES

FILE = "incidents.csv"
YEAR_DAYS = 365.25
COLUMNS = (
    "patient", "prior_case", "current_case", "days", "status", "message", "compared", "certainty", "new_fractures",
    "new_levels", "progressed_levels",
)  # fmt: skip


@dataclass(frozen=True)
class Incidence:
    """The new fractures of a cohort.

    Attributes
    ----------
    rows : the rows of `incidents.csv`, with the keys `COLUMNS`.
    """

    rows: tuple[dict[str, Any], ...]

    @property
    def compared(self) -> tuple[dict[str, Any], ...]:
        """The rows of examinations that could be compared."""
        return tuple(row for row in self.rows if row["status"] == "ok")

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


def write_incidents(folder: Path, patient: str = "patient", day: str = "date") -> Incidence:
    """Compare the successive examinations of each patient of a cohort, and write `incidents.csv`.

    patient, day : the covariates with the patient and the date (2026-11-30) of an examination.

    Raises
    ------
    VFQError
        `not_a_cohort`; `bad_manifest`: the manifest lacks a column; `bad_dates`; `missing_dependency`;
        `output_not_writable`.
    """
    rows = [_row(folder, one, other) for one, other in _successive(_cases(folder, patient, day))]
    with writing(folder), (folder / FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _guarded(value) for key, value in row.items()} for row in rows)
    return Incidence(tuple(rows))


def _guarded(value: Any) -> Any:
    """Return text that a spreadsheet would take for a formula with an apostrophe in front, as in the other tables."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _cases(folder: Path, patient: str, day: str) -> list[tuple[str, date, str]]:
    """Return (patient, date, case) of each measured case that has both, by patient and date."""
    state_path(folder)
    try:
        import polars as pl
    except ImportError:
        raise lacking("polars") from None
    table = pl.read_parquet(folder / "patients.parquet")
    if missing := [name for name in (patient, day) if name not in table.columns]:
        raise VFQError(
            "bad_manifest",
            f"The tables of the cohort have no column {' and no column '.join(missing)}. Give a manifest with the "
            "patient and the date of each scan, and name its columns with --patient and --date.",
        )
    known = table.filter((pl.col("status") == "ok") & pl.col(patient).is_not_null() & pl.col(day).is_not_null())
    rows = zip(*(known[name].cast(pl.String).to_list() for name in (patient, day, "case")), strict=True)
    try:
        return sorted((who, date.fromisoformat(when.strip()), case) for who, when, case in rows)
    except ValueError:
        raise VFQError("bad_dates", f"A date in the column {day} cannot be read. Write dates as 2026-11-30.") from None


def _successive(
    cases: Sequence[tuple[str, date, str]],
) -> list[tuple[tuple[str, date, str], tuple[str, date, str]]]:
    return [(one, other) for one, other in pairwise(cases) if one[0] == other[0]]


def _row(folder: Path, one: tuple[str, date, str], other: tuple[str, date, str]) -> dict[str, Any]:
    told: dict[str, Any] = dict.fromkeys(COLUMNS)
    told |= {"patient": one[0], "prior_case": one[2], "current_case": other[2], "days": (other[1] - one[1]).days}
    try:
        prior, current = (read_examination(folder / CASES / case) for _, _, case in (one, other))
        found = compare(prior, current)
    except VFQError as error:
        return told | {"status": error.code, "message": error.message}
    new, worse = (names_of(found, verdict) for verdict in ("new fracture", "progressed"))
    return told | {
        "status": "ok",
        "compared": len(found.compared),
        "certainty": round(found.alignment.certainty, 4),
        "new_fractures": len(new),
        "new_levels": " ".join(new),
        "progressed_levels": " ".join(worse),
    }
