"""The results table: a vtkMRMLTableNode with one row for each vertebra, cranial to caudal; heights in mm.

It is meant for Slicer's table views, plots and Python users, and follows the key points live. Expected heights and
losses have the names of `measurements.csv`; they are nan without neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer
import vtk

from ..report.tables import EXPECTED, expected_values
from ..spine.quality import codes_text
from ..spine.record import Vertebra

NUMBERS = ("ha mm", "hm mm", "hp mm", "G")
WORDS = ("grade", "shape", "borderline", "fault", "physiologic", "quality")
COLUMNS = ("level", *NUMBERS, "spread", *WORDS, "review", "origin", *EXPECTED, "loss_grade")
DOUBLES = (*NUMBERS, "spread", *EXPECTED)

Row = tuple[str, Vertebra, str]


def fill(node: Any, rows: Iterable[Row]) -> None:
    """Write all rows: label, vertebra, why its key points are impossible or ""."""
    rows = list(rows)
    with slicer.util.NodeModify(node):
        node.RemoveAllColumns()
        for name in COLUMNS:
            column = vtk.vtkDoubleArray() if name in DOUBLES else vtk.vtkStringArray()
            column.SetName(name)
            column.SetNumberOfValues(len(rows))
            node.AddColumn(column)
        table = node.GetTable()
        for index, (label, vertebra, fault) in enumerate(rows):
            _set(table, index, "level", label)
            _set(table, index, "spread", float("nan") if vertebra.spread is None else vertebra.spread)
            _set(table, index, "review", vertebra.review)
            _set(table, index, "origin", vertebra.origin)
            fill_row(node, index, vertebra, fault)


def fill_row(node: Any, index: int, vertebra: Vertebra, fault: str) -> None:
    """Write what follows from the key points of one vertebra, and why they are impossible."""
    m, table = vertebra.measurement, node.GetTable()
    words = (m.grade, m.shape or "", "~" if m.borderline else "", fault)
    reasons = (vertebra.physiologic or "", codes_text(vertebra.quality))
    values = (*m.heights_mm, m.genant_ratio, *words, *reasons)
    for name, value in zip((*NUMBERS, *WORDS), values, strict=True):
        _set(table, index, name, value)
    for name, number in expected_values(vertebra.expected).items():
        _set(table, index, name, float("nan") if number is None else number)
    _set(table, index, "loss_grade", vertebra.expected.grade if vertebra.expected else "")
    node.Modified()


def _set(table: Any, row: int, name: str, value: Any) -> None:
    table.GetColumnByName(name).SetValue(row, value)
