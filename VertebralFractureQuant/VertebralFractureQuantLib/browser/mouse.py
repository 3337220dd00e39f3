"""The mouse in the page's views, beside what the views do themselves: the place under it, and the window by a drag.

A drag with the right button changes the window: to the right for less contrast, upwards for more brightness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from trame_slicer.views import SliceView

from .views import BEFORE_OTHERS, NumbersFirst

HU_PER_PIXEL = 3.0


def point_under(view: SliceView) -> np.ndarray:
    """Return the point under the mouse `(3,)`, RAS mm of the view."""
    x, y = view.interactor().GetEventPosition()
    point: np.ndarray = np.array(view.get_view_node().GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))[:3])
    return point


class Views(Protocol):
    """The views to observe: in the straightened one and the first of the patient's a vertebra can be clicked."""

    @property
    def straightened(self) -> SliceView:
        """The view that shows the straightened image."""

    @property
    def patient(self) -> Sequence[SliceView]:
        """The patient's views, the sagittal one first."""

    @property
    def all(self) -> Sequence[SliceView]:
        """All views."""


class Mouse:
    """Observes the mouse in all views.

    Parameters
    ----------
    pressed : called with a slice node and a point RAS mm of its view when the left button is pressed.
    looked : called with the same where the mouse moves without a button.
    adjusted : called with changes of the window's width and level in HU.
    dragged : called with the view and "press", "move" or "release" as the left button is used.
    """

    def __init__(
        self,
        views: Views,
        pressed: Callable[[Any, np.ndarray], None],
        looked: Callable[[Any, np.ndarray], None],
        adjusted: Callable[[float, float], None],
        dragged: Callable[[SliceView, str], None],
    ):
        self._pressed, self._looked, self._adjusted, self._dragged = pressed, looked, adjusted, dragged
        self._from: tuple[int, int] | None = None  # where the last event of a drag with the right button was
        self._held = False
        for view in (views.straightened, *views.patient[:1]):
            self._observe(
                view, "LeftButtonPressEvent", lambda view: self._pressed(view.get_view_node(), point_under(view))
            )
        for view in views.all:
            self._observe(view, "LeftButtonPressEvent", lambda view: self._hold(view, True))
            self._observe(view, "LeftButtonReleaseEvent", lambda view: self._hold(view, False))
            self._observe(view, "MouseMoveEvent", self._move)
            self._observe(view, "RightButtonPressEvent", self._start)
            self._observe(view, "RightButtonReleaseEvent", self._end)

    def _observe(self, view: SliceView, event: str, answer: Callable[[SliceView], bool | None]) -> None:
        """Call `answer` at an event; the view itself does not get the event if the answer is True."""

        def happened(*_: Any) -> None:
            """Answer the event."""
            if answer(view):
                view.interactor().GetCommand(tag).SetAbortFlag(1)

        tag = view.interactor().AddObserver(event, happened, BEFORE_OTHERS)

    def _hold(self, view: SliceView, held: bool) -> None:
        self._held = held
        self._dragged(view, "press" if held else "release")

    def _start(self, view: SliceView) -> bool:
        self._from = view.interactor().GetEventPosition()
        NumbersFirst.adjusting = True
        return True

    def _end(self, _: SliceView) -> bool:
        self._from = None
        NumbersFirst.adjusting = False
        return True

    def _move(self, view: SliceView) -> bool:
        if self._from is not None:
            before, self._from = self._from, view.interactor().GetEventPosition()
            right, up = (now - then for now, then in zip(self._from, before, strict=True))
            self._adjusted(HU_PER_PIXEL * right, -HU_PER_PIXEL * up)
            return True
        if self._held:
            self._dragged(view, "move")
        else:
            self._looked(view.get_view_node(), point_under(view))
        return False
