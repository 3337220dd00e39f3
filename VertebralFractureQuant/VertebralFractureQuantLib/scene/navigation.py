"""Where the views look: fields of view and centres, on vtkMRMLSliceNodes and vtkMRMLCameraNodes; mm of the view's own
world (RAS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Point = Sequence[float] | np.ndarray

CLOSE_UP_MM = 140.0  # a patient view's height when a vertebra is first looked at


def fit(node: Any, center: Point, width_mm: float, height_mm: float) -> None:
    """Look at `center` so that width x height fit into the view."""
    columns, rows, _ = node.GetDimensions()
    mm = max(width_mm / max(columns, 1), height_mm / max(rows, 1))
    node.SetFieldOfView(mm * columns, mm * rows, node.GetFieldOfView()[2])
    center_on(node, center)


def center_on(node: Any, center: Point) -> None:
    """Move the plane through `center` `(3,)` and `center` into the middle of the view."""
    node.JumpSliceByCentering(*(float(c) for c in center))


def center_within(node: Any, center: Point, length_mm: float) -> None:
    """Centre on a place of the straightened spine, of which S runs from -length to 0, without showing what lies beyond
    its ends; the lateral plane stays."""
    half = node.GetFieldOfView()[1] / 2
    s = -length_mm / 2 if 2 * half >= length_mm else float(np.clip(center[2], half - length_mm, -half))
    lateral = lateral_mm(node)
    center_on(node, (lateral, 0.0, s))


def lateral_mm(node: Any) -> float:
    """The R of a sagittal view's plane."""
    return float(node.GetSliceToRAS().GetElement(0, 3))


def move_lateral(node: Any, lateral: float) -> None:
    """Put a sagittal view's plane at R = `lateral` mm."""
    node.GetSliceToRAS().SetElement(0, 3, float(lateral))
    node.UpdateMatrices()


def look_from_left(camera: Any, center: Point, length_mm: float) -> None:
    """Put a vtkMRMLCameraNode to the patient's left of `center` `(3,)`, so far away that `length_mm` of spine fit."""
    away = 0.55 * length_mm / np.tan(np.deg2rad(camera.GetViewAngle() / 2))
    r, a, s = (float(c) for c in center)
    camera.SetFocalPoint(r, a, s)
    camera.SetPosition(r - away, a, s)
    camera.SetViewUp(0.0, 0.0, 1.0)
    camera.ResetClippingRange()


def look_at(camera: Any, center: Point) -> None:
    """Move a vtkMRMLCameraNode, without turning it, so that `center` `(3,)` RAS mm is what it looks at."""
    shift = np.asarray(center, float) - camera.GetFocalPoint()
    camera.SetPosition(*(np.asarray(camera.GetPosition()) + shift))
    camera.SetFocalPoint(*(float(c) for c in center))
    camera.ResetClippingRange()
