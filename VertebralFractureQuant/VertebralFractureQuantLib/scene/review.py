"""The review of one study: what a key, a button or a click does, whichever face it comes from.

Holds no measurement: it calls `Editor` and tells the face what to show anew. All of it runs in the thread to which MRML
belongs; what takes long is handed to the face's `work`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Protocol, TypeVar

import numpy as np

from ..analysis import Models
from ..errors import VFQError, as_coded
from ..report.markups import POINT_NAMES
from ..report.outputs import MACHINE_NAME
from ..report.reviews import write_review
from ..spine.curve import SpineCurve
from ..spine.genant import crush_neighbourhood
from ..spine.record import SpineAnalysis, read_analysis
from . import navigation
from .editor import Editor
from .guard import Guard, Reports
from .journal import Act, Journal
from .machine import Machine
from .opening import Prepared
from .placing import Placing
from .straight import ANTERIOR_MM, LATERAL_MM, Reformat, reformat
from .study import CURVE, StudyScene, first_state

T = TypeVar("T")

LATERAL_STEP_MM = 1.0
FEWEST_CLICKS = 3
JOURNAL_NAME = "review.sqlite"
POINTS = (
    "A+ upper anterior",
    "M+ upper middle",
    "P+ upper posterior",
    "P- lower posterior",
    "M- lower middle",
    "A- lower anterior",
)
UNSET = "A key point was unset in another module; it is put back. To take a vertebra out, delete or reject it here."
DETACHED = "A vertebra belongs under the study's own transform; it is put back there."
FOUND_AGAIN = (
    "The journal of this case's earlier review is gone. What was saved last is shown; undo leads back to the machine's."
)
UNSAVED_NAME = "review-unsaved.json"
NOWHERE = "They could not be put anywhere else either, and are lost."
HARDENED_MM = 0.1  # the transform is a grid, its inverse not exact
RENAMED = "Vertebrae are named here, by their level ([ and ]); the name that another module gave is taken back."


class Face(Protocol):
    """What a review needs of the program that shows it."""

    @property
    def straightened(self) -> Any:
        """The slice node of the view that shows the straightened reformat."""

    @property
    def patient(self) -> Sequence[Any]:
        """The slice nodes of the patient's views: sagittal, coronal, axial."""

    @property
    def cameras(self) -> Sequence[Any]:
        """The camera nodes of 3D views."""

    def opened(self) -> None:
        """A study is in the scene: put its volumes into the views."""

    def changed(self) -> None:
        """Anything may have changed: rows, their order, selection, mode, plane, window."""

    def followed(self, vertebra_ids: Collection[str]) -> None:
        """These vertebrae's numbers changed under a moving hand; without any, the selection or the plane did."""

    def acted(self) -> None:
        """An act is in the journal: save the files soon."""

    def render(self) -> None:
        """Pictures of all views, soon."""

    def tell(self, what: str | Exception) -> None:
        """A sentence for the person, or a failure of which one can be made."""

    def later(self, do: Callable[[], None]) -> None:
        """Call it once the event that is being handled is over."""

    def work(self, stage: str, do: Callable[[], T], then: Callable[[T], None]) -> None:
        """Call `do` in another thread and `then` with its result in this one; a failure of either is told."""


class CaseFiles:
    """The files in a case's folder that others read. Whichever thread writes last, the newest record stays."""

    def __init__(self, folder: Path, machine: SpineAnalysis | None):
        self._folder = folder
        self._machine = machine  # what the machine found
        self._lock = threading.Lock()
        self._asked = self._written = 0

    def writer(self, record: SpineAnalysis | None, problem: str) -> Callable[[], str]:
        """What writes a record (None: nothing was done to it yet), and returns why it is not on disk, or `problem`."""
        self._asked += 1
        turn = self._asked

        def write() -> str:
            with self._lock:
                if record is None or turn < self._written:
                    return problem
                self._written = turn
                try:
                    write_review(record, self._folder, self._machine)
                except Exception as error:
                    return as_coded(error).message
                return problem

        return write


class Review:
    """One person's review. The public methods without arguments are the actions of `keys.KEYS`.

    Attributes
    ----------
    editor, folder : of the study that is open, else None; `folder` is the case's, where acts and files go.
    mode : "add", "place" or "rescue" while clicks are taken; else None.
    outdated : whether the CT was changed after it was analysed.
    lateral : R of the straightened view's plane, mm. preset : the window, of `volumes.WINDOWS`.
    """

    def __init__(self, study: StudyScene, face: Face, who: str):
        self.study = study
        self.face = face
        self.who = who
        self._guard = Guard(
            study,
            Reports(
                removed=self._note_removed,
                lost=lambda: self._later(self._lost),
                unset=lambda i: self._later(lambda: self._put_back(i, UNSET)),
                renamed=lambda i: self._later(lambda: self._put_back(i, RENAMED)),
                detached=lambda i: self._later(lambda: self._attach(i)),
                ct_changed=self._outdate,
                closing=self._leave_scene,
            ),
        )
        self._forget()

    def _forget(self) -> None:
        self.editor: Editor | None = None
        self.folder: Path | None = None
        self.mode: str | None = None
        self.doubtful_first = False
        self.lateral = 0.0
        self.preset = "bone"
        self.outdated = False
        self._placing: Placing | None = None
        self._gone: set[str] = set()  # vertebrae whose nodes another's hand removed just now
        self._files: CaseFiles | None = None
        self._record: SpineAnalysis | None = None  # the study without its vertebrae

    # -- opening and closing

    def open(self, prepared: Prepared, folder: Path, models: Models | VFQError, ct_node: Any = None) -> None:
        """Show a study and what was done to it before, as `folder` tells it. VFQError `study_in_use`, ...: then it is
        not open. `models` may be the reason why there are none."""
        analysis, saved = prepared.analysis, _saved_without_journal(folder)
        journal = _journal(folder, first_state(analysis), analysis)
        try:
            journal.commit("load", {key: saved.get(key) for key in {*saved, *journal.state}} if saved else {}, self.who)
            taken_up = _take_up(journal, folder / UNSAVED_NAME)
            made = _along(prepared, np.asarray(journal.state[CURVE]["curve"]))
            self.study.open(prepared.ct, made, analysis, ct_node, journal.state)
            self._begin(journal, Machine.of(prepared.ct, models), folder, analysis)
        except Exception:
            journal.close()
            self._let_go(keep_nodes=False)  # what is not journalled must not be edited
            raise
        self.fit_views()
        if prepared.analysis.status != "ok" and not self.study.vertebrae:
            self.face.tell(f"{prepared.analysis.message} Or press s and click the spine yourself.")
        else:
            self.select(next(iter(self.order), None))
        if saved or taken_up:
            self.face.tell(taken_up or FOUND_AGAIN)

    def resume(self, machine: Machine, folder: Path, original: SpineAnalysis | None) -> None:
        """Go on with the study that a loaded scene holds (`StudyScene.reopen`); where the journal in `folder` knows
        another state, the scene's is one more act, which undo takes back. VFQError as `open`; the nodes stay."""
        try:
            journal = _journal(folder, self.study.state(), self.study.analysis())
        except Exception:
            self._let_go(keep_nodes=True)  # what is not journalled must not be edited
            raise
        try:
            self._begin(journal, machine, folder, original, scene_first=True)
        except Exception:
            journal.close()
            self._let_go(keep_nodes=True)
            raise
        self.study.show_window(self.preset)
        self.fit_views()
        self.select(next(iter(self.order), None))

    def _begin(
        self,
        journal: Journal,
        machine: Machine,
        folder: Path,
        original: SpineAnalysis | None,
        scene_first: bool = False,
    ) -> None:
        self._forget()
        self.editor = Editor(self.study, journal, machine, self.who, scene_first)
        self.editor.changed = self._changed
        self.editor.moved = self._moved
        self.folder, self._files = folder, CaseFiles(folder, original)
        self._record = replace(self.study.analysis(), vertebrae=())
        self._guard.watch()
        self.face.opened()
        self.face.acted()

    def settle(self) -> None:
        """Leave no click and no drag half done, as before closing."""
        self._end_clicks()
        if self.editor:
            self.editor.finish_drag()

    def close(self, keep_nodes: bool = False) -> None:
        """Let go of the study; `keep_nodes` leaves its nodes to a scene that is being closed. Call `settle` and save
        before. VFQError `output_not_writable` where acts cannot be written: then it stays open."""
        if self.editor:
            self.editor.journal.flush()
            if self.editor.journal.unsaved:
                raise VFQError("output_not_writable", f"This case stays open: {self.editor.journal.problem}")
        self._let_go(keep_nodes)

    def _let_go(self, keep_nodes: bool) -> None:
        if self.editor:
            self.editor.journal.close()
        self._guard.leave()
        self._forget()
        if keep_nodes:
            self.study.release()
        else:
            self.study.close()
        self.face.changed()

    def abandon(self, keep_nodes: bool = False) -> None:
        """At the very end: acts that their own disk refuses are put elsewhere. VFQError which says where."""
        try:
            self.close(keep_nodes)
        except VFQError as error:
            assert self.editor is not None
            acts = [asdict(act) for act in self.editor.journal.unsaved_acts()]
            kept = _put_elsewhere(acts)
            problem = f"{len(acts)} acts could not be written into the case's folder."
            self._let_go(keep_nodes)
            told = f"They lie in {kept}: put that file into the case's folder as {UNSAVED_NAME}, and open the case."
            raise VFQError(error.code, f"{problem} {told if kept else NOWHERE}") from error

    def saving(self) -> Callable[[], str]:
        """What writes the files that others read, for any thread; it returns what is not on disk and why, or "".

        The journal has each act already; here it is also given what its disk refused before.
        """
        assert self.editor and self._files
        journal, dragged = self.editor.journal, self.editor.dragged
        journal.flush()
        try:
            held = {dragged: np.asarray(journal.state[dragged]["keypoints"])} if dragged else None
            record = self.study.analysis(held)
        except Exception as error:
            problem = as_coded(error).message
            return lambda: problem
        return self._files.writer(record if journal.trail() else None, journal.problem or "")

    # -- what is shown

    @property
    def order(self) -> list[str]:
        """The vertebrae's ids as they are listed."""
        return self.editor.by_doubt() if self.editor and self.doubtful_first else self.study.order

    @property
    def selected(self) -> str | None:
        """The selected vertebra's id."""
        return self.study.selected

    @property
    def clicks(self) -> int:
        """How many clicks were taken in this mode."""
        return len(self._placing.points()) if self._placing else 0

    @property
    def hint(self) -> str:
        """What to click next, and what the keys do meanwhile; "" where no click is taken."""
        if self.mode == "add":
            return "Click the middle of the vertebra in the straightened picture. Esc: leave it."
        if self.mode == "place":
            following = POINTS[min(self.clicks, len(POINTS) - 1)]
            return (
                f"Click {following} in the straightened picture ({self.clicks} of 6). Del: last click. Esc: leave it."
            )
        if self.mode == "rescue":
            return (
                f"Click the middles of three or more vertebral bodies in the patient's views ({self.clicks} so far), "
                "scrolling as you need. Enter: rebuild along them. Del: last click. Esc: leave it."
            )
        return ""

    # -- what a hand does

    def act(self, action: str, *args: Any) -> None:
        """Do an action by its name. A refusal is told; nothing else happens."""
        try:
            if self.editor:
                getattr(self, action)(*args)
        except Exception as error:
            self.face.tell(error)

    def select(self, vertebra_id: str | None) -> None:
        """Mark a vertebra and bring it into the middle of the views."""
        self.study.select(vertebra_id)
        if vertebra_id:
            middle = self.study.vertebrae[vertebra_id].straight().mean((0, 1))
            navigation.center_within(self.face.straightened, middle, self.study.straightening.curve.length)
            self._center_patient(vertebra_id)
        self.face.followed(())
        self.face.render()

    def pick(self, view: Any, point: np.ndarray) -> None:
        """A press at `point` `(3,)` of a view's own world, of which `view` is the slice node: the vertebra under it is
        selected, and the patient's other views go there."""
        if not self.editor or self._placing:
            return
        found = self.study.at(point, straightened=view is self.face.straightened)
        if found and found != self.selected:
            self.study.select(found)
            self._center_patient(found, but=view)
            self.face.followed(())
            self.face.render()

    def move_lateral(self, lateral: float) -> None:
        """The sagittal plane of the straightened view to R = `lateral` mm."""
        self.lateral = float(np.clip(lateral, -LATERAL_MM, LATERAL_MM))
        navigation.move_lateral(self.face.straightened, self.lateral)
        self.face.followed(())
        self.face.render()

    def scrolled(self) -> None:
        """The wheel moved the straightened plane."""
        lateral = round(navigation.lateral_mm(self.face.straightened), 2)
        if self.editor and lateral != self.lateral:
            self.lateral = lateral
            self.face.followed(())

    def name(self, vertebra_id: str, level: str) -> None:
        """Name a vertebra; the others follow."""
        self._editor.name(vertebra_id, level)

    # -- the actions of the keyboard

    def next_vertebra(self) -> None:
        """Select the next row."""
        self._step(1)

    def previous_vertebra(self) -> None:
        """Select the row before."""
        self._step(-1)

    def toggle_order(self) -> None:
        """Doubtful first, or cranial first."""
        self.doubtful_first = not self.doubtful_first
        self.face.changed()

    def confirm(self) -> None:
        """Confirm the selected vertebra."""
        self._judge("confirmed")

    def reject(self) -> None:
        """Reject the selected vertebra."""
        self._judge("rejected")

    def reopen(self) -> None:
        """Open the selected vertebra again."""
        self._selected_do(lambda editor, i: editor.review(i, "open"))

    def undo(self) -> None:
        """Take the last act back."""
        self._editor.undo()

    def redo(self) -> None:
        """Do it again."""
        self._editor.redo()

    def level_up(self) -> None:
        """One level higher."""
        self._selected_do(lambda editor, i: editor.shift_level(i, -1))

    def level_down(self) -> None:
        """One level lower."""
        self._selected_do(lambda editor, i: editor.shift_level(i, 1))

    def toggle_pin(self) -> None:
        """Pin the selected vertebra's name, or let it follow."""
        self._selected_do(lambda editor, i: editor.pin(i, not self.study.vertebrae[i].details["pinned"]))

    def reset(self) -> None:
        """Back to the machine's points."""
        self._selected_do(lambda editor, i: editor.reset(i))

    def delete(self) -> None:
        """Delete the selected vertebra; while clicking, the last click."""
        if self._placing:
            self._placing.take_back()
            self.face.changed()
        else:
            following = self._following()
            self._selected_do(lambda editor, i: editor.delete(i))
            self.select(following)

    def start_adding(self) -> None:
        """The next click in the straightened view is a vertebra."""
        self._start_clicks("add", self.study.views.straightened, (), self._add)

    def start_placing(self) -> None:
        """The next six clicks in the straightened view are a vertebra's points."""
        self._start_clicks("place", self.study.views.straightened, POINT_NAMES, self._place)

    def start_rescue(self) -> None:
        """Clicks in the patient's views are points of the spine."""
        self._start_clicks("rescue", self.study.views.patient, (), lambda _: self.face.changed())

    def finish_clicks(self) -> None:
        """Rebuild along the clicks."""
        if self.mode != "rescue" or not self._placing:
            return
        points = self._placing.points()
        if len(points) < FEWEST_CLICKS:
            raise VFQError("too_few_points", f"{len(points)} points are clicked; a curve needs {FEWEST_CLICKS}.")
        self._end_clicks()
        self._rescue(points)

    def cancel(self) -> None:
        """Leave clicking."""
        self._end_clicks()
        self.face.changed()

    def lateral_left(self) -> None:
        """The sagittal plane to the patient's left."""
        self.move_lateral(self.lateral - LATERAL_STEP_MM)

    def lateral_right(self) -> None:
        """The sagittal plane to the patient's right."""
        self.move_lateral(self.lateral + LATERAL_STEP_MM)

    def toggle_window(self) -> None:
        """Bone or soft tissue."""
        self.preset = "soft" if self.preset == "bone" else "bone"
        self.study.show_window(self.preset)
        self.face.changed()

    def fit_views(self) -> None:
        """The whole spine; close-ups of the patient around its middle."""
        length = self.study.straightening.curve.length
        self.lateral = 0.0
        navigation.fit(self.face.straightened, (0.0, 0.0, -length / 2), 2 * ANTERIOR_MM, length)
        middle = self.study.straightening.to_patient(np.array([0.0, 0.0, -length / 2]))
        for node in self.face.patient:
            navigation.fit(node, middle, navigation.CLOSE_UP_MM, navigation.CLOSE_UP_MM)
        for camera in self.face.cameras:
            navigation.look_from_left(camera, middle, length)
        self.face.changed()
        self.face.render()

    # -- what others do to the nodes

    def _note_removed(self, vertebra_id: str) -> None:
        if not self._gone:
            self._later(self._delete_gone)
        self._gone.add(vertebra_id)

    def _delete_gone(self) -> None:
        """What another's hand removed together is one act like any other; unless the CT went too."""
        gone, self._gone = sorted(self._gone & set(self.study.vertebrae)), set()
        if self.editor and gone and self.study.nodes["ct"].GetScene() is not None:
            labels = ", ".join(map(self.study.label, gone))
            self.editor.delete(*gone)
            self.face.tell(f"Deleted in another module: {labels}. Undo brings back.")

    def _lost(self) -> None:
        """Other nodes are gone: the study is built anew from its journal; without its CT it is then closed."""
        self._delete_gone()
        if not self.editor or self.study.intact:
            return
        if self.study.nodes["ct"].GetScene() is None:
            self.settle()
            self._rebuild()
            problem = self.saving()()
            self.close()
            self.face.tell(problem or "The CT was removed from the scene: its review is saved and closed.")
        else:
            self._rebuild()
            self.face.tell("Nodes of the study were removed; they are made anew. To close a study, close its scene.")
            self.face.changed()

    def _rebuild(self) -> None:
        editor, record, selected = self._editor, self._record, self.selected
        assert record is not None
        ct, state, ct_node = editor.machine.ct, editor.journal.state, self.study.nodes["ct"]
        made = reformat(ct, SpineCurve(np.asarray(state[CURVE]["curve"])))
        self.study.open(ct, made, record, ct_node if ct_node.GetScene() else None, state)
        self.study.show_window(self.preset)
        editor.listen()
        self._guard.watch()
        self.face.opened()
        self.study.select(selected if selected in self.study.vertebrae else None)

    def _attach(self, vertebra_id: str) -> None:
        """A vertebra was put under another transform, or its own was hardened into its points."""
        if self.editor and vertebra_id in self.study.vertebrae:
            self.study.attach(vertebra_id)
            if self._was_hardened(vertebra_id):
                self.editor.undo()
            self._put_back(vertebra_id, DETACHED)

    def _was_hardened(self, vertebra_id: str) -> bool:
        """Whether the last act made straight coordinates of a vertebra's points."""
        act = next(iter(self._editor.journal.trail()[-1:]), None)
        if act is None or act.kind != "move" or vertebra_id not in act.changes:
            return False
        before, after = (np.asarray(state["keypoints"]) for state in act.changes[vertebra_id])
        return bool(np.allclose(self.study.straightening.to_straight(before), after, atol=HARDENED_MM))

    def _put_back(self, vertebra_id: str, sentence: str) -> None:
        if self.editor and vertebra_id in self.study.vertebrae:
            self.study.put({vertebra_id: self.editor.journal.state[vertebra_id]})
            self.face.tell(sentence)

    def _outdate(self) -> None:
        if not self.outdated:
            self.outdated = True
            self.face.tell("The CT was changed after it was analysed: points and numbers belong to what it was before.")
            self.face.changed()

    def _leave_scene(self) -> None:
        """The scene is about to be closed, with all nodes: everything is saved first."""
        if not self.editor:
            return
        self.settle()
        problem = self.saving()()
        try:
            self.abandon(keep_nodes=True)
        except VFQError as error:
            problem = error.message
        if problem:
            self.face.tell(problem)
        self.face.changed()

    # -- how

    @property
    def _editor(self) -> Editor:
        if self.editor is None:
            raise VFQError("empty_scene", "No study is open. Analyse or open one first.")
        return self.editor

    def _moved(self, vertebra_id: str) -> None:
        """Live: only the numbers that the points under the finger change."""
        order = self.study.order
        near = {order[i] for i in crush_neighbourhood(order.index(vertebra_id), len(order))}
        if self.selected != vertebra_id:
            self.study.select(vertebra_id)
        self.face.followed(near)

    def _changed(self) -> None:
        """After an act."""
        self.study.select(self.selected)  # its nodes may be new
        self.face.changed()
        self.face.render()
        self.face.acted()

    def _center_patient(self, vertebra_id: str, but: Any = None) -> None:
        middle = self.study.vertebrae[vertebra_id].keypoints().mean((0, 1))
        for node in self.face.patient:
            if node is not but:
                navigation.center_on(node, middle)
        for camera in self.face.cameras:
            navigation.look_at(camera, middle)

    def _step(self, by: int) -> None:
        ids = self.order
        if ids:
            at = ids.index(self.selected) + by if self.selected in ids else 0
            self.select(ids[min(max(at, 0), len(ids) - 1)])

    def _following(self) -> str | None:
        """The row after the selected one, or before it where it is the last."""
        ids = self.order
        at = ids.index(self.selected) if self.selected in ids else len(ids)
        return next(iter((*ids[at + 1 :], *reversed(ids[:at]))), None)

    def _judge(self, verdict: str) -> None:
        ids = self.order
        at = ids.index(self.selected) if self.selected in ids else 0
        self._selected_do(lambda editor, i: editor.review(i, verdict))
        left = [i for i in (*ids[at + 1 :], *ids[:at]) if self.study.vertebrae[i].details["review"] == "open"]
        if left:
            self.select(left[0])

    def _selected_do(self, do: Callable[[Editor, str], None]) -> None:
        if self.selected:
            do(self._editor, self.selected)

    def _start_clicks(
        self, mode: str, views: Sequence[str], labels: Sequence[str], clicked: Callable[[np.ndarray], None]
    ) -> None:
        self._end_clicks()
        self._placing = Placing(self.study.scene, views, labels, lambda points: self._later(lambda: clicked(points)))
        self.mode = mode
        self.face.changed()
        self.face.render()

    def _end_clicks(self) -> None:
        if self._placing:
            self._placing.end()
        self._placing = self.mode = None

    def _later(self, do: Callable[[], None]) -> None:
        """MRML's events arrive while their nodes are in use, which must not vanish under them: answer after it."""

        def answer() -> None:
            try:
                do()
            except Exception as error:
                self.face.tell(error)

        self.face.later(answer)

    def _add(self, points: np.ndarray) -> None:
        self.cancel()
        self.select(self._editor.add(points[-1]))

    def _place(self, points: np.ndarray) -> None:
        self.face.changed()
        if len(points) == len(POINT_NAMES):
            self.cancel()
            self.select(self._editor.place(points))

    def _rescue(self, points: np.ndarray) -> None:
        editor = self._editor

        def show(found: Any) -> None:
            analysis, made = found
            if editor is not self.editor:
                return  # another study was opened meanwhile
            editor.rescue(analysis, made)
            self.fit_views()
            self.face.tell(
                f"{len(analysis.vertebrae)} vertebrae found along your points. Those that nobody had touched gave way; "
                "undo brings them back."
            )

        self.face.changed()
        self.face.work("rebuilding along your points", lambda: editor.machine.along(points), show)


def _journal(folder: Path, original: dict[str, Any], analysis: SpineAnalysis) -> Journal:
    folder.mkdir(parents=True, exist_ok=True)
    return Journal(folder / JOURNAL_NAME, original, {"models": [vars(stamp) for stamp in analysis.models]})


def _saved_without_journal(folder: Path) -> dict[str, Any] | None:
    """What an earlier review came to, where its journal was lost or moved away but its files are there. VFQError as
    `read_analysis`."""
    journal = folder / JOURNAL_NAME
    if not (folder / MACHINE_NAME).exists() or (journal.exists() and journal.stat().st_size):
        return None
    return first_state(read_analysis(folder / "analysis.json"))


def _put_elsewhere(acts: list[dict[str, Any]]) -> Path | None:
    """The file, in the person's home or where temporary ones lie, that holds acts; None where neither takes it."""
    for place in (Path(os.path.expanduser("~")), Path(gettempdir())):
        path = place / f"vfq-unsaved-{datetime.now():%Y%m%d-%H%M%S-%f}.json"
        try:
            path.write_text(json.dumps(acts), encoding="utf-8")
            return path
        except OSError:
            with suppress(OSError):
                path.unlink()
    return None


def _take_up(journal: Journal, file: Path) -> str:
    """Add the acts of a file of `_put_elsewhere`, and what to tell of it; "" without one. Where they are in the journal
    the file is called so."""
    if not file.exists():
        return ""
    try:
        found = json.loads(file.read_text("utf-8"))
        acts = [Act(**{**act, "changes": {k: tuple(v) for k, v in act["changes"].items()}}) for act in found]
        if not journal.take_up(acts):
            return f"{file.name} does not follow the acts in the journal; it was left as it is."
        if not journal.unsaved:
            file.replace(file.with_name(f"taken-up-{file.name}"))
        return f"{len(acts)} acts that could not be written last time are back."
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return f"{file.name} cannot be read; it was left as it is."


def _along(prepared: Prepared, curve: np.ndarray) -> Reformat:
    """The reformat along a curve's points `(n, 3)` RAS mm: the one that is made ready, where it is along them."""
    if np.array_equal(prepared.made.straightening.curve.points, curve):
        return prepared.made
    return reformat(prepared.ct, SpineCurve(curve))
