"""The worklist: the cases to be analysed and reviewed, and the state of each, read from disk.

A case's folder holds analysis.json (the record, as reviewed so far), machine.json (the record before any
review, once a review has been saved) and review.sqlite (the journal of the reader's actions).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import VFQError
from ..whole import visible

if TYPE_CHECKING:
    from ..spine.record import SpineAnalysis

State = Literal["waiting", "failed", "ready", "in review", "reviewed"]


@dataclass(frozen=True)
class Case:
    """One scan to be reviewed.

    Attributes
    ----------
    name : name of the case.
    source : the scan, a file or a DICOM folder.
    folder : the folder `output/<name>` of its results.
    files : the DICOM files of the scan, where not all that are in the folder `source` belong to it.
    """

    name: str
    source: Path
    folder: Path
    files: tuple[str, ...] | None = None


@dataclass(frozen=True)
class CaseStatus:
    """The state of a case.

    Attributes
    ----------
    state : "waiting" for its analysis, "failed", "ready" for review, "in review" or "reviewed".
    code, message : why the analysis failed; empty otherwise.
    worst_grade : the patient's grade, None if there is none; a physiologic shape is normal.
    doubts : codes of the reasons to doubt the study, separated by spaces, the most serious first.
    open, total : number of vertebrae that still need review, and of all vertebrae.
    readers : who began or signed a reading of the case.
    signed : the signatures that hold, as text; empty without any.
    """

    state: State
    code: str = ""
    message: str = ""
    worst_grade: str | None = None
    open: int = 0
    total: int = 0
    doubts: str = ""
    readers: tuple[str, ...] = ()
    signed: str = ""


def find_cases(inputs: Sequence[Path], output: Path, series: bool = False) -> list[Case]:
    """Return a case for each scan, named as `vfq analyze` names it (see `case_names`).

    series : a DICOM series is asked for by its UID, so a folder that also contains image files is DICOM only.
    """
    from ..report.names import case_names

    paths = expanded(inputs, series)
    return [Case(name, path, output / name) for name, path in zip(case_names(paths), paths, strict=True)]


def expanded(inputs: Sequence[Path], series: bool = False) -> list[Path]:
    """Replace each folder by its scans: image files, and folders of one DICOM study each.

    A folder without image files is DICOM: it stays, unless its sub-folders hold different studies. Beside image files,
    the DICOM slices in the folder are one more scan, and its sub-folders are searched for DICOM studies; those that
    `vfq` wrote are not. If a DICOM `series` is asked for, a folder with slices is the only one.
    """
    return [path for given in inputs for path in _scans(given, series)]


def _scans(given: Path, series: bool) -> list[Path]:
    images = _images(given) if given.is_dir() else []
    if not images:
        return [given] if series or not given.is_dir() else _studies(given) or [given]
    if _has_slices(given):
        return [given] if series else [*images, given]
    return images if series else [*images, *(study for folder in _beside_images(given) for study in _studies(folder))]


def _beside_images(folder: Path) -> list[Path]:
    """Return the sub-folders of a folder of image files, without hidden ones and those that `vfq` wrote."""
    found = [sub for sub in visible(folder.iterdir()) if sub.is_dir()]
    return [sub for sub in found if not ((sub / "analysis.json").exists() or any(sub.glob("*/analysis.json")))]


def _studies(folder: Path) -> list[Path]:
    """Return the folders of single DICOM studies in a folder: itself, or those below it if their studies differ.

    A folder without any CT in DICOM has none. One whose sub-folders share a study with each other stays whole, and so
    does a folder with slices of its own: its series belong together.
    """
    uid = _study_uid(folder)
    if uid is None:
        return []
    if _has_slices(folder):
        return [folder]
    held = {sub: _study_uid(sub) for sub in visible(folder.iterdir()) if sub.is_dir()}
    held = {sub: found for sub, found in held.items() if found is not None}
    below = {sub: _studies(sub) for sub in held} if len(set(held.values())) == len(held) else {}
    several = [study for studies in below.values() for study in studies]
    return several if len(several) > 1 else [folder]


def _study_uid(folder: Path) -> str | None:
    """Return the study of the first CT image in or below a folder; None if there is none."""
    from ..imaging.dicom_header import is_dicom, read_header
    from ..imaging.dicom_slices import files_below

    with suppress(OSError):
        for path in files_below(folder):
            header = read_header(path) if path.name.upper() != "DICOMDIR" and is_dicom(path) else None
            if header and header.text["Modality"] == "CT":
                return header.text["StudyInstanceUID"]
    return None


def passed_over(inputs: Sequence[Path]) -> list[Path]:
    """List the folders beside image files in an input folder in which `expanded` finds no DICOM study.

    Folders that `vfq` wrote are not listed, nor those in a folder of DICOM slices, which are searched.
    """
    folders = [path for path in inputs if path.is_dir() and _images(path) and not _has_slices(path)]
    return [sub for folder in folders for sub in _beside_images(folder) if not _studies(sub)]


def passed_over_sentences(inputs: Sequence[Path]) -> list[str]:
    """Return what to tell the user about each folder of `passed_over`."""
    return [
        f"{folder} is skipped because there are scans beside it. If it contains scans, give it as an INPUT too."
        for folder in passed_over(inputs)
    ]


def case_status(case: Case, reader: str = "") -> CaseStatus:
    """Read the state of `case` from its folder; a damaged file gives "failed" with a code, not an exception.

    It is that of the `reader`'s own reading if there is one, else of the first reading; `signed` is of all readings.
    """
    from ..report.readings import own_folder
    from ..spine.quality import codes_text
    from ..spine.record_json import read_analysis

    own = own_folder(case.folder, reader) / "analysis.json"
    file = own if reader and own.exists() else case.folder / "analysis.json"
    try:
        if not file.exists():
            return CaseStatus("waiting")
        analysis = read_analysis(file)
    except VFQError as failure:
        return CaseStatus("failed", failure.code, failure.message)
    if analysis.status != "ok":
        return CaseStatus("failed", analysis.status, analysis.message)
    open_ones = sum(v.review == "open" for v in analysis.vertebrae)
    state = _state(analysis, open_ones, (file.parent / "machine.json").exists())  # opening a case begins no review
    doubts, total = codes_text(analysis.quality), len(analysis.vertebrae)
    return CaseStatus(state, "", "", analysis.patient_grade, open_ones, total, doubts, *_readers(case, analysis))


def _readers(case: Case, shown: SpineAnalysis) -> tuple[tuple[str, ...], str]:
    """Return who began or signed a reading of the case, and all signatures as text."""
    from ..report.readings import READINGS, reading_of, readings
    from ..spine.reading import signatures_text

    several = (case.folder / READINGS).is_dir()
    records = [found.record for found in readings(case.folder)] if several else [shown]
    known = [reading for reading in map(reading_of, records) if reading]
    names = [name for r in known for name in (r.reader, *(s.reader for s in r.signatures))]
    return tuple(dict.fromkeys(names)), "; ".join(filter(None, (signatures_text(r.signatures) for r in records)))


def _state(analysis: SpineAnalysis, open_ones: int, begun: bool) -> State:
    if analysis.vertebrae and not open_ones:
        return "reviewed"
    return "in review" if begun else "ready"


def _images(folder: Path) -> list[Path]:
    from ..report.names import IMAGE_SUFFIXES

    with suppress(OSError):  # reading the scan reports a folder that cannot be listed
        return visible(p for p in folder.iterdir() if p.name.lower().endswith(IMAGE_SUFFIXES))
    return []


def _has_slices(folder: Path) -> bool:
    from ..imaging.dicom_header import is_dicom
    from ..report.names import IMAGE_SUFFIXES

    with suppress(OSError):
        others = (p for p in folder.iterdir() if p.is_file() and not p.name.lower().endswith(IMAGE_SUFFIXES))
        return any(is_dicom(path) for path in others)
    return False
