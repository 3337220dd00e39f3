"""The synthetic picture of the selected vertebra in 3D Slicer: a window beside the real one, on demand."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..report.healthy_sheet import Sheet
from ..scene.healthy import Healing
from .face import DesktopFace


class HealthyWindow:
    """Makes the synthetic picture and shows it in a window of its own; `label` is that window's label, or None."""

    def __init__(self, face: DesktopFace):
        self.face = face
        self.label: Any = None
        self._window: Any = None

    def toggle_healthy(self) -> None:
        """Show the selected vertebra beside its synthetic picture, or hide it. VFQError as `Healing.asked`."""
        if self._window is not None and self._window.visible:
            self._window.close()
        else:
            self.face.work("drawing the synthetic picture", Healing(self.face.review).asked(), self._show)

    def _show(self, sheet: Sheet) -> None:
        pixmap = qt.QPixmap()
        pixmap.loadFromData(qt.QByteArray(sheet.png), "PNG")
        if self._window is None:
            self._window = qt.QDialog(slicer.util.mainWindow())
            self.label = qt.QLabel()
            qt.QVBoxLayout(self._window).addWidget(self.label)
        self._window.windowTitle = f"{sheet.name}: synthetic picture"
        self.label.setPixmap(pixmap)
        self._window.show()
