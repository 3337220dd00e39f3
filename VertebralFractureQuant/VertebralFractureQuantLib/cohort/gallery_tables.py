"""The tables of a cohort as the gallery reads them: only the columns that it shows, in small types.

A hundred thousand cases have a million vertebrae: texts that repeat, such as levels and grades, are kept as numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl

from ..errors import VFQError
from ..spine.genant import GRADES, SHAPES
from ..spine.levels import NAMES

LEVEL, GRADE, SHAPE = pl.Enum(NAMES), pl.Enum(GRADES), pl.Enum(SHAPES)
VERTEBRAE: dict[str, pl.DataType | type[pl.DataType]] = {
    "case": pl.String,
    "index": pl.UInt8,
    "level": LEVEL,
    "level_certain": pl.Boolean,
    "g": pl.Float64,
    "g_sd": pl.Float32,
    "grade": GRADE,
    "shape": SHAPE,
    "physiologic": pl.Boolean,
    "doubts": pl.Categorical,
    "counted": pl.Boolean,
    "review": pl.Categorical,
    "origin": pl.Categorical,
    "auto_level": LEVEL,
    "auto_g": pl.Float64,
    "auto_grade": GRADE,
}
PATIENTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "case": pl.String,
    "status": pl.String,
    "worst_grade": GRADE,
    "auto_worst_grade": GRADE,
    "sdi": pl.Int32,
    "auto_sdi": pl.Int32,
    "levels_assessed": pl.Int32,
    "first_level": pl.String,
    "last_level": pl.String,
    "doubts": pl.String,
    "reviewed": pl.String,
    "reader": pl.String,
}
FAILURES: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(("case", "code", "message"), pl.String)


class Tables(NamedTuple):
    """The tables; those of vertebrae and failures have our own columns only, that of patients the covariates too."""

    patients: pl.DataFrame
    vertebrae: pl.DataFrame
    failures: pl.DataFrame


def read_tables(folder: Path) -> Tables:
    """Read the tables of a cohort's folder. Raises VFQError `not_found` if one is missing or cannot be read."""
    patients = _scanned(folder, "patients")
    given = [name for name in patients.collect_schema().names() if name not in PATIENTS]
    try:
        return Tables(
            _typed(patients, PATIENTS, given).collect(),
            _typed(_scanned(folder, "vertebrae"), VERTEBRAE).collect(),
            _typed(_scanned(folder, "failures"), FAILURES).collect(),
        )
    except pl.exceptions.PolarsError as error:
        raise VFQError(
            "not_found", f"The tables in {folder.name} cannot be read. Write them again with vfq cohort refresh."
        ) from error


def _scanned(folder: Path, name: str) -> pl.LazyFrame:
    """A table, not yet read; the Parquet file is preferred, as it keeps types and texts as they are."""
    if (folder / f"{name}.parquet").exists():
        return pl.scan_parquet(folder / f"{name}.parquet", glob=False)
    if (folder / f"{name}.csv").exists():
        return pl.scan_csv(folder / f"{name}.csv", infer_schema_length=None, glob=False)
    raise VFQError("not_found", f"{folder.name} has no {name}.csv. Give a folder that vfq cohort run has written.")


def _typed(
    table: pl.LazyFrame, types: dict[str, pl.DataType | type[pl.DataType]], others: list[str] | None = None
) -> pl.LazyFrame:
    """The columns `types`, null or False where they are missing, and `others` as they are."""
    there = table.collect_schema().names()
    own = [
        (pl.col(name) if name in there else pl.lit(None)).cast(kind, strict=False).alias(name)
        for name, kind in types.items()
    ]
    flags = [name for name, kind in types.items() if kind == pl.Boolean]
    return table.select(*own, *(others or ())).with_columns(pl.col(flags).fill_null(False))
