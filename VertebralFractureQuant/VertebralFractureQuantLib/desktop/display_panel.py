"""The panel's Display section: plane, window, colours and views of what is open, a study or a case of a label set.

All of them have the same window.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from slicer.i18n import tr as _

from ..scene.outlines import PALETTES
from ..scene.straight import LATERAL_MM
from ..scene.volumes import PRESETS
from .face import DesktopFace

BUTTONS = ("fitButton", "layoutButton")  # of the .ui file, of use while something is open


class DisplayPanel:
    """Shows the view of what is open in the widgets `ui`, and changes it.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    faces : the review's face, whose colours can be chosen, then others; at most one of them has something open.
    keep : called with a window of `PRESETS` when it was chosen, so that it is remembered.
    """

    def __init__(self, ui: Any, faces: Sequence[DesktopFace], keep: Callable[[str], None]):
        self.ui = ui
        self._faces = faces
        self._keep = keep
        self._preset = faces[0].review.preset
        self._palette_tip = ui.paletteComboBox.toolTip
        self._showing = False
        ui.lateralSlider.minimum, ui.lateralSlider.maximum = -LATERAL_MM, LATERAL_MM
        ui.lateralSlider.connect("valueChanged(double)", self._move)
        ui.paletteComboBox.addItems(list(PALETTES))
        ui.windowComboBox.addItems(list(PRESETS))
        ui.windowComboBox.connect("textActivated(QString)", self._choose_window)
        ui.fitButton.connect("clicked()", lambda: self._act("fit_views"))
        for face in faces:
            face.on_changed.append(self.show)
            face.on_followed.append(self._follow)

    @property
    def face(self) -> DesktopFace:
        """The face of what is open; that of the review while nothing is."""
        return next((face for face in self._faces if face.review.editor), self._faces[0])

    def show(self) -> None:
        """Update the widgets."""
        if self._showing:
            return
        self._showing = True
        try:
            self._share_window()
            review, graded = self.face.review, self.face is self._faces[0]
            self.ui.lateralSlider.value = review.lateral
            self.ui.windowComboBox.currentText = review.preset
            self.ui.paletteComboBox.enabled = graded
            self.ui.paletteComboBox.toolTip = self._palette_tip if graded else _("A reader of labels sees no grades.")
            for name in BUTTONS:
                getattr(self.ui, name).enabled = review.editor is not None
        finally:
            self._showing = False

    def show_palette(self, name: str) -> None:
        """Show the vertebrae of the review in the colours of a palette in `PALETTES`."""
        if name in PALETTES:
            self._faces[0].review.study.show_colors(name)

    def show_layout(self) -> None:
        """Show the module's layout with what is open."""
        if self.face.review.editor:
            self.face.opened()

    def _follow(self, vertebra_ids: Collection[str]) -> None:
        if not vertebra_ids:  # the selection or the plane changed
            self.show()

    def _share_window(self) -> None:
        """Give a window that was chosen for what is open to the other faces."""
        preset = self.face.review.preset
        if preset != self._preset:
            self._preset = preset
            self._keep(preset)
        for face in self._faces:
            if face.review.preset != preset:
                face.review.restore_window(preset)

    def _act(self, action: str, *args: Any) -> None:
        self.face.on_told("")
        self.face.review.act(action, *args)

    def _move(self, lateral: float) -> None:
        if not self._showing:
            self._act("move_lateral", lateral)

    def _choose_window(self, name: str) -> None:
        if name != self.face.review.preset:
            self._act("choose_window", name)
