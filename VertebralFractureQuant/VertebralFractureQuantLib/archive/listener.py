"""The listener: receives studies, analyses each when it is complete, and sends the results to the archive.

Threads share the queue: one looks for studies that are complete, one for reviews, one analyses, one sends. Each step
is written into the queue when it is done, so a killed listener resumes with the step that was interrupted.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..cohort.studies import NOT_OF_THE_SCAN
from ..dicom.source import silenced
from ..errors import VFQError, as_coded, meaning
from ..report.outputs import writing
from .child import Child
from .folders import Folders
from .preparing import Prepared, Task, check, new_review, prepare
from .queue import Entry, Queue, only_one
from .receiver import Log, Receiver
from .sender import Archive, send

POLL_S = 0.5
LONGEST_WAIT_S = 900.0
PATIENCE_S = 5.0  # after a step that failed, and at the end with one that waits for an answer
MOST_REFUSALS, MOST_ANALYSES = 50, 3  # attempts after which a study fails for good
# Failures that another attempt may mend, and that a restarted listener tries again.
PASSING = (*NOT_OF_THE_SCAN, "child_died", "output_not_writable")
REFUSED = "archive_refused"
LIBRARIES = ("pynetdicom", "dicomweb_client", "urllib3")  # whose logs may quote what is in a data set


@dataclass(frozen=True)
class Settings:
    """What the user asks of a listener.

    Attributes
    ----------
    task : what is done with each study; its `root` is the folder of the listener.
    title, host, port : our AE title, and where we listen.
    callers : the AE titles that may send.
    archive : where the results go.
    quiet_s : a study is complete when nothing has come for so long.
    retry_s : the wait after the first failed attempt; it doubles, up to a quarter of an hour.
    """

    task: Task
    title: str
    port: int
    callers: Sequence[str]
    archive: Archive
    host: str = "127.0.0.1"
    quiet_s: float = 30.0
    retry_s: float = 30.0


@dataclass
class Listener:
    """A listener for one folder.

    log : called with each event (name of the study or "", event or code, sentence), from several threads.
    work : prepares a study in the child process; tests replace it.
    """

    settings: Settings
    log: Log
    work: Callable[[Task], Prepared] = prepare
    _end: threading.Event = field(default_factory=threading.Event)

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Listen until `stop` is called; `ready` is called when studies are taken.

        VFQError `queue_in_use`, `not_a_queue`, `port_in_use`, `output_not_writable`, `missing_dependency`,
        `bad_template`.
        """
        check(self.settings.task)
        folders = Folders(self.settings.task.root)
        with writing(folders.root):
            folders.root.mkdir(parents=True, exist_ok=True)
        with only_one(folders.lock), silenced(*LIBRARIES):
            with writing(folders.root):
                folders.prepare()
            queue = Queue(folders.queue)
            try:
                self._listen(folders, queue, ready)
            finally:
                queue.close()

    def stop(self) -> None:
        """End `run`, from any thread or a signal handler."""
        self._end.set()

    def _listen(self, folders: Folders, queue: Queue, ready: Callable[[], None]) -> None:
        wanted = self.settings
        child = Child(self.work)
        steps = Steps(wanted, folders, queue, child, self.log)
        steps.resume()
        receiver = Receiver(wanted.title, wanted.callers, folders, queue, self.log)
        receiver.start(wanted.host, wanted.port)
        loops = [self._loop(step) for step in (steps.settle, steps.follow_reviews, steps.analyse, steps.send)]
        try:
            ready()
            self._end.wait()
        finally:
            self._end.set()
            receiver.stop()
            child.stop()
            for loop in loops:
                loop.join(PATIENCE_S)

    def _loop(self, step: Callable[[], bool]) -> threading.Thread:
        """Start a thread that repeats a step until the end, and rests when the step finds nothing to do."""

        def repeat() -> None:
            """Repeat the step."""
            while not self._end.is_set():
                rest_s = POLL_S
                try:
                    busy = step()
                except Exception as error:
                    busy, rest_s = False, PATIENCE_S
                    disk = isinstance(error, (OSError, sqlite3.Error))
                    code = "output_not_writable" if disk else as_coded(error).code
                    self.log("", code, f"A step failed ({type(error).__name__}); it is tried again.")
                if not busy:
                    self._end.wait(rest_s)

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        return thread


@dataclass(frozen=True)
class Steps:
    """What is done with the studies in the queue; each method does one step and returns True if there was one."""

    settings: Settings
    folders: Folders
    queue: Queue
    child: Child[Task, Prepared]
    log: Log
    seen: dict[str, int] = field(default_factory=dict)

    def resume(self) -> None:
        """Give studies that failed without a fault of their own new attempts, and say how many wait."""
        names = self.queue.retry_failed(PASSING, "complete") + self.queue.retry_failed([REFUSED], "analysed")
        waiting = sum(one.state in ("receiving", "complete", "analysed") for one in self.queue.entries())
        if waiting:
            again = f", {len(names)} of them after a failure" if names else ""
            self.log("", "resumed", f"{waiting} studies of an earlier run wait{again}.")

    def settle(self) -> bool:
        """Declare quiet studies complete."""
        for name in self.queue.settle(self.settings.quiet_s):
            count = sum(1 for _ in (self.folders.studies / name).glob("*"))
            self.log(name, "complete", f"The study is complete: {count} images.")
        return False

    def follow_reviews(self) -> bool:
        """Have the results of a study that a reader has reviewed since they were sent made and sent again."""
        for study, record in self.queue.records():
            case = self.folders.cases / study.name
            with suppress(OSError):
                changed = (case / "analysis.json").stat().st_mtime_ns
                quiet = time.time() - changed / 1e9 >= self.settings.quiet_s
                if self.seen.get(study.name) != changed and quiet:
                    self.seen[study.name] = changed
                    if new_review(case, record) and self.queue.renew(study):
                        self.log(study.name, "reviewed", "A reader has reviewed the study; the new results follow.")
        return False

    def analyse(self) -> bool:
        """Analyse the next complete study and write its DICOM objects."""
        study = self.queue.next("complete")
        if study is None:
            return False
        task = replace(self.settings.task, name=study.name, kept=tuple(self.queue.offered(study.name)))
        try:
            done = self.child.run(task)
        except VFQError as error:
            done = Prepared(error.code)
        if done.code == "cancelled" or self.child.stopped:
            return False
        if done.code == "ok":
            if self.queue.analysed(study, done.files, done.record):
                self.log(study.name, "analysed", "The study is analysed; its results wait to be sent.")
        else:
            self._failed(study, done.code, MOST_ANALYSES if done.code in PASSING else 1)
        return True

    def send(self) -> bool:
        """Send the objects of the next analysed study."""
        study = self.queue.next("analysed")
        if study is None:
            return False
        outbox = self.folders.outbox / study.name
        files = [outbox / name for name in self.queue.unsent(study.name)]
        try:
            if files:
                offer, accept = (partial(_noted, note, study.name) for note in (self.queue.offer, self.queue.accept))
                send(self.settings.archive, self.settings.title, files, offer, accept)
        except (VFQError, FileNotFoundError) as error:
            code = error.code if isinstance(error, VFQError) else "not_found"
            if code in ("not_found", "bad_instance"):  # someone emptied the outbox, or power failed
                self._make_again(study)
            else:
                self._failed(study, code, MOST_REFUSALS if code == REFUSED else None, str(error))
        else:
            if self.queue.sent(study):
                self.log(study.name, "sent", f"The archive has the results; {len(files)} objects were sent.")
        return True

    def _make_again(self, study: Entry) -> None:
        """Have the objects in an outbox made again; they get the same UIDs."""
        for name in self.queue.unsent(study.name):
            (self.folders.outbox / study.name / name).unlink(missing_ok=True)
        self.queue.renew(study)

    def _failed(self, study: Entry, code: str, most: int | None, message: str = "") -> None:
        """Plan the next attempt, or give up after `most` (None: never)."""
        attempt = study.attempts + 1 if study.code == code else 1
        said = message or f"{_sentence(meaning(code, code))}."
        if most is not None and attempt >= most:
            if self.queue.failed(study, code):
                self.log(study.name, code, f"The study failed: {said}")
            return
        wait = min(self.settings.retry_s * 2.0 ** min(attempt - 1, 20), LONGEST_WAIT_S)
        if self.queue.again(study, code, attempt, time.time() + wait):
            of = "" if most is None else f" of {most}"
            self.log(study.name, code, f"{said} Attempt {attempt}{of}; the next one follows in {wait:.0f} s.")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _noted(note: Callable[[str, str], None], study: str, path: Path) -> None:
    note(study, path.name)
