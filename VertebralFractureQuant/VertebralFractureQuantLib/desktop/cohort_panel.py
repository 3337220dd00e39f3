"""The panel's Cohort section: a folder of scans as a worklist; analysed one after the other, opened one at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt

from ..cohort.jobs import JobState
from ..cohort.worklist import Case, case_status, find_cases
from ..errors import VFQError, meaning
from ..scene.opening import read_study
from .analysing import Analyst, Opened

HEADERS = ("Case", "State", "Worst grade", "Open")


class CohortPanel:
    """Holds the worklist. `opened` is told a study that is ready to be shown."""

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
        """The scans of a folder, and how far each one is. VFQError `not_found`."""
        if not scans.is_dir():
            raise VFQError("not_found", f"{scans.name!r} is no folder. Choose one that holds scans.")
        self.cases, self._at = find_cases([scans], results), None
        self.show()

    def show(self) -> None:
        """Every case as it lies on disk."""
        self.ui.cohortTable.setRowCount(len(self.cases))
        for case in self.cases:
            self.show_case(case)
        self._show_buttons()

    def show_case(self, case: Case) -> None:
        """One case as it lies on disk."""
        if case in self.cases:
            for column, text in enumerate(self._texts(case)):
                self.ui.cohortTable.setItem(self.cases.index(case), column, qt.QTableWidgetItem(text))

    def show_folders(self, *folders: Path | None) -> None:
        """The cases that lie in these folders."""
        for case in [case for case in self.cases if case.folder in folders]:
            self.show_case(case)

    def analyze_all(self, device: str) -> None:
        """Analyse what has no analysis yet, in the background."""
        self._device = device
        left = [case for case in self.cases if case_status(case).state in ("waiting", "failed")]
        self._waiting = [case for case in left if case != self.analyst.case]
        self.next_analysis()

    def stop(self) -> None:
        """Begin no further analysis."""
        self._waiting = []

    def next_analysis(self) -> None:
        """Begin with the next waiting case, where none is being analysed."""
        if self._waiting and not self.analyst.busy:
            try:
                self.analyst.analyze_case(self._waiting.pop(0), self._device)
            except VFQError as error:
                self._waiting = []
                self.analyst.face.tell(error)

    def finished(self, case: Case, state: JobState) -> None:
        """An analysis has ended; where it was cancelled, none follows."""
        if state.status == "cancelled":
            self._waiting = []
        self.show_case(case)
        self.next_analysis()

    def open_selected(self) -> None:
        """Open the case that is marked in the list."""
        self.open(self.ui.cohortTable.currentRow())

    def open_next(self, by: int) -> None:
        """The next case, or (-1) the one before. VFQError `no_other_case`."""
        at = by - 1 if self._at is None and by > 0 else (self._at or 0) + by
        if not 0 <= at < len(self.cases):
            raise VFQError(
                "no_other_case", "There is no other case in the list." if self.cases else "No cohort is open."
            )
        self.open(at)

    def open(self, index: int) -> None:
        """Read a case and hand it on. VFQError where it was not analysed."""
        if not 0 <= index < len(self.cases):
            return
        case, self._at = self.cases[index], index
        if case_status(case).state == "waiting":
            raise VFQError("not_found", f"{case.name!r} was not analysed yet. Press Analyse all first.")
        analyst = self.analyst

        def ready() -> Opened:
            return Opened(case, read_study(case.source, case.folder, case.name), analyst.models())

        self.ui.cohortTable.selectRow(index)
        analyst.opening("reading the scan", ready, self._opened)

    def _show_buttons(self) -> None:
        self.ui.analyzeAllButton.enabled = bool(self.cases)
        self.ui.openCaseButton.enabled = self.ui.cohortTable.currentRow() >= 0

    @staticmethod
    def _texts(case: Case) -> tuple[str, str, str, str]:
        status = case_status(case)
        state = meaning(status.code, status.state)
        left = f"{status.open} of {status.total}" if status.total else ""
        return case.name, state, status.worst_grade or "", left
