"""A case that is open for review: its editor, its journal, and the files in its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import as_coded
from ..spine.curve import SpineCurve
from ..spine.record import SpineAnalysis
from .case_files import CaseFiles
from .editor import Editor
from .state import CURVE
from .straight import reformat
from .unsaved import check_all_saved, save_elsewhere

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
    """

    def __init__(self, editor: Editor, folder: Path, original: SpineAnalysis | None):
        self.editor = editor
        self.folder = folder
        self._files = CaseFiles(folder, original)
        self._record = replace(editor.study.analysis(), vertebrae=())

    def saving(self) -> Callable[[], str]:
        """Return a function, for any thread, that writes the files that other programs read.

        The function returns why something is not on disk, or "". Actions that the disk refused before are tried again.
        """
        study, journal, dragged = self.editor.study, self.editor.journal, self.editor.dragged
        journal.flush()
        try:
            held = {dragged: np.asarray(journal.state[dragged]["keypoints"])} if dragged else None
            record = study.analysis(held)
        except Exception as error:
            problem = as_coded(error).message
            return lambda: problem
        return self._files.writer(record if journal.trail() else None, journal.problem or "")

    def check_all_saved(self) -> None:
        """Write what is left of the journal. VFQError `output_not_writable` if the disk still refuses."""
        check_all_saved(self.editor.journal)

    def save_elsewhere(self) -> str:
        """Write the actions that the disk refuses to another folder; return what to tell the reader."""
        return save_elsewhere(self.editor.journal.unsaved_acts())

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
