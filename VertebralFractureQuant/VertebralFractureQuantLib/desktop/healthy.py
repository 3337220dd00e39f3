"""The synthetic picture of the selected vertebra in 3D Slicer: a window with the real one beside it, on demand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import slicer

from ..report.healthy_sheet import Sheet
from ..scene.healthy import Healing
from .face import DesktopFace

SHOWN_PIXELS = 700  # height of the picture in the window


@dataclass
class HealthyWindow:
    """Makes the synthetic picture and shows it until the user closes the window."""

    face: DesktopFace

    def toggle_healthy(self) -> None:
        """Show the selected vertebra beside its synthetic picture. VFQError as `Healing.asked`."""
        self.face.work("drawing the synthetic picture", Healing(self.face.review).asked(), self._show)

    def _show(self, sheet: Sheet) -> None:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "synthetic.png"
            file.write_bytes(sheet.png)
            picture = f'<img src="{file.as_posix()}" height="{SHOWN_PIXELS}" alt="{sheet.told[0]}">'
            slicer.util.infoDisplay(picture, windowTitle=f"{sheet.name}: synthetic picture")
