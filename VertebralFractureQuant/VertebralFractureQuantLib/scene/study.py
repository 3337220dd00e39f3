"""One study in an MRML scene: the CT, its straightened image, six-point markups, and the measurements that follow them.

While a reader edits, the scene is the only place where key points are kept: they are read from the nodes, measured and
shown, and the record (`analysis`) is written from them. Local points of the markups are patient RAS mm. The caller
gives the scene and the IDs of the views.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume, inside_of
from ..spine.curve import SpineCurve
from ..spine.genant import Measurement
from ..spine.plausibility import OUTSIDE_MM
from ..spine.quality import Flag
from ..spine.record import SpineAnalysis, Vertebra
from ..spine.record_json import from_json, to_json
from ..spine.straightening import Straightening
from . import outlines, references, vertebra
from .column import LiveColumn
from .labels import Label
from .nodes import REMOVED, StudyNodes
from .observer import Checks, Listeners, MarkupsObserver
from .pairs import Pairs, at_once, steps
from .state import CURVE, CURVE_KEYS, State, first_state, record_of
from .straight import Reformat, show_reformat, show_transform
from .vertebra import VertebraMarkups
from .views import Views
from .volumes import show_ct, show_window

BESIDE_MM = 1.5  # points are beside a plane that is farther away than this
FEW = 2  # more vertebrae than these are created or removed in one batch, because the views refresh after each node


class StudyScene:
    """The study that is open in a scene, if any. Only `put`, or a drag in a view, changes a vertebra.

    Attributes
    ----------
    scene, views : where the study is shown.
    selected : the id of the selected vertebra, or None.
    straightening : the map between patient and straight space along the study's curve.
    """

    def __init__(self, scene: Any, views: Views):
        self.scene = scene
        self.views = views
        self.selected: str | None = None
        self._overlay = True
        self.straightening = Straightening(SpineCurve(np.eye(3)))
        self._nodes = StudyNodes(scene, views)
        self._column = LiveColumn(self._nodes)
        self._observer = MarkupsObserver(scene, Checks(self._follow_node, self._is_named, self._is_attached))
        self._pairs = Pairs(scene, (views.straightened, views.whole), self._column, self._observer)

    # -- opening and closing

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Show a study at once; see `opening`."""
        at_once(self.opening(*args, **kwargs))

    def opening(
        self,
        ct: CTVolume,
        made: Reformat,
        analysis: SpineAnalysis,
        ct_node: Any = None,
        state: State | None = None,
    ) -> Iterator[None]:
        """Show a study, in steps between which events may be handled; one that is open is closed first.

        VFQError `empty_scene` if one of its nodes is removed meanwhile.

        Parameters
        ----------
        ct, analysis : the scan and its analysis.
        made : the straightened image along the curve of `state`.
        ct_node : the CT's node if it is in the scene already.
        state : the state after the actions of an earlier review; `first_state(analysis)` if None.
        """
        yield from self.closing()
        state = first_state(analysis) if state is None else state
        with self._observer.quiet_scene():
            self._nodes.create(ct_node, self._column.colors)
            if ct_node is None:
                show_ct(self.nodes["ct"], ct)
            self.show_window("bone")
            self.put_curve(from_json({**to_json(analysis), **state[CURVE]}), made)
        yield
        for some in steps([i for i in state if i != CURVE]):
            with self._observer.quiet_scene():
                for vertebra_id in some:
                    self._create_vertebra(vertebra_id, state[vertebra_id])
            yield
        if not self.intact:
            raise VFQError("empty_scene", REMOVED)
        self.refresh()

    def reopen(self) -> None:
        """Open the study of a scene that was loaded from a file. VFQError `empty_scene` if the scene contains none."""
        self.release()
        self._nodes.find(self._column.colors)
        self.straightening = Straightening(SpineCurve(self._record().curve))
        self._know_scan(self._record())
        with self._observer.quiet_scene():
            for each in vertebra.find(self.scene):
                self._readmit(each)
            self._show_here()
            self.refresh()

    def close(self) -> None:
        """Remove the study's nodes from the scene; a CT that was there before stays."""
        at_once(self.closing())

    def closing(self) -> Iterator[None]:
        """Remove the study's nodes as `close` does, in steps; also the rest, if the steps are not finished."""
        removing = self._pairs.removing(self._nodes.created())
        self._nodes.hand_back_ct()
        self.release()
        yield from removing

    def release(self) -> None:
        """Forget the study's nodes, and leave them in the scene."""
        self._observer.forget_all()
        self._nodes.release()
        self._column.clear()
        self.selected = None
        self._overlay = True

    # -- what is there

    @property
    def nodes(self) -> dict[str, Any]:
        """The nodes by role, a key of `nodes.ROLES`; empty while no study is open."""
        return self._nodes.by_role

    @property
    def vertebrae(self) -> dict[str, VertebraMarkups]:
        """The markups by the vertebra's id."""
        return self._column.vertebrae

    @property
    def measurements(self) -> dict[str, Measurement]:
        """The measurements by the vertebra's id."""
        return self._column.measurements

    @property
    def faults(self) -> dict[str, tuple[str, ...]]:
        """The faults of key points (keys of `spine.keypoints.FAULTS`) by the vertebra's id."""
        return self._column.faults

    @property
    def physiologic(self) -> dict[str, str]:
        """Why shapes are physiologic, by the vertebra's id; only vertebrae whose shape is."""
        return self._column.physiologic

    @property
    def impossible(self) -> dict[str, str]:
        """Why key points cannot be those of a vertebral body, by the vertebra's id; only of those that are so."""
        return self._column.impossible

    def counts(self, vertebra_id: str) -> bool:
        """True if the patient's grade and SDI include a vertebra."""
        return self._column.counts(vertebra_id)

    @property
    def followed(self) -> tuple[str, ...]:
        """The ids of the vertebrae that were measured again when one moved last."""
        return self._column.followed

    @property
    def flags(self) -> dict[str, tuple[Flag, ...]]:
        """The reasons to doubt each vertebra, by its id."""
        return self._column.flags

    def quality(self) -> tuple[Flag, ...]:
        """Return the reasons to doubt the study; those of vertebrae that a reader has reviewed are over."""
        whole = [flag for flag in self._record().quality if not flag.where] if self.nodes else []
        return self._column.study_flags(whole)

    @property
    def order(self) -> list[str]:
        """The vertebrae's ids from cranial to caudal."""
        return list(self._column.order)

    @property
    def listeners(self) -> Listeners:
        """The functions that are called when markups change."""
        return self._observer.listeners

    @property
    def busy(self) -> bool:
        """True while the study itself changes its nodes."""
        return self._observer.busy

    @property
    def intact(self) -> bool:
        """True if every node of the study, and its display node, is in the scene."""
        pairs = [n for v in self.vertebrae.values() for n in (v.node, v.mirror)]
        return self._nodes.intact and all(n.GetDisplayNode() for n in pairs)

    def another_is_here(self) -> bool:
        """True if the scene contains a study that `reopen` could open, besides the one that is open."""
        return self._nodes.another_is_here()

    def vertebra(self, vertebra_id: str) -> Vertebra:
        """Return the record of one vertebra, with its measurement."""
        return self._column.vertebra(vertebra_id)

    def label(self, vertebra_id: str) -> str:
        """Return the level's name, or "V1", "V2", ... from the top if it is unknown."""
        return self._column.label(vertebra_id)

    def doubts(self) -> dict[str, float]:
        """Return the probability of each level name that is in doubt, by the vertebra's id."""
        return self._column.doubts()

    def steps(self) -> list[int]:
        """Return how many levels each vertebra but the first lies below the one above it."""
        return self._column.steps()

    def at(self, point: np.ndarray, straightened: bool) -> str | None:
        """Return the vertebra whose outline contains a point `(3,)`, seen from the side; straight or patient RAS mm."""
        return self._column.at(point, straightened)

    def nearest(self, point: np.ndarray) -> str | None:
        """Return the vertebra whose middle is nearest to a point `(3,)` RAS mm; None if there is none."""
        middles = {i: v.keypoints().mean((0, 1)) for i, v in self.vertebrae.items()}
        return min(middles, key=lambda i: float(np.linalg.norm(middles[i] - point)), default=None)

    # -- state and record

    def state(self) -> State:
        """Return all that an action can change: each vertebra's state by its id, and the curve's under `CURVE`."""
        return {CURVE: self.curve_state(), **{i: v.state() for i, v in self.vertebrae.items()}}

    def curve_state(self) -> State:
        """Return the curve's points `(n, 3)` RAS mm and limits, and whether a spine was found, as JSON values."""
        record = json.loads(self.nodes["study"].GetText())
        return {key: record[key] for key in CURVE_KEYS}

    def with_curve(self, state: State) -> SpineAnalysis:
        """Return the study's record along another curve (a `curve_state`), without vertebrae."""
        return from_json({**to_json(self._record()), **state})

    def analysis(self, held: Mapping[str, np.ndarray] | None = None) -> SpineAnalysis:
        """Return the record of the study as it is in the scene.

        `held`: id -> key points `(3, 2, 3)` RAS mm to use instead of the scene's, for a vertebra that is being dragged.
        """
        found = [self.vertebra(i) for i in self.order]
        if held:
            found = self._column.with_points(held, {i: self.straightening.to_straight(p) for i, p in held.items()})
        record = replace(self._record(), vertebrae=tuple(found), quality=self.quality())
        # A scan in which nothing was found automatically is measured once a reader has placed a vertebra.
        return replace(record, status="ok", message="") if record.vertebrae else record

    def _know_scan(self, record: SpineAnalysis) -> None:
        """Tell the column which points lie in the scan; all do if an older record has no matrix."""
        shape, matrix = record.shape, record.ijk_to_ras
        self._column.is_whole = lambda _: True
        if shape is not None and matrix is not None:
            self._column.is_whole = inside_of(shape, matrix, OUTSIDE_MM)

    def _record(self) -> SpineAnalysis:
        """Return the record without its vertebrae."""
        return record_of(self.nodes["study"].GetText())

    # -- changes

    def put(self, changes: Mapping[str, State | None]) -> None:
        """Create, overwrite or (None) remove vertebrae, then measure and draw all of them."""
        appear = sum(1 if state else -1 for i, state in changes.items() if (i in self.vertebrae) != (state is not None))
        with self._observer.quiet_scene() if abs(appear) > FEW else self._observer.quiet():
            self._pairs.hand_over(changes)
            for vertebra_id, state in changes.items():
                if state is None:
                    self._pairs.remove(vertebra_id)
                elif vertebra_id in self.vertebrae:
                    self.vertebrae[vertebra_id].put(state)
                else:
                    self._create_vertebra(vertebra_id, state)
        self.selected = self.selected if self.selected in self.vertebrae else None
        self.refresh()

    def put_curve(self, analysis: SpineAnalysis, made: Reformat) -> None:
        """Show another curve and its straightened image; the vertebrae keep their places in the patient."""
        with self._observer.quiet():
            self.nodes["study"].SetText(json.dumps(to_json(replace(analysis, vertebrae=()))))
            self.straightening = made.straightening
            show_transform(self.nodes["straightening"], made.straightening)
            outlines.draw_curve(self.nodes["curve"], made.straightening.curve.points)
            show_reformat(self.nodes["straightened"], made)
            self._know_scan(analysis)

    def attach(self, vertebra_id: str) -> None:
        """Put a vertebra's nodes back under the transforms that they belong under."""
        markups = self.vertebrae[vertebra_id]
        with self._observer.quiet():
            markups.node.SetAndObserveTransformNodeID(self.nodes["straightening"].GetID())
            markups.mirror.SetAndObserveTransformNodeID(None)

    def refresh(self) -> None:
        """Order, measure and draw all vertebrae."""
        with self._observer.quiet():  # a point's label is a change of the point to MRML
            self._column.refresh()

    def follow(self, vertebra_id: str) -> None:
        """Measure and draw again what depends on a vertebra that moved: itself, and its neighbours' crush test."""
        self._column.follow(vertebra_id)

    def select(self, vertebra_id: str | None) -> None:
        """Mark one vertebra, or none."""
        for each, markups in self.vertebrae.items():
            if each in (self.selected, vertebra_id):
                chosen = each == vertebra_id
                markups.select(chosen, self.views.whole + (self.views.across if chosen else ()))
        self.selected = vertebra_id

    def show_window(self, window: str | tuple[float, float]) -> None:
        """Show both volumes with a window of `volumes.WINDOWS`, or with a width and a level in HU."""
        for role in ("ct", "straightened"):
            show_window(self.nodes[role], window)

    def labels(self) -> list[Label]:
        """Return the labels of all vertebrae in `order`, for the straightened view; none while they are hidden."""
        return self._column.labels(self.selected) if self._overlay else []

    def show_overlay(self, visible: bool) -> None:
        """Show or hide points, lines and labels in all views."""
        self._overlay = visible
        for role in ("outlines", "outlines-patient", *references.VIEWS_OF):
            self.nodes[role].GetDisplayNode().SetVisibility(visible)
        for markups in self.vertebrae.values():
            markups.show_overlay(visible)

    def show_plane(self, lateral: float) -> None:
        """Show points faint and locked in the straightened view, if they lie beside its plane at R = `lateral` mm."""
        beside = {i: abs(self.plane_of(i) - lateral) > BESIDE_MM for i in self.vertebrae}
        for vertebra_id, markups in self.vertebrae.items():
            markups.show_beside(beside[vertebra_id])
        if self.nodes:
            outlines.fade(self.nodes["outlines"], vertebra.FAINT if beside and all(beside.values()) else 1.0)

    def straight(self) -> np.ndarray:
        """Return the key points `(n, 3, 2, 3)` of all vertebrae in `order`, straight RAS mm, as measured last."""
        return self._column.straight()

    def plane_of(self, vertebra_id: str) -> float:
        """Return R, straight mm, of the sagittal plane on which a vertebra's points lie."""
        return self._column.plane_of(vertebra_id)

    def show_colors(self, name: str, numbers: bool = True) -> None:
        """Draw with a palette of `outlines.PALETTES`; without `numbers` the labels are names of levels alone."""
        before = self._column.colors, self._column.numbers
        self._column.colors, self._column.numbers = outlines.PALETTES[name], numbers
        if self.nodes and before != (self._column.colors, numbers):
            outlines.fill_colors(self.nodes["grades"], self._column.colors)
            self.refresh()

    # -- vertebrae's nodes

    def _create_vertebra(self, vertebra_id: str, state: State) -> None:
        self._pairs.create(vertebra_id, state, self.nodes["straightening"].GetID(), self._overlay)

    def _readmit(self, markups: VertebraMarkups) -> None:
        """Adopt a vertebra of a loaded scene; one that was saved without its mirror gets new nodes."""
        if markups.mirror is not None:
            self._pairs.adopt(markups)
            return
        vertebra_id, state = markups.id, markups.state()
        self.scene.RemoveNode(markups.node)
        self._create_vertebra(vertebra_id, state)

    def _show_here(self) -> None:
        self._nodes.show_here(self.straightening.curve.points)
        for markups in self.vertebrae.values():
            markups.node.GetDisplayNode().SetViewNodeIDs(list(self.views.straightened))
            markups.node.GetDisplayNode().SetPointLabelsVisibility(False)
            markups.select(False, self.views.whole)

    def _follow_node(self, vertebra_id: str, moved: Any) -> None:
        with (markups := self.vertebrae[vertebra_id]).together():
            markups.follow(moved)
            self.follow(vertebra_id)

    def _is_named(self, vertebra_id: str, node: Any) -> bool:
        return vertebra_id not in self.measurements or node.GetName() == self._column.title(vertebra_id)

    def _is_attached(self, vertebra_id: str) -> bool:
        return self.vertebrae[vertebra_id].is_under(self.nodes["straightening"])
