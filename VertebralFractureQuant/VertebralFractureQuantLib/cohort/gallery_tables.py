"""The tables of a cohort as the gallery reads them: only the columns that it shows, in small types.

A hundred thousand cases have a million vertebrae: texts that repeat, such as levels and grades, are kept as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from ..errors import VFQError
from ..spine.genant import GRADES, SHAPES
from ..spine.levels import NAMES

Types = dict[str, pl.DataType | type[pl.DataType]]
LEVEL, GRADE, SHAPE = pl.Enum(NAMES), pl.Enum(GRADES), pl.Enum(SHAPES)
VERTEBRAE: Types = {
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
PATIENTS: Types = {
    "case": pl.String,
    "status": pl.String,
    "method": pl.String,
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
FAILURES: Types = dict.fromkeys(("case", "code", "message"), pl.String)


class Tables(NamedTuple):
    """The tables; `covariates` are the names of the manifest's own columns, which are `x0`, `x1`, ... in `patients`."""

    patients: pl.DataFrame
    vertebrae: pl.DataFrame
    failures: pl.DataFrame
    covariates: list[str]


def read_tables(folder: Path) -> Tables:
    """Read the tables of a cohort's folder. Raises VFQError `not_found` if one is missing or cannot be read."""
    try:
        patients = _scanned(folder, "patients")
        covariates = [name for name in patients.collect_schema().names() if name not in PATIENTS]
        return Tables(
            _typed(patients, PATIENTS, covariates).collect(),
            _typed(_scanned(folder, "vertebrae"), VERTEBRAE).collect(),
            _typed(_scanned(folder, "failures"), FAILURES).collect(),
            covariates,
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


def _typed(table: pl.LazyFrame, types: Types, others: Sequence[str] = ()) -> pl.LazyFrame:
    """The columns `types`, null or False where they are missing, and `others` as `x0`, `x1`, ..."""
    there = table.collect_schema().names()
    own = [
        (pl.col(name) if name in there else pl.lit(None)).cast(kind, strict=False).alias(name)
        for name, kind in types.items()
    ]
    given = [pl.col(name).alias(f"x{i}") for i, name in enumerate(others)]  # no name of theirs is one of ours
    flags = [name for name, kind in types.items() if kind == pl.Boolean]
    return table.select(*own, *given).with_columns(pl.col(flags).fill_null(False))
