"""The markups of a study's vertebrae: pairs of nodes that are created, given to another vertebra, and removed.

Slicer's views need about 8 ms to show a new pair, and 14 ms to remove one. So a vertebra that takes the place of
another one gets its nodes, and many vertebrae are shown in `steps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

from . import vertebra
from .column import LiveColumn
from .nodes import remove
from .observer import MarkupsObserver
from .state import State
from .vertebra import ID, VertebraMarkups

T = TypeVar("T")

STEP = 8  # vertebrae that are created or removed between two events of the program that shows them


class Pairs:
    """The pairs of nodes of the vertebrae in a `LiveColumn`.

    Parameters
    ----------
    views : the IDs of the straightened views, and of the patient's views that show all vertebrae.
    """

    def __init__(self, scene: Any, views: Sequence[Sequence[str]], column: LiveColumn, observer: MarkupsObserver):
        self._scene = scene
        self._views = views
        self._column = column
        self._observer = observer

    def create(self, vertebra_id: str, state: State, transform_id: str, visible: bool = True) -> None:
        """Create the nodes of a vertebra, under the transform with this ID."""
        self.adopt(vertebra.create(self._scene, vertebra_id, state, transform_id, self._views))
        if not visible:
            self._column.vertebrae[vertebra_id].show_overlay(False)

    def adopt(self, markups: VertebraMarkups) -> None:
        """Take nodes that are in the scene."""
        self._column.vertebrae[markups.id] = markups
        self._observer.observe(markups)

    def hand_over(self, changes: Mapping[str, State | None]) -> None:
        """Give the nodes of vertebrae that vanish (None) to those that appear, whose states they do not have yet."""
        here = self._column.vertebrae
        vanish = [i for i, state in changes.items() if state is None and i in here]
        appear = [i for i, state in changes.items() if state is not None and i not in here]
        for old, new in zip(vanish, appear, strict=False):
            markups = self._release(old)
            markups.node.SetAttribute(ID, new)
            markups.select(False, self._views[1])
            self.adopt(markups)

    def remove(self, vertebra_id: str) -> None:
        """Remove the nodes of a vertebra, if there is one with this id."""
        if vertebra_id in self._column.vertebrae:
            markups = self._release(vertebra_id)
            for node in (markups.node, markups.mirror):
                remove(self._scene, node)

    def removing(self, others: Sequence[Any]) -> Iterator[None]:
        """Return the steps that remove all pairs and then the nodes `others`.

        The pairs must be forgotten by then. If the steps are not finished, closing them removes the rest.
        """
        pairs = [(v.node, v.mirror) for v in self._column.vertebrae.values()]
        return self._removing(iter([*steps(pairs), [others]]))

    def _removing(self, left: Iterator[Sequence[Sequence[Any]]]) -> Iterator[None]:
        try:
            for some in left:
                self._remove_together(some)
                yield
        finally:
            for some in left:
                self._remove_together(some)

    def _remove_together(self, some: Sequence[Sequence[Any]]) -> None:
        with self._observer.quiet_scene():
            for node in chain.from_iterable(some):
                remove(self._scene, node)

    def _release(self, vertebra_id: str) -> VertebraMarkups:
        markups = self._column.vertebrae.pop(vertebra_id)
        self._observer.forget(markups.node, markups.mirror)
        return markups


def at_once(todo: Iterable[None]) -> None:
    """Do all steps of a change to the scene, with no event between them."""
    for _ in todo:
        pass


def steps(items: Sequence[T], size: int = STEP) -> Iterator[list[T]]:
    """Yield the items in lists of `size`."""
    left = iter(items)
    while step := list(islice(left, size)):
        yield step
