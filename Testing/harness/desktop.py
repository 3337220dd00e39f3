"""`Desktop`: a scripted module for tests, loaded as Slicer loads it.

A process has one application and one scene. Each `Desktop` starts with an empty scene. `close` fails the test if a slot
or an observer raised an exception, which Slicer would only have printed.
"""

# ruff: noqa: N803 (names of Qt and Slicer)

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import slicer.util
from PySide6 import QtCore, QtGui, QtTest, QtUiTools, QtWidgets
from vtkmodules.vtkIOImage import vtkPNGWriter
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

from . import (
    application,
    ctk_widgets,
    drag,
    installing,
    layout,
    mrml_widgets,
    parameter_node,
    pythonqt,
    scripted,
    ui_file,
)

MISSING = object()


@dataclass(frozen=True)
class Message:
    """A message box that a user would have seen; `kind` is "info", "warning", "error" or "question"."""

    kind: str
    text: str
    title: str = ""
    details: str = ""


messages: list[Message] = []


def display(
    level: int, text: str, in_testing: Any, mainWindowNeeded: bool = False, parent: Any = None, **kwargs: Any
) -> Any:
    """Replace `slicer.util._messageDisplay`, which info-, warning-, error- and confirmDisplay call."""
    kind = "question" if in_testing is not None else logging.getLevelName(level).lower()
    details = kwargs.get("detailedText", "")
    messages.append(Message(kind, text, kwargs.get("windowTitle") or "", details))
    if kind != "question":
        return None
    box = QtWidgets.QMessageBox.StandardButton
    yes = kwargs["standardButtons"] & (box.Ok | box.Yes | box.Retry).value
    return yes if pythonqt.ask("confirm", text) else box.Cancel.value


def message_box(text: str, parent: Any = None, **kwargs: Any) -> Any:
    """Replace `slicer.util.messageBox`; the answer is a button."""
    messages.append(Message("question", text, kwargs.get("windowTitle") or ""))
    return pythonqt.ask("messageBox", text)


def delay_display(message: str, autoCloseMsec: int = 1000, parent: Any = None, **kwargs: Any) -> None:
    """Replace `slicer.util.delayDisplay`, without the delay."""
    messages.append(Message("info", message))
    slicer.app.processEvents()


class Application:
    """The application of this process, and its entries in `sys.modules` and `slicer` while a `Desktop` is open."""

    _one: Application | None = None

    def __init__(self) -> None:
        self.real = application.qSlicerApplication()
        self.wrapped = pythonqt.wrap(self.real)
        self._before: list[tuple[Any, str, Any]] = []
        self.modules = {
            "qt": pythonqt.FlatModule("qt", QtCore, QtGui, QtWidgets, QtUiTools),
            "ctk": pythonqt.FlatModule("ctk", types.SimpleNamespace(**{c.__name__: c for c in ctk_widgets.ALL})),
            "SampleData": installing.sample_data_module(),
            "slicer.ScriptedLoadableModule": scripted,
            "slicer.parameterNodeWrapper": parameter_node,
            "slicer.i18n": _i18n(),
            "slicer.packaging": installing.packaging_module(),
        }

    @classmethod
    def get(cls) -> Application:
        cls._one = cls._one or cls()
        return cls._one

    @property
    def lasting(self) -> list[QtCore.QObject]:
        """The objects that outlive a test."""
        return [self.real, self.real.manager, self.real.layouts]

    def install(self, with_packaging: bool) -> None:
        absent = () if with_packaging else ("slicer.packaging",)
        for name, module in self.modules.items():
            self._put_module(name, None if name in absent else module)
        self._put(slicer, "packaging", self.modules["slicer.packaging"] if with_packaging else MISSING)
        self._put(slicer, "app", self.wrapped)
        self._put(slicer, "mrmlScene", self.real.core.scene)
        self._put(slicer, "modules", application.Modules())
        for each in (*mrml_widgets.ALL, *_classes(layout, "qMRML"), *_classes(application, "qSlicer")):
            self._put(slicer, each.__name__, pythonqt.class_of(each))
        pip_install = installing.pip_install if with_packaging else installing.pip_install_before
        ours = {"_messageDisplay": display, "messageBox": message_box, "delayDisplay": delay_display}
        for name, value in {**ours, "loadUI": ui_file.load, "pip_install": pip_install}.items():
            self._put(slicer.util, name, value)
        self._put(sys, "excepthook", _observer_failed)

    def uninstall(self) -> None:
        while self._before:
            holder, name, value = self._before.pop()
            if holder is sys.modules:
                sys.modules.pop(name, None)
                if value is not MISSING:
                    sys.modules[name] = value
            elif value is MISSING:
                vars(holder).pop(name, None)
            else:
                setattr(holder, name, value)

    def _put_module(self, name: str, module: Any) -> None:
        self._before.append((sys.modules, name, sys.modules.get(name, MISSING)))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent and module is not None:
            self._put(sys.modules[parent], child, module)

    def _put(self, holder: Any, name: str, value: Any) -> None:
        self._before.append((holder, name, getattr(holder, name, MISSING)))
        if value is not MISSING:
            setattr(holder, name, value)
        elif hasattr(holder, name):
            delattr(holder, name)


def _classes(module: types.ModuleType, prefix: str) -> list[type]:
    return [each for name, each in vars(module).items() if name.startswith(prefix)]


def _i18n() -> types.ModuleType:
    """`slicer.i18n` without an installed translation."""
    made = types.ModuleType("slicer.i18n")
    made.tr = lambda text: text  # type: ignore[attr-defined]
    made.translate = lambda context, text: text  # type: ignore[attr-defined]
    return made


def _observer_failed(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Record an exception of an observer, which VTK only prints."""
    traceback.print_exception(kind, error, trace)
    if isinstance(error, Exception):
        pythonqt.slot_errors.append(error)


class Desktop:
    """A module in the application.

    `answers` holds the results of dialogs: "confirm" (bool), "exec", "messageBox", "getOpenFileName", ...; a function
    is called with the dialog or its arguments. A dialog without an answer is an error. "pip_ensure" False declines; a
    function for it or for "pip_install" is called with the requirements and may raise.

    Parameters
    ----------
    module_path : the module's Python file.
    with_packaging : False imitates a Slicer before 5.11.
    main_window : False imitates a Slicer without a main window.
    open : open the module at once.
    """

    def __init__(
        self, module_path: str | Path, with_packaging: bool = True, main_window: bool = True, open: bool = True
    ):
        self._application = Application.get()
        self.app = self._application.real
        self.path = Path(module_path).resolve()
        self._set_aside: dict[str, types.ModuleType] = {}
        self._start(main_window, with_packaging)
        try:
            self._load_module()
            self.app.startupCompleted.emit()
            if open:
                self.select()
        except BaseException:
            self._end()
            raise

    # -- what a test reads

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def scene(self) -> Any:
        return slicer.mrmlScene

    @property
    def widget(self) -> Any:
        """The Python widget; a new one after `reload`."""
        return getattr(slicer.modules, f"{self.name}Widget")

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def module(self) -> Any:
        """`slicer.modules.<name in lower case>`."""
        return getattr(slicer.modules, self.name.lower())

    messages = property(lambda self: messages)
    answers = property(lambda self: pythonqt.answers)
    asked = property(lambda self: pythonqt.asked)
    slot_errors = property(lambda self: pythonqt.slot_errors)
    installed = property(lambda self: installing.installed)
    samples = property(lambda self: installing.samples)

    @property
    def status(self) -> str:
        """The text in the main window's status bar."""
        return self.app.window.statusBar().currentMessage()

    # -- what a user does

    def select(self, name: str | None = None) -> None:
        """Choose a module (default: this one) in the module selector; any other name leaves this module."""
        if self.app.window:
            self.app.window.moduleSelector().selectModule(self.name if name is None else name)
        else:
            self.module.widgetRepresentation()
        self._show_panel()

    def press(self, button: str) -> None:
        """Click a button by its name in the .ui file. AssertionError if it is disabled or hidden."""
        real = getattr(self.ui, button)._real
        assert real.isEnabled() and not real.isHidden(), f"{button} cannot be pressed: disabled or hidden"
        real.click()
        self.events()

    def key(self, keys: str) -> None:
        """Press a key or shortcut such as "c" or "Ctrl+Z" in the module's panel, through Qt's shortcut map."""
        combination = QtGui.QKeySequence(keys)[0]
        self.app.window.activateWindow()
        self.events()
        target = self.app.focusWidget() or self.app.window
        QtTest.QTest.keyClick(target, combination.key(), combination.keyboardModifiers())
        self.events()

    def drag(self, view: str, node: Any, point: int, by: tuple[float, float], **how: Any) -> None:
        """Drag a control point in a slice view by pixels, see `drag.drag`."""
        drag.drag(view, node, point, by, **how)
        self.events()

    def wait(self, until: Callable[[], Any], seconds: float = 120.0) -> Any:
        """Process events until `until` returns a true value, and return it. AssertionError after `seconds`."""
        end = time.monotonic() + seconds
        while not (found := until()):
            assert time.monotonic() < end, f"still false after {seconds} s"
            self.events()
            time.sleep(0.002)
        return found

    def events(self) -> None:
        """Process all pending events of Qt, including deletions."""
        self.app.processEvents()
        self.app.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)

    def reload(self, afresh: tuple[str, ...] = ()) -> None:
        """Do what the reload button for developers does: cleanup, import the file again, new widget, same scene.

        The packages in `afresh` are imported again from disk; `close` restores the old ones.
        """
        for name in [n for n in sys.modules if n.split(".")[0] in afresh]:
            self._set_aside.setdefault(name, sys.modules[name])
            del sys.modules[name]
        self.widget.onReload()
        self.events()

    def close_scene(self) -> None:
        """File > Close scene."""
        slicer.mrmlScene.Clear(0)
        self.events()

    def screenshot(self, path: str | Path, width: int = 480, height: int | None = None) -> None:
        """Save the module's panel as a PNG file, at its full height unless one is given."""
        panel = self.module.widgetRepresentation()._real
        self.events()
        areas = panel.findChildren(QtWidgets.QScrollArea)
        hidden = sum(a.widget().sizeHint().height() - a.sizeHint().height() for a in areas)
        self.app.window.resize(width, height or panel.sizeHint().height() + hidden + 60)
        self.events()
        panel.grab().save(str(path))

    def picture(self, view: str, path: str | Path) -> None:
        """Save the image of a slice view as a PNG file."""
        widget = slicer.app.layoutManager().sliceWidget(view).sliceView()
        widget.forceRender()
        shot, writer = vtkWindowToImageFilter(), vtkPNGWriter()
        shot.SetInput(widget.renderWindow())
        writer.SetInputConnection(shot.GetOutputPort())
        writer.SetFileName(str(path))
        writer.Write()

    @contextmanager
    def expected(self, *kinds: type[Exception]) -> Iterator[None]:
        """Expect a slot or observer to raise one of these exceptions in this context; else AssertionError."""
        before = len(self.slot_errors)
        yield
        wanted = [e for e in self.slot_errors[before:] if isinstance(e, kinds)]
        assert wanted, f"no slot raised one of {[k.__name__ for k in kinds]}"
        self.slot_errors[:] = [e for e in self.slot_errors if not any(e is w for w in wanted)]

    def left_connections(self) -> list[Any]:
        """Return the functions still connected to the application, its layout manager or module manager.

        `cleanup` has to disconnect them. The function that calls `cleanup` is left out.
        """
        written = [written for each in self._application.lasting for _, written, _ in pythonqt._kept(each)]
        return [each for each in written if getattr(each, "__name__", "") != "_onModuleAboutToBeUnloaded"]

    def close(self) -> None:
        """Unload the module. AssertionError if a slot or an observer raised an exception."""
        try:
            self.app.manager.moduleAboutToBeUnloaded.emit(self.name)
            self.events()
        finally:
            self._end()
        errors = [repr(e) for e in self.slot_errors]
        self.slot_errors.clear()
        assert not errors, f"Slicer would only have printed these errors: {errors}"

    def __enter__(self) -> Desktop:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    # -- how

    def _clear_all(self) -> None:
        """Close the scene, and remove the parameter nodes that Slicer would keep."""
        scene = self.app.core.scene
        scene.Clear(0)
        for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
            scene.RemoveNode(node)

    def _start(self, main_window: bool, with_packaging: bool) -> None:
        for each in (messages, pythonqt.asked, pythonqt.slot_errors, installing.installed, installing.samples):
            each.clear()
        pythonqt.answers.clear()
        self._application.install(with_packaging)
        QtCore.QSettings().clear()
        self.app._options.noMainWindow = not main_window
        self.app.window = application.qSlicerMainWindow(self.app.manager) if main_window else None
        self._clear_all()
        self.app.layouts.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
        application.register_slicers(self.app)
        self._on_path = str(self.path.parent) in sys.path
        if not self._on_path:
            sys.path.insert(0, str(self.path.parent))

    def _load_module(self) -> None:
        spec = importlib.util.spec_from_file_location(self.name, self.path)
        made = importlib.util.module_from_spec(spec)
        sys.modules[self.name] = made
        spec.loader.exec_module(made)
        self._cpp_module = application.qSlicerScriptedLoadableModule(self.path)
        application.register(self.app, self._cpp_module)
        self.python_module = getattr(made, self.name)(pythonqt.wrap(self._cpp_module))

    def _show_panel(self) -> None:
        if self.app.window and self.name in self.app.manager.loaded:
            panel = self._cpp_module.widgetRepresentation()
            if self.app.window.panel.widget() is not panel:
                self.app.window.panel.setWidget(panel)
                self.app.window.resize(500, 900)
                self.app.window.show()
        self.events()

    def _end(self) -> None:
        for each in self._application.lasting:
            pythonqt.forget(each)
        self.app.manager.loaded.clear()
        self._clear_all()
        if self.app.window:
            self.app.window.deleteLater()
        self.app.window = None
        self.events()
        while self.app.overrideCursor():
            self.app.restoreOverrideCursor()
        sys.modules.pop(self.name, None)
        sys.modules.update(self._set_aside)
        if not self._on_path:
            with suppress(ValueError):
                sys.path.remove(str(self.path.parent))
        self._application.uninstall()
