"""Watches the nodes of a study for changes by others: another module, a script, or the closing of the scene.

Only watches and reports; the answers are left to `repairs`. Changes that the study itself makes are not reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
import vtk

from .study import StudyScene
from .volumes import is_bent, placement

Fingerprint = tuple[Any, ...]


@dataclass(frozen=True)
class Reports:
    """The functions to call; those that concern a vertebra get its id."""

    removed: Callable[[str], None]  # a node of a vertebra was removed
    lost: Callable[[], None]  # another node of the study was removed
    unset: Callable[[str], None]  # a key point lost its position
    renamed: Callable[[str], None]  # a vertebra's node got another name
    detached: Callable[[str], None]  # a vertebra's node was put under another transform
    ct_changed: Callable[[], None]  # the CT's voxels or geometry changed
    closing: Callable[[], None]  # the scene is about to be closed


class Guard:
    """Watches the nodes of the open study, from `watch` until `leave`."""

    def __init__(self, study: StudyScene, reports: Reports):
        self._study = study
        self._reports = reports
        self._observations: list[tuple[Any, int]] = []
        self._known: Fingerprint | None = None  # the CT's fingerprint when the study was opened

    def watch(self) -> None:
        """Start watching the study as it is now."""
        self.leave()
        scene, ct = self._study.scene, self._study.nodes["ct"]
        self._known = _fingerprint(ct)
        self._observe(scene, slicer.vtkMRMLScene.NodeRemovedEvent, self._on_removed)
        self._observe(scene, slicer.vtkMRMLScene.StartCloseEvent, self._on_close)
        volume = slicer.vtkMRMLVolumeNode
        for event in (vtk.vtkCommand.ModifiedEvent, volume.ImageDataModifiedEvent, volume.TransformModifiedEvent):
            self._observe(ct, event, self._on_ct)
        self._study.listeners.unset = self._reports.unset
        self._study.listeners.renamed = self._reports.renamed
        self._study.listeners.detached = self._reports.detached

    def leave(self) -> None:
        """Stop watching."""
        for node, tag in self._observations:
            node.RemoveObserver(tag)
        self._observations, self._known = [], None

    def _observe(self, node: Any, event: int, tell: Callable[..., None]) -> None:
        self._observations.append((node, node.AddObserver(event, tell)))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_removed(self, scene: Any, _: str, node: Any) -> None:
        if self._study.busy or scene.IsClosing():
            return
        for vertebra_id, markups in self._study.vertebrae.items():
            if node in (markups.node, markups.mirror):
                self._reports.removed(vertebra_id)
                return
        if any(node is known for known in self._study.nodes.values()) or not self._study.intact:
            self._reports.lost()

    def _on_close(self, *_: Any) -> None:
        self._reports.closing()

    def _on_ct(self, ct: Any, _: str) -> None:
        if self._known is not None and _fingerprint(ct) != self._known:
            self._reports.ct_changed()


def _fingerprint(ct: Any) -> Fingerprint:
    """Return values that change with a volume's voxels or place in the world, and with nothing else."""
    image = ct.GetImageData()
    scalars = image.GetPointData().GetScalars() if image else None
    place = None if is_bent(ct) else placement(ct).tobytes()
    return place, ct.GetTransformNodeID(), scalars and scalars.GetMTime(), image and image.GetDimensions()
