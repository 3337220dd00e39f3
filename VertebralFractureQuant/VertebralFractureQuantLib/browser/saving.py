"""Saving the files of the open case while it is reviewed: soon after each action, and again if that fails.

The journal already holds each action; these are the files that other programs read.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..cohort.worklist import Case
from ..scene.review import Review

SAVE_AFTER_S = 0.5
RETRY_S = 5.0


class Shown(Protocol):
    """Where the result of a save is shown; `current` is the case that is open."""

    current: Case | None

    def show_saved(self, case: Case, problem: str) -> None:
        """Show that the files of a case were written, or why they were not (`problem`)."""


class Autosave:
    """Writes the files of the review's open case, one write at a time, and shows the result on the page."""

    def __init__(self, review: Review, worklist: Shown):
        self.review = review
        self.worklist = worklist
        self.task: asyncio.Task[None] | None = None
        self._dirty = False  # actions arrived after the last save started
        self._writing = asyncio.Lock()

    def soon(self) -> None:
        """Save after a short delay; further actions until then are saved with it."""
        self._dirty = True
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._save_later())

    async def now(self, case: Case) -> str:
        """Write the files of `case`, the open case. Returns why they could not be written, or ""."""
        async with self._writing:
            self._dirty = False
            if self.review.editor is None:  # it was saved and closed in the meantime
                return ""
            problem = await asyncio.to_thread(self.review.saving())
        self._dirty = self._dirty or bool(problem)
        self.worklist.show_saved(case, problem)
        return problem

    async def _save_later(self) -> None:
        await asyncio.sleep(SAVE_AFTER_S)
        while self.worklist.current and self._dirty:
            if await self.now(self.worklist.current):
                await asyncio.sleep(RETRY_S)
