"""The review of a worklist in the browser: its cases, and what the page's state says.

A `Review` does what a hand wants; here it becomes values of the page. All of it runs in the server's one event loop;
only reading, analysing and writing a case leave it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

import numpy as np
from trame_slicer.views import SliceView

from ..analysis import Models, load_models
from ..cohort.jobs import JobState
from ..cohort.worklist import Case, case_status
from ..errors import VFQError, as_coded, meaning
from ..scene.keys import ACTIONS
from ..scene.review import Review
from ..scene.rows import row, rows, summary
from ..scene.study import StudyScene
from ..spine.levels import NAMES
from .cases import CaseLoader
from .views import BEFORE_OTHERS, ReviewViews

T = TypeVar("T")

SAVE_AFTER_S = 0.5
RETRY_S = 5.0
FLUSH_S = 0.1  # until the page has shown what it was told

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
    """The `Face` of one person's review, and the cases that wait. Public methods are called by the page."""

    def __init__(
        self, server: Any, views: ReviewViews, cases: Sequence[Case], loader: CaseLoader, who: str, shown: bool
    ):
        self.server = server
        self.views = views
        self.cases = list(cases)
        self.loader = loader
        self.show_names = shown
        self.review = Review(StudyScene(views.app.scene, views.ids()), self, who)
        self.case: Case | None = None
        self._models: Models | VFQError | None = None
        self._saving: asyncio.Task[None] | None = None
        self._dirty = False  # acts came since the last save began
        self._writing = asyncio.Lock()
        self._turn = 0
        self.state.update({**STATE, "worklist": [self._work(i, case) for i, case in enumerate(self.cases)]})
        views.straightened.modified.connect(lambda _: self.review.scrolled())
        for view in (views.straightened, views.patient[0]):
            view.interactor().AddObserver(
                "LeftButtonPressEvent", lambda *_, view=view: self._press(view), BEFORE_OTHERS
            )

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
            stale = await self.close_case()
        except Exception as error:
            self.tell(error)
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
                    self.review.open(prepared, case.folder, self._networks())
        except asyncio.CancelledError:
            return
        except Exception as error:
            if turn == self._turn:
                self.tell(error)
        if turn == self._turn:
            with self.state:
                self.state.busy = None
                self._show_work(index)
                if stale:
                    self.tell(stale)
            for following in self.cases[index + 1 : index + 2]:
                self.loader.prefetch(following)

    async def close_case(self) -> str:
        """Save and close the study that is open; why its files are not what its acts are, or "". VFQError
        `output_not_writable` where acts cannot be written: then it stays open."""
        self.review.settle()
        stale = await self._save(self.case) if self.case else ""
        self.review.close()
        return stale

    async def end(self) -> None:
        """Save and close before the server stops; acts that their own disk refuses are put elsewhere.

        VFQError `output_not_writable`, which says where, or which files are not what the acts are.
        """
        try:
            stale = await self.close_case()
        except VFQError:
            self.review.abandon()
        else:
            if stale:
                raise VFQError("output_not_writable", stale)

    def _show_opening(self, index: int) -> None:
        listed = [{**w, "current": w["index"] == index} for w in self.state.worklist]
        fresh = {"case_name": self._name(index), "busy": {"stage": "opening", "share": None}, "worklist": listed}
        with self.state:
            self.state.update({**STATE, **fresh, "tabs": self.state.tabs})

    def _networks(self) -> Models | VFQError:
        if self._models is None:
            try:
                self._models = load_models("cpu")
            except VFQError as error:
                self._models = error
        return self._models

    # -- what the page does

    def act(self, action: str, *args: Any) -> None:
        """Do an action by its name: the session's own, or one of the review. A refusal becomes a message."""
        with self.state:
            self.state.message = ""
            if action not in OWN:
                self.review.act(action, *args)
                return
            try:
                getattr(self, action)(*args)
            except Exception as error:
                self.tell(error)

    def press(self, key: str) -> None:
        """A key of `keys.KEYS`."""
        if key in ACTIONS and (not self.state.help_open or ACTIONS[key] in UNDER_HELP):
            self.act(ACTIONS[key])

    def next_case(self) -> None:
        """The next case of the worklist."""
        self._other_case(1)

    def previous_case(self) -> None:
        """The case before."""
        self._other_case(-1)

    def toggle_help(self) -> None:
        """The list of keys."""
        self.state.help_open = not self.state.help_open

    def cancel(self) -> None:
        """Leave clicking; close what is open over the page; stop an analysis that runs."""
        self.review.cancel()
        if self.case and self.state.busy:
            self.loader.cancel(self.case.name)
        self.state.update({"message": "", "help_open": False, "worklist_open": False})

    def show_case(self, index: int) -> None:
        """A case by its place in the worklist."""
        self.state.worklist_open = False
        asyncio.get_running_loop().create_task(self.open_case(index))

    def save_scene(self) -> None:
        """The whole scene for desktop Slicer, into the case's folder."""
        if self.review.editor:
            self.state.busy = {"stage": "saving the scene for 3D Slicer", "share": None}
            asyncio.get_running_loop().create_task(self._save_scene())

    def tabs_changed(self, count: int) -> None:
        """Another tab came or went; a drag whose tab was closed is over, for the views too."""
        with self.state:
            gone, self.state.tabs = count < self.state.tabs, count
            if gone:
                self.views.release()
            if gone and self.review.editor:
                self.review.editor.finish_drag()

    def progress(self, case: Case, state: JobState) -> None:
        """How far the analysis of a case is."""
        if self.case and case.name == self.case.name:
            with self.state:
                self.state.busy = {"stage": state.stage or "starting", "share": state.share}
                if state.notes:
                    self.tell(" ".join(state.notes))

    # -- what the review asks of its face

    @property
    def straightened(self) -> Any:
        """See `Face`."""
        return self.views.straightened.get_view_node()

    @property
    def patient(self) -> Sequence[Any]:
        """See `Face`."""
        return [view.get_view_node() for view in self.views.patient]

    @property
    def cameras(self) -> Sequence[Any]:
        """See `Face`: the page has no 3D view."""
        return ()

    def opened(self) -> None:
        """See `Face`."""
        nodes = self.review.study.nodes
        self.views.show(nodes["straightened"], nodes["ct"])

    def changed(self) -> None:
        """See `Face`."""
        review, study = self.review, self.review.study
        with self.state:
            self.state.update(
                {
                    "rows": rows(study, review.order),
                    "summary": summary(study),
                    "undoable": review.editor and review.editor.journal.undoable,
                    "redoable": review.editor and review.editor.journal.redoable,
                    "selected": review.selected,
                    "doubtful_first": review.doubtful_first,
                    "lateral": review.lateral,
                    "preset": review.preset,
                    "mode": review.mode,
                    "hint": review.hint,
                }
            )

    def followed(self, vertebra_ids: Collection[str]) -> None:
        """See `Face`."""
        study = self.review.study
        with self.state:
            if vertebra_ids:
                self.state.rows = [
                    row(study, r["id"], r["contradiction"]) if r["id"] in vertebra_ids else r for r in self.state.rows
                ]
                self.state.summary = summary(study)
            self.state.update({"selected": self.review.selected, "lateral": self.review.lateral})

    def acted(self) -> None:
        """See `Face`."""
        self._save_soon()

    def render(self) -> None:
        """See `Face`."""
        self.views.render()

    def tell(self, what: str | Exception) -> None:
        """See `Face`; a failure is a sentence on the page, since a traceback would hold paths."""
        message = what if isinstance(what, str) else as_coded(what).message
        with self.state:
            self.state.message = self._nameless(message)

    def later(self, do: Callable[[], None]) -> None:
        """See `Face`."""
        asyncio.get_running_loop().call_soon(do)

    def work(self, stage: str, do: Callable[[], T], then: Callable[[T], None]) -> None:
        """See `Face`."""

        async def working() -> None:
            with self.state:
                self.state.busy = {"stage": stage, "share": None}
            try:
                found = await asyncio.to_thread(do)
                with self.state:
                    then(found)
            except Exception as error:
                self.tell(error)
            finally:
                with self.state:
                    self.state.busy = None

        asyncio.get_running_loop().create_task(working())

    # -- how

    def _press(self, view: SliceView) -> None:
        x, y = view.interactor().GetEventPosition()
        node = view.get_view_node()
        point = np.array(node.GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))[:3])
        with self.state:
            self.review.pick(node, point)

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
            self.tell(f"{path.name} is in the case's folder; open it in 3D Slicer.")
        except Exception as error:
            self.tell(error)
        finally:
            shutil.rmtree(partial.parent, ignore_errors=True)
            with self.state:
                self.state.busy = None

    def _other_case(self, by: int) -> None:
        at = (self.cases.index(self.case) if self.case else 0) + by
        if not 0 <= at < len(self.cases):
            raise VFQError("no_other_case", "This is the last case." if by > 0 else "This is the first case.")
        self.show_case(at)

    def _save_soon(self) -> None:
        self._dirty = True
        if self._saving is None or self._saving.done():
            self._saving = asyncio.get_running_loop().create_task(self._save_later())

    async def _save_later(self) -> None:
        await asyncio.sleep(SAVE_AFTER_S)
        while self.case and self._dirty:
            if await self._save(self.case):
                await asyncio.sleep(RETRY_S)

    async def _save(self, case: Case) -> str:
        """Write the case's files; why they could not be written, or ""."""
        async with self._writing:
            self._dirty = False
            if self.review.editor is None:  # closed meanwhile, and saved before
                return ""
            problem = await asyncio.to_thread(self.review.saving())
        self._dirty = self._dirty or bool(problem)
        with self.state:
            self.state.unsaved = self._nameless(problem)
            self._show_work(self.cases.index(case))
        return problem

    def _nameless(self, text: str) -> str:
        """Without the names of files and the UIDs of series, unless they may be shown."""
        if not self.show_names:
            text = re.sub(r", UID [\d.]+", "", text)
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
            "problem": meaning(status.code),
            "grade": status.worst_grade,
            "open": status.open,
            "total": status.total,
            "current": case == self.case,
        }


UNDER_HELP = ("toggle_help", "cancel")  # the help hides what other keys would do
OWN = {"next_case", "previous_case", "toggle_help", "cancel", "show_case", "save_scene"}
