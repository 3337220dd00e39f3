"""The panel's section Label set: the worklist of a reader, and the annotation of one case after the other.

The label set, its readings and what is refused are those of `vfq annotate`; the same actions and keys apply where
Slicer leaves the keys free.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..analysis import Models
from ..errors import VFQError, as_coded
from ..labels.dataset import Dataset, load
from ..labels.reading import REASONS
from ..labels.store import Slot, newest
from ..scene.annotation_keys import REASON_KEYS, REPEATED_KEYS
from ..scene.annotation_review import AnnotationReview
from ..scene.keys import Key
from ..scene.opening import Prepared
from ..spine.levels import NAMES
from .adjudication import Adjudicating, AdjudicationFace
from .keyboard import Keyboard, help_text
from .label_face import LabelFace
from .labelling import Labelling
from .labels import show_text

CASES = ("Case", "State")
STATES = {"draft": "draft", "final": "complete"}
# Each button of the .ui file, and the action that it calls.
BUTTONS = {
    "labelPlaceButton": "start_placing",
    "labelNextLevelButton": "place_next",
    "labelProposeButton": "start_adding",
    "labelAcceptButton": "confirm",
    "labelMeanButton": "take_mean",
    "labelDeleteButton": "delete",
    "labelUndoButton": "undo",
    "labelCurveButton": "start_rescue",
    "labelReasonButton": "ask_reason",
    "labelCompleteButton": "complete_reading",
    "labelCloseButton": "close_reading",
}
FIELDS = ("labelLevelComboBox", "labelCommentLineEdit", "labelCaseCommentLineEdit")
REASON_TABLE = (*(Key((key,), reason, "") for key, reason in REASON_KEYS.items()), Key(("Escape",), "cancel", ""))
ASKED_S = 20.0  # a second press of "complete" counts as the answer for this long


class LabelPanel:
    """Shows a label set in the widgets `ui`.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    faces : the faces of the annotation and of the adjudication.
    models : returns the networks, or the reason why there are none; for any thread.
    leave : saves and closes the study of the review, before a case is opened here.
    window : the widget that owns the shortcuts.

    Attributes
    ----------
    listened : called when a case was opened or closed, as other keys apply.
    """

    def __init__(
        self,
        ui: Any,
        faces: tuple[LabelFace, AdjudicationFace],
        models: Callable[[], Models | VFQError],
        leave: Callable[[], None],
        window: Any,
    ):
        self.ui = ui
        self.listened: Callable[[], None] = lambda: None
        self._models = models
        self._leave = leave
        self._dataset: Dataset | None = None
        self._slots: list[Slot] = []
        self._at: int | None = None
        self._turn = 0
        self._ids: list[str] = []
        self._showing = self._listening = self._open = self._asking = False
        self._asked: tuple[str, float] = ("", 0.0)
        self._kinds: tuple[Labelling, ...] = (Labelling(ui, faces[0]), Adjudicating(ui, faces[1], self.act))
        self._kind = self._kinds[0]
        self._keyboards = [Keyboard(window, self.act, kind.keys, REPEATED_KEYS) for kind in self._kinds]
        self._reasons = Keyboard(window, self._give_reason, REASON_TABLE, ())
        self._own: dict[str, Callable[..., None]] = {
            "next_case": lambda: self._open_other(1),
            "previous_case": lambda: self._open_other(-1),
            "next_open": self.open_next,
            "toggle_help": lambda: slicer.util.infoDisplay(help_text(self._kind.keys), windowTitle=_("Keys")),
            "cancel": self._cancel,
            "ask_reason": self._ask_reason,
            "complete_reading": self._complete,
            "close_reading": self.close,
        }
        self._fill_in()
        for face in faces:
            face.on_changed.append(self.show)
            face.on_followed.append(lambda moved: None if moved else self.show())  # a drag changes no text here
        self.show()

    def _fill_in(self) -> None:
        ui = self.ui
        ui.labelCaseTable.setColumnCount(len(CASES))
        ui.labelCaseTable.setHorizontalHeaderLabels(list(CASES))
        ui.labelCaseTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        self._kind.show_columns(ui.labelTable)
        for table in (ui.labelCaseTable, ui.labelTable):
            table.verticalHeader().setVisible(False)
        for button, action in BUTTONS.items():
            getattr(ui, button).connect("clicked()", lambda action=action: self.act(action))
        ui.labelReasonComboBox.addItems([reason.replace("_", " ") for reason in REASONS])
        ui.labelReasonLevelComboBox.addItems(list(NAMES))
        ui.labelOpenButton.connect("clicked()", lambda: self._tell(self.open, ui.labelCaseTable.currentRow()))
        ui.labelCaseTable.connect("cellDoubleClicked(int,int)", lambda row, _column: self._tell(self.open, row))
        ui.labelCaseTable.connect("itemSelectionChanged()", self._show_buttons)
        ui.labelTable.connect("itemSelectionChanged()", self._select)
        ui.labelReaderComboBox.connect("textActivated(QString)", lambda _name: self._tell(self.show_worklist))
        ui.labelAdjudicateCheckBox.connect("toggled(bool)", lambda on: self._tell(self.adjudicate, on))
        ui.labelLevelComboBox.connect("textActivated(QString)", self._choose_level)
        ui.labelReasonComboBox.connect("textActivated(QString)", lambda text: self._give_reason(text.replace(" ", "_")))
        ui.labelCommentLineEdit.connect("editingFinished()", lambda: self._comment("comment", "labelCommentLineEdit"))
        ui.labelCaseCommentLineEdit.connect(
            "editingFinished()", lambda: self._comment("comment_case", "labelCaseCommentLineEdit")
        )

    @property
    def face(self) -> LabelFace:
        """The face of what is listed: of the annotation, or of the adjudication."""
        return self._kind.face

    @property
    def review(self) -> AnnotationReview:
        """The review of `face`."""
        return self._kind.face.review

    @property
    def is_open(self) -> bool:
        """True while a case is open here."""
        return self.review.editor is not None

    # -- the worklist

    def show_dataset(self) -> None:
        """Read the chosen label set, and list its readers. VFQError as `labels.dataset.load`."""
        self.close()
        self._dataset, self._slots, self._at = None, [], None
        self.ui.labelReaderComboBox.clear()
        self._show_cases()
        path = self.ui.labelSetPathLineEdit.currentPath.strip()
        if path:
            self._dataset = load(Path(path))
            self.ui.labelReaderComboBox.addItems(list(self._dataset.readers))
            self.ui.labelReaderComboBox.currentIndex = -1
        self.show()

    def show_worklist(self) -> None:
        """List the cases of the chosen reader. VFQError `nothing_assigned`, or as `newest`."""
        self.close()
        self._slots, self._at = [], None
        if self._dataset and self.ui.labelReaderComboBox.currentText:
            self._dataset = load(self._dataset.folder)
            reader = self._dataset.reader(self.ui.labelReaderComboBox.currentText)
            try:
                self._slots = self._kind.slots(self._dataset, reader)
            finally:
                self._show_cases()

    def adjudicate(self, on: bool) -> None:
        """List the cases that the reader is to decide on, or those that the reader is to read; as `show_worklist`."""
        self.close()
        self._kind = self._kinds[on]
        self._kind.show_columns(self.ui.labelTable)
        self.show()
        self.show_worklist()

    def open_next(self) -> None:
        """Open the next case that is not complete. VFQError `no_other_case`."""
        count, first = len(self._slots), -1 if self._at is None else self._at
        for at in ((first + i) % count for i in range(1, count + 1)):
            if at != self._at and self._state(at) != "complete":
                self.open(at)
                return
        raise VFQError("no_other_case", _("No other case is left to be read."))

    def open(self, row: int) -> None:
        """Open a case of the list: its spine is found in another thread. VFQError as `load_case`, shown later."""
        dataset = self._dataset
        if dataset is None or not 0 <= row < len(self._slots):
            return
        slot, kind = self._slots[row], self._kind
        self._turn += 1
        turn = self._turn

        def ready() -> tuple[Prepared, Models | VFQError]:
            """Read the CT, and find the spine, unless that was done before."""
            models = self._models()
            return kind.load(dataset, slot, models), models

        def show(found: tuple[Prepared, Models | VFQError]) -> None:
            """Show the case, unless another one was chosen meanwhile."""
            if turn == self._turn:
                self._show_case(dataset, row, *found)

        self.face.work(_("finding the spine"), ready, show)

    def _show_case(self, dataset: Dataset, row: int, prepared: Prepared, models: Models | VFQError) -> None:
        slot = self._slots[row]
        self._leave()
        self.close()
        self.review.who, self._at = slot[0], row
        self._kind.begin(dataset, slot, prepared, models)
        self.ui.labelCaseTable.selectRow(row)
        self._show_cases()

    def _open_other(self, by: int) -> None:
        at = -1 if self._at is None and by > 0 else (self._at or 0)
        if not 0 <= at + by < len(self._slots):
            raise VFQError("no_other_case", _("There is no further case in this direction."))
        self.open(at + by)

    def close(self) -> None:
        """Save and close the open case."""
        self._turn += 1
        if self.is_open:
            self.face.close()
            self._ask(False)
            self._show_cases()

    def end(self) -> str:
        """Save, close, and remove the shortcuts; return where a draft is that was refused, or ""."""
        self._turn += 1
        told = " ".join(filter(None, [kind.face.end() for kind in self._kinds]))
        for keyboard in (*self._keyboards, self._reasons):
            keyboard.forget()
        return told

    # -- actions

    def listen(self, on: bool) -> None:
        """Enable the shortcuts while the module is shown; they act while a case is open."""
        self._listening = on
        for kind, keyboard in zip(self._kinds, self._keyboards, strict=True):
            keyboard.listen(on and kind is self._kind and self.is_open and not self._asking)
        self._reasons.listen(on and self.is_open and self._asking)

    def act(self, action: str, *args: Any) -> None:
        """Call the action of this name, for a key, a button or a table."""
        self.face.on_told("")
        if action in self._own:
            self._tell(self._own[action])
        else:
            self.review.act(action, *args)

    def _tell(self, do: Callable[..., None], *args: Any) -> None:
        try:
            do(*args)
        except Exception as error:
            self.face.tell(as_coded(error) if isinstance(error, VFQError) else error)

    def _cancel(self) -> None:
        self._ask(False)
        self.review.cancel()

    def _ask_reason(self) -> None:
        if self.is_open:
            self.review.cancel()
            selected = self.review.selected
            level = self.review.study.vertebrae[selected].details["level"] if selected else None
            self.ui.labelReasonLevelComboBox.currentIndex = NAMES.index(level) if level else -1
            self._ask(True)

    def _give_reason(self, reason: str) -> None:
        self._ask(False)
        if reason in REASONS:
            self.act("not_assessable", reason, self.ui.labelReasonLevelComboBox.currentText or None)

    def _ask(self, on: bool) -> None:
        self._asking = on
        self.listen(self._listening)
        self.show()

    def _complete(self) -> None:
        """Make the reading final, and open the next case; pressed twice if something is in doubt."""
        if not self.is_open:
            return
        told = self.review.check_complete()
        asked, at = self._asked
        self._asked = (told, time.monotonic())
        if told and (asked != told or time.monotonic() - at > ASKED_S):
            self.face.tell(_("{} Press Complete again to finish the reading as it is.").format(told))
            return
        self._asked = ("", 0.0)
        self.face.complete()
        name = self._slots[self._at or 0][1]
        self.close()
        try:
            self.open_next()
            self.face.tell(_("{} is complete.").format(name))
        except VFQError:
            self.face.tell(_("{} is complete. No other case is left to be read.").format(name))

    def _choose_level(self, level: str) -> None:
        if level in NAMES:
            self.act("place_level", level)

    def _comment(self, action: str, field: str) -> None:
        annotation = self.review.annotation
        if self._showing or annotation is None:
            return
        known = annotation.comments.get(self.review.selected or "", "") if action == "comment" else annotation.comment
        if getattr(self.ui, field).text.strip() != known:
            self.act(action, getattr(self.ui, field).text)

    def _select(self) -> None:
        row = self.ui.labelTable.currentRow()
        if not self._showing and 0 <= row < len(self._ids) and self._ids[row] != self.review.selected:
            self.review.select(self._ids[row])

    # -- what is shown

    def show(self) -> None:
        """Update all widgets."""
        if self._showing:
            return
        self._showing = True
        try:
            self._show_rows()
            self._show_texts()
            self._show_buttons()
        finally:
            self._showing = False
        for keyboard in self._keyboards:
            keyboard.show(self.is_open, self.review.mode)
        self._reasons.show(self.is_open, "reason" if self._asking else None)
        if self._open != self.is_open:
            self._open = self.is_open
            self.listened()

    def _state(self, row: int) -> str:
        assert self._dataset
        found = newest(self._dataset, self._slots[row])
        return STATES[found.state] if found else ""

    def _show_cases(self) -> None:
        table = self.ui.labelCaseTable
        table.setRowCount(len(self._slots))
        for row, (_reader, case, session) in enumerate(self._slots):
            name = case if session == 1 else _("{} (second reading)").format(case)
            for column, text in enumerate((name, self._state(row))):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        if self._at is not None and self.is_open:
            table.selectRow(self._at)
        self._show_buttons()

    def _show_rows(self) -> None:
        table = self.ui.labelTable
        self._ids = self._kind.fill(table)
        annotation = self.review.annotation
        if annotation and self._at is not None and annotation.reading.revision:
            self.ui.labelCaseTable.setItem(self._at, 1, qt.QTableWidgetItem(STATES["draft"]))
        if self.review.selected in self._ids:
            table.selectRow(self._ids.index(self.review.selected))
        else:
            table.clearSelection()

    def _show_texts(self) -> None:
        ui, review, annotation = self.ui, self.review, self.review.annotation
        protocol = self._dataset.protocol if self._dataset else {}
        mode = self._kind.mode_text(str(protocol.get("mode", "")))
        show_text(ui.labelProtocolLabel, " ".join(filter(None, (mode, str(protocol.get("text", ""))))))
        placing = review.placing if self.is_open and review.mode == "place" else ""
        nudged = _("Arrow keys move {} by 0.1 mm.").format(review.point) if self.is_open and review.point else ""
        show_text(ui.labelHintLabel, placing or (review.hint if self.is_open else "") or nudged)
        unsaved = self.face.unsaved
        show_text(ui.labelUnsavedLabel, _("Not saved yet: {}").format(unsaved) if unsaved else "")
        comments = annotation.comments if annotation else {}
        for field, text in (
            (ui.labelCommentLineEdit, comments.get(review.selected or "", "")),
            (ui.labelCaseCommentLineEdit, annotation.comment if annotation else ""),
        ):
            if field.text != text and not field.hasFocus():
                field.text = text

    def _show_buttons(self) -> None:
        ui, opened = self.ui, self.is_open
        ui.labelOpenButton.enabled = 0 <= ui.labelCaseTable.currentRow() < len(self._slots)
        for name in (*BUTTONS, *FIELDS):
            getattr(ui, name).enabled = opened
        self._kind.show()
        ui.labelReasonRow.visible = self._asking
