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

from ..analysis import Models
from ..errors import VFQError
from ..labels.dataset import Dataset
from ..labels.files import write_json
from ..labels.reading import LabelReading, correction, now, to_json
from ..labels.store import save, work_folder
from ..report.markups import POINT_NAMES
from .annotating import Annotation
from .annotation_actions import AnnotationActions
from .annotation_start import Begun, keep_record
from .face import Face
from .review import Review
from .study import StudyScene


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

    @property
    def next_level(self) -> str | None:
        """The level that is proposed for the next vertebra; None without a proposal, and while no case is open."""
        return self.annotation.next_level(self.study) if self.annotation and self.editor else None

    @property
    def levels_left(self) -> list[str]:
        """The levels that can be chosen for the next vertebra: of the protocol, or any for a first vertebra."""
        if self.annotation is None or self.editor is None:
            return []
        named = any(self.study.vertebrae[i].details["level"] for i in self.study.order)
        offered = bool(self.annotation.dataset.protocol.get("levels")) or not named
        return self.annotation.levels_left(self.study) if offered else []

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

    def saving(self) -> Callable[[], str]:
        """Return a function that saves the draft, as `Review.saving`; what is refused is kept when the case closes."""
        write = self.drafting()

        def save() -> str:
            """Save the draft; return why it could not be saved, or ""."""
            try:
                if write:
                    self.saved(write())
            except VFQError as error:
                self.unsaved()
                return error.message
            return ""

        return save

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
