"""A case that is open for review: its editor, its journal, and the files in its folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from ..errors import VFQError, as_coded
from ..report.document import make_report, report_text
from ..report.reviews import write_pictures
from ..report.wording import Wording
from ..spine.curve import SpineCurve
from ..spine.reading import Reading, Signature
from ..spine.record import SpineAnalysis
from .case_files import JOURNAL_NAME, CaseFiles
from .editor import Editor
from .state import CURVE
from .straight import reformat
from .unsaved import check_all_saved, save_elsewhere

GONE = (
    "the folder of this case was deleted or moved while the case was open. Put it back; otherwise the actions are "
    "written to another folder when you go to the next case."
)
JOURNAL_MISSING = (
    "The journal of this case's earlier review is missing. The results that were saved last are shown; undo returns to "
    "the automatic results."
)


class OpenCase:
    """A case from the moment it is open until `close`.

    Attributes
    ----------
    editor : the actions on its study.
    folder : the case's folder, for the journal and the files.
    reading : whose reading it is, with its signatures; None before the first action.
    latest : the record as it was opened, saved or signed last.
    """

    def __init__(self, editor: Editor, folder: Path, original: SpineAnalysis | None, reading: Reading | None = None):
        self.editor = editor
        self.folder = folder
        self.reading = reading
        self._files = CaseFiles(folder, original)
        self._record = replace(editor.study.analysis(), vertebrae=())
        self._journal_file = _file_id(folder)
        self.latest = self.record()
        self._holding = self.latest.signatures

    def saving(self) -> Callable[[], str]:
        """Return a function, for any thread, that writes the files that other programs read.

        The function returns why something is not on disk, or "". Actions that the disk refused before are tried again.
        """
        journal = self.editor.journal
        if self.is_gone:
            return lambda: GONE
        journal.flush()
        try:
            record = self.record()
        except Exception as error:
            problem = as_coded(error).message
            return lambda: problem
        return self._files.writer(record if record.reading else None, journal.problem or "")

    def record(self) -> SpineAnalysis:
        """Return the record of the study after the last finished action, with whose reading it is."""
        study, journal, dragged = self.editor.study, self.editor.journal, self.editor.dragged
        held = {dragged: np.asarray(journal.state[dragged]["keypoints"])} if dragged else None
        if self.reading is None and journal.trail():
            first = journal.trail()[0]
            self.reading = Reading(first.who, first.at)
        self.latest = replace(study.analysis(held), reading=self.reading)
        return self.latest

    @property
    def is_gone(self) -> bool:
        """True if the journal was deleted or moved while the case was open, so that actions reach no folder."""
        return self._journal_file is not None and _file_id(self.folder) != self._journal_file

    def signed_by_others(self, who: str) -> tuple[Signature, ...]:
        """Return the signatures of other readers that held when the study was opened or signed last."""
        return tuple(s for s in self._holding if s.reader != who)

    def sign(self, who: str) -> None:
        """Add a reader's signature to the reading; it is on disk with the next save."""
        record, now = self.record(), datetime.now(timezone.utc).isoformat(timespec="seconds")
        reading = self.reading or Reading(who, now)
        self.reading = reading.signed(who, now, record.digest)
        self.latest = replace(record, reading=self.reading)
        self._holding = self.latest.signatures

    def completed(self, who: str) -> tuple[str, Callable[[], tuple[str, ...]]]:
        """Sign the reading; return the report's text, and a function that writes its images and returns their names."""
        self.sign(who)
        record, ct, folder = self.record(), self.editor.machine.ct, self.folder
        try:
            text = report_text(make_report(record, Wording()))
        except VFQError as error:  # a missing package must not undo a signature
            text = error.message
        return text, lambda: write_pictures(record, ct, folder)

    def check_all_saved(self) -> None:
        """Write what is left of the journal. VFQError `output_not_writable` if the disk refuses.

        Actions in a folder that is gone count as not written.
        """
        check_all_saved(self.editor.journal)
        if self.is_gone and self.editor.journal.trail():
            raise VFQError("output_not_writable", GONE)

    def save_elsewhere(self) -> str:
        """Write the actions that are not in the case's folder to another one; return what to tell the reader."""
        journal = self.editor.journal
        return save_elsewhere(journal.trail() if self.is_gone else journal.unsaved_acts())

    def rebuild(self) -> None:
        """Create the study's nodes again, from the journal."""
        study, ct, state = self.editor.study, self.editor.machine.ct, self.editor.journal.state
        ct_node = study.nodes["ct"]
        made = reformat(ct, SpineCurve(np.asarray(state[CURVE]["curve"])))
        study.open(ct, made, self._record, ct_node if ct_node.GetScene() else None, state)
        self.editor.listen()

    def close(self) -> None:
        """Write what is left, and let other programs open the case."""
        self.editor.journal.close()


def _file_id(folder: Path) -> tuple[int, int] | None:
    """Return what tells the journal's file from any other one; None if there is no file."""
    with suppress(OSError):
        status = (folder / JOURNAL_NAME).stat()
        return status.st_dev, status.st_ino
    return None
