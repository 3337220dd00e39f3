"""The worklist as the page shows it: each case's name, state and signatures, read from its folder.

File names can be patients' names, so the page shows "Case 1", "Case 2", ... unless the user asked for names. A list of
thousands of cases is read beside the page, and sent to it only while it is open.
"""

from __future__ import annotations

import asyncio
import csv
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..cohort.patients import Patients
from ..cohort.worklist import Case, CaseStatus, case_status
from ..errors import meaning
from ..report.outputs import writing
from ..report.readings import READINGS, own_folder

KEY_NAME = "case-numbers.csv"
READ_AT_ONCE = 20  # cases; the page answers in between
SEND_EVERY_S = 1.0
READ = ("reviewed", "failed")  # states in which "next open" passes a case


class Worklist:
    """The cases of the page, and `current`, the one that is open or being opened (None at first).

    `standing` returns whose reading of it is open, as one sentence. `patients` groups studies of one patient; None if
    they are not grouped.

    Parameters
    ----------
    state : the page's state, whose `worklist`, `case_index` and `unsaved` are set here.
    cases : the cases, in order.
    show_names : show file names.
    reader : the reader's name, whose own readings count; set it when it changes.
    """

    def __init__(self, state: Any, cases: Sequence[Case], show_names: bool, reader: str = ""):
        self.state = state
        self.cases = list(cases)
        self.show_names = show_names
        self.reader = reader
        self.current: Case | None = None
        self.standing: Callable[[], str] = lambda: ""
        self.patients: Patients | None = None
        self._index = {case: i for i, case in enumerate(self.cases)}
        self._known: dict[int, tuple[Any, CaseStatus]] = {}

    @property
    def at(self) -> int:
        """The index of the current case; -1 without one."""
        return self._index[self.current] if self.current else -1

    def name(self, index: int) -> str:
        """Return the name that the page shows for a case."""
        return self.cases[index].name if self.show_names else f"Case {index + 1}"

    def status(self, index: int) -> CaseStatus:
        """Return the state of a case on disk; it is read again only if a file of it has changed."""
        case = self.cases[index]
        stamp = self.reader, *map(_stamp, (case.folder, case.folder / READINGS, own_folder(case.folder, self.reader)))
        known = self._known.get(index)
        if known is None or known[0] != stamp:
            known = self._known[index] = stamp, case_status(case, self.reader)
        return known[1]

    def next_open(self) -> int | None:
        """Return the index of the next case, after the current one and then from the first, that is not read yet."""
        count = len(self.cases)
        order = [(self.at + i) % count for i in range(1, count + 1)]
        return next((i for i in order if i != self.at and self.status(i).state not in READ), None)

    async def show(self) -> None:
        """Read the states of all cases, and send them to the page while the worklist is open; every second at first."""
        sent = time.monotonic()
        for first in range(0, len(self.cases), READ_AT_ONCE):
            await asyncio.to_thread(self._read, self._block(first))
            if not self.state.worklist_open:
                return
            if time.monotonic() - sent > SEND_EVERY_S:
                self._send(self._block(first).stop)
                sent = time.monotonic()
        self._send(len(self.cases))

    def hide(self) -> None:
        """Remove the entries from the page."""
        self.state.worklist = []

    def show_saved(self, case: Case, problem: str) -> None:
        """Show a case, and whose reading is open, after its files were written, or why they were not (`problem`)."""
        with self.state:
            self.state.update({"unsaved": self.without_names(problem), "standing": self.standing()})
            self.show_entry(case)

    def show_entry(self, case: Case) -> None:
        """Show a case as it is on disk now, if the worklist is open."""
        if self.state.worklist_open and self.state.worklist:
            index = self._index[case]
            entry = self._entry(index, self.status(index))
            self.state.worklist = [{**e, **entry} if e["index"] == index else e for e in self.state.worklist]

    def without_names(self, text: str) -> str:
        """Remove file names and series UIDs from a text, unless names may be shown."""
        if not self.show_names:
            text = re.sub(r", UID [\d.]+", "", text)
        for i, case in enumerate(self.cases):
            text = text.replace(case.name, self.name(i))
        return text

    def write_key(self) -> Path:
        """Write which file each case number stands for, into the output folder, and return the file.

        Only the user can read it. VFQError `output_not_writable`.
        """
        file = self.cases[0].folder.parent / KEY_NAME
        partial = file.with_name(f".{KEY_NAME}.{os.getpid()}")
        rows = [(i, case.name, case.source.resolve()) for i, case in enumerate(self.cases, start=1)]
        with writing(file.parent):
            private = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(private, "w", newline="", encoding="utf-8", errors="surrogateescape") as opened:
                csv.writer(opened, lineterminator="\n").writerows([("number", "case", "scan"), *rows])
            partial.replace(file)
        return file

    def _block(self, first: int) -> range:
        return range(first, min(first + READ_AT_ONCE, len(self.cases)))

    def _read(self, block: range) -> None:
        for index in block:
            self.status(index)
            if self.patients:
                self.patients.of(self.cases[index])

    def _send(self, count: int) -> None:
        """Send the first cases, those of one patient together, where the first of them is."""
        groups = self.patients.groups(self.cases[:count]) if self.patients else {}
        entries = [{**self._entry(i, self._known[i][1]), "patient": groups.get(self.cases[i], 0)} for i in range(count)]
        first = {e["patient"]: e["index"] for e in reversed(entries)}
        place = {e["index"]: first[e["patient"]] if e["patient"] else e["index"] for e in entries}
        with self.state:
            self.state.worklist = sorted(entries, key=lambda e: (place[e["index"]], e["index"]))

    def _entry(self, index: int, status: CaseStatus) -> dict[str, Any]:
        return {
            "index": index,
            "name": self.name(index),
            "state": status.state,
            "problem": meaning(status.code),
            "grade": status.worst_grade,
            "doubts": status.doubts.replace(" ", ", "),
            "open": status.open,
            "total": status.total,
            "signed": status.signed,
            "mine": self.reader in status.readers,
        }


def _stamp(folder: Path) -> tuple[int, ...]:
    """Return what changes with the record in a folder, or with the folder's list of files."""
    found: list[int] = []
    for path in (folder, folder / "analysis.json"):
        try:
            status = path.stat()
            found += status.st_mtime_ns, status.st_ino
        except OSError:
            found.append(0)
    return tuple(found)
