"""The four slice views of the review page, rendered on the server: the straightened spine, and the patient's three."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    # VTK would look for an X server first, and complain four times, before it renders without one.
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

from trame.widgets import html
from trame_slicer.core import SlicerApp
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import ScheduledRenderStrategy, SliceView, ViewLayoutDefinition, ViewProps, ViewType

from ..scene.study import Views

STRAIGHTENED = "Straightened"
PATIENT = ("Sagittal", "Coronal", "Axial")
COLORS = {STRAIGHTENED: "#5B8DEF", "Sagittal": "#EFD64D", "Coronal": "#6DAD4A", "Axial": "#F34A33"}
FRAMES_PER_SECOND = 30.0
NUMBERS_AHEAD_S = 0.004
FRAMES_AT_REST = 6.0  # of the views that the mouse is not in: they follow a drag without slowing it
QUALITY = 70


class ReviewViews:
    """The views and the Slicer application core that they belong to."""

    def __init__(self, server: Any):
        self.app = SlicerApp()
        register_rca_factories(
            self.app.view_manager,
            server,
            slice_view_ui_f=_label,
            target_fps=FRAMES_PER_SECOND,
            blur_fps=FRAMES_AT_REST,
            interactive_quality=QUALITY,
        )
        self.straightened = self._create(STRAIGHTENED, "Sagittal")
        self.patient = [self._create(name, name) for name in PATIENT]

    @property
    def all(self) -> list[SliceView]:
        """The straightened view, then sagittal, coronal, axial."""
        return [self.straightened, *self.patient]

    def ids(self) -> Views:
        """The views' node IDs, for the scene."""
        straightened, sagittal, *across = (view.get_view_node_id() for view in self.all)
        return Views((straightened,), (sagittal,), tuple(across))

    def show(self, straightened: Any, ct: Any) -> None:
        """Put the volume nodes behind the markups."""
        self.straightened.set_background_volume_id(straightened.GetID())
        for view in self.patient:
            view.set_background_volume_id(ct.GetID())

    def render(self) -> None:
        """Ask for a picture of every view."""
        for view in self.all:
            view.schedule_render()

    def _create(self, name: str, orientation: Any) -> SliceView:
        props = ViewProps(orientation=orientation, label=name, color=COLORS[name], background_color="#000000")
        view = self.app.view_manager.create_view(ViewLayoutDefinition(name, ViewType.SLICE_VIEW, props))
        view.render_window().SetMultiSamples(0)  # six times faster in software
        view.set_scheduled_render(NumbersFirst(view._scheduled_render))
        return view


class NumbersFirst(ScheduledRenderStrategy):
    """A picture takes the server longer than a number: what a move has changed in the table is sent before it."""

    def __init__(self, then: ScheduledRenderStrategy):
        super().__init__()
        self._then = then
        self._waiting = False

    def schedule_render(self) -> None:
        """Ask for a picture a moment later; called for every node that changes."""
        if not self._waiting:
            self._waiting = True
            asyncio.get_event_loop().call_later(NUMBERS_AHEAD_S, self._ask)

    def _ask(self) -> None:
        self._waiting = False
        self._then.schedule_render()


def _label(_server: Any, _view_id: str, view: SliceView) -> None:
    name = view.get_singleton_tag()
    html.Div(name, classes="view-label", style=f"color: {COLORS[name]}")
