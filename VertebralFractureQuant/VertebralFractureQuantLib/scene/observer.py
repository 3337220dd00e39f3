"""Observes the vertebrae's markups: drags by the reader, and changes by other modules or scripts.

Only observes and reports; nothing is reported while the study itself changes the nodes (`quiet`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import slicer
import vtk

from .vertebra import VertebraMarkups

Report = Callable[[str], None]


@dataclass
class Listeners:
    """The functions to call when markups change; each gets the id of the vertebra."""

    started: Report = lambda _: None  # a drag began
    moved: Report = lambda _: None  # a point moved, in a drag or by a program
    ended: Report = lambda _: None  # a drag ended
    unset: Report = lambda _: None  # a point lost its position
    renamed: Report = lambda _: None  # a node got another name
    detached: Report = lambda _: None  # a node was put under another transform


@dataclass(frozen=True)
class Checks:
    """What the observer asks of the study.

    Attributes
    ----------
    follow : called with a vertebra's id and the node of its pair that moved, before `Listeners.moved`.
    is_named : True if the node has the name that the study gives it.
    is_attached : True if the vertebra's nodes are under the transforms that they belong under.
    """

    follow: Callable[[str, Any], None]
    is_named: Callable[[str, Any], bool]
    is_attached: Callable[[str], bool]


class MarkupsObserver:
    """Observes the markups of vertebrae.

    Attributes
    ----------
    listeners : the functions to call.
    busy : True while the study itself changes the nodes.
    """

    def __init__(self, scene: Any, checks: Checks):
        self.listeners = Listeners()
        self.busy = False
        self._scene = scene
        self._checks = checks
        self._observations: list[tuple[Any, int]] = []

    def observe(self, markups: VertebraMarkups) -> None:
        """Observe both nodes of a vertebra."""
        events = slicer.vtkMRMLMarkupsNode
        answers = (
            (events.PointStartInteractionEvent, self._on_start),
            (events.PointModifiedEvent, self._on_move),
            (events.PointEndInteractionEvent, self._on_end),
            (events.PointPositionUndefinedEvent, self._on_unset),
            (vtk.vtkCommand.ModifiedEvent, self._on_modified),
            (slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._on_transform),
        )
        for node in (markups.node, markups.mirror):
            for event, answer in answers:
                self._add(node, event, answer, markups.id)

    def forget(self, *nodes: Any) -> None:
        """Stop observing these nodes."""
        for node, tag in self._observations:
            if node in nodes:
                node.RemoveObserver(tag)
        self._observations = [(n, t) for n, t in self._observations if n not in nodes]

    def forget_all(self) -> None:
        """Stop observing, and forget the listeners."""
        for node, tag in self._observations:
            node.RemoveObserver(tag)
        self._observations = []
        self.listeners = Listeners()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """While the study itself changes the nodes, report nothing."""
        before, self.busy = self.busy, True
        try:
            yield
        finally:
            self.busy = before

    @contextmanager
    def quiet_scene(self) -> Iterator[None]:
        """As `quiet`; the views refresh only once, when all nodes are there."""
        self._scene.StartState(slicer.vtkMRMLScene.BatchProcessState)
        try:
            with self.quiet():
                yield
        finally:
            self._scene.EndState(slicer.vtkMRMLScene.BatchProcessState)

    def _add(self, node: Any, event: int, answer: Callable[[str, Any], None], vertebra_id: str) -> None:
        self._observations.append((node, node.AddObserver(event, lambda caller, *_: answer(vertebra_id, caller))))

    def _on_start(self, vertebra_id: str, _: Any) -> None:
        if not self.busy:
            self.listeners.started(vertebra_id)

    def _on_move(self, vertebra_id: str, moved: Any) -> None:
        if self.busy:
            return
        with self.quiet():
            self._checks.follow(vertebra_id, moved)
        self.listeners.moved(vertebra_id)

    def _on_end(self, vertebra_id: str, _: Any) -> None:
        if not self.busy:
            self.listeners.ended(vertebra_id)

    def _on_unset(self, vertebra_id: str, _: Any) -> None:
        if not self.busy:
            self.listeners.unset(vertebra_id)

    def _on_modified(self, vertebra_id: str, node: Any) -> None:
        if not self.busy and not self._checks.is_named(vertebra_id, node):
            self.listeners.renamed(vertebra_id)

    def _on_transform(self, vertebra_id: str, _: Any) -> None:
        if not self.busy and not self._checks.is_attached(vertebra_id):
            self.listeners.detached(vertebra_id)
