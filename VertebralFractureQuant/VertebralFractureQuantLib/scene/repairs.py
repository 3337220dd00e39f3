"""How a review answers when something else changes its nodes: another module, a script, or the closing of the scene.

`guard` watches the nodes and reports; the answers are here. Vertebrae that were removed are deleted by an action like
any other; everything else is put back as the journal has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .editor import Editor
from .face import Face, answer_later
from .guard import Reports
from .study import StudyScene

UNSET = "A key point was unset in another module and has been put back. To remove a vertebra, delete or reject it here."
DETACHED = "A vertebra must stay under the study's own transform. It has been put back there."
RENAMED = "Vertebrae are named by their level here ([ and ]). The name that another module gave has been replaced."
REBUILT = "Nodes of the study were removed and have been rebuilt. To close a study, close its scene."
OUTDATED = (
    "The CT was changed after it was analysed. The key points and measurements belong to the CT as it was before. "
    "Analyse it again to measure it as it is now."
)
HARDENED_MM = 0.1  # the transform is a grid, and its inverse is not exact


@dataclass(frozen=True)
class Needs:
    """What repairs need of the review.

    Attributes
    ----------
    editor : returns the editor of the open study, or None.
    rebuild : creates the study's nodes again from its journal.
    close_without_ct : saves and closes the study.
    """

    editor: Callable[[], Editor | None]
    rebuild: Callable[[], None]
    close_without_ct: Callable[[], None]


class Repairs:
    """The answers to reports of `guard`.

    Attributes
    ----------
    outdated : True if the CT was changed after it was analysed.
    """

    def __init__(self, study: StudyScene, face: Face, needs: Needs):
        self._study = study
        self._face = face
        self._needs = needs
        self.reset()

    def reset(self) -> None:
        """Start again with another study."""
        self.outdated = False
        self._gone: set[str] = set()  # vertebrae whose nodes were removed in the present event

    def reports(self, closing: Callable[[], None]) -> Reports:
        """Return the callbacks for `guard`; `closing` is called when the scene is about to be closed."""
        return Reports(
            removed=self._note_removed,
            lost=lambda: self._later(self._restore),
            unset=lambda i: self._later(lambda: self._put_back(i, UNSET)),
            renamed=lambda i: self._later(lambda: self._put_back(i, RENAMED)),
            detached=lambda i: self._later(lambda: self._attach(i)),
            ct_changed=self._outdate,
            closing=closing,
        )

    def _later(self, do: Callable[[], None]) -> None:
        answer_later(self._face, do)

    @property
    def _ct_is_gone(self) -> bool:
        return self._study.nodes["ct"].GetScene() is None

    def _note_removed(self, vertebra_id: str) -> None:
        if not self._gone:
            self._later(self._delete_gone)
        self._gone.add(vertebra_id)

    def _delete_gone(self) -> None:
        """Delete the vertebrae whose nodes were removed together, in one action; not if the CT was removed too."""
        gone, self._gone = sorted(self._gone & set(self._study.vertebrae)), set()
        editor = self._needs.editor()
        if editor and gone and not self._ct_is_gone:
            labels = ", ".join(map(self._study.label, gone))
            editor.delete(*gone)
            self._face.tell(f"Deleted in another module: {labels}. Undo restores what was deleted.")

    def _restore(self) -> None:
        """Rebuild a study of which other nodes were removed; without its CT, close it."""
        self._delete_gone()
        if not self._needs.editor() or self._study.intact:
            return
        if self._ct_is_gone:
            self._needs.close_without_ct()
        else:
            self._needs.rebuild()
            self._face.tell(REBUILT)
            self._face.changed()

    def _attach(self, vertebra_id: str) -> None:
        """Put a vertebra back that was put under another transform, or whose transform was hardened into its points."""
        editor = self._needs.editor()
        if editor and vertebra_id in self._study.vertebrae:
            self._study.attach(vertebra_id)
            if self._was_hardened(editor, vertebra_id):
                editor.undo()
            self._put_back(vertebra_id, DETACHED)

    def _was_hardened(self, editor: Editor, vertebra_id: str) -> bool:
        """True if the last action turned a vertebra's points into straight coordinates."""
        act = next(iter(editor.journal.trail()[-1:]), None)
        if act is None or act.kind != "move" or vertebra_id not in act.changes:
            return False
        before, after = (np.asarray(state["keypoints"]) for state in act.changes[vertebra_id])
        return bool(np.allclose(self._study.straightening.to_straight(before), after, atol=HARDENED_MM))

    def _put_back(self, vertebra_id: str, sentence: str) -> None:
        editor = self._needs.editor()
        if editor and vertebra_id in self._study.vertebrae:
            self._study.put({vertebra_id: editor.journal.state[vertebra_id]})
            self._face.tell(sentence)

    def _outdate(self) -> None:
        if not self.outdated:
            self.outdated = True
            self._face.tell(OUTDATED)
            self._face.changed()
