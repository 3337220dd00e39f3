"""Slicer as the face of a prior study: one straightened view beside those of the open study.

The prior's journal, undo and files are its own. Its nodes are not saved with the scene, which holds one study.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..scene.pair import PriorReview, leave_out
from ..scene.volumes import ROLE
from .face import DesktopFace
from .layout import PRIOR_VIEWS, PriorViews

OF_PRIOR = "prior"


class PriorFace(DesktopFace):
    """The `scene.face.Face` of the prior's review.

    Attributes
    ----------
    ct_node : the CT's node if it was in the scene before the prior, else None.
    """

    review: PriorReview
    review_type = PriorReview
    shown = PRIOR_VIEWS
    in_data = OF_PRIOR

    def __init__(self, scene: Any, who: str):
        super().__init__(scene, who)
        self.ct_node: Any = None
        self.views: PriorViews = PriorViews(self._pressed, lambda _: None, self.review.scrolled)

    @property
    def ct(self) -> Any:
        """The node of the prior's CT that was created for it; None if there is none."""
        return None if self.ct_node else self.review.study.nodes.get("ct")

    def opened(self) -> None:
        """See `Face`; a scene that is loaded again must not take the prior's CT for that of its study."""
        super().opened()
        self.review.study.nodes["ct"].RemoveAttribute(ROLE)
        if self.ct and self.case_folder:
            self.ct.SetName(f"{self.case_folder.name} (prior)")
            self.ct.SetHideFromEditors(True)

    def changed(self) -> None:
        """See `Face`."""
        if self.review.study.nodes:
            leave_out(self.review.study, with_ct=self.ct is not None)
        super().changed()

    def _pressed(self, view: Any, point: np.ndarray) -> None:
        self.on_pressed()
        self.review.pick(view, point)
