"""The reading of a label set that is being made: what the scene does not hold, and the labels as they are saved.

Key points and levels are those of the study. Here are comments, reasons why vertebrae are not assessable, time, and
what the reader has seen. Points are patient RAS mm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import VFQError
from ..labels.dataset import Dataset
from ..labels.reading import REASONS, Label, LabelReading
from ..spine.levels import NAMES
from ..spine.record import SpineAnalysis
from .annotation_start import ASSISTED, Begun
from .merging import NEAR_MM
from .stopwatch import PLACING, Stopwatch
from .study import StudyScene

FIRST_POINTS = ("mask", "centroid")  # sources that are a beginning for a reader, not a reading


class Annotation:
    """One reading, from its opening until it is closed.

    Attributes
    ----------
    dataset : the label set.
    reading : as it is on disk, or was begun; its labels are older than the scene.
    others : labels without key points: not assessable, or a centre to begin with.
    comments : of vertebrae, by id; `comment` is that of the case.
    watch : the time of each vertebra.
    changed : True once there is something to save.
    """

    def __init__(self, dataset: Dataset, begun: Begun, clock: Callable[[], float] = time.monotonic):
        self.dataset = dataset
        self.reading = begun.reading
        self.others = [label for label in begun.reading.labels if label.keypoints is None]
        self.comments = {i: label.comment for i, label in begun.labels.items()}
        self.comment = begun.reading.comment
        self.watch = Stopwatch({i: label.seconds or 0.0 for i, label in begun.labels.items()}, clock)
        self.changed = False
        self._loaded = begun.labels
        self._last_level = begun.last_level
        self._asked_for: set[str] = set()
        self._seen = [v.keypoints.mean((0, 1)) for v in begun.prepared.analysis.vertebrae[len(begun.labels) :]]

    @property
    def assisted(self) -> bool:
        """True if the protocol shows automatic points."""
        return self.reading.mode == ASSISTED

    def touch(self, study: StudyScene, mode: str | None) -> None:
        """The reader did something; `mode` is the clicking mode."""
        self.watch.touch(PLACING if mode in ("place", "add") else study.selected)

    def placed(self, vertebra_id: str, keypoints: np.ndarray, automatic: bool = False) -> None:
        """A vertebra was placed by hand, or its automatic points were asked for."""
        self._asked_for.add(vertebra_id)
        self.watch.placed(vertebra_id)
        if automatic:
            self._seen.append(keypoints.mean((0, 1)))

    def waiting(self, study: StudyScene) -> list[str]:
        """Return the vertebrae whose first points the reader has neither accepted nor changed, cranial first."""
        return [i for i in study.order if self._waits(study, i)]

    def _waits(self, study: StudyScene, vertebra_id: str) -> bool:
        details = study.vertebrae[vertebra_id].details
        if details["origin"] != "model" or details["review"] != "open" or vertebra_id in self._asked_for:
            return False
        loaded = self._loaded.get(vertebra_id)
        return loaded is None or loaded.source in FIRST_POINTS

    def source(self, study: StudyScene, vertebra_id: str) -> str:
        """Return where the points of a vertebra come from, one of `labels.reading.SOURCES`."""
        if study.vertebrae[vertebra_id].details["origin"] == "reader":
            return "reader"
        return self._loaded[vertebra_id].source if vertebra_id in self._loaded else "automatic"

    def mark(self, reason: str, level: str | None, comment: str = "", **rest: Any) -> None:
        """Say that a level is not assessable; `rest` are further attributes of its `Label`.

        VFQError `bad_labels` without a level, or if it has a reason already.
        """
        if level not in NAMES:
            raise VFQError(
                "bad_labels", "A vertebra that is not assessable needs a level. Choose it, then the reason again."
            )
        if any(label.level == level for label in self.others):
            raise VFQError("bad_labels", f"{level} is not assessable already. Remove that entry first.")
        assert reason in REASONS
        self.others.append(Label(level, not_assessable=reason, comment=comment, **rest))
        self.changed = True

    def unmark(self, level: str) -> None:
        """Remove the entry of a level that is not assessable."""
        self.others = [label for label in self.others if label.level != level or not label.not_assessable]
        self.changed = True

    def clashes(self, study: StudyScene) -> list[str]:
        """Remove the entries of levels that have key points now, and return their names."""
        named = {study.vertebrae[i].details["level"] for i in study.order}
        gone = [str(label.level) for label in self.others if label.not_assessable and label.level in named]
        for level in gone:
            self.unmark(level)
        return gone

    # -- the reading

    def now(self, study: StudyScene) -> LabelReading:
        """Return the reading with the labels of the scene, to be saved."""
        kept = [i for i in study.order if not self._waits(study, i) or i in self._loaded]
        labels = [self._label(study, i) for i in kept]
        rest = [label for label in self.others if label.not_assessable or not _is_placed(label, labels)]
        return replace(self.reading, labels=(*labels, *rest), comment=self.comment)

    def remaining(self, study: StudyScene, record: SpineAnalysis) -> SpineAnalysis:
        """Return the record of the curve and of the automatic vertebrae that still wait for the reader."""
        wait = [study.vertebra(i) for i in self.waiting(study) if i not in self._loaded]
        return replace(record, vertebrae=tuple(wait) if self.assisted else (), quality=(), reading=None)

    def levels_left(self, study: StudyScene) -> list[str]:
        """Return the levels that may be placed: those of the protocol, or all, without those that are there."""
        there = {study.vertebrae[i].details["level"] for i in study.order}
        there |= {label.level for label in self.others if label.not_assessable}
        return [level for level in self.dataset.protocol.get("levels") or NAMES if level not in there]

    def next_level(self, study: StudyScene) -> str | None:
        """Return the level that is proposed for the next vertebra; None if none is.

        It is the first one of the protocol that is left; without levels in the protocol, and before any vertebra has
        one, it is the level with which the reader's last case begins. It never comes from an automatic result.
        """
        left = self.levels_left(study)
        if self.dataset.protocol.get("levels"):
            return next(iter(left), None)
        named = any(study.vertebrae[i].details["level"] for i in study.order)
        return self._last_level if not named and self._last_level in left else None

    def missing(self, study: StudyScene) -> list[str]:
        """Return the levels that the protocol asks for and that have neither points nor a reason."""
        there = {label.level for label in self.now(study).labels}
        return [level for level in self.dataset.protocol.get("levels") or () if level not in there]

    def _label(self, study: StudyScene, vertebra_id: str) -> Label:
        markups, loaded = study.vertebrae[vertebra_id], self._loaded.get(vertebra_id)
        points = markups.keypoints()
        if loaded is not None and loaded.keypoints is not None and np.allclose(points, loaded.keypoints, atol=1e-6):
            points = loaded.keypoints  # all digits stay
        seen = self.assisted and any(np.linalg.norm(points.mean((0, 1)) - middle) < NEAR_MM for middle in self._seen)
        return Label(
            level=markups.details["level"],
            keypoints=points,
            plane=_plane(study, points),
            comment=self.comments.get(vertebra_id, ""),
            seconds=round(self.watch.seconds(vertebra_id), 1),
            machine_points_shown=seen or bool(loaded and loaded.machine_points_shown),
            source=self.source(study, vertebra_id),
        )


def _plane(study: StudyScene, keypoints: np.ndarray) -> np.ndarray:
    """Return the sagittal plane `(2, 3)` through key points: a point in it, and its normal to the patient's right."""
    straight = study.straightening.to_straight(keypoints).reshape(-1, 3)
    lateral, arc = straight[:, 0].mean(), straight[:, 2].mean()
    point, beside = study.straightening.to_patient(np.array([[lateral, 0.0, arc], [lateral + 1.0, 0.0, arc]]))
    return np.stack([point, beside - point])


def _is_placed(label: Label, placed: Sequence[Label]) -> bool:
    """True if a vertebra with points is where the label's centre is, or has its level."""
    if label.level is not None and any(p.level == label.level for p in placed):
        return True
    middles = [p.keypoints.mean((0, 1)) for p in placed if p.keypoints is not None]
    return label.center is not None and any(np.linalg.norm(m - label.center) < NEAR_MM for m in middles)
