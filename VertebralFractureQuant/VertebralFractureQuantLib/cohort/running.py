"""The run of a cohort: the scans that are still to be measured go to a crew, and each result goes into the state.

A scan whose worker died is tried once more, alone, after the others; if the worker dies again, that is the scan's
result. Everything else that is lost is repeated.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .. import __version__
from ..errors import VFQError
from ..report.outputs import REVIEW_NAMES, check_writable
from .crew import Crew, Ended
from .state import WAITING, CohortState, Known
from .studies import NOT_OF_THE_SCAN, OF_THE_FOLDER
from .work import CASES, Finished, Settings, Task

LOOK_S = 0.5
LEAST_FREE = 50_000_000  # bytes: the outputs of a few cases
LEFT_OVER = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(partial|probe|old)")
DEATHS = ("worker_died", "scan_changed", "versions_differ")
REPEATED = (*NOT_OF_THE_SCAN, *OF_THE_FOLDER, *DEATHS)  # failures that another run may not have
SUSPECT = 2  # attempts without an end, after which a scan is tried alone
# Failures that all scans would have.
STOPS = ("versions_differ", "missing_dependency", "bad_weights", "no_method_weights", "no_device")
DIED = VFQError(
    "worker_died",
    "The worker that had the scan died, also when it had no other one. Memory may have run out: use a computer with "
    "more memory, or a crop of the scan.",
)
NO_MEMORY = VFQError(
    "out_of_memory",
    "The worker that had the scan ran out of memory, also when it had no other one. Use fewer workers, a computer with "
    "more memory, or a crop of the scan.",
)


def to_do(state: CohortState, settings: Settings, again: bool = False) -> list[Task]:
    """Return the tasks of the cases that have no result, or one that may no longer hold.

    A result holds as long as the scan, the networks and the options are the same. Of a scan that only seems changed, as
    its files have other times, the content decides later (`Task.known`). The result of a case that has a review holds
    for all networks and options.

    again : measure all again.
    """
    tasks = []
    cases = state.folder / CASES
    for known in state.planned():
        if known.problem:
            continue
        there = known.status != "ok" or os.path.exists(os.path.join(cases, known.name, "analysis.json"))
        holds = there and _has_result(known) and (known.settings == settings.key and not again)
        holds = holds or (known.status == "ok" and is_reviewed(cases / known.name))
        if not (holds and known.read_signature == known.signature):
            content = known.content if holds else None
            tasks.append(Task(known.name, known.path, known.files, content, known.begun >= SUSPECT))
    return tasks


def is_reviewed(folder: Path) -> bool:
    """True if the folder of a case holds a review, so that it is never replaced."""
    return any((folder / name).exists() for name in REVIEW_NAMES)


def _has_result(known: Known) -> bool:
    return known.status != WAITING and known.status not in REPEATED


def sweep(cases: Path) -> None:
    """Delete what killed workers left beside the folders of the cases; a folder that was moved away is moved back."""
    if not cases.is_dir():
        return
    for path in list(cases.iterdir()):
        found = LEFT_OVER.fullmatch(path.name)
        if found and found[2] == "old" and not (cases / found[1]).exists():
            path.rename(cases / found[1])
        elif found:
            shutil.rmtree(path, ignore_errors=True)


def run_tasks(
    state: CohortState,
    tasks: Iterable[Task],
    crew: Crew,
    settings: Settings,
    tell: Callable[[Finished], None] = lambda done: None,
) -> None:
    """Measure all tasks, and store each result when it is there.

    tell : is called with each result.
    VFQError that ends the run: one of `STOPS`, `output_not_writable` if nothing can be written any more,
    `no_scheduler`; finished cases are kept.
    """
    _Run(state, crew, settings, tell, tasks).run()


class _Run:
    """The tasks that wait, those that wait to be tried alone, and those under way."""

    def __init__(
        self,
        state: CohortState,
        crew: Crew,
        settings: Settings,
        tell: Callable[[Finished], None],
        tasks: Iterable[Task],
    ):
        self.state, self.crew, self.settings, self.tell = state, crew, settings, tell
        tasks = list(tasks)
        self.waiting = deque(task for task in tasks if not task.alone)
        self.suspects = deque(task for task in tasks if task.alone)
        self.flying: dict[str, Task] = {}

    def run(self) -> None:
        """Go on until no task is left. What has ended when the user interrupts the run is kept."""
        try:
            while self.waiting or self.suspects or self.flying:
                self._fill()
                self._take_all(LOOK_S)
        except KeyboardInterrupt:
            self._take_all(0.0)
            for case in self.flying:
                self.state.put_back(case)
            raise

    def _take_all(self, timeout_s: float) -> None:
        for ended in self.crew.wait(timeout_s):
            self.flying.pop(ended.task.case, None)
            self._take(ended)

    def _fill(self) -> None:
        window = self.crew.window
        while self.waiting and len(self.flying) < window:
            self._submit(self.waiting.popleft())
        alone = any(task.alone for task in self.flying.values())
        if self.suspects and not alone:  # one at a time: a death then says which scan it was
            self._submit(self.suspects.popleft())

    def _submit(self, task: Task) -> None:
        self.state.begin(task.case)
        self.flying[task.case] = task
        self.crew.submit(task)

    def _take(self, ended: Ended) -> None:
        if ended.finished:
            self._store(ended.task, ended.finished)
        elif ended.loss == "lost":
            self.state.put_back(ended.task.case)
            (self.suspects if ended.task.alone else self.waiting).appendleft(ended.task)
        elif ended.task.alone:
            why = NO_MEMORY if ended.loss == "memory" else DIED
            self._store(ended.task, Finished(ended.task.case, why.code, why.message))
        else:
            self.state.count_death(ended.task.case)
            self.suspects.append(replace(ended.task, alone=True))

    def _store(self, task: Task, done: Finished) -> None:
        if done.status in STOPS:
            self.state.put_back(task.case)
            raise VFQError(done.status, done.message)
        if done.status == "output_not_writable":
            self.state.put_back(task.case)
            self._check_disk()
        self.state.finish(done, self.settings.key, __version__)
        self.tell(done)

    def _check_disk(self) -> None:
        """End the run if the folder cannot be written: every further scan would fail for the same reason."""
        with suppress(VFQError):
            check_writable(self.state.folder / CASES)
            if shutil.disk_usage(self.state.folder).free > LEAST_FREE:
                return
        raise VFQError(
            "output_not_writable",
            f"{self.state.folder.name}: the disk is full, or the folder can no longer be written. Free some space, "
            "then run the same command again: finished cases are kept.",
        )
