"""Mouse actions in a slice view: events of VTK's interactor, handled by Slicer's own markups widget."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer


def drag(
    view: str,
    node: Any,
    point: int,
    by: tuple[float, float],
    button: str = "Left",
    steps: int = 5,
    release: bool = True,
) -> None:
    """Drag a control point in the slice view of that name by pixels (to the right, up).

    AssertionError if the mouse does not pick the point, because it is locked, hidden or not in the slice.
    """
    widget = slicer.app.layoutManager().sliceWidget(view).sliceView()
    start = where(view, node, point)
    widget.forceRender()  # without a rendering, nothing is picked
    move(view, start)
    display = node.GetDisplayNode()
    picked = display.GetActiveComponentType(), display.GetActiveComponentIndex()
    assert picked == (slicer.vtkMRMLMarkupsDisplayNode.ComponentControlPoint, point), f"picked {picked}, not {point}"
    widget.interactor().InvokeEvent(f"{button}ButtonPressEvent")
    for part in np.linspace(0, 1, steps + 1)[1:]:
        move(view, start + part * np.asarray(by, float))
    if release:
        widget.interactor().InvokeEvent(f"{button}ButtonReleaseEvent")


def move(view: str, xy: np.ndarray, told: bool = True) -> None:
    """Move the mouse to a pixel of a slice view; the view is not `told` if it got no mouse move."""
    interactor = slicer.app.layoutManager().sliceWidget(view).sliceView().interactor()
    interactor.SetEventInformation(*(round(each) for each in xy), 0, 0, "\0", 0, None)
    if told:
        interactor.InvokeEvent("MouseMoveEvent")


def where(view: str, node: Any, point: int) -> np.ndarray:
    """Return the pixel `(2,)` of a control point in a slice view."""
    world = np.zeros(3)
    node.GetNthControlPointPositionWorld(point, world)
    to_ras = slicer.util.arrayFromVTKMatrix(slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode().GetXYToRAS())
    return (np.linalg.inv(to_ras) @ [*world, 1.0])[:2]


def press_and_release(view: str, xy: np.ndarray, button: str = "Left", moved: bool = True) -> None:
    """Click at a pixel of a slice view, after a mouse move to it or not."""
    interactor = slicer.app.layoutManager().sliceWidget(view).sliceView().interactor()
    move(view, np.asarray(xy, float), moved)
    interactor.InvokeEvent(f"{button}ButtonPressEvent")
    interactor.InvokeEvent(f"{button}ButtonReleaseEvent")
