"""The section Label set for a third reader: the readers of a case without their names, and one button for a decision.

What is decided and saved is that of `vfq annotate --adjudicate` (`scene.adjudication_review`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import qt
from slicer.i18n import tr as _

from ..analysis import Models
from ..errors import VFQError
from ..labels.dataset import Dataset
from ..labels.disputes import adjudications_to_do
from ..labels.store import Slot
from ..scene.adjudication_review import AdjudicationReview
from ..scene.adjudication_rows import decision_rows, left_text, opinion_rows
from ..scene.adjudication_start import begin_adjudication, load_adjudication
from ..scene.annotation_keys import ADJUDICATION_KEYS
from ..scene.annotation_rows import Row
from ..scene.opening import Prepared
from .label_face import LabelFace
from .labelling import Labelling, LabelRow
from .labels import show_text

READERS = ("Reader", "Marks", "")
SAID, TAKE = 1, 2  # columns
UNDECIDED = "?"


class AdjudicationFace(LabelFace):
    """The `scene.face.Face` of an adjudication in the module's panel."""

    review: AdjudicationReview
    review_type = AdjudicationReview


class OpinionTable:
    """The readers of a case, what each says of the selected vertebra, and a button that takes it.

    Parameters
    ----------
    widget : the QTableWidget.
    take : called with the letter of the reader whose button is pressed.
    """

    def __init__(self, widget: Any, take: Callable[[str], None]):
        self.widget = widget
        self._take = take
        self._letters: list[str] = []
        widget.setColumnCount(len(READERS))
        widget.setHorizontalHeaderLabels(list(READERS))
        widget.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        widget.verticalHeader().setVisible(False)

    def fill(self, rows: list[Row]) -> None:
        """Show the rows of `opinion_rows`."""
        if (letters := [row["letter"] for row in rows]) != self._letters:
            self._letters = letters
            self.widget.setRowCount(len(rows))
            for at, row in enumerate(rows):
                self._begin(at, row)
        for at, row in enumerate(rows):
            self.widget.item(at, SAID).setText(row["said"])
            button = self.widget.cellWidget(at, TAKE)
            key = ", ".join(filter(None, (row["key"], "F" if row["chosen"] else "")))
            button.text = _("Take {}").format(row["letter"]) + (f" ({key})" if key else "")
            button.enabled = row["there"]

    def _begin(self, at: int, row: Row) -> None:
        name = qt.QTableWidgetItem(f"{row['sign']} {row['letter']}")
        name.setForeground(qt.QBrush(qt.QColor(*(round(255 * c) for c in row["color"]))))
        name.setBackground(qt.QBrush(qt.QColor(40, 40, 40)))  # as in the views: the colours are made for dark images
        self.widget.setItem(at, 0, name)
        self.widget.setItem(at, SAID, qt.QTableWidgetItem(""))
        button = qt.QPushButton()
        button.connect("clicked()", partial(self._take, row["letter"]))
        self.widget.setCellWidget(at, TAKE, button)


class Adjudicating(Labelling):
    """The cases on which readers disagree, the worst first, for a reader who read none of them."""

    face: AdjudicationFace
    keys = ADJUDICATION_KEYS
    headers = ("Level", "Decision", "Disagreement")

    def __init__(self, ui: Any, face: AdjudicationFace, act: Callable[..., None]):
        super().__init__(ui, face)
        self.opinions = OpinionTable(ui.labelOpinionTable, partial(act, "take"))

    def mode_text(self, mode: str) -> str:
        """Return what the reader does, in words, once a label set is chosen."""
        return _("Adjudication.") if mode else ""

    def slots(self, dataset: Dataset, reader: str) -> list[Slot]:
        """Return the adjudications that a reader may make. VFQError `nothing_assigned`; as `final_readings`."""
        return adjudications_to_do(dataset, reader)

    def load(self, dataset: Dataset, slot: Slot, models: Models | VFQError) -> Prepared:
        """Read a case, for any thread. VFQError as `load_case`."""
        return load_adjudication(dataset, slot, models)

    def begin(self, dataset: Dataset, slot: Slot, prepared: Prepared, models: Models | VFQError) -> None:
        """Show a case that was loaded. VFQError as `scene.adjudication_start.begin_adjudication`."""
        self.face.review.begin_adjudication(dataset, begin_adjudication(dataset, slot, prepared))

    def rows(self) -> list[LabelRow]:
        """Return the rows of the open case, the worst disagreement first, then what is not assessable."""
        decided = decision_rows(self.face.review)
        rows = [(row["id"], (row["level"], row["decided"] or UNDECIDED, row["told"])) for row in decided]
        return [*rows, *self._reasons()]

    def show_columns(self, table: Any) -> None:
        """Give a table the columns of the rows; the last one takes what is left."""
        super().show_columns(table)
        for column in range(len(self.headers) - 1):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)

    def show(self) -> None:
        """Show the readers and the decisions, and hide what an adjudication has not."""
        ui = self.ui
        ui.labelProposeButton.visible = False
        ui.labelAcceptButton.visible = ui.labelMeanButton.visible = True
        ui.labelAcceptButton.text = _("As shown")
        self._show_levels(None, [])
        rows = opinion_rows(self.face.review) if self.face.review.editor else []
        ui.labelOpinionTable.visible = bool(rows)
        self.opinions.fill(rows)
        show_text(ui.labelLeftLabel, left_text(self.face.review))
