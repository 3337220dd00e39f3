"""What may be the prior of the open study: a volume of the scene, a case of the cohort, a case's folder, or a file.

A scan that was not analysed is analysed first, in another process, into the results folder. The prior that is offered
is the newest earlier scan of the patient, by the DICOM headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..cohort.jobs import JobState
from ..cohort.patients import Patients, doubts
from ..cohort.worklist import Case
from ..errors import VFQError
from ..imaging.files import read_ct
from ..report.readings import case_folder_of
from ..scene.opening import RESCUABLE, check_reviewable, machine_analysis
from ..scene.volumes import discard_copy, is_bent, reviewable, taken, voxels_of
from .analysing import Analyst, Opened, analysed_case, earlier_case, is_of
from .cohort_panel import CohortPanel
from .dicom_database import loaded_series
from .input_panel import InputPanel, is_choosable, removed_text
from .pair import Pairing

OPENING = _("opening the prior study")
ITSELF = _("A study cannot be its own prior. Choose another study of this patient.")
NOTHING = _("No prior is chosen. Choose a volume of the scene, or the folder of an analysed case, or a scan.")
NO_SCAN = _(
    "The scan of the case {} is not known. Load its CT into Slicer, or list its cohort in the section Cohort, and "
    "choose the prior again."
)


class PriorChoice:
    """Opens what the user chooses as the prior of the open study.

    Parameters
    ----------
    pairing : shows the prior.
    panel, cohort : the sections Input and Cohort, with the results folder, the device and the cases.
    """

    def __init__(self, pairing: Pairing, panel: InputPanel, cohort: CohortPanel):
        self.pairing = pairing
        self._input = panel
        self._cohort = cohort
        self._analyst: Analyst = panel.analyst
        self._awaited: tuple[Case, Any] | None = None  # the prior that is being analysed, and its editor
        self._again: Callable[[], None] = lambda: None
        self._turn = 0
        self._patients = Patients()

    # -- what is chosen

    def volume(self, node: Any) -> None:
        """Open the study of a volume node as the prior; a volume that was not analysed is analysed first.

        VFQError `no_prior`, `empty_scene`, as `reviewable`, or as `Analyst.analyze_volume`.
        """
        self.pairing.check_open()
        if node is None:
            raise VFQError("no_prior", NOTHING)
        if node is self.pairing.face.review.study.nodes["ct"]:
            raise VFQError("no_prior", ITSELF)
        results = self._input.results
        case = None if voxels_of(node) is None else earlier_case(node, results)
        if case is None and not self._input.is_ready():
            return
        node, note = reviewable(node)
        if note:
            self.pairing.prior.tell(note)
        if case:
            self._load(case, self._analyst.volume(node, case), node)
        else:
            self._check_free()
            self._analyst.analyze_volume(node, results, self._input.device, self._input.trusts_header)
            self._wait()

    def path(self, chosen: str) -> None:
        """Open the case in a folder as the prior, or a scan, which is analysed first if it was not.

        VFQError `no_prior`, `not_found`, `empty_scene`, or those of the scan.
        """
        self.pairing.check_open()
        path = Path(chosen.strip())
        if not chosen.strip():
            raise VFQError("no_prior", NOTHING)
        if not path.exists():
            raise VFQError("not_found", _("{} does not exist. Choose another one as the prior.").format(path))
        if (path / "analysis.json").exists():
            self._folder(case_folder_of(path))
        else:
            self._scan(path, self._input.results)

    def case(self, index: int) -> None:
        """Open a case of the cohort as the prior. VFQError `not_found`, `no_prior`, or that of its failure."""
        self.pairing.check_open()
        case = self._cohort.analysed(index)
        self._load(case, self._analyst.file(case))

    def follow_reader(self) -> None:
        """Open the prior again if another reader goes on. VFQError `output_not_writable`."""
        if self.pairing.pair and self.pairing.prior.review.who != self.pairing.face.review.who:
            self._again()

    # -- how

    def _folder(self, folder: Path) -> None:
        """Open a case by its folder, which does not contain the scan: that is in the scene, or in the cohort."""
        known = next((case for case in self._cohort.cases if case.folder.resolve() == folder.resolve()), None)
        case = known or Case(folder.name, Path(), folder)
        check_reviewable(machine_analysis(folder))  # said before its scan is asked for
        node = next((n for n in self._volumes() if _is_of(folder, n)), None)
        if node:
            node, _note = reviewable(node)
            self._load(case, self._analyst.volume(node, case), node)
        elif known:
            self._load(case, self._analyst.file(case))
        else:
            raise VFQError("no_prior", NO_SCAN.format(folder.name))

    def _volumes(self) -> list[Any]:
        own = self.pairing.face.review.study.nodes["ct"]
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        return [n for n in volumes if n is not own and n.GetImageData() and is_choosable(n)]

    def _scan(self, source: Path, results: Path) -> None:
        """Read a scan, to find the case into which it was analysed; without one, analyse it."""
        trust = self._input.trusts_header
        turn, editor = self._next_turn()

        def known() -> tuple[tuple[int, ...], np.ndarray]:
            """Read the scan in another thread."""
            with _named(source.name):
                ct = read_ct(source, trust_header=trust)
            return ct.voxels.shape, ct.ijk_to_ras

        def go_on(place: tuple[tuple[int, ...], np.ndarray]) -> None:
            """Open the case, or begin the analysis."""
            if (turn, editor) != (self._turn, self.pairing.face.review.editor):
                return
            case = analysed_case(source.name, *place, results)
            if case:
                case = Case(case.name, source, case.folder)
                self._load(case, self._analyst.file(case))
            elif self._input.is_ready():
                self._check_free()
                self._analyst.analyze_file(source, results, self._input.device, trust)
                self._wait()

        self._again = lambda: self._scan(source, results)
        self.pairing.face.work(OPENING, known, go_on)

    def _check_free(self) -> None:
        if self._analyst.busy:
            raise VFQError(
                "no_prior", _("The prior has to be analysed, but another analysis runs. Choose it again afterwards.")
            )

    def _wait(self) -> None:
        case = self._analyst.case
        self._awaited = (case, self.pairing.face.review.editor) if case else None
        self._input.show_buttons()

    def takes(self, case: Case, state: JobState, node: Any) -> bool:
        """Open the prior whose analysis has ended; False if the analysis was not that of a prior."""
        awaited, self._awaited = self._awaited, None
        if awaited is None or awaited[0] is not case:
            return False
        self._input.report(case, state)
        usable = state.status == "done" or state.code in RESCUABLE
        if node is not None and not usable:
            discard_copy(node)
        elif node is not None and node.GetScene() is None:
            self.pairing.prior.tell(removed_text(case))
        elif usable and self.pairing.face.review.editor is awaited[1]:
            self._load(case, self._analyst.volume(node, case) if node else self._analyst.file(case), node)
        return True

    def _load(self, case: Case, ready: Callable[[], Opened], node: Any = None) -> None:
        """Prepare a prior in another thread, and show it unless something else was opened meanwhile."""
        face = self.pairing.face
        if face.case_folder and case.folder.resolve() == face.case_folder.resolve():
            raise VFQError("no_prior", ITSELF)
        turn, editor = self._next_turn()
        then, now = self._scanned(case, node), self._current()

        def loaded() -> tuple[Opened, str]:
            """Prepare the study, and look into the headers of both scans."""
            with _named(case.name):
                return ready(), doubts(then, now) if then and now else ""

        def show(found: tuple[Opened, str]) -> None:
            """Show the prior."""
            if (turn, editor) != (self._turn, face.review.editor):
                return
            if node is not None and node.GetScene() is None:
                self.pairing.prior.tell(removed_text(case))
            else:
                self.pairing.open(found[0], node, found[1])

        self._again = lambda: self._load(case, ready, node)
        face.work(OPENING, loaded, show)

    def _next_turn(self) -> tuple[int, Any]:
        self._turn += 1
        return self._turn, self.pairing.face.review.editor

    # -- what is offered

    def offer(self, then: Callable[[Case | None, Any], None]) -> None:
        """Find the newest earlier scan of the patient, in another thread; `then` gets it and its volume node, or None.

        Without DICOM headers there is none.
        """
        current, editor = self._current(), self.pairing.face.review.editor
        others: list[tuple[Case, Any]] = [
            (case, None) for case in self._cohort.cases if (case.folder / "analysis.json").exists()
        ]
        others += [(scan, node) for node in self._volumes() if (scan := self._scanned(None, node))] if editor else []
        others = [(case, node) for case, node in others if current and case.source != current.source]
        if current is None or not others:
            then(None, None)
            return

        def show(found: Case | None) -> None:
            """Offer it, unless another study was opened meanwhile."""
            if editor is self.pairing.face.review.editor:
                node = next((node for case, node in others if case is found), None)
                then(found, node)

        self.pairing.face.work("", lambda: self._patients.newest_prior(current, [c for c, _node in others]), show)

    def index_of(self, case: Case) -> int:
        """Return the row of a case of the cohort."""
        return self._cohort.cases.index(case)

    def _current(self) -> Case | None:
        """Return the scan of the open study, if its file is known."""
        face = self.pairing.face
        nodes, folder = face.review.study.nodes, face.case_folder
        known = next((case for case in self._cohort.cases if case.folder == folder), None)
        return known or (self._scanned(None, nodes["ct"]) if nodes else None)

    def _scanned(self, case: Case | None, node: Any) -> Case | None:
        """Return the scan of a volume node from Slicer's DICOM database, else the given case if its scan is known."""
        database = getattr(slicer, "dicomDatabase", None)
        if node is None:
            return case if case and case.source != Path() else None
        try:
            source, _series = loaded_series(node, database) if database else (None, "")
        except VFQError:
            source = None
        return Case(node.GetName(), source, source.parent) if source else None


def _is_of(folder: Path, node: Any) -> bool:
    if is_bent(node):
        return False
    voxels, ijk_to_ras, _name = taken(node)
    return is_of(folder, voxels.shape, ijk_to_ras)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Let the message of a VFQError begin with a name."""
    try:
        yield
    except VFQError as error:
        raise VFQError(error.code, f"{name}: {error.message}") from error
