"""Slicer as the face of a review: its views, its event loop, and threads for slow work.

Slicer's event loop holds Python's global lock, so our threads run only while a call into Python releases it. The timer
that checks whether threads have ended does that.
"""

from __future__ import annotations

import inspect
import threading
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import qt
import slicer

from ..errors import VFQError, as_coded
from ..report.names import free_case_name
from ..report.outputs import write_outputs
from ..report.readings import case_folder_of
from ..scene.markup_pairs import at_once
from ..scene.review import Review
from ..scene.study import StudyScene
from ..scene.views import Views
from .folder import arrange, tidy
from .layout import VIEWS, LayoutViews
from .logs import HeldLogs

T = TypeVar("T")

POLL_MS = 30
# How long threads run between two events of Slicer: most of the time while the user waits for them, little in a drag.
WAITED_FOR_S, BESIDE_S = 0.08, 0.01
SAVE_AFTER_MS = 500
RETRY_MS = 5000
READING = "VertebralFractureQuant.reading"  # attribute: the folder of the reading, in that of its case
EXPORTED = "The study was exported to %s."


@dataclass(eq=False)
class Work:
    """A function that runs in a thread; `outcome` is its result or its exception. Closing waits for what saves."""

    do: Callable[[], Any]
    then: Callable[[Any], None]
    stage: str
    saves: bool = False
    outcome: Any = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self.do()
        except Exception as error:
            self.outcome = error


class DesktopFace:
    """The `scene.review.Face` of the module's panel.

    Parameters
    ----------
    scene : the MRML scene.
    who : the reader's name.

    Attributes
    ----------
    review_type, shown : the class of `review`, and the views in which it shows a study.
    review : the `Review` that is shown.
    views : the views of the module's layout.
    on_changed, on_followed : functions of the panels that are called when `changed` or `followed` is.
    on_told : called with each message for the user.
    on_busy : called with the work that other threads do, or "".
    before_closing : called before the study is closed; its VFQError keeps the study open.
    on_pressed : called when the mouse is pressed in a view.
    unsaved : what is not saved, and why; "" if all is saved.
    """

    review_type: type[Review] = Review
    shown: Views = VIEWS
    in_data: str = "1"  # what tells the study's folder in the Data module from that of another face

    def __init__(self, scene: Any, who: str):
        self.on_changed: list[Callable[[], None]] = []
        self.on_followed: list[Callable[[Collection[str]], None]] = []
        self.on_told: Callable[[str], None] = print
        self.on_busy: Callable[[str], None] = lambda _: None
        self.before_closing: Callable[[], None] = lambda: None
        self.on_pressed: Callable[[], None] = lambda: None
        self.unsaved = ""
        self._works: list[Work] = []
        self._poll = _timer(POLL_MS, self._ask)
        self._save_timer = _timer(SAVE_AFTER_MS, self._save, once=True)
        self._saving = False
        self._standing = ""
        self._steps: Generator[None, None, None] | None = None
        self._logs = HeldLogs()
        self.review = self.review_type(StudyScene(scene, self.shown), self, who)
        self.views = LayoutViews(self._pressed, self._panned, self.review.scrolled)

    @property
    def case_folder(self) -> Path | None:
        """The folder of the open case, in which a further reader's reading lies; None while none is open."""
        return case_folder_of(self.review.folder) if self.review.folder else None

    # -- what the review asks

    @property
    def straightened(self) -> Any:
        """See `Face`."""
        return self.views.straightened

    @property
    def patient(self) -> Sequence[Any]:
        """See `Face`."""
        return self.views.patient

    @property
    def cameras(self) -> Sequence[Any]:
        """See `Face`."""
        return self.views.cameras

    @property
    def renderer(self) -> Any:
        """See `Face`."""
        return self.views.renderer

    def opened(self) -> None:
        """See `Face`; the straightened volume is named after its case, and Slicer shows that name in the view."""
        nodes, folder = self.review.study.nodes, self.case_folder
        if folder and self.review.folder and nodes:
            nodes["straightened"].SetName(f"{folder.name} straightened")
            nodes["straightened"].SetAttribute(READING, self.review.folder.relative_to(folder).as_posix())
        self.views.show(nodes)

    def changed(self) -> None:
        """See `Face`; the study's nodes stand in a folder of the Data module."""
        if self.review.editor and self.case_folder:
            arrange(self.review.study, self.case_folder.name, self.in_data)
        else:
            self.unsaved = ""
            tidy()
        for tell in self.on_changed:
            tell()

    def followed(self, vertebra_ids: Collection[str]) -> None:
        """See `Face`."""
        for tell in self.on_followed:
            tell(vertebra_ids)

    def acted(self) -> None:
        """See `Face`."""
        self._save_timer.start(SAVE_AFTER_MS)

    def render(self) -> None:
        """See `Face`; Slicer's views render changed nodes themselves."""

    def tell(self, what: str | Exception) -> None:
        """See `Face`; an unexpected error also prints its traceback in Slicer's Python console."""
        if isinstance(what, Exception) and not isinstance(what, VFQError):
            traceback.print_exception(type(what), what, what.__traceback__)
        self.on_told(what if isinstance(what, str) else as_coded(what).message)

    def later(self, do: Callable[[], None]) -> None:
        """See `Face`."""
        qt.QTimer.singleShot(0, do)

    def work(self, stage: str, do: Callable[[], T], then: Callable[[T], None], saves: bool = False) -> None:
        """See `Face`. Work that `saves` files of the study runs alone: closing waits for it, and so do other saves."""
        self._start(do, then, stage, saves)

    def warm_up(self) -> None:
        """Make the networks ready for the first click, beside all else."""
        editor = self.review.editor
        if editor:
            machine, curve = editor.machine, self.review.study.straightening.curve
            self.work("", lambda: machine.warm_up(curve), lambda _: None)

    # -- the mouse in the views

    def _pressed(self, view: Any, point: np.ndarray) -> None:
        self._panned(False)  # a release outside of Slicer's window is not reported
        self.on_pressed()
        if view in (self.straightened, *self.patient[:1]):
            self.review.pick(view, point)

    def _panned(self, on: bool) -> None:
        """Lock the vertebrae in the patient's views while the image is moved: the middle button would move them."""
        for each in self.review.study.vertebrae.values():
            each.mirror.SetLocked(on or each.details["review"] == "rejected")

    # -- closing, exporting

    def close(self) -> None:
        """Save and close the open study. VFQError `output_not_writable` if that fails; the study stays open."""
        self.stop()
        at_once(self.closing())

    def closing(self) -> Iterator[None]:
        """Save and close the open study as `close` does, in steps."""
        self.review.settle()
        self.before_closing()
        self.save_now()
        yield from self.review.closing()

    def export(self, folder: Path) -> None:
        """Write the current study into `folder/<case>/`, or `<case>-2`, ... and report where, or why it failed."""
        editor = self.review.editor
        if editor:
            record, ct = self.review.study.analysis(), editor.machine.ct
            record = replace(record, case=free_case_name(record.case, folder))
            self.work(
                "exporting the study",
                lambda: write_outputs(record, ct, folder),
                lambda made: self.tell(EXPORTED % made),
            )

    def save_scene(self) -> Path:
        """Save the whole scene as review.mrb in the case's folder, and return its path.

        VFQError `output_not_writable`, `empty_scene`; an existing file is unchanged then.
        """
        if self.review.folder is None:
            raise VFQError("empty_scene", "No study is open. Analyse or open one first.")
        path, url = self.review.folder / "review.mrb", slicer.mrmlScene.GetURL()
        partial = path.with_name(f"review.{uuid4().hex[:8]}.partial.mrb")  # Slicer refuses names that begin with a dot
        saved = slicer.util.saveScene(str(partial))
        slicer.mrmlScene.SetURL(url)  # File > Save must keep the user's own path
        if not saved:
            partial.unlink(missing_ok=True)
            raise VFQError(
                "output_not_writable",
                "The scene could not be saved. Check that the case's folder is writable and has free space.",
            )
        return partial.replace(path)

    # -- in steps

    @property
    def in_steps(self) -> bool:
        """True while steps of `run` are left."""
        return self._steps is not None

    def run(self, steps: Generator[None, None, None]) -> None:
        """Do the steps, each in an event of its own, so that Slicer stays alive; errors are shown.

        Steps of an earlier call that are left are closed.
        """
        self.stop()
        self._steps = steps
        self._step(steps)

    def stop(self) -> None:
        """Close the steps that are left."""
        steps, self._steps = self._steps, None
        if (
            steps and inspect.getgeneratorstate(steps) != inspect.GEN_RUNNING
        ):  # a step that is being done closes them itself
            steps.close()

    def _step(self, steps: Generator[None, None, None]) -> None:
        if steps is not self._steps:
            return
        try:
            next(steps)
        except Exception as end:
            self._steps = None if steps is self._steps else self._steps
            if not isinstance(end, StopIteration):
                self.tell(end)
            return
        if steps is self._steps:
            self.later(lambda: self._step(steps))
        else:
            steps.close()

    # -- saving

    def save_now(self) -> None:
        """Write the files of the open study now, after all threads that still write have ended."""
        self._save_timer.stop()
        for work in [w for w in self._works if w.saves]:
            work.thread.join()
        if self.review.editor:
            self._saved(self.review.saving()())

    def end(self) -> str:
        """Save everything and disconnect from Slicer. The study's nodes stay in the scene.

        Returns where actions were saved that the case's folder refused, or "".
        """
        self.stop()
        self.review.settle()
        self.save_now()
        self._save_timer.stop()
        self._poll.stop()
        self._works.clear()
        self._logs.release()
        self.views.release()
        self.on_changed.clear()
        self.on_followed.clear()
        try:
            self.review.abandon(keep_nodes=True)
        except VFQError as error:
            return error.message
        return ""

    def check_saved(self) -> None:
        """Save now. VFQError `output_not_writable` if the files in the case's folder are not those of the study."""
        self.save_now()
        if self.unsaved:
            raise VFQError(
                "output_not_writable", f"The study could not be saved, so nothing was written. {self.unsaved}"
            )

    def _save(self) -> None:
        if self._saving or any(work.saves for work in self._works):
            self._save_timer.start(SAVE_AFTER_MS)
        elif self.review.editor:
            self._saving = True
            self._start(self.review.saving(), self._saved, "", saves=True)

    def _saved(self, problem: str) -> None:
        self._saving = False
        if not self.review.editor:
            return
        if (problem, self.review.standing) != (self.unsaved, self._standing):
            self.unsaved, self._standing = problem, self.review.standing
            self.changed()
        if problem:
            self._save_timer.start(RETRY_MS)

    # -- other threads

    def _start(self, do: Callable[[], Any], then: Callable[[Any], None], stage: str, saves: bool = False) -> None:
        self._logs.hold()
        self._works.append(Work(do, then, stage, saves))
        self._show_busy()
        self._poll.start(POLL_MS)

    def _ask(self) -> None:
        time.sleep(WAITED_FOR_S if self._is_waited_for() else BESIDE_S)
        self._logs.emit()
        ended = [work for work in self._works if not work.thread.is_alive()]
        self._works = [work for work in self._works if work not in ended]
        if not self._works:
            self._poll.stop()
        self._show_busy()
        for work in ended:
            self._finish(work)

    def _is_waited_for(self) -> bool:
        editor = self.review.editor
        return any(work.stage for work in self._works) and not (editor and editor.dragged)

    def _finish(self, work: Work) -> None:
        try:
            if isinstance(work.outcome, Exception):
                raise work.outcome
            work.then(work.outcome)
        except Exception as error:
            self.tell(error)

    def _show_busy(self) -> None:
        self.on_busy(next((work.stage for work in self._works if work.stage), ""))


def _timer(interval_ms: int, do: Callable[[], None], once: bool = False) -> Any:
    timer = qt.QTimer()
    timer.setInterval(interval_ms)
    timer.setSingleShot(once)
    timer.connect("timeout()", do)
    return timer
