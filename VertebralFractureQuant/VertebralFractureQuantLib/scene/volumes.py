"""Nodes of a scene, and a CT in one: voxels `[k, j, i]` HU, ijk_to_ras in RAS mm, both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from ..ct import CTVolume, from_array

# (window, level) in HU
WINDOWS = {"bone": (1500.0, 300.0), "soft": (400.0, 40.0)}


def nodes_of(scene: Any, class_name: str) -> list[Any]:
    """All nodes of a class; `slicer.util.getNodesByClass` looks into the application's scene, whichever is given."""
    return [scene.GetNthNodeByClass(i, class_name) for i in range(scene.GetNumberOfNodesByClass(class_name))]


def ct_of(node: Any) -> CTVolume:
    """The voxels and geometry of a vtkMRMLScalarVolumeNode; a linear parent transform is applied.

    VFQError as `ct.from_array`.
    """
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ijk_to_ras = slicer.util.arrayFromVTKMatrix(matrix)
    if node.GetParentTransformNode():
        to_world = vtk.vtkMatrix4x4()
        node.GetParentTransformNode().GetMatrixTransformToWorld(to_world)
        ijk_to_ras = slicer.util.arrayFromVTKMatrix(to_world) @ ijk_to_ras
    return from_array(slicer.util.arrayFromVolume(node), np.asarray(ijk_to_ras), node.GetName())


def show_ct(node: Any, ct: CTVolume) -> None:
    """Put a CT into a vtkMRMLScalarVolumeNode."""
    slicer.util.updateVolumeFromArray(node, ct.voxels)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ct.ijk_to_ras))


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
