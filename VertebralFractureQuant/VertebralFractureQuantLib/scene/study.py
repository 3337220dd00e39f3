"""One study in an MRML scene: the CT, its straightened reformat, six-point markups, and the numbers that follow them.

The scene is the truth while a person edits: key points are read from the nodes, measured, and shown; the record
(`analysis`) is written from them. Local points are patient RAS mm. The scene and the view nodes are handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..spine.curve import SpineCurve
from ..spine.genant import Measurement, crush_neighbourhood, measure_column, ratio_text
from ..spine.keypoints import faults, outline
from ..spine.levels import in_doubt, steps_between
from ..spine.record import SpineAnalysis, Vertebra, from_json, to_json
from ..spine.straightening import Straightening
from . import outlines, table, vertebra
from .straight import Reformat, show_reformat, show_transform
from .vertebra import State, VertebraMarkups
from .volumes import ROLE, Window, nodes_of, set_window, show_ct, show_window, window_of

CURVE = "curve"  # the key of the curve among what an act can change; every other key is a vertebra's id
CURVE_KEYS = ("curve", "limits_mm", "status", "message")
ROLES = {
    "ct": "vtkMRMLScalarVolumeNode",
    "straightened": "vtkMRMLScalarVolumeNode",
    "straightening": "vtkMRMLGridTransformNode",
    "grades": "vtkMRMLColorTableNode",
    "outlines": "vtkMRMLModelNode",
    "outlines-patient": "vtkMRMLModelNode",
    "curve": "vtkMRMLModelNode",
    "measurements": "vtkMRMLTableNode",
    "study": "vtkMRMLTextNode",
}
SHOWN = ("straightened", "outlines", "outlines-patient", "curve")  # by display nodes of ours
FEW = 2  # nodes of more vertebrae than these are created or removed together: each one alone has the views look
NEEDED = ("ct", "straightened", "straightening", "study")  # what no other node tells
NAMES = {"ct": "CT", "straightened": "Straightened", "straightening": "Straightening", "study": "Study"}


@dataclass(frozen=True)
class Views:
    """IDs of the view nodes: slice views that show the straightened reformat, the patient's sagittal ones, in which all
    vertebrae stand, the patient's others, in which only the selected one does, and 3D views, which show the spine."""

    straightened: tuple[str, ...] = ()
    sagittal: tuple[str, ...] = ()
    across: tuple[str, ...] = ()
    volume: tuple[str, ...] = ()

    @property
    def patient(self) -> tuple[str, ...]:
        """All slice views that show the patient."""
        return self.sagittal + self.across

    @property
    def whole(self) -> tuple[str, ...]:
        """Those in which all vertebrae stand in the patient."""
        return self.sagittal + self.volume


@dataclass
class Listeners:
    """Who is told what a hand does in a view; each gets the vertebra's id."""

    started: Callable[[str], None] = lambda _: None
    moved: Callable[[str], None] = lambda _: None
    ended: Callable[[str], None] = lambda _: None
    unset: Callable[[str], None] = lambda _: None  # a point has no place any more
    renamed: Callable[[str], None] = lambda _: None
    detached: Callable[[str], None] = lambda _: None  # put under another transform


def first_state(analysis: SpineAnalysis) -> dict[str, Any]:
    """What `StudyScene.state` says of an analysis that nobody has changed yet."""
    told = to_json(replace(analysis, vertebrae=()))
    vertebrae = {f"v{i}": vertebra.state_of(v) for i, v in enumerate(analysis.vertebrae, start=1)}
    return {CURVE: {key: told[key] for key in CURVE_KEYS}, **vertebrae}


class StudyScene:
    """The nodes of one study. Every change of a vertebra goes through `put`, or is a hand's in a view."""

    def __init__(self, scene: Any, views: Views):
        self.scene = scene
        self.views = views
        self.listeners = Listeners()
        self.nodes: dict[str, Any] = {}
        self.vertebrae: dict[str, VertebraMarkups] = {}
        self.measurements: dict[str, Measurement] = {}
        self.faults: dict[str, tuple[str, ...]] = {}
        self.selected: str | None = None
        self.straightening = Straightening(SpineCurve(np.eye(3)))  # patient <-> straight space along the study's curve
        self._order: list[str] = []
        self._observations: list[tuple[Any, int]] = []
        self._busy = False
        self.colors = outlines.COLORS
        self._foreign_ct = False  # whether the CT's node was in the scene before,
        self._window_before: Window | None = None  # and how it was shown

    # -- opening and closing

    def open(
        self,
        ct: CTVolume,
        made: Reformat,
        analysis: SpineAnalysis,
        ct_node: Any = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Show a study; a study that is open is closed first.

        `ct_node` is the CT's node where one is in the scene; `state` is what acts have made of `first_state(analysis)`,
        `made` the reformat along its curve.
        """
        self.close()
        state = first_state(analysis) if state is None else state
        self._foreign_ct = ct_node is not None
        with self._quiet_scene():
            self._create_nodes(ct_node)
            if ct_node is None:
                show_ct(self.nodes["ct"], ct)
            self._window_before = window_of(ct_node) if ct_node else None
            self.show_window("bone")
            self.put_curve(from_json({**to_json(analysis), **state[CURVE]}), made)
            for vertebra_id, each in state.items():
                if vertebra_id != CURVE:
                    self._create_vertebra(vertebra_id, each)
            self.refresh()

    def reopen(self) -> None:
        """Take over the study of a scene that was loaded from a file. VFQError `empty_scene` where it holds none."""
        self.release()
        self._foreign_ct, self._window_before = True, None
        self.nodes = {role: self._find(role) for role in ROLES}
        missing = [role for role in NEEDED if self.nodes[role] is None]
        if missing:
            raise VFQError(
                "empty_scene",
                f"The scene holds no reviewed study (no {missing[0]} node). Open one that was saved by this module.",
            )
        for role in ROLES:
            if self.nodes[role] is None:
                self.nodes[role] = self._create(role)
        self.straightening = Straightening(SpineCurve(self._study().curve))
        with self._quiet_scene():
            for each in vertebra.find(self.scene):
                self._readmit(each)
            self._show_here()
            self.refresh()

    def close(self) -> None:
        """Remove the study's nodes from the scene; a CT that was there before stays."""
        nodes = [n for role, n in self.nodes.items() if role != "ct" or not self._foreign_ct]
        nodes += [n for v in self.vertebrae.values() for n in (v.node, v.mirror)]
        if self._foreign_ct and self.nodes.get("ct"):
            self.nodes["ct"].RemoveAttribute(ROLE)
            if self._window_before:
                set_window(self.nodes["ct"], self._window_before)
        self.release()
        with self._quiet_scene():
            for node in nodes:
                if node is not None and node.GetScene() is not None:
                    self.scene.RemoveNode(node)

    def release(self) -> None:
        """Let go of the nodes, which stay in the scene or go with it."""
        self._stop_observing(lambda _: True)
        self.listeners = Listeners()
        self.nodes, self.vertebrae, self.measurements, self.faults = {}, {}, {}, {}
        self._order, self.selected = [], None

    # -- what is there

    @property
    def busy(self) -> bool:
        """Whether what happens to the nodes now is the study's own doing."""
        return self._busy

    def another_is_here(self) -> bool:
        """Whether the scene holds a study, beside the one that is open, that `reopen` could take over."""
        return all(self._found(role) for role in NEEDED)

    @property
    def intact(self) -> bool:
        """Whether all nodes of the study are in the scene, with what shows them."""
        shown = [self.nodes[role] for role in SHOWN if role in self.nodes]
        shown += [n for v in self.vertebrae.values() for n in (v.node, v.mirror)]
        here = all(n.GetScene() is not None for n in self.nodes.values())
        return bool(self.nodes) and here and all(n.GetDisplayNode() for n in shown)

    @property
    def order(self) -> list[str]:
        """The vertebrae's ids from cranial to caudal."""
        return list(self._order)

    def state(self) -> dict[str, Any]:
        """Everything that an act can change: each vertebra's state by its id, and the curve's by `CURVE`."""
        return {CURVE: self.curve_state(), **{i: v.state() for i, v in self.vertebrae.items()}}

    def vertebra(self, vertebra_id: str) -> Vertebra:
        """One vertebra with its measurement."""
        found = vertebra.vertebra_of(self.vertebrae[vertebra_id].state(), self.measurements[vertebra_id])
        return replace(found, spread=self._spread(vertebra_id))

    def analysis(self, held: Mapping[str, np.ndarray] | None = None) -> SpineAnalysis:
        """The record of the study as it stands in the scene. `held`: key points `(3, 2, 3)` RAS mm of vertebrae that
        count instead of the scene's, where a hand has these."""
        found = [self.vertebra(i) for i in self._order]
        if held:
            found = [replace(v, keypoints=held.get(i, v.keypoints)) for i, v in zip(self._order, found, strict=True)]
            measured = measure_column([v.keypoints for v in found], [v.spread for v in found])
            found = [replace(v, measurement=m) for v, m in zip(found, measured, strict=True)]
        study = replace(self._study(), vertebrae=tuple(found))
        # What a person placed in a study that the machine could not measure is a measurement.
        return replace(study, status="ok", message="") if study.vertebrae else study

    def steps(self) -> list[int]:
        """How many levels each vertebra but the first lies below the one above it."""
        if len(self._order) < 2:
            return []
        tall = np.array([np.mean(self.measurements[i].heights_mm) for i in self._order])
        return [int(n) for n in steps_between(self._keypoints().mean((1, 2)), tall)]

    def with_curve(self, state: dict[str, Any]) -> SpineAnalysis:
        """The study's record without vertebrae, along another curve, as `curve_state` tells it."""
        return from_json({**to_json(self._study()), **state})

    def curve_state(self) -> dict[str, Any]:
        """The curve's points `(n, 3)` RAS mm and limits, and whether one was found, as JSON."""
        study = json.loads(self.nodes["study"].GetText())
        return {key: study[key] for key in CURVE_KEYS}

    def at(self, point: np.ndarray, straightened: bool) -> str | None:
        """The vertebra in whose outline a point `(3,)` lies, seen from the side: straight or patient RAS mm."""
        for vertebra_id, markups in self.vertebrae.items():
            points = outline(markups.straight() if straightened else markups.keypoints())
            if _encloses(points[:, 1:], point[1:]):
                return vertebra_id
        return None

    # -- changes

    def put(self, changes: dict[str, State | None]) -> None:
        """Create, overwrite or (None) remove vertebrae, and show what follows from it."""
        appear = sum((i in self.vertebrae) != (state is not None) for i, state in changes.items())
        with self._quiet_scene() if appear > FEW else self._quiet():
            for vertebra_id, state in changes.items():
                if state is None:
                    self._remove(vertebra_id)
                elif vertebra_id in self.vertebrae:
                    self.vertebrae[vertebra_id].put(state)
                else:
                    self._create_vertebra(vertebra_id, state)
        self.refresh()

    def attach(self, vertebra_id: str) -> None:
        """Put a vertebra's nodes back under the transforms that they belong under."""
        markups = self.vertebrae[vertebra_id]
        with self._quiet():
            markups.node.SetAndObserveTransformNodeID(self.nodes["straightening"].GetID())
            markups.mirror.SetAndObserveTransformNodeID(None)

    def put_curve(self, analysis: SpineAnalysis, made: Reformat) -> None:
        """Another curve and its reformat; the vertebrae keep their places in the patient."""
        with self._quiet():
            self.nodes["study"].SetText(json.dumps(to_json(replace(analysis, vertebrae=()))))
            self.straightening = made.straightening
            show_transform(self.nodes["straightening"], made.straightening)
            outlines.draw_curve(self.nodes["curve"], made.straightening.curve.points)
            show_reformat(self.nodes["straightened"], made)

    def select(self, vertebra_id: str | None) -> None:
        """Mark one vertebra, or none."""
        for each, markups in self.vertebrae.items():
            if each in (self.selected, vertebra_id):
                chosen = each == vertebra_id
                markups.select(chosen, self.views.whole + (self.views.across if chosen else ()))
        self.selected = vertebra_id

    def show_window(self, name: str) -> None:
        """The window preset of both volumes."""
        for role in ("ct", "straightened"):
            show_window(self.nodes[role], name)

    def show_colors(self, name: str) -> None:
        """Another palette of `outlines.PALETTES`."""
        self.colors = outlines.PALETTES[name]
        if self.nodes:
            outlines.fill_colors(self.nodes["grades"], self.colors)
            self.refresh()

    def refresh(self) -> None:
        """Order, measure and draw all vertebrae."""
        self._order = sorted(self.vertebrae, key=lambda i: -self.vertebrae[i].straight()[..., 2].mean())
        measured = measure_column(self._keypoints(), self._spreads())
        self.measurements = dict(zip(self._order, measured, strict=True))
        for vertebra_id in self._order:
            self._judge(vertebra_id)
        self._draw_outlines()
        table.fill(self.nodes["measurements"], self._rows())

    def follow(self, vertebra_id: str) -> None:
        """Measure and draw anew what depends on one vertebra that moved: itself, and its neighbours' crush test."""
        index, count = self._order.index(vertebra_id), len(self._order)
        near = crush_neighbourhood(index, count)
        first, last = (crush_neighbourhood(i, count)[j] for i, j in ((near[0], 0), (near[-1], -1)))
        around = self._order[first : last + 1]  # all that the neighbours' measurements depend on
        points = _stacked([self.vertebrae[i].keypoints() for i in around])
        measured = measure_column(points, [self._spread(i) for i in around], only=[i - first for i in near])
        for i, measurement in zip(near, measured, strict=True):
            each = self._order[i]
            before, self.measurements[each] = self.measurements[each], measurement
            if i == index or before.grade != measurement.grade:
                self._judge(each)
                self._draw_outline(i)
            table.fill_row(self.nodes["measurements"], i, measurement, self.faults[each])

    # -- how

    def label(self, vertebra_id: str) -> str:
        """The level's name, or "V1", "V2", ... from the top where it is unknown."""
        return self.vertebrae[vertebra_id].details["level"] or f"V{self._order.index(vertebra_id) + 1}"

    def doubts(self) -> dict[str, float]:
        """The probability of the names that are in doubt, by vertebra."""
        details = [self.vertebrae[i].details for i in self._order]
        names, shares, pinned = ([d[k] for d in details] for k in ("level", "level_probabilities", "pinned"))
        found = zip(self._order, in_doubt(names, shares, pinned), strict=True)
        return {i: share for i, share in found if share is not None}

    def _judge(self, vertebra_id: str) -> None:
        markups = self.vertebrae[vertebra_id]
        self.faults[vertebra_id] = faults(markups.straight()[..., 1:])
        markups.show(self._title(vertebra_id), self.colors[self._color(vertebra_id)])

    def _title(self, vertebra_id: str) -> str:
        doubt = "?" if vertebra_id in self.doubts() else ""
        return f"{self.label(vertebra_id)}{doubt}  {ratio_text(self.measurements[vertebra_id].genant_ratio)}"

    def _rows(self) -> Iterator[tuple[str, Vertebra, tuple[str, ...]]]:
        return ((self.label(i), self.vertebra(i), self.faults[i]) for i in self._order)

    def _draw_outline(self, index: int) -> None:
        vertebra_id = self._order[index]
        markups, color = self.vertebrae[vertebra_id], self._color(vertebra_id)
        outlines.move(self.nodes["outlines"], index, markups.straight(), color)
        outlines.move(self.nodes["outlines-patient"], index, markups.keypoints(), color)

    def _draw_outlines(self) -> None:
        markups = [self.vertebrae[i] for i in self._order]
        colors = [self._color(i) for i in self._order]
        outlines.draw(self.nodes["outlines"], _stacked([m.straight() for m in markups]), colors)
        outlines.draw(self.nodes["outlines-patient"], _stacked([m.keypoints() for m in markups]), colors)

    def _color(self, vertebra_id: str) -> str:
        if self.vertebrae[vertebra_id].details["review"] == "rejected":
            return "rejected"
        return "faulty" if self.faults[vertebra_id] else self.measurements[vertebra_id].grade

    def _keypoints(self) -> np.ndarray:
        return _stacked([self.vertebrae[i].keypoints() for i in self._order])

    def _spreads(self) -> list[float | None]:
        return [self._spread(i) for i in self._order]

    def _spread(self, vertebra_id: str) -> float | None:
        """The network's doubt belongs to its own points; it waits in the details for a reset."""
        details = self.vertebrae[vertebra_id].details
        return details["genant_spread"] if details["origin"] == "model" else None

    def _study(self) -> SpineAnalysis:
        return from_json(json.loads(self.nodes["study"].GetText()))

    # -- nodes

    def _create_nodes(self, ct_node: Any) -> None:
        for role in ROLES:
            given = ct_node if role == "ct" else None
            self.nodes[role] = given or self._create(role)
        self.nodes["ct"].SetAttribute(ROLE, "ct")

    def _create(self, role: str) -> Any:
        views = {"outlines": self.views.straightened, "outlines-patient": self.views.whole}
        name = NAMES.get(role, role.capitalize())
        if role in views:
            node = outlines.create(self.scene, name, views[role], self.nodes["grades"])
        elif role == "curve":
            node = outlines.create_curve(self.scene, name, self.views.volume)
        else:
            node = self.scene.AddNewNodeByClass(ROLES[role], name)
        if role == "grades":
            outlines.fill_colors(node, self.colors)
        node.SetAttribute(ROLE, role)
        return node

    def _find(self, role: str) -> Any:
        return next(iter(self._found(role)), None)

    def _found(self, role: str) -> list[Any]:
        """The nodes of a role, but for the open study's; a CT may be of two studies."""
        nodes = [n for n in nodes_of(self.scene, ROLES[role]) if n.GetAttribute(ROLE) == role]
        return [n for n in nodes if role == "ct" or n is not self.nodes.get(role)]

    def _create_vertebra(self, vertebra_id: str, state: State) -> None:
        views = (self.views.straightened, self.views.whole)
        transform = self.nodes["straightening"].GetID()
        self._adopt(vertebra.create(self.scene, vertebra_id, state, transform, views))

    def _readmit(self, markups: VertebraMarkups) -> None:
        """A vertebra of a loaded scene; one that was saved without its mirror gets another."""
        if markups.mirror is not None:
            self._adopt(markups)
            return
        vertebra_id, state = markups.id, markups.state()
        self.scene.RemoveNode(markups.node)
        self._create_vertebra(vertebra_id, state)

    def _show_here(self) -> None:
        """A scene may come from another face, with other views."""
        views = self.views
        shown = {"outlines": views.straightened, "outlines-patient": views.whole, "curve": views.volume}
        for role, ids in shown.items():
            self.nodes[role].GetDisplayNode().SetViewNodeIDs(list(ids))
        self.nodes["curve"].GetDisplayNode().SetVisibility(bool(views.volume))
        outlines.draw_curve(self.nodes["curve"], self.straightening.curve.points)
        for markups in self.vertebrae.values():
            markups.node.GetDisplayNode().SetViewNodeIDs(list(views.straightened))
            markups.select(False, views.whole)

    def _adopt(self, markups: VertebraMarkups) -> None:
        self.vertebrae[markups.id] = markups
        events = slicer.vtkMRMLMarkupsNode
        for node in (markups.node, markups.mirror):
            self._observe(node, events.PointStartInteractionEvent, self._on_start, markups.id)
            self._observe(node, events.PointModifiedEvent, self._on_move, markups.id)
            self._observe(node, events.PointEndInteractionEvent, self._on_end, markups.id)
            self._observe(node, events.PointPositionUndefinedEvent, self._on_unset, markups.id)
            self._observe(node, vtk.vtkCommand.ModifiedEvent, self._on_modified, markups.id)
            self._observe(node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._on_detached, markups.id)

    def _observe(self, node: Any, event: int, tell: Callable[[str, Any], None], vertebra_id: str) -> None:
        self._observations.append((node, node.AddObserver(event, lambda caller, *_: tell(vertebra_id, caller))))

    def _on_start(self, vertebra_id: str, _: Any) -> None:
        if not self._busy:
            self.listeners.started(vertebra_id)

    def _on_move(self, vertebra_id: str, moved: Any) -> None:
        if self._busy:
            return
        with self._quiet():
            self.vertebrae[vertebra_id].follow(moved)
            self.follow(vertebra_id)
        self.listeners.moved(vertebra_id)

    def _on_end(self, vertebra_id: str, _: Any) -> None:
        if not self._busy:
            self.listeners.ended(vertebra_id)

    def _on_unset(self, vertebra_id: str, _: Any) -> None:
        if not self._busy:
            self.listeners.unset(vertebra_id)

    def _on_modified(self, vertebra_id: str, node: Any) -> None:
        if not self._busy and vertebra_id in self.measurements and node.GetName() != self._title(vertebra_id):
            self.listeners.renamed(vertebra_id)

    def _on_detached(self, vertebra_id: str, _: Any) -> None:
        if not self._busy and not self._is_attached(self.vertebrae[vertebra_id]):
            self.listeners.detached(vertebra_id)

    def _is_attached(self, markups: VertebraMarkups) -> bool:
        own = self.nodes["straightening"]
        if own.GetScene() is None:
            return True  # that it is lost is told of itself
        return markups.node.GetTransformNodeID() == own.GetID() and markups.mirror.GetTransformNodeID() is None

    def _remove(self, vertebra_id: str) -> None:
        markups = self.vertebrae.pop(vertebra_id, None)
        if markups is None:
            return
        gone = (markups.node, markups.mirror)
        self._stop_observing(lambda node: node in gone)
        for node in gone:
            if node is not None and node.GetScene() is not None:
                self.scene.RemoveNode(node)
        if self.selected == vertebra_id:
            self.selected = None

    def _stop_observing(self, which: Callable[[Any], bool]) -> None:
        for node, tag in self._observations:
            if which(node):
                node.RemoveObserver(tag)
        self._observations = [(n, t) for n, t in self._observations if not which(n)]

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Changes that are not a hand's."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    @contextmanager
    def _quiet_scene(self) -> Iterator[None]:
        """Many nodes at once: views refresh when all are there."""
        self.scene.StartState(slicer.vtkMRMLScene.BatchProcessState)
        try:
            with self._quiet():
                yield
        finally:
            self.scene.EndState(slicer.vtkMRMLScene.BatchProcessState)


def _stacked(points: Iterable[np.ndarray]) -> np.ndarray:
    each = list(points)
    return np.stack(each) if each else np.empty((0, 3, 2, 3))


def _encloses(polygon: np.ndarray, point: np.ndarray) -> bool:
    """Whether a point `(2,)` lies in a polygon `(n, 2)`: a ray from it crosses the outline an odd number of times."""
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    crossed = (y0 > point[1]) != (y1 > point[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        left = point[0] < x0 + (point[1] - y0) * (x1 - x0) / (y1 - y0)
    return bool((crossed & left).sum() % 2)
