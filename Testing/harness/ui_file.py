"""`slicer.util.loadUI`: load a .ui file with QUiLoader, after a check for errors that QUiLoader ignores.

RuntimeError for a widget class, property, signal or slot that does not exist in the meta-object.
"""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from PySide6 import QtWidgets
from PySide6.QtCore import QBuffer, QByteArray, QObject
from PySide6.QtUiTools import QUiLoader

from . import ctk_widgets, mrml_widgets
from .pythonqt import QtObject, wrap

STAND_INS = {each.__name__: each for each in (*ctk_widgets.ALL, *mrml_widgets.ALL)}


def load(path: str) -> QtObject:
    """Load the file, make its connections and return its top widget."""
    if not Path(path).is_file():
        raise RuntimeError(f"Could not load UI file: file not found {path}")
    tree = ET.parse(path)
    connections = tree.getroot().find("connections")
    for widget in tree.getroot().iter("widget"):
        _check(widget)
    if connections is not None:
        tree.getroot().remove(connections)
    made = _loaded(ET.tostring(tree.getroot()))
    for each in connections if connections is not None else ():
        _connect(made, each)
    return wrap(made)


def _loaded(text: bytes) -> Any:
    loader = QUiLoader()
    for each in STAND_INS.values():
        loader.registerCustomWidget(each)
    buffer = QBuffer()
    buffer.setData(QByteArray(text))
    buffer.open(QBuffer.OpenModeFlag.ReadOnly)
    made = loader.load(buffer)
    if made is None:
        raise RuntimeError(f"Could not load UI file: {loader.errorString()}")
    return made


def _check(widget: ET.Element) -> None:
    name, kind = widget.get("name"), widget.get("class", "")
    real = STAND_INS.get(kind) or getattr(QtWidgets, kind, None)
    if kind == "Line":
        return
    if real is None:
        raise RuntimeError(f"{name}: the harness has no widget class {kind}")
    for each in widget.findall("property"):
        written = each.get("name", "")
        if each.get("stdset") != "0" and written not in _properties(real):
            raise RuntimeError(f"{name}: {kind} has no property {written}")


@functools.cache
def _properties(real: type) -> frozenset[str]:
    meta = (made := real()).metaObject()
    names = frozenset(meta.property(i).name() for i in range(meta.propertyCount()))
    made.deleteLater()
    return names


def _connect(top: QObject, connection: ET.Element) -> None:
    told = {part.tag: part.text or "" for part in connection}
    sender, receiver = (_named(top, told[end]) for end in ("sender", "receiver"))
    try:
        wrap(sender).connect(told["signal"], wrap(receiver), told["slot"])
    except AttributeError as e:
        raise RuntimeError(f"Connection {told['sender']} to {told['receiver']}: {e}") from e


def _named(top: QObject, name: str) -> QObject:
    found = top if top.objectName() == name else top.findChild(QObject, name)
    if found is None:
        raise RuntimeError(f"A connection names the missing widget {name}")
    return found
