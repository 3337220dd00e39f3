"""The key points of several readers as thin outlines: each reader, called A, B, ..., has a colour and a shape.

They are models over the straightened view and the patient's views: looked at, never picked or saved. Points are
`(3, 2, 3)` mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..spine.keypoints import SEGMENTS, outline
from ..spine.straightening import Straightening
from .nodes import remove
from .outlines import Color
from .views import Views

COLORS: tuple[Color, ...] = ((0.96, 0.62, 0.12), (0.1, 0.82, 0.6), (0.93, 0.52, 0.8), (0.95, 0.9, 0.3))
SHAPES = ("circle", "square", "triangle", "diamond")
SIGNS = {"circle": "\N{BLACK CIRCLE}", "square": "\N{BLACK SQUARE}"}  # in texts
SIGNS |= {"triangle": "\N{BLACK UP-POINTING TRIANGLE}", "diamond": "\N{BLACK DIAMOND}"}
RADIUS_MM = 0.8
CORNERS = {"circle": (16, 0.0), "square": (4, 45.0), "triangle": (3, 90.0), "diamond": (4, 0.0)}  # count, first angle


def style(letter: str) -> tuple[Color, str]:
    """Return colour and shape of the reader who is called `letter`: the same in each case."""
    index = ord(letter[0]) - ord("A")
    return COLORS[index % len(COLORS)], SHAPES[(index + index // len(COLORS)) % len(SHAPES)]


class Opinions:
    """Shows the readers' points in a scene from `show` until `remove`.

    Attributes
    ----------
    nodes : the models by (letter, True for the straightened view).
    """

    def __init__(self, scene: Any, views: Views):
        self.scene = scene
        self._views = views
        self.nodes: dict[tuple[str, bool], Any] = {}

    def show(self, points: Mapping[str, Sequence[np.ndarray]], straightening: Straightening) -> None:
        """Show the points `(3, 2, 3)` patient RAS mm of each reader, by letter."""
        for letter, own in points.items():
            straight = straightening.to_straight(np.stack(own)) if len(own) else np.empty((0, 3, 2, 3))
            lines, pairs = _drawn(straight, style(letter)[1])
            self._put(letter, True, lines, pairs)
            self._put(letter, False, straightening.to_patient(lines) if len(lines) else lines, pairs)

    def show_overlay(self, visible: bool) -> None:
        """Show or hide all of them."""
        for node in self.nodes.values():
            node.GetDisplayNode().SetVisibility(visible)

    def remove(self) -> None:
        """Remove the models from the scene."""
        for node in self.nodes.values():
            remove(self.scene, node)
        self.nodes = {}

    def _put(self, letter: str, straightened: bool, points: np.ndarray, pairs: np.ndarray) -> None:
        if (letter, straightened) not in self.nodes:
            views = self._views.straightened if straightened else self._views.sagittal
            self.nodes[letter, straightened] = _model(self.scene, letter, views)
        data, cells = vtk.vtkPolyData(), vtk.vtkCellArray()
        data.SetPoints(vtk.vtkPoints())
        data.GetPoints().SetData(numpy_to_vtk(np.ascontiguousarray(points, float), deep=True))
        for start, end in pairs:
            cells.InsertNextCell(2, [int(start), int(end)])
        data.SetLines(cells)
        self.nodes[letter, straightened].SetAndObservePolyData(data)


def _drawn(straight: np.ndarray, shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Return points `(m, 3)` and pairs `(k, 2)` of lines: outlines of `(n, 3, 2, 3)`, a shape at each point."""
    count, first = CORNERS[shape]
    angles = np.radians(first + 360.0 / count * np.arange(count))
    ring = RADIUS_MM * np.column_stack([np.zeros(count), np.cos(angles), np.sin(angles)])
    around = np.column_stack([np.arange(count), np.roll(np.arange(count), -1)])
    points, pairs = [np.empty((0, 3))], [np.empty((0, 2), int)]
    at = 0
    for keypoints in straight:
        body = keypoints.reshape(6, 3)
        points.append(body)
        pairs.append(np.array(SEGMENTS) + at)
        at += len(body)
        for corner in outline(keypoints):
            points.append(corner + ring)
            pairs.append(around + at)
            at += count
    return np.concatenate(points), np.concatenate(pairs)


def _model(scene: Any, letter: str, view_ids: Sequence[str]) -> Any:
    node = slicer.vtkMRMLModelNode()
    node.SetName(f"Reader {letter}")
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetSelectable(False)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetViewNodeIDs(list(view_ids))
    display.SetVisibility2D(True)
    display.SetSliceDisplayModeToProjection()
    display.SetSliceIntersectionThickness(2)
    display.SetColor(*style(letter)[0])
    return node
