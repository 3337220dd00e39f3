"""The page of an annotation as the face of its review: rows without grades and heights, and a loupe while placing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from ..scene.annotation_review import AnnotationReview
from ..scene.annotation_rows import label_rows, reason_rows
from .annotation_loupe import PlacingLoupe
from .face import BrowserFace
from .views import ReviewViews

ANNOTATION_STATE: dict[str, Any] = {
    "entries": [],
    "point": "",
    "next_level": None,
    "levels_left": [],
    "assisted": False,
    "protocol": "",
    "comment": "",
    "case_comment": "",
    "reason_open": False,
    "reason_level": None,
    "left_to_read": "",
}


class AnnotationFace(BrowserFace):
    """The `scene.face.Face` of an annotation.

    Attributes
    ----------
    placing_loupe : the loupe at the mouse while points are placed.
    """

    review: AnnotationReview
    review_type = AnnotationReview

    def __init__(self, state: Any, views: ReviewViews, who: str, without_names: Callable[[str], str]):
        super().__init__(state, views, who, without_names)
        self.placing_loupe = PlacingLoupe(self.review, views)

    def changed(self) -> None:
        """See `Face`. No grade, height or ratio is sent to the page."""
        review = self.review
        review.touch()
        annotation, journal = review.annotation, review.editor and review.editor.journal
        with self.state:
            self.state.update(
                {
                    "rows": self._rows(),
                    "entries": reason_rows(self.review),
                    "next_level": self.review.next_level,
                    "levels_left": self.review.levels_left,
                    "undoable": journal and journal.undoable,
                    "redoable": journal and journal.redoable,
                    "selected": review.selected,
                    "assisted": bool(annotation and annotation.assisted),
                    "comment": annotation.comments.get(review.selected or "", "") if annotation else "",
                    "case_comment": annotation.comment if annotation else "",
                    "preset": review.preset,
                    "mode": review.mode,
                    "hint": review.hint,
                    "close_up": review.close_up,
                    "window": [round(hu) for hu in review.window],
                    **self._place(),
                }
            )
        if review.mode != "place":
            self.placing_loupe.hide()

    def followed(self, vertebra_ids: Collection[str]) -> None:
        """See `Face`."""
        self.review.touch()
        annotation = self.review.annotation
        comment = annotation.comments.get(self.review.selected or "", "") if annotation else ""
        with self.state:
            self.state.update({"selected": self.review.selected, "comment": comment, **self._place()})

    def _place(self) -> dict[str, Any]:
        review = self.review
        note = review.note
        if review.mode == "place":
            note = review.placing
        return {"lateral": review.lateral, "note": note, "point": review.point}

    def _rows(self) -> list[dict[str, Any]]:
        return label_rows(self.review)

    def _press(self, node: Any, point: np.ndarray) -> None:
        self.review.touch()
        super()._press(node, point)
        with self.state:
            self.state.update({"point": self.review.point})

    def _look(self, node: Any, point: np.ndarray) -> None:
        self.review.touch()
        super()._look(node, point)
        self.placing_loupe.follow(node, point)
