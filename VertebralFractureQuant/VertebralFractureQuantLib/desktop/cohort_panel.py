"""The panel's Cohort section: a folder of scans as a worklist, analysed one after the other, opened one at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt

from ..cohort.jobs import JobState
from ..cohort.worklist import Case, case_status, find_cases, passed_over_sentences
from ..errors import VFQError, meaning
from ..scene.opening import read_study
from .analysing import Analyst, Opened

HEADERS = ("Case", "State", "Worst grade", "Open", "Doubts")  # Open: vertebrae that are still to be reviewed


class CohortPanel:
    """Shows the worklist in the widgets `ui`.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    analyst : runs the analyses and loads studies.
    opened : called with a loaded study.

    Attributes
    ----------
    cases : the worklist.
    """

    def __init__(self, ui: Any, analyst: Analyst, opened: Callable[[Opened], None]):
        self.ui = ui
        self.analyst = analyst
        self.cases: list[Case] = []
        self._opened = opened
        self._waiting: list[Case] = []
        self._device = "auto"
        self._at: int | None = None
        table = ui.cohortTable
        table.setColumnCount(len(HEADERS))
        table.setHorizontalHeaderLabels(list(HEADERS))
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.verticalHeader().setVisible(False)
        table.connect("itemSelectionChanged()", self._show_buttons)
        self._show_buttons()

    def list(self, scans: Path, results: Path) -> None:
        """List the scans of a folder with their states. VFQError `not_found`."""
        if not scans.is_dir():
            raise VFQError("not_found", f"{scans.name!r} is not a folder. Choose a folder of scans.")
        self.cases, self._at = find_cases([scans], results), None
        self.show()
        if skipped := passed_over_sentences([scans]):
            self.analyst.face.tell("\n".join(skipped))

    def show(self) -> None:
        """Show each case as it is on disk."""
        self.ui.cohortTable.setRowCount(len(self.cases))
        for case in self.cases:
            self.show_case(case)
        self._show_buttons()

    def show_case(self, case: Case) -> None:
        """Show one case as it is on disk."""
        if case in self.cases:
            for column, text in enumerate(self._texts(case)):
                self.ui.cohortTable.setItem(self.cases.index(case), column, qt.QTableWidgetItem(text))

    def show_folders(self, *folders: Path | None) -> None:
        """Show the cases with these folders as they are on disk."""
        for case in [case for case in self.cases if case.folder in folders]:
            self.show_case(case)

    def analyze_all(self, device: str) -> None:
        """Analyse all cases that wait or have failed, in the background."""
        self._device = device
        left = [case for case in self.cases if case_status(case).state in ("waiting", "failed")]
        self._waiting = [case for case in left if case != self.analyst.case]
        self.next_analysis()

    def stop(self) -> None:
        """Start no further analysis."""
        self._waiting = []

    def next_analysis(self) -> None:
        """Analyse the next waiting case, unless an analysis runs."""
        if self._waiting and not self.analyst.busy:
            try:
                self.analyst.analyze_case(self._waiting.pop(0), self._device)
            except VFQError as error:
                self._waiting = []
                self.analyst.face.tell(error)

    def finished(self, case: Case, state: JobState) -> None:
        """Called when an analysis has ended. Starts the next one, unless it was cancelled."""
        if state.status == "cancelled":
            self._waiting = []
        self.show_case(case)
        self.next_analysis()

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

    def open(self, index: int) -> None:
        """Load a case of the list. VFQError `not_found` if it was not analysed."""
        if not 0 <= index < len(self.cases):
            return
        case, self._at = self.cases[index], index
        if case_status(case).state == "waiting":
            raise VFQError("not_found", f"{case.name!r} has not been analysed. Press Analyse all first.")
        analyst = self.analyst

        def ready() -> Opened:
            """Read the study in another thread."""
            return Opened(case, read_study(case.source, case.folder, case.name), analyst.models())

        self.ui.cohortTable.selectRow(index)
        analyst.opening("reading the scan", case, ready, self._opened)

    def _show_buttons(self) -> None:
        self.ui.analyzeAllButton.enabled = bool(self.cases)
        self.ui.openCaseButton.enabled = self.ui.cohortTable.currentRow() >= 0

    @staticmethod
    def _texts(case: Case) -> tuple[str, ...]:
        status = case_status(case)
        state = meaning(status.code, status.state)
        left = f"{status.open} of {status.total}" if status.total else ""
        return case.name, state, status.worst_grade or "", left, status.doubts.replace(" ", ", ")
