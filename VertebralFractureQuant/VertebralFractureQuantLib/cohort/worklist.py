"""The cases that are to be analysed and reviewed, and how far each one is; all of it is read from disk.

A case's folder holds analysis.json (the record, as reviewed so far), machine.json (as the machine made it, once a
review was saved) and review.sqlite (the journal of a reader's acts).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import VFQError

if TYPE_CHECKING:
    from ..spine.record import SpineAnalysis

State = Literal["waiting", "failed", "ready", "in review", "reviewed"]


@dataclass(frozen=True)
class Case:
    """One scan to be reviewed: its name, the file or DICOM folder, and the folder `output/<name>` of its results."""

    name: str
    source: Path
    folder: Path


@dataclass(frozen=True)
class CaseStatus:
    """How far a case is. `code` and `message` tell why it failed; `open` of `total` vertebrae await a reader."""

    state: State
    code: str = ""
    message: str = ""
    worst_grade: str | None = None
    open: int = 0
    total: int = 0


def find_cases(inputs: Sequence[Path], output: Path) -> list[Case]:
    """A case for each scan, named as `vfq analyze` names it, see `case_names`."""
    from ..report.outputs import case_names

    paths = expanded(inputs)
    return [Case(name, path, output / name) for name, path in zip(case_names(paths), paths, strict=True)]


def expanded(inputs: Sequence[Path]) -> list[Path]:
    """The inputs, with each folder that holds image files itself replaced by those; other folders are DICOM."""
    return [path for given in inputs for path in (given.is_dir() and _images(given)) or [given]]


def passed_over(inputs: Sequence[Path]) -> list[Path]:
    """The folders that lie beside image files in an input folder: `expanded` takes the files alone. What `vfq` wrote is
    no input."""
    folders = [path for path in inputs if path.is_dir() and _images(path)]
    found = [sub for folder in folders for sub in sorted(folder.iterdir()) if sub.is_dir()]
    ours = [sub for sub in found if (sub / "analysis.json").exists() or any(sub.glob("*/analysis.json"))]
    return [sub for sub in found if not sub.name.startswith(".") and sub not in ours]


def case_status(case: Case) -> CaseStatus:
    """How far `case` is, from its folder alone; what is damaged there is a coded failure, never an exception."""
    from ..spine.record import read_analysis

    file = case.folder / "analysis.json"
    try:
        if not file.exists():
            return CaseStatus("waiting")
        analysis = read_analysis(file)
    except VFQError as failure:
        return CaseStatus("failed", failure.code, failure.message)
    if analysis.status != "ok":
        return CaseStatus("failed", analysis.status, analysis.message)
    open_ones = sum(v.review == "open" for v in analysis.vertebrae)
    state = _state(analysis, open_ones, (case.folder / "machine.json").exists())  # opened is not yet reviewed
    return CaseStatus(state, "", "", analysis.patient_grade, open_ones, len(analysis.vertebrae))


def _state(analysis: SpineAnalysis, open_ones: int, begun: bool) -> State:
    if analysis.vertebrae and not open_ones:
        return "reviewed"
    return "in review" if begun else "ready"


def _images(folder: Path) -> list[Path]:
    from ..report.outputs import IMAGE_SUFFIXES

    with suppress(OSError):  # a folder that cannot be listed is reported by the reader
        return sorted(p for p in folder.iterdir() if p.name.lower().endswith(IMAGE_SUFFIXES))
    return []
