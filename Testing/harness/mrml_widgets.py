"""Stand-ins for Slicer's qMRML widgets on the real scene, with the declarations of Slicer's headers.

Each class names its header in github.com/Slicer/Slicer. `SIGNATURES` lists the signals and slots with VTK classes as
the header writes them; in a Python class they take Python objects.
"""

# ruff: noqa: N801, N802, N805, N815 (names of Qt and Slicer)

from __future__ import annotations

from typing import Any

import slicer
from PySide6.QtCore import Property, QSortFilterProxyModel, Signal, Slot
from PySide6.QtGui import QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QTableView, QWidget

from .ctk_widgets import stored

SCENE = ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
UNNAMED_NONE = "None"


class qMRMLWidget(QWidget):
    """Libs/MRML/Widgets/qMRMLWidget.h"""

    SIGNATURES = SCENE
    mrmlSceneChanged = Signal(object)
    _scene: Any = None

    @Slot(result=object)
    def mrmlScene(self) -> Any:
        return self._scene

    @Slot(object)
    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(qMRMLWidget):
    """Libs/MRML/Widgets/qMRMLNodeComboBox.h; its header inherits QWidget and declares no `mrmlSceneChanged`."""

    SIGNATURES = (
        "setMRMLScene(vtkMRMLScene*)",
        "setCurrentNode(vtkMRMLNode*)",
        "currentNodeChanged(vtkMRMLNode*)",
        "nodeActivated(vtkMRMLNode*)",
        "nodeAdded(vtkMRMLNode*)",
        "nodeAddedByUser(vtkMRMLNode*)",
        "nodeAboutToBeRemoved(vtkMRMLNode*)",
        "nodeAboutToBeEdited(vtkMRMLNode*)",
    )
    mrmlSceneChanged = None
    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    currentNodeRenamed = Signal(str)
    baseName = stored(str, "baseName", "")
    addEnabled = stored(bool, "addEnabled", True)
    removeEnabled = stored(bool, "removeEnabled", True)
    editEnabled = stored(bool, "editEnabled", False)
    renameEnabled = stored(bool, "renameEnabled", False)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "")
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    sizeAdjustPolicy = stored(int, "sizeAdjustPolicy", 1)

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._combo = QComboBox(self)
        self._current: str | None = None
        self._nodes: list[Any] = []
        self._shown: dict[str, Any] = {}
        self._attributes: list[tuple[str, str, Any]] = []
        self._observed: list[tuple[Any, int]] = []
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.activated.connect(self._chosen)
        self.destroyed.connect(lambda *_, seen=self._observed: [o.RemoveObserver(t) for o, t in seen])

    # -- the list of nodes

    def _listed(self) -> list[Any]:
        scene = self._scene
        every = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())] if scene else []
        return [node for node in every if self._shows(node)]

    def _shows(self, node: Any) -> bool:
        exact = node.GetClassName() in self.nodeTypes
        child = self.showChildNodeTypes and any(node.IsA(kind) for kind in self.nodeTypes)
        hidden = node.GetHideFromEditors() and not self.showHidden
        excluded = node.GetClassName() in self.hideChildNodeTypes
        return (exact or (child and not excluded)) and not hidden and self._has_attributes(node)

    def _has_attributes(self, node: Any) -> bool:
        wanted = [(name, value) for kind, name, value in self._attributes if node.IsA(kind)]
        return all(
            node.GetAttribute(name) is not None if value is None else node.GetAttribute(name) == str(value)
            for name, value in wanted
        )

    def _refresh(self, *_: Any) -> None:
        """List the scene's nodes again. Without a "None" entry, the first node replaces a chosen node that is gone."""
        if self._scene and self._scene.IsBatchProcessing():
            return
        self._nodes = self._listed()
        ids = [node.GetID() for node in self._nodes]
        choice = self._current if self._current in ids else None
        if choice is None and not self.noneEnabled and ids:
            choice = ids[0]
        self._fill()
        self._choose(choice)

    def _fill(self) -> None:
        self._combo.clear()
        if self.noneEnabled:
            self._combo.addItem(self.noneDisplay, None)
        for node in self._nodes:
            self._combo.addItem(node.GetName(), node.GetID())

    def _choose(self, node_id: str | None) -> None:
        self._combo.setCurrentIndex(self._combo.findData(node_id) if node_id or self.noneEnabled else -1)
        if node_id != self._current:
            self._current = node_id
            self.currentNodeChanged[object].emit(self.currentNode())
            self.currentNodeChanged[bool].emit(node_id is not None)
            self.currentNodeIDChanged.emit(node_id or "")

    def _chosen(self, index: int) -> None:
        self._choose(self._combo.itemData(index))
        self.nodeActivated.emit(self.currentNode())

    def _filter(kind: Any, name: str, first: Any) -> Property:
        """Return a property that changes the list of nodes."""

        def write(self: Any, value: Any) -> None:
            self._shown[name] = value
            self._refresh()

        return Property(kind, lambda self: self._shown.get(name, first), write)

    nodeTypes = _filter("QStringList", "nodeTypes", [])
    showHidden = _filter(bool, "showHidden", False)
    showChildNodeTypes = _filter(bool, "showChildNodeTypes", True)
    hideChildNodeTypes = _filter("QStringList", "hideChildNodeTypes", [])
    noneEnabled = _filter(bool, "noneEnabled", False)
    noneDisplay = _filter(str, "noneDisplay", UNNAMED_NONE)

    # -- the scene

    @Slot(object)
    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._scene = scene
        kind = slicer.vtkMRMLScene
        events = (kind.NodeRemovedEvent, kind.EndBatchProcessEvent, kind.EndCloseEvent, kind.EndImportEvent)
        tags = [scene.AddObserver(event, self._refresh) for event in events] if scene else []
        self._observed[:] = [(scene, tag) for tag in tags]
        if scene:
            self._observed += [(scene, scene.AddObserver(kind.NodeAddedEvent, self._added))]
        self._refresh()

    def _added(self, *_: Any) -> None:
        known = {id(node) for node in self._nodes}
        self._refresh()
        for node in self._nodes:
            if id(node) not in known:
                self._observed.append((node, node.AddObserver("ModifiedEvent", lambda *_: self._renamed())))
                self.nodeAdded.emit(node)

    def _renamed(self) -> None:
        names = {node.GetID(): node.GetName() for node in self._nodes}
        for i in range(self._combo.count()):
            name = names.get(self._combo.itemData(i))
            if name is not None and name != self._combo.itemText(i):
                self._combo.setItemText(i, name)
                if self._combo.itemData(i) == self._current:
                    self.currentNodeRenamed.emit(name)

    # -- slots of the header

    @Slot(result=object)
    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current) if self._scene and self._current else None

    @Slot(object)
    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node else "")

    @Slot(str)
    def setCurrentNodeID(self, node_id: str) -> None:
        """Choose a node by its ID; the ID of a node that is not listed clears the choice."""
        self._choose(node_id if node_id in [node.GetID() for node in self._nodes] else None)

    currentNodeID = Property(str, lambda self: self._current or "", setCurrentNodeID, notify=currentNodeIDChanged)

    @Slot(int)
    def setCurrentNodeIndex(self, index: int) -> None:
        self._choose(self._nodes[index].GetID() if 0 <= index < len(self._nodes) else None)

    @Slot(result=int)
    def nodeCount(self) -> int:
        return len(self._nodes)

    @Slot(int, result=object)
    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    @Slot(str, str, "QVariant")
    @Slot(str, str)
    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self._attributes.append((kind, name, value))
        self._refresh()

    @Slot(str, str)
    def removeAttribute(self, kind: str, name: str) -> None:
        self._attributes = [a for a in self._attributes if a[:2] != (kind, name)]
        self._refresh()

    @Slot(result=object)
    @Slot(str, result=object)
    def addNode(self, kind: str = "") -> Any:
        node = self._scene.AddNewNodeByClass(kind or self.nodeTypes[0], self.baseName)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    @Slot()
    def removeCurrentNode(self) -> None:
        if self.currentNode():
            self.nodeAboutToBeRemoved.emit(self.currentNode())
            self._scene.RemoveNode(self.currentNode())


class qMRMLTableView(QTableView):
    """Libs/MRML/Widgets/qMRMLTableView.h; it shows the real table node, without editing."""

    SIGNATURES = (
        *SCENE,
        "setMRMLTableViewNode(vtkMRMLTableViewNode*)",
        "setMRMLTableNode(vtkMRMLTableNode*)",
        "setMRMLTableNode(vtkMRMLNode*)",
    )
    mrmlSceneChanged = Signal(object)
    _selected = Signal(name="selectionChanged")
    transposed = stored(bool, "transposed", False)
    firstRowLocked = stored(bool, "firstRowLocked", False)
    firstColumnLocked = stored(bool, "firstColumnLocked", False)
    _scene: Any = None
    _node: Any = None
    _view_node: Any = None
    _tag = 0

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._sorted = QSortFilterProxyModel(self)
        self._sorted.setSourceModel(QStandardItemModel(self))
        self.setModel(self._sorted)
        self.selectionModel().selectionChanged.connect(lambda *_: self._selected.emit())

    mrmlScene = qMRMLWidget.mrmlScene
    setMRMLScene = qMRMLWidget.setMRMLScene

    @Slot(result=object)
    def mrmlTableNode(self) -> Any:
        return self._node

    @Slot(result=object)
    def mrmlTableViewNode(self) -> Any:
        return self._view_node

    @Slot(object)
    def setMRMLTableViewNode(self, node: Any) -> None:
        self._view_node = node

    @Slot(object)
    def setMRMLTableNode(self, node: Any) -> None:
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        self._tag = node.AddObserver("ModifiedEvent", lambda *_: self._show()) if node else 0
        self._show()

    @Slot(result=QSortFilterProxyModel)
    def sortFilterProxyModel(self) -> QSortFilterProxyModel:
        return self._sorted

    @Slot(result=QStandardItemModel)
    def tableModel(self) -> QStandardItemModel:
        return self._sorted.sourceModel()

    def _show(self) -> None:
        model, node = self.tableModel(), self._node
        model.clear()
        columns = range(node.GetNumberOfColumns()) if node else []
        model.setHorizontalHeaderLabels([node.GetColumnName(c) for c in columns])
        for row in range(node.GetNumberOfRows() if node else 0):
            model.appendRow([QStandardItem(node.GetCellText(row, c)) for c in columns])


ALL = [each for name, each in dict(globals()).items() if name.startswith("qMRML")]
