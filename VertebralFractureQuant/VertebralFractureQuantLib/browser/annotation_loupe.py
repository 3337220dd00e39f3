"""A loupe at the mouse while the points of a vertebra are placed: the CT enlarged eight times beside the next click.

The server sends a picture when the mouse leaves the inner part of the last one; the page moves it under the crosshair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer

from ..scene.loupe import HALF_MM, sampled, shades
from ..scene.review import Review
from .lens import sent_picture
from .views import ReviewViews

TIMES = 8

# The loupe lies beside the mouse, on the side where there is room, so that it covers neither mouse nor point.
SCRIPT = """
(() => {
  const SIZE = 240, TIMES = 8, APART = 36, GAP = 9;
  const lens = window.vfqLens("placing-loupe", SIZE, GAP);
  let given = null, mouse = null;
  const draw = () => {
    const view = document.querySelector("[data-view=Straightened]");
    if (!given || !mouse || !view || window.trame.state.get("mode") !== "place") return lens.hide();
    const box = view.getBoundingClientRect(), [x, y] = mouse;
    if (x < box.left || x > box.right || y < box.top || y > box.bottom) return lens.hide();
    const perMm = box.width / given.across, n = given.size;
    const column = n / 2 + (x - box.left - given.at[0] * box.width) / perMm / given.pitch;
    const row = n / 2 + (y - box.top - given.at[1] * box.height) / perMm / given.pitch;
    const left = x + APART + SIZE <= box.right ? x + APART : x - APART - SIZE;
    const top = Math.min(Math.max(y - SIZE / 2, 0), innerHeight - SIZE);
    lens.draw([column, row], SIZE / (TIMES * perMm * given.pitch), [left, top], TIMES);
  };
  window.vfqPlacingLoupe = (sent) => {
    given = sent.size ? sent : null;
    if (!given) return lens.hide();
    lens.take(sent);
    draw();
  };
  window.addEventListener("pointermove", (event) => { mouse = [event.clientX, event.clientY]; draw(); }, true);
})();
"""


class PlacingLoupe:
    """Sends the picture around the mouse while points are placed in the straightened view.

    Attributes
    ----------
    send : sends values to `vfqPlacingLoupe` in the page.
    """

    def __init__(self, review: Review, views: ReviewViews):
        self.send: Callable[[dict[str, Any]], None] = lambda _: None
        self._review = review
        self._views = views
        self._shown: tuple[Any, ...] = ()  # for which place, zoom, plane and window the last picture was made

    def hide(self) -> None:
        """Show no loupe, until the mouse moves again while points are placed."""
        if self._shown:
            self._shown = ()
            self.send({"size": 0})

    def follow(self, node: Any, point: np.ndarray) -> None:
        """The mouse moved to `point` `(3,)` straight mm of the view with this slice node."""
        review, editor = self._review, self._review.editor
        if editor is None or review.mode != "place" or node is not review.face.straightened:
            self.hide()
            return
        matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
        settings = tuple(np.round(matrix, 3).ravel()), node.GetFieldOfView(), review.window
        near = self._shown and np.linalg.norm(self._shown[0] - point) < HALF_MM / 2
        if near and self._shown[1] == settings:
            return
        self._shown = point, settings
        x, y = self._views.straightened.interactor().GetEventPosition()
        columns, rows, _ = node.GetDimensions()
        grey = shades(sampled(editor.machine.ct, matrix, point, review.study.straightening.to_patient), review.window)
        self.send(
            {
                "across": node.GetFieldOfView()[0],
                "at": [x / columns, 1 - y / rows],
                **sent_picture(grey),
            }
        )
