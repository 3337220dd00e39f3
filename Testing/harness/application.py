"""Slicer's application object, main window and module manager, as far as a scripted module uses them.

These stand-ins wrap the real QApplication and the real scene (trame-slicer's SlicerApp). Each class names its header in
github.com/Slicer/Slicer, folder Base.
"""

# ruff: noqa: N801, N802, N815 (names of Qt and Slicer)

from __future__ import annotations

import os
import tempfile
import types
from pathlib import Path
from typing import Any

import slicer
from PySide6.QtCore import Property, QObject, QSettings, Signal, Slot
from PySide6.QtWidgets import QApplication, QMainWindow, QScrollArea, QToolBar, QVBoxLayout, QWidget
from trame_slicer.core import SlicerApp

from .ctk_widgets import stored
from .layout import qSlicerLayoutManager
from .mrml_widgets import qMRMLWidget
from .pythonqt import to_python, wrap


class qSlicerCommandOptions(QObject):
    """QTGUI/qSlicerCommandOptions.h, QTCore/qSlicerCoreCommandOptions.h"""

    noMainWindow = stored(bool, "noMainWindow", False)
    noSplash = stored(bool, "noSplash", True)
    testingEnabled = stored(bool, "testingEnabled", False)


class qSlicerCoreIOManager(QObject):
    """QTCore/qSlicerCoreIOManager.h, for scenes and volumes only"""

    def __init__(self, core: SlicerApp):
        super().__init__()
        self._io = core.io_manager

    @Slot(str, result=str)
    def fileType(self, path: str) -> str:
        return "SceneFile" if path.endswith((".mrb", ".mrml")) else "VolumeFile"

    @Slot(str, "QVariantMap", object, object, result=bool)
    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any, _messages: Any = None) -> bool:
        path = properties["fileName"]
        if kind == "SceneFile":
            if properties.get("clear", False):
                slicer.mrmlScene.Clear(0)
            return bool(self._io.load_scene(path))
        nodes = self._io.load_volumes(path)
        for node in nodes:
            loaded.AddItem(node)
        return bool(nodes)

    @Slot(str, "QVariantMap", object, result=bool)
    def saveNodes(self, kind: str, properties: dict[str, Any], _messages: Any = None) -> bool:
        if kind != "SceneFile":
            raise NotImplementedError(f"The harness saves only scenes, not {kind}")
        if Path(properties["fileName"]).name.startswith("."):
            return False  # as Slicer does since 5.12
        return bool(self._io.save_scene(properties["fileName"]))


class qSlicerModuleFactoryManager(QObject):
    """QTCore/qSlicerModuleFactoryManager.h"""

    def __init__(self, modules: dict[str, QObject]):
        super().__init__()
        self._modules = modules

    @Slot(result="QStringList")
    def loadedModuleNames(self) -> list[str]:
        return list(self._modules)

    @Slot(str, result=bool)
    def isLoaded(self, name: str) -> bool:
        return name in self._modules


class qSlicerModuleManager(QObject):
    """QTCore/qSlicerModuleManager.h"""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.loaded: dict[str, QObject] = {}
        self._factory = qSlicerModuleFactoryManager(self.loaded)

    @Slot(result=QObject)
    def factoryManager(self) -> QObject:
        return self._factory

    @Slot(result="QStringList")
    def modulesNames(self) -> list[str]:
        return list(self.loaded)

    @Slot(str, result=QObject)
    def module(self, name: str) -> QObject | None:
        return self.loaded.get(name)


class qSlicerModuleSelectorToolBar(QToolBar):
    """QTGUI/qSlicerModuleSelectorToolBar.h"""

    moduleSelected = Signal(str)
    _selected = ""

    @Slot(str)
    def selectModule(self, name: str) -> None:
        """Leave one module and enter another, as Slicer does; our panel is created when it is first entered."""
        if name == self._selected:
            return
        modules = wrap(self.window())._real.manager.loaded
        if self._selected in modules:
            _panel(modules[self._selected], "exit")
        self._selected = name
        if name in modules:
            _panel(modules[name], "enter")
        self.moduleSelected.emit(name)

    selectedModule = Property(str, lambda self: self._selected, selectModule, notify=moduleSelected)


def _panel(module: QObject, what: str) -> None:
    if isinstance(module, qSlicerScriptedLoadableModule):
        getattr(module.widgetRepresentation(), what)()


class qSlicerMainWindow(QMainWindow):
    """Applications/SlicerApp/.../qSlicerMainWindow.h (Base/QTApp); it has only a module panel."""

    def __init__(self, manager: qSlicerModuleManager):
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.manager = manager
        self._selector = qSlicerModuleSelectorToolBar(self)
        self.addToolBar(self._selector)
        self.panel = QScrollArea(self)
        self.panel.setWidgetResizable(True)
        self.setCentralWidget(self.panel)

    @Slot(result=QToolBar)
    def moduleSelector(self) -> QToolBar:
        return self._selector


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """QTGUI/qSlicerScriptedLoadableModuleWidget.h, qSlicerAbstractModuleWidget.h; the panel of a Python class."""

    def __init__(self, module: qSlicerScriptedLoadableModule):
        super().__init__()
        self._module = module
        self.python: Any = None
        self._entered = False
        self.setLayout(QVBoxLayout())
        self.setMRMLScene(slicer.mrmlScene)

    moduleName = Property(str, lambda self: self._module.name)

    def make(self) -> None:
        """Do what `setPythonSource` and `setup` do in qSlicerScriptedLoadableModuleWidget.cxx."""
        import sys

        name = f"{self._module.name}Widget"
        self.python = getattr(sys.modules[self._module.name], name)(wrap(self))
        setattr(slicer.modules, name, self.python)
        self.python.setup()

    @Slot()
    def reload(self) -> None:
        self.make()

    @Slot(result=object)
    def self(self) -> Any:
        return self.python

    @Slot()
    def enter(self) -> None:
        self._entered = True
        self.python.enter()

    @Slot()
    def exit(self) -> None:
        self._entered = False
        self.python.exit()

    isEntered = Property(bool, lambda self: self._entered)


class qSlicerLoadableModule(QObject):
    """QTCore/qSlicerAbstractCoreModule.h; one of Slicer's own modules, with its real logic only."""

    def __init__(self, name: str, logic: Any):
        super().__init__()
        self._name, self._logic = name, logic

    name = Property(str, lambda self: self._name)

    @Slot(result=object)
    def logic(self) -> Any:
        return self._logic

    @Slot(result=object)
    def mrmlScene(self) -> Any:
        return slicer.mrmlScene


class qSlicerScriptedLoadableModule(QObject):
    """QTGUI/qSlicerScriptedLoadableModule.h, QTCore/qSlicerAbstractCoreModule.h"""

    title = stored(str, "title", "")
    categories = stored("QStringList", "categories", [])
    contributors = stored("QStringList", "contributors", [])
    dependencies = stored("QStringList", "dependencies", [])
    associatedNodeTypes = stored("QStringList", "associatedNodeTypes", [])
    helpText = stored(str, "helpText", "")
    acknowledgementText = stored(str, "acknowledgementText", "")
    extensions = stored("QVariantMap", "extensions", {})
    icon = stored("QVariant", "icon", None)
    hidden = stored(bool, "hidden", False)
    index = stored(int, "index", -1)
    widgetRepresentationCreationEnabled = stored(bool, "creation", True)

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None

    name = Property(str, lambda self: self._path.stem)
    path = Property(str, lambda self: str(self._path))

    @Slot(result=QWidget)
    def widgetRepresentation(self) -> QWidget:
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.make()
        return self._widget

    @Slot(result=object)
    def mrmlScene(self) -> Any:
        return slicer.mrmlScene


class qSlicerApplication(QApplication):
    """QTGUI/qSlicerApplication.h, QTCore/qSlicerCoreApplication.h"""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)

    def __init__(self) -> None:
        super().__init__(["Slicer", "-platform", "offscreen"])
        self.setOrganizationName("slicer.org")
        self.setApplicationName("Slicer")
        self.setQuitOnLastWindowClosed(False)
        self.folder = tempfile.TemporaryDirectory(prefix="slicer-harness-")
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, self.folder.name)
        self.core = SlicerApp()
        self.manager = qSlicerModuleManager()
        self.layouts = qSlicerLayoutManager(self.core)
        self._options = qSlicerCommandOptions(self)
        self._io = qSlicerCoreIOManager(self.core)
        self.window: qSlicerMainWindow | None = None

    slicerHome = Property(str, lambda self: self.folder.name)
    defaultScenePath = Property(str, lambda self: self.folder.name)
    temporaryPath = Property(str, lambda self: self.folder.name)
    cachePath = Property(str, lambda self: self.folder.name)
    slicerUserSettingsFilePath = Property(str, lambda self: QSettings().fileName())
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 11)
    revision = Property(str, lambda self: "harness")
    os = Property(str, lambda self: {"nt": "win"}.get(os.name, "linux"))
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")

    @Slot(result=object)
    def mrmlScene(self) -> Any:
        return self.core.scene

    @Slot(result=object)
    def applicationLogic(self) -> Any:
        return self.core.app_logic

    @Slot(str, result=object)
    def moduleLogic(self, name: str) -> Any:
        return self.core.app_logic.GetModuleLogic(name)

    @Slot(result=QObject)
    def layoutManager(self) -> QObject | None:
        return None if self._options.noMainWindow else self.layouts

    @Slot(result=QObject)
    def moduleManager(self) -> QObject:
        return self.manager

    @Slot(result=QObject)
    def commandOptions(self) -> QObject:
        return self._options

    @Slot(result=QObject)
    def coreIOManager(self) -> QObject:
        return self._io

    ioManager = coreIOManager

    @Slot(result=QSettings)
    def settings(self) -> QSettings:
        return QSettings()

    @Slot(result=QSettings)
    def userSettings(self) -> QSettings:
        return QSettings()

    @Slot(result=bool)
    def testingEnabled(self) -> bool:
        return self._options.testingEnabled

    @Slot(str, result=str)
    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    @Slot()
    def pauseRender(self) -> None:
        self.layouts.pauseRender()

    @Slot()
    def resumeRender(self) -> None:
        self.layouts.resumeRender()

    @Slot(bool)
    def setRenderPaused(self, pause: bool) -> None:
        self.layouts.setRenderPaused(pause)


class Modules(types.SimpleNamespace):
    """`slicer.modules`: each module by its lower-case name, and each Python widget by its class name."""


OF_SLICER = ("Colors", "Data", "Markups", "Segmentations", "SubjectHierarchy", "Terminologies", "Volumes")


def register(app: qSlicerApplication, module: QObject) -> None:
    """Add a module to the module manager and to `slicer.modules`."""
    app.manager.loaded[module.name] = module
    setattr(slicer.modules, module.name.lower(), to_python(module))


def register_slicers(app: qSlicerApplication) -> None:
    """Add those of Slicer's own modules whose logic slicer-core has."""
    for name in OF_SLICER:
        register(app, qSlicerLoadableModule(name, app.core.app_logic.GetModuleLogic(name)))
