"""The review of a worklist in the browser: what a key or a button does, and what the page's state says.

Holds no measurement: it calls `scene.Editor` and shows what comes back. All of it runs in the server's one event loop;
only reading and analysing a case leave it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Any

import numpy as np
from trame_slicer.views import SliceView

from ..analysis import Models, load_models
from ..cohort.jobs import JobState
from ..cohort.worklist import Case, case_status
from ..errors import CODES, VFQError, as_coded
from ..genant import crush_neighbourhood
from ..journal import Journal
from ..levels import NAMES
from ..record import SpineAnalysis
from ..report.markups import POINT_NAMES
from ..report.outputs import write_review
from ..scene import navigation
from ..scene.editor import Editor
from ..scene.machine import Machine
from ..scene.placing import Placing
from ..scene.straight import ANTERIOR_MM, LATERAL_MM
from ..scene.study import StudyScene
from .cases import CaseLoader, Prepared
from .keys import ACTIONS
from .table import row, rows, summary
from .views import ReviewViews

SAVE_AFTER_S = 0.5
RETRY_S = 5.0
FLUSH_S = 0.1  # until the page has shown what it was told
LATERAL_STEP_MM = 1.0
FEWEST_CLICKS = 3

STATE: dict[str, Any] = {
    "case_name": "",
    "worklist": [],
    "rows": [],
    "summary": {},
    "selected": None,
    "doubtful_first": False,
    "undoable": None,
    "redoable": None,
    "lateral": 0.0,
    "preset": "bone",
    "mode": None,
    "clicks": 0,
    "hint": "",
    "message": "",
    "busy": None,
    "unsaved": "",
    "tabs": 1,
    "help_open": False,
    "worklist_open": False,
    "names": list(NAMES),
}


class Session:
    """One person's review. `open_case` shows a case; the other public methods are the actions of `keys.KEYS`."""

    def __init__(
        self, server: Any, views: ReviewViews, cases: Sequence[Case], loader: CaseLoader, who: str, shown: bool
    ):
        self.server = server
        self.views = views
        self.cases = list(cases)
        self.loader = loader
        self.who = who
        self.show_names = shown
        self.study = StudyScene(views.app.scene, views.ids())
        self.editor: Editor | None = None
        self.case: Case | None = None
        self._machine: SpineAnalysis | None = None  # what the machine found in the case that is open
        self._placing: Placing | None = None
        self._models: Models | VFQError | None = None
        self._saving: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._turn = 0
        self.state.update({**STATE, "worklist": [self._work(i, case) for i, case in enumerate(self.cases)]})
        views.straightened.modified.connect(self._scrolled)
        for view in (views.straightened, views.patient[0]):
            view.interactor().AddObserver("LeftButtonPressEvent", lambda *_, view=view: self.pick(view))

    @property
    def state(self) -> Any:
        """The page's state; what is set here, the page shows."""
        return self.server.state

    # -- cases

    async def open_case(self, index: int) -> None:
        """Show a case of the worklist; what was open is saved and closed. Of two in a hurry, the later one is shown."""
        self._turn += 1
        turn, case = self._turn, self.cases[index]
        try:
            await self.close_case()
        except VFQError as error:
            self._tell(error)
            return
        if turn != self._turn:
            return
        self.case = case
        self.loader.keep(self.cases[max(0, index - 1) : index + 2])
        self._show_opening(index)
        try:
            prepared = await self.loader.get(case)
            if turn == self._turn:
                with self.state:
                    self._show(prepared)
        except asyncio.CancelledError:
            return
        except Exception as error:
            if turn == self._turn:
                self.study.close()  # what is not journalled must not be edited
                self._tell(error)
        if turn == self._turn:
            with self.state:
                self.state.busy = None
                self._show_work(index)
            for following in self.cases[index + 1 : index + 2]:
                self.loader.prefetch(following)

    async def close_case(self) -> None:
        """Save and close the study that is open. VFQError `output_not_writable` where acts cannot be written: then it
        stays open."""
        self._end_clicks()
        if self.editor and self.case:
            self.editor.finish_drag()
            await self._save(self.editor, self.case)
            if self.editor.journal.unsaved:
                raise VFQError("output_not_writable", f"This case stays open: {self.editor.journal.problem}")
            self.editor.journal.close()
        self.editor = None
        self.study.close()

    async def end(self) -> None:
        """Save and close before the server stops; acts that their own disk refuses are put elsewhere.

        VFQError `output_not_writable`, which says where.
        """
        try:
            await self.close_case()
        except VFQError as error:
            assert self.editor is not None
            acts = [asdict(act) for act in self.editor.journal.unsaved_acts()]
            with NamedTemporaryFile("w", prefix="vfq-unsaved-", suffix=".json", delete=False) as file:
                json.dump(acts, file)
            raise VFQError(error.code, f"{error.message} The acts that are not in it lie in {file.name}.") from error

    def _show_opening(self, index: int) -> None:
        listed = [{**w, "current": w["index"] == index} for w in self.state.worklist]
        fresh = {"case_name": self._name(index), "busy": {"stage": "opening", "share": None}, "worklist": listed}
        with self.state:
            self.state.update({**STATE, **fresh, "tabs": self.state.tabs})

    def _show(self, prepared: Prepared) -> None:
        case, self._machine = prepared.case, prepared.analysis
        self.study.open(prepared.ct, prepared.made, prepared.analysis)
        models = self._networks()
        machine = Machine(prepared.ct, *((None, models) if isinstance(models, VFQError) else (models, None)))
        context = {"models": [vars(stamp) for stamp in prepared.analysis.models]}
        case.folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(case.folder / "review.sqlite", self.study.state(), context)
        self.editor = Editor(self.study, journal, machine, self.who)
        self.editor.changed = self._changed
        self.editor.moved = self._moved
        self.views.show(self.study.nodes["straightened"], self.study.nodes["ct"])
        self.fit_views()
        self._changed()
        if prepared.analysis.status != "ok" and not self.study.vertebrae:
            self.state.message = f"{prepared.analysis.message} Or press s and click the spine yourself."
        elif self.state.rows:
            self.select(self.state.rows[0]["id"])

    def _networks(self) -> Models | VFQError:
        if self._models is None:
            try:
                self._models = load_models("cpu")
            except VFQError as error:
                self._models = error
        return self._models

    # -- what a hand does

    def select(self, vertebra_id: str | None) -> None:
        """Mark a vertebra and bring it into the middle of the views."""
        self._select(vertebra_id)
        if vertebra_id:
            middle = self.study.vertebrae[vertebra_id].straight().mean((0, 1))
            navigation.center_within(self._straightened, middle, self.study.straightening.curve.length)
            self._center_patient(vertebra_id, self.views.patient)
        self.views.render()

    def _select(self, vertebra_id: str | None) -> None:
        self.study.select(vertebra_id)
        self.state.selected = vertebra_id

    def _center_patient(self, vertebra_id: str, views: Sequence[SliceView]) -> None:
        middle = self.study.vertebrae[vertebra_id].keypoints().mean((0, 1))
        for view in views:
            navigation.center_on(view.get_view_node(), middle)
            view.schedule_render()

    def act(self, action: str, *args: Any) -> None:
        """Do an action by its name. A refusal becomes a message; nothing else happens."""
        try:
            with self.state:
                self.state.message = ""
                if action in ALWAYS or self.editor:
                    getattr(self, action)(*args)
        except Exception as error:
            self._tell(error)

    def press(self, key: str) -> None:
        """A key of `keys.KEYS`."""
        if key in ACTIONS:
            self.act(ACTIONS[key])

    def _moved(self, vertebra_id: str) -> None:
        """Live: only the rows that the points under the finger change."""
        order = self.study.order
        near = {order[i] for i in crush_neighbourhood(order.index(vertebra_id), len(order))}
        with self.state:
            self.state.rows = [
                row(self.study, r["id"], r["contradiction"]) if r["id"] in near else r for r in self.state.rows
            ]
            self.state.summary = summary(self.study)
            if self.state.selected != vertebra_id:
                self._select(vertebra_id)

    def _changed(self) -> None:
        """After an act: everything, and to disk."""
        assert self.editor is not None
        with self.state:
            order = self.editor.by_doubt() if self.state.doubtful_first else self.study.order
            self.state.rows = rows(self.study, order)
            self.state.summary = summary(self.study)
            self.state.undoable, self.state.redoable = self.editor.journal.undoable, self.editor.journal.redoable
            self.state.unsaved = self.editor.journal.problem or ""
            if self.study.selected not in self.study.vertebrae:
                self.state.selected = None
            self._select(self.state.selected)
        self.views.render()
        self._save_soon()

    # -- the actions of the keyboard

    def next_vertebra(self) -> None:
        """Select the next row."""
        self._step(1)

    def previous_vertebra(self) -> None:
        """Select the row before."""
        self._step(-1)

    def toggle_order(self) -> None:
        """Doubtful first, or cranial first."""
        self.state.doubtful_first = not self.state.doubtful_first
        self._changed()

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
        if self.editor:
            self.editor.undo()

    def redo(self) -> None:
        """Do it again."""
        if self.editor:
            self.editor.redo()

    def level_up(self) -> None:
        """One level higher."""
        self._selected_do(lambda editor, i: editor.shift_level(i, -1))

    def level_down(self) -> None:
        """One level lower."""
        self._selected_do(lambda editor, i: editor.shift_level(i, 1))

    def name(self, vertebra_id: str, level: str) -> None:
        """Name a vertebra; the others follow."""
        if self.editor:
            self.editor.name(vertebra_id, level)

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
            self.state.clicks = len(self._placing.points())
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
        self._start_clicks("rescue", self.study.views.patient, (), self._count)

    def finish_clicks(self) -> None:
        """Rebuild along the clicks."""
        if self.state.mode != "rescue" or not self._placing:
            return
        points = self._placing.points()
        if len(points) < FEWEST_CLICKS:
            raise VFQError("too_few_points", f"{len(points)} points are clicked; a curve needs {FEWEST_CLICKS}.")
        self._end_clicks()
        asyncio.get_running_loop().create_task(self._rescue(points))

    def cancel(self) -> None:
        """Leave clicking; close what is open over the page; stop an analysis that runs."""
        self._end_clicks()
        if self.case and self.state.busy:
            self.loader.cancel(self.case.name)
        self.state.update({"message": "", "help_open": False, "worklist_open": False})

    def lateral_left(self) -> None:
        """The sagittal plane to the patient's left."""
        self.move_lateral(self.state.lateral - LATERAL_STEP_MM)

    def lateral_right(self) -> None:
        """The sagittal plane to the patient's right."""
        self.move_lateral(self.state.lateral + LATERAL_STEP_MM)

    def move_lateral(self, lateral: float) -> None:
        """The sagittal plane of the straightened view to R = `lateral` mm."""
        self.state.lateral = float(np.clip(lateral, -LATERAL_MM, LATERAL_MM))
        navigation.move_lateral(self._straightened, self.state.lateral)
        self.views.straightened.schedule_render()

    def toggle_window(self) -> None:
        """Bone or soft tissue."""
        self.state.preset = "soft" if self.state.preset == "bone" else "bone"
        self.study.show_window(self.state.preset)

    def fit_views(self) -> None:
        """The whole spine; close-ups of the patient around its middle."""
        length = self.study.straightening.curve.length
        self.state.lateral = 0.0
        navigation.fit(self._straightened, (0.0, 0.0, -length / 2), 2 * ANTERIOR_MM, length)
        middle = self.study.straightening.to_patient(np.array([0.0, 0.0, -length / 2]))
        for view in self.views.patient:
            navigation.fit(view.get_view_node(), middle, navigation.CLOSE_UP_MM, navigation.CLOSE_UP_MM)
        self.views.render()

    def next_case(self) -> None:
        """The next case of the worklist."""
        self._other_case(1)

    def previous_case(self) -> None:
        """The case before."""
        self._other_case(-1)

    def toggle_help(self) -> None:
        """The list of keys."""
        self.state.help_open = not self.state.help_open

    # -- the actions of the mouse alone

    def show_case(self, index: int) -> None:
        """A case by its place in the worklist."""
        self.state.worklist_open = False
        asyncio.get_running_loop().create_task(self.open_case(index))

    def save_scene(self) -> None:
        """The whole scene for desktop Slicer, into the case's folder."""
        self.state.busy = {"stage": "saving the scene for 3D Slicer", "share": None}
        asyncio.get_running_loop().create_task(self._save_scene())

    def pick(self, view: SliceView) -> None:
        """A press in a view that shows all vertebrae: the one under it is selected, the patient's views go there."""
        if not self.editor or self._placing:
            return
        found = self.study.at(_pressed(view), straightened=view is self.views.straightened)
        if found and found != self.state.selected:
            with self.state:
                self._select(found)
                self._center_patient(found, [v for v in self.views.patient if v is not view])

    def tabs_changed(self, count: int) -> None:
        """Another tab came or went; a drag whose tab was closed is over, for the views too."""
        with self.state:
            gone, self.state.tabs = count < self.state.tabs, count
            if gone:
                self.views.release()
            if gone and self.editor:
                self.editor.finish_drag()

    # -- how

    @property
    def _straightened(self) -> Any:
        return self.views.straightened.get_view_node()

    def _step(self, by: int) -> None:
        ids = [r["id"] for r in self.state.rows]
        if ids:
            at = ids.index(self.state.selected) + by if self.state.selected in ids else 0
            self.select(ids[min(max(at, 0), len(ids) - 1)])

    def _following(self) -> str | None:
        """The row after the selected one, or before it where it is the last."""
        ids = [r["id"] for r in self.state.rows]
        at = ids.index(self.state.selected) if self.state.selected in ids else len(ids)
        return next(iter((*ids[at + 1 :], *reversed(ids[:at]))), None)

    def _judge(self, verdict: str) -> None:
        ids = [r["id"] for r in self.state.rows]
        at = ids.index(self.state.selected) if self.state.selected in ids else 0
        self._selected_do(lambda editor, i: editor.review(i, verdict))
        left = [i for i in (*ids[at + 1 :], *ids[:at]) if self.study.vertebrae[i].details["review"] == "open"]
        if left:
            self.select(left[0])

    def _selected_do(self, do: Callable[[Editor, str], None]) -> None:
        if self.editor and self.state.selected:
            do(self.editor, self.state.selected)

    def _start_clicks(
        self, mode: str, views: Sequence[str], labels: Sequence[str], clicked: Callable[[np.ndarray], None]
    ) -> None:
        self._end_clicks()
        self._placing = Placing(self.study.scene, views, labels, lambda points: self._guarded(clicked, points))
        self.state.update({"mode": mode, "clicks": 0, "message": ""})
        self.views.render()

    def _end_clicks(self) -> None:
        if self._placing:
            self._placing.end()
            self._placing = None
        self.state.update({"mode": None, "clicks": 0})

    def _guarded(self, clicked: Callable[[np.ndarray], None], points: np.ndarray) -> None:
        """A click arrives from within MRML's event, whose nodes must not vanish under it: answer after it."""

        def answer() -> None:
            try:
                with self.state:
                    clicked(points)
            except Exception as error:
                self._tell(error)

        asyncio.get_running_loop().call_soon(answer)

    def _add(self, points: np.ndarray) -> None:
        self._end_clicks()
        if self.editor:
            self.select(self.editor.add(points[-1]))

    def _place(self, points: np.ndarray) -> None:
        self._count(points)
        if len(points) == len(POINT_NAMES) and self.editor:
            self._end_clicks()
            self.select(self.editor.place(points))

    def _count(self, points: np.ndarray) -> None:
        self.state.clicks = len(points)

    async def _rescue(self, points: np.ndarray) -> None:
        assert self.editor is not None
        editor = self.editor
        with self.state:
            self.state.busy = {"stage": "rebuilding along your points", "share": None}
        try:
            analysis, made = await asyncio.to_thread(editor.machine.along, points)
            with self.state:
                editor.rescue(analysis, made)
                self.fit_views()
                self.state.message = (
                    f"{len(analysis.vertebrae)} vertebrae found along your points. Those that nobody had touched gave "
                    "way; undo brings them back."
                )
        except Exception as error:
            self._tell(error)
        finally:
            with self.state:
                self.state.busy = None

    async def _save_scene(self) -> None:
        """MRML belongs to this thread, so the page waits; a moment earlier it is told so."""
        assert self.case is not None
        path = self.case.folder / "review.mrb"
        await asyncio.sleep(FLUSH_S)
        partial = Path(mkdtemp(prefix=".saving-", dir=self.case.folder)) / path.name
        try:
            if not self.views.app.io_manager.save_scene(partial):
                raise VFQError(
                    "output_not_writable", "The scene could not be written. Check the folder and the free space."
                )
            partial.replace(path)
            with self.state:
                self.state.message = f"{path.name} is in the case's folder; open it in 3D Slicer."
        except Exception as error:
            self._tell(error)
        finally:
            shutil.rmtree(partial.parent, ignore_errors=True)
            with self.state:
                self.state.busy = None

    def _scrolled(self, _: Any) -> None:
        """The wheel moves the straightened plane as the slider does."""
        lateral = round(navigation.lateral_mm(self._straightened), 2)
        if lateral != self.state.lateral:
            with self.state:
                self.state.lateral = lateral

    def _other_case(self, by: int) -> None:
        at = (self.cases.index(self.case) if self.case else 0) + by
        if not 0 <= at < len(self.cases):
            raise VFQError("no_other_case", "This is the last case." if by > 0 else "This is the first case.")
        self.show_case(at)

    def _save_soon(self) -> None:
        if self._saving is None or self._saving.done():
            self._saving = asyncio.get_running_loop().create_task(self._save_later())

    async def _save_later(self) -> None:
        await asyncio.sleep(SAVE_AFTER_S)
        while self.editor and self.case:
            await self._save(self.editor, self.case)
            if not self.state.unsaved:
                return
            await asyncio.sleep(RETRY_S)

    async def _save(self, editor: Editor, case: Case) -> None:
        """The journal has each act already; this writes the files that others read, and what the journal could not."""
        editor.journal.flush()
        record, problem = self.study.analysis(), editor.journal.problem
        if editor.journal.trail():
            async with self._writing:
                try:
                    await asyncio.to_thread(write_review, record, case.folder, self._machine)
                except VFQError as error:
                    problem = error.message
        with self.state:
            self.state.unsaved = self._nameless(problem or "")
            self._show_work(self.cases.index(case))

    def _tell(self, error: Exception) -> None:
        """Any failure is a sentence on the page; a traceback would hold paths."""
        with self.state:
            self.state.message = self._nameless(as_coded(error).message)

    def _nameless(self, text: str) -> str:
        """Without the names of files, unless they may be shown."""
        for i, case in enumerate(self.cases):
            text = text.replace(case.name, self._name(i))
        return text

    def _name(self, index: int) -> str:
        """A file's name can be a patient's: it is shown only where that is asked for."""
        return self.cases[index].name if self.show_names else f"Case {index + 1}"

    def _show_work(self, index: int) -> None:
        """One case of the list anew; the others lie on disk as they lay."""
        worklist = list(self.state.worklist)
        worklist[index] = self._work(index, self.cases[index])
        self.state.worklist = worklist

    def _work(self, index: int, case: Case) -> dict[str, Any]:
        status = case_status(case)
        return {
            "index": index,
            "name": self._name(index),
            "state": status.state,
            "problem": CODES.get(status.code, ""),
            "grade": status.worst_grade,
            "open": status.open,
            "total": status.total,
            "current": case == self.case,
        }

    def progress(self, case: Case, state: JobState) -> None:
        """How far the analysis of a case is."""
        if self.case and case.name == self.case.name:
            with self.state:
                self.state.busy = {"stage": state.stage or "starting", "share": state.share}


def _pressed(view: SliceView) -> np.ndarray:
    """`(3,)` RAS mm of the view's world under the mouse."""
    x, y = view.interactor().GetEventPosition()
    return np.array(view.get_view_node().GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))[:3])


ALWAYS = {"next_case", "previous_case", "toggle_help", "cancel", "show_case"}
