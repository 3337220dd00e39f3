"""A loupe in the straightened view while six points are placed: the CT around the mouse, enlarged eight times.

It is a picture over the view, drawn by VTK beside the mouse, so that it covers neither the mouse nor the point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..imaging.ct import CTVolume
from ..scene.loupe import ToPatient, sampled, shades

TIMES = 8
SIZE = 161  # pixels, odd, so that one of them is the middle
APART = 30  # pixels between the mouse and the loupe
GAP, ARM = 9, 40  # pixels of the cross that point at the mouse's place: from its middle, and to its end
LINE, EDGE = 255, 160  # grey of the cross and of the edge


class LabelLoupe:
    """Shows the loupe on a view's renderer."""

    def __init__(self) -> None:
        self._image = vtk.vtkImageData()
        self._image.SetDimensions(SIZE, SIZE, 1)
        mapper = vtk.vtkImageMapper()
        mapper.SetInputData(self._image)
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(mapper)
        self.actor.SetPickable(False)
        self.actor.GetProperty().SetDisplayLocationToForeground()
        self._renderer: Any = None

    @property
    def shown(self) -> bool:
        """True while the loupe is shown."""
        return self._renderer is not None

    def show(
        self,
        renderer: Any,
        node: Any,
        mouse: np.ndarray,
        ct: CTVolume,
        to_patient: ToPatient,
        window: tuple[float, float],
    ) -> None:
        """Show the CT around the mouse, which is at a pixel `(2,)` of the view with this slice node."""
        point = np.array(node.GetXYToRAS().MultiplyPoint((*map(float, mouse), 0.0, 1.0))[:3])
        columns, rows, _ = node.GetDimensions()
        pitch = node.GetFieldOfView()[0] / columns / TIMES
        matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
        grey = shades(sampled(ct, matrix, point, to_patient, pitch * (SIZE - 1) / 2, pitch), window)
        self._image.GetPointData().SetScalars(numpy_to_vtk(crossed(grey)[::-1].ravel(), deep=True))
        self._image.Modified()
        self.actor.SetPosition(*beside(mouse, (columns, rows)))
        if renderer is not self._renderer:
            self.hide()
            self._renderer = renderer
            renderer.AddViewProp(self.actor)

    def hide(self) -> None:
        """Remove the loupe from its view."""
        if self._renderer is not None:
            self._renderer.RemoveViewProp(self.actor)
        self._renderer = None


def beside(mouse: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    """Return the lower left pixel of the loupe in a view of `size`: right or left of the mouse, else above or below it.

    A view without room for any has it to the right.
    """
    (x, y), (columns, rows) = mouse, size
    level, upright = np.clip(y - SIZE / 2, 0, max(0, rows - SIZE)), np.clip(x - SIZE / 2, 0, max(0, columns - SIZE))
    places = ((x + APART, level), (x - APART - SIZE, level), (upright, y + APART), (upright, y - APART - SIZE))
    inside = [(a, b) for a, b in places if 0 <= a <= columns - SIZE and 0 <= b <= rows - SIZE]
    left, bottom = next(iter(inside), places[0])
    return float(left), float(bottom)


def crossed(grey: np.ndarray) -> np.ndarray:
    """Return a picture `(n, n)` with an edge, and a cross that leaves its middle free."""
    drawn, middle = grey.copy(), len(grey) // 2
    for arm in (slice(middle - ARM, middle - GAP), slice(middle + GAP + 1, middle + ARM + 1)):
        drawn[middle, arm] = drawn[arm, middle] = LINE
    drawn[[0, -1]] = drawn[:, [0, -1]] = EDGE
    return drawn
