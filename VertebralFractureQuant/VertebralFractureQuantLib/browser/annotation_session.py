"""The session of the annotation page: a reader's readings of a label set, one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis import Models
from ..cohort.worklist import Case
from ..errors import VFQError
from ..labels.dataset import Dataset
from ..labels.store import Slot
from ..scene.annotation_keys import ANNOTATION_ACTIONS, REASON_KEYS
from ..scene.annotation_start import ASSISTED, begin
from ..scene.opening import Prepared
from .annotation_cases import AnnotationList, AnnotationLoader, DraftSaver
from .annotation_face import ANNOTATION_STATE, AnnotationFace
from .kept import Kept
from .serve import Settings
from .session import CLOSING, Session
from .views import ReviewViews

OWN = ("next_case", "previous_case", "next_open", "toggle_help", "cancel", "show_case")
ANNOTATING = ("complete_reading", "ask_reason", "give_reason")
ASKED_S = 20.0  # a second press of "complete" counts as the answer for this long


class AnnotationSession(Session):
    """One reader's annotation of a label set. The page calls its public methods.

    Parameters
    ----------
    server, views, cases, settings : as in `Session`; the reader is `settings.who`.
    dataset, slots : the label set, and the reading of each case by its name in the worklist.
    """

    face: AnnotationFace
    worklist: AnnotationList
    face_type = AnnotationFace
    worklist_type = AnnotationList
    loader_type = AnnotationLoader
    key_actions = ANNOTATION_ACTIONS

    def __init__(
        self,
        server: Any,
        views: ReviewViews,
        cases: Sequence[Case],
        settings: Settings,
        dataset: Dataset,
        slots: Mapping[str, Slot],
    ):
        loader = self.loader_type(dataset, slots, settings.device, self.progress)
        server.state.update(ANNOTATION_STATE)
        super().__init__(server, views, cases, loader, settings.who, settings.show_names, Kept())
        self.dataset, self.slots = dataset, slots
        self.worklist.dataset, self.worklist.slots = dataset, slots
        self.review = self.face.review
        self.saver = DraftSaver(self.face.review, self.worklist)
        self.autosave = self.saver  # type: ignore[assignment]
        self.face.on_acted = self.saver.soon
        self._own = {name: getattr(self, name) for name in (*OWN, *ANNOTATING)}
        self._own["write_key"] = self.signing.write_key
        self._asked: tuple[str, float] = ("", 0.0)
        self._tabs = 0
        self.state.update({"protocol": str(dataset.protocol.get("text", "")), "reader": settings.who})

    async def open_first(self) -> None:
        """Open the first case that is not final; else the first one."""
        states = [self.worklist.status(i).state for i in range(len(self.worklist.cases))]
        await self.open_case(next((i for i, state in enumerate(states) if state != "reviewed"), 0))

    async def close_case(self) -> str:
        """Save and close the open reading; return where a draft is that the label set refused, or ""."""
        stale = await super().close_case()
        kept = self.face.review.elsewhere
        return f"{stale} What you did is in {kept}. Bring it in with vfq dataset import." if stale and kept else stale

    def _open_reading(self, case: Case, prepared: Prepared, chosen: Path | None) -> None:
        with self.state:
            self.state.update({name: ANNOTATION_STATE[name] for name in ("reason_open", "reason_level")})
            self._begin(self.slots[case.name], prepared)
            self._show_left()

    def _begin(self, slot: Slot, prepared: Prepared) -> None:
        self.face.review.begin(self.dataset, begin(self.dataset, slot, prepared), self.networks())

    def networks(self) -> Models | VFQError:
        """Return the networks; none in a blinded protocol."""
        if self.dataset.protocol["mode"] != ASSISTED:
            return VFQError("blinded_protocol", "This reading is blinded. Place the six points by hand (b).")
        return super().networks()

    def _show_left(self) -> None:
        states = [self.worklist.status(i).state for i in range(len(self.worklist.cases))]
        done = states.count("reviewed")
        self.state.left_to_read = f"Case {self.worklist.at + 1} of {len(states)}; {done} complete"

    def tabs_changed(self, count: int, gone: bool) -> None:
        """Show how many tabs are open; time counts only while one is."""
        before, self._tabs = self._tabs, count
        super().tabs_changed(count, gone)
        annotation = self.face.review.annotation
        if annotation and not count:
            annotation.watch.pause()
        elif annotation and not before:
            annotation.watch.start()
            self.face.review.touch()

    def press(self, key: str) -> None:
        """Call the action of a key in `annotation_keys`; while a reason is asked for, its letter gives it."""
        if self.state.reason_open and key in REASON_KEYS:
            self.act("give_reason", REASON_KEYS[key])
            return
        action = self.key_actions.get(key)
        over = [closing for dialog, closing in CLOSING.items() if self.state[dialog]]
        if action and (not over or action in ("cancel", *over)):
            self.act(action)

    def cancel(self) -> None:
        """Leave the click mode and the choice of a reason, close messages and dialogs."""
        self.state.reason_open = False
        super().cancel()

    def ask_reason(self) -> None:
        """Ask why the selected vertebra, or another level, is not assessable."""
        if self.review.editor:
            self.review.cancel()
            selected = self.review.selected
            level = self.review.study.vertebrae[selected].details["level"] if selected else None
            self.state.update({"reason_open": True, "reason_level": level})

    def give_reason(self, reason: str) -> None:
        """Give the reason that was asked for. Errors are shown on the page."""
        level = self.state.reason_level
        self.state.reason_open = False
        self.review.act("not_assessable", reason, level)

    def complete_reading(self) -> None:
        """Make the reading final, and open the next case; pressed twice if something is in doubt.

        VFQError `reading_incomplete`.
        """
        if not self.review.editor or self.state.busy:
            return
        told = self.face.review.check_complete()
        asked, at = self._asked
        self._asked = (told, time.monotonic())
        if told and (asked != told or time.monotonic() - at > ASKED_S):
            self.face.tell(f"{told} Press e again to finish the reading as it is.")
            return
        self._asked = ("", 0.0)
        self.state.busy = {"stage": "saving the reading", "share": None}  # a second press does nothing
        asyncio.get_running_loop().create_task(self._complete())

    async def _complete(self) -> None:
        name = self.worklist.name(self.worklist.at)
        try:
            await self.saver.write("final")
        except Exception as error:
            self.face.tell(error)
            return
        finally:
            with self.state:
                self.state.busy = None
        following = self.worklist.next_open()
        with self.state:
            self.state.unsaved = ""
            self._show_left()
        if following is None:
            self.face.tell(f"{name} is complete. No other case is left to be read.")
        else:
            await self.open_case(following)
            self.face.tell(f"{name} is complete.")
