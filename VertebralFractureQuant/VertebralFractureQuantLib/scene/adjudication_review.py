"""The adjudication of one case after the other: the annotation's editor on the readings of several readers.

The readers' points are shown beside the reader's own ones (`opinions`). A decision is one action: a reader's points and
level, or the mean, are taken, and the next disagreement is selected.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..analysis import Models
from ..errors import VFQError
from ..labels.consensus import write_adjudicated
from ..labels.dataset import Dataset
from ..labels.reading import LabelReading
from ..spine.levels import renamed
from .adjudicating import Adjudication
from .adjudication_start import Disputed
from .annotation_actions import AnnotationActions
from .annotation_review import AnnotationReview
from .face import Face
from .opinions import Opinions
from .study import StudyScene


class AdjudicationActions(AnnotationActions):
    """The actions of an adjudication; `annotation` is the one that is open, `opinions` shows the readers' points."""

    annotation: Adjudication | None = None
    opinions: Opinions | None = None
    chosen: tuple[str | None, str] = (None, "")  # a vertebra's id, and the letter of the reader chosen for it

    @property
    def order(self) -> list[str]:
        """The vertebrae's ids as they are listed: the worst disagreement first."""
        return self.annotation.order(self.study) if self.annotation else []

    def select(self, vertebra_id: str | None) -> None:
        """Select a vertebra, in the sagittal plane of its points."""
        if vertebra_id:
            self.viewpoint.move_lateral(self.study.plane_of(vertebra_id))
        super().select(vertebra_id)

    def take_mean(self) -> None:
        """Take the mean of the readers' points, and the level that most of them give."""
        self.take("")

    def next_reader(self) -> None:
        """Choose the next of the readers who marked the selected vertebra, for `take_chosen`.

        VFQError `bad_labels` if no reader marked it.
        """
        dispute = self.annotation.disputes.get(self.selected or "") if self.annotation else None
        if self.selected is None or self.clicking.mode:
            return
        there = [letter for letter in self._letters if dispute and letter in dispute.points]
        if not there:
            raise VFQError("bad_labels", "No reader marked this vertebra. Correct its points, or delete it.")
        letter = self.chosen_letter
        self.chosen = self.selected, there[(there.index(letter) + 1) % len(there) if letter in there else 0]
        self.face.changed()
        self.face.tell(
            f"Reader {self.chosen_letter} is chosen. Press f to take this reading, or i for the next reader."
        )

    def take_chosen(self) -> None:
        """Take the reading of the reader that `next_reader` chose; without a choice, choose the first."""
        if self.chosen_letter:
            self.take(self.chosen_letter)
        else:
            self.next_reader()

    @property
    def chosen_letter(self) -> str:
        """The letter of the reader who is chosen for the selected vertebra; "" for none."""
        return self.chosen[1] if self.chosen[0] == self.selected else ""

    def take(self, letter: str) -> None:
        """Take the reading of the reader who is called `letter`, or the mean (""), and go to the next disagreement.

        VFQError `bad_labels` if that reader did not mark the selected vertebra, or no reader did.
        """
        dispute = self.annotation.disputes.get(self.selected or "") if self.annotation else None
        if self.selected is None or self.clicking.mode:
            return
        if dispute is None or (letter and letter not in dispute.points):
            raise VFQError(
                "bad_labels",
                f"Reader {letter} did not mark this vertebra. Take another reading, or give the reason why it is not "
                "assessable (x)."
                if letter
                else "No reader marked this vertebra, so there is no mean. Correct its points, or delete it.",
            )
        points = dispute.points[letter] if letter else dispute.mean
        self._decide(self.selected, points, dispute.levels[letter] if letter else dispute.level)

    take_a = partialmethod(take, "A")
    take_b = partialmethod(take, "B")
    take_c = partialmethod(take, "C")
    take_d = partialmethod(take, "D")
    take_e = partialmethod(take, "E")
    take_f = partialmethod(take, "F")
    take_g = partialmethod(take, "G")
    take_h = partialmethod(take, "H")
    take_i = partialmethod(take, "I")

    def confirm(self) -> None:
        """Decide that the selected vertebra is right as it is shown, and go to the next disagreement."""
        if self.selected and not self.clicking.mode:
            self._review(self._open_editor, self.selected, "confirmed")
            self._next_waiting()

    def delete(self) -> None:
        """Remove the last click, or a vertebra that no reader marked. VFQError `bad_labels` for another one."""
        if self.annotation and self.selected in self.annotation.disputes and not self.clicking.mode:
            raise VFQError("bad_labels", "A reader marked this vertebra. Give the reason why it is not assessable (x).")
        super().delete()

    def not_assessable(self, reason: str, level: str | None = None) -> None:
        """As in an annotation; then go to the next disagreement."""
        super().not_assessable(reason, level)
        self._next_waiting()

    def toggle_overlay(self) -> None:
        """Hide points, lines and labels in all views, those of the readers too, or show them again."""
        super().toggle_overlay()
        if self.opinions:
            self.opinions.show_overlay(self.viewpoint.overlay)

    def show_opinions(self) -> None:
        """Show the readers' points along the present curve."""
        if self.annotation and self.opinions:
            every = self.annotation.disputes.values()
            points = {letter: [d.points[letter] for d in every if letter in d.points] for letter in self._letters}
            self.opinions.show(points, self.study.straightening)

    @property
    def _letters(self) -> list[str]:
        return self.annotation.letters if self.annotation else []

    def _place_of(self, vertebra_id: str) -> np.ndarray | None:
        place: np.ndarray = self.study.vertebrae[vertebra_id].keypoints().mean((0, 1))
        return place

    def _remove_assessed(self) -> None:
        """Delete the selected vertebra, as its reason was given."""
        super().delete()

    def _changed(self) -> None:
        if self.study.straightening is not self._shown_along:
            self._shown_along = self.study.straightening
            self.show_opinions()
        super()._changed()

    _shown_along: Any = None

    def _decide(self, vertebra_id: str, points: np.ndarray, level: str | None) -> None:
        """Give a vertebra points and level; undecided vertebrae whose levels are in doubt follow."""
        assert self.annotation
        order = self.study.order
        states = {i: self.study.vertebrae[i].details for i in order}
        names = [states[i]["level"] for i in order]
        at, kept = order.index(vertebra_id), names[order.index(vertebra_id)]
        if level and level != kept:
            waits = self.annotation.waiting(self.study)
            free = [i in waits and "level" in self.annotation.disputes[i].doubts for i in order]
            pinned = [states[i]["pinned"] or not each for i, each in zip(order, free, strict=True)]
            names = renamed(names, pinned, self.study.steps(), at, level)
        if level and names.count(level) > 1:
            names = [states[i]["level"] for i in order]
            self.face.tell(f"{level} is the level of another vertebra already, so the level stays. Look at both.")
        changes: dict[str, Any] = {i: {"level": n} for i, n in zip(order, names, strict=True)}
        changes[vertebra_id] |= {"keypoints": np.asarray(points).tolist(), "pinned": names[at] is not None}
        self._open_editor.decide(vertebra_id, changes)
        self._next_waiting()

    def _next_waiting(self) -> None:
        waiting = self.annotation.waiting(self.study) if self.annotation else []
        if waiting:
            self.select(waiting[0])
        else:
            self.face.tell("All disagreements are decided. Press e to complete the adjudication.")


class AdjudicationReview(AnnotationReview):
    """The adjudication by one reader, of one case of a label set after the other."""

    actions_type = AdjudicationActions
    annotation: Adjudication | None

    def __init__(self, study: StudyScene, face: Face, who: str):
        super().__init__(study, face, who)
        self._own.opinions = self._opinions = Opinions(study.scene, study.views)

    def begin_adjudication(self, dataset: Dataset, disputed: Disputed) -> None:
        """Show an adjudication, at its worst disagreement in a close-up. VFQError as `open`."""
        self._scratch = TemporaryDirectory(prefix="vfq-annotate-", ignore_cleanup_errors=True)
        self.annotation = self._own.annotation = Adjudication(dataset, disputed)
        self._own.clicking.points_order = dataset.points_order
        self._own.chosen = (None, "")  # the ids of another case's vertebrae are the same
        models: Models | VFQError = VFQError("blinded_protocol", "An adjudication shows no automatic points.")
        self.open(disputed.begun.prepared, Path(self._scratch.name) / "journal", models)
        self._own.show_opinions()
        self._own.viewpoint.close_up = True
        self.select(next(iter((*self.annotation.waiting(self.study), *self.order)), None))
        self._tell_version(disputed.begun.reading)

    @property
    def chosen(self) -> str:
        """The letter of the reader who is chosen for the selected vertebra; "" for none."""
        return self._own.chosen_letter

    def drafting(self, state: str = "draft") -> Callable[[], LabelReading] | None:
        """As in an annotation; a final adjudication also writes the consensus of its case."""
        write, annotation = super().drafting(state), self.annotation
        if write is None or annotation is None or state != "final":
            return write

        def decided() -> LabelReading:
            """Save the adjudication, and write the consensus."""
            reading = write()
            write_adjudicated(annotation.dataset, reading.case)
            return reading

        return decided

    def close(self, keep_nodes: bool = False) -> None:
        """Close the adjudication; save before."""
        super().close(keep_nodes)
        self._opinions.remove()

    @property
    def _own(self) -> AdjudicationActions:
        assert isinstance(self._actions, AdjudicationActions)
        return self._actions
