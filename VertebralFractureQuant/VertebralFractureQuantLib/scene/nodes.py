"""The nodes of one study in an MRML scene, by role: created, found, shown and handed back.

A node attribute names each node's role, so a study can be found again in a scene that was loaded from a file. The
markups of the vertebrae are left to `vertebra`, what the nodes contain to `study`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import VFQError
from . import outlines, references
from .views import Views
from .volumes import ROLE, Window, acquisition_of, nodes_of, set_window, window_of

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
    **dict.fromkeys(references.VIEWS_OF, "vtkMRMLModelNode"),
}
SHOWN = ("straightened", "outlines", "outlines-patient", "curve")  # roles that need a display node
NEEDED = ("ct", "straightened", "straightening", "study")  # roles whose content cannot be rebuilt from the other nodes
REMOVED = "A node of the study was removed while it was opened. Open it again."
NAMES = {"ct": "CT", "straightened": "Straightened", "straightening": "Straightening", "study": "Study"}


class StudyNodes:
    """The nodes of one study.

    Attributes
    ----------
    by_role : role (a key of `ROLES`) -> node; empty while no study is open.
    """

    def __init__(self, scene: Any, views: Views):
        self.scene = scene
        self.views = views
        self.by_role: dict[str, Any] = {}
        self._foreign_ct = False  # True if the CT's node was in the scene before the study
        self._window_before: Window | None = None  # the window of that node before the study

    def __getitem__(self, role: str) -> Any:
        return self.by_role[role]

    def create(self, ct_node: Any, colors: dict[str, outlines.Color]) -> None:
        """Create all nodes; `ct_node` is the node of the CT if it is in the scene already, else None.

        VFQError `empty_scene` if that node has left the scene.
        """
        if ct_node is not None and ct_node.GetScene() is None:
            raise VFQError("empty_scene", REMOVED)
        self._foreign_ct = ct_node is not None
        for role in ROLES:
            given = ct_node if role == "ct" else None
            self.by_role[role] = given or self._create(role, colors)
        self.by_role["ct"].SetAttribute(ROLE, "ct")
        self._window_before = window_of(ct_node) if ct_node else None

    def find(self, colors: dict[str, outlines.Color]) -> None:
        """Find the nodes of a study that was loaded from a file; create those that can be rebuilt.

        Raises
        ------
        VFQError : `empty_scene` if the scene contains no complete study.
        """
        self._foreign_ct, self._window_before = True, None
        self.by_role = {role: next(iter(self._found(role)), None) for role in ROLES}
        missing = [role for role in NEEDED if self.by_role[role] is None]
        if missing:
            raise VFQError(
                "empty_scene",
                f"The scene contains no reviewed study: it has no node for {missing[0]!r}. Open a scene that was saved "
                "by this module.",
            )
        for role in ROLES:
            if self.by_role[role] is None:
                self.by_role[role] = self._create(role, colors)
        outlines.fill_colors(self.by_role["grades"], colors)

    def another_is_here(self) -> bool:
        """True if the scene contains a study that `find` could open, besides the one that is open."""
        return all(self._found(role) for role in NEEDED)

    @property
    def intact(self) -> bool:
        """True if every node, and the display node of those that are shown, is in the scene."""
        shown = [self.by_role[role] for role in SHOWN if role in self.by_role]
        here = all(n.GetScene() is not None for n in self.by_role.values())
        return bool(self.by_role) and here and all(n.GetDisplayNode() for n in shown)

    def show_here(self, curve: np.ndarray) -> None:
        """Show the nodes, and the curve `(n, 3)` RAS mm, in this program's views: the scene may come from another."""
        views = self.views
        shown = {"outlines": views.straightened, "outlines-patient": views.whole, "curve": views.volume}
        for role, ids in shown.items():
            self.by_role[role].GetDisplayNode().SetViewNodeIDs(list(ids))
        self.by_role["curve"].GetDisplayNode().SetVisibility(bool(views.volume))
        outlines.draw_curve(self.by_role["curve"], curve)

    def created(self) -> list[Any]:
        """Return the nodes that belong to the study alone: all but a CT that was in the scene before.

        A CT's acquisition transform is among them, after the CT.
        """
        nodes = [n for role, n in self.by_role.items() if role != "ct" or not self._foreign_ct]
        own = "ct" in self.by_role and not self._foreign_ct and acquisition_of(self.by_role["ct"])
        return [*nodes, own] if own else nodes

    def hand_back_ct(self) -> None:
        """Show a CT that was in the scene before the study as it was shown then."""
        if self._foreign_ct and self.by_role.get("ct"):
            self.by_role["ct"].RemoveAttribute(ROLE)
            if self._window_before:
                set_window(self.by_role["ct"], self._window_before)

    def release(self) -> None:
        """Forget the nodes; they stay in the scene."""
        self.by_role = {}

    def _create(self, role: str, colors: dict[str, outlines.Color]) -> Any:
        views = {"outlines": self.views.straightened, "outlines-patient": self.views.whole}
        name = NAMES.get(role, role.capitalize())
        if role in views:
            node = outlines.create(self.scene, name, views[role], self.by_role["grades"])
        elif role in references.VIEWS_OF:
            node = references.create(self.scene, role, self.views)
        elif role == "curve":
            node = outlines.create_curve(self.scene, name, self.views.volume)
        else:
            node = self.scene.AddNewNodeByClass(ROLES[role], name)
        if role == "grades":
            outlines.fill_colors(node, colors)
        node.SetAttribute(ROLE, role)
        return node

    def _found(self, role: str) -> list[Any]:
        """Return the nodes of a role, without those of the open study; two studies may share a CT."""
        nodes = [n for n in nodes_of(self.scene, ROLES[role]) if n.GetAttribute(ROLE) == role]
        return [n for n in nodes if role == "ct" or n is not self.by_role.get(role)]


def remove(scene: Any, node: Any) -> None:
    """Remove a node from the scene if it is still there; `node` may be None."""
    if node is not None and node.GetScene() is not None:
        scene.RemoveNode(node)
