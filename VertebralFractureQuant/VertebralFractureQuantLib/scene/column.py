"""The vertebrae of a study from cranial to caudal, measured and drawn live from the key points in the scene.

Key points are read from the markups, measured by `spine.genant`, and shown as names, colours, outlines and table rows.
Nothing else stores key points or measurements. Patient and straight coordinates are RAS mm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..spine.expected import Expectation, column_expectations, losses_text
from ..spine.genant import Measurement, crush_neighbourhood, measure_column, ratio_text
from ..spine.keypoints import faults, outline
from ..spine.levels import in_doubt, steps_between
from ..spine.physiologic import physiologic_shapes
from ..spine.plausibility import column_flags, impossible, own_fault
from ..spine.quality import Flag, of_study
from ..spine.record import Vertebra, remeasured
from . import expected_outlines, outlines, table
from .labels import Label
from .nodes import StudyNodes
from .state import flags_of, vertebra_of
from .vertebra import VertebraMarkups


class LiveColumn:
    """The vertebrae of the open study, with their measurements.

    Attributes
    ----------
    vertebrae, measurements, faults : vertebra's id -> markups, measurement, faults of its key points.
    physiologic : vertebra's id -> why its shape is physiologic; only those whose shape is.
    expected : vertebra's id -> the heights that its neighbours lead to expect; None without neighbours.
    impossible : vertebra's id -> why its points cannot be those of a vertebral body; only those of which it is so.
    flags : vertebra's id -> the reasons to doubt it.
    followed : the ids of the vertebra that moved last and of those that read otherwise since.
    is_whole : tells if key points `(3, 2, 3)` patient RAS mm lie in the scan.
    order : the ids from cranial to caudal.
    colors : the palette, one of `outlines.PALETTES`.
    numbers : False if labels show neither a Genant ratio nor what follows from it.
    """

    def __init__(self, nodes: StudyNodes):
        self._nodes = nodes
        self.colors = outlines.COLORS
        self.numbers = True
        self.is_whole: Callable[[np.ndarray], bool] = lambda _: True
        self.clear()

    def clear(self) -> None:
        """Forget all vertebrae."""
        self.vertebrae: dict[str, VertebraMarkups] = {}
        self.measurements: dict[str, Measurement] = {}
        self.faults: dict[str, tuple[str, ...]] = {}
        self.physiologic: dict[str, str] = {}
        self.expected: dict[str, Expectation | None] = {}
        self.impossible: dict[str, str] = {}
        self.flags: dict[str, tuple[Flag, ...]] = {}
        self.followed: tuple[str, ...] = ()
        self._own: dict[str, str] = {}
        self._straight: dict[
            str, np.ndarray
        ] = {}  # as read last, because reading all nodes takes longer than measuring
        self._points = _stacked(())  # patient RAS mm, in `order`
        self.order: list[str] = []

    # -- measuring

    def refresh(self) -> None:
        """Order, measure and draw all vertebrae."""
        self._straight = {i: markups.straight() for i, markups in self.vertebrae.items()}
        self.order = sorted(self.vertebrae, key=lambda i: -self._straight[i][..., 2].mean())
        points = self.keypoints()
        self._points = points
        for vertebra_id, each in zip(self.order, points, strict=True):
            self._check(vertebra_id, each)
        self.impossible = self._impossible(points)
        measured = measure_column(points, [self._spread(i) for i in self.order], left_out=self._left_out())
        self.measurements = dict(zip(self.order, measured, strict=True))
        self.physiologic, self.flags = self._judged(), self._doubted(points)
        self._expect(points)
        for vertebra_id in self.order:
            self._show(vertebra_id)
        self._draw_outlines()
        table.fill(self._nodes["measurements"], self._rows())

    def follow(self, vertebra_id: str) -> None:
        """Measure and draw again what depends on a vertebra that moved: itself, and its neighbours' crush test."""
        before_move, impossible_before = {i: self._found(i) for i in self.order}, self.impossible
        self._straight[vertebra_id] = self.vertebrae[vertebra_id].straight()
        points, index = self._points, self.order.index(vertebra_id)
        points[index] = self.vertebrae[vertebra_id].keypoints()
        self._check(vertebra_id, points[index])
        self.impossible = self._impossible(points)
        told = {i for i in self.order if impossible_before.get(i) != self.impossible.get(i)}
        near = self._near({vertebra_id, *told})
        measured = measure_column(points, [self._spread(i) for i in self.order], near, self._left_out())
        for i, measurement in zip(near, measured, strict=True):
            each = self.order[i]
            before, self.measurements[each] = self.measurements[each], measurement
            if each == vertebra_id or each in told or before.grade != measurement.grade:
                self._show(each)
                self._draw_outline(i)
        self.physiologic, self.flags = self._judged(), self._doubted(points)
        changed = {i for i in self.order if i == vertebra_id or self._found(i) != before_move[i]}
        farther = self._expect(points)
        self.followed = tuple(i for i in self.order if i in changed or i in farther)
        for each in changed:
            table.fill_row(self._nodes["measurements"], self.order.index(each), *self._row(each)[1:])

    def _found(self, vertebra_id: str) -> tuple[Any, ...]:
        """Return what the results table says of a vertebra."""
        i = vertebra_id
        return self.measurements[i], self.flags[i], self.physiologic.get(i), self.impossible.get(i)

    def _near(self, moved: Iterable[str]) -> list[int]:
        """Return the indices of all whose measurement depends on one of these vertebrae."""
        count = len(self.order)
        return sorted({j for i in moved for j in crush_neighbourhood(self.order.index(i), count)})

    def _check(self, vertebra_id: str, keypoints: np.ndarray) -> None:
        """Judge the points of one vertebra by themselves."""
        self.faults[vertebra_id] = faults(self._straight[vertebra_id][..., 1:])
        self._own[vertebra_id] = own_fault(self.faults[vertebra_id], self.is_whole(keypoints))

    def _impossible(self, points: np.ndarray) -> dict[str, str]:
        straight = _stacked([self._straight[i] for i in self.order])
        details = [self.vertebrae[i].details for i in self.order]
        levels, rejected = [d["level"] for d in details], [d["review"] == "rejected" for d in details]
        found = impossible(points, straight, levels, [self._own[i] for i in self.order], rejected)
        return {i: told for i, told in zip(self.order, found, strict=True) if told}

    def _left_out(self) -> list[int]:
        return [i for i, each in enumerate(self.order) if each in self.impossible]

    def counts(self, vertebra_id: str) -> bool:
        """True if the patient's grade and SDI include a vertebra, as `record.Vertebra.counts`."""
        review = self.vertebrae[vertebra_id].details["review"]
        return review == "confirmed" or (review == "open" and vertebra_id not in self.impossible)

    # -- what is known of a vertebra

    def vertebra(self, vertebra_id: str) -> Vertebra:
        """Return the record of one vertebra, with its measurement."""
        found = vertebra_of(self.vertebrae[vertebra_id].state(), self.measurements[vertebra_id])
        reason, expected, flags = self.physiologic.get(vertebra_id), self.expected[vertebra_id], self.flags[vertebra_id]
        spread = self._spread(vertebra_id)
        return replace(found, spread=spread, physiologic=reason, expected=expected, quality=flags)

    def keypoints(self) -> np.ndarray:
        """Return the key points `(n, 3, 2, 3)` of all vertebrae in `order`, patient RAS mm."""
        return _stacked([self.vertebrae[i].keypoints() for i in self.order])

    def straight(self) -> np.ndarray:
        """Return the key points `(n, 3, 2, 3)` of all vertebrae in `order`, straight RAS mm, as measured last."""
        return _stacked([self._straight[i] for i in self.order])

    def plane_of(self, vertebra_id: str) -> float:
        """Return R, straight mm, of the sagittal plane on which a vertebra's points lie."""
        return float(self._straight[vertebra_id][..., 0].mean())

    def steps(self) -> list[int]:
        """Return how many levels each vertebra but the first lies below the one above it."""
        if len(self.order) < 2:
            return []
        tall = np.array([np.mean(self.measurements[i].heights_mm) for i in self.order])
        return [int(n) for n in steps_between(self.keypoints().mean((1, 2)), tall)]

    def label(self, vertebra_id: str) -> str:
        """Return the level's name, or "V1", "V2", ... from the top if it is unknown."""
        return self.vertebrae[vertebra_id].details["level"] or f"V{self.order.index(vertebra_id) + 1}"

    def title(self, vertebra_id: str) -> str:
        """Return the name of the vertebra's nodes: its label, "?" if that is in doubt, and its Genant ratio.

        Without `numbers` it is the label alone.
        """
        if not self.numbers:
            return self.label(vertebra_id)
        doubt = "?" if vertebra_id in self.doubts() else ""
        return f"{self.label(vertebra_id)}{doubt}  {ratio_text(self.measurements[vertebra_id].genant_ratio)}"

    def labels(self, selected: str | None) -> list[Label]:
        """Return the labels of all vertebrae in `order`: the title, and the grade if it is not normal."""
        return [self._label(i, i == selected) for i in self.order if i in self.vertebrae]

    def _label(self, vertebra_id: str, selected: bool) -> Label:
        measured, review = self.measurements[vertebra_id], self.vertebrae[vertebra_id].details["review"]
        words = self.title(vertebra_id).split()
        if review == "rejected":
            words.append(review)
        elif self.numbers and not self.counts(vertebra_id):
            words.append("not counted")
        elif measured.grade != "normal" and self.colors is outlines.COLORS:
            words.append("physiologic" if vertebra_id in self.physiologic else measured.grade)
        places = self._straight[vertebra_id].reshape(-1, 3)[:, 1:]
        box = np.stack([places.min(0), places.max(0)])
        return Label(tuple(words), self.colors[self._color(vertebra_id)], box, selected)

    def doubts(self) -> dict[str, float]:
        """Return the probability of each level name that is in doubt, by the vertebra's id."""
        details = [self.vertebrae[i].details for i in self.order]
        names, shares, pinned = ([d[k] for d in details] for k in ("level", "level_probabilities", "pinned"))
        found = zip(self.order, in_doubt(names, shares, pinned), strict=True)
        return {i: share for i, share in found if share is not None}

    def at(self, point: np.ndarray, straightened: bool) -> str | None:
        """Return the vertebra whose outline contains a point `(3,)`, seen from the side; straight or patient RAS mm."""
        for vertebra_id, markups in self.vertebrae.items():
            points = outline(markups.straight() if straightened else markups.keypoints())
            if _encloses(points[:, 1:], point[1:]):
                return vertebra_id
        return None

    def _judged(self) -> dict[str, str]:
        """Return why shapes are physiologic, by the vertebra's id."""
        details = [self.vertebrae[i].details for i in self.order]
        levels, shares, pinned = ([d[k] for d in details] for k in ("level", "level_probabilities", "pinned"))
        levels = [None if i in self.impossible else level for i, level in zip(self.order, levels, strict=True)]
        reasons = physiologic_shapes([self.measurements[i] for i in self.order], levels, shares, pinned)
        return {i: reason for i, reason in zip(self.order, reasons, strict=True) if reason}

    def _expect(self, points: np.ndarray) -> set[str]:
        """Expect and draw heights of all vertebrae, and return the ids of those whose losses now read otherwise."""
        details = [self.vertebrae[i].details for i in self.order]
        levels, rejected = [d["level"] for d in details], [d["review"] == "rejected" for d in details]
        found = column_expectations(points, levels, [i in self.impossible for i in self.order], rejected)
        before, self.expected = self.expected, dict(zip(self.order, found, strict=True))
        expected_outlines.draw(self._nodes["expected"], self._straight, self.measurements, self.expected)
        moved = {i for i, e in self.expected.items() if e != before.get(i)}
        return {i for i in moved if losses_text(self.expected[i]) != losses_text(before.get(i))}

    def _doubted(self, points: np.ndarray) -> dict[str, tuple[Flag, ...]]:
        """Return the reasons to doubt each vertebra: of its size and distance now, and as it was detected."""
        details = [self.vertebrae[i].details for i in self.order]
        wrong = [self.impossible.get(i, "") for i in self.order]
        geometric = column_flags(points, [d["level"] for d in details], wrong)
        return {i: flags_of(d, now) for i, d, now in zip(self.order, details, geometric, strict=True)}

    def with_points(self, held: Mapping[str, np.ndarray], straight: Mapping[str, np.ndarray]) -> list[Vertebra]:
        """Return the records of all vertebrae, of which some have other key points than in the scene.

        `held`, `straight`: id -> key points `(3, 2, 3)`, patient and straight RAS mm.
        """
        points = _stacked([held.get(i, self.vertebrae[i].keypoints()) for i in self.order])
        kept = dict(self._straight), dict(self._own), dict(self.faults), self.impossible
        try:
            self._straight.update(straight)
            for vertebra_id in straight:
                self._check(vertebra_id, held[vertebra_id])
            self.impossible = self._impossible(points)
            flags = self._doubted(points)
        finally:
            self._straight, self._own, self.faults, self.impossible = kept
        found = [replace(self.vertebra(i), quality=flags[i]) for i in self.order]
        return [*remeasured([replace(v, keypoints=p) for v, p in zip(found, points, strict=True)])]

    def study_flags(self, whole: Iterable[Flag]) -> tuple[Flag, ...]:
        """Return the reasons to doubt the study: those of the `whole`, and those of vertebrae that are not reviewed."""
        still_open = [i for i in self.order if self.vertebrae[i].details["review"] == "open"]
        own = [self.flags[i] if i in still_open else () for i in self.order]
        return of_study([self.label(i) for i in self.order], own, whole)

    def _spread(self, vertebra_id: str) -> float | None:
        """The network's standard deviation of G holds for its own points only; `details` keep it for a reset."""
        details = self.vertebrae[vertebra_id].details
        return details["genant_spread"] if details["origin"] == "model" else None

    # -- drawing

    def _show(self, vertebra_id: str) -> None:
        self.vertebrae[vertebra_id].show(self.title(vertebra_id), self.colors[self._color(vertebra_id)])

    def _rows(self) -> Iterator[table.Row]:
        return (self._row(i) for i in self.order)

    def _row(self, vertebra_id: str) -> table.Row:
        return self.label(vertebra_id), self.vertebra(vertebra_id), self.impossible.get(vertebra_id, "")

    def _draw_outline(self, index: int) -> None:
        vertebra_id = self.order[index]
        markups, color = self.vertebrae[vertebra_id], self._color(vertebra_id)
        outlines.move(self._nodes["outlines"], index, markups.straight(), color)
        outlines.move(self._nodes["outlines-patient"], index, markups.keypoints(), color)

    def _draw_outlines(self) -> None:
        markups = [self.vertebrae[i] for i in self.order]
        colors = [self._color(i) for i in self.order]
        outlines.draw(self._nodes["outlines"], _stacked([m.straight() for m in markups]), colors)
        outlines.draw(self._nodes["outlines-patient"], _stacked([m.keypoints() for m in markups]), colors)

    def _color(self, vertebra_id: str) -> str:
        if self.vertebrae[vertebra_id].details["review"] == "rejected":
            return "rejected"
        return self.measurements[vertebra_id].grade if self.counts(vertebra_id) else "faulty"


def _stacked(points: Iterable[np.ndarray]) -> np.ndarray:
    each = list(points)
    return np.stack(each) if each else np.empty((0, 3, 2, 3))


def _encloses(polygon: np.ndarray, point: np.ndarray) -> bool:
    """True if a point `(2,)` lies in a polygon `(n, 2)`: a ray from it crosses the outline an odd number of times."""
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    crossed = (y0 > point[1]) != (y1 > point[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        left = point[0] < x0 + (point[1] - y0) * (x1 - x0) / (y1 - y0)
    return bool((crossed & left).sum() % 2)
