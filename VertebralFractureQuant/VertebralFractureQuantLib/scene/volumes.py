"""Volume nodes: reading a CT from one and writing it into one, checking what a user chose, and the display window.

Voxels are `[k, j, i]` HU, ijk_to_ras is in RAS mm. Slicer's modules and files expect volume nodes with axes at right
angles. So a sheared CT (tilted gantry) is an upright node under a linear "acquisition" transform that shears it, as in
Slicer itself.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import VFQError
from ..imaging.axes import is_sheared, upright
from ..imaging.checks import check_axes
from ..imaging.ct import CTVolume, from_array

ROLE = "VertebralFractureQuant.role"  # the attribute that names the role of a study's node
ACQUISITION = "acquisition"  # the role of the transform that shears an upright node
COPY = "VertebralFractureQuant.copy"  # the attribute that marks a copy made by `reviewable`

Window = tuple[bool, float, float]  # automatic or not, width HU, level HU
# (width, level) in HU
WINDOWS = {"bone": (1500.0, 300.0), "soft": (400.0, 40.0)}
AUTO = "auto"  # the window of `content_window`
PRESETS = (*WINDOWS, AUTO)
CONTENT = (1.0, 99.5)  # percentiles; metal is above, and cement often
LEAST_TISSUE_HU = -300.0  # air and what lies outside the scan are below
NARROWEST_AUTO_HU = 200.0


def nodes_of(scene: Any, class_name: str) -> list[Any]:
    """Return all nodes of a class in this scene; `slicer.util.getNodesByClass` knows only the application's scene."""
    return [scene.GetNthNodeByClass(i, class_name) for i in range(scene.GetNumberOfNodesByClass(class_name))]


def ct_of(node: Any) -> CTVolume:
    """Return the CT of a vtkMRMLScalarVolumeNode, with a linear parent transform applied.

    VFQError as `ct.from_array`.
    """
    return from_array(*taken(node))


def taken(node: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the arguments for `ct.from_array`, which may run in any thread.

    They are the voxels `[k, j, i]` HU, not copied, `ijk_to_ras` `(4, 4)` RAS mm, and the name.
    """
    return slicer.util.arrayFromVolume(node), placement(node), node.GetName()


def placement(node: Any) -> np.ndarray:
    """Return ijk_to_ras `(4, 4)` of a volume node in the world, with a linear parent transform applied."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ijk_to_ras = slicer.util.arrayFromVTKMatrix(matrix)
    if node.GetParentTransformNode():
        to_world = vtk.vtkMatrix4x4()
        node.GetParentTransformNode().GetMatrixTransformToWorld(to_world)
        ijk_to_ras = slicer.util.arrayFromVTKMatrix(to_world) @ ijk_to_ras
    return np.asarray(ijk_to_ras)


def acquisition_of(node: Any) -> Any:
    """Return the acquisition transform that this module put above a volume node, or None."""
    transform = node.GetParentTransformNode()
    return transform if transform is not None and transform.GetAttribute(ROLE) == ACQUISITION else None


def voxels_of(node: Any) -> np.ndarray | None:
    """Return the voxels `[k, j, i]` of a volume node, not copied; None if it has none."""
    return slicer.util.arrayFromVolume(node) if node.GetImageData() else None


def reviewable(node: Any) -> tuple[Any, str]:
    """Return a volume node that does not move under the key points, and a sentence if that is a copy, else "".

    A volume under a transform is copied and hardened, unless the transform is this module's own; of a sequence, the
    present frame is copied. Any other `node` is returned as it is. VFQError `no_volume`, `not_ct`, `not_3d`.
    """
    voxels = None if node is None else voxels_of(node)
    if voxels is None:
        raise VFQError("no_volume", "No volume is chosen, or it is empty. Load a CT and choose it as the input volume.")
    if node.GetAttribute(ROLE) not in (None, "ct"):
        raise VFQError("not_ct", f"{node.GetName()!r} was made by this module. Choose the CT that it was made from.")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise VFQError("not_ct", f"{node.GetName()!r} is a label map. Choose the CT that it belongs to.")
    if voxels.ndim != 3:
        raise VFQError("not_3d", f"{node.GetName()!r} has several values per voxel. Choose a CT.")
    if _is_moved(node):
        return _copy(node), f"{node.GetName()!r} is under a transform: a copy was hardened and is used."
    if _is_frame(node):
        return _copy(node), f"{node.GetName()!r} is a sequence: a copy of the frame on display is used."
    return node, ""


def reviewable_name(node: Any) -> str:
    """Return the name of the node that `reviewable` returns."""
    if _is_moved(node):
        return f"{node.GetName()} hardened"
    return f"{node.GetName()} frame" if _is_frame(node) else str(node.GetName())


def discard_copy(node: Any) -> None:
    """Remove a copy that `reviewable` made but that was not used; any other volume stays."""
    if node.GetAttribute(COPY) and node.GetScene():
        scene, acquisition = node.GetScene(), acquisition_of(node)
        scene.RemoveNode(node)
        if acquisition:
            scene.RemoveNode(acquisition)


def is_bent(node: Any) -> bool:
    """True if a volume node is under a non-linear transform, so that it has to be hardened before its CT is read."""
    transform = node.GetParentTransformNode()
    return transform is not None and not transform.IsTransformToWorldLinear()


def _copy(node: Any) -> Any:
    copy = slicer.vtkSlicerVolumesLogic.CloneVolume(node.GetScene(), node, reviewable_name(node))
    copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    copy.HardenTransform()
    copy.SetAttribute(COPY, "1")
    with suppress(VFQError):  # axes that cannot be measured are refused when the CT is read
        check_axes(placement(copy))
        place(copy, placement(copy))
    return copy


def _is_moved(node: Any) -> bool:
    """True if a volume node is under a transform that is not its own acquisition transform."""
    own = acquisition_of(node)
    return node.GetParentTransformNode() is not None and (own is None or own.GetParentTransformNode() is not None)


def _is_frame(node: Any) -> bool:
    """True if a sequence browser changes the node's voxels."""
    browsers = nodes_of(node.GetScene(), "vtkMRMLSequenceBrowserNode")
    return any(browser.IsProxyNodeID(node.GetID()) for browser in browsers)


def show_ct(node: Any, ct: CTVolume) -> None:
    """Write a CT into a vtkMRMLScalarVolumeNode that is in a scene; one with shear gets an acquisition transform."""
    slicer.util.updateVolumeFromArray(node, ct.voxels)
    place(node, ct.ijk_to_ras)


def place(node: Any, ijk_to_ras: np.ndarray) -> None:
    """Put a volume node without a parent transform at `(4, 4)` ijk_to_ras in the world.

    With shear, the node gets the upright matrix of the same slices, and a linear transform above it does the rest.
    """
    straight = upright(ijk_to_ras)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(straight))
    if is_sheared(ijk_to_ras):
        transform = node.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode", f"{node.GetName()} acquisition")
        transform.SetAttribute(ROLE, ACQUISITION)
        shear = slicer.util.vtkMatrixFromArray(ijk_to_ras @ np.linalg.inv(straight))
        transform.SetMatrixTransformToParent(shear)
        node.SetAndObserveTransformNodeID(transform.GetID())


def window_of(node: Any) -> Window | None:
    """Return whether a volume's window is automatic, its width and its level; None if it was never shown."""
    display = node.GetDisplayNode()
    return (bool(display.GetAutoWindowLevel()), display.GetWindow(), display.GetLevel()) if display else None


def set_window(node: Any, window: Window) -> None:
    """Set the window as `window_of` returned it."""
    display = node.GetDisplayNode()
    if display:
        automatic, width, level = window
        display.SetAutoWindowLevel(automatic)
        if not automatic:
            display.SetWindowLevel(width, level)


def show_window(node: Any, window: str | tuple[float, float]) -> None:
    """Show a volume node with a preset of `WINDOWS`, or with a width and a level in HU."""
    display = node.GetDisplayNode() or _display(node)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(*(WINDOWS[window] if isinstance(window, str) else window))


def content_window(hounsfield: np.ndarray) -> tuple[float, float]:
    """Return (width, level) in HU that show what is in the spine: from fat to compact bone, whatever metal is there."""
    tissue = hounsfield[hounsfield > LEAST_TISSUE_HU]
    if not tissue.size:
        return WINDOWS["bone"]
    low, high = (round(float(hu)) for hu in np.percentile(tissue, CONTENT))
    return max(high - low, NARROWEST_AUTO_HU), (low + high) / 2


def _display(node: Any) -> Any:
    """Return a new display node; `CreateDefaultDisplayNodes` would take half a second to compute a window."""
    display = slicer.vtkMRMLScalarVolumeDisplayNode()
    display.SetAutoWindowLevel(False)
    node.GetScene().AddNode(display)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    node.SetAndObserveDisplayNodeID(display.GetID())
    return display
