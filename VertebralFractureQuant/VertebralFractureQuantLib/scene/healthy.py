"""The synthetic picture of the selected vertebra, for both faces: what to compute, and what to show.

A face calls `asked` in its thread, computes the result in another one, and shows it; nothing of the study changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import VFQError
from ..methods.healthy_picture import load_healer
from ..report.healthy_sheet import Sheet, case_sheet, ct_sampler
from .review import Review


@dataclass
class Healing:
    """Makes the sheet of the selected vertebra; the generator is loaded at the first one."""

    review: Review

    def asked(self) -> Callable[[], Sheet]:
        """Return a function, for any thread, that makes the sheet of the selected vertebra as it is now.

        VFQError `no_selection` without one; the function raises those of `healthy_picture` and `load_healer`.
        """
        review, editor = self.review, self.review.editor
        if editor is None or review.selected is None:
            raise VFQError("no_selection", "No vertebra is selected. Select one, then ask for its synthetic picture.")
        record, ct = review.record(), editor.machine.ct
        index = list(review.study.order).index(review.selected)
        return lambda: case_sheet(load_healer(), record, index, ct_sampler(ct, record))
