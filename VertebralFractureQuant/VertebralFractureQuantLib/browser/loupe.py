"""A loupe beside the mouse while a key point is dragged: the CT around the point, finer than the view shows it.

The server sends the picture once when a drag begins, and again only when the point leaves its inner part. The page
itself moves the picture under the crosshair, so that the loupe follows the mouse at once and delays no number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
from trame_slicer.views import SliceView

from ..scene.loupe import HALF_MM, sampled, shades
from ..scene.review import Review
from .lens import sent_picture
from .mouse import point_under

# The loupe enlarges the view three times, but to no more pixels than CT has detail: a close-up needs no loupe.
# It lies outside the dragged body, on the side that is nearer, and so never under the mouse or over the point.
SCRIPT = """
(() => {
  const SIZE = 208, TIMES = 3, FINEST = 16, LEAST = 1.5, APART = 28, GAP = 7;
  const lens = window.vfqLens("loupe", SIZE, GAP);
  let press = null, given = null;
  const hide = () => { given = null; lens.hide(); };
  const draw = () => {
    const perMm = press.view.clientWidth / given.across, times = Math.min(TIMES, FINEST / perMm);
    if (times < LEAST) return hide();
    const n = given.size, shown = SIZE / (times * perMm * given.pitch);
    const column = n / 2 + ((press.x - press.from[0]) / perMm - given.off[0]) / given.pitch;
    const row = n / 2 + ((press.y - press.from[1]) / perMm + given.off[1]) / given.pitch;
    const [left, right] = given.room.map((mm) => APART + mm * perMm);
    const places = [press.x - left - SIZE, press.x + right];
    if (left > right) places.reverse();
    const x = places.find((at) => at >= 0 && at + SIZE <= innerWidth) ?? places[0];
    const y = Math.min(Math.max(press.y - SIZE / 2, 0), innerHeight - SIZE);
    lens.draw([column, row], shown, [x, y], times);
  };
  window.vfqLoupe = (sent) => {
    if (press?.view.dataset.view !== sent.view) return;
    given = sent;
    lens.take(sent);
    draw();
  };
  window.addEventListener("pointerdown", (event) => {
    const view = event.button === 0 && event.target.closest("[data-view]");
    hide();
    press = view ? {view, x: event.clientX, y: event.clientY, from: [event.clientX, event.clientY]} : null;
  }, true);
  window.addEventListener("pointermove", (event) => {
    if (!press) return;
    [press.x, press.y] = [event.clientX, event.clientY];
    if (given) draw();
  }, true);
  for (const end of ["pointerup", "pointercancel", "blur"])
    window.addEventListener(end, () => { press = null; hide(); }, true);
})();
"""


class Loupe:
    """Sends the picture around the key point that is dragged.

    Attributes
    ----------
    send : sends values to `vfqLoupe` in the page.
    """

    def __init__(self, review: Review):
        self.send: Callable[[dict[str, Any]], None] = lambda _: None
        self._review = review
        self._start: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._center = np.zeros(3)

    def dragged(self, view: SliceView, what: str) -> None:
        """Follow the left mouse button: "press", "move" or "release". The view itself answers afterwards."""
        if what == "move":
            self._follow(view)
        else:
            self._start = None
        if what == "press":
            asyncio.get_running_loop().call_soon(self._grab, view)

    def _follow(self, view: SliceView) -> None:
        """Send another picture if the point has come far from the middle of the last one."""
        if self._start is not None and self._review.editor is not None:
            mouse, point, _ = self._start
            now = point + point_under(view) - mouse
            if np.linalg.norm(now - self._center) > HALF_MM / 2:
                self._show(view, now)

    def _grab(self, view: SliceView) -> None:
        editor, study = self._review.editor, self._review.study
        if editor is None or editor.dragged is None:
            return
        markups = study.vertebrae[editor.dragged]
        straightened = view.get_view_node() is self._review.face.straightened
        points = (markups.straight() if straightened else markups.keypoints()).reshape(6, 3)
        mouse, axes = point_under(view), _slice_to_ras(view)[:3, :2]
        places = (points - mouse) @ axes  # (6, 2), to the right and up in the view
        at = np.linalg.norm(places, axis=1).argmin()
        self._start = mouse, points[at], places[:, 0] - places[at, 0]
        self._show(view, points[at])

    def _show(self, view: SliceView, center: np.ndarray) -> None:
        assert self._start and self._review.editor
        _, point, beside = self._start
        self._center = center
        straightened = view.get_view_node() is self._review.face.straightened
        to_patient = self._review.study.straightening.to_patient if straightened else None
        slice_to_ras = _slice_to_ras(view)
        plane = center - slice_to_ras[:3, 2] * ((center - slice_to_ras[:3, 3]) @ slice_to_ras[:3, 2])
        grey = shades(sampled(self._review.editor.machine.ct, slice_to_ras, plane, to_patient), self._review.window)
        self.send(
            {
                "view": view.get_singleton_tag(),
                "across": view.get_view_node().GetFieldOfView()[0],
                "off": ((center - point) @ slice_to_ras[:3, :2]).tolist(),
                "room": [-float(beside.min()), float(beside.max())],
                **sent_picture(grey),
            }
        )


def _slice_to_ras(view: SliceView) -> np.ndarray:
    matrix: np.ndarray = slicer.util.arrayFromVTKMatrix(view.get_view_node().GetSliceToRAS())
    return matrix
