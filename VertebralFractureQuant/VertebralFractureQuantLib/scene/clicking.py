"""The clicking modes of a review: adding a vertebra, placing its six points, and clicking along the spine.

Holds the mode and its clicks, and says what to click next. The result of the clicks is left to `actions`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import VFQError
from ..report.markups import POINT_NAMES
from .face import Face, answer_later
from .placing import Placing
from .study import StudyScene

FEWEST_CLICKS = 3  # for a curve, if there is none yet
PLACES = {
    "A+": "upper anterior",
    "M+": "upper middle",
    "P+": "upper posterior",
    "P-": "lower posterior",
    "M-": "lower middle",
    "A-": "lower anterior",
}


class Clicking:
    """The clicks that are being taken, if any.

    Attributes
    ----------
    mode : "add", "place" (both in the straightened view) or "rescue" (in the patient's views); else None.
    points_order : the names of the six points in the order in which they are clicked, all of `POINT_NAMES`.
    fewest : how many clicks the mode "rescue" needs: one if it repairs a curve, three without a curve.
    """

    def __init__(self, study: StudyScene, face: Face):
        self.mode: str | None = None
        self.points_order: tuple[str, ...] = POINT_NAMES
        self.fewest = FEWEST_CLICKS
        self._study = study
        self._face = face
        self._placing: Placing | None = None

    def start(self, mode: str, clicked: Callable[[np.ndarray], None]) -> None:
        """Take clicks; after each, `clicked` gets all points `(n, 3)` of the mode so far, RAS mm of their views."""
        self.end()
        views = self._study.views.patient if mode == "rescue" else self._study.views.straightened
        labels = self.points_order if mode == "place" else ()
        self._placing = Placing(
            self._study.scene, views, labels, lambda points: answer_later(self._face, lambda: clicked(points))
        )
        self.mode = mode
        self._face.changed()
        self._face.render()

    def end(self) -> None:
        """Take no more clicks, and remove those that were taken."""
        if self._placing:
            self._placing.end()
        self.forget()

    def forget(self) -> None:
        """Forget mode and clicks without touching the scene, as after the study was closed."""
        self._placing = self.mode = None

    def take_back(self) -> None:
        """Remove the last click."""
        if self._placing:
            self._placing.take_back()

    def move_last(self, by: np.ndarray) -> None:
        """Move the last click by `(3,)` mm of its view."""
        if self._placing:
            self._placing.move_last(by)

    def points(self) -> np.ndarray:
        """Return the clicks so far `(n, 3)`, RAS mm of their views."""
        return self._placing.points() if self._placing else np.empty((0, 3))

    def curve_points(self) -> np.ndarray:
        """Return the clicks for a curve, `(n, 3)` RAS mm. VFQError `too_few_points` if there are less than `fewest`."""
        points = self.points()
        if len(points) >= self.fewest:
            return points
        if self.fewest == 1:
            told = "No point was clicked. Click the middle of a vertebral body where the curve is wrong."
        else:
            told = (
                f"{len(points)} points were clicked, but a curve needs at least {self.fewest}. Click more vertebral "
                "bodies first."
            )
        raise VFQError("too_few_points", told)

    def outlined(self) -> np.ndarray:
        """Return the six clicks of a vertebra in the order of `POINT_NAMES`, `(6, 3)` RAS mm of their view."""
        outlined: np.ndarray = self.points()[[self.points_order.index(name) for name in POINT_NAMES]]
        return outlined

    @property
    def following(self) -> str:
        """The point to be clicked next of a vertebra's six, such as "A+ upper anterior"."""
        name = self.points_order[min(len(self.points()), len(self.points_order) - 1)]
        return f"{name} {PLACES[name]}"

    @property
    def hint(self) -> str:
        """A sentence on what to click next and on the keys for it; "" while no clicks are taken."""
        count = len(self.points())
        if self.mode == "add":
            return "Click the middle of the vertebra in the straightened image. Esc: cancel."
        if self.mode == "place":
            where = f"Click {self.following} in the straightened image ({count} of 6)."
            return f"{where} Del: remove the last click. Esc: cancel."
        if self.mode == "rescue":
            where = (
                "Where the curve is wrong, click the middles of one or more vertebral bodies in the patient's views"
                if self.fewest == 1
                else "Click the middles of three or more vertebral bodies in the patient's views"
            )
            return (
                f"{where} ({count} so far); scroll as needed. Enter: rebuild the curve through these points. Del: "
                "remove the last click. Esc: cancel."
            )
        return ""
