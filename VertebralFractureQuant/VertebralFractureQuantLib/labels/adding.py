"""Add CTs to a label set: each is read once, so that a CT that is replaced later is noticed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import VFQError
from ..report.names import case_names
from .dataset import Case, case_of, changing, load, with_cases, with_readers


def add_cases(
    folder: Path,
    scans: Sequence[Path],
    patients: Path | None = None,
    trust_header: bool = False,
    told: Callable[[str], None] = lambda name: None,
    readers: Sequence[str] = (),
) -> list[Case]:
    """Add the CTs at `scans`, as `read_cases`, and `readers` to the label set in `folder`; return the cases.

    Nothing is assigned to a new reader; a reader of the label set stays as it is.

    Raises
    ------
    VFQError
        As `read_cases`, `load`, `with_cases` and `with_readers`. Nothing is added then.
    """
    with_readers(load(folder), readers)  # a name that cannot be one is refused before minutes of reading
    cases = read_cases(folder, scans, patients, trust_header, told)
    with changing(folder) as held:
        held[0] = with_readers(with_cases(held[0], cases), readers)
    return cases


def read_cases(
    folder: Path,
    scans: Sequence[Path],
    patients: Path | None = None,
    trust_header: bool = False,
    told: Callable[[str], None] = lambda name: None,
) -> list[Case]:
    """Read the CTs at `scans`; return their cases, named after the files, for the label set in `folder`.

    Parameters
    ----------
    patients : CSV with the columns case and patient, where patients have several cases.
    told : is called with the name of each case before its CT is read.

    Raises
    ------
    VFQError
        As `read_ct`; `bad_import` or `not_found` for the table of patients.
    """
    names = case_names(scans)
    known = _patients(patients) if patients else {}
    unknown = sorted(set(known) - set(names))
    if unknown:
        message = f"{unknown[0]!r} in the table of patients is no case. The cases are {', '.join(names)}."
        raise VFQError("bad_import", message)
    cases = []
    for path, name in zip(scans, names, strict=True):
        told(name)
        cases.append(case_of(path, name, known.get(name, name), folder, trust_header))
    return cases


def _patients(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return {row["case"].strip(): row["patient"].strip() for row in csv.DictReader(file)}
    except FileNotFoundError:
        raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.") from None
    except (OSError, ValueError, KeyError, AttributeError, csv.Error) as error:
        message = f"{path.name} cannot be read as a table with the columns case and patient ({error}). Correct it."
        raise VFQError("bad_import", message) from error
