"""The actions of a reader who labels a case: placing, nudging, levels, reasons and comments."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import VFQError
from ..report.markups import POINT_NAMES
from ..spine.keypoints import from_outline, outline
from .actions import Actions
from .annotating import Annotation

NUDGE_MM = 0.1
TOUCHED_MM = 4.0  # a press this near to a key point touches it
UP, ANTERIOR = np.array([0.0, 0.0, NUDGE_MM]), np.array([0.0, NUDGE_MM, 0.0])


class AnnotationActions(Actions):
    """The actions of an annotation; `annotation` is the one that is open.

    Attributes
    ----------
    touched : the point that arrow keys move: a vertebra's id, and an index of `POINT_NAMES`.
    wanted : the level that the reader chose for the vertebra that is being placed; None if it follows from neighbours.
    """

    annotation: Annotation | None = None
    touched: tuple[str, int] | None = None
    wanted: str | None = None

    def pick(self, view: Any, point: np.ndarray) -> None:
        """Select the vertebra under the mouse, and remember the key point that is touched."""
        if self.editor and not self.clicking.mode:
            self._touch(point, view is self.face.straightened)
        super().pick(view, point)

    def start_adding(self) -> None:
        """Propose a vertebra where the next click is. VFQError `blinded_protocol` in a blinded reading."""
        if self.annotation and not self.annotation.assisted:
            raise VFQError(
                "blinded_protocol", "This reading is blinded: there are no proposals. Place the six points by hand (b)."
            )
        super().start_adding()

    def start_placing(self) -> None:
        """Place the six points of a vertebra; its level follows from its neighbours, if they have one."""
        self.wanted = None
        super().start_placing()

    def place_level(self, level: str) -> None:
        """Place the six points of the vertebra of this level. VFQError `bad_labels` if the level is there already."""
        assert self.annotation
        if level not in self.annotation.levels_left(self.study):
            raise VFQError("bad_labels", f"{level} is there already, or not in the protocol. Choose another level.")
        self.start_placing()
        self.wanted = level
        self.face.changed()

    def place_next(self) -> None:
        """Place the vertebra of the level that is proposed; without a proposal the level follows from neighbours."""
        assert self.annotation
        level = self.annotation.next_level(self.study)
        if level:
            self.place_level(level)
        else:
            self.start_placing()

    def level_up(self) -> None:
        """Set the level of the selected vertebra, or of the one that is being placed, one higher."""
        if not self._shift_wanted(-1):
            super().level_up()

    def level_down(self) -> None:
        """Set the level of the selected vertebra, or of the one that is being placed, one lower."""
        if not self._shift_wanted(1):
            super().level_down()

    def _shift_wanted(self, by: int) -> bool:
        """Shift the level that is being placed among those that are left; False while no such level is."""
        if self.clicking.mode != "place" or not self.wanted or not self.annotation:
            return False
        left = self.annotation.levels_left(self.study)
        self.wanted = left[min(max(left.index(self.wanted) + by, 0), len(left) - 1)]
        self.face.changed()
        return True

    def nudge_up(self) -> None:
        """Move the touched point 0.1 mm towards the head."""
        self._nudge(UP)

    def nudge_down(self) -> None:
        """Move the touched point 0.1 mm towards the feet."""
        self._nudge(-UP)

    def nudge_left(self) -> None:
        """Move the touched point 0.1 mm to the front."""
        self._nudge(ANTERIOR)

    def nudge_right(self) -> None:
        """Move the touched point 0.1 mm to the back."""
        self._nudge(-ANTERIOR)

    def next_point(self) -> None:
        """Choose the next of the selected vertebra's six points, for the arrow keys."""
        if self.selected:
            index = self.touched[1] + 1 if self.touched and self.touched[0] == self.selected else 0
            self.touched = self.selected, index % len(POINT_NAMES)
            self.face.changed()

    def to_plane(self) -> None:
        """Move the six points of the selected vertebra into the sagittal plane that is shown."""
        if self.selected:
            straight = self.study.vertebrae[self.selected].straight()
            straight[..., 0] = self.viewpoint.lateral
            self._open_editor.set_points(self.selected, self.study.straightening.to_patient(straight))

    def not_assessable(self, reason: str, level: str | None = None) -> None:
        """Say that the selected vertebra, or `level`, is not assessable; its points are deleted. VFQError `bad_labels`.

        Undo brings the points back.
        """
        annotation, selected = self.annotation, self.selected
        assert annotation
        own = self.study.vertebrae[selected].details["level"] if selected else None
        if selected and (own is None or level in (None, "", own)):
            seconds, center = annotation.watch.seconds(selected), self._place_of(selected)
            annotation.mark(reason, own or level, annotation.comments.get(selected, ""), seconds=seconds, center=center)
            self._remove_assessed()
        else:
            if level in {v.details["level"] for v in self.study.vertebrae.values()}:
                raise VFQError("bad_labels", f"{level} has key points. Select it, and give the reason again.")
            annotation.mark(reason, level)
            self._changed()

    def _place_of(self, vertebra_id: str) -> np.ndarray | None:
        """Return where a vertebra that is not assessable is kept to be; an annotation keeps its level alone."""
        return None

    def _remove_assessed(self) -> None:
        self.delete()

    def remove_reason(self, level: str) -> None:
        """Remove the entry of a level that is not assessable."""
        assert self.annotation
        self.annotation.unmark(level)
        self._changed()

    def comment(self, text: str) -> None:
        """Set the comment on the selected vertebra."""
        if self.annotation and self.selected:
            self.annotation.comments[self.selected] = text.strip()
            self._noted()

    def comment_case(self, text: str) -> None:
        """Set the comment on the case."""
        if self.annotation:
            self.annotation.comment = text.strip()
            self._noted()

    def _noted(self) -> None:
        assert self.annotation
        self.annotation.changed = True
        self.face.changed()
        self.face.acted()

    def _touch(self, point: np.ndarray, straightened: bool) -> None:
        found = []
        for vertebra_id, markups in self.study.vertebrae.items():
            points = outline(markups.straight() if straightened else markups.keypoints())
            apart = np.linalg.norm((points - point)[:, 1:], axis=1)  # seen from the side
            found.append((float(apart.min()), (vertebra_id, int(apart.argmin()))))
        if found and min(found)[0] < TOUCHED_MM:
            self.touched = min(found)[1]

    def _nudge(self, by: np.ndarray) -> None:
        if self.clicking.mode == "place":
            self.clicking.move_last(by)
            self.face.render()
        elif self.touched and self.touched[0] == self.selected:
            vertebra_id, index = self.touched
            straight = outline(self.study.vertebrae[vertebra_id].straight())
            straight[index] += by
            moved = outline(self.study.vertebrae[vertebra_id].keypoints())
            moved[index] = self.study.straightening.to_patient(straight[index])
            self._open_editor.set_points(vertebra_id, from_outline(moved))
        elif self.selected:
            self.next_point()
            self.face.tell("Arrow keys move the chosen point by 0.1 mm. Click a point, or press q, to choose another.")

    def _add(self, points: np.ndarray) -> None:
        super()._add(points)
        self._placed(automatic=True)

    def _place(self, points: np.ndarray) -> None:
        before = set(self.study.vertebrae)
        super()._place(points)
        if self.selected and self.selected not in before:
            self.touched = self.selected, POINT_NAMES.index(self.clicking.points_order[-1])
            self._placed()
            self._name_placed(self.selected)

    def _name_placed(self, vertebra_id: str) -> None:
        wanted, follows = self.wanted, self.study.vertebrae[vertebra_id].details["level"]
        self.wanted = None
        if wanted and wanted != follows:
            self._open_editor.name(vertebra_id, wanted)
            if follows:
                self.face.tell(
                    f"It is {wanted}, as you chose; {follows} would follow from its neighbours. Look at both."
                )

    def _placed(self, automatic: bool = False) -> None:
        if self.annotation and self.selected:
            keypoints = self.study.vertebrae[self.selected].keypoints()
            self.annotation.placed(self.selected, keypoints, automatic)
            self.annotation.changed = True
            self.face.changed()
            self.face.acted()

    def _changed(self) -> None:
        if self.annotation:
            self.annotation.changed = True
        super()._changed()
        gone = self.annotation.clashes(self.study) if self.annotation else []
        if gone:
            self.face.changed()
            self.face.tell(f"{', '.join(gone)}: has key points now, so the entry that it is not assessable is removed.")
