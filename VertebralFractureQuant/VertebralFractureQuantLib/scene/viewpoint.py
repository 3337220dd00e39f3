"""Where the views of a review look: the sagittal plane of the straightened view, the centre, and the window."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..imaging.ct import CTVolume
from . import navigation
from .face import Face
from .labels import Labels
from .references import References
from .straight import ANTERIOR_MM, LATERAL_MM, tube
from .study import BESIDE_MM, StudyScene
from .volumes import AUTO, PRESETS, WINDOWS, content_window, voxels_of

NARROWEST_HU = 10.0
OWN = "own"  # the name of a window that the reader adjusted


class Viewpoint:
    """Where the views of the open study look.

    Attributes
    ----------
    lateral : R of the straightened view's sagittal plane, mm.
    preset : the window, one of `volumes.PRESETS`, or "own" after it was adjusted. It stays for the next study.
    close_up : True if the selected vertebra fills the straightened view.
    overlay : False while points, lines and labels are hidden.
    """

    def __init__(self, study: StudyScene, face: Face):
        self._study = study
        self._face = face
        self._references = References(lambda: study.nodes, face)
        self._labels = Labels(study.labels)
        self.preset = PRESETS[0]
        self._window = WINDOWS[self.preset]
        self.reset()

    def reset(self) -> None:
        """Start again in the middle plane, with the same window."""
        self.lateral = 0.0
        self.close_up = False
        self.overlay = True
        self._references.forget()
        self._labels.detach()

    def follow_plane(self) -> None:
        """Show in all views where the straightened plane and the selected vertebra's level run."""
        study, selected = self._study, self._study.selected
        study.show_plane(self.lateral)
        level = float(study.straight()[study.order.index(selected), ..., 2].mean()) if selected else None
        if study.nodes:
            self._labels.attach(self._face.renderer, self._face.straightened)
        self._references.refresh(study.straightening, self.lateral, level, study.straight())

    def fit(self) -> None:
        """Show the whole spine in the straightened view, and the middle of it close up in the patient's views."""
        length = self._study.straightening.curve.length
        self.lateral, self.close_up = 0.0, False
        navigation.fit(self._face.straightened, (0.0, 0.0, -length / 2), 2 * ANTERIOR_MM, length)
        middle = self._study.straightening.to_patient(np.array([0.0, 0.0, -length / 2]))
        for node in self._face.patient:
            navigation.fit(node, middle, navigation.CLOSE_UP_MM, navigation.CLOSE_UP_MM)
        for camera in self._face.cameras:
            navigation.look_from_left(camera, middle, length)

    def center(self, vertebra_id: str) -> None:
        """Bring a vertebra into the middle of all views; in a close-up it fills the straightened view."""
        points = self._study.vertebrae[vertebra_id].straight()
        if self.close_up:
            self._fill(points)
        else:
            length = self._study.straightening.curve.length
            navigation.center_within(self._face.straightened, points.mean((0, 1)), length)
        self.center_patient(vertebra_id)

    def leave_close_up(self) -> None:
        """Show the whole spine in the straightened view again; the plane and the patient's views stay."""
        self.close_up = False
        length = self._study.straightening.curve.length
        navigation.fit(self._face.straightened, (self.lateral, 0.0, -length / 2), 2 * ANTERIOR_MM, length)

    def _fill(self, points: np.ndarray) -> None:
        """Fill the straightened view with a body `(3, 2, 3)` straight mm, on the plane of its points."""
        low, high = points.min((0, 1)), points.max((0, 1))
        (_, depth, height), middle = navigation.FILLED * (high - low), (low + high) / 2
        self.lateral = float(np.clip(points[..., 0].mean(), -LATERAL_MM, LATERAL_MM))
        navigation.fit(self._face.straightened, (self.lateral, middle[1], middle[2]), depth, height)

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
        """Show both volumes with the present window; the automatic one is that of the open study."""
        if self.preset == AUTO and self._study.nodes:
            voxels = voxels_of(self._study.nodes["straightened"])
            self._window = WINDOWS["bone"] if voxels is None else content_window(tube(voxels))
        if self._study.nodes:
            self._study.show_window(self._window)

    def adjust_window(self, width: float, level: float) -> None:
        """Change the window by these amounts in HU, as by a drag with the right mouse button."""
        before = self._window
        self.preset, self._window = OWN, (max(before[0] + width, NARROWEST_HU), before[1] + level)
        self.show_window()

    def toggle_window(self) -> None:
        """Change to the next of `volumes.PRESETS`; from an adjusted window to the first."""
        following = PRESETS.index(self.preset) + 1 if self.preset in PRESETS else 0
        self.choose_window(PRESETS[following % len(PRESETS)])

    def choose_window(self, preset: str, width: float = 0.0, level: float = 0.0) -> None:
        """Show a window of `volumes.PRESETS`, or "own": width and level in HU. Anything else changes nothing."""
        if preset in PRESETS:
            self.preset, self._window = preset, WINDOWS.get(preset, self._window)
        elif preset == OWN and np.isfinite([width, level]).all() and width >= NARROWEST_HU:
            self.preset, self._window = OWN, (float(width), float(level))
        self.show_window()

    def toggle_overlay(self) -> None:
        """Hide points, lines and labels in all views, or show them again."""
        self.overlay = not self.overlay
        self._study.show_overlay(self.overlay)

    @property
    def window(self) -> tuple[float, float]:
        """Width and level of the window, HU."""
        return self._window

    def note(self) -> str:
        """Say what is hidden, and where the plane lies if it is beside the points of the selected vertebra; or ""."""
        told = [] if self.overlay else ["Points and lines are hidden. h shows them."]
        selected = self._study.selected
        if selected:
            off = self.lateral - self._study.plane_of(selected)
            if abs(off) > BESIDE_MM:
                side, name = "left" if off < 0 else "right", self._study.label(selected)
                told.append(
                    f"This plane is {abs(off):.1f} mm {side} of the points of {name}, which are faint and cannot be "
                    "dragged here. j goes to their plane."
                )
        return " ".join(told)


def place_text(ct: CTVolume, patient: np.ndarray) -> str:
    """Return HU and the patient's coordinates at `patient` `(3,)` RAS mm; "" outside the scan."""
    value = float(ct.sample(patient, fill=np.nan))
    if np.isnan(value):
        return ""
    sides = ("R" if patient[0] > 0 else "L", "A" if patient[1] > 0 else "P", "S" if patient[2] > 0 else "I")
    places = "  ".join(f"{side} {abs(mm):.1f}" for side, mm in zip(sides, patient, strict=True))
    return f"{value:.0f} HU   {places} mm"
