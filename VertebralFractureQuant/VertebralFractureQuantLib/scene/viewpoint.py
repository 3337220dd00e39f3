"""Where the views of a review look: the sagittal plane of the straightened view, the centre, and the window."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import navigation
from .face import Face
from .straight import ANTERIOR_MM, LATERAL_MM
from .study import StudyScene

WINDOW = "bone"  # of a study that is opened


class Viewpoint:
    """Where the views of the open study look.

    Attributes
    ----------
    lateral : R of the straightened view's sagittal plane, mm.
    preset : the window, a key of `volumes.WINDOWS`.
    """

    def __init__(self, study: StudyScene, face: Face):
        self._study = study
        self._face = face
        self.reset()

    def reset(self) -> None:
        """Start again in the middle plane, with the window for bone."""
        self.lateral = 0.0
        self.preset = WINDOW

    def fit(self) -> None:
        """Show the whole spine in the straightened view, and the middle of it close up in the patient's views."""
        length = self._study.straightening.curve.length
        self.lateral = 0.0
        navigation.fit(self._face.straightened, (0.0, 0.0, -length / 2), 2 * ANTERIOR_MM, length)
        middle = self._study.straightening.to_patient(np.array([0.0, 0.0, -length / 2]))
        for node in self._face.patient:
            navigation.fit(node, middle, navigation.CLOSE_UP_MM, navigation.CLOSE_UP_MM)
        for camera in self._face.cameras:
            navigation.look_from_left(camera, middle, length)

    def center(self, vertebra_id: str) -> None:
        """Bring a vertebra into the middle of all views."""
        middle = self._study.vertebrae[vertebra_id].straight().mean((0, 1))
        navigation.center_within(self._face.straightened, middle, self._study.straightening.curve.length)
        self.center_patient(vertebra_id)

    def center_patient(self, vertebra_id: str, but: Any = None) -> None:
        """Bring a vertebra into the middle of the patient's views, except the one with slice node `but`."""
        middle = self._study.vertebrae[vertebra_id].keypoints().mean((0, 1))
        for node in self._face.patient:
            if node is not but:
                navigation.center_on(node, middle)
        for camera in self._face.cameras:
            navigation.look_at(camera, middle)

    def move_lateral(self, lateral: float) -> None:
        """Move the sagittal plane of the straightened view to R = `lateral` mm, within the straightened image."""
        self.lateral = float(np.clip(lateral, -LATERAL_MM, LATERAL_MM))
        navigation.move_lateral(self._face.straightened, self.lateral)

    def scrolled(self) -> bool:
        """Read the plane that the mouse wheel moved; True if it is another one."""
        before, self.lateral = self.lateral, round(navigation.lateral_mm(self._face.straightened), 2)
        return self.lateral != before

    def show_window(self) -> None:
        """Show both volumes with the window `preset`."""
        self._study.show_window(self.preset)

    def toggle_window(self) -> None:
        """Change between the windows for bone and soft tissue."""
        self.preset = "soft" if self.preset == "bone" else "bone"
        self.show_window()
