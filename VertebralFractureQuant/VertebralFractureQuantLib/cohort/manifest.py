"""The manifest of a cohort: a CSV or Parquet table with the columns `case` and `path`, and covariates.

A path is that of a file or a DICOM folder, relative to the folder of the manifest. All other columns are carried
through to the tables, as text or, where no character is lost, as numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VFQError
from ..report.names import case_name

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".csv", ".tsv", ".parquet")
NEEDED = ("case", "path")
GIVEN = "case_given"  # the case as the manifest calls it, where that cannot be the name of a folder
MOST_NAMED = 5


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest: (case, path, covariates), and the names of the covariates in their order."""

    rows: tuple[tuple[str, str, dict[str, Any]], ...]
    covariates: tuple[str, ...]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. VFQError `bad_manifest`: it cannot be read, lacks a column, or names a case twice."""
    table = _table(path)
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise VFQError(
            "bad_manifest",
            f"The manifest {path.name!r} has no column {' and no column '.join(missing)}. It has "
            f"{', '.join(table.columns[:10])}. Name the columns case and path.",
        )
    cases, paths = (table[name].cast(str).fill_null("").str.strip_chars().to_list() for name in NEEDED)
    _require_values(path, cases, paths)
    names = [case_name(Path(case)) for case in cases]
    _require_different(path, names)
    covariates = [name for name in table.columns if name not in NEEDED]
    values = table.select(covariates).to_dicts() if covariates else [{} for _ in names]
    if names != cases:
        covariates.append(GIVEN)
        values = [value | {GIVEN: case} for value, case in zip(values, cases, strict=True)]
    return Manifest(tuple(zip(names, paths, values, strict=True)), tuple(covariates))


def _table(path: Path) -> pl.DataFrame:
    try:
        import polars as pl
    except ImportError:
        raise lacking("polars") from None
    try:
        if path.suffix.lower() == ".parquet":
            return _plain(pl.read_parquet(path))
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline()
        separator = max("\t;,", key=first.count)
        return _numbers(pl.read_csv(path, separator=separator, infer_schema=False, encoding="utf8-lossy"))
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise VFQError(
            "bad_manifest",
            f"The manifest {path.name!r} cannot be read ({reason}). Save it as CSV (UTF-8) with a header row, or as "
            "Parquet.",
        ) from None


def lacking(package: str) -> VFQError:
    """Return the failure for a package of the extra `cohort` that is not installed."""
    return VFQError(
        "missing_dependency",
        f"A cohort needs the package {package}. Install it with pip install 'vertebral-fracture-quant[cohort]'.",
    )


def _plain(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table with every column that is no number or boolean as text."""
    import polars as pl

    kept = [name for name, kind in table.schema.items() if kind.is_numeric() or kind == pl.Boolean]
    return table.with_columns(pl.exclude(kept).cast(pl.String, strict=False))


def _numbers(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table of text with columns of numbers as numbers, unless "007" or "1.50" would lose a character."""
    import polars as pl

    for name in table.columns:
        if name in NEEDED:
            continue
        for kind in (pl.Int64, pl.Float64):
            cast = table[name].cast(kind, strict=False)
            if table[name].is_not_null().any() and (cast.cast(pl.String).eq_missing(table[name])).all():
                table = table.with_columns(cast.alias(name))
                break
    return table


def _require_values(path: Path, cases: list[str], paths: list[str]) -> None:
    empty = [n for n, values in enumerate(zip(cases, paths, strict=True), start=2) if not all(values)]
    if empty or not cases:
        where = f"Lines without case or path: {', '.join(map(str, empty[:MOST_NAMED]))}." if empty else "It is empty."
        raise VFQError("bad_manifest", f"The manifest {path.name!r} is incomplete. {where} Fill in both columns.")


def _require_different(path: Path, names: list[str]) -> None:
    seen: dict[str, int] = {}
    for line, name in enumerate(names, start=2):
        first = seen.setdefault(name.lower(), line)
        if first != line:
            raise VFQError(
                "bad_manifest",
                f"The manifest {path.name!r} has the case {name!r} in the lines {first} and {line}. Give each scan a "
                "name of its own; characters that no folder can have, and upper case, do not tell names apart.",
            )
