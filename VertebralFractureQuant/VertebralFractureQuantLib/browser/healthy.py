"""The synthetic picture of the selected vertebra on the page, in a dialog beside the real one, on demand.

Nothing of it is written into the case: the picture is a network's guess, and is shown as such.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from ..report.healthy_sheet import Sheet
from ..scene.healthy import Healing
from .face import BrowserFace


@dataclass
class HealthyView:
    """Makes and shows the synthetic picture.

    Attributes
    ----------
    state, face : of the session.
    """

    state: Any
    face: BrowserFace

    def toggle_healthy(self) -> None:
        """Show the selected vertebra beside its synthetic picture, or hide it."""
        if self.state.healthy_open:
            self.state.healthy_open = False
        elif self.face.review.editor and not self.state.busy:
            self.face.work("drawing the synthetic picture", Healing(self.face.review).asked(), self._show)

    def _show(self, sheet: Sheet) -> None:
        picture = "data:image/png;base64," + base64.b64encode(sheet.png).decode()
        shown = {"name": sheet.name, "picture": picture, "told": list(sheet.told)}
        self.state.update({"healthy": shown, "healthy_open": True})
