"""The session of the review page: which case is open, and the actions that the page calls.

A `scene.review.Review` does the work on the vertebrae, `BrowserFace` shows it and `Autosave` writes it. Everything
runs in the server's single event loop, except reading, analysing and writing a case.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from ..analysis import Models, load_models
from ..cohort.jobs import JobState
from ..cohort.worklist import Case
from ..errors import VFQError
from ..scene.keys import ACTIONS
from ..scene.opening import Prepared
from ..scene.pair_keys import PAIR_ACTIONS
from ..scene.readings import folder_to_open
from .cases import CaseLoader
from .face import STATE, BrowserFace
from .healthy import HealthyView
from .kept import Kept, digest
from .pair_session import PAIRING, Pairing
from .reporting import Reporting
from .saving import Autosave
from .signing import Signing
from .views import ReviewViews
from .worklist import Worklist

FLUSH_S = 0.1  # time for the page to show the current state
# Values that stay when another case is opened.
KEPT_REPORT = ("report", "report_note", "report_folder", "report_language", "copied")
KEPT = ("tabs", "reader", "worklist", "worklist_open", *KEPT_REPORT)
KEYS = {**ACTIONS, **PAIR_ACTIONS}
# A dialog hides the effect of all keys but those that close it.
CLOSING = {f"{name}_open": f"toggle_{name}" for name in ("help", "case", "report", "healthy")} | {"ask": ""}
OWN = ("next_case", "previous_case", "next_open", "toggle_help", "cancel", "show_case", "save_scene", "sign_as")
SIGNING = ("complete_study", "choose", "other_reading", "toggle_case", "show_path", "write_key")
REPORTING = ("toggle_report", "report_in", "copy_report", "export_dicom")
PLACE_EVERY_S = 1.0


class Session:
    """One reader's review of a worklist. The page calls its public methods.

    Parameters
    ----------
    server : the trame server of the page.
    views : the slice views of the page.
    cases : the worklist.
    loader : analyses and reads the cases.
    who : the reader's name, recorded with each action.
    show_names : show file names, which can be patients' names; otherwise "Case 1", "Case 2", ...
    kept : what the page remembers for this user.
    """

    face_type: type[BrowserFace] = BrowserFace
    worklist_type: type[Worklist] = Worklist

    def __init__(
        self,
        server: Any,
        views: ReviewViews,
        cases: Sequence[Case],
        loader: CaseLoader,
        who: str,
        show_names: bool,
        kept: Kept,
    ):
        self.state = server.state
        self.views = views
        self.loader = loader
        self.kept = kept
        self.worklist = self.worklist_type(self.state, cases, show_names, who)
        self.face = self.face_type(self.state, views, who, self.worklist.without_names)
        self.review = self.face.review
        self.worklist.standing = lambda: self.review.standing
        self.autosave = Autosave(self.review, self.worklist)
        self.face.on_acted = self.autosave.soon
        self.signing = Signing(self.state, server.controller, self.face, self.worklist, self.autosave, self.open_case)
        self.reporting = Reporting(server, self.face, self.worklist, self.autosave)
        self.pairing = Pairing(self)
        parts = ((self, OWN), (self.signing, SIGNING), (self.reporting, REPORTING), (self.pairing, PAIRING))
        self._own: dict[str, Callable[..., None]] = {n: getattr(part, n) for part, names in parts for n in names}
        self._own["toggle_healthy"] = HealthyView(self.state, self.face).toggle_healthy
        self._models: Models | VFQError | None = None
        self._turn = 0
        self._opening: asyncio.Event | None = None  # set when the case that was asked for last is open
        self.state.update({**STATE, "reader": who, "worklist_filter": "all", "worklist_text": ""})
        self.state.change("worklist_open")(self._worklist_toggled)

    # -- cases

    async def open_first(self) -> None:
        """Open the case that this user had open last with this output folder, at its vertebra; else the first one."""
        cases = self.worklist.cases
        case, vertebra_id = self.kept.place(cases[0].folder.parent)
        index = next((i for i, each in enumerate(cases) if digest(each.name) == case), None)
        if index is None or self.pairing.wanted:
            await self.open_case(0)
        else:
            await self._return_to(index, vertebra_id)

    async def watch_place(self) -> None:
        """Remember which case and vertebra are shown, until cancelled."""
        known = None
        while True:
            await asyncio.sleep(PLACE_EVERY_S)
            case = self.worklist.current
            place = (case.name, self.review.selected) if case and self.review.editor else known
            if place and place != known:
                known = place
                self.kept.keep_place(self.worklist.cases[0].folder.parent, *place)

    async def open_case(self, index: int, folder: Path | None = None) -> None:
        """Save and close the open case, then show another one. If called again meanwhile, only the last case opens.

        `folder` is that of a reading which the reader chose; without it `scene.readings.folder_to_open` decides.
        """
        self._opening = opening = asyncio.Event()
        try:
            await self._open_case(index, folder)
        finally:
            opening.set()

    async def _open_case(self, index: int, folder: Path | None) -> None:
        self._turn += 1
        turn, cases = self._turn, self.worklist.cases
        case = cases[index]
        try:
            stale = await self.close_case()
        except Exception as error:
            self.face.tell(error)
            return
        if turn != self._turn:
            return
        self.worklist.current = case
        prior = self.pairing.wanted.get(case)
        self.loader.keep([*cases[max(0, index - 1) : index + 2], *filter(None, [prior])])
        self._show_opening(index)
        try:
            if prior:
                self.loader.prefetch(prior)
            prepared = await self.loader.get(case)
            if turn == self._turn:
                self._open_reading(case, prepared, folder)
        except asyncio.CancelledError:
            return
        except Exception as error:
            if turn == self._turn:
                self.face.tell(error)
        if turn == self._turn:
            with self.state:
                self.state.busy = None
                self.state.standing = self.review.standing
                if stale:
                    self.face.tell(stale)
            if prior and self.review.editor:
                await self.pairing.open(prior)
            for following in cases[index + 1 : index + 2]:
                self.loader.prefetch(following)

    def _open_reading(self, case: Case, prepared: Prepared, chosen: Path | None) -> None:
        """Show the reading that this reader opens, or ask which one that is."""
        folder = chosen or folder_to_open(case.folder, self.review.who)
        if folder is None:
            self.signing.ask(case)
            return
        try:
            with self.state:
                self.review.open(prepared, folder, self.networks())
        except VFQError as error:
            if error.code == "study_in_use" and folder == case.folder:
                self.signing.ask(case, in_use=True)
            raise

    async def close_case(self) -> str:
        """Save and close the open case.

        Returns why its files do not contain all actions, or "". Raises VFQError `output_not_writable` if actions
        cannot be written to the journal; the case then stays open. If its folder is gone, they go elsewhere.
        """
        stale = [await self.pairing.close()]
        self.review.settle()
        if self.review.is_gone:
            try:
                self.review.abandon()
            except VFQError as error:
                return error.message
        stale.append(await self.autosave.now(self.worklist.current) if self.worklist.current else "")
        self.review.close()
        return " ".join(filter(None, stale))

    async def end(self) -> None:
        """Save and close before the server stops; actions that cannot be saved in the case's folder go elsewhere.

        VFQError `output_not_writable` says where, or which files do not contain all actions.
        """
        try:
            stale = await self.close_case()
        except VFQError:
            try:
                self.pairing.abandon()
            finally:
                self.review.abandon()
        else:
            if stale:
                raise VFQError("output_not_writable", stale)

    def _show_opening(self, index: int) -> None:
        fresh = {
            "case_name": self.worklist.name(index),
            "case_index": index,
            "busy": {"stage": "opening", "share": None},
        }
        with self.state:
            self.state.update({**STATE, **fresh, **{name: self.state[name] for name in KEPT}})

    def networks(self) -> Models | VFQError:
        """Return the networks, or the reason why they are not available."""
        if self._models is None:
            try:
                self._models = load_models("cpu", self.loader.weights)
            except VFQError as error:
                self._models = error
        return self._models

    # -- actions of the page

    def act(self, action: str, *args: Any) -> None:
        """Call the action of this name, of the session (`OWN`) or of the review. Errors become messages on the page."""
        with self.state:
            self.state.message = ""
            if action not in self._own:
                self.pairing.target(action).act(action, *args)
                self.pairing.acted(action)
                return
            try:
                self._own[action](*args)
            except Exception as error:
                self.face.tell(error)

    def press(self, key: str) -> None:
        """Call the action of a key in `keys.KEYS`."""
        action = KEYS.get(key)
        over = [closing for dialog, closing in CLOSING.items() if self.state[dialog]]
        if action and (not over or action in ("cancel", *over)):
            self.act(action)

    def next_case(self) -> None:
        """Open the next case of the worklist."""
        self._other_case(1)

    def previous_case(self) -> None:
        """Open the previous case of the worklist."""
        self._other_case(-1)

    def next_open(self) -> None:
        """Open the next case that is not read yet. VFQError `no_other_case`."""
        following = self.worklist.next_open()
        if following is None:
            raise VFQError("no_other_case", "No other case is left to be read.")
        self.show_case(following)

    def toggle_help(self) -> None:
        """Show or hide the list of keys."""
        self.state.help_open = not self.state.help_open

    def cancel(self) -> None:
        """Leave the click mode, close messages and dialogs, and stop a running analysis."""
        self.review.cancel()
        self.pairing.cancel()
        if self.worklist.current and self.state.busy:
            self.loader.cancel(self.worklist.current.name)
        self.state.update({"message": "", **dict.fromkeys(("worklist_open", *CLOSING), False), "ask": self.state.ask})

    def show_case(self, index: int) -> None:
        """Open a case by its index in the worklist."""
        self.state.worklist_open = False
        asyncio.get_running_loop().create_task(self.open_case(index))

    def save_scene(self) -> None:
        """Save the scene for desktop Slicer as review.mrb in the case's folder."""
        if self.review.editor:
            self.state.busy = {"stage": "saving the scene for 3D Slicer", "share": None}
            asyncio.get_running_loop().create_task(self._save_scene())

    def return_to(self, index: int, vertebra_id: str | None) -> None:
        """Open the case and select the vertebra that a tab showed before it lost the server."""
        asyncio.get_running_loop().create_task(self._return_to(index, vertebra_id))

    async def _return_to(self, index: int, vertebra_id: str | None) -> None:
        cases = self.worklist.cases
        if not 0 <= index < len(cases):
            return
        if self.worklist.current != cases[index]:
            await self.open_case(index)
        elif self._opening:
            await self._opening.wait()
        with self.state:
            if self.worklist.current == cases[index] and vertebra_id in self.review.order:
                self.review.select(vertebra_id)

    def restore_window(self, preset: object = "", width: object = 0, level: object = 0) -> None:
        """Use the window that the reader's browser kept; a broken value changes nothing."""
        with self.state, suppress(TypeError, ValueError):
            self.review.restore_window(str(preset), float(width), float(level))  # type: ignore[arg-type]

    def sign_as(self, who: str) -> None:
        """Record further actions with this reader's name; one who takes no part in the open reading is asked."""
        try:
            self.review.sign_as(who)
        finally:
            self.state.reader = self.worklist.reader = self.review.who
        self.kept.keep_reader(self.review.who)
        self.pairing.reopen()
        if self.review.editor:
            asyncio.get_running_loop().create_task(self._check_reading())

    async def _check_reading(self) -> None:
        case = self.worklist.current
        if case is None or await self.autosave.now(case):
            return
        try:
            folder = folder_to_open(case.folder, self.review.who)
        except VFQError as error:
            self.face.tell(error)
            return
        if folder != self.review.folder:
            await self.open_case(self.worklist.at)
        with self.state:
            self.state.update({"standing": self.review.standing, "locked": self.review.locked})

    def _worklist_toggled(self, worklist_open: bool, **_: Any) -> None:
        if worklist_open:
            asyncio.get_running_loop().create_task(self.worklist.show())
        else:
            self.worklist.hide()

    def tabs_changed(self, count: int, gone: bool) -> None:
        """Show how many tabs are open. If one has gone, end its drag, also in the views."""
        with self.state:
            self.state.tabs = count
            if gone:
                self.views.release()
            if gone and self.review.editor:
                self.review.editor.finish_drag()
            if gone:
                self.pairing.finish_drag()

    def progress(self, case: Case, state: JobState) -> None:
        """Show the progress of a case's analysis, if it is the current case."""
        if self.worklist.current and case.name == self.worklist.current.name:
            with self.state:
                self.state.busy = {"stage": state.stage or "starting", "share": state.share}
                if state.notes:
                    self.face.tell(" ".join(state.notes))
        else:
            self.pairing.progress(case, state)

    def _other_case(self, by: int) -> None:
        at = max(self.worklist.at, 0) + by
        if not 0 <= at < len(self.worklist.cases):
            raise VFQError(
                "no_other_case", "There is no further case in this direction. Choose another one in the worklist."
            )
        self.show_case(at)

    async def _save_scene(self) -> None:
        """MRML belongs to this thread, so the page freezes; the wait lets it show why first."""
        assert self.worklist.current is not None
        path = (self.review.folder or self.worklist.current.folder) / "review.mrb"
        await asyncio.sleep(FLUSH_S)
        partial = Path(mkdtemp(prefix=".saving-", dir=path.parent)) / path.name
        self.pairing.leave_out()
        try:
            if not self.views.app.io_manager.save_scene(partial):
                raise VFQError(
                    "output_not_writable",
                    "The scene could not be saved. Check that the case's folder is writable and has free space.",
                )
            partial.replace(path)
            self.face.tell(f"The scene was saved as {path.name} in the case's folder. Open it in 3D Slicer.")
        except Exception as error:
            self.face.tell(error)
        finally:
            shutil.rmtree(partial.parent, ignore_errors=True)
            with self.state:
                self.state.busy = None
