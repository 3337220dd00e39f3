"""The module's layout in Slicer: the straightened image, the patient's sagittal view, and the others as tabs.

World coordinates are straight RAS mm in the straightened view and patient RAS mm in the others. The straightened view
has a separate view group, so linked patient views do not follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import slicer

from ..scene.views import NOWHERE, Views
from ..scene.volumes import nodes_of

LAYOUT_ID, PAIR_ID, SWAPPED_ID = 5177, 5178, 5179
STRAIGHTENED = "Straightened"
PRIOR = "Prior"
PATIENT = {"Yellow": "Sagittal", "Green": "Coronal", "Red": "Axial"}
CAMERA_VIEW = "1"
BEFORE_OTHERS = 100.0  # observer priority: the markups widget does not pass on the events that it uses

_SLICE = """<view class="vtkMRMLSliceNode" singletontag="{tag}">
  <property name="orientation" action="default">{orientation}</property>
  <property name="viewlabel" action="default">{label}</property>
  <property name="viewcolor" action="default">{color}</property>
  <property name="viewgroup" action="default">{group}</property>
</view>"""


def _slice(tag: str, orientation: str, label: str, color: str, group: int = 0) -> str:
    return _SLICE.format(tag=tag, orientation=orientation, label=label, color=color, group=group)


_SAGITTAL = _slice(STRAIGHTENED, "Sagittal", "S", "#5B8DEF", group=1)
_BEFORE = _slice(PRIOR, "Sagittal", "P", "#C58AF9", group=2)
_PATIENT = f"""<layout type="vertical" split="true">
    <item splitSize="550">{_slice("Yellow", "Sagittal", "Y", "#EDD54C")}</item>
    <item splitSize="450"><layout type="tab">
      <item name="Axial">{_slice("Red", "Axial", "R", "#F34A33")}</item>
      <item name="Coronal">{_slice("Green", "Coronal", "G", "#6EB04B")}</item>
      <item name="3D"><view class="vtkMRMLViewNode" singletontag="{CAMERA_VIEW}">
        <property name="viewlabel" action="default">1</property>
      </view></item>
    </layout></item>
  </layout>"""


def _columns(*columns: tuple[int, str]) -> str:
    """Return a layout of columns, each with its share of 1000."""
    items = "".join(f'<item splitSize="{share}">{column}</item>' for share, column in columns)
    return f'<layout type="horizontal" split="true">{items}</layout>'


# Two columns fit beside the panel at 1280 x 800; the images of a pair have the same size, so swapping them is blinking.
LAYOUTS = {
    LAYOUT_ID: _columns((450, _SAGITTAL), (550, _PATIENT)),
    PAIR_ID: _columns((330, _BEFORE), (330, _SAGITTAL), (340, _PATIENT)),
    SWAPPED_ID: _columns((330, _SAGITTAL), (330, _BEFORE), (340, _PATIENT)),
}

VIEWS = Views(
    (f"vtkMRMLSliceNode{STRAIGHTENED}",),
    ("vtkMRMLSliceNodeYellow",),
    ("vtkMRMLSliceNodeGreen", "vtkMRMLSliceNodeRed"),
    (f"vtkMRMLViewNode{CAMERA_VIEW}",),
)
PRIOR_VIEWS = Views((f"vtkMRMLSliceNode{PRIOR}",), NOWHERE)


class LayoutViews:
    """The views of the layout, available after `show`.

    Attributes
    ----------
    tag, others : the name of the straightened view, and the names and orientations of the patient's views.
    layout_id : the layout to which `arrange` switches, a key of `LAYOUTS`.

    Parameters
    ----------
    pressed : called at a mouse press with the slice node and the point `(3,)` in its world coordinates, mm.
    panned : called with True when a drag with the middle button begins in a patient view, and with False at its end.
    scrolled : called when the plane of the straightened view moves.
    moved : called with the pixel `(2,)` of the mouse when it moves in the straightened view; None for nothing.
    """

    tag: str = STRAIGHTENED
    others: Mapping[str, str] = PATIENT

    def __init__(
        self,
        pressed: Callable[[Any, np.ndarray], None],
        panned: Callable[[bool], None],
        scrolled: Callable[[], None],
        moved: Callable[[np.ndarray], None] | None = None,
    ):
        self._pressed = pressed
        self._panned = panned
        self._scrolled = scrolled
        self._moved = moved or (lambda _: None)
        self._observations: list[tuple[Any, int]] = []
        self.layout_id = LAYOUT_ID

    def arrange(self) -> bool:
        """Switch to the layout. Returns True if another one was shown; its views get their sizes later."""
        node = self._manager().layoutLogic().GetLayoutNode()
        if not node.IsLayoutDescription(self.layout_id):
            node.AddLayoutDescription(self.layout_id, LAYOUTS[self.layout_id])
        if self.layout == self.layout_id:
            return False
        self._manager().setLayout(self.layout_id)
        return True

    @property
    def layout(self) -> int:
        """The layout that Slicer shows."""
        return int(self._manager().layout)

    def go_back_to(self, layout: int) -> None:
        """Switch to another layout, one of Slicer's own for example."""
        self._manager().setLayout(layout)

    def show(self, nodes: dict[str, Any]) -> None:
        """Switch to the layout, and show a study's volumes (`nodes` by role) in its views."""
        if self.arrange():
            slicer.app.processEvents()  # the views get their sizes
        self._show_volume(self.tag, "Sagittal", nodes["straightened"])
        for name, orientation in self.others.items():
            self._show_volume(name, orientation, nodes["ct"])
        if not self._observations:
            self._observe()

    @property
    def straightened(self) -> Any:
        """The slice node of the straightened view."""
        return slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{self.tag}")

    @property
    def patient(self) -> Sequence[Any]:
        """The slice nodes of the patient views: sagittal, coronal, axial."""
        return [slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}") for name in self.others]

    @property
    def cameras(self) -> Sequence[Any]:
        """The camera node of the 3D view."""
        cameras = nodes_of(slicer.mrmlScene, "vtkMRMLCameraNode")
        return [camera for camera in cameras if camera.GetLayoutName() == CAMERA_VIEW]

    @property
    def renderer(self) -> Any:
        """The renderer of the straightened view."""
        return self._manager().sliceWidget(self.tag).sliceView().renderWindow().GetRenderers().GetFirstRenderer()

    def render(self) -> None:
        """Render the straightened view soon."""
        self._manager().sliceWidget(self.tag).sliceView().scheduleRender()

    def release(self) -> None:
        """Stop observing the views."""
        for observed, tag in self._observations:
            observed.RemoveObserver(tag)
        self._observations = []

    def _show_volume(self, name: str, orientation: str, volume: Any) -> None:
        logic = self._manager().sliceWidget(name).sliceLogic()
        logic.GetSliceNode().SetOrientation(orientation)
        composite = logic.GetSliceCompositeNode()
        if name == self.tag:
            composite.SetDoPropagateVolumeSelection(False)  # a volume loaded later must not appear here
            composite.SetForegroundVolumeID(None)
            composite.SetLabelVolumeID(None)
        composite.SetBackgroundVolumeID(volume.GetID())

    def _observe(self) -> None:
        for name in (self.tag, *self.others):
            widget = self._manager().sliceWidget(name)
            node, interactor = widget.mrmlSliceNode(), widget.sliceView().interactor()
            answers = {"LeftButtonPressEvent": lambda caller, _, node=node: self._press(caller, node)}
            if name in self.others:
                answers["MiddleButtonPressEvent"] = lambda *_: self._panned(True)
                answers["MiddleButtonReleaseEvent"] = lambda *_: self._panned(False)
            else:
                answers["MouseMoveEvent"] = lambda caller, _, node=node: self._moved(
                    np.array(caller.GetEventPosition())
                )
            for event, answer in answers.items():
                self._observations.append((interactor, interactor.AddObserver(event, answer, BEFORE_OTHERS)))
        straightened = self.straightened
        tag = straightened.AddObserver("ModifiedEvent", lambda *_: self._scrolled())
        self._observations.append((straightened, tag))

    def _press(self, interactor: Any, node: Any) -> None:
        interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        if interaction.GetCurrentInteractionMode() == interaction.Place:
            interactor.InvokeEvent("MouseMoveEvent")  # the markups widget takes no click where the mouse did not move
        x, y = interactor.GetEventPosition()
        self._pressed(node, np.array(node.GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))[:3]))

    @staticmethod
    def _manager() -> Any:
        return slicer.app.layoutManager()


class PriorViews(LayoutViews):
    """The view of a prior study beside the open one: its straightened image alone."""

    tag = PRIOR
    others: Mapping[str, str] = {}

    @property
    def cameras(self) -> Sequence[Any]:
        """None: the prior is not shown in 3D."""
        return ()
