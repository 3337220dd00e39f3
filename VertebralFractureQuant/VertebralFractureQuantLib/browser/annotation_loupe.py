"""A loupe at the mouse while the points of a vertebra are placed: the CT enlarged eight times beside the next click.

The server sends a picture when the mouse leaves the inner part of the last one; the page moves it under the crosshair.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer

from ..scene.loupe import HALF_MM, PITCH_MM, sampled, shades
from ..scene.review import Review
from .views import ReviewViews

TIMES = 8

# The loupe lies beside the mouse, on the side where there is room, so that it covers neither mouse nor point.
SCRIPT = """
(() => {
  const SIZE = 240, TIMES = 8, APART = 36, GAP = 9;
  let given = null, picture = null, loupe = null, mouse = null;
  const hide = () => { if (loupe) loupe.hidden = true; };
  const draw = () => {
    const view = document.querySelector("[data-view=Straightened]");
    if (!given || !mouse || !view || window.trame.state.get("mode") !== "place") return hide();
    const box = view.getBoundingClientRect(), [x, y] = mouse;
    if (x < box.left || x > box.right || y < box.top || y > box.bottom) return hide();
    const perMm = box.width / given.across, ratio = window.devicePixelRatio, n = given.size;
    const column = n / 2 + (x - box.left - given.at[0] * box.width) / perMm / given.pitch;
    const row = n / 2 + (y - box.top - given.at[1] * box.height) / perMm / given.pitch;
    const shown = SIZE / (TIMES * perMm * given.pitch);
    loupe.width = loupe.height = SIZE * ratio;
    const to = loupe.getContext("2d");
    to.scale(ratio, ratio);
    to.imageSmoothingQuality = "high";
    to.drawImage(picture, column - shown / 2, row - shown / 2, shown, shown, 0, 0, SIZE, SIZE);
    for (const [width, color] of [[3, "rgba(0, 0, 0, .6)"], [1, "#fff"]]) {
      to.lineWidth = width;
      to.strokeStyle = color;
      to.beginPath();
      for (const [a, b] of [[0, SIZE / 2 - GAP], [SIZE / 2 + GAP, SIZE]]) {
        to.moveTo(a, SIZE / 2); to.lineTo(b, SIZE / 2);
        to.moveTo(SIZE / 2, a); to.lineTo(SIZE / 2, b);
      }
      to.stroke();
    }
    const left = x + APART + SIZE <= box.right ? x + APART : x - APART - SIZE;
    const top = Math.min(Math.max(y - SIZE / 2, 0), innerHeight - SIZE);
    loupe.style.transform = `translate(${left}px, ${top}px)`;
    loupe.dataset.shown = [column, row, TIMES].map((value) => value.toFixed(2));
    loupe.hidden = false;
  };
  window.vfqPlacingLoupe = (sent) => {
    given = sent.size ? sent : null;
    if (!given) return hide();
    const grey = Uint8Array.from(atob(sent.grey), (c) => c.charCodeAt(0));
    const image = new ImageData(sent.size, sent.size);
    for (let i = 0; i < grey.length; i++) image.data.set([grey[i], grey[i], grey[i], 255], 4 * i);
    picture = picture || document.createElement("canvas");
    picture.width = picture.height = sent.size;
    picture.getContext("2d").putImageData(image, 0, 0);
    if (!loupe) {
      loupe = document.createElement("canvas");
      loupe.dataset.test = "placing-loupe";
      loupe.setAttribute("aria-hidden", "true");
      Object.assign(loupe.style, {position: "fixed", left: 0, top: 0, width: `${SIZE}px`, height: `${SIZE}px`,
        pointerEvents: "none", zIndex: 2000, border: "1px solid #888", borderRadius: "4px", background: "#000"});
      document.body.append(loupe);
    }
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
                "pitch": PITCH_MM,
                "size": len(grey),
                "at": [x / columns, 1 - y / rows],
                "grey": base64.b64encode(grey.tobytes()).decode(),
            }
        )
