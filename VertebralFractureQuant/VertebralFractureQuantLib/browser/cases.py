"""Cases on their way to the page: analysed in a child process where they were not yet, then read and straightened in a
thread, the next one while the present one is being reviewed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from ..cohort.jobs import AnalysisJob, JobState, analysis_command
from ..cohort.worklist import Case
from ..errors import VFQError
from ..scene.opening import RESCUABLE, Prepared, read_study

POLL_S = 0.1


class CaseLoader:
    """Analyses and reads cases, and keeps the few that are asked for: the present one and its neighbours."""

    def __init__(
        self, device: str, progress: Callable[[Case, JobState], None], analyses: dict[str, Path] | None = None
    ):
        self._device = device
        self._progress = progress
        self._analyses = analyses or {}
        self._tasks: dict[str, asyncio.Task[Prepared]] = {}
        self._jobs: dict[str, AnalysisJob] = {}

    async def get(self, case: Case) -> Prepared:
        """The case, made ready now if it was not before. VFQError where it cannot be."""
        self.prefetch(case)
        task = self._tasks[case.name]
        try:
            return await task
        except (VFQError, asyncio.CancelledError):
            self._tasks.pop(case.name, None)
            raise

    def prefetch(self, case: Case) -> None:
        """Start making a case ready, unless that is under way."""
        if case.name not in self._tasks:
            self._tasks[case.name] = asyncio.get_running_loop().create_task(self._make(case))
            self._tasks[case.name].add_done_callback(_seen)

    def keep(self, cases: list[Case]) -> None:
        """Let go of all other cases; analyses of theirs that run are cancelled."""
        wanted = {case.name for case in cases}
        for name in set(self._tasks) - wanted:
            self.cancel(name)
            self._tasks.pop(name).cancel()

    def cancel(self, name: str) -> bool:
        """Stop the analysis of a case; whether one was running."""
        job = self._jobs.get(name)
        if job:
            job.cancel()
        return job is not None

    def close(self) -> None:
        """Stop all."""
        self.keep([])

    async def _make(self, case: Case) -> Prepared:
        given = self._analyses.get(case.name)
        if given is None and not (case.folder / "analysis.json").exists():
            await self._analyze(case)
        return await asyncio.to_thread(read_study, case.source, case.folder, case.name, given)

    async def _analyze(self, case: Case) -> None:
        job = AnalysisJob(analysis_command(case.source, case.folder.parent, case.name, self._device, sys.executable))
        self._jobs[case.name] = job
        try:
            while (state := job.update()).status == "running":
                self._progress(case, state)
                await asyncio.sleep(POLL_S)
        finally:
            self._jobs.pop(case.name, None)
            job.cancel()
        self._progress(case, state)
        if state.status == "cancelled":
            raise VFQError("cancelled", "The analysis was cancelled. Open the case again to start it anew.")
        if state.status == "failed" and state.code not in RESCUABLE:
            raise VFQError(state.code or "internal_error", state.message)


def _seen(task: asyncio.Task[Prepared]) -> None:
    """A failure of a case that nobody opened is told when it is opened."""
    if not task.cancelled():
        task.exception()
