"""What the page's two loupes share: the canvas beside the mouse, and the picture that the server sends for it.

A picture is square, grey, `PITCH_MM` a pixel; the page draws a part of it, enlarged, under an open cross.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from ..scene.loupe import PITCH_MM

SCRIPT = """
window.vfqLens = (name, size, gap) => {
  let picture = null, canvas = null;
  const create = () => {
    canvas = document.createElement("canvas");
    canvas.dataset.test = name;
    canvas.setAttribute("aria-hidden", "true");
    Object.assign(canvas.style, {position: "fixed", left: 0, top: 0, width: `${size}px`, height: `${size}px`,
      pointerEvents: "none", zIndex: 2000, border: "1px solid #888", borderRadius: "4px", background: "#000"});
    document.body.append(canvas);
  };
  return {
    hide() { if (canvas) canvas.hidden = true; },
    take(sent) {
      const grey = Uint8Array.from(atob(sent.grey), (c) => c.charCodeAt(0));
      const image = new ImageData(sent.size, sent.size);
      for (let i = 0; i < grey.length; i++) image.data.set([grey[i], grey[i], grey[i], 255], 4 * i);
      picture = picture || document.createElement("canvas");
      picture.width = picture.height = sent.size;
      picture.getContext("2d").putImageData(image, 0, 0);
      if (!canvas) create();
    },
    // Draws `shown` pixels of the picture around [column, row], with the canvas's corner at [left, top] of the page.
    draw([column, row], shown, [left, top], times) {
      const ratio = window.devicePixelRatio, to = canvas.getContext("2d");
      canvas.width = canvas.height = size * ratio;
      to.scale(ratio, ratio);
      to.imageSmoothingQuality = "high";
      to.drawImage(picture, column - shown / 2, row - shown / 2, shown, shown, 0, 0, size, size);
      for (const [width, color] of [[3, "rgba(0, 0, 0, .6)"], [1, "#fff"]]) {
        to.lineWidth = width;
        to.strokeStyle = color;
        to.beginPath();
        for (const [a, b] of [[0, size / 2 - gap], [size / 2 + gap, size]]) {
          to.moveTo(a, size / 2); to.lineTo(b, size / 2);
          to.moveTo(size / 2, a); to.lineTo(size / 2, b);
        }
        to.stroke();
      }
      canvas.style.transform = `translate(${left}px, ${top}px)`;
      canvas.dataset.shown = [column, row, times].map((value) => value.toFixed(2));
      canvas.hidden = false;
    },
  };
};
"""


def sent_picture(grey: np.ndarray) -> dict[str, Any]:
    """Return a picture `(n, n)` uint8 as `take` of the script expects it."""
    return {"pitch": PITCH_MM, "size": len(grey), "grey": base64.b64encode(grey.tobytes()).decode()}
