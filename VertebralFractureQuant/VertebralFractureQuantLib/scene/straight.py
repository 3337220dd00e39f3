"""The straightened image as MRML nodes: a volume in straight space, and the transform that puts markups on it.

A markups node under the transform has patient RAS mm as its local points and straight RAS mm as its world points. A
straightened view therefore shows and drags them, while what is measured and stored stays in the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..imaging.ct import CTVolume
from ..spine.curve import SpineCurve
from ..spine.straightening import Straightening

LATERAL_MM = 20.0  # the straightened image reaches this far to either side of the curve,
ANTERIOR_MM = 64.0  # and this far to its front and back
LATERAL_SPACING_MM = 1.0
PLANE_SPACING_MM = 0.75
SPACING_MM = (PLANE_SPACING_MM, LATERAL_SPACING_MM)  # along A and R
TUBE_MM = 14.0
# The transform is exact within this distance of the curve; farther out, neighbouring normal planes may cross.
REACH_MM = 80.0
BEYOND_MM = 40.0  # beyond the curve's ends, where points can be dragged as well
TRANSFORM_STEP_MM = 1.0
INVERSE_MM = 0.003  # tolerance; where the grid's cells meet, the inverse is no more exact than this


@dataclass(frozen=True, eq=False)
class Reformat:
    """A straightened image, and the curve's map that it was sampled along. It needs no MRML, so any thread may make it.

    Attributes
    ----------
    voxels : `[k, j, i]` = [S, A, R], int16 HU.
    """

    straightening: Straightening
    voxels: np.ndarray

    @property
    def origin(self) -> tuple[float, float, float]:
        """Straight RAS mm of the first voxel, which has the lowest R, A and S."""
        return -LATERAL_MM, -ANTERIOR_MM, -(self.voxels.shape[0] - 1) * PLANE_SPACING_MM


def reformat(ct: CTVolume, curve: SpineCurve) -> Reformat:
    """Sample the CT along the curve: +-20 mm to the sides, +-64 mm to front and back, over the curve's length."""
    straightening = Straightening(curve)
    laterals = np.arange(-LATERAL_MM, LATERAL_MM + LATERAL_SPACING_MM / 2, LATERAL_SPACING_MM)
    slab = straightening.sample_slab(ct, ANTERIOR_MM, laterals, PLANE_SPACING_MM)
    voxels = np.clip(np.rint(slab.transpose(1, 2, 0)[::-1]), -32768, 32767).astype(np.int16)
    return Reformat(straightening, np.ascontiguousarray(voxels))


def tube(voxels: np.ndarray) -> np.ndarray:
    """Return the part `[k, j, i]` of a straightened image within `TUBE_MM` of the curve: the bodies and discs."""
    (j, i), (a, r) = (n // 2 for n in voxels.shape[1:]), (int(TUBE_MM / mm) for mm in SPACING_MM)
    return voxels[:, j - a : j + a + 1, i - r : i + r + 1]


def show_reformat(node: Any, made: Reformat) -> None:
    """Write a straightened image into a vtkMRMLScalarVolumeNode."""
    fill_volume(node, made.voxels, made.origin, (LATERAL_SPACING_MM, PLANE_SPACING_MM, PLANE_SPACING_MM))


def fill_volume(
    node: Any,
    voxels: np.ndarray,
    origin: Sequence[float],
    spacing: Sequence[float],
    directions: np.ndarray | None = None,
) -> None:
    """Write voxels `[k, j, i]` and geometry (RAS mm; columns of `directions`: axes i, j, k) into a volume node."""
    slicer.util.updateVolumeFromArray(node, voxels)
    node.SetOrigin(*origin)
    node.SetSpacing(*spacing)
    node.SetIJKToRASDirections(*(np.eye(3) if directions is None else directions).ravel().tolist())


def straightening_transform(straightening: Straightening) -> vtk.vtkAbstractTransform:
    """Return the transform from straight to patient RAS mm, as a grid of displacements.

    The map is linear along R and A, so two grid points along each of them are exact.
    """
    length = straightening.curve.length
    s = np.arange(-length - BEYOND_MM, BEYOND_MM + TRANSFORM_STEP_MM, TRANSFORM_STEP_MM)
    side = np.array([-REACH_MM, REACH_MM])
    straight = np.stack(np.meshgrid(s, side, side, indexing="ij")[::-1], -1)  # [s, a, r] -> (r, a, s)
    shift = straightening.to_patient(straight) - straight

    grid = vtk.vtkImageData()
    grid.SetDimensions(2, 2, len(s))
    grid.SetOrigin(-REACH_MM, -REACH_MM, s[0])
    grid.SetSpacing(2 * REACH_MM, 2 * REACH_MM, TRANSFORM_STEP_MM)
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    vtk_to_numpy(grid.GetPointData().GetScalars())[:] = shift.reshape(-1, 3)

    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(grid)
    transform.SetInterpolationModeToLinear()
    transform.SetInverseTolerance(INVERSE_MM)
    return transform


def show_transform(node: Any, straightening: Straightening) -> None:
    """Set a vtkMRMLGridTransformNode to map patient (local points of its children) to straight space (world)."""
    node.SetAndObserveTransformFromParent(straightening_transform(straightening))
