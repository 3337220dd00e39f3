"""The endplates of vertebrae with the heights that their neighbours lead to expect, in the straightened view.

One model in straight RAS mm shows all of them, faint and thin, while its display node is visible. It cannot be picked
and is not saved with the scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..spine.expected import Expectation, expected_keypoints
from ..spine.genant import Measurement
from ..spine.keypoints import SEGMENTS
from .outlines import segments

ROLE = "expected"
COLOR = (0.75, 0.95, 1.0)
OPACITY = 0.8
ENDPLATES = SEGMENTS[3:]  # lines along the heights would cover the measured ones


def create(scene: Any, view_ids: Sequence[str]) -> Any:
    """Return a new, hidden model node for the views with these IDs."""
    node = slicer.vtkMRMLModelNode()
    node.SetName("Expected heights")
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetSelectable(False)  # so that a click reaches the key points beneath
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetViewNodeIDs(list(view_ids))
    display.SetVisibility(False)
    display.SetVisibility2D(True)
    display.SetSliceDisplayModeToProjection()
    display.SetSliceIntersectionThickness(1)
    display.SetColor(*COLOR)
    display.SetOpacity(OPACITY)
    display.SetSliceIntersectionOpacity(OPACITY)
    return node


def draw(
    node: Any,
    straight: Mapping[str, np.ndarray],
    measurements: Mapping[str, Measurement],
    expected: Mapping[str, Expectation | None],
) -> None:
    """Draw the outlines of all vertebrae of which heights are expected, if the node is shown; by the vertebra's id.

    straight : key points `(3, 2, 3)`, straight RAS mm.
    """
    if not node.GetDisplayNode().GetVisibility():
        return
    known = [(straight[i], measurements[i], e) for i, e in expected.items() if e]
    points = [expected_keypoints(p, m.heights_mm, e.heights_mm) for p, m, e in known]
    data = vtk.vtkPolyData()
    data.SetPoints(vtk.vtkPoints())
    data.GetPoints().SetData(numpy_to_vtk(np.reshape(points, (-1, 3)).astype(float), deep=True))
    data.SetLines(segments(len(points), ENDPLATES))
    node.SetAndObservePolyData(data)
