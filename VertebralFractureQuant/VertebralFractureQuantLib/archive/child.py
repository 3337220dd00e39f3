"""A child process that does one task after another, so that a crash in one does not end the listener.

It keeps what it has loaded, such as networks, from task to task. It ends when its parent does, however that dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeVar

from ..dicom.source import silenced
from ..errors import VFQError, as_coded

Task = TypeVar("Task")
Result = TypeVar("Result")

POLL_S, KILL_WAIT_S = 0.2, 5.0
LONGEST_S = 3600.0  # a task that takes longer hangs
INTERRUPTED = 130


class Child(Generic[Task, Result]):
    """A process that calls `work(task)`; it is started with the first task, and again after it died.

    work : a function of a module, which the child imports; may raise VFQError.
    """

    def __init__(self, work: Callable[[Task], Result]):
        self._work = work
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._stopped = False

    def run(self, task: Task) -> Result:
        """Do one task. VFQError: as `work`, or `child_died` if the process died or took longer than an hour."""
        pipe = self._started()
        try:
            pipe.send(task)
            deadline = time.monotonic() + LONGEST_S
            while not pipe.poll(POLL_S):
                if time.monotonic() > deadline:
                    self._kill()
            done, answer = pipe.recv()
        except (EOFError, OSError) as error:
            self._kill()
            raise VFQError(
                "child_died", "The process that analyses ended unexpectedly. A common cause is lack of memory."
            ) from error
        if not done:
            raise VFQError(*answer)
        result: Result = answer
        return result

    def stop(self) -> None:
        """Kill the process; a task that is running fails, and no other is started."""
        self._stopped = True
        self._kill()

    @property
    def stopped(self) -> bool:
        """True after `stop`."""
        return self._stopped

    def _started(self) -> Connection:
        if self._stopped:
            raise VFQError("cancelled", "The listener is ending.")
        if self._pipe is None or self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(KILL_WAIT_S)


def _serve(pipe: Connection, work: Callable[[Task], Result]) -> None:
    """Do the tasks that come through the pipe until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all processes; the parent ends this one
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    with silenced():
        while True:
            try:
                task = pipe.recv()
            except (EOFError, OSError):
                return
            try:
                answer: tuple[bool, object] = True, work(task)
            except Exception as error:
                failure = as_coded(error)
                answer = False, (failure.code, failure.message)
            pipe.send(answer)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(INTERRUPTED)
