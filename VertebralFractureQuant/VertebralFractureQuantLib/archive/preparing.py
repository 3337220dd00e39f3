"""From a received study to the DICOM objects that go back: the work of the child process for one study."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cohort.engine import Library
from ..cohort.studies import Study, measure_study
from ..dicom.uids import state_of
from ..errors import VFQError
from ..report.outputs import REVIEW_NAMES, discard_unfinished, writing
from ..spine.record_json import read_analysis
from .folders import Folders

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..spine.record import SpineAnalysis


@dataclass(frozen=True)
class Task:
    """What is to be done with a study.

    Attributes
    ----------
    name : the name of its folders in `root`.
    kept : the files in its outbox that the archive may hold; others there were never offered and are deleted.
    device, weights, language, template : as for `vfq analyze` and `vfq report`.
    """

    root: Path
    name: str
    kept: tuple[str, ...] = ()
    device: str = "auto"
    weights: Path | None = None
    language: str = "en"
    template: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """The outcome: "ok" or the code of the failure, the names of the objects in the outbox, a hash of the record."""

    code: str
    files: tuple[str, ...] = ()
    record: str = ""


def prepare(task: Task, engine: Library | None = None) -> Prepared:
    """Analyse a study and write its DICOM objects; an analysis of the same series and networks is kept.

    engine : what analyses; tests replace it. VFQError as `dicom.export.export_case`.
    """
    folders = Folders(task.root)
    discard_unfinished(folders.cases, task.name)
    record = _analysed(task, folders, engine or Library(task.weights))
    if record.status != "ok":
        return Prepared(record.status)
    return Prepared("ok", tuple(path.name for path in write_objects(task, folders)), state_of(record))


def _analysed(task: Task, folders: Folders, engine: Library) -> SpineAnalysis:
    """Return the record of a study; one of other slices or another series is replaced, if nobody has reviewed it."""
    study = Study(folders.studies / task.name, task.name, folders.cases)

    def models() -> Any:
        """Return the networks."""
        return _networks(engine, task.device)

    outcome = measure_study(study, engine, models)
    case = folders.cases / task.name
    if outcome.record.status == "output_exists" and not any((case / name).exists() for name in REVIEW_NAMES):
        with writing(case):
            shutil.rmtree(case)  # what the archive has of it stays in the outbox
        outcome = measure_study(study, engine, models)
    return outcome.record


@cache
def _networks(engine: Library, device: str) -> Any:
    """Return the networks, loaded once."""
    return engine.load_models(device)


def write_objects(task: Task, folders: Folders) -> list[Path]:
    """Write the DICOM objects of an analysed study into its outbox, and return their paths.

    Objects that were never offered to the archive are deleted first: they would be named as predecessors.
    """
    from ..dicom.case_report import case_report
    from ..dicom.export import export_case

    outbox, source = folders.outbox / task.name, folders.studies / task.name
    for path in outbox.glob("*"):
        if path.name not in task.kept:
            with suppress(OSError):
                path.unlink()

    def read(analysis: SpineAnalysis) -> CTVolume:
        """Read the CT of a record."""
        return Library().read_ct(source, analysis.series, analysis.trust_header)

    case = folders.cases / task.name
    report = case_report(case, task.language, task.template, read)
    return export_case(case, source, outbox, pdf=report, of_study=True)


def new_review(case: Path, record: str) -> bool:
    """True if every vertebra of a case is reviewed, and its record is not the one with this hash."""
    try:
        analysis = read_analysis(case / "analysis.json")
    except VFQError:
        return False
    done = bool(analysis.vertebrae) and all(v.review != "open" for v in analysis.vertebrae)
    return done and state_of(analysis) != record


def check(task: Task) -> None:
    """Check what would fail for every study: the packages and the words of the report.

    VFQError `missing_dependency`, `bad_template`.
    """
    from importlib.util import find_spec

    from ..report.wording import Wording

    lacking = [name for name in ("pynetdicom", "highdicom", "reportlab") if find_spec(name) is None]
    if lacking:
        raise VFQError(
            "missing_dependency",
            f"The listener needs the package {lacking[0]}. Install it with: pip install "
            "'vertebral-fracture-quant[archive]'",
        )
    Wording(task.language, task.template)
