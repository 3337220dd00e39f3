"""The review of one study, in 3D Slicer's panel as well as in a browser: opened, saved and closed here.

The reader's actions are in `actions`, the answers to changes by others in `repairs`. All of it runs in the thread to
which MRML belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis import Models
from ..errors import VFQError
from ..spine.record import SpineAnalysis
from .actions import Actions
from .case_files import open_journal, saved_without_journal
from .editor import Editor
from .face import Face
from .guard import Guard
from .machine import Machine
from .open_case import JOURNAL_MISSING, OpenCase
from .opening import Prepared
from .pairs import at_once
from .readings import locked_text, saved_reading, signed_by_others, standing_text
from .repairs import Needs, Repairs
from .rows import first_row, left_open_text
from .state import CURVE, first_state
from .study import StudyScene
from .unsaved import recover
from .viewpoint import place_text

LONGEST_NAME = 80  # characters of a reader's name


class Review:
    """The review by one reader, of one study after the other.

    Attributes
    ----------
    actions_type : the class of the reader's actions.
    study, face : the scene's study, and the program that shows it.
    who : the reader's name in the journal.
    """

    actions_type: type[Actions] = Actions

    def __init__(self, study: StudyScene, face: Face, who: str):
        self.study = study
        self.face = face
        self.who = who
        self._case: OpenCase | None = None
        self._actions = self.actions_type(study, face)
        self._repairs = Repairs(study, face, Needs(lambda: self.editor, self._rebuild, self._close_without_ct))
        self._guard = Guard(study, self._repairs.reports(closing=self._leave_scene))

    # -- opening and closing

    def open(self, *args: Any) -> None:
        """Show a study at once; see `opening`."""
        at_once(self.opening(*args))

    def opening(
        self, prepared: Prepared, folder: Path, models: Models | VFQError, ct_node: Any = None
    ) -> Iterator[None]:
        """Show a study, with the actions of an earlier review in `folder`.

        It is done in steps, between which events may be handled. Closing the steps before they are finished closes
        the study.

        Parameters
        ----------
        models : the networks, or the reason why they are not available.
        ct_node : the CT's node if it is in the scene already.

        Raises
        ------
        VFQError : `study_in_use` and others; the study is then not open.
        """
        analysis, saved = prepared.analysis, saved_without_journal(folder)
        journal = open_journal(folder, first_state(analysis), analysis)
        with ExitStack() as on_error:
            on_error.callback(self._let_go, keep_nodes=False)  # what is not in a journal must not be edited
            on_error.callback(journal.close)
            journal.commit("load", {key: saved.get(key) for key in {*saved, *journal.state}} if saved else {}, self.who)
            recovered = recover(journal, folder)
            made = prepared.along(np.asarray(journal.state[CURVE]["curve"]))
            yield from self.study.opening(prepared.ct, made, analysis, ct_node, journal.state)
            machine = Machine.of(prepared.ct, models)
            machine.keep(made)
            self._begin(Editor(self.study, journal, machine, self.who), folder, analysis)
            on_error.pop_all()
        yield
        self._actions.viewpoint.show_window()
        self._actions.fit_views()
        if analysis.status != "ok" and not self.study.vertebrae:
            self.face.tell(f"{analysis.message} Or press s and click the spine yourself.")
        else:
            self.select(first_row(self.study))
        if told := recovered or (JOURNAL_MISSING if saved else self.locked or self._of_another()):
            self.face.tell(told)

    def resume(self, machine: Machine, folder: Path, original: SpineAnalysis | None) -> None:
        """Continue with the study of a loaded scene (`StudyScene.reopen`).

        If the journal in `folder` has another state, the scene's state is added as one more action, which undo takes
        back. VFQError as `open`; the nodes then stay in the scene.
        """
        with ExitStack() as on_error:
            on_error.callback(self._let_go, keep_nodes=True)
            journal = open_journal(folder, self.study.state(), self.study.analysis())
            on_error.callback(journal.close)
            own = not signed_by_others(folder, self.who)
            self._begin(Editor(self.study, journal, machine, self.who, scene_first=own), folder, original)
            on_error.pop_all()
        self._actions.viewpoint.show_window()
        self._actions.fit_views()
        self.select(first_row(self.study))

    def _begin(self, editor: Editor, folder: Path, original: SpineAnalysis | None) -> None:
        self._case = OpenCase(editor, folder, original, saved_reading(folder))
        editor.why_locked = lambda: self.locked
        self._actions.begin(editor)
        self._repairs.reset()
        self._guard.watch()
        self.face.opened()
        self.face.acted()

    def settle(self) -> None:
        """End clicking and a drag that is under way, as before closing."""
        self._actions.clicking.end()
        if self.editor:
            self.editor.finish_drag()

    def saving(self) -> Callable[[], str]:
        """Return a function, for any thread, that writes the files that other programs read.

        The function returns why something is not on disk, or "".
        """
        assert self._case
        return self._case.saving()

    def record(self) -> SpineAnalysis:
        """Return the record of the open study as it is now. AssertionError while none is open."""
        assert self._case
        return self._case.record()

    def sign_as(self, who: str) -> None:
        """Record further actions with another reader's name. VFQError `no_reader` for an empty or overlong name."""
        name = " ".join(who.split())
        if not 0 < len(name) <= LONGEST_NAME:
            raise VFQError("no_reader", f"The reader's name must have 1 to {LONGEST_NAME} characters. Type it again.")
        self.who = name
        if self.editor:
            self.editor.who = name

    def completed(self) -> tuple[str, Callable[[], tuple[str, ...]]]:
        """Sign the open study; return the report's text and a function, for any thread, that writes its images.

        Save before the function is called; it returns the files' names. The signature is on disk with that save.
        VFQError `study_open` while a vertebra is neither confirmed nor rejected.
        """
        assert self._case
        if told := left_open_text(self.study):
            raise VFQError("study_open", told)
        return self._case.completed(self.who)

    @property
    def locked(self) -> str:
        """Why nothing may be changed: another reader has signed what is shown; else ""."""
        return locked_text(self._case.signed_by_others(self.who)) if self._case else ""

    @property
    def standing(self) -> str:
        """One sentence on whose reading was opened, saved or signed last, and who signed it; "" before any action."""
        return standing_text(self._case.latest, self.who) if self._case else ""

    def _of_another(self) -> str:
        """Return what to tell a reader who continues the reading of another one; else ""."""
        reading = self._case.reading if self._case else None
        if reading is None or reading.reader == self.who:
            return ""
        return f"{self.standing} What you do is recorded under your name."

    @property
    def is_gone(self) -> bool:
        """True if the folder of the open case was deleted or moved, so that actions reach no folder."""
        return self._case is not None and self._case.is_gone

    def close(self, keep_nodes: bool = False) -> None:
        """Close the study; call `settle` and save before. `keep_nodes` leaves its nodes in the scene.

        VFQError `output_not_writable` if actions cannot be written; the study then stays open.
        """
        at_once(self.closing(keep_nodes))

    def closing(self, keep_nodes: bool = False) -> Iterator[None]:
        """Close the study as `close` does, in steps; also if the steps are not finished."""
        if self._case:
            self._case.check_all_saved()
        yield from self._letting_go(keep_nodes)

    def abandon(self, keep_nodes: bool = False) -> None:
        """Close the study in any case, as when the program ends.

        Actions that their disk refuses are written to another folder; a VFQError then says where.
        """
        try:
            self.close(keep_nodes)
        except VFQError as error:
            assert self._case
            told = self._case.save_elsewhere()
            self._let_go(keep_nodes)
            raise VFQError(error.code, told) from error

    def _let_go(self, keep_nodes: bool) -> None:
        at_once(self._letting_go(keep_nodes))

    def _letting_go(self, keep_nodes: bool) -> Iterator[None]:
        if self._case:
            self._case.close()
        self._guard.leave()
        self._case = None
        self._actions.forget()
        self._repairs.reset()
        if keep_nodes:
            self.study.release()
        else:
            yield from self.study.closing()
        self.face.changed()

    def _leave_scene(self) -> None:
        """Save everything before the scene is closed, with all its nodes."""
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

    def _close_without_ct(self) -> None:
        self.settle()
        self._rebuild()
        problem = self.saving()()
        self.close()
        self.face.tell(problem or "The CT was removed from the scene. Its review has been saved and closed.")

    def _rebuild(self) -> None:
        assert self._case
        selected = self.selected
        self._case.rebuild()
        self._actions.viewpoint.show_window()
        self._guard.watch()
        self.face.opened()
        self.study.select(selected if selected in self.study.vertebrae else None)
        self._actions.viewpoint.follow_plane()

    # -- what is shown

    @property
    def editor(self) -> Editor | None:
        """The actions on the open study; None while none is open."""
        return self._case.editor if self._case else None

    @property
    def folder(self) -> Path | None:
        """The folder of the open case; None while none is open."""
        return self._case.folder if self._case else None

    @property
    def order(self) -> list[str]:
        """The vertebrae's ids as they are listed."""
        return self._actions.order

    @property
    def doubtful_first(self) -> bool:
        """True if the rows are listed with the most doubtful vertebra first."""
        return self._actions.doubtful_first

    @property
    def selected(self) -> str | None:
        """The id of the selected vertebra."""
        return self.study.selected

    @property
    def mode(self) -> str | None:
        """The clicking mode: "add", "place" or "rescue"; None while no clicks are taken."""
        return self._actions.clicking.mode

    @property
    def clicks(self) -> int:
        """How many clicks were taken in this mode."""
        return len(self._actions.clicking.points())

    @property
    def hint(self) -> str:
        """A sentence on what to click next and on the keys for it; "" while no clicks are taken."""
        return self._actions.clicking.hint

    @property
    def following(self) -> str:
        """The point to be clicked next while six points are placed, such as "A+ upper anterior"."""
        return self._actions.clicking.following

    @property
    def lateral(self) -> float:
        """R of the straightened view's sagittal plane, mm."""
        return self._actions.viewpoint.lateral

    @property
    def preset(self) -> str:
        """The window, one of `volumes.PRESETS`, or "own" after it was adjusted."""
        return self._actions.viewpoint.preset

    @property
    def window(self) -> tuple[float, float]:
        """Width and level of the window, HU."""
        return self._actions.viewpoint.window

    @property
    def close_up(self) -> bool:
        """True if the selected vertebra fills the straightened view."""
        return self._actions.viewpoint.close_up

    @property
    def note(self) -> str:
        """A sentence on what the views do not show: hidden points, or a plane beside the points; "" if all is shown."""
        return self._actions.viewpoint.note() if self.editor else ""

    @property
    def outdated(self) -> bool:
        """True if the CT was changed after it was analysed."""
        return self._repairs.outdated

    # -- what the mouse and the buttons do

    def act(self, action: str, *args: Any) -> None:
        """Call a method of `Actions`, if a study is open. Errors are shown to the reader; the study is unchanged."""
        try:
            if self.editor:
                getattr(self._actions, action)(*args)
        except Exception as error:
            self.face.tell(error)

    def restore_window(self, preset: str, width: float = 0.0, level: float = 0.0) -> None:
        """Use the window that a reader chose last, for this study and the next; see `Viewpoint.choose_window`."""
        self._actions.viewpoint.choose_window(preset, width, level)
        self.face.changed()
        self.face.render()

    def select(self, vertebra_id: str | None) -> None:
        """Select a vertebra, and bring it into the middle of the views; nothing happens while no study is open."""
        if self.editor:
            self._actions.select(vertebra_id)

    def mark(self, vertebra_id: str | None) -> None:
        """Select a vertebra as `select` does, but leave the straightened view where it is."""
        self._actions.mark(vertebra_id)

    def pick(self, view: Any, point: np.ndarray) -> None:
        """Select the vertebra under the mouse; `point` `(3,)` is RAS mm of the view with slice node `view`."""
        self._actions.pick(view, point)

    def place_text(self, view: Any, point: np.ndarray) -> str:
        """Return HU and patient's coordinates at `point` `(3,)` RAS mm of the view with slice node `view`.

        "" outside the scan, and while no study is open.
        """
        if not self.editor:
            return ""
        straightened = view is self.face.straightened
        return place_text(self.editor.machine.ct, self.study.straightening.to_patient(point) if straightened else point)

    def scrolled(self) -> None:
        """Called when the mouse wheel moved the plane of the straightened view."""
        self._actions.scrolled()

    def cancel(self) -> None:
        """Leave the clicking mode, if there is one."""
        self._actions.cancel()
