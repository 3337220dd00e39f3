"""The adjudication that is being made: a third reader decides on each vertebra on which the readers disagree.

The readers are called A, B, ...; whose reading is which is never shown. Points are patient RAS mm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from ..labels.consensus import TAKEN_MM
from ..labels.dataset import Dataset
from ..labels.disputes import Dispute
from .adjudication_start import Disputed
from .annotating import Annotation
from .study import StudyScene

AGREED, OWN, MEAN = "agreed", "own", "mean"


class Adjudication(Annotation):
    """One adjudication, from its opening until it is closed.

    Attributes
    ----------
    disputes : what the readers say of each vertebra, by its id.
    """

    def __init__(self, dataset: Dataset, begun: Disputed, clock: Callable[[], float] = time.monotonic):
        super().__init__(dataset, begun.begun, clock)
        self.disputes: Mapping[str, Dispute] = begun.disputes

    @property
    def letters(self) -> list[str]:
        """The letters of the readers of this case: A, B, ..., R27, ..."""
        every = {letter for d in self.disputes.values() for letter in (*d.points, *d.absent, *d.excluded)}
        return sorted(every, key=lambda letter: (len(letter), letter))

    def order(self, study: StudyScene) -> list[str]:
        """Return the vertebrae as they are listed: the worst disagreement first, then the others, cranial first."""
        disputed = [i for i in study.order if self._is_disputed(i)]
        disputed.sort(key=lambda i: self.disputes[i].rank, reverse=True)
        return [*disputed, *(i for i in study.order if i not in disputed)]

    def waiting(self, study: StudyScene) -> list[str]:
        """Return the vertebrae that are not decided yet, the worst disagreement first."""
        return [i for i in self.order(study) if self._is_disputed(i) and self._waits(study, i)]

    def missing(self, study: StudyScene) -> list[str]:
        """Return nothing: what no reader marked is no disagreement."""
        return []

    def source(self, study: StudyScene, vertebra_id: str) -> str:
        """Return "reader": all points are those of readers."""
        return "reader"

    def decision(self, study: StudyScene, vertebra_id: str) -> str:
        """Return whose points a vertebra has: a letter, "mean", "own", "agreed", or "" while it waits."""
        dispute = self.disputes.get(vertebra_id)
        if dispute is None:
            return OWN
        if self._waits(study, vertebra_id):
            return "" if dispute.doubts else AGREED
        points = study.vertebrae[vertebra_id].keypoints()
        taken = {**dispute.points, MEAN: dispute.mean}
        return next((name for name, each in taken.items() if np.abs(each - points).max() < TAKEN_MM), OWN)

    def _waits(self, study: StudyScene, vertebra_id: str) -> bool:
        """As in an annotation; but another level of a vertebra on which the readers agree is a decision."""
        dispute = self.disputes.get(vertebra_id)
        level = study.vertebrae[vertebra_id].details["level"]
        renamed = dispute is not None and not dispute.doubts and level != dispute.level
        return super()._waits(study, vertebra_id) and not renamed

    def _is_disputed(self, vertebra_id: str) -> bool:
        return vertebra_id in self.disputes and bool(self.disputes[vertebra_id].doubts)
