"""The annotation of one case after the other: the review's editor on the labels of a label set.

Grades, heights and other readers' labels are never shown. The journal that undo needs is temporary; what counts is the
draft in the label set, which is saved after each act.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np

from ..analysis import Models
from ..errors import VFQError
from ..labels.dataset import Dataset
from ..labels.files import write_json
from ..labels.reading import LabelReading, correction, now, to_json
from ..labels.store import save, work_folder
from ..report.markups import POINT_NAMES
from ..spine.keypoints import from_outline, outline
from .actions import Actions
from .annotating import Annotation
from .annotation_start import Begun, keep_record
from .face import Face
from .review import Review
from .study import StudyScene

NUDGE_MM = 0.1
TOUCHED_MM = 4.0  # a press this near to a key point touches it
UP, ANTERIOR = np.array([0.0, 0.0, NUDGE_MM]), np.array([0.0, NUDGE_MM, 0.0])


class AnnotationActions(Actions):
    """The actions of an annotation; `annotation` is the one that is open.

    Attributes
    ----------
    touched : the point that arrow keys move: a vertebra's id, and an index of `POINT_NAMES`.
    wanted : the level that the reader chose for the vertebra that is being placed; None if it follows from neighbours.
    """

    annotation: Annotation | None = None
    touched: tuple[str, int] | None = None
    wanted: str | None = None

    def pick(self, view: Any, point: np.ndarray) -> None:
        """Select the vertebra under the mouse, and remember the key point that is touched."""
        if self.editor and not self.clicking.mode:
            self._touch(point, view is self.face.straightened)
        super().pick(view, point)

    def start_adding(self) -> None:
        """Propose a vertebra where the next click is. VFQError `blinded_protocol` in a blinded reading."""
        if self.annotation and not self.annotation.assisted:
            raise VFQError(
                "blinded_protocol", "This reading is blinded: there are no proposals. Place the six points by hand (b)."
            )
        super().start_adding()

    def start_placing(self) -> None:
        """Place the six points of a vertebra; its level follows from its neighbours, if they have one."""
        self.wanted = None
        super().start_placing()

    def place_level(self, level: str) -> None:
        """Place the six points of the vertebra of this level. VFQError `bad_labels` if the level is there already."""
        assert self.annotation
        if level not in self.annotation.levels_left(self.study):
            raise VFQError("bad_labels", f"{level} is there already, or not in the protocol. Choose another level.")
        self.start_placing()
        self.wanted = level
        self.face.changed()

    def place_next(self) -> None:
        """Place the vertebra of the level that is proposed; without a proposal the level follows from neighbours."""
        assert self.annotation
        level = self.annotation.next_level(self.study)
        if level:
            self.place_level(level)
        else:
            self.start_placing()

    def level_up(self) -> None:
        """Set the level of the selected vertebra, or of the one that is being placed, one higher."""
        if not self._shift_wanted(-1):
            super().level_up()

    def level_down(self) -> None:
        """Set the level of the selected vertebra, or of the one that is being placed, one lower."""
        if not self._shift_wanted(1):
            super().level_down()

    def _shift_wanted(self, by: int) -> bool:
        """Shift the level that is being placed among those that are left; False while no such level is."""
        if self.clicking.mode != "place" or not self.wanted or not self.annotation:
            return False
        left = self.annotation.levels_left(self.study)
        self.wanted = left[min(max(left.index(self.wanted) + by, 0), len(left) - 1)]
        self.face.changed()
        return True

    def nudge_up(self) -> None:
        """Move the touched point 0.1 mm towards the head."""
        self._nudge(UP)

    def nudge_down(self) -> None:
        """Move the touched point 0.1 mm towards the feet."""
        self._nudge(-UP)

    def nudge_left(self) -> None:
        """Move the touched point 0.1 mm to the front."""
        self._nudge(ANTERIOR)

    def nudge_right(self) -> None:
        """Move the touched point 0.1 mm to the back."""
        self._nudge(-ANTERIOR)

    def next_point(self) -> None:
        """Choose the next of the selected vertebra's six points, for the arrow keys."""
        if self.selected:
            index = self.touched[1] + 1 if self.touched and self.touched[0] == self.selected else 0
            self.touched = self.selected, index % len(POINT_NAMES)
            self.face.changed()

    def to_plane(self) -> None:
        """Move the six points of the selected vertebra into the sagittal plane that is shown."""
        if self.selected:
            straight = self.study.vertebrae[self.selected].straight()
            straight[..., 0] = self.viewpoint.lateral
            self._open_editor.set_points(self.selected, self.study.straightening.to_patient(straight))

    def not_assessable(self, reason: str, level: str | None = None) -> None:
        """Say that the selected vertebra, or `level`, is not assessable; its points are deleted. VFQError `bad_labels`.

        Undo brings the points back.
        """
        annotation, selected = self.annotation, self.selected
        assert annotation
        own = self.study.vertebrae[selected].details["level"] if selected else None
        if selected and (own is None or level in (None, "", own)):
            seconds, center = annotation.watch.seconds(selected), self._place_of(selected)
            annotation.mark(reason, own or level, annotation.comments.get(selected, ""), seconds=seconds, center=center)
            self._remove_assessed()
        else:
            if level in {v.details["level"] for v in self.study.vertebrae.values()}:
                raise VFQError("bad_labels", f"{level} has key points. Select it, and give the reason again.")
            annotation.mark(reason, level)
            self._changed()

    def _place_of(self, vertebra_id: str) -> np.ndarray | None:
        """Return where a vertebra that is not assessable is kept to be; an annotation keeps its level alone."""
        return None

    def _remove_assessed(self) -> None:
        self.delete()

    def remove_reason(self, level: str) -> None:
        """Remove the entry of a level that is not assessable."""
        assert self.annotation
        self.annotation.unmark(level)
        self._changed()

    def comment(self, text: str) -> None:
        """Set the comment on the selected vertebra."""
        if self.annotation and self.selected:
            self.annotation.comments[self.selected] = text.strip()
            self._noted()

    def comment_case(self, text: str) -> None:
        """Set the comment on the case."""
        if self.annotation:
            self.annotation.comment = text.strip()
            self._noted()

    def _noted(self) -> None:
        assert self.annotation
        self.annotation.changed = True
        self.face.changed()
        self.face.acted()

    def _touch(self, point: np.ndarray, straightened: bool) -> None:
        found = []
        for vertebra_id, markups in self.study.vertebrae.items():
            points = outline(markups.straight() if straightened else markups.keypoints())
            apart = np.linalg.norm((points - point)[:, 1:], axis=1)  # seen from the side
            found.append((float(apart.min()), (vertebra_id, int(apart.argmin()))))
        if found and min(found)[0] < TOUCHED_MM:
            self.touched = min(found)[1]

    def _nudge(self, by: np.ndarray) -> None:
        if self.clicking.mode == "place":
            self.clicking.move_last(by)
            self.face.render()
        elif self.touched and self.touched[0] == self.selected:
            vertebra_id, index = self.touched
            straight = outline(self.study.vertebrae[vertebra_id].straight())
            straight[index] += by
            moved = outline(self.study.vertebrae[vertebra_id].keypoints())
            moved[index] = self.study.straightening.to_patient(straight[index])
            self._open_editor.set_points(vertebra_id, from_outline(moved))
        elif self.selected:
            self.next_point()
            self.face.tell("Arrow keys move the chosen point by 0.1 mm. Click a point, or press q, to choose another.")

    def _add(self, points: np.ndarray) -> None:
        super()._add(points)
        self._placed(automatic=True)

    def _place(self, points: np.ndarray) -> None:
        before = set(self.study.vertebrae)
        super()._place(points)
        if self.selected and self.selected not in before:
            self.touched = self.selected, POINT_NAMES.index(self.clicking.points_order[-1])
            self._placed()
            self._name_placed(self.selected)

    def _name_placed(self, vertebra_id: str) -> None:
        wanted, follows = self.wanted, self.study.vertebrae[vertebra_id].details["level"]
        self.wanted = None
        if wanted and wanted != follows:
            self._open_editor.name(vertebra_id, wanted)
            if follows:
                self.face.tell(
                    f"It is {wanted}, as you chose; {follows} would follow from its neighbours. Look at both."
                )

    def _placed(self, automatic: bool = False) -> None:
        if self.annotation and self.selected:
            keypoints = self.study.vertebrae[self.selected].keypoints()
            self.annotation.placed(self.selected, keypoints, automatic)
            self.annotation.changed = True
            self.face.changed()
            self.face.acted()

    def _changed(self) -> None:
        if self.annotation:
            self.annotation.changed = True
        super()._changed()
        gone = self.annotation.clashes(self.study) if self.annotation else []
        if gone:
            self.face.changed()
            self.face.tell(f"{', '.join(gone)}: has key points now, so the entry that it is not assessable is removed.")


class AnnotationReview(Review):
    """The annotation by one reader, of one case of a label set after the other.

    Attributes
    ----------
    annotation : the reading that is open; None while none is.
    elsewhere : the file with what could not be saved of the reading that was closed last; None if all was.
    """

    actions_type = AnnotationActions
    elsewhere: Path | None = None

    def __init__(self, study: StudyScene, face: Face, who: str):
        self.annotation: Annotation | None = None
        self._scratch: TemporaryDirectory[str] | None = None
        super().__init__(study, face, who)
        study.show_colors("plain", numbers=False)

    def begin(self, dataset: Dataset, begun: Begun, models: Models | VFQError) -> None:
        """Show a reading. VFQError as `open`; nothing is open then."""
        self._scratch = TemporaryDirectory(prefix="vfq-annotate-", ignore_cleanup_errors=True)
        self.annotation = self._own.annotation = Annotation(dataset, begun)
        self._own.clicking.points_order = dataset.points_order
        self.open(begun.prepared, Path(self._scratch.name) / "journal", models)
        waiting = self.annotation.waiting(self.study)
        self.select(next(iter((*waiting, *self.study.order)), None))  # never the worst one first
        self._tell_version(begun.reading)

    def _tell_version(self, reading: LabelReading) -> None:
        if reading.version > 1 and reading.revision == 0:
            self.face.tell(
                f"Version {reading.version - 1} of this reading is final and stays. What you change becomes version "
                f"{reading.version}."
            )

    def touch(self) -> None:
        """Count the time since the last act for the vertebra that was worked on."""
        if self.annotation and self.editor:
            self.annotation.touch(self.study, self.mode)

    @property
    def point(self) -> str:
        """The name of the point that arrow keys move; "" if none is chosen."""
        touched = self._own.touched
        return POINT_NAMES[touched[1]] if touched and touched[0] == self.selected else ""

    @property
    def placing(self) -> str:
        """What to click next while six points are placed: the point, its number, and the level if it was chosen."""
        count, wanted = min(self.clicks, len(POINT_NAMES) - 1), self._own.wanted
        return f"Next: {self.following} ({count + 1} of {len(POINT_NAMES)}){f' of {wanted}' if wanted else ''}"

    def drafting(self, state: str = "draft") -> Callable[[], LabelReading] | None:
        """Return a function, for any thread, that saves the reading and returns it; None if nothing was changed.

        The function raises VFQError as `labels.store.save`; then call `unsaved`. Give what it returns to `saved`.
        """
        annotation, editor = self.annotation, self.editor
        if annotation is None or editor is None:
            return None
        reading = annotation.reading
        begun = reading.revision > 0 and editor.journal.trail()  # then the time has gone on
        again = reading.revision == 0 and reading.version > 1  # an untouched correction
        if not annotation.changed and (again or not (begun or state == "final")):
            return None
        self.touch()
        annotation.changed = False
        reading = replace(annotation.now(self.study), state=state)
        record = annotation.remaining(self.study, self.study.analysis())
        dataset, folder = annotation.dataset, work_folder(annotation.dataset, _slot(reading))

        def write() -> LabelReading:
            """Save the reading, then what the next opening needs."""
            written = save(dataset, reading)
            keep_record(folder, record)
            return written

        return write

    def saved(self, reading: LabelReading) -> None:
        """Continue with a reading as it is on disk; after a final one, with its correction."""
        assert self.annotation
        if reading.state == "final":
            reading = correction(reading)
        self.annotation.reading = reading

    def unsaved(self) -> None:
        """The reading is not on disk yet: the next `drafting` saves it."""
        if self.annotation:
            self.annotation.changed = True

    def check_complete(self) -> str:
        """Return what to ask the reader before the reading becomes final; "" if nothing is in doubt.

        VFQError `reading_incomplete` while first points wait for the reader.
        """
        assert self.annotation
        waiting = [self.study.label(i) for i in self.annotation.waiting(self.study)]
        if waiting:
            raise VFQError(
                "reading_incomplete",
                f"Not finished yet. Accept (c), correct or delete the proposed points of {', '.join(waiting)}.",
            )
        told = []
        if missing := self.annotation.missing(self.study):
            told.append(f"The protocol asks for {', '.join(missing)}, which have neither points nor a reason.")
        if not self.annotation.now(self.study).labels:
            told.append("No vertebra is labelled.")
        if unnamed := [self.study.label(i) for i in self.study.order if not self.study.vertebrae[i].details["level"]]:
            told.append(f"{', '.join(unnamed)} have no level.")
        return " ".join(told)

    def close(self, keep_nodes: bool = False) -> None:
        """Close the reading; save before. What could not be saved is written to `elsewhere`."""
        self.elsewhere = self._kept_elsewhere()
        super().close(keep_nodes)
        self.annotation = self._own.annotation = None
        if self._scratch:
            self._scratch.cleanup()
            self._scratch = None

    def _kept_elsewhere(self) -> Path | None:
        """Write what the label set refused to another file, and return it; None if all is saved."""
        annotation = self.annotation
        if annotation is None or self.editor is None or not annotation.changed:
            return None
        reading = annotation.now(self.study)
        name = f"unsaved-{reading.case}-{now().replace(':', '')}.json"
        for folder in (work_folder(annotation.dataset, _slot(reading)), Path(gettempdir())):
            with suppress(OSError, VFQError):
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / name, to_json(reading))
                return folder / name
        raise VFQError("output_not_writable", f"{reading.case}: the draft can be saved nowhere. Free some disk space.")

    @property
    def _own(self) -> AnnotationActions:
        assert isinstance(self._actions, AnnotationActions)
        return self._actions


def _slot(reading: LabelReading) -> tuple[str, str, int]:
    return reading.reader, reading.case, reading.session
