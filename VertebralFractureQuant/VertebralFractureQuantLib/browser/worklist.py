"""The worklist as the page shows it: each case's name, state and progress, read from its folder.

File names can be patients' names, so the page shows "Case 1", "Case 2", ... unless the user asked for names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..cohort.worklist import Case, case_status
from ..errors import meaning


class Worklist:
    """The cases of the page, and `current`, the one that is open or being opened (None at first).

    Parameters
    ----------
    state : the page's state, whose `worklist` and `unsaved` are set here.
    cases : the cases, in order.
    show_names : show file names.
    """

    def __init__(self, state: Any, cases: Sequence[Case], show_names: bool):
        self.state = state
        self.cases = list(cases)
        self.show_names = show_names
        self.current: Case | None = None

    def name(self, index: int) -> str:
        """Return the name that the page shows for a case."""
        return self.cases[index].name if self.show_names else f"Case {index + 1}"

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries of all cases, read from disk."""
        return [self._entry(index) for index in range(len(self.cases))]

    def next_open(self) -> int | None:
        """Return the index of the next case, after the current one and then from the first, that is not read yet."""
        count = len(self.cases)
        first = self.cases.index(self.current) + 1 if self.current else 0
        order = [i % count for i in range(first, first + count)]
        left = [i for i in order if case_status(self.cases[i]).state not in ("reviewed", "failed")]
        return next((i for i in left if self.cases[i] != self.current), None)

    def with_current(self, index: int) -> list[dict[str, Any]]:
        """Return the entries that are shown, with another case as the current one."""
        return [{**entry, "current": entry["index"] == index} for entry in self.state.worklist]

    def refresh(self, case: Case) -> None:
        """Read the entry of one case from disk and show it."""
        index, shown = self.cases.index(case), list(self.state.worklist)
        shown[index] = self._entry(index)
        self.state.worklist = shown

    def show_saved(self, case: Case, problem: str) -> None:
        """Show a case after its files were written, or why they were not (`problem`)."""
        with self.state:
            self.state.unsaved = self.without_names(problem)
            self.refresh(case)

    def without_names(self, text: str) -> str:
        """Remove file names and series UIDs from a text, unless names may be shown."""
        if not self.show_names:
            text = re.sub(r", UID [\d.]+", "", text)
        for i, case in enumerate(self.cases):
            text = text.replace(case.name, self.name(i))
        return text

    def _entry(self, index: int) -> dict[str, Any]:
        case = self.cases[index]
        status = case_status(case)
        return {
            "index": index,
            "name": self.name(index),
            "state": status.state,
            "problem": meaning(status.code),
            "grade": status.worst_grade,
            "doubts": status.doubts.replace(" ", ", "),
            "open": status.open,
            "total": status.total,
            "current": case == self.current,
        }
