"""Where views look: the fields of view and centres of vtkMRMLSliceNodes and vtkMRMLCameraNodes.

Coordinates are RAS mm of the view: straight space in a straightened view, else the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Point = Sequence[float] | np.ndarray

CLOSE_UP_MM = 140.0  # the height of a patient's view when a study is opened
FILLED = 1.5  # in a close-up, the straightened view is this many times as large as the vertebral body


def fit(node: Any, center: Point, width_mm: float, height_mm: float) -> None:
    """Centre the view on `center` `(3,)`, and zoom so that width x height fit into it."""
    columns, rows, _ = node.GetDimensions()
    mm = max(width_mm / max(columns, 1), height_mm / max(rows, 1))
    node.SetFieldOfView(mm * columns, mm * rows, node.GetFieldOfView()[2])
    center_on(node, center)


def center_on(node: Any, center: Point) -> None:
    """Move the view's plane so that it contains `center` `(3,)`, and bring `center` into the middle of the view."""
    node.JumpSliceByCentering(*(float(c) for c in center))


def center_within(node: Any, center: Point, length_mm: float) -> None:
    """Centre a straightened view on `center` without showing what is beyond the ends of the spine.

    S runs from -length to 0 along the straightened spine. The lateral plane stays.
    """
    half = node.GetFieldOfView()[1] / 2
    s = -length_mm / 2 if 2 * half >= length_mm else float(np.clip(center[2], half - length_mm, -half))
    lateral = lateral_mm(node)
    center_on(node, (lateral, 0.0, s))


def lateral_mm(node: Any) -> float:
    """Return R of a sagittal view's plane, mm."""
    return float(node.GetSliceToRAS().GetElement(0, 3))


def move_lateral(node: Any, lateral: float) -> None:
    """Move a sagittal view's plane to R = `lateral` mm."""
    node.GetSliceToRAS().SetElement(0, 3, float(lateral))
    node.UpdateMatrices()


def look_from_left(camera: Any, center: Point, length_mm: float) -> None:
    """Put a camera to the patient's left of `center` `(3,)`, as far away as `length_mm` of spine need to fit."""
    away = 0.55 * length_mm / np.tan(np.deg2rad(camera.GetViewAngle() / 2))
    r, a, s = (float(c) for c in center)
    camera.SetFocalPoint(r, a, s)
    camera.SetPosition(r - away, a, s)
    camera.SetViewUp(0.0, 0.0, 1.0)
    camera.ResetClippingRange()


def look_at(camera: Any, center: Point) -> None:
    """Move a camera, without turning it, so that its focal point is `center` `(3,)`."""
    shift = np.asarray(center, float) - camera.GetFocalPoint()
    camera.SetPosition(*(np.asarray(camera.GetPosition()) + shift))
    camera.SetFocalPoint(*(float(c) for c in center))
    camera.ResetClippingRange()
