"""What the section Label set does with a case: list it, load it, begin it, and show its rows; here by one reader alone.

`adjudication` has the same for a third reader who decides between others.
"""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from ..analysis import Models
from ..errors import VFQError
from ..labels.dataset import Dataset
from ..labels.status import readings_to_do
from ..labels.store import Slot
from ..scene.annotation_keys import ANNOTATION_KEYS
from ..scene.annotation_rows import label_rows, reason_rows
from ..scene.annotation_start import ASSISTED, begin, load_case
from ..scene.keys import Key
from ..scene.opening import Prepared
from .label_face import LabelFace

BLINDED = "This reading is blinded. Place the six points by hand (b)."
# A row of the table: the id of its vertebra, "" if it has no points; and the texts of the columns.
LabelRow = tuple[str, tuple[str, ...]]


class Labelling:
    """The readings that are assigned to a reader, blinded or assisted as the protocol says.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    face : the face of its review.

    Attributes
    ----------
    keys : the table of its keys; `headers` of the columns of its rows.
    """

    keys: tuple[Key, ...] = ANNOTATION_KEYS
    headers: tuple[str, ...] = ("Level", "Points", "Plane", "Time")

    def __init__(self, ui: Any, face: LabelFace):
        self.ui = ui
        self.face = face

    def mode_text(self, mode: str) -> str:
        """Return how cases are read by a protocol with this mode, in words."""
        return {"assisted": _("Assisted reading."), "blinded": _("Blinded reading.")}.get(mode, "")

    def slots(self, dataset: Dataset, reader: str) -> list[Slot]:
        """Return the readings to list. VFQError `nothing_assigned`, or as `newest`."""
        return readings_to_do(dataset, reader)

    def load(self, dataset: Dataset, slot: Slot, models: Models | VFQError) -> Prepared:
        """Read a case, for any thread. VFQError as `load_case`."""
        return load_case(dataset, slot, models)

    def begin(self, dataset: Dataset, slot: Slot, prepared: Prepared, models: Models | VFQError) -> None:
        """Show a case that was loaded. VFQError as `AnnotationReview.begin`."""
        blinded = dataset.protocol["mode"] != ASSISTED
        networks = VFQError("blinded_protocol", BLINDED) if blinded else models
        self.face.review.begin(dataset, begin(dataset, slot, prepared), networks)

    def rows(self) -> list[LabelRow]:
        """Return the rows of the open case: each vertebra with points, then what is not assessable."""
        rows: list[LabelRow] = []
        for row in label_rows(self.face.review):
            source = f"{row['source']}?" if row["waits"] else row["source"]
            rows.append((row["id"], (row["level"], source, row["plane"], row["seconds"])))
        return [*rows, *self._reasons()]

    def _reasons(self) -> list[LabelRow]:
        return [("", (row["level"], row["reason"], _("not assessable"))) for row in reason_rows(self.face.review)]

    def show_columns(self, table: Any) -> None:
        """Give a table the columns of the rows."""
        table.setColumnCount(len(self.headers))
        table.setHorizontalHeaderLabels(list(self.headers))
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)

    def fill(self, table: Any) -> list[str]:
        """Show the rows in a table, and return the ids of their vertebrae."""
        rows = self.rows()
        table.setRowCount(len(rows))
        for at, (_vertebra_id, texts) in enumerate(rows):
            for column in range(len(self.headers)):
                item = qt.QTableWidgetItem(texts[column] if column < len(texts) else "")
                item.setToolTip(item.text())
                table.setItem(at, column, item)
        return [vertebra_id for vertebra_id, _texts in rows if vertebra_id]

    def show(self) -> None:
        """Show the widgets that this alone has, and hide others."""
        ui, review = self.ui, self.face.review
        assisted = bool(review.annotation and review.annotation.assisted)
        ui.labelProposeButton.visible = ui.labelAcceptButton.visible = assisted
        ui.labelAcceptButton.text = _("Accept")
        ui.labelMeanButton.visible = ui.labelLeftLabel.visible = ui.labelOpinionTable.visible = False
        self._show_levels(review.next_level, review.levels_left)

    def _show_levels(self, following: str | None, left: list[str]) -> None:
        """Show the levels with which a vertebra can be begun: that which is proposed, and those that are left."""
        ui, box = self.ui, self.ui.labelLevelComboBox
        ui.labelNextLevelButton.visible = following is not None
        ui.labelNextLevelButton.text = _("Six points of {} (V)").format(following) if following else ""
        texts = [_("Six points of ..."), *left]
        if [box.itemText(i) for i in range(box.count)] != texts:
            box.clear()
            box.addItems(texts)
        box.currentIndex = 0
        box.visible = bool(left)
