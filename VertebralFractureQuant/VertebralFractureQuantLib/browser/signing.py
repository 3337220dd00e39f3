"""Signing on the page: whose reading of a case is opened, counter-signing, "study complete", and where results lie.

The rules are those of `scene.readings`; this is what the page asks and shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cohort.worklist import Case
from ..report.readings import Found, readings
from ..scene.choices import choices, other_choices, told
from ..scene.readings import begin_own, standing_text
from .face import BrowserFace
from .saving import Autosave
from .worklist import Worklist


@dataclass
class Signing:
    """Asks for a reading, signs it, and shows the case's folder.

    Attributes
    ----------
    state, controller : the page's.
    face, worklist, autosave : of the session.
    open_case : opens a case by its index, with the folder of a reading that was chosen.
    """

    state: Any
    controller: Any
    face: BrowserFace
    worklist: Worklist
    autosave: Autosave
    open_case: Callable[[int, Path | None], Awaitable[None]]
    _reported: Path | None = None  # the folder of the study that was signed last

    def ask(self, case: Case, in_use: bool = False) -> None:
        """Ask the reader, who takes no part in the first reading of a case, what to do; nothing of it is shown."""
        found = next(iter(readings(case.folder)), None)
        with self.state:
            self.state.ask = {"told": told(found, in_use), "choices": choices(found, in_use)}

    def choose(self, choice: str) -> None:
        """Open what the reader chose: "first", the first reading; "automatic" or "copy", an own one."""
        self.state.ask = None
        asyncio.get_running_loop().create_task(self._choose(choice))

    async def _choose(self, choice: str) -> None:
        case = self.worklist.current
        if case is None:
            return
        try:
            folder = case.folder
            if choice != "first":
                folder = await asyncio.to_thread(begin_own, folder, self.face.review.who, choice == "copy")
            await self.open_case(self.worklist.at, folder)
        except Exception as error:
            self.face.tell(error)

    def other_reading(self, choice: str) -> None:
        """Leave the reading that is open, for another one of `choose`."""
        self.state.case_open = False
        self.choose(choice)

    def _others(self, case: Case, found: Sequence[Found]) -> list[dict[str, str]]:
        """Return the choices of a reader: one's own reading, or the first one, signed, once one's own is signed."""
        review = self.face.review
        if review.folder is None:
            return []
        return other_choices(review.who, review.folder, case.folder, found, bool(review.locked))

    def complete_study(self) -> None:
        """Sign, copy the report's text, write the images of the reader's points, and open the next unread case."""
        review = self.face.review
        if not review.editor or self.state.busy:
            return
        text, write = review.completed()
        self.state.update({"report": text, "report_note": "", "copied": None, "path_copied": None})
        self.controller.copy(text)  # at once: browsers allow it only soon after a key or a click
        asyncio.get_running_loop().create_task(self._complete(write))

    async def _complete(self, write: Callable[[], tuple[str, ...]]) -> None:
        case, folder, at = self.worklist.current, self.face.review.folder, self.worklist.at
        assert case is not None
        self._busy("writing the images of your points")
        try:
            problem = await self.autosave.now(case)
            written = await asyncio.to_thread(write) if not problem else ()
            following = await asyncio.to_thread(self.worklist.next_open)
        except Exception as error:
            self.face.tell(error)
            return
        finally:
            self._busy("")
        name = self.worklist.name(at)
        done = f"{name} is complete and signed. Its folder now has {' and '.join(written)} of your points."
        if problem:
            done = f"{name} is signed, but not on disk yet: {problem} Saving is tried again every few seconds."
        with self.state:
            self.state.report_note = self.worklist.without_names(done)
            self.state.report_folder = self._shown(folder)
            if following is None:
                self.state.report_note += " No open case is left."
        self._reported = folder
        if problem:
            self.autosave.soon()
        elif following is not None:
            await self.open_case(following, None)

    # -- where results lie

    def toggle_case(self) -> None:
        """Show or hide the readings, signatures and folder of the case."""
        self.state.case_open = not self.state.case_open
        case = self.worklist.current
        self.state.path_copied = None
        if self.state.case_open and case:
            self.state.path = self._shown(self.face.review.folder or case.folder)
            found = readings(case.folder)
            self.state.readings = [standing_text(each.record, self.face.review.who) for each in found]
            self.state.case_choices = self._others(case, found)

    def show_path(self, of: str = "case") -> None:
        """Show and copy the full path of the case's folder, or of the one that was `reported` last."""
        case = self.worklist.current
        folder = self._reported if of == "reported" else self.face.review.folder or (case and case.folder)
        if folder:
            self.state.update({"report_folder" if of == "reported" else "path": str(folder.resolve())})
            self.controller.copy_path(str(folder.resolve()))

    def write_key(self) -> None:
        """Write the file that says which scan each case number stands for."""
        file = self.worklist.write_key()
        self.face.tell(f"The key of the case numbers was written: {file.resolve()}. It holds the names of the scans.")

    def _shown(self, folder: Path | None) -> str:
        """Return the path of a folder if names may be shown; else "", until the reader asks for it."""
        return str(folder.resolve()) if folder and self.worklist.show_names else ""

    def _busy(self, stage: str) -> None:
        with self.state:
            self.state.busy = {"stage": stage, "share": None} if stage else None
