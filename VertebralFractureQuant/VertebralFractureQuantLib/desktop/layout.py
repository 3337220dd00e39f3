"""The module's layout in Slicer, and its views: the straightened spine large, the patient's three, 3D, the table.

The straightened view's world is straight RAS mm, the others' is the patient's; it stands in a view group of its own, so
that linked views do not follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import slicer

from ..scene.views import Views
from ..scene.volumes import nodes_of

LAYOUT_ID = 5177
STRAIGHTENED = "Straightened"
PATIENT = {"Yellow": "Sagittal", "Green": "Coronal", "Red": "Axial"}
CAMERA_VIEW = "1"
TABLE = "TableView1"
BEFORE_OTHERS = 100.0  # the markups widget keeps to itself what it has used

_SLICE = """<view class="vtkMRMLSliceNode" singletontag="{tag}">
  <property name="orientation" action="default">{orientation}</property>
  <property name="viewlabel" action="default">{label}</property>
  <property name="viewcolor" action="default">{color}</property>
  <property name="viewgroup" action="default">{group}</property>
</view>"""


def _slice(tag: str, orientation: str, label: str, color: str, group: int = 0) -> str:
    return _SLICE.format(tag=tag, orientation=orientation, label=label, color=color, group=group)


LAYOUT = f"""<layout type="horizontal" split="true">
  <item splitSize="400">{_slice(STRAIGHTENED, "Sagittal", "S", "#5B8DEF", group=1)}</item>
  <item splitSize="600"><layout type="vertical" split="true">
    <item splitSize="400"><layout type="horizontal">
      <item>{_slice("Yellow", "Sagittal", "Y", "#EDD54C")}</item>
      <item>{_slice("Green", "Coronal", "G", "#6EB04B")}</item>
    </layout></item>
    <item splitSize="400"><layout type="horizontal">
      <item>{_slice("Red", "Axial", "R", "#F34A33")}</item>
      <item><view class="vtkMRMLViewNode" singletontag="{CAMERA_VIEW}">
        <property name="viewlabel" action="default">1</property>
      </view></item>
    </layout></item>
    <item splitSize="200"><view class="vtkMRMLTableViewNode" singletontag="{TABLE}">
      <property name="viewlabel" action="default">T</property>
    </view></item>
  </layout></item>
</layout>"""

VIEWS = Views(
    (f"vtkMRMLSliceNode{STRAIGHTENED}",),
    ("vtkMRMLSliceNodeYellow",),
    ("vtkMRMLSliceNodeGreen", "vtkMRMLSliceNodeRed"),
    (f"vtkMRMLViewNode{CAMERA_VIEW}",),
)


class LayoutViews:
    """The views of the layout, once it was shown. `pressed` gets a slice node and a point `(3,)` of its world."""

    def __init__(self, pressed: Callable[[Any, np.ndarray], None], scrolled: Callable[[], None]):
        self._pressed = pressed
        self._scrolled = scrolled
        self._observations: list[tuple[Any, int]] = []

    def show(self, nodes: dict[str, Any]) -> None:
        """Turn to the layout and put a study's volumes and table, by their roles, into its views."""
        node = self._manager().layoutLogic().GetLayoutNode()
        if not node.IsLayoutDescription(LAYOUT_ID):
            node.AddLayoutDescription(LAYOUT_ID, LAYOUT)
        if self._manager().layout != LAYOUT_ID:
            self._manager().setLayout(LAYOUT_ID)
            slicer.app.processEvents()  # the views get their sizes
        self._show_volume(STRAIGHTENED, "Sagittal", nodes["straightened"])
        for name, orientation in PATIENT.items():
            self._show_volume(name, orientation, nodes["ct"])
        for view in nodes_of(slicer.mrmlScene, "vtkMRMLTableViewNode"):
            if view.GetSingletonTag() == TABLE:
                view.SetTableNodeID(nodes["measurements"].GetID())
        if not self._observations:
            self._observe()

    @property
    def straightened(self) -> Any:
        """The straightened view's slice node."""
        return slicer.mrmlScene.GetNodeByID(VIEWS.straightened[0])

    @property
    def patient(self) -> Sequence[Any]:
        """The patient's slice nodes: sagittal, coronal, axial."""
        return [slicer.mrmlScene.GetNodeByID(i) for i in VIEWS.patient]

    @property
    def cameras(self) -> Sequence[Any]:
        """The 3D view's camera node."""
        cameras = nodes_of(slicer.mrmlScene, "vtkMRMLCameraNode")
        return [camera for camera in cameras if camera.GetLayoutName() == CAMERA_VIEW]

    def release(self) -> None:
        """Listen to the views no more."""
        for observed, tag in self._observations:
            observed.RemoveObserver(tag)
        self._observations = []

    def _show_volume(self, name: str, orientation: str, volume: Any) -> None:
        logic = self._manager().sliceWidget(name).sliceLogic()
        logic.GetSliceNode().SetOrientation(orientation)
        composite = logic.GetSliceCompositeNode()
        if name == STRAIGHTENED:
            composite.SetDoPropagateVolumeSelection(False)  # a volume that is loaded later belongs elsewhere
            composite.SetForegroundVolumeID(None)
            composite.SetLabelVolumeID(None)
        composite.SetBackgroundVolumeID(volume.GetID())

    def _observe(self) -> None:
        for name in (STRAIGHTENED, "Yellow"):
            widget = self._manager().sliceWidget(name)
            node, interactor = widget.mrmlSliceNode(), widget.sliceView().interactor()
            tag = interactor.AddObserver(
                "LeftButtonPressEvent", lambda caller, _, node=node: self._press(caller, node), BEFORE_OTHERS
            )
            self._observations.append((interactor, tag))
        straightened = self.straightened
        tag = straightened.AddObserver("ModifiedEvent", lambda *_: self._scrolled())
        self._observations.append((straightened, tag))

    def _press(self, interactor: Any, node: Any) -> None:
        x, y = interactor.GetEventPosition()
        self._pressed(node, np.array(node.GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))[:3]))

    @staticmethod
    def _manager() -> Any:
        return slicer.app.layoutManager()
