"""Which overlay a reader wants to see of a pair, and drawing it again when points or matches have changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import VFQError
from .pair import Pair
from .pair_overlay import MODES


class Drawing:
    """The overlay of a pair, computed by the `work` of its face.

    Attributes
    ----------
    mode : what is shown or being computed, one of `pair_overlay.MODES`.
    """

    def __init__(self, pair: Pair):
        self.mode = MODES[0]
        self._pair = pair
        self._made_from: Any = None

    def following(self) -> None:
        """Show the next mode. VFQError as `draw`."""
        self.draw(MODES[(MODES.index(self.mode) + 1) % len(MODES)])

    def draw(self, mode: str) -> None:
        """Show the overlay in a mode, unless it is computed from the same points already.

        VFQError `no_level_in_common` if no vertebra is matched; nothing is laid over the image then.
        """
        pair, self.mode = self._pair, mode
        studies = pair.prior.study, pair.current.study
        made_from = mode, tuple(sorted(pair.match.pairs.items())), *(s.straight().tobytes() for s in studies)
        if mode == MODES[0]:
            self.leave()
        elif made_from != self._made_from:
            compute = pair.overlay.prepare(mode)
            if compute is None:
                self.leave()
                raise VFQError(
                    "no_level_in_common", "No vertebra is in both scans, so nothing can be laid over the other."
                )
            self._made_from = made_from

            def show(image: np.ndarray) -> None:
                """Show the image, if it is still wanted."""
                if self._made_from == made_from:
                    pair.overlay.show(mode, image, pair.current.window)

            pair.current.face.work("laying the prior over the image", compute, show)

    def again(self) -> None:
        """Draw once more after an action. VFQError as `draw`."""
        self.draw(self.mode)

    def leave(self) -> None:
        """Show no overlay."""
        self.mode, self._made_from = MODES[0], None
        self._pair.overlay.hide()
