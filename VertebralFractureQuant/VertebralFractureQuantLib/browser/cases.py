"""Loading cases for the page: a child process analyses new cases, a thread reads and straightens them.

The next case is loaded while the reader reviews the current one.
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
    """Analyses and reads cases, and keeps the current one and its neighbours in memory.

    Parameters
    ----------
    device : where the networks run: "auto", "cpu", "cuda" or "mps".
    progress : called with a case and the state of its running analysis.
    analyses : for a case's name, an analysis file outside its folder.
    trust_header : the user vouches for the headers of the scans.
    weights : folder of the networks, see `analysis.load_models`.
    """

    def __init__(
        self,
        device: str,
        progress: Callable[[Case, JobState], None],
        analyses: dict[str, Path] | None = None,
        trust_header: bool = False,
        weights: Path | None = None,
    ):
        self.weights = weights
        self._device = device
        self._trust_header = trust_header
        self._progress = progress
        self._analyses = analyses or {}
        self._tasks: dict[str, asyncio.Task[Prepared]] = {}
        self._jobs: dict[str, AnalysisJob] = {}

    async def get(self, case: Case) -> Prepared:
        """Return the loaded case; load it first if necessary. VFQError if it cannot be loaded."""
        self.prefetch(case)
        task = self._tasks[case.name]
        try:
            return await task
        except (VFQError, asyncio.CancelledError):
            self._tasks.pop(case.name, None)
            raise

    def prefetch(self, case: Case) -> None:
        """Start loading a case, unless it is loaded or loading."""
        if case.name not in self._tasks:
            self._tasks[case.name] = asyncio.get_running_loop().create_task(self._make(case))
            self._tasks[case.name].add_done_callback(_seen)

    def keep(self, cases: list[Case]) -> None:
        """Drop all other cases and cancel their running analyses."""
        wanted = {case.name for case in cases}
        for name in set(self._tasks) - wanted:
            self.cancel(name)
            self._tasks.pop(name).cancel()

    def cancel(self, name: str) -> bool:
        """Cancel the analysis of a case. Returns True if one was running."""
        job = self._jobs.get(name)
        if job:
            job.cancel()
        return job is not None

    def close(self) -> None:
        """Drop all cases and cancel their analyses."""
        self.keep([])

    async def _make(self, case: Case) -> Prepared:
        given = self._analyses.get(case.name)
        if given is None and not (case.folder / "analysis.json").exists():
            await self._analyze(case)
        return await asyncio.to_thread(read_study, case.source, case.folder, case.name, given, case.files)

    async def _analyze(self, case: Case) -> None:
        command = analysis_command(
            case.source,
            case.folder.parent,
            case.name,
            self._device,
            sys.executable,
            trust_header=self._trust_header,
            weights=self.weights,
        )
        job = AnalysisJob(command)
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
            raise VFQError("cancelled", "The analysis was cancelled. Open the case again to restart it.")
        if state.status == "failed" and state.code not in RESCUABLE:
            raise VFQError(state.code or "internal_error", state.message)


def _seen(task: asyncio.Task[Prepared]) -> None:
    """Mark a failure as handled; it is reported when the reader opens the case."""
    if not task.cancelled():
        task.exception()
