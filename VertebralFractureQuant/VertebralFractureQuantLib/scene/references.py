"""Reference lines: where the planes of the views cut each other.

The plane of the straightened view is a curved surface in the patient, and the planes of the patient's views are curves
in the straightened view; Slicer's own intersections of slices know neither. So the lines are models: in the patient
RAS mm the surface, and the selected vertebra's level beside its body; in straight RAS mm the cuts, dashed and left out
over the vertebral bodies. The nodes are found by role, cannot be picked, and are not saved with the scene.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..spine.straightening import Straightening
from .face import Face
from .straight import ANTERIOR_MM
from .views import Views

STEP_MM = 4.0  # between the points of the surface, and the length of a dash
MARGIN_MM = 2.0  # around vertebral bodies, in which the cuts are not drawn
BESIDE_BODY_MM = (26.0, 46.0)  # the level's line runs this far to the left and right of the curve
STRAIGHTENED_COLOR, CORONAL_COLOR, AXIAL_COLOR = (0.45, 0.65, 1.0), (0.55, 0.85, 0.4), (1.0, 0.62, 0.3)

VIEWS_OF: dict[str, Callable[[Views], tuple[str, ...]]] = {
    "reference-plane": lambda views: views.across,
    "reference-level": lambda views: views.across[:1],
    "reference-coronal": lambda views: views.straightened,
    "reference-axial": lambda views: views.straightened,
}
COLORS = dict(zip(VIEWS_OF, (STRAIGHTENED_COLOR, STRAIGHTENED_COLOR, CORONAL_COLOR, AXIAL_COLOR), strict=True))
CUTS = {"reference-coronal": 1, "reference-axial": 2}  # role -> the view's index in `Face.patient`


def create(scene: Any, role: str, views: Views) -> Any:
    """Return a new model node for the lines of a role, a key of `VIEWS_OF`."""
    node = slicer.vtkMRMLModelNode()
    node.SetName(role.capitalize().replace("-", " "))
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetSelectable(False)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetViewNodeIDs(list(VIEWS_OF[role](views)))
    display.SetVisibility(bool(VIEWS_OF[role](views)))
    display.SetVisibility2D(True)
    display.SetColor(*COLORS[role])
    display.SetSliceIntersectionThickness(1)
    if role in CUTS:
        display.SetSliceDisplayModeToProjection()
    node.SetAndObservePolyData(vtk.vtkPolyData())
    return node


@dataclass(frozen=True, eq=False)
class Surface:
    """The plane of the straightened view at R = `lateral` mm, sampled each `STEP_MM`.

    Attributes
    ----------
    anterior, s : straight mm of the samples `(m,)` and `(n,)`.
    patient : the samples `(n, m, 3)`, patient RAS mm.
    """

    lateral: float
    anterior: np.ndarray
    s: np.ndarray
    patient: np.ndarray

    @classmethod
    def of(cls, straightening: Straightening, lateral: float) -> Surface:
        """Sample the surface over the straightened image."""
        anterior = np.arange(-ANTERIOR_MM, ANTERIOR_MM + STEP_MM / 2, STEP_MM)
        s = np.arange(-straightening.curve.length, STEP_MM / 2, STEP_MM)
        grid = np.stack(np.meshgrid(lateral, anterior, s, indexing="ij"), -1)[0]  # (m, n, 3)
        return cls(lateral, anterior, s, straightening.to_patient(grid.transpose(1, 0, 2)))

    def checkered(self) -> vtk.vtkPolyData:
        """Return every other square of the surface, patient RAS mm, so that any cut is a dashed line."""
        rows, columns = self.patient.shape[:2]
        corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
        odd = np.add.outer(np.arange(rows - 1), np.arange(columns - 1)).ravel() % 2 == 1
        return _squares(self.patient.reshape(-1, 3), corner[odd, None] + [0, 1, columns + 1, columns])

    def cut(self, slice_to_ras: np.ndarray, bodies: np.ndarray) -> vtk.vtkPolyData:
        """Return where a patient's slice with matrix `(4, 4)` cuts the surface: dashes in straight RAS mm.

        There are none over `bodies`, boxes `(n, 2, 2)`: least and greatest (A, S), straight mm.
        """
        distance = (self.patient - slice_to_ras[:3, 3]) @ slice_to_ras[:3, 2]
        image = vtk.vtkImageData()
        image.SetDimensions(len(self.anterior), len(self.s), 1)
        image.SetOrigin(self.anterior[0], self.s[0], 0.0)
        image.SetSpacing(STEP_MM, STEP_MM, 1.0)
        image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(distance, float).ravel(), deep=True))
        lines = vtk.vtkFlyingEdges2D()
        lines.SetInputData(image)
        lines.SetValue(0, 0.0)
        lines.Update()
        return self._dashes(lines.GetOutput(), bodies)

    def _dashes(self, found: vtk.vtkPolyData, bodies: np.ndarray) -> vtk.vtkPolyData:
        if not found.GetNumberOfLines():
            return vtk.vtkPolyData()
        points = vtk_to_numpy(found.GetPoints().GetData())[:, :2]
        pairs = vtk_to_numpy(found.GetLines().GetConnectivityArray()).reshape(-1, 2)
        middles = points[pairs].mean(1)
        cells = np.floor((middles - [self.anterior[0], self.s[0]]) / STEP_MM)
        over = ((middles[:, None] > bodies[:, 0]) & (middles[:, None] < bodies[:, 1])).all(-1).any(-1)
        kept = pairs[(cells.sum(1) % 2 == 1) & ~over]
        straight = np.column_stack([np.full(len(points), self.lateral), points])
        return _cells(straight, kept, vtk.vtkPolyData.SetLines)


def level_beside(straightening: Straightening, s: float) -> vtk.vtkPolyData:
    """Return the plane across the curve at straight S = `s`, patient RAS mm, without its middle where the body is."""
    inner, outer = BESIDE_BODY_MM
    front = ANTERIOR_MM / 2
    corners = [(r, a, s) for side in (-1, 1) for r, a in _rectangle(side * inner, side * outer, front)]
    return _squares(straightening.to_patient(np.array(corners)), np.arange(8).reshape(2, 4))


class References:
    """Keeps the reference lines of a study where the views are.

    nodes : returns the study's nodes by role; empty while no study is open.
    """

    def __init__(self, nodes: Callable[[], dict[str, Any]], face: Face):
        self._nodes = nodes
        self._face = face
        self._observations: list[tuple[Any, int]] = []
        self.forget()

    def forget(self) -> None:
        """Stop following the views."""
        for node, tag in self._observations:
            node.RemoveObserver(tag)
        self._observations = []
        self._surface: Surface | None = None
        self._bodies = np.empty((0, 2, 2))
        self._shown: dict[str, Any] = {}  # role -> what its lines were computed from

    def refresh(self, straightening: Straightening, lateral: float, level: float | None, keypoints: np.ndarray) -> None:
        """Show the plane at R = `lateral`, and the selected vertebra's level at S = `level`, if any.

        `keypoints` `(n, 3, 2, 3)` are those of all vertebrae; all in straight mm.
        """
        if not self._nodes():
            return
        if self._surface is None or self._is_new("reference-plane", (straightening, lateral)):
            self._surface = Surface.of(straightening, lateral)
            self._draw("reference-plane", self._surface.checkered())
        if self._is_new("reference-level", (straightening, level)):
            self._draw("reference-level", vtk.vtkPolyData() if level is None else level_beside(straightening, level))
        if not self._observations:
            self._observe()
        points = keypoints.reshape(-1, 6, 3)[..., 1:]
        self._bodies = np.stack([points.min(1), points.max(1)], 1) + MARGIN_MM * np.array([[-1.0], [1.0]])
        self._show_cuts()

    def _observe(self) -> None:
        for node in filter(None, self._face.patient):
            tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._show_cuts())
            self._observations.append((node, tag))

    def _show_cuts(self) -> None:
        if self._surface is None or not self._nodes() or not self._face.patient:
            return
        for role, index in CUTS.items():
            node = self._face.patient[index]
            matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
            plane = (*matrix[:3, 2], matrix[:3, 3] @ matrix[:3, 2])
            if self._is_new(role, (self._surface, plane, self._bodies.tobytes())):
                self._draw(role, self._surface.cut(matrix, self._bodies))

    def _is_new(self, role: str, made_from: Any) -> bool:
        """True if the lines of a role were computed from something else, or for another node."""
        made_from = (self._nodes()[role], *made_from)
        before, self._shown[role] = self._shown.get(role), made_from
        return before != made_from

    def _draw(self, role: str, data: vtk.vtkPolyData) -> None:
        self._nodes()[role].SetAndObservePolyData(data)


def _rectangle(inner: float, outer: float, front: float) -> list[tuple[float, float]]:
    return [(inner, -front), (outer, -front), (outer, front), (inner, front)]


def _squares(points: np.ndarray, corners: np.ndarray) -> vtk.vtkPolyData:
    return _cells(points, corners, vtk.vtkPolyData.SetPolys)


def _cells(points: np.ndarray, cells: np.ndarray, put: Callable[[Any, Any], None]) -> vtk.vtkPolyData:
    """Return points `(n, 3)` and cells `(m, k)` of their indices as polygons or lines."""
    data, array = vtk.vtkPolyData(), vtk.vtkCellArray()
    data.SetPoints(vtk.vtkPoints())
    data.GetPoints().SetData(numpy_to_vtk(np.ascontiguousarray(points, float), deep=True))
    array.SetData(cells.shape[1], numpy_to_vtk(np.ascontiguousarray(cells, np.int64).ravel(), deep=True))
    put(data, array)
    return data
