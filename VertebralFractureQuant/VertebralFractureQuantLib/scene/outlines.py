"""The heights and endplates of all vertebrae as line segments in the colours of their grades.

There is one model in straight RAS mm for the straightened view, and one in patient RAS mm. The lines of markups are
drawn in their own plane only; these are projected onto any plane. One model for all vertebrae needs a single actor;
lines as markups would need seven more widgets for each vertebra. The spine's curve is drawn here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..report.markups import GRADE_COLORS
from ..spine.genant import GRADES
from ..spine.keypoints import SEGMENTS

Color = tuple[float, float, float]

ALERTS = {"faulty": (1.0, 0.2, 1.0), "rejected": (0.45, 0.45, 0.45)}
COLORS = {**GRADE_COLORS, **ALERTS}
# In the palette "plain" no colour suggests a grade.
PALETTES = {"grades": COLORS, "plain": {**dict.fromkeys(GRADE_COLORS, (0.36, 0.56, 0.94)), **ALERTS}}
INDEX = {name: i for i, name in enumerate((*GRADES, "faulty", "rejected"))}
SCALARS = "grade"
POINTS = 6  # key points of a vertebra
CURVE_COLOR = (0.85, 0.85, 0.85)


def draw(node: Any, points: np.ndarray, colors: Sequence[str]) -> None:
    """Draw all vertebrae: key points `(n, 3, 2, 3)` mm, and for each the name of a colour in `COLORS`."""
    data = vtk.vtkPolyData()
    data.SetPoints(vtk.vtkPoints())
    data.GetPoints().SetData(numpy_to_vtk(points.reshape(-1, 3), deep=True))
    data.SetLines(segments(len(points)))
    scalars = numpy_to_vtk(np.repeat([INDEX[c] for c in colors], POINTS).astype(np.int32), deep=True)
    scalars.SetName(SCALARS)
    data.GetPointData().SetScalars(scalars)
    node.SetAndObservePolyData(data)
    if node.GetDisplayNode():
        node.GetDisplayNode().SetActiveScalar(SCALARS, vtk.vtkAssignAttribute.POINT_DATA)


def move(node: Any, index: int, points: np.ndarray, color: str) -> None:
    """Move the outline with this index to key points `(3, 2, 3)` mm; the others stay."""
    data = node.GetPolyData()
    rows = slice(POINTS * index, POINTS * (index + 1))
    vtk_to_numpy(data.GetPoints().GetData())[rows] = points.reshape(-1, 3)
    vtk_to_numpy(data.GetPointData().GetArray(SCALARS))[rows] = INDEX[color]
    data.GetPointData().GetArray(SCALARS).Modified()
    data.GetPoints().Modified()
    data.Modified()


def fade(node: Any, opacity: float) -> None:
    """Draw with this opacity, if the node is shown."""
    if node.GetDisplayNode():
        node.GetDisplayNode().SetOpacity(opacity)
        node.GetDisplayNode().SetSliceIntersectionOpacity(opacity)


def create(scene: Any, name: str, view_ids: Sequence[str], colors: Any) -> Any:
    """Return a new model node for the segments, projected onto the planes of the views with these IDs."""
    node = scene.AddNewNodeByClass("vtkMRMLModelNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetSelectable(False)  # so that a click reaches the key points beneath
    display = node.GetDisplayNode()
    display.SetViewNodeIDs(list(view_ids))
    display.SetVisibility2D(True)
    display.SetSliceDisplayModeToProjection()
    display.SetSliceIntersectionThickness(1)
    display.SetScalarVisibility(True)
    display.SetAndObserveColorNodeID(colors.GetID())
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(0, len(INDEX) - 1)
    return node


def create_curve(scene: Any, name: str, view_ids: Sequence[str]) -> Any:
    """Return a new model node for the spine's curve, shown in the 3D views with these IDs, if any."""
    node = scene.AddNewNodeByClass("vtkMRMLModelNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetSelectable(False)
    display = node.GetDisplayNode()
    display.SetViewNodeIDs(list(view_ids))
    display.SetVisibility(bool(view_ids))
    display.SetColor(*CURVE_COLOR)
    display.SetLineWidth(3)
    return node


def draw_curve(node: Any, points: np.ndarray) -> None:
    """Draw a curve's points `(n, 3)` RAS mm as one line."""
    data = vtk.vtkPolyData()
    data.SetPoints(vtk.vtkPoints())
    data.GetPoints().SetData(numpy_to_vtk(np.ascontiguousarray(points, float), deep=True))
    data.SetLines(vtk.vtkCellArray())
    data.GetLines().InsertNextCell(len(points), list(range(len(points))))
    node.SetAndObservePolyData(data)


def fill_colors(node: Any, colors: Mapping[str, Color]) -> None:
    """Write a palette of `PALETTES` into a vtkMRMLColorTableNode."""
    node.SetTypeToUser()
    node.SetNumberOfColors(len(INDEX))
    for name, i in INDEX.items():
        node.SetColor(i, name, *colors[name])


def segments(count: int, pairs: Sequence[tuple[int, int]] = SEGMENTS) -> vtk.vtkCellArray:
    """Return lines between these `pairs` of the six points of each of so many vertebrae."""
    lines = vtk.vtkCellArray()
    for first in range(0, POINTS * count, POINTS):
        for start, end in pairs:
            lines.InsertNextCell(2, [first + start, first + end])
    return lines
