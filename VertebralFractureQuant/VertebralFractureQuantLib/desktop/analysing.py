"""Studies of volumes that are in Slicer: analysed by a child process into a case's folder, or found there again.

What MRML holds is taken in Slicer's own thread; it is checked, written for the child and read back in another one.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import qt

from ..analysis import Models, load_models
from ..cohort.jobs import AnalysisJob, JobState, Process, analysis_command
from ..cohort.worklist import Case, case_status
from ..errors import VFQError, as_coded
from ..imaging.ct import CTVolume, from_array
from ..imaging.files import write_ct
from ..report.outputs import case_name, check_writable
from ..scene.machine import Machine
from ..scene.opening import RESCUABLE, Prepared, machine_analysis, middle_line, prepare
from ..scene.review import JOURNAL_NAME
from ..scene.volumes import is_bent, reviewable_name, taken
from ..spine.record import SpineAnalysis, check_belongs
from .face import DesktopFace

POLL_MS = 100
SCRATCH, UNCOMPRESSED = "vfq-", "ct.mha"
NO_NETWORKS = "This study was begun without the networks: place the six points by hand (b)."

Start = Callable[[Sequence[str]], Process]


def interpreter() -> str:
    """The Python that runs the child: Slicer's launcher of it, which sets its paths."""
    return shutil.which("PythonSlicer") or sys.executable


def earlier_case(node: Any, results: Path) -> Case | None:
    """The newest case in `results` that is of the CT in a volume node, if there is one and the volume is not bent."""
    if is_bent(node):
        return None
    voxels, ijk_to_ras, _ = taken(node)
    for case in reversed(_cases(reviewable_name(node), results)):
        try:
            analysis = machine_analysis(case.folder)
            check_belongs(analysis, voxels.shape, ijk_to_ras)
        except VFQError:
            continue
        if analysis.status == "ok" or analysis.status in RESCUABLE:
            return case
    return None


def fresh_case(name: str, results: Path) -> Case:
    """A case whose folder is not there, or holds nothing but an analysis that failed."""
    known = _cases(name, results)
    if known and case_status(known[-1]).state == "failed" and not (known[-1].folder / JOURNAL_NAME).exists():
        return known[-1]
    return _case(name, results, len(known) + 1)


def _cases(name: str, results: Path) -> list[Case]:
    """The cases of this name: "scan", "scan-2", ..."""
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
    """What is needed to show a study."""

    case: Case
    prepared: Prepared
    models: Models | VFQError


class Analyst:
    """One analysis at a time, and what opens studies. `progress` is told of a child that runs, `finished` when it has
    ended, well or not, with the volume node that it was of, None for a file.

    start : how a child process is started; a test hands in another.
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
        self._models: Models | VFQError | None = None
        self._scratch: Path | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._ask)

    @property
    def busy(self) -> bool:
        """Whether a child runs, or is about to."""
        return self._case is not None

    @property
    def case(self) -> Case | None:
        """What is being analysed."""
        return self._case

    def analyze_volume(self, node: Any, results: Path, device: str) -> None:
        """Analyse a volume node's CT into a fresh case. VFQError `output_not_writable`; of the CT's, told later."""
        check_writable(results)
        what = taken(node)
        case = fresh_case(what[2], results)
        self._case, self._node = case, node
        self._scratch = Path(mkdtemp(prefix=SCRATCH))
        file = self._scratch / UNCOMPRESSED
        self.face.work(
            "handing the volume over",
            lambda: _written(what, file),
            lambda failure: self._begin(case, file, device, overwrite=True, failure=failure),
        )

    def analyze_case(self, case: Case, device: str) -> None:
        """Analyse a case of a worklist from its file. VFQError `output_not_writable`."""
        check_writable(case.folder.parent)
        self._case, self._node = case, None
        self._begin(case, case.source, device, overwrite=case_status(case).state == "failed")

    def cancel(self) -> None:
        """Kill the child; nothing where none runs."""
        if self._job:
            self._job.cancel()
            self._ask()
        elif self._case:
            self._end(JobState("cancelled", message="The analysis was cancelled."))

    def models(self) -> Models | VFQError:
        """The networks for clicks, loaded when they are first needed; or why there are none. For any thread."""
        if self._models is None or isinstance(self._models, VFQError):
            try:
                self._models = load_models("cpu")
            except VFQError as error:
                self._models = error
        return self._models

    def open_volume(self, node: Any, case: Case, then: Callable[[Opened], None]) -> None:
        """Make ready the study of a volume node that was analysed into `case`."""
        what = taken(node)

        def ready() -> Opened:
            return Opened(
                case, prepare(from_array(*what), machine_analysis(case.folder), case.name, case.folder), self.models()
            )

        self.opening("opening the study", ready, then)

    def begin_by_hand(self, node: Any, results: Path, then: Callable[[Opened], None]) -> None:
        """Make ready a study without any vertebra, for a person who annotates without the networks."""
        check_writable(results)
        what = taken(node)
        case = fresh_case(what[2], results)

        def ready() -> Opened:
            return Opened(case, _unseen(from_array(*what), case.name), VFQError("missing_dependency", NO_NETWORKS))

        self.opening("opening the study", ready, then)

    def opening(self, stage: str, ready: Callable[[], Opened], then: Callable[[Opened], None]) -> None:
        """Make a study ready in another thread, and hand it on; of two in a hurry, the later one."""
        self._turn += 1
        turn = self._turn

        def show(opened: Opened) -> None:
            if turn == self._turn:
                then(opened)

        self.face.work(stage, ready, show)

    def resume(self, results: Path, folder: Path | None = None) -> None:
        """Go on with the study that the scene holds: it was loaded from a file, or the module anew, and `folder` is
        where it lay. What fails is told, and the nodes stay as they are."""
        review, study = self.face.review, self.face.review.study
        try:
            study.reopen()
            node = study.nodes["ct"]
            home, original = _home(study.analysis(), results, folder)
        except Exception as error:
            self.face.tell(error)
            return
        finally:
            study.release()  # until all is ready, for the scene may be closed meanwhile
        what = taken(node)

        def go_on(machine: Machine) -> None:
            if review.editor is None and node.GetScene() is not None:
                study.reopen()
                review.resume(machine, home, original)

        self.face.work("opening the study", lambda: Machine.of(from_array(*what), self.models()), go_on)

    def _begin(self, case: Case, source: Path, device: str, overwrite: bool, failure: JobState | None = None) -> None:
        if case is not self._case:  # it was cancelled while the volume was handed over
            if source.name == UNCOMPRESSED:
                shutil.rmtree(source.parent, ignore_errors=True)
            return
        if failure:
            self._end(failure)
            return
        command = analysis_command(source, case.folder.parent, case.name, device, interpreter(), overwrite=overwrite)
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
    """The folder of a study that came with a scene, and the machine's own analysis, where it is known here."""
    folder = known or results / analysis.case
    try:
        original = machine_analysis(folder)
        if original.shape and analysis.shape and analysis.ijk_to_ras is not None:
            check_belongs(original, analysis.shape, analysis.ijk_to_ras)
        return folder, original
    except VFQError as error:
        if known and error.code == "not_found":
            return known, None  # begun by hand, and no act in it yet
        check_writable(results)
        return fresh_case(analysis.case, results).folder, None


def _written(what: tuple[Any, ...], file: Path) -> JobState | None:
    """Check a CT and write it for the child; the end of the analysis where that fails."""
    try:
        write_ct(from_array(*what), file)
    except Exception as error:
        coded = as_coded(error)
        return JobState("failed", code=coded.code, message=coded.message)
    return None


def _unseen(ct: CTVolume, case: str) -> Prepared:
    return prepare(ct, SpineAnalysis(case, curve=middle_line(ct).points, limits_mm=(0.0, middle_line(ct).length)), case)
