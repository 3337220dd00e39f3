"""Who measures the scans of a cohort: threads of this process here, or the workers of dask (`dask_crew`).

A crew gets tasks and gives back how each ended: finished, or not, as its worker died or the connection was lost.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from .work import MOST_SCANS, Finished, Settings, Task, work_on

Loss = Literal["died", "memory", "lost"]  # the worker died, its memory ran out, or the scheduler was lost


@dataclass(frozen=True)
class Ended:
    """The end of a task: its result, or how it was lost."""

    task: Task
    finished: Finished | None = None
    loss: Loss | None = None


class Crew(Protocol):
    """Workers that measure scans."""

    @property
    def window(self) -> int:
        """The number of tasks that may be under way: enough to keep all busy, few enough to be remembered."""

    def submit(self, task: Task) -> None:
        """Give a task to the workers."""

    def wait(self, timeout_s: float) -> list[Ended]:
        """Return the tasks that have ended since the last call; wait for one, but not longer than `timeout_s`."""

    def close(self) -> None:
        """End all work, also that which is under way."""


class ThreadCrew:
    """Two threads of this process: one scan is read while the other one is measured. It needs no dask.

    work : measures one scan; a test or a benchmark replaces it.
    """

    def __init__(self, settings: Settings, work: Callable[[Task, Settings], Finished] = work_on):
        self._settings, self._work = settings, work
        self._threads = ThreadPoolExecutor(MOST_SCANS)
        self._ended: queue.SimpleQueue[tuple[Task, Future[Finished]]] = queue.SimpleQueue()
        self.window = MOST_SCANS

    def submit(self, task: Task) -> None:
        """See `Crew`."""
        future = self._threads.submit(self._work, task, self._settings)
        future.add_done_callback(lambda done: self._ended.put((task, done)))

    def wait(self, timeout_s: float) -> list[Ended]:
        """See `Crew`."""
        ended = []
        try:
            ended.append(self._ended.get(timeout=timeout_s))
            while True:
                ended.append(self._ended.get_nowait())
        except queue.Empty:
            return [Ended(task, done.result()) for task, done in ended]

    def close(self) -> None:
        """Wait for the scans that are being measured; the others are not begun."""
        self._threads.shutdown(cancel_futures=True)
