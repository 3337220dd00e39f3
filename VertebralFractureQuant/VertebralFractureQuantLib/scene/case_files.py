"""The files of a review in its case's folder: the journal, and the record and report that other programs read.

The journal holds every action as soon as it ends. The other files follow soon after, written in any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import as_coded
from ..report.outputs import MACHINE_NAME
from ..report.reviews import write_review
from ..spine.record import SpineAnalysis
from ..spine.record_json import read_analysis
from .journal import Journal
from .state import State, first_state

JOURNAL_NAME = "review.sqlite"


def open_journal(folder: Path, original: State, analysis: SpineAnalysis) -> Journal:
    """Open the journal in a case's folder; create it if there is none. VFQError as `Journal`."""
    folder.mkdir(parents=True, exist_ok=True)
    return Journal(folder / JOURNAL_NAME, original, {"models": [vars(stamp) for stamp in analysis.models]})


def saved_without_journal(folder: Path) -> State | None:
    """Return the state that an earlier review saved, if its journal is missing or empty but its files are there.

    VFQError as `read_analysis`.
    """
    journal = folder / JOURNAL_NAME
    if not (folder / MACHINE_NAME).exists() or (journal.exists() and journal.stat().st_size):
        return None
    return first_state(read_analysis(folder / "analysis.json"))


class CaseFiles:
    """The files that other programs read. Whichever thread writes last, the newest record stays.

    `original` is the automatic analysis; the files keep it beside the reviewed one.
    """

    def __init__(self, folder: Path, original: SpineAnalysis | None):
        self._folder = folder
        self._original = original
        self._lock = threading.Lock()
        self._asked = self._written = 0

    def writer(self, record: SpineAnalysis | None, problem: str) -> Callable[[], str]:
        """Return a function, for any thread, that writes a record (None: there is nothing to write yet).

        The function returns why the record is not on disk, or else `problem`.
        """
        self._asked += 1
        turn = self._asked

        def write() -> str:
            """Write the record, unless a newer one was written; return why it is not on disk."""
            with self._lock:
                if record is None or turn < self._written:
                    return problem
                self._written = turn
                try:
                    write_review(record, self._folder, self._original)
                except Exception as error:
                    return as_coded(error).message
                return problem

        return write
