"""Clicks in views, taken by MRML's own place mode: a temporary point list in which each click is a point.

Coordinates are world RAS mm: straight space in straightened views, the patient in the patient's views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import slicer

from .vertebra import is_defined

POINT_LIST = "vtkMRMLMarkupsFiducialNode"


class Placing:
    """One series of clicks.

    Parameters
    ----------
    view_ids : where the clicks are shown.
    labels : the names of the first clicks.
    clicked : called after each click with all points `(n, 3)` so far.
    """

    def __init__(
        self, scene: Any, view_ids: Sequence[str], labels: Sequence[str], clicked: Callable[[np.ndarray], None]
    ):
        self.scene = scene
        self._clicked = clicked
        self._labels = labels
        self.node = self._point_list(view_ids)
        self._tag = self.node.AddObserver(slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self._on_click)
        self._place_mode(True)

    def points(self) -> np.ndarray:
        """Return the clicks so far, `(n, 3)` world RAS mm."""
        node = self.node
        defined = [i for i in range(node.GetNumberOfControlPoints()) if is_defined(node, i)]
        points = np.empty((len(defined), 3))
        for row, i in zip(points, defined, strict=True):
            node.GetNthControlPointPositionWorld(i, row)
        return points

    def take_back(self) -> None:
        """Remove the last click."""
        count = len(self.points())
        if count:
            self.node.RemoveNthControlPoint(count - 1)

    def move_last(self, by: np.ndarray) -> None:
        """Move the last click by `(3,)` mm."""
        points = self.points()
        if len(points):
            self.node.SetNthControlPointPositionWorld(len(points) - 1, *(points[-1] + by))

    def end(self) -> None:
        """Leave place mode, and remove the clicks."""
        if self.node is None:
            return
        self._place_mode(False)
        self.node.RemoveObserver(self._tag)
        self.scene.RemoveNode(self.node)
        self.node = None

    def _on_click(self, *_: Any) -> None:
        points = self.points()
        if len(points) <= len(self._labels):
            self.node.SetNthControlPointLabel(len(points) - 1, self._labels[len(points) - 1])
        self._clicked(points)

    def _point_list(self, view_ids: Sequence[str]) -> Any:
        node = self.scene.AddNewNodeByClass(POINT_LIST, "Clicks")
        node.SetSaveWithScene(False)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetViewNodeIDs(list(view_ids))
        display.SetSliceProjection(True)
        display.SetSelectedColor(1.0, 1.0, 1.0)
        display.SetTextScale(3.0)
        return node

    def _place_mode(self, on: bool) -> None:
        selection = self.scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
        interaction = self.scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        selection.SetReferenceActivePlaceNodeClassName(POINT_LIST if on else None)
        selection.SetReferenceActivePlaceNodeID(self.node.GetID() if on else None)
        interaction.SetPlaceModePersistence(int(on))
        interaction.SetCurrentInteractionMode(interaction.Place if on else interaction.ViewTransform)
