"""The four slice views of the review page, rendered on the server: the straightened image and three patient views."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    # Otherwise VTK looks for an X server first, and prints four warnings before it renders without one.
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

from trame.widgets import html
from trame_slicer.core import SlicerApp
from trame_slicer.rca_view import RemoteViewFactory
from trame_slicer.views import (
    NoScheduleRendering,
    ScheduledRenderStrategy,
    SliceView,
    ViewLayoutDefinition,
    ViewProps,
    ViewType,
)
from vtkmodules.vtkCommonCore import vtkObject

from ..scene.views import Views

STRAIGHTENED = "Straightened"
PRIOR = "Prior"
PATIENT = ("Sagittal", "Coronal", "Axial")
COLORS = {STRAIGHTENED: "#5B8DEF", "Sagittal": "#EFD64D", "Coronal": "#6DAD4A", "Axial": "#F34A33", PRIOR: "#C58AF9"}
# What lies to the left, to the right, above and below: the views are never turned.
LETTERS = {STRAIGHTENED: "APSI", PRIOR: "APSI", "Sagittal": "APSI", "Coronal": "RLSI", "Axial": "RLAP"}
# A double-click on a point moves all views of its group there. Straight and patient's coordinates are not the same.
GROUPS = {STRAIGHTENED: 1, PRIOR: 2, **dict.fromkeys(PATIENT, 0)}
SCREEN_SCALE = 0.2  # Slicer's own
LARGEST_SCALE = 8.0
# The page's letters follow the screen; points and labels follow the page's letters.
SCREEN = """
(() => {
  const tell = () => window.trame.trigger("screen",
    [devicePixelRatio * parseFloat(getComputedStyle(document.documentElement).fontSize) / 16]);
  tell();
  window.addEventListener("resize", tell);
})();
"""
FRAMES_PER_SECOND = 30.0
NUMBERS_AHEAD_S = 0.004
FOLLOW_S, APART_S = 0.2, 0.05
BEFORE_OTHERS = 100.0  # observer priority: the markups widget does not pass on the events that it uses
QUALITY = 90  # image quality during interaction; a value unlike that of still images would render each image twice


class ReviewViews:
    """The views of the page, and the Slicer application core that they belong to.

    `pairs`: with a view for the straightened image of a prior study, `prior`, which else is None.
    """

    def __init__(self, server: Any, pairs: bool = False):
        self.app = SlicerApp()
        factory = RemoteViewFactory(
            server,
            _not_rendered_yet,
            ViewType.SLICE_VIEW,
            populate_view_ui_f=_label,
            target_fps=FRAMES_PER_SECOND,
            blur_fps=FRAMES_PER_SECOND,
            interactive_quality=QUALITY,
        )
        self.app.view_manager.register_factory(factory)
        vtkObject.GlobalWarningDisplayOff()  # each view warns about an event that trame-slicer itself sends
        self.straightened = self._create(STRAIGHTENED, "Sagittal")
        self.patient = [self._create(name, name) for name in PATIENT]
        self.prior = self._create(PRIOR, "Sagittal") if pairs else None
        vtkObject.GlobalWarningDisplayOn()

    @property
    def all(self) -> list[SliceView]:
        """The straightened view, then the sagittal, coronal and axial view."""
        return [self.straightened, *self.patient]

    @property
    def with_prior(self) -> list[SliceView]:
        """All views, and that of the prior if there is one."""
        return [*self.all, *filter(None, [self.prior])]

    def ids(self) -> Views:
        """Return the node IDs of the views, for the scene."""
        straightened, sagittal, *across = (view.get_view_node_id() for view in self.all)
        return Views((straightened,), (sagittal,), tuple(across))

    def show(self, straightened: Any, ct: Any) -> None:
        """Show the volume nodes behind the markups."""
        self.straightened.set_background_volume_id(straightened.GetID())
        for view in self.patient:
            view.set_background_volume_id(ct.GetID())

    def release(self) -> None:
        """Release all mouse buttons, when a tab was closed during a drag."""
        for view in self.with_prior:
            view.interactor().InvokeEvent("LeftButtonReleaseEvent")
            view.interactor().InvokeEvent("MiddleButtonReleaseEvent")
            view.interactor().InvokeEvent("RightButtonReleaseEvent")

    def scale(self, factor: float) -> None:
        """Draw points and their labels this many times larger, on a screen whose pixels are smaller."""
        for view in self.with_prior:
            view.get_view_node().SetScreenScaleFactor(SCREEN_SCALE * min(max(1.0, float(factor)), LARGEST_SCALE))
        self.render()

    def render(self) -> None:
        """Request a rendering of each view."""
        for view in self.all:
            view.schedule_render()

    def _create(self, name: str, orientation: Any) -> SliceView:
        props = ViewProps(
            orientation=orientation, label=name, color=COLORS[name], background_color="#000000", group=GROUPS[name]
        )
        view = self.app.view_manager.create_view(ViewLayoutDefinition(name, ViewType.SLICE_VIEW, props))
        view.render_window().SetMultiSamples(0)  # six times faster in software
        view.get_view_node().SetRulerType(view.get_view_node().RulerTypeThin)
        view.set_scheduled_render(
            NumbersFirst(view._scheduled_render, view, 0 if name == PRIOR else list(COLORS).index(name))
        )
        return view


class NumbersFirst(ScheduledRenderStrategy):
    """Delays rendering, so that new numbers in the table are sent before the images, which take longer.

    The view under the mouse renders first; the other views follow a little later, one after the other. While the
    window is adjusted they wait until the mouse rests, because each picture of the drag would need all four.
    """

    under_mouse: NumbersFirst | None = None
    adjusting = False  # True while the window is adjusted with the mouse

    def __init__(self, then: ScheduledRenderStrategy, view: SliceView, place: int):
        super().__init__()
        self._then = then
        self._waiting: asyncio.Handle | None = None
        self._later_s = FOLLOW_S + place * APART_S
        view.interactor().AddObserver("MouseMoveEvent", lambda *_: self._enter(), BEFORE_OTHERS)

    def schedule_render(self) -> None:
        """Request a rendering soon after the current event. Called for each node that changes."""
        follows = NumbersFirst.under_mouse not in (None, self)
        if self._waiting and follows and NumbersFirst.adjusting:
            self._waiting.cancel()
            self._waiting = None
        if self._waiting is None:
            delay = self._later_s if follows else NUMBERS_AHEAD_S
            self._waiting = asyncio.get_event_loop().call_soon(self._wait, delay)

    def _wait(self, delay: float) -> None:
        self._waiting = asyncio.get_event_loop().call_later(delay, self._ask)

    def _enter(self) -> None:
        NumbersFirst.under_mouse = self

    def _ask(self) -> None:
        self._waiting = None
        self._then.schedule_render()


def _not_rendered_yet(**keys: Any) -> SliceView:
    """Return a view that renders only when it is told how: else each of its settings would render it, 60 times."""
    return SliceView(scheduled_render_strategy=NoScheduleRendering(), **keys)


def _label(_server: Any, _view_id: str, view: SliceView) -> None:
    name = view.get_singleton_tag()
    for side, letter in zip(("left", "right", "top", "bottom"), LETTERS[name], strict=True):
        html.Div(letter, classes=f"letter {side}")
