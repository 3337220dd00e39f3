"""The labels of the straightened view: a column beside the spine, each label joined to its vertebra by a leader line.

Drawn with VTK on top of the view, because labels of markups stand on the image. The labels are placed each time the
view is rendered, in pixels of the view from its lower left corner; their size follows the view's height, so that they
are legible on any screen. Coordinates of vertebrae are straight mm (A, S).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..report.overview import spread
from .outlines import Color
from .straight import ANTERIOR_MM

SMALLEST, OF_HEIGHT = 13, 0.0155  # the letters' height: pixels, and share of the view's height
LINE_SPACING, APART = 1.35, 0.7  # in letters' heights
END = 2  # pixels between a leader line and its label, and between a label and the view's edge
LINE_OPACITY, GROUND_OPACITY = 0.6, 0.55


@dataclass(frozen=True)
class Label:
    """A vertebra's label.

    Attributes
    ----------
    words : what is written, on one line if there is room.
    box : least and greatest (A, S) of the key points `(2, 2)`, straight mm.
    """

    words: tuple[str, ...]
    color: Color
    box: np.ndarray
    selected: bool


class Labels:
    """Draws labels on a view's renderer from `attach` until `detach`.

    current : returns the labels to be shown, from cranial to caudal.
    """

    def __init__(self, current: Callable[[], Sequence[Label]]):
        self._current = current
        self._renderer: Any = None
        self._node: Any = None
        self._tag = 0
        self._texts: list[vtk.vtkTextActor] = []
        self._lines = _Leaders()

    def attach(self, renderer: Any, slice_node: Any) -> None:
        """Draw on a vtkRenderer that shows the plane of a vtkMRMLSliceNode; None draws nowhere."""
        if renderer is not self._renderer:
            self.detach()
            self._renderer, self._node = renderer, slice_node
            if renderer is not None:
                self._tag = renderer.AddObserver(vtk.vtkCommand.StartEvent, lambda *_: self.place())
                renderer.AddViewProp(self._lines.actor)

    def detach(self) -> None:
        """Remove all labels."""
        if self._renderer is not None:
            self._renderer.RemoveObserver(self._tag)
            for actor in (*self._texts, self._lines.actor):
                self._renderer.RemoveViewProp(actor)
        self._renderer, self._texts = None, []

    def place(self) -> None:
        """Place the labels in the view as it is now."""
        width, height, _ = self._node.GetDimensions()
        shown = list(self._current())
        boxes = self._pixels(np.array([label.box for label in shown]).reshape(-1, 2))
        boxes = np.sort(boxes.reshape(-1, 2, 2), axis=1)  # [label, low or high, x or y]
        middles = boxes[..., 1].mean(1)
        inside = (middles > 0) & (middles < height)
        shown = [label for label, keep in zip(shown, inside, strict=True) if keep]
        self._draw(shown, boxes[inside], middles[inside], width, height)

    def _draw(self, shown: Sequence[Label], boxes: np.ndarray, middles: np.ndarray, width: int, height: int) -> None:
        """Draw labels with boxes `(n, 2, 2)` and middles `(n,)` in pixels of a view of this size."""
        size = max(SMALLEST, round(OF_HEIGHT * height))
        for joint in (" ", "\n"):  # a close-up leaves little room
            texts = self._write([joint.join(label.words) for label in shown], shown, size)
            x = self._column(texts, boxes, width, size)
            if x is not None:
                break
        else:
            self._write([], [], size)
            self._lines.draw(np.empty((0, 3, 2)), [], 1)
            return
        step = max([LINE_SPACING * size, *(_extent(text, self._renderer)[1] for text in texts)])
        heights = spread(middles, step, 2 * step, height - step)
        for text, at in zip(texts, heights, strict=True):
            text.SetPosition(x, at)
        elbow, end = np.full(len(middles), x - APART * size), np.full(len(middles), x - END)
        start = np.minimum(boxes[:, 1, 0] + APART * size, elbow)
        ways = np.stack([start, middles, elbow, heights, end, heights], 1).reshape(-1, 3, 2)
        self._lines.draw(ways, [label.color for label in shown], max(1, size // 14))

    def _column(self, texts: Sequence[Any], boxes: np.ndarray, width: int, size: int) -> float | None:
        """Return where the column begins: right of all bodies and of the image, if there is room; None without room."""
        if not len(boxes):
            return 0.0
        wide = max(_extent(text, self._renderer)[0] for text in texts)
        last, image = width - wide - END, self._pixels(np.array([[-ANTERIOR_MM, 0.0]]))[0, 0]
        first = boxes[:, 1, 0].max() + APART * size
        return float(np.clip(image, first, last)) if first <= last else None

    def _pixels(self, places: np.ndarray) -> np.ndarray:
        """Return the pixels `(n, 2)` of places `(n, 2)`, straight mm, on the view's plane."""
        to_pixels = np.linalg.inv(slicer.util.arrayFromVTKMatrix(self._node.GetXYToRAS()))
        lateral = self._node.GetSliceToRAS().GetElement(0, 3)
        straight = np.column_stack([np.full(len(places), lateral), places, np.ones(len(places))])
        pixels: np.ndarray = (straight @ to_pixels.T)[:, :2]
        return pixels

    def _write(self, words: Sequence[str], shown: Sequence[Label], size: int) -> list[vtk.vtkTextActor]:
        """Write the texts, and hide actors that are left over."""
        while len(self._texts) < len(words):
            self._texts.append(_text_actor())
            self._renderer.AddViewProp(self._texts[-1])
        for i, actor in enumerate(self._texts):
            actor.SetVisibility(i < len(words))
        for actor, text, label in zip(self._texts, words, shown, strict=False):
            actor.SetInput(text)
            style = actor.GetTextProperty()
            style.SetFontSize(size)
            style.SetColor(*label.color)
            style.SetBold(label.selected)
        return self._texts[: len(words)]


class _Leaders:
    """The leader lines of all labels, one actor."""

    def __init__(self) -> None:
        self.data = vtk.vtkPolyData()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self.data)
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(mapper)
        self.actor.SetPickable(False)
        self.actor.GetProperty().SetOpacity(LINE_OPACITY)

    def draw(self, ways: np.ndarray, colors: Sequence[Color], width: int) -> None:
        """Draw lines through `(n, 3, 2)` pixels."""
        points = np.zeros((ways.shape[0] * 3, 3))
        points[:, :2] = ways.reshape(-1, 2)
        self.data.SetPoints(vtk.vtkPoints())
        self.data.GetPoints().SetData(numpy_to_vtk(points, deep=True))
        lines = vtk.vtkCellArray()
        for first in range(0, len(points), 3):
            lines.InsertNextCell(3, [first, first + 1, first + 2])
        self.data.SetLines(lines)
        shades = np.rint(255 * np.array(colors, float).reshape(-1, 3)).astype(np.uint8)
        self.data.GetCellData().SetScalars(numpy_to_vtk(shades, deep=True))
        self.actor.GetProperty().SetLineWidth(width)


def _text_actor() -> vtk.vtkTextActor:
    actor = vtk.vtkTextActor()
    actor.SetPickable(False)
    style = actor.GetTextProperty()
    style.SetFontFamilyToArial()
    style.SetJustificationToLeft()
    style.SetVerticalJustificationToCentered()
    style.SetBackgroundColor(0.0, 0.0, 0.0)
    style.SetBackgroundOpacity(GROUND_OPACITY)
    return actor


def _extent(actor: vtk.vtkTextActor, renderer: Any) -> tuple[float, float]:
    """Return the width and the height of a text in pixels."""
    size = [0.0, 0.0]
    actor.GetSize(renderer, size)
    return size[0], size[1]
