"""The cases of a reader on the annotation page: loading them, their state in the worklist, and saving drafts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from ..analysis import Models, load_models
from ..cohort.jobs import JobState
from ..cohort.worklist import Case, CaseStatus
from ..errors import VFQError, as_coded
from ..labels.dataset import Dataset
from ..labels.reading import LabelReading
from ..labels.store import Slot, newest
from ..scene.annotation_review import AnnotationReview
from ..scene.annotation_start import load_case
from ..scene.opening import Prepared
from .cases import CaseLoader
from .worklist import Worklist

RETRY_S = 5.0
FINDING = "finding the spine"


class AnnotationLoader(CaseLoader):
    """Reads cases of a label set, and finds their spines, in threads.

    Parameters
    ----------
    dataset, slots : the label set, and the reading of each case by its name in the worklist.
    device : where the networks run.
    progress : called with a case and what is being done.
    """

    def __init__(
        self, dataset: Dataset, slots: Mapping[str, Slot], device: str, progress: Callable[[Case, JobState], None]
    ):
        super().__init__(device, progress)
        self._dataset, self._slots = dataset, slots
        self._models: Models | VFQError | None = None
        self._loading = Lock()

    async def _make(self, case: Case) -> Prepared:
        self._progress(case, JobState("running", stage=FINDING))
        return await asyncio.to_thread(self._load, case)

    def _load(self, case: Case) -> Prepared:
        return load_case(self._dataset, self._slots[case.name], self._networks())

    def _networks(self) -> Models | VFQError:
        with self._loading:
            if self._models is None:
                try:
                    self._models = load_models(self._device)
                except VFQError as error:
                    self._models = error
            return self._models


class AnnotationList(Worklist):
    """The worklist of a reader. `dataset` and `slots` are as in `AnnotationLoader`; set them before use."""

    dataset: Dataset
    slots: Mapping[str, Slot]

    def __init__(self, state: Any, cases: Sequence[Case], show_names: bool, reader: str = ""):
        super().__init__(state, cases, show_names, reader)

    def status(self, index: int) -> CaseStatus:
        """Return the state of a reading on disk."""
        try:
            found = newest(self.dataset, self.slots[self.cases[index].name])
        except VFQError as error:
            status = CaseStatus("failed", error.code, error.message)
        else:
            state: Any = "ready" if found is None else "reviewed" if found.state == "final" else "in review"
            status = CaseStatus(state, readers=(self.reader,))
        self._known[index] = None, status
        return status


class DraftSaver:
    """Saves the draft of the open reading after each act, one save at a time, and shows the result on the page."""

    def __init__(self, review: AnnotationReview, worklist: Worklist):
        self.review = review
        self.worklist = worklist
        self.task: asyncio.Task[None] | None = None
        self._dirty = False
        self._writing = asyncio.Lock()

    def soon(self) -> None:
        """Save at once, in a thread; acts that come while a save is running are saved after it."""
        self._dirty = True
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._save())

    async def now(self, case: Case) -> str:
        """Save the draft of `case`, the open one. Returns why it could not be saved, or ""."""
        try:
            await self.write("draft")
            problem = ""
        except Exception as error:
            problem = as_coded(error).message
        self.worklist.show_saved(case, problem)
        return problem

    async def write(self, state: str) -> LabelReading | None:
        """Save the reading as a draft or as final; return it as it is on disk. VFQError as `labels.store.save`."""
        async with self._writing:
            self._dirty = False
            write = self.review.drafting(state)
            if write is None:
                return None
            try:
                reading = await asyncio.to_thread(write)
            except Exception:
                self._dirty = True
                self.review.unsaved()
                raise
            self.review.saved(reading)
            return reading

    async def _save(self) -> None:
        while self.worklist.current and self._dirty:
            if await self.now(self.worklist.current):
                await asyncio.sleep(RETRY_S)
