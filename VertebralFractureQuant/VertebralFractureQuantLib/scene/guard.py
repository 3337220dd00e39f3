"""What others do to a study's nodes: a Markups or Data module, a script, whoever closes the scene.

Only watches and tells; what follows is the review's to decide. Nothing is told of what the study does itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from .study import StudyScene
from .volumes import voxels_of


@dataclass(frozen=True)
class Reports:
    """Who is told. `removed`: a vertebra's id; `lost`: the role of another node of the study."""

    removed: Callable[[str], None]
    lost: Callable[[str], None]
    unset: Callable[[str], None]
    renamed: Callable[[str], None]
    ct_changed: Callable[[], None]
    closing: Callable[[], None]


class Guard:
    """Watches the nodes of the study that is open, from `watch` until `leave`."""

    def __init__(self, study: StudyScene, reports: Reports):
        self._study = study
        self._reports = reports
        self._observations: list[tuple[Any, int]] = []
        self._voxels: np.ndarray | None = None

    def watch(self) -> None:
        """Begin with the study as it stands."""
        self.leave()
        scene, ct = self._study.scene, self._study.nodes["ct"]
        self._voxels = voxels_of(ct)
        self._observe(scene, slicer.vtkMRMLScene.NodeRemovedEvent, self._on_removed)
        self._observe(scene, slicer.vtkMRMLScene.StartCloseEvent, self._on_close)
        self._observe(ct, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self._on_ct)
        self._observe(ct, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._on_ct)
        self._study.listeners.unset = self._reports.unset
        self._study.listeners.renamed = self._reports.renamed

    def leave(self) -> None:
        """Watch no more."""
        for node, tag in self._observations:
            node.RemoveObserver(tag)
        self._observations, self._voxels = [], None

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
        for role, known in self._study.nodes.items():
            if node is known:
                self._reports.lost(role)
                return

    def _on_close(self, *_: Any) -> None:
        self._reports.closing()

    def _on_ct(self, ct: Any, event: str) -> None:
        if event == "ImageDataModifiedEvent" and _same(voxels_of(ct), self._voxels):
            return
        self._reports.ct_changed()


def _same(now: np.ndarray | None, then: np.ndarray | None) -> bool:
    """Whether both are the same memory."""
    if now is None or then is None:
        return now is then
    return now.__array_interface__["data"] == then.__array_interface__["data"] and now.shape == then.shape
