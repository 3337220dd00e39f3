"""The tables of a cohort, written from its state: vertebrae, patients and failures, as Parquet and CSV.

Lengths are mm; G is the Genant ratio. No table contains a path, a UID or a date of a patient. In CSV, text that a
spreadsheet would take for a formula has an apostrophe in front; Parquet holds the text as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CODES
from ..report.outputs import writing
from ..report.tables import EXPECTED
from ..whole import whole_file
from .manifest import lacking
from .rows import NUMBERS
from .state import WAITING, CohortState

if TYPE_CHECKING:
    import polars as pl

TEXT, NUMBER, FLAG, COUNT = "String", "Float64", "Boolean", "Int64"
ROUNDED = "Float32"  # numbers of a few decimals
KINDS = dict(zip(NUMBERS, (TEXT, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, TEXT, TEXT), strict=True))
VERTEBRA = {
    "case": TEXT, "index": COUNT, "level": TEXT, "level_certain": FLAG,
    **{name: kind for name, kind in KINDS.items() if name != "level"},
    "doubts": TEXT, "score": NUMBER, "counted": FLAG, "review": TEXT, "reviewer": TEXT, "reviewed_at": TEXT,
    "origin": TEXT, "physiologic": FLAG, "borderline": FLAG, **dict.fromkeys(EXPECTED, ROUNDED), "loss_grade": TEXT,
    "method": TEXT,
    **{f"auto_{name}": kind for name, kind in KINDS.items()},
}  # fmt: skip
PATIENT = {
    "case": TEXT, "status": TEXT, "method": TEXT, "worst_grade": TEXT, "auto_worst_grade": TEXT, "sdi": COUNT,
    "auto_sdi": COUNT, "levels_assessed": COUNT, "first_level": TEXT, "last_level": TEXT, "doubts": TEXT,
    "reviewed": TEXT, "reader": TEXT,
}  # fmt: skip
FAILURE = {"case": TEXT, "code": TEXT, "message": TEXT, "what_to_do": TEXT}
FILES = ("vertebrae.parquet", "vertebrae.csv", "patients.parquet", "patients.csv", "failures.csv")
AT_ONCE, ROWS_AT_ONCE = 2000, 50_000  # cases that are read, and rows that are written, at a time
FORMULA = r"^([=+\-@\t\r])"


def write_tables(state: CohortState) -> None:
    """Write all tables into the cohort's folder; nothing is done if they show the state already.

    VFQError `missing_dependency`, `output_not_writable`.
    """
    folder, changes = state.folder, state.changes()
    if state.read("tables_of") == changes and all((folder / name).exists() for name in FILES):
        return
    vertebrae = _vertebrae(state)
    _write(vertebrae, folder, "vertebrae", ("parquet", "csv"))
    del vertebrae
    patients = _patients(state)
    _write(patients, folder, "patients", ("parquet", "csv"))
    _write(_failures(state), folder, "failures", ("csv",))
    state.write("tables_of", changes)


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise lacking("polars") from None
    return polars


def _vertebrae(state: CohortState) -> pl.DataFrame:
    pl = _polars()
    schema = {name: getattr(pl, kind) for name, kind in VERTEBRA.items()}
    parts = [pl.DataFrame(schema=schema)]
    for some in _in_parts(state.rows()):
        if lines := b"".join(some):
            parts.append(pl.read_ndjson(lines, schema=schema))
    return pl.concat(parts)


def _in_parts(rows: Iterator[bytes]) -> Iterator[list[bytes]]:
    while some := list(islice(rows, AT_ONCE)):
        yield some


def _patients(state: CohortState) -> pl.DataFrame:
    pl = _polars()
    columns: dict[str, list[Any]] = {name: [] for name in PATIENT}
    given = list(state.read("covariates") or ())
    covariates: dict[str, list[Any]] = {name: [] for name in given}
    for case in state.results():
        values = {"case": case["case"], "status": case["status"], **case["patient"]}
        for name, column in columns.items():
            column.append(values.get(name))
        for name, column in covariates.items():
            column.append(case["covariates"].get(name))
    own = [pl.Series(name, values, getattr(pl, PATIENT[name])) for name, values in columns.items()]
    clash = {name: f"{name}_given" if name in PATIENT else name for name in given}
    return pl.DataFrame(own + [pl.Series(clash[n], values, strict=False) for n, values in covariates.items()])


def _failures(state: CohortState) -> pl.DataFrame:
    pl = _polars()
    rows = [
        (case["case"], case["status"], case["message"], CODES[case["status"]].remedy if case["status"] in CODES else "")
        for case in state.results()
        if case["status"] not in ("ok", WAITING)
    ]
    return pl.DataFrame(rows, schema={name: getattr(pl, kind) for name, kind in FAILURE.items()}, orient="row")


def _write(table: pl.DataFrame, folder: Path, name: str, suffixes: tuple[str, ...]) -> None:
    """Write a table in each format, and rename the files when they are complete."""
    with writing(folder):
        for suffix in suffixes:
            with whole_file(folder / f"{name}.{suffix}") as fresh:
                if suffix == "parquet":
                    table.write_parquet(fresh)
                else:
                    _write_csv(table, fresh)


def _write_csv(table: pl.DataFrame, path: Path) -> None:
    """Write a table in parts, as the guarded text is a copy."""
    with path.open("wb") as file:
        guarded(table.head(0)).write_csv(file)
        for part in table.iter_slices(ROWS_AT_ONCE):
            guarded(part).write_csv(file, include_header=False)


def guarded(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table with an apostrophe before each text, and each column's name, that begins like a formula.

    Numbers are left alone: a negative number stays one.
    """
    pl = _polars()
    table = table.with_columns(pl.col(pl.String).str.replace(FORMULA, "'$1"))
    return table.rename({name: f"'{name}" for name in table.columns if name[:1] in "=+-@\t\r" and name})
