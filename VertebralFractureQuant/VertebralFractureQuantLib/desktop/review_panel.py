"""The panel's Review section: table, buttons and levels."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ..scene.rows import against_text, row, rows, summary
from ..spine.levels import NAMES
from .face import DesktopFace
from .labels import show_text
from .table import VertebraTable

# Each button of the .ui file, and the action of `scene.review.Review` that it calls.
BUTTONS = {
    "previousButton": "previous_vertebra",
    "nextButton": "next_vertebra",
    "confirmButton": "confirm",
    "rejectButton": "reject",
    "reopenButton": "reopen",
    "undoButton": "undo",
    "redoButton": "redo",
    "levelUpButton": "level_up",
    "levelDownButton": "level_down",
    "pinButton": "toggle_pin",
    "addButton": "start_adding",
    "placeButton": "start_placing",
    "annotateButton": "start_placing",
    "deleteButton": "delete",
    "resetButton": "reset",
    "rescueButton": "start_rescue",
    "drawCurveButton": "start_rescue",
    "finishButton": "finish_clicks",
    "leaveButton": "cancel",
    "orderButton": "toggle_order",
}
OF_SELECTED = (
    "confirmButton",
    "rejectButton",
    "reopenButton",
    "levelUpButton",
    "levelDownButton",
    "pinButton",
    "resetButton",
    "levelComboBox",
)


class ReviewPanel:
    """Shows the review of a `DesktopFace`, and passes on what the reader presses.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    face : the face whose review is shown.
    act : called with the name of an action and its arguments.
    """

    def __init__(self, ui: Any, face: DesktopFace, act: Callable[..., None]):
        self.ui = ui
        self.face = face
        self.review = face.review
        self._act = act
        self._contradicting: set[str] = set()  # vertebrae whose level does not follow the one above
        self.table = VertebraTable(ui.vertebraTable, lambda vertebra_id: act("select", vertebra_id))
        for button, action in BUTTONS.items():
            getattr(ui, button).connect("clicked()", lambda action=action: act(action))
        ui.levelComboBox.addItems(list(NAMES))
        ui.levelComboBox.connect("textActivated(QString)", self._name)
        face.on_changed.append(self.show)
        face.on_followed.append(self.follow)

    def show(self) -> None:
        """Update all widgets."""
        shown = rows(self.review.study, self.review.order)
        self._contradicting = {row["id"] for row in shown if row["contradiction"]}
        self.table.fill(shown, self.review.selected)
        self._show_summary()
        self._show_against()
        self._show_buttons()
        show_text(self.ui.hintLabel, self.review.hint)

    def follow(self, vertebra_ids: Collection[str]) -> None:
        """Update only the measurements of these vertebrae. If empty, update the selection."""
        for vertebra_id in vertebra_ids:
            self.table.update(row(self.review.study, vertebra_id, vertebra_id in self._contradicting))
        self.table.mark(self.review.selected)
        self._show_against()
        if vertebra_ids:
            self._show_summary()
        else:
            self._show_buttons()

    def _show_summary(self) -> None:
        patient = summary(self.review.study)
        show_text(self.ui.summaryLabel, summary_text(patient))
        show_text(self.ui.qualityLabel, "\n".join(f"\N{WARNING SIGN} {sentence}" for sentence in patient["quality"]))

    def _show_against(self) -> None:
        study, selected = self.review.study, self.review.selected
        told = against_text(study.vertebra(selected)) if selected else ""
        show_text(self.ui.againstLabel, f"{study.label(selected)}: {told}" if selected and told else "")

    def _show_buttons(self) -> None:
        ui, review, journal = self.ui, self.review, self.review.editor and self.review.editor.journal
        for button in BUTTONS:
            getattr(ui, button).enabled = journal is not None
        for name in OF_SELECTED:
            getattr(ui, name).enabled = review.selected is not None
        ui.deleteButton.enabled = review.selected is not None or review.clicks > 0
        ui.undoButton.enabled = bool(journal and journal.undoable)
        ui.redoButton.enabled = bool(journal and journal.redoable)
        ui.undoButton.toolTip = f"Undo: {journal.undoable}" if journal and journal.undoable else "Undo (Ctrl+Z)"
        ui.finishButton.visible = review.mode == "rescue"
        ui.leaveButton.visible = review.mode is not None
        details = review.study.vertebrae[review.selected].details if review.selected else {}
        ui.pinButton.checked = bool(details.get("pinned"))
        ui.levelComboBox.currentIndex = NAMES.index(details["level"]) if details.get("level") else -1
        ui.orderButton.checked = review.doubtful_first

    def _name(self, level: str) -> None:
        if self.review.selected:
            self._act("name", self.review.selected, level)


def summary_text(patient: dict[str, Any]) -> str:
    """Return the summary of the patient (`scene.rows.summary`) as a sentence or two."""
    if not patient["total"]:
        return "No vertebrae yet."
    found = "All rejected"
    if patient["grade"]:
        sdi = f"SDI {patient['sdi']} over {patient['assessed']} levels ({patient['span']})"
        worst = f"{patient['grade']}, {patient['worst']}" if patient["worst"] else patient["grade"]
        usual = f" {patient['physiologic']} physiologic, counted as normal." if patient["physiologic"] else ""
        found = f"Worst grade: {worst}.{usual} {sdi}"
    return f"{found}. {patient['total'] - patient['open']} of {patient['total']} reviewed."
