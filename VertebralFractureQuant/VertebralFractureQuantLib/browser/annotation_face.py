"""The page of an annotation as the face of its review: rows without grades and heights, and a loupe while placing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from ..scene.annotation_review import AnnotationReview
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
PLACED = {"reader": "reader", "automatic": "proposed", "mask": "mask", "centroid": "centre"}


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
                    "entries": self._entries(),
                    **self._levels(),
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
        """Return a row for each vertebra with points."""
        review, annotation = self.review, self.review.annotation
        if annotation is None or review.editor is None:
            return []
        study, waiting = review.study, annotation.waiting(review.study)
        rows = []
        for vertebra_id in review.order:
            details, lateral = study.vertebrae[vertebra_id].details, study.plane_of(vertebra_id)
            source, waits = PLACED[annotation.source(study, vertebra_id)], vertebra_id in waiting
            rows.append(
                {
                    "id": vertebra_id,
                    "level": study.label(vertebra_id),
                    "named": bool(details["level"]),
                    "pinned": details["pinned"],
                    "waits": waits,
                    "source": "accepted" if source == "proposed" and not waits else source,
                    "plane": f"{abs(lateral):.1f} mm {'left' if lateral < 0 else 'right'}",
                    "seconds": f"{annotation.watch.seconds(vertebra_id):.0f} s",
                    "comment": annotation.comments.get(vertebra_id, ""),
                }
            )
        return rows

    def _levels(self) -> dict[str, Any]:
        """Return the level that is proposed, and those that can be chosen: of the protocol, or of a first vertebra."""
        annotation, study = self.review.annotation, self.review.study
        if annotation is None or self.review.editor is None:
            return {"next_level": None, "levels_left": []}
        named = any(study.vertebrae[i].details["level"] for i in study.order)
        offered = bool(annotation.dataset.protocol.get("levels")) or not named
        left = annotation.levels_left(study) if offered else []
        return {"next_level": annotation.next_level(study), "levels_left": left}

    def _entries(self) -> list[dict[str, Any]]:
        annotation = self.review.annotation
        return [
            {"level": v.level, "reason": (v.not_assessable or "").replace("_", " "), "comment": v.comment}
            for v in (annotation.others if annotation else ())
            if v.not_assessable
        ]

    def _press(self, node: Any, point: np.ndarray) -> None:
        self.review.touch()
        super()._press(node, point)
        with self.state:
            self.state.update({"point": self.review.point})

    def _look(self, node: Any, point: np.ndarray) -> None:
        self.review.touch()
        super()._look(node, point)
        self.placing_loupe.follow(node, point)
