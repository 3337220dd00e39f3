"""The panel's readings and signatures: who reads, whose reading of a case is opened, and "study complete".

The rules are those of `scene.readings` and the question that of `scene.choices`, as on the review page. The question
stands above the sections and blocks nothing else.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ..cohort.worklist import Case
from ..errors import VFQError
from ..report.readings import Found, readings
from ..scene.choices import LOOK, RETRY, Choice, choices, other_choices, owner, told
from ..scene.opening import machine_analysis, prepare
from ..scene.readings import begin_own, folder_to_open, standing_text
from .analysing import Analyst, Opened
from .clipboard import copied
from .labels import short, show_text

CHANGED = "It was changed again meanwhile: sign it again, and its images are written."
BUTTONS = {"first": "firstButton", "automatic": "automaticButton", "copy": "copyButton"}


class SigningPanel:
    """Asks for a reading, shows whose it is, and signs it.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    analyst : loads studies; its face has the review.
    opened : called with a loaded study, its volume node or None, and the folder of the reading to open.
    complete : called when a study is signed and saved; opens the next open case.
    """

    def __init__(
        self,
        ui: Any,
        analyst: Analyst,
        opened: Callable[[Opened, Any, Path], None],
        complete: Callable[[], None],
    ):
        self.ui = ui
        self.analyst = analyst
        self.face = analyst.face
        self.review = analyst.face.review
        self._opened = opened
        self._complete = complete
        self._choose: Callable[[str], None] = lambda choice: None
        self._completing = False
        self.close_question()

    # -- whose reading

    def folder_of(self, opened: Opened, node: Any) -> Path | None:
        """Return the folder of the reading that the reader opens; None if the reader is asked first.

        VFQError as `folder_to_open`.
        """
        folder = folder_to_open(opened.case.folder, self.review.who)
        if folder is None:
            self.ask(opened, node)
        return folder

    def ask(self, opened: Opened, node: Any, in_use: bool = False) -> None:
        """Ask the reader, who takes no part in the first reading of a case, what to do; nothing of it is shown."""
        found = readings(opened.case.folder)
        self._show(told(next(iter(found), None), in_use), choices(next(iter(found), None), in_use), found)
        self._choose = lambda choice: self._begin(
            choice, opened.case.folder, lambda folder: self._opened(opened, node, folder)
        )

    def choose(self, choice: str) -> None:
        """Open what the reader chose: "first", "automatic" or "copy"."""
        chosen = self._choose
        self.close_question()
        chosen(choice)

    def close_question(self) -> None:
        """Hide the question or the list of readings; nothing is changed."""
        self._choose = lambda choice: None
        for name in ("askLabel", "laterButton", *BUTTONS.values()):
            getattr(self.ui, name).visible = False

    def toggle_readings(self) -> None:
        """Show the readings of the open case and what else the reader may open, or hide them."""
        folder, opened = self.face.case_folder, self.review.folder
        if folder is None or opened is None or self.ui.askLabel.visible:
            self.close_question()
            return
        self.face.save_now()
        found = readings(folder)
        lines = [standing_text(each.record, self.review.who) for each in found]
        lines = [*(lines or [_("No reader has changed or signed anything yet.")]), str(opened)]
        self._show(lines, other_choices(self.review.who, opened, folder, found, bool(self.review.locked)), found)
        self._choose = lambda choice: self._begin(choice, folder, self._reopen)

    def _begin(self, choice: str, case_folder: Path, then: Callable[[Path], None]) -> None:
        if choice == "first":
            then(case_folder)
            return
        who = self.review.who
        self.face.work(_("beginning your reading"), lambda: begin_own(case_folder, who, choice == "copy"), then)

    def _reopen(self, folder: Path | None) -> None:
        """Open another reading of the open case: that in `folder`, or the one that the reader is asked for."""
        editor, case_folder = self.review.editor, self.face.case_folder
        if editor is None or case_folder is None:
            return
        ct, node = editor.machine.ct, self.review.study.nodes["ct"]
        self.face.close()
        kept = node if node.GetScene() else None
        case = Case(case_folder.name, Path(), case_folder)

        def ready() -> Opened:
            """Prepare the study in another thread."""
            analysis = machine_analysis(case_folder)
            return Opened(case, prepare(ct, analysis, case.name, folder or case_folder), self.analyst.models())

        def show(opened: Opened) -> None:
            """Open the reading, or ask for it."""
            reading = folder or self.folder_of(opened, kept)
            if reading:
                self._opened(opened, kept, reading)

        self.analyst.opening(_("opening the study"), case, ready, show)

    def _show(self, lines: Sequence[str], offered: Sequence[Choice], found: Sequence[Found]) -> None:
        show_text(self.ui.askLabel, "\n".join(lines))
        self.ui.laterButton.visible = True
        name = short(owner(next(iter(found), None)))
        texts = {each["choice"]: each["text"] for each in offered}
        labels = {
            "first": _("Continue the reading of {}").format(name),
            "automatic": _("Own reading from the automatic points"),
            "copy": _("Own reading from the points of {}").format(name),
        }
        special = {LOOK: _("Open the signed reading"), RETRY: _("Try again to open it")}
        for choice, button in BUTTONS.items():
            widget = getattr(self.ui, button)
            widget.visible = choice in texts
            widget.toolTip = texts.get(choice, "")
            widget.text = special.get(texts.get(choice, ""), labels[choice]).replace("&", "&&")

    # -- who signs

    def set_reader(self, name: str) -> None:
        """Record further actions with this name; a reader who takes no part in the open reading is asked.

        The login name stands in for an empty one. VFQError `no_reader`, as `folder_to_open`.
        """
        before = self.review.who
        self.review.sign_as(name if name.strip() else getpass.getuser())
        if self.review.who == before or self.review.editor is None:
            return
        self.face.check_saved()
        folder = self.face.case_folder
        own = folder_to_open(folder, self.review.who) if folder else None
        if own != self.review.folder:
            self._reopen(own)
        else:
            self.face.changed()

    def complete_study(self) -> None:
        """Sign, copy the report's text, write the images of the reader's points, and open the next open case.

        VFQError `study_open` while a vertebra is open.
        """
        editor, folder, reading = self.review.editor, self.face.case_folder, self.review.folder
        if editor is None or folder is None or reading is None or self._completing:
            return
        text, write = self.review.completed()
        told_text = _("Its report is on the clipboard.") if copied(text) else _("Its report: {}").format(text)
        self.face.save_now()
        self.face.changed()
        if self.face.unsaved:
            problem = _("{} is signed, but not on disk yet: {} {}").format(folder.name, self.face.unsaved, told_text)
            self.face.tell(problem)
            return

        def written() -> tuple[str, ...]:
            """Write the images; in another thread."""
            try:
                return write()
            finally:
                self._completing = False

        def ended(names: tuple[str, ...]) -> None:
            """Report it, and go to the next case. Saving removes the images of a study that was changed meanwhile."""
            if self.review.editor is editor:
                self.face.save_now()
            left = [name for name in names if (reading / name).exists()]
            images = _("Its folder now has {} of your points.").format(_(" and ").join(left)) if left else CHANGED
            if self.review.editor is editor and left:
                with suppress(VFQError):
                    self._complete()
            self.face.tell(_("{} is complete and signed. {} {}").format(folder.name, told_text, images))

        self._completing = True
        self.face.work(_("writing the images of your points"), written, ended, saves=True)

    def show(self) -> None:
        """Show whose reading is open and who signed it."""
        is_open = self.review.editor is not None
        show_text(self.ui.standingLabel, self.review.standing)
        self.ui.completeButton.text = _("Counter-sign") if self.review.locked else _("Study complete")
        self.ui.completeButton.enabled = self.ui.readingsButton.enabled = is_open
