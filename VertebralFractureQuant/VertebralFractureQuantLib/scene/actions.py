"""The actions of a reader on the open study: what a key, a button or a click does.

Nothing is measured here: an action calls `Editor` and asks the face to show the result. Slow work is handed to the
face's `work`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import VFQError
from ..report.markups import POINT_NAMES
from .clicking import FEWEST_CLICKS, Clicking
from .editor import Editor
from .face import Face
from .machine import Rescued
from .merging import rescue_text
from .rows import following_row, stepped_row
from .state import CURVE
from .study import StudyScene
from .viewpoint import Viewpoint

LATERAL_STEP_MM = 1.0


class Actions:
    """The actions. The public methods without arguments are those that `keys.KEYS` names.

    Attributes
    ----------
    editor : the editor of the open study; None while none is open.
    viewpoint, clicking : where the views look, and the clicks that are being taken.
    doubtful_first : True if the rows are listed with the most doubtful vertebra first.
    """

    def __init__(self, study: StudyScene, face: Face):
        self.study = study
        self.face = face
        self.viewpoint = Viewpoint(study, face)
        self.clicking = Clicking(study, face)
        self.forget()

    def forget(self) -> None:
        """Start again without a study."""
        self.editor: Editor | None = None
        self.doubtful_first = False
        self._pressed: Any = None  # the view in which the mouse was pressed last
        self._asked: Any = None  # what the reader was asked to confirm, with its state
        self.viewpoint.reset()
        self.clicking.forget()

    def begin(self, editor: Editor) -> None:
        """Start with the study of an editor."""
        self.forget()
        self.editor = editor
        editor.changed = self._changed
        editor.moved = self._moved
        editor.refused = self.face.tell

    @property
    def order(self) -> list[str]:
        """The vertebrae's ids as they are listed."""
        return self.editor.by_doubt() if self.editor and self.doubtful_first else self.study.order

    @property
    def selected(self) -> str | None:
        """The id of the selected vertebra."""
        return self.study.selected

    # -- what the mouse and the buttons do

    def select(self, vertebra_id: str | None) -> None:
        """Select a vertebra, and bring it into the middle of the views."""
        self._asked = self._asked if vertebra_id == self.selected else None
        self.study.select(vertebra_id)
        if vertebra_id:
            self.viewpoint.center(vertebra_id)
        self.viewpoint.follow_plane()
        self._show_place()

    def mark(self, vertebra_id: str | None, but: Any = None) -> None:
        """Select a vertebra, and bring it into the middle of the patient's views, except that with slice node `but`."""
        self.study.select(vertebra_id)
        if vertebra_id:
            self.viewpoint.center_patient(vertebra_id, but=but)
        self.viewpoint.follow_plane()
        self._show_place()

    def pick(self, view: Any, point: np.ndarray) -> None:
        """Select the vertebra under the mouse, which was pressed at `point` `(3,)`, RAS mm of the view.

        `view` is the slice node of the view; the patient's other views move to the vertebra.
        """
        if not self.editor or self.clicking.mode:
            return
        self._pressed = view
        found = self.study.at(point, straightened=view is self.face.straightened)
        if found and found != self.selected:
            self.mark(found, but=view)

    def move_lateral(self, lateral: float) -> None:
        """Move the sagittal plane of the straightened view to R = `lateral` mm."""
        self.viewpoint.move_lateral(lateral)
        self.viewpoint.follow_plane()
        self._show_place()

    def scrolled(self) -> None:
        """Called when the mouse wheel moved the plane of the straightened view."""
        if self.editor and self.viewpoint.scrolled():
            self.viewpoint.follow_plane()
            self.face.followed(())

    def adjust_window(self, width: float, level: float) -> None:
        """Change width and level of the window by these amounts in HU."""
        self.viewpoint.adjust_window(width, level)
        self.face.render()

    def name(self, vertebra_id: str, level: str) -> None:
        """Set the level of a vertebra; the levels of the others follow."""
        self._open_editor.name(vertebra_id, level)

    # -- the actions of the keyboard

    def next_vertebra(self) -> None:
        """Select the next row."""
        self._step(1)

    def previous_vertebra(self) -> None:
        """Select the previous row."""
        self._step(-1)

    def toggle_order(self) -> None:
        """List the most doubtful vertebra first, or the most cranial."""
        self.doubtful_first = not self.doubtful_first
        self.face.changed()

    def confirm(self) -> None:
        """Confirm the selected vertebra, and select the next open one."""
        self._judge("confirmed")

    def confirm_rest(self) -> None:
        """Confirm every open vertebra of which nothing is in doubt, in one action, if pressed twice in a row.

        The first press shows the whole spine with its points, and names them. VFQError `not_certain` if there is none.
        """
        editor, ids = self._open_editor, self._open_editor.certain()
        asked, self._asked = self._asked, None
        if not ids:
            raise VFQError(
                "not_certain",
                "No open vertebra is certain: normal, not borderline, of a sure level and without a reason to doubt "
                "it. Confirm (c) or reject (x) each one by itself.",
            )
        wanted = {i: self.study.vertebrae[i].state() for i in ids}
        if asked == wanted:
            editor.confirm_all(ids)
            self._select_open(self.order, 0)
        else:
            if not self.viewpoint.overlay:
                self.viewpoint.toggle_overlay()
            self.fit_views()
            self._asked = wanted
            self.face.tell(rest_text(self.study, ids))

    def reject(self) -> None:
        """Reject the selected vertebra, and select the next open one."""
        self._judge("rejected")

    def reopen(self) -> None:
        """Open the selected vertebra for review again."""
        self._selected_do(lambda editor, i: editor.review(i, "open"))

    def undo(self) -> None:
        """Take the last action back, and go to what it changed."""
        self._go_to_change(self._open_editor.undo)

    def redo(self) -> None:
        """Repeat the action that was taken back last, and go to what it changed."""
        self._go_to_change(self._open_editor.redo)

    def level_up(self) -> None:
        """Set the level of the selected vertebra one higher."""
        self._selected_do(lambda editor, i: editor.shift_level(i, -1))

    def level_down(self) -> None:
        """Set the level of the selected vertebra one lower."""
        self._selected_do(lambda editor, i: editor.shift_level(i, 1))

    def toggle_pin(self) -> None:
        """Pin the level of the selected vertebra, or release it."""
        self._selected_do(lambda editor, i: editor.pin(i, not self.study.vertebrae[i].details["pinned"]))

    def reset(self) -> None:
        """Restore the automatically detected key points of the selected vertebra."""
        self._selected_do(lambda editor, i: editor.reset(i))

    def delete(self) -> None:
        """Delete the selected vertebra; while clicking, remove the last click."""
        if self.clicking.mode:
            self.clicking.take_back()
            self.face.changed()
        else:
            following = following_row(self.order, self.selected)
            self._selected_do(lambda editor, i: editor.delete(i))
            self.select(following)

    def start_adding(self) -> None:
        """Add a vertebra where the next click in the straightened view is."""
        self.clicking.start("add", self._add)

    def start_placing(self) -> None:
        """Add a vertebra from the next six clicks in the straightened view."""
        self.clicking.start("place", self._place)

    def start_rescue(self) -> None:
        """Take clicks on the spine in the patient's views, for another curve."""
        self.clicking.fewest = 1 if self._open_editor.present_curve() else FEWEST_CLICKS
        self.clicking.start("rescue", lambda _: self.face.changed())

    def finish_clicks(self) -> None:
        """Lead the curve through the clicks, and detect again; outside a click mode, toggle the close-up.

        VFQError `too_few_points`.
        """
        if not self.clicking.mode:
            self.toggle_close_up()
        if self.clicking.mode == "rescue":
            points = self.clicking.curve_points()
            self.clicking.end()
            self._rescue(points)

    def cancel(self) -> None:
        """Leave the clicking mode."""
        self.clicking.end()
        self.face.changed()

    def lateral_left(self) -> None:
        """Move the sagittal plane 1 mm to the patient's left."""
        self.move_lateral(self.viewpoint.lateral - LATERAL_STEP_MM)

    def lateral_right(self) -> None:
        """Move the sagittal plane 1 mm to the patient's right."""
        self.move_lateral(self.viewpoint.lateral + LATERAL_STEP_MM)

    def toggle_window(self) -> None:
        """Change to the next window: bone, soft tissue, or that of the content."""
        self.viewpoint.toggle_window()
        self.face.changed()

    def choose_window(self, preset: str) -> None:
        """Change to a window of `volumes.PRESETS`."""
        self.viewpoint.choose_window(preset)
        self.face.changed()

    def toggle_close_up(self) -> None:
        """Fill the straightened view with the selected vertebra, or show the whole spine in it again."""
        if self.viewpoint.close_up:
            self.viewpoint.leave_close_up()
        elif self.selected:
            self.viewpoint.close_up = True
            self.viewpoint.center(self.selected)
        self.viewpoint.follow_plane()
        self.face.changed()
        self.face.render()

    def own_plane(self) -> None:
        """Move the sagittal plane of the straightened view to the points of the selected vertebra."""
        if self.selected:
            self.move_lateral(self.study.plane_of(self.selected))

    def toggle_overlay(self) -> None:
        """Hide points, lines and labels in all views, or show them again."""
        self.viewpoint.toggle_overlay()
        self.face.changed()
        self.face.render()

    def fit_views(self) -> None:
        """Show the whole spine, and the patient close up around the selected vertebra."""
        self.viewpoint.fit()
        if self.selected:
            self.viewpoint.center_patient(self.selected)
        self.viewpoint.follow_plane()
        self.face.changed()
        self.face.render()

    # -- how

    @property
    def _open_editor(self) -> Editor:
        if self.editor is None:
            raise VFQError("empty_scene", "No study is open. Analyse or open one first.")
        return self.editor

    def _go_to_change(self, do: Callable[[], object]) -> None:
        """Call undo or redo, and select what it changed; if that is gone, select what is nearest to its place."""
        journal, selected = self._open_editor.journal, self.selected
        before = dict(journal.state)
        do()
        ids = [i for i in {**before, **journal.state} if i != CURVE and before.get(i) != journal.state.get(i)]
        here = [i for i in self.order if i in ids]
        if selected in here:
            self.select(selected)
        elif here:
            self.select(here[0])
        elif ids:
            self.select(self.study.nearest(np.mean(before[ids[0]]["keypoints"], axis=(0, 1))))

    def _moved(self, vertebra_id: str) -> None:
        """Show, during a drag, only the measurements that depend on the dragged vertebra."""
        if self.selected != vertebra_id:
            self.study.select(vertebra_id)
            self.viewpoint.center_patient(vertebra_id, but=self._pressed)
            self.viewpoint.follow_plane()
        self.face.followed({vertebra_id, *self.study.followed})

    def _changed(self) -> None:
        """Show everything again after an action."""
        self.study.select(self.selected)  # its nodes may be new
        self.viewpoint.follow_plane()
        self.face.changed()
        self.face.render()
        self.face.acted()

    def _show_place(self) -> None:
        self.face.followed(())
        self.face.render()

    def _step(self, by: int) -> None:
        row = stepped_row(self.order, self.selected, by)
        if row:
            self.select(row)

    def _judge(self, verdict: str) -> None:
        ids = self.order
        at = ids.index(self.selected) if self.selected in ids else 0
        self._selected_do(lambda editor, i: self._review(editor, i, verdict))
        self._select_open(ids, at)

    def _select_open(self, ids: Sequence[str], at: int) -> None:
        """Select the next open one of `ids` after index `at`, else the first one."""
        left = [i for i in (*ids[at + 1 :], *ids[: at + 1]) if self.study.vertebrae[i].details["review"] == "open"]
        if left:
            self.select(left[0])

    def _review(self, editor: Editor, vertebra_id: str, verdict: str) -> None:
        """Set a verdict; an impossible vertebra is confirmed by a second press, with nothing in between."""
        markups = self.study.vertebrae[vertebra_id]
        anyway, self._asked = self._asked == (vertebra_id, markups.state()), None
        try:
            editor.review(vertebra_id, verdict, anyway)
        except VFQError as error:
            if error.code == "impossible_vertebra":
                self._asked = vertebra_id, markups.state()
            raise

    def _selected_do(self, do: Callable[[Editor, str], None]) -> None:
        if self.selected:
            do(self._open_editor, self.selected)

    def _add(self, points: np.ndarray) -> None:
        self.cancel()
        self.select(self._open_editor.add(points[-1]))

    def _place(self, points: np.ndarray) -> None:
        self.face.changed()
        if len(points) == len(POINT_NAMES):
            outlined = self.clicking.outlined()
            self.cancel()
            self.select(self._open_editor.place(outlined))

    def _rescue(self, points: np.ndarray) -> None:
        editor = self._open_editor

        def show(found: Rescued) -> None:
            """Show the new curve and its vertebrae."""
            if editor is not self.editor:
                return  # another study was opened meanwhile
            labels = {i: self.study.label(i) for i in self.order}
            place = self.study.vertebrae[self.selected].keypoints().mean((0, 1)) if self.selected else points[0]
            merged = editor.rescue(found)
            self.study.select(self.study.nearest(place))
            self.fit_views()
            self.face.tell(rescue_text(merged, [labels[i] for i in merged.lost]))

        known, present = editor.known(), editor.present_curve()
        self.face.changed()
        rescued = editor.machine.rescued
        self.face.work("rebuilding along your points", lambda: rescued(points, known, present), show)


def rest_text(study: StudyScene, ids: Sequence[str]) -> str:
    """Return what to ask the reader before the vertebrae `ids` are confirmed together."""
    left = [i for i in study.order if i not in ids and study.vertebrae[i].details["review"] == "open"]
    names = [", ".join(study.label(i) for i in each) for each in (ids, left)]
    others = f" To be judged one by one: {names[1]}." if left else ""
    return f"Confirm {len(ids)} vertebrae together: {names[0]}? Look at them, then press v again.{others}"
