"""Two straightened views that move together: the same place of the spine in the middle of both, in the same size.

Coordinates are straight RAS mm. Matched vertebrae lie at different places along the two curves, so the place of one
view is that of the other one plus a shift: that of the selected vertebra while it is in view, else that of the nearest
vertebrae.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from . import navigation


@dataclass(frozen=True, eq=False)
class Places:
    """The middles of matched vertebrae in both studies.

    Attributes
    ----------
    now, before : `(n, 3)` straight mm, caudal first.
    chosen : the index of the selected vertebra; None if it has no match.
    """

    now: np.ndarray
    before: np.ndarray
    chosen: int | None = None

    def shift(self, center: np.ndarray, half_mm: float, from_prior: bool) -> np.ndarray:
        """Return the shift `(3,)` from a view's place `(3,)` to that of the other view, which shows +-`half_mm`.

        from_prior : the place is that of the prior study.
        """
        here, there = (self.before, self.now) if from_prior else (self.now, self.before)
        if not len(here):
            return np.zeros(3)
        if self.chosen is not None and abs(here[self.chosen, 2] - center[2]) <= half_mm:
            return np.asarray(there[self.chosen] - here[self.chosen])
        return np.array([np.interp(center[2], here[:, 2], column) for column in (there - here).T])


class AlignedViews:
    """Aligns the views from its creation until `leave`: each follows the other.

    After one of them has another size, the prior's view follows the other one again.

    Parameters
    ----------
    current, prior : the slice nodes.
    places : returns the matched vertebrae.
    later : calls a function after the present event, in which a view that is resized is not ready yet.
    """

    def __init__(
        self, current: Any, prior: Any, places: Callable[[], Places], later: Callable[[Callable[[], None]], None]
    ):
        self._nodes = current, prior
        self._places = places
        self._later = later
        self._waits = False
        self._busy = False
        self._known: tuple[Any, ...] = ()
        self._sizes = self._dimensions()
        event = vtk.vtkCommand.ModifiedEvent
        self._tags = [node.AddObserver(event, lambda *_, led=node is prior: self._moved(led)) for node in self._nodes]

    def leave(self) -> None:
        """Let the views move by themselves again."""
        for node, tag in zip(self._nodes, self._tags, strict=False):  # none are left after the first time
            node.RemoveObserver(tag)
        self._tags = []

    def align(self, from_prior: bool = False) -> None:
        """Move the prior's view to the place of the other one, or the other one to the place of the prior's."""
        leader, follower = reversed(self._nodes) if from_prior else self._nodes
        columns, rows, _ = leader.GetDimensions()
        if not columns or not rows:
            return
        center, mm = middle_of(leader), leader.GetFieldOfView()[0] / columns
        place = center + self._places().shift(center, mm * rows / 2, from_prior)
        self._busy = True
        try:
            show(follower, place, mm)
        finally:
            self._busy = False
        self._known = self._looks()

    def _moved(self, from_prior: bool) -> None:
        if self._busy or self._waits or self._looks() == self._known:
            return
        sizes, self._sizes = self._sizes, self._dimensions()
        if sizes == self._sizes:
            self.align(from_prior)
        else:
            self._waits = True
            self._later(self._resized)

    def _resized(self) -> None:
        self._waits = False
        if self._tags:
            self._sizes = self._dimensions()
            self.align()

    def _dimensions(self) -> tuple[Any, ...]:
        return tuple(tuple(node.GetDimensions()[:2]) for node in self._nodes)

    def _looks(self) -> tuple[Any, ...]:
        return self._dimensions(), *((*middle_of(node), *node.GetFieldOfView()[:2]) for node in self._nodes)


def middle_of(node: Any) -> np.ndarray:
    """Return the point `(3,)` in the middle of a slice view, RAS mm of the view."""
    columns, rows, _ = node.GetDimensions()
    to_ras = slicer.util.arrayFromVTKMatrix(node.GetXYToRAS())
    point: np.ndarray = (to_ras @ (columns / 2, rows / 2, 0.0, 1.0))[:3]
    return point


def show(node: Any, center: np.ndarray, mm: float) -> None:
    """Show `center` `(3,)` in the middle of a slice view, with pixels of `mm`."""
    columns, rows, _ = node.GetDimensions()
    with slicer.util.NodeModify(node):
        node.SetFieldOfView(mm * max(columns, 1), mm * max(rows, 1), node.GetFieldOfView()[2])
        node.SetXYZOrigin(0.0, 0.0, node.GetXYZOrigin()[2])
        navigation.center_on(node, center)
