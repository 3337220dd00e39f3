"""Slicer as the face of an annotation: the views of the review, drafts in the label set, and a loupe while placing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError, as_coded
from ..labels.reading import LabelReading
from ..labels.store import work_folder
from ..scene.annotation_review import AnnotationReview
from .face import RETRY_MS, DesktopFace
from .folder import LABELLED, arrange, tidy
from .label_loupe import LabelLoupe
from .layout import LayoutViews

SOON_MS = 1  # after each act

Outcome = tuple[LabelReading | None, VFQError | None]


class LabelFace(DesktopFace):
    """The `scene.face.Face` of the annotation in the module's panel.

    Attributes
    ----------
    loupe : the loupe at the mouse while points are placed.
    """

    review: AnnotationReview
    review_type = AnnotationReview

    def __init__(self, scene: Any, who: str):
        super().__init__(scene, who)
        self.views = LayoutViews(self._pressed, self._panned, self.review.scrolled, self._look)
        self.loupe = LabelLoupe()

    @property
    def case_folder(self) -> Path | None:
        """The working folder of the open case, which is named after it; None while none is open."""
        annotation = self.review.annotation
        if annotation is None:
            return None
        reading = annotation.reading
        return work_folder(annotation.dataset, (reading.reader, reading.case, reading.session))

    def opened(self) -> None:
        """See `Face`; the nodes are not saved with the scene, as the label set has what counts."""
        nodes = self.review.study.nodes
        for role, node in nodes.items():
            node.SetSaveWithScene(False)
            node.SetAttribute(LABELLED, "1")
            if role == "measurements":
                node.SetHideFromEditors(True)  # grades are never shown
        self.views.show(nodes)

    def changed(self) -> None:
        """See `Face`."""
        self.review.touch()
        if self.review.editor and self.case_folder:
            arrange(self.review.study, self.case_folder.name)
        else:
            self.unsaved = ""
            tidy()
        if self.review.mode != "place":
            self.hide_loupe()
        for tell in self.on_changed:
            tell()

    def followed(self, vertebra_ids: Collection[str]) -> None:
        """See `Face`."""
        self.review.touch()
        super().followed(vertebra_ids)

    def acted(self) -> None:
        """See `Face`; the draft is saved after each act."""
        self._save_timer.start(SOON_MS)

    # -- saving

    def save_now(self) -> None:
        """Save the draft of the open case, after a save that is under way."""
        self._save_timer.stop()
        for work in [w for w in self._works if w.saves]:
            work.thread.join()
            self._works.remove(work)
            work.then(work.outcome)
        write = self.review.drafting() if self.review.editor else None
        if write:
            self._saved(_tried(write))

    def complete(self) -> None:
        """Make the reading final. VFQError as `labels.store.save`; the reading is then still a draft."""
        self.save_now()
        write = self.review.drafting("final")
        if write:
            reading, refused = _tried(write)
            self._saved((reading, refused))
            if refused:
                raise refused

    def close(self) -> None:
        """Save and close the open case. What the label set refuses is kept in a file, and said."""
        self.review.settle()
        self.save_now()
        problem = self.unsaved
        self.review.close()
        if problem and self.review.elsewhere:
            kept = self.review.elsewhere
            self.tell(f"{problem} What you did is in {kept}. Bring it in with vfq dataset import.")

    def end(self) -> str:
        """Save, close and disconnect from Slicer; return where a draft is that the label set refused, or ""."""
        told: list[str] = []
        self.on_told = told.append
        self.on_changed.clear()
        self.on_followed.clear()
        self.close()
        self._save_timer.stop()
        self._poll.stop()
        self._works.clear()
        self._logs.release()
        self.views.release()
        return " ".join(told)

    def _save(self) -> None:
        if self._saving:
            return  # it is saved when that save has ended
        write = self.review.drafting() if self.review.editor else None
        if write:
            self._saving = True
            self._start(lambda: _tried(write), self._saved, "", saves=True)

    def _saved(self, found: Any) -> None:
        """Take over a reading as it is on disk, or the VFQError that refused it: what `_tried` returned."""
        reading, refused = found
        self._saving = False
        annotation = self.review.annotation
        if annotation is None:
            return
        if reading:
            self.review.saved(reading)
        else:
            self.review.unsaved()
        if annotation.changed:  # refused, or changed meanwhile
            self._save_timer.start(SOON_MS if reading else RETRY_MS)
        self.unsaved = refused.message if refused else ""
        for tell in self.on_changed:
            tell()

    # -- the loupe

    def hide_loupe(self) -> None:
        """Show no loupe, until the mouse moves again while points are placed."""
        if self.loupe.shown:
            self.loupe.hide()
            self.views.render()

    def _look(self, mouse: np.ndarray) -> None:
        editor, review = self.review.editor, self.review
        if editor is None or review.mode != "place":
            self.hide_loupe()
            return
        review.touch()
        straightening = review.study.straightening
        self.loupe.show(
            self.renderer, self.straightened, mouse, editor.machine.ct, straightening.to_patient, review.window
        )
        self.views.render()


def _tried(write: Callable[[], LabelReading]) -> Outcome:
    """Save a reading; return it as it is on disk, or the error that refused it."""
    try:
        return write(), None
    except Exception as error:
        return None, as_coded(error)
