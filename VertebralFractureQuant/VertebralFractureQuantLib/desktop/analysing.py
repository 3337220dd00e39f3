"""Analysing and loading studies of volumes that are open in Slicer.

A child process analyses a volume into a case's folder; earlier results are found there again. MRML is read in Slicer's
main thread; another thread checks the CT, writes it for the child process and reads the results.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

import numpy as np
import qt

from ..analysis import Models, load_models
from ..cohort.jobs import AnalysisJob, JobState, Process, analysis_command
from ..cohort.worklist import Case, case_status
from ..errors import VFQError, as_coded
from ..imaging.ct import CTVolume, from_array
from ..imaging.files import write_ct
from ..networks.installed import are_same, in_use, networks_of
from ..report.names import case_name
from ..report.outputs import check_writable
from ..scene.case_files import JOURNAL_NAME
from ..scene.machine import Machine
from ..scene.opening import RESCUABLE, Prepared, machine_analysis, middle_line, prepare, read_study
from ..scene.readings import folder_to_open
from ..scene.volumes import is_bent, reviewable_name, taken
from ..spine.record import SpineAnalysis, check_belongs
from .face import READING, DesktopFace

POLL_MS = 100
SCRATCH, UNCOMPRESSED = "vfq-", "ct.mha"
NO_NETWORKS = "The networks are off, because this study was begun by hand. Place the six points by hand (b)."
OF_ANOTHER = (
    "The study of this scene is the reading of another reader. Press Open review of its CT, to choose whether to "
    "continue that reading or to begin your own."
)

Start = Callable[[Sequence[str]], Process]
Job = TypeVar("Job", bound=AnalysisJob)


def interpreter() -> str:
    """Return the Python for the child process: Slicer's launcher, which sets the paths, if there is one."""
    return shutil.which("PythonSlicer") or sys.executable


def earlier_case(node: Any, results: Path) -> Case | None:
    """Return the newest case in `results` of the CT in a volume node.

    None if there is none, or if the volume is under a non-linear transform.
    """
    if is_bent(node):
        return None
    voxels, ijk_to_ras, _ = taken(node)
    return analysed_case(reviewable_name(node), voxels.shape, ijk_to_ras, results)


def analysed_case(name: str, shape: tuple[int, ...], ijk_to_ras: np.ndarray, results: Path) -> Case | None:
    """Return the newest case in `results` of a CT with this name, shape `[k, j, i]` and matrix; None without one."""
    for case in reversed(_cases(name, results)):
        if is_of(case.folder, shape, ijk_to_ras):
            return case
    return None


def is_of(folder: Path, shape: tuple[int, ...], ijk_to_ras: np.ndarray) -> bool:
    """True if the case in a folder can be reviewed, and is of a CT with this shape `[k, j, i]` and matrix `(4, 4)`."""
    try:
        analysis = machine_analysis(folder)
        check_belongs(analysis, shape, ijk_to_ras)
    except VFQError:
        return False
    return analysis.status == "ok" or analysis.status in RESCUABLE


def fresh_case(name: str, results: Path) -> Case:
    """Return a new case, or the newest one if it holds only a failed analysis."""
    known = _cases(name, results)
    if known and case_status(known[-1]).state == "failed" and not (known[-1].folder / JOURNAL_NAME).exists():
        return known[-1]
    return _case(name, results, len(known) + 1)


def _cases(name: str, results: Path) -> list[Case]:
    """The existing cases of this name: "scan", "scan-2", ..."""
    found: list[Case] = []
    while (case := _case(name, results, len(found) + 1)).folder.exists():
        found.append(case)
    return found


def _case(name: str, results: Path, number: int) -> Case:
    safe = case_name(Path(name.replace("/", "_")))
    safe = safe if number == 1 else f"{safe}-{number}"
    return Case(safe, Path(), results / safe)


@dataclass(eq=False)
class Opened:
    """A loaded study, ready to be shown; `models` may be the reason why there are no networks."""

    case: Case
    prepared: Prepared
    models: Models | VFQError


class Analyst:
    """Runs one analysis at a time, and loads studies in another thread.

    Parameters
    ----------
    face : runs work in other threads and reports errors.
    start : starts a child process; tests replace it.

    Attributes
    ----------
    progress : called with the state of a running child process.
    finished : called at the end of an analysis with its case, its state and its volume node (None for a file).
    """

    def __init__(self, face: DesktopFace, start: Start | None = None):
        self.face = face
        self.progress: Callable[[JobState], None] = lambda _: None
        self.finished: Callable[[Case, JobState, Any], None] = lambda case, state, node: None
        self._start = start
        self._job: AnalysisJob | None = None
        self._case: Case | None = None
        self._node: Any = None
        self._turn = 0
        self._models: Models | None = None
        self._scratch: Path | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._ask)

    @property
    def busy(self) -> bool:
        """True while a child process runs or is about to start."""
        return self._case is not None

    @property
    def case(self) -> Case | None:
        """The case that is being analysed, or None."""
        return self._case

    def analyze_volume(self, node: Any, results: Path, device: str, trust_header: bool = False) -> None:
        """Analyse the CT of a volume node into a new case.

        With `trust_header` the body is not held against the volume's orientation and spacing.

        VFQError `output_not_writable`. Errors of the CT itself are passed to `finished`.
        """
        check_writable(results)
        what = taken(node)
        case = fresh_case(what[2], results)
        self._case, self._node = case, node
        self._scratch = Path(mkdtemp(prefix=SCRATCH))
        file = self._scratch / UNCOMPRESSED
        self.face.work(
            "preparing the volume",
            lambda: _written(what, file),
            lambda failure: self._begin(case, file, device, True, failure, trust_header),
        )

    def analyze_file(self, source: Path, results: Path, device: str, trust_header: bool = False) -> None:
        """Analyse a scan, a file or DICOM folder, into a new case. VFQError `output_not_writable`."""
        check_writable(results)
        self._case, self._node = replace(fresh_case(source.name, results), source=source), None
        self._begin(self._case, source, device, True, None, trust_header)

    def run(self, kind: type[Job], command: Sequence[str], case: Case) -> Job:
        """Run a child process of another kind, such as that of a cohort, for a `case`, and return its job."""
        self._case, self._node = case, None
        self._job = job = kind(command, self._start)
        self._timer.start(POLL_MS)
        return job

    def cancel(self) -> None:
        """Stop the running child process, if any."""
        if self._job:
            self._job.cancel()
            self._ask()
        elif self._case:
            self._end(JobState("cancelled", message="The analysis was cancelled."))

    def models(self) -> Models | VFQError:
        """Return the networks in use, for clicks, or the reason why there are none. For any thread.

        They are loaded when they are first needed, and again when other weights are in use.
        """
        try:
            held = self._models
            if held is None or not are_same(held.stamps, networks_of(in_use())):
                held = self._models = load_models("cpu")
            return held
        except VFQError as error:
            return error

    def open_volume(self, node: Any, case: Case, then: Callable[[Opened], None]) -> None:
        """Load the study of a volume node that was analysed into `case`, and pass it to `then`."""
        self.opening("opening the study", case, self.volume(node, case), then)

    def volume(self, node: Any, case: Case) -> Callable[[], Opened]:
        """Return a function, for another thread, that prepares the study of a volume that was analysed into `case`."""
        what = taken(node)
        return lambda: Opened(
            case, prepare(from_array(*what), machine_analysis(case.folder), case.name, case.folder), self.models()
        )

    def file(self, case: Case) -> Callable[[], Opened]:
        """Return a function, for another thread, that reads a case of files with its scan."""
        return lambda: Opened(case, read_study(case.source, case.folder, case.name, None, case.files), self.models())

    def begin_by_hand(self, node: Any, results: Path, then: Callable[[Opened], None]) -> None:
        """Load a study without vertebrae, for annotation by hand, and pass it to `then`.

        VFQError `output_not_writable`.
        """
        check_writable(results)
        what = taken(node)
        case = fresh_case(what[2], results)

        def ready() -> Opened:
            """Prepare the study in another thread."""
            return Opened(case, _unseen(from_array(*what), case.name), VFQError("missing_dependency", NO_NETWORKS))

        self.opening("opening the study", case, ready, then)

    def opening(self, stage: str, case: Case, ready: Callable[[], Opened], then: Callable[[Opened], None]) -> None:
        """Call `ready` in another thread and pass its study to `then`; of overlapping calls, only the last counts."""
        self._turn += 1
        turn = self._turn

        def named() -> Opened:
            """Call `ready`; a failure names the case."""
            try:
                return ready()
            except VFQError as error:
                raise VFQError(error.code, f"{case.name}: {error.message}") from error

        def show(opened: Opened) -> None:
            """Show the study, unless another one was asked for meanwhile."""
            if turn == self._turn:
                then(opened)

        self.face.work(stage, named, show)

    def resume(self, results: Path, folder: Path | None = None) -> None:
        """Resume the study in the scene, after a scene was loaded or the module was reloaded.

        `folder` is the case's folder if known. Errors are reported to the user, and the nodes are unchanged.
        """
        review, study = self.face.review, self.face.review.study
        try:
            study.reopen()
            node = study.nodes["ct"]
            home, original = _home(study.analysis(), results, folder)
            home = folder or _reading(home, study.nodes["straightened"].GetAttribute(READING) or "", review.who)
        except Exception as error:
            self.face.tell(error)
            return
        finally:
            study.release()  # the scene may be closed before the other thread is done
        what = taken(node)

        def go_on(machine: Machine) -> None:
            """Resume the review, unless another study was opened meanwhile."""
            if review.editor is None and node.GetScene() is not None:
                study.reopen()
                review.resume(machine, home, original)

        self.face.work("opening the study", lambda: Machine.of(from_array(*what), self.models()), go_on)

    def _begin(
        self,
        case: Case,
        source: Path,
        device: str,
        overwrite: bool,
        failure: JobState | None = None,
        trust_header: bool = False,
    ) -> None:
        if case is not self._case:  # cancelled while the volume was prepared
            if source.name == UNCOMPRESSED:
                shutil.rmtree(source.parent, ignore_errors=True)
            return
        if failure:
            self._end(failure)
            return
        command = analysis_command(
            source, case.folder.parent, case.name, device, interpreter(), None, overwrite, trust_header
        )
        self._job = AnalysisJob(command, self._start)
        self._timer.start(POLL_MS)

    def _ask(self) -> None:
        state = self._job.update() if self._job else JobState("cancelled")
        if state.status == "running":
            self.progress(state)
        else:
            self._end(state)

    def _end(self, state: JobState) -> None:
        case, node = self._case, self._node
        self._case = self._job = self._node = None
        self._timer.stop()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
        if case:
            self.finished(case, state, node)


def _home(analysis: SpineAnalysis, results: Path, known: Path | None) -> tuple[Path, SpineAnalysis | None]:
    """The folder for a study of a loaded scene, and the automatic analysis if that folder has it."""
    folder = known or results / analysis.case
    try:
        original = machine_analysis(folder)
        if original.shape and analysis.shape and analysis.ijk_to_ras is not None:
            check_belongs(original, analysis.shape, analysis.ijk_to_ras)
        return folder, original
    except VFQError as error:
        if known and error.code == "not_found":
            return known, None  # begun by hand, without any action yet
        check_writable(results)
        return fresh_case(analysis.case, results).folder, None


def _reading(home: Path, inside: str, who: str) -> Path:
    """The folder of the reading that a scene was saved of: in the case's folder `home`, at the path `inside`."""
    if inside not in ("", ".") and (home / inside / "analysis.json").exists():
        return home / inside
    if folder_to_open(home, who) is None:
        raise VFQError("study_in_use", OF_ANOTHER)
    return home


def _written(what: tuple[Any, ...], file: Path) -> JobState | None:
    """Check a CT and write it for the child process. Returns the failed state if that is impossible."""
    try:
        write_ct(from_array(*what), file)
    except Exception as error:
        coded = as_coded(error)
        return JobState("failed", code=coded.code, message=coded.message)
    return None


def _unseen(ct: CTVolume, case: str) -> Prepared:
    return prepare(ct, SpineAnalysis(case, curve=middle_line(ct).points, limits_mm=(0.0, middle_line(ct).length)), case)
