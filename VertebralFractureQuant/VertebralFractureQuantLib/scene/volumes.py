"""Nodes of a scene, and a CT in one: voxels `[k, j, i]` HU, ijk_to_ras in RAS mm, both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import VFQError
from ..imaging.ct import CTVolume, from_array

ROLE = "VertebralFractureQuant.role"  # the attribute by which a study's nodes are known

COPY = "VertebralFractureQuant.copy"

# (window, level) in HU
Window = tuple[bool, float, float]
WINDOWS = {"bone": (1500.0, 300.0), "soft": (400.0, 40.0)}


def nodes_of(scene: Any, class_name: str) -> list[Any]:
    """All nodes of a class; `slicer.util.getNodesByClass` looks into the application's scene, whichever is given."""
    return [scene.GetNthNodeByClass(i, class_name) for i in range(scene.GetNumberOfNodesByClass(class_name))]


def ct_of(node: Any) -> CTVolume:
    """The voxels and geometry of a vtkMRMLScalarVolumeNode; a linear parent transform is applied.

    VFQError as `ct.from_array`.
    """
    return from_array(*taken(node))


def taken(node: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """What `ct.from_array`, in any thread, makes a CT of: voxels where they lie, ijk_to_ras, name."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ijk_to_ras = slicer.util.arrayFromVTKMatrix(matrix)
    if node.GetParentTransformNode():
        to_world = vtk.vtkMatrix4x4()
        node.GetParentTransformNode().GetMatrixTransformToWorld(to_world)
        ijk_to_ras = slicer.util.arrayFromVTKMatrix(to_world) @ ijk_to_ras
    return slicer.util.arrayFromVolume(node), np.asarray(ijk_to_ras), node.GetName()


def voxels_of(node: Any) -> np.ndarray | None:
    """The voxels of a volume node, where they lie; None where it has none."""
    return slicer.util.arrayFromVolume(node) if node.GetImageData() else None


def reviewable(node: Any) -> tuple[Any, str]:
    """A volume node that holds still under the points: `node` itself, or a copy of it and a sentence that says so.

    A copy is made of a volume under a transform (hardened) and of the present frame of a sequence.
    VFQError `no_volume`, `not_ct`, `not_3d`.
    """
    voxels = None if node is None else voxels_of(node)
    if voxels is None:
        raise VFQError("no_volume", "No volume is chosen, or it is empty. Load a CT and choose it as the input volume.")
    if node.GetAttribute(ROLE) not in (None, "ct"):
        raise VFQError("not_ct", f"{node.GetName()!r} was made by this module. Choose the CT that it was made from.")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise VFQError("not_ct", f"{node.GetName()!r} is a label map. Choose the CT that it belongs to.")
    if voxels.ndim != 3:
        raise VFQError("not_3d", f"{node.GetName()!r} has several values a voxel. Choose a CT.")
    if node.GetParentTransformNode():
        return _copy(node), f"{node.GetName()!r} is under a transform: a copy was hardened and is used."
    if _is_frame(node):
        return _copy(node), f"{node.GetName()!r} is a sequence: a copy of the frame that is shown is used."
    return node, ""


def reviewable_name(node: Any) -> str:
    """The name of what `reviewable` gives."""
    if node.GetParentTransformNode():
        return f"{node.GetName()} hardened"
    return f"{node.GetName()} frame" if _is_frame(node) else str(node.GetName())


def discard_copy(node: Any) -> None:
    """Remove a copy that `reviewable` made, where nothing came of it; any other volume stays."""
    if node.GetAttribute(COPY) and node.GetScene():
        node.GetScene().RemoveNode(node)


def is_bent(node: Any) -> bool:
    """Whether a volume node is under a transform that is more than a matrix: its CT is known once it is hardened."""
    transform = node.GetParentTransformNode()
    return transform is not None and not transform.IsTransformToWorldLinear()


def _copy(node: Any) -> Any:
    copy = slicer.vtkSlicerVolumesLogic.CloneVolume(node.GetScene(), node, reviewable_name(node))
    copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    copy.HardenTransform()
    copy.SetAttribute(COPY, "1")
    return copy


def _is_frame(node: Any) -> bool:
    """Whether a sequence browser changes the node's voxels."""
    browsers = nodes_of(node.GetScene(), "vtkMRMLSequenceBrowserNode")
    return any(browser.IsProxyNodeID(node.GetID()) for browser in browsers)


def show_ct(node: Any, ct: CTVolume) -> None:
    """Put a CT into a vtkMRMLScalarVolumeNode."""
    slicer.util.updateVolumeFromArray(node, ct.voxels)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ct.ijk_to_ras))


def window_of(node: Any) -> Window | None:
    """Whether a volume's window is automatic, its width and its level; None where it was never shown."""
    display = node.GetDisplayNode()
    return (bool(display.GetAutoWindowLevel()), display.GetWindow(), display.GetLevel()) if display else None


def set_window(node: Any, window: Window) -> None:
    """Inverse of `window_of`."""
    display = node.GetDisplayNode()
    if display:
        automatic, width, level = window
        display.SetAutoWindowLevel(automatic)
        if not automatic:
            display.SetWindowLevel(width, level)


def show_window(node: Any, name: str) -> None:
    """Window and level of a volume node by the name of a preset in `WINDOWS`."""
    display = node.GetDisplayNode() or _display(node)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(*WINDOWS[name])


def _display(node: Any) -> Any:
    """A display node; `CreateDefaultDisplayNodes` would spend half a second on a window of its own."""
    display = slicer.vtkMRMLScalarVolumeDisplayNode()
    display.SetAutoWindowLevel(False)
    node.GetScene().AddNode(display)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    node.SetAndObserveDisplayNodeID(display.GetID())
    return display
