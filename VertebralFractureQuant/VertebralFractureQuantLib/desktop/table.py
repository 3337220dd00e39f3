"""The panel's table of vertebrae: a QTableWidget that shows the rows of `scene.rows`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import qt

from ..report.markups import GRADE_COLORS
from ..scene.rows import Row

CHECK = "\N{CHECK MARK}"
HEADERS = ("Level", "ha", "hm", "hp", "G", "Grade", CHECK)
TIPS = {
    "Level": "Level of the vertebra, or its position from the top if the level is unknown;\n"
    "? uncertain, * pinned, ! contradicts its neighbours",
    "ha": "Anterior height in mm",
    "hm": "Middle height in mm",
    "hp": "Posterior height in mm",
    "G": "Genant ratio: smallest height / largest height;\n"
    "± standard deviation of G, ~ G is within its expected error of a grade threshold",
    CHECK: "\N{CHECK MARK} confirmed, \N{BALLOT X} rejected, \N{LOWER RIGHT PENCIL} points set by a reader,\n"
    "\N{WARNING SIGN} in doubt: the tip of the cell says why",
}
FAULTY = (1.0, 0.6, 1.0)
NAME, RATIO, GRADE, REVIEW = 0, 4, 5, 6
SIGNS = {"open": "", "confirmed": CHECK, "rejected": "\N{BALLOT X}"}
EDITED = "\N{LOWER RIGHT PENCIL}"
DOUBTED = "\N{WARNING SIGN}"
ROW_PIXELS, NARROWEST_PIXELS = 22, 20


class VertebraTable:
    """Shows rows in a QTableWidget.

    Parameters
    ----------
    widget : the QTableWidget.
    chosen : called with the id of the vertebra that the reader selects.
    """

    def __init__(self, widget: Any, chosen: Callable[[str], None]):
        self.widget = widget
        self._chosen = chosen
        self._ids: list[str] = []
        self._filling = False
        widget.setColumnCount(len(HEADERS))
        widget.setHorizontalHeaderLabels(list(HEADERS))
        for column, header in enumerate(HEADERS):
            widget.horizontalHeaderItem(column).setToolTip(TIPS.get(header, ""))
        widget.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        widget.horizontalHeader().setMinimumSectionSize(NARROWEST_PIXELS)
        widget.verticalHeader().setVisible(False)
        widget.verticalHeader().setDefaultSectionSize(ROW_PIXELS)
        widget.connect("itemSelectionChanged()", self._select)

    def fill(self, rows: Sequence[Row], selected: str | None) -> None:
        """Replace all rows, and select one vertebra."""
        with self._quiet():
            self._ids = [row["id"] for row in rows]
            self.widget.setRowCount(len(rows))
            for index, row in enumerate(rows):
                self._write(index, row)
            self.mark(selected)

    def update(self, row: Row) -> None:
        """Replace the row of one vertebra, if it is shown."""
        if row["id"] in self._ids:
            with self._quiet():
                self._write(self._ids.index(row["id"]), row)

    def mark(self, vertebra_id: str | None) -> None:
        """Select the row of a vertebra, or none."""
        at = self._ids.index(vertebra_id) if vertebra_id in self._ids else -1
        if at == self.widget.currentRow() and self.widget.selectedItems():
            return
        with self._quiet():
            if at < 0:
                self.widget.clearSelection()
            else:
                self.widget.selectRow(at)

    def _write(self, index: int, row: Row) -> None:
        for column, text in enumerate(_texts(row)):
            item = self.widget.item(index, column)
            if item is None:
                item = qt.QTableWidgetItem()
                if column == GRADE:  # so that the highlight of the selected row does not hide the grade's colour
                    item.setFlags(qt.Qt.ItemIsEnabled)
                self.widget.setItem(index, column, item)
            if item.text() != text:
                item.setText(text)
        color = FAULTY if row["fault"] else GRADE_COLORS[row["grade"]]
        _paint(self.widget.item(index, GRADE), color)
        self.widget.item(index, NAME).setToolTip(row["fault"] or row["doubt"])
        self.widget.item(index, RATIO).setToolTip(row["g"])
        self.widget.item(index, GRADE).setToolTip("\n".join(filter(None, (row["physiologic"], row["against"]))))
        self.widget.item(index, REVIEW).setToolTip(row["reviewer"] or row["quality"])

    def _select(self) -> None:
        at = self.widget.currentRow()
        if not self._filling and 0 <= at < len(self._ids):
            self._chosen(self._ids[at])

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        before, self._filling = self._filling, True
        try:
            yield
        finally:
            self._filling = before


def _texts(row: Row) -> tuple[str, ...]:
    marks = {"doubt": "?", "pinned": "*", "contradiction": "!"}
    level = row["level"] + "".join(mark for name, mark in marks.items() if row[name])
    ratio = ("~" if row["borderline"] else "") + row["ratio"] + (f" {row['spread']}" if row["spread"] else "")
    usual = " (physiologic)" if row["physiologic"] else ""
    grade = "invalid points" if row["fault"] else f"{row['grade']} {row['shape']}".strip() + usual
    doubted = DOUBTED if row["flags"] and row["review"] == "open" else ""
    review = doubted + SIGNS[row["review"]] + (EDITED if row["origin"] == "reader" else "")
    return level, row["ha"], row["hm"], row["hp"], ratio, grade, review


def _paint(item: Any, color: tuple[float, float, float]) -> None:
    wanted = qt.QColor(*(round(255 * c) for c in color))
    if item.background().color().name() != wanted.name():
        item.setBackground(qt.QBrush(wanted))
        item.setForeground(qt.QBrush(qt.QColor(0, 0, 0)))
