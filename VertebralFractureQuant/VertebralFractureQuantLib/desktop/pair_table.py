"""The panel's table of what has changed since a prior study: a QTableWidget with the rows of `scene.pair_rows`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ..scene.pair_rows import HEIGHTS, NAMES, Row
from .table import CHECK, NARROWEST_PIXELS, ROW_PIXELS

HEADERS = ("Level", _("G then"), _("G now"), _("Change"), *(f"{name} %" for name in NAMES), _("Verdict"))
TIPS = {
    1: _("Genant ratio in the prior study"),
    2: _("Genant ratio in the open study"),
    3: _("Change of G, with the 95 % interval of measurement error"),
    **{4 + i: _("Change of the height in per cent of that in the prior study") for i in range(len(NAMES))},
}
VERDICT = 7
COLORS = {"worse": (229, 72, 77), "doubtful": (255, 193, 7)}  # by the row's `kind`

Ids = tuple[str | None, str | None]


class PairTable:
    """Shows rows in a QTableWidget.

    Parameters
    ----------
    widget : the QTableWidget.
    chosen : called with the ids in the prior study and in the open one of the row that the reader selects.
    """

    def __init__(self, widget: Any, chosen: Callable[[str | None, str | None], None]):
        self.widget = widget
        self._chosen = chosen
        self._rows: list[Row] = []
        self._filling = False
        widget.setColumnCount(len(HEADERS))
        widget.setHorizontalHeaderLabels(list(HEADERS))
        for column, tip in TIPS.items():
            widget.horizontalHeaderItem(column).setToolTip(tip)
        widget.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        widget.horizontalHeader().setSectionResizeMode(VERDICT, qt.QHeaderView.Stretch)
        widget.horizontalHeader().setMinimumSectionSize(NARROWEST_PIXELS)
        widget.verticalHeader().setVisible(False)
        widget.verticalHeader().setDefaultSectionSize(ROW_PIXELS)
        widget.connect("itemSelectionChanged()", self._select)

    def show(self, rows: Sequence[Row], selected: Ids) -> Row | None:
        """Show the rows, writing only what reads otherwise, and select one; return that row, or None."""
        self._filling = True
        try:
            known, self._rows = self._rows, list(rows)
            if len(known) != len(rows):
                known = []
                self.widget.setRowCount(0)
                self.widget.setRowCount(len(rows))
            for at, row in enumerate(rows):
                before = known[at] if known else None
                if before != row:
                    self._write(at, row, texts(before) if before else ())
            return self._mark(selected)
        finally:
            self._filling = False

    def _mark(self, selected: Ids) -> Row | None:
        prior, current = selected
        of = [r["id"] == current if r["id"] else r["prior"] == prior for r in self._rows]
        at = of.index(True) if True in of else -1
        if at < 0:
            self.widget.clearSelection()
            return None
        if at != self.widget.currentRow() or not self.widget.selectedItems():
            self.widget.selectRow(at)
        return self._rows[at]

    def _write(self, at: int, row: Row, before: Sequence[str]) -> None:
        for column, text in enumerate(texts(row)):
            if before and before[column] == text:
                continue
            item = self.widget.item(at, column)
            if item is None:
                item = qt.QTableWidgetItem()
                self.widget.setItem(at, column, item)
            item.setText(text)
            if column == VERDICT:
                self._paint(item, row)

    def _paint(self, item: Any, row: Row) -> None:
        """Colour a verdict; the highlight of the selected row would hide the colour."""
        color = COLORS.get(row["kind"])
        item.setToolTip(row["reason"])
        item.setFlags(qt.Qt.ItemIsEnabled if color else qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
        item.setBackground(qt.QBrush(qt.QColor(*color)) if color else qt.QBrush())
        item.setForeground(qt.QBrush(qt.QColor(0, 0, 0)) if color else qt.QBrush())

    def _select(self) -> None:
        at = self.widget.currentRow()
        if not self._filling and 0 <= at < len(self._rows):
            self._chosen(self._rows[at]["prior"], self._rows[at]["id"])


def texts(row: Row) -> tuple[str, ...]:
    """Return the cells of a row of `scene.pair_rows`; a check mark tells a vertebra that is confirmed in that study."""
    level = _("{} (was {})").format(row["level"], row["was"]) if row["was"] else row["level"]
    ratios = (f"{row[of]} {CHECK if seen == 'confirmed' else ''}".strip() for of, seen in _ratios(row))
    verdict = row["reason"] if row["kind"] == "none" else row["verdict"]
    return level, *ratios, row["g"], *(row[name].removesuffix(" %") for name in HEIGHTS), verdict


def _ratios(row: Row) -> Sequence[tuple[str, str]]:
    return list(zip(("then", "now"), row["reviewed"], strict=True))
