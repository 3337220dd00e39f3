"""The panel's Cohort section: a folder of scans, measured in the background as by `vfq cohort run`, opened one by one.

The scans, their names, their statuses and their results are those of `vfq cohort run` with the same folders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ..cohort.background import CohortJob, cohort_command
from ..cohort.jobs import JobState
from ..cohort.runs import Options, list_cohort, refresh_cohort
from ..cohort.state import WAITING
from ..cohort.worklist import Case, case_status
from ..errors import VFQError, meaning
from ..methods.registry import METHODS, OURS
from .analysing import Analyst, Opened, interpreter
from .dependencies import agreed
from .labels import show_text

HEADERS = ("Case", "State", "Worst grade", "Open", "Doubts")  # Open: vertebrae that are still to be reviewed
READ = ("reviewed", "failed", "waiting")  # states in which "next open" passes a case
FOLDER, PAGE = "{}-cohort", "index.html"

Texts = tuple[str, ...]


class CohortPanel:
    """Shows the cohort in the widgets `ui`.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    analyst : runs the analyses and loads studies.
    opened : called with a loaded study.

    Attributes
    ----------
    cases : the scans of the cohort.
    """

    def __init__(self, ui: Any, analyst: Analyst, opened: Callable[[Opened], None]):
        self.ui = ui
        self.analyst = analyst
        self.cases: list[Case] = []
        self._opened = opened
        self._index: dict[str, int] = {}
        self._status: dict[str, str] = {}
        self._at: int | None = None
        self._turn = 0
        self._proposed = ""
        self._job: CohortJob | None = None
        self._shown = 0  # results of the job that the table shows
        ui.cohortMethodComboBox.addItems([OURS, *METHODS])
        table = ui.cohortTable
        table.setColumnCount(len(HEADERS))
        table.setHorizontalHeaderLabels(list(HEADERS))
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.verticalHeader().setVisible(False)
        table.connect("itemSelectionChanged()", self.show_buttons)
        self._show_counts()
        self.show_buttons()

    # -- the list

    @property
    def scans(self) -> Path:
        """The folder of the scans. VFQError `not_found`."""
        path = self.ui.scansPathLineEdit.currentPath.strip()
        if not path or not Path(path).is_dir():
            raise VFQError("not_found", f"{Path(path).name!r} is not a folder. Choose a folder of scans.")
        return Path(path)

    @property
    def folder(self) -> Path:
        """The folder of the cohort. VFQError `output_not_writable` if none is chosen."""
        path = self.ui.cohortPathLineEdit.currentPath.strip()
        if not path:
            raise VFQError("output_not_writable", _("No cohort folder is chosen. Choose one first."))
        return Path(path)

    def propose(self, results: Path) -> bool:
        """Choose a folder in `results` for the cohort, unless the user chose one; True if another one is chosen now.

        VFQError `not_found`.
        """
        wanted, now = str(results / FOLDER.format(self.scans.name)), self.ui.cohortPathLineEdit.currentPath
        if now not in ("", self._proposed) or now == wanted:
            return False
        self._proposed = self.ui.cohortPathLineEdit.currentPath = wanted
        return True

    def clear(self) -> None:
        """Show no cohort."""
        self._turn += 1
        self.cases, self._index, self._status, self._at = [], {}, {}, None
        self._show_all([])

    def show_list(self) -> None:
        """List the scans with their statuses, in another thread. VFQError `not_found`, `output_not_writable`."""
        self.clear()
        scans, folder, who = self.scans, self.folder, self.analyst.face.review.who
        turn = self._turn

        def listed() -> list[tuple[Case, str, Texts]]:
            """Plan the cohort, and read its results."""
            return [(case, status, texts(case, status, who)) for case, status in list_cohort(Options(scans, folder))]

        def show(rows: list[tuple[Case, str, Texts]]) -> None:
            """Show the list, unless another folder was chosen meanwhile."""
            if turn == self._turn:
                self.cases = [case for case, _status, _texts in rows]
                self._index = {case.name: i for i, case in enumerate(self.cases)}
                self._status = {case.name: status for case, status, _texts in rows}
                self._show_all([shown for _case, _status, shown in rows])

        self.analyst.face.work(_("listing the scans"), listed, show)

    def show_case(self, case: Case) -> None:
        """Show one case as it is on disk."""
        at = self._index.get(case.name)
        if at is not None:
            self._show_row(at, texts(case, self._status[case.name], self.analyst.face.review.who))

    def show_folders(self, *folders: Path | None) -> None:
        """Show the cases with these folders as they are on disk."""
        for case in [case for case in self.cases if case.folder in folders]:
            self.show_case(case)

    # -- the run

    def analyze_all(self, device: str, trust_header: bool) -> None:
        """Analyse all scans without a result of the chosen method in the background; what is done already is kept.

        VFQError `not_found`, `output_not_writable`.
        """
        scans, folder = self.scans, self.folder
        if self.analyst.busy or not agreed("cohort"):
            return
        command = cohort_command(
            scans, folder, device, interpreter(), trust_header, self.ui.cohortMethodComboBox.currentText
        )
        self._shown = 0
        self._job = self.analyst.run(CohortJob, command, Case(scans.name, scans, folder))
        self.show_buttons()

    def stop(self) -> None:
        """Stop the run; finished cases are kept."""
        if self._job:
            self.analyst.cancel()

    def show_results(self) -> None:
        """Show the cases that were finished since the last call."""
        fresh = self._job.results[self._shown :] if self._job else []
        self._shown += len(fresh)
        for name, status in fresh:
            if name in self._index:
                self._status[name] = status
                self.show_case(self.cases[self._index[name]])
        if fresh:
            self._show_counts()

    def finished(self, case: Case, state: JobState) -> None:
        """Called when an analysis has ended."""
        if self._job:
            self.show_results()
            self._job = None
            if state.status == "cancelled":
                self.analyst.face.tell(
                    _("{}: stopped. Finished cases are kept; Analyse all continues.").format(case.name)
                )
        self.show_buttons()

    def show_gallery(self) -> None:
        """Take reviews over into the tables, and show the gallery in the browser; during a run the last one.

        VFQError as `refresh_cohort`.
        """
        folder = self.folder
        if not agreed("cohort"):
            return

        def written() -> Path:
            """Write tables and gallery."""
            try:
                refresh_cohort(folder)
            except VFQError as error:
                if error.code != "cohort_in_use" or not (folder / PAGE).exists():
                    raise
            return folder / PAGE

        self.analyst.face.work(
            _("writing the gallery"),
            written,
            lambda page: qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(page))),
        )

    # -- opening

    def open_selected(self) -> None:
        """Open the selected case."""
        self.open(self.ui.cohortTable.currentRow())

    def open_next(self, by: int) -> None:
        """Open the next case (`by` 1) or the previous one (-1). VFQError `no_other_case`."""
        at = by - 1 if self._at is None and by > 0 else (self._at or 0) + by
        if not 0 <= at < len(self.cases):
            raise VFQError(
                "no_other_case",
                "There is no further case in this direction. Choose another one in the worklist."
                if self.cases
                else "No cohort is open. Choose a folder of scans in the section Cohort.",
            )
        self.open(at)

    def open_next_open(self) -> None:
        """Open the next case that is not read; after the last one, begin at the first. VFQError `no_other_case`."""
        count, first = len(self.cases), -1 if self._at is None else self._at
        who = self.analyst.face.review.who
        for at in ((first + i) % count for i in range(1, count + 1)):
            case = self.cases[at]
            if at != self._at and self._status[case.name] == "ok" and case_status(case, who).state not in READ:
                self.open(at)
                return
        raise VFQError("no_other_case", _("No other analysed case of the cohort is left to be read."))

    def open(self, index: int) -> None:
        """Load a case of the list. VFQError `not_found` if it was not analysed, or the code of its failure."""
        if not 0 <= index < len(self.cases):
            return
        self._at = index
        case = self.analysed(index)
        self.ui.cohortTable.selectRow(index)
        self.analyst.opening("reading the scan", case, self.analyst.file(case), self._opened)

    def analysed(self, index: int) -> Case:
        """Return a case of the list. VFQError `not_found` if it was not analysed, or the code of its failure."""
        case = self.cases[index]
        status, there = self._status[case.name], (case.folder / "analysis.json").exists()
        if status == WAITING and not there:
            raise VFQError("not_found", f"{case.name!r} has not been analysed. Press Analyse all first.")
        if not there:
            raise VFQError(status, f"{case.name}: {meaning(status, status)}")
        return case

    # -- what is shown

    def show_buttons(self) -> None:
        """Enable the buttons that can be used now."""
        self.ui.analyzeAllButton.enabled = bool(self.cases) and not self.analyst.busy
        self.ui.stopButton.enabled = self._job is not None
        self.ui.openCaseButton.enabled = self.ui.cohortTable.currentRow() >= 0
        self.ui.nextOpenButton.enabled = self.ui.galleryButton.enabled = bool(self.cases)

    def _show_all(self, rows: list[Texts]) -> None:
        self.ui.cohortTable.setRowCount(len(rows))
        for at, shown in enumerate(rows):
            self._show_row(at, shown)
        self._show_counts()
        self.show_buttons()

    def _show_row(self, at: int, shown: Texts) -> None:
        for column, text in enumerate(shown):
            self.ui.cohortTable.setItem(at, column, qt.QTableWidgetItem(text))

    def _show_counts(self) -> None:
        kinds = Counter(s if s in ("ok", WAITING) else "failed" for s in self._status.values())
        named = {"ok": _("analysed"), WAITING: _("waiting"), "failed": _("failed")}
        told = ", ".join(f"{kinds[kind]} {word}" for kind, word in named.items() if kinds[kind])
        show_text(self.ui.cohortLabel, _("{} scans: {}.").format(len(self.cases), told) if self.cases else "")


def texts(case: Case, status: str, who: str) -> Texts:
    """Return the cells of a case: name, state, worst grade, vertebrae that are open, doubts.

    status : as in the cohort's state: "ok", "waiting" or the code of a failure.
    """
    if status not in ("ok", WAITING):
        return case.name, meaning(status, status), "", "", ""
    found = case_status(case, who)
    state = meaning(found.code, found.state)
    left = f"{found.open} of {found.total}" if found.total else ""
    return case.name, state, found.worst_grade or "", left, found.doubts.replace(" ", ", ")
