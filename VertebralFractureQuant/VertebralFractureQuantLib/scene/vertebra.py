"""One vertebra in the scene: a closed curve of six control points A+ M+ P+ P- M- A-, and its mirror.

`node` is under the straightening transform: its local points are patient RAS mm, its world points straight RAS mm, and
a straightened view shows it. `mirror` has the same local points without a transform, for the patient's own views.
Everything else (level, origin, review, detected points, ...) is JSON in an attribute of `node`, so it is saved with the
scene. Measurements are not stored: they follow from the points.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer

from ..report.markups import POINT_NAMES
from ..spine.keypoints import from_outline, outline
from .outlines import Color
from .state import State
from .volumes import nodes_of

ID = "VertebralFractureQuant.id"
DETAILS = "VertebralFractureQuant.vertebra"
MIRROR = "mirror"  # node reference from `node` to its mirror
LABELLED = POINT_NAMES.index("P-")  # the point beside which the vertebra is named
FAINT = 0.3  # opacity of points that lie beside the plane of the straightened view
NO_FADING_MM = 1e3  # outlines keep their colour up to this distance from the plane; Slicer's default is 1


class VertebraMarkups:
    """The pair of markups nodes of one vertebra.

    Attributes
    ----------
    node, mirror : the nodes for the straightened and for the patient's views.
    details : the state without the key points.
    """

    def __init__(self, node: Any, mirror: Any):
        self.node = node
        self.mirror = mirror
        self.details: State = json.loads(node.GetAttribute(DETAILS) or "{}")
        self._beside = False

    @property
    def id(self) -> str:
        """The vertebra's id, which never changes and is never used again."""
        return str(self.node.GetAttribute(ID))

    def keypoints(self) -> np.ndarray:
        """Return the key points `(3, 2, 3)`, patient RAS mm."""
        return from_outline(_local_points(self.node))

    def straight(self) -> np.ndarray:
        """Return the key points `(3, 2, 3)`, straight RAS mm."""
        return from_outline(_world_points(self.node))

    def state(self) -> State:
        """Return the vertebra as JSON values, without its measurement."""
        return {**self.details, "keypoints": self.keypoints().tolist()}

    def put(self, state: State) -> None:
        """Write a state into both nodes."""
        self.details = {key: value for key, value in state.items() if key != "keypoints"}
        self.node.SetAttribute(DETAILS, json.dumps(self.details))
        points = outline(np.asarray(state["keypoints"], float))
        for each in (self.node, self.mirror):
            set_points(each, points)

    def follow(self, moved: Any) -> None:
        """Copy the points of the node that `moved` to the other node."""
        other = self.mirror if moved is self.node else self.node
        set_points(other, _local_points(moved))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Report and draw all changes of both nodes once, at the end."""
        with slicer.util.NodeModify(self.node), slicer.util.NodeModify(self.mirror):
            yield

    def is_under(self, transform: Any) -> bool:
        """True if `node` is under the straightening transform and `mirror` under none, or if that is gone."""
        if transform.GetScene() is None:
            return True  # the loss of the transform itself is reported by `guard`
        return self.node.GetTransformNodeID() == transform.GetID() and self.mirror.GetTransformNodeID() is None

    def show(self, label: str, color: Color) -> None:
        """Set name and colour, but only if they change, because each change costs a rendering."""
        self._lock()
        for node in (self.node, self.mirror):
            if node.GetName() != label:
                with slicer.util.NodeModify(node):
                    node.SetName(label)
                    node.SetNthControlPointLabel(LABELLED, label)
            _paint(node.GetDisplayNode(), color)

    def show_beside(self, beside: bool) -> None:
        """Show the points in the straightened view faint and locked, if they lie beside its plane."""
        display = self.node.GetDisplayNode()
        if beside != self._beside and display:
            self._beside = beside
            display.SetOpacity(FAINT if beside else 1.0)
            display.SetSliceProjectionOpacity(FAINT if beside else 1.0)  # that of points beside the plane
            self._lock()

    def show_overlay(self, visible: bool) -> None:
        """Show or hide the points in all views."""
        for display in filter(None, (self.node.GetDisplayNode(), self.mirror.GetDisplayNode())):
            display.SetVisibility(visible)

    def _lock(self) -> None:
        rejected = self.details["review"] == "rejected"
        self.node.SetLocked(rejected or self._beside)
        self.mirror.SetLocked(rejected)

    def select(self, selected: bool, mirror_views: Sequence[str]) -> None:
        """Draw the lines thicker if selected, and the mirror in the views with these IDs."""
        for display in filter(None, (self.node.GetDisplayNode(), self.mirror.GetDisplayNode())):
            display.SetLineThickness(0.2 if selected else 0.1)
        if self.mirror.GetDisplayNode():
            self.mirror.GetDisplayNode().SetViewNodeIDs(list(mirror_views))


def create(
    scene: Any, vertebra_id: str, state: State, transform_id: str, views: Sequence[Sequence[str]]
) -> VertebraMarkups:
    """Create the nodes of a vertebra; `views` are the IDs of the straightened views and of the patient's."""
    node, mirror = _closed_curve(scene, views[0]), _closed_curve(scene, views[1], hidden=True)
    node.SetAttribute(ID, vertebra_id)
    node.SetNodeReferenceID(MIRROR, mirror.GetID())
    node.SetAndObserveTransformNodeID(transform_id)
    markups = VertebraMarkups(node, mirror)
    markups.put(state)
    return markups


def find(scene: Any) -> list[VertebraMarkups]:
    """Return the vertebrae of a scene that was loaded from a file."""
    nodes = nodes_of(scene, "vtkMRMLMarkupsClosedCurveNode")
    return [VertebraMarkups(n, n.GetNodeReference(MIRROR)) for n in nodes if n.GetAttribute(ID)]


def set_points(node: Any, points: np.ndarray) -> None:
    """Set local positions `(6, 3)`; points that have theirs already are not touched.

    A point that was unset is set again, even though it still returns its old position.
    """
    with slicer.util.NodeModify(node):
        missing = len(points) - node.GetNumberOfControlPoints()
        if missing:
            _add_points(node, points)
            return
        for i, (old, new) in enumerate(zip(_local_points(node), points, strict=True)):
            if not np.array_equal(old, new) or not is_defined(node, i):
                node.SetNthControlPointPosition(i, *new)


def _add_points(node: Any, points: np.ndarray) -> None:
    node.SetFixedNumberOfControlPoints(False)
    node.RemoveAllControlPoints()
    for name, point in zip(POINT_NAMES, points, strict=True):
        i = node.AddControlPoint(*point)
        node.SetNthControlPointDescription(i, name)
        node.SetNthControlPointLabel(i, node.GetName() if i == LABELLED else "")
    node.SetFixedNumberOfControlPoints(True)


def is_defined(node: Any, i: int) -> bool:
    """True if a control point has a position: it is neither unset nor the preview of the next click."""
    return bool(node.GetNthControlPointPositionStatus(i) == slicer.vtkMRMLMarkupsNode.PositionDefined)


def _local_points(node: Any) -> np.ndarray:
    points = np.empty((len(POINT_NAMES), 3))
    for i, row in enumerate(points):
        node.GetNthControlPointPosition(i, row)
    return points


def _world_points(node: Any) -> np.ndarray:
    points = np.empty((len(POINT_NAMES), 3))
    for i, row in enumerate(points):
        node.GetNthControlPointPositionWorld(i, row)
    return points


def _closed_curve(scene: Any, view_ids: Sequence[str], hidden: bool = False) -> Any:
    """Return a new node; a `hidden` one is listed in no module, so that a vertebra is listed once."""
    node = slicer.vtkMRMLMarkupsClosedCurveNode()
    node.SetHideFromEditors(hidden)  # before the node is in the scene, because the Data module lists it then
    scene.AddNode(node)
    node.SetCurveTypeToLinear()
    node.SetNumberOfPointsPerInterpolatingSegment(1)  # sides are straight in the view, like those of the outlines
    node.SetFixedNumberOfControlPoints(True)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetViewNodeIDs(list(view_ids))
    # In the straightened view `labels` stand beside the spine. A curve's own label would vanish beside its plane.
    display.SetPointLabelsVisibility(hidden)
    display.SetPropertiesLabelVisibility(False)
    display.SetTextScale(3.0)
    display.SetUseGlyphScale(True)
    display.SetGlyphScale(2.4)
    display.SetGlyphTypeFromString("CrossDot2D")
    display.SetCurveLineSizeMode(display.UseLineThickness)
    display.SetLineThickness(0.1)
    display.SetLineColorFadingStart(NO_FADING_MM)
    display.SetLineColorFadingEnd(NO_FADING_MM + 1)
    display.SetLineColorFadingHueOffset(0.0)
    display.SetActiveColor(1.0, 1.0, 1.0)
    display.SetSliceProjection(True)
    display.SetSliceProjectionUseFiducialColor(True)
    display.SetSliceProjectionOutlinedBehindSlicePlane(False)
    display.SetSliceProjectionOpacity(1.0)
    display.SetFillVisibility(False)
    return node


def _paint(display: Any, color: Color) -> None:
    if display is None or display.GetSelectedColor() == color:
        return
    with slicer.util.NodeModify(display):
        display.SetColor(*color)
        display.SetSelectedColor(*color)
