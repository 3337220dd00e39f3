"""The views of Slicer's window, and the layout manager that arranges them.

The layout logic and node, the slice views with their displayable managers and the 3D views are real; a 3D view is
created when the module first asks for its widget. The widgets around them are stand-ins; nothing appears on a screen.
"""

# ruff: noqa: N801, N802, N815 (names of Qt and Slicer)

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from typing import Any

if sys.platform == "linux":
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")  # never an X server

import slicer
from PySide6.QtCore import Property, QObject, QTimer, Signal, Slot
from PySide6.QtWidgets import QWidget
from trame_slicer.core import SlicerApp
from trame_slicer.views import AbstractView, ScheduledRenderStrategy, SliceView, ThreeDView
from vtkmodules.vtkCommonCore import vtkCollection, vtkObject

from .mrml_widgets import qMRMLTableView, qMRMLWidget

SIZE = (400, 400)
VIEWS = ("vtkMRMLSliceNode", "vtkMRMLViewNode", "vtkMRMLTableViewNode", "vtkMRMLPlotViewNode")


class InEventLoop(ScheduledRenderStrategy):
    """Renders when events are processed, once for many requests, as Slicer does."""

    def __init__(self, pauses: list[int]):
        super().__init__()
        self._waiting = False
        self._pauses = pauses

    def schedule_render(self) -> None:
        if not self._waiting:
            self._waiting = True
            QTimer.singleShot(0, self._render)

    def _render(self) -> None:
        self._waiting = False
        view = self.abstract_view
        if view and view.get_view_node().IsMappedInLayout() and not self._pauses[0]:
            view.render()


class LayoutSliceView(SliceView):
    """A slice view of a node that the layout logic created; trame-slicer would create another node."""

    def set_scene(self, scene: Any) -> None:
        AbstractView.set_scene(self, scene)
        self._logic.SetMRMLScene(scene)
        node = scene.GetSingletonNode(self.name, "vtkMRMLSliceNode")
        self._logic.SetSliceNode(node)
        self.set_view_node(node)


class LayoutThreeDView(ThreeDView):
    """A 3D view of a node that the layout logic created."""

    def __init__(self, node: Any, *args: Any, **kwargs: Any):
        self._made = node
        super().__init__(*args, **kwargs)

    def set_view_node(self, node: Any) -> None:
        super().set_view_node(self._made)


class ctkVTKAbstractView(QWidget):
    """CTK: Libs/Visualization/VTK/Widgets/ctkVTKAbstractView.h"""

    def __init__(self, view: AbstractView):
        super().__init__()
        self._view = view

    @Slot()
    def scheduleRender(self) -> None:
        self._view.schedule_render()

    @Slot()
    def forceRender(self) -> None:
        self._view.render()

    @Slot(result=object)
    def renderWindow(self) -> Any:
        return self._view.render_window()

    @Slot(result=object)
    def interactor(self) -> Any:
        return self._view.interactor()

    @Slot(result=object)
    def interactorStyle(self) -> Any:
        return self._view.interactor_style()

    @Slot(str, result=object)
    def displayableManagerByClassName(self, name: str) -> Any:
        return self._view.get_displayable_manager_by_class(name)


class qMRMLSliceView(ctkVTKAbstractView):
    """Libs/MRML/Widgets/qMRMLSliceView.h"""

    @Slot(result=object)
    def mrmlSliceNode(self) -> Any:
        return self._view.get_view_node()

    @Slot(result=object)
    def sliceViewInteractorStyle(self) -> Any:
        return self._view._interactor_observer

    interactorObserver = sliceViewInteractorStyle

    @Slot("QVariantList", result="QVariantList")
    def convertRASToXYZ(self, ras: list[float]) -> list[float]:
        return _through(self.mrmlSliceNode().GetXYToRAS(), ras, invert=True)

    @Slot("QVariantList", result="QVariantList")
    def convertXYZToRAS(self, xyz: list[float]) -> list[float]:
        return _through(self.mrmlSliceNode().GetXYToRAS(), xyz)


class qMRMLSliceControllerWidget(QWidget):
    """Libs/MRML/Widgets/qMRMLSliceControllerWidget.h, some slots"""

    def __init__(self, view: SliceView):
        super().__init__()
        self._view = view

    @Slot()
    def fitSliceToBackground(self) -> None:
        self._view._logic.FitSliceToBackground()

    @Slot(str)
    def setSliceOrientation(self, orientation: str) -> None:
        self._view.get_view_node().SetOrientation(orientation)

    @Slot(float)
    def setSliceOffsetValue(self, offset: float) -> None:
        self._view._logic.SetSliceOffset(offset)

    @Slot(bool)
    def setSliceVisible(self, visible: bool) -> None:
        self._view.get_view_node().SetSliceVisible(visible)

    @Slot(bool)
    def setSliceLink(self, linked: bool) -> None:
        self._view._logic.GetSliceCompositeNode().SetLinkedControl(linked)


class qMRMLSliceWidget(qMRMLWidget):
    """Libs/MRML/Widgets/qMRMLSliceWidget.h"""

    def __init__(self, view: SliceView):
        super().__init__()
        self._view = view
        self._widget = qMRMLSliceView(view)
        self._widget.setParent(self)
        self._controller = qMRMLSliceControllerWidget(view)
        self._controller.setParent(self)

    @Slot(result=QWidget)
    def sliceView(self) -> qMRMLSliceView:
        return self._widget

    @Slot(result=object)
    def mrmlSliceNode(self) -> Any:
        return self._view.get_view_node()

    @Slot(result=QWidget)
    def sliceController(self) -> qMRMLSliceControllerWidget:
        return self._controller

    @Slot(result=object)
    def sliceLogic(self) -> Any:
        return self._view._logic

    @Slot(result=object)
    def mrmlSliceCompositeNode(self) -> Any:
        return self._view._logic.GetSliceCompositeNode()

    @Slot()
    def fitSliceToBackground(self) -> None:
        self._view._logic.FitSliceToBackground()

    @Slot(str)
    def setSliceOrientation(self, orientation: str) -> None:
        self.mrmlSliceNode().SetOrientation(orientation)

    sliceOrientation = Property(str, lambda s: s.mrmlSliceNode().GetOrientation(), setSliceOrientation)
    sliceViewName = Property(str, lambda s: s.mrmlSliceNode().GetLayoutName())
    sliceViewLabel = Property(str, lambda s: s.mrmlSliceNode().GetLayoutLabel())


class qMRMLThreeDView(ctkVTKAbstractView):
    """Libs/MRML/Widgets/qMRMLThreeDView.h"""

    @Slot(result=object)
    def mrmlViewNode(self) -> Any:
        return self._view.get_view_node()

    @Slot()
    def resetFocalPoint(self) -> None:
        self._view.reset_focal_point()

    @Slot()
    @Slot(bool, bool, bool)
    def resetCamera(self, *_: bool) -> None:
        self._view.reset_camera()

    @Slot(int)
    def rotateToViewAxis(self, axis: int) -> None:
        camera = slicer.app.applicationLogic().GetViewLogic(self.mrmlViewNode())
        if camera:
            camera.RotateCameraToViewAxis(axis)


class qMRMLThreeDViewControllerWidget(QWidget):
    """Libs/MRML/Widgets/qMRMLThreeDViewControllerWidget.h, some slots"""

    def __init__(self, view: qMRMLThreeDView):
        super().__init__(view)
        self._view = view

    @Slot()
    def resetFocalPoint(self) -> None:
        self._view.resetFocalPoint()

    @Slot(bool)
    def set3DAxisVisible(self, visible: bool) -> None:
        self._view.mrmlViewNode().SetBoxVisible(visible)

    @Slot(bool)
    def set3DAxisLabelVisible(self, visible: bool) -> None:
        self._view.mrmlViewNode().SetAxisLabelsVisible(visible)


class qMRMLThreeDWidget(qMRMLWidget):
    """Libs/MRML/Widgets/qMRMLThreeDWidget.h"""

    def __init__(self, view: ThreeDView):
        super().__init__()
        self._view = view
        self._widget = qMRMLThreeDView(view)
        self._widget.setParent(self)
        self._controller = qMRMLThreeDViewControllerWidget(self._widget)

    @Slot(result=QWidget)
    def threeDView(self) -> qMRMLThreeDView:
        return self._widget

    @Slot(result=QWidget)
    def threeDController(self) -> qMRMLThreeDViewControllerWidget:
        return self._controller

    @Slot(result=object)
    def mrmlViewNode(self) -> Any:
        return self._view.get_view_node()


class qMRMLTableWidget(qMRMLWidget):
    """Libs/MRML/Widgets/qMRMLTableWidget.h"""

    def __init__(self, node: Any):
        super().__init__()
        self._node = node
        self._widget = qMRMLTableView(self)
        self._widget.setMRMLTableViewNode(node)

    @Slot(result=QWidget)
    def tableView(self) -> qMRMLTableView:
        self._widget.setMRMLTableNode(self._node.GetTableNode())
        return self._widget

    @Slot(result=object)
    def mrmlTableViewNode(self) -> Any:
        return self._node


class qSlicerLayoutManager(QObject):
    """Libs/MRML/Widgets/qMRMLLayoutManager.h; each slice node has a view, as in Slicer."""

    SIGNATURES = ("setMRMLScene(vtkMRMLScene*)",)
    layoutChanged = Signal(int)

    def __init__(self, app: SlicerApp):
        super().__init__()
        self._app = app
        self._pauses = [0]
        self._widgets: dict[str, QWidget] = {}
        self._app.scene.AddNode(slicer.vtkMRMLInteractionNode())
        self._app.scene.AddNode(slicer.vtkMRMLSelectionNode())
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(app.app_logic)
        self._logic.SetMRMLScene(app.scene)
        self._node().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
        self._last = self._layout()
        self._show()
        self._node().AddObserver("ModifiedEvent", lambda *_: self._follow())

    def _node(self) -> Any:
        return self._logic.GetLayoutNode()

    def _layout(self) -> int:
        return self._node().GetViewArrangement()

    def _follow(self) -> None:
        """Report a new layout. While a scene is being closed, there is none for a moment."""
        if self._layout() != self._last and self._node().GetCurrentLayoutDescription():
            self._last = self._layout()
            self._show()
            self.layoutChanged.emit(self._last)

    def _show(self) -> None:
        """Create the slice views of a layout at once; a 3D view is created on request."""
        for name in self.sliceViewNames():
            self.sliceWidget(name)

    @Slot(int)
    def setLayout(self, layout: int) -> None:
        if not self._node().IsLayoutDescription(layout):
            raise ValueError(f"There is no layout {layout}. Slicer would remove all views.")
        check_layout(self._node().GetLayoutDescription(layout))
        self._node().SetViewArrangement(layout)

    layout = Property(int, _layout, setLayout, notify=layoutChanged)

    # -- nodes and their widgets

    def _nodes(self, kind: str) -> list[Any]:
        """The view nodes of a class in the current layout."""
        shown = self._logic.GetViewNodes()
        every = [shown.GetItemAsObject(i) for i in range(shown.GetNumberOfItems())]
        return [node for node in every if node.IsA(kind)]

    threeDViewCount = Property(int, lambda self: len(self._nodes("vtkMRMLViewNode")))
    tableViewCount = Property(int, lambda self: len(self._nodes("vtkMRMLTableViewNode")))
    plotViewCount = Property(int, lambda self: len(self._nodes("vtkMRMLPlotViewNode")))

    @Slot(result="QStringList")
    def sliceViewNames(self) -> list[str]:
        return [node.GetLayoutName() for node in self._nodes("vtkMRMLSliceNode")]

    @Slot(str, result=QWidget)
    def sliceWidget(self, name: str) -> QWidget | None:
        node = self._app.scene.GetSingletonNode(name, "vtkMRMLSliceNode")
        return self._widget(node, lambda: qMRMLSliceWidget(self._made(LayoutSliceView, name))) if node else None

    @Slot(int, result=QWidget)
    def threeDWidget(self, index: int) -> QWidget | None:
        node = _at(self._nodes("vtkMRMLViewNode"), index)
        return self._widget(node, lambda: qMRMLThreeDWidget(self._made_3d(node))) if node else None

    @Slot(int, result=QWidget)
    def tableWidget(self, index: int) -> QWidget | None:
        node = _at(self._nodes("vtkMRMLTableViewNode"), index)
        return self._widget(node, lambda: qMRMLTableWidget(node)) if node else None

    @Slot(int, result=QWidget)
    def plotWidget(self, index: int) -> None:
        return None

    def _widget(self, node: Any, make: Any) -> QWidget:
        if node.GetID() not in self._widgets:
            self._widgets[node.GetID()] = make()
        return self._widgets[node.GetID()]

    def _made_3d(self, node: Any) -> Any:
        return self._made(lambda *args, **kwargs: LayoutThreeDView(node, *args, **kwargs), node.GetLayoutName())

    def _made(self, kind: Any, name: str) -> Any:
        vtkObject.GlobalWarningDisplayOff()  # each view warns about an event that trame-slicer itself sends
        strategy = InEventLoop(self._pauses)
        view = kind(self._app.scene, self._app.app_logic, name, scheduled_render_strategy=strategy)
        vtkObject.GlobalWarningDisplayOn()
        view.render_window().SetMultiSamples(0)  # six times faster in software
        view.update_size(*SIZE)
        if isinstance(view, SliceView):
            view._logic.ResizeSliceNode(*SIZE)
        return view

    # -- what the application calls

    @Slot(result=object)
    def mrmlScene(self) -> Any:
        return self._app.scene

    @Slot(result=object)
    def layoutLogic(self) -> Any:
        return self._logic

    @Slot(result=object)
    def mrmlSliceLogics(self) -> vtkCollection:
        return self._app.app_logic.GetSliceLogics()

    @Slot(result=object)
    def activeMRMLThreeDViewNode(self) -> Any:
        return _at(self._nodes("vtkMRMLViewNode"), 0)

    @Slot()
    def resetSliceViews(self) -> None:
        for name in self.sliceViewNames():
            self.sliceWidget(name).fitSliceToBackground()

    @Slot()
    def resetThreeDViews(self) -> None:
        for i in range(self.threeDViewCount):
            self.threeDWidget(i).threeDView().resetFocalPoint()

    @Slot(bool)
    def setRenderPaused(self, pause: bool) -> None:
        self._pauses[0] += 1 if pause else -1

    @Slot()
    def pauseRender(self) -> None:
        self.setRenderPaused(True)

    @Slot()
    def resumeRender(self) -> None:
        self.setRenderPaused(False)


def check_layout(description: str) -> None:
    """Raise ValueError for a layout from which Slicer's layout manager would silently drop a view."""
    try:
        views = list(ET.fromstring(description).iter("view"))
    except ET.ParseError as e:
        raise ValueError(f"The layout is not XML: {e}") from e
    for view in views:
        if view.get("class") not in VIEWS or not (view.get("singletontag") or view.get("multiple")):
            raise ValueError(f"No view of class {view.get('class')}, tag {view.get('singletontag')}")
    tags = [(view.get("class"), view.get("singletontag")) for view in views]
    if len(set(tags)) < len(tags):
        raise ValueError(f"A view is in the layout twice: {tags}")


def _at(nodes: list[Any], index: int) -> Any:
    return nodes[index] if 0 <= index < len(nodes) else None


def _through(matrix: Any, point: list[float], invert: bool = False) -> list[float]:
    made = slicer.vtkMRMLSliceNode().GetXYToRAS().NewInstance()
    made.DeepCopy(matrix)
    if invert:
        made.Invert()
    return list(made.MultiplyPoint((*point, 1.0))[:3])
