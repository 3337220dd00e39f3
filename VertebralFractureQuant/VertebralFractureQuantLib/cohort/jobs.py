"""One analysis in a child process, so that the user interface never freezes and survives a crash of the analysis.

The child, `python -m VertebralFractureQuantLib.cohort.jobs SCAN --output DIR --case NAME`, writes one JSON object per
line: {"stage": "detect", "share": 0.6}; {"note": sentence} for a decision that the user should know of; at the end
{"done": true} or {"error": code, "message": sentence}. It ends when its standard input is closed, so that it does not
outlive its parent. The parent's side is `AnalysisJob`. The child writes no images: the user interface that waits for it
shows the study itself.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from .engine import Library
from .studies import Study, measure_study, without_paths

MODULE = "VertebralFractureQuantLib.cohort.jobs"
PACKAGE_PARENT = Path(__file__).resolve().parents[2]
KILL_WAIT_S = 5.0
LET_OTHERS_RUN_S = 0.001
GRACE_S = 5.0  # time that a child without a parent has to clean up
INTERRUPTED = 130

Status = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class JobState:
    """The state of a job.

    Attributes
    ----------
    status : "running", "done", "failed" or "cancelled".
    stage : the current step.
    share : the share of the whole that is done, 0 to 1.
    code, message : why it failed; empty otherwise.
    notes : decisions that the user should know of, as sentences in order of time.
    """

    status: Status = "running"
    stage: str = ""
    share: float = 0.0
    code: str = ""
    message: str = ""
    notes: tuple[str, ...] = ()


class Process(Protocol):
    """A child process, as far as a job needs it."""

    def lines(self) -> Iterator[str]:
        """Yield the lines of its standard output until it ends; blocks."""

    def wait(self) -> int:
        """Wait for its end and return its exit status."""

    def last_words(self) -> str:
        """Return the last line of its standard error."""

    def kill(self) -> None:
        """Kill it and its children; does nothing if it has ended."""


def analysis_command(
    source: Path,
    output: Path,
    case: str,
    device: str = "auto",
    interpreter: str | Path | None = None,
    series: str | None = None,
    overwrite: bool = False,
    trust_header: bool = False,
    weights: Path | None = None,
) -> list[str]:
    """Return the command line that analyses `source` into `output/<case>/`.

    interpreter : the Python to run; by default the one that runs this.
    weights : folder of the networks; None for those in use.
    """
    command = [str(interpreter or sys.executable), "-m", MODULE, "--output", str(output), f"--case={case}"]
    command += ["--device", device]
    command += ["--overwrite"] if overwrite else []
    command += [f"--series={series}"] if series else []
    command += ["--trust-header"] if trust_header else []
    command += [f"--weights={weights}"] if weights else []
    return [*command, "--", str(source)]


class AnalysisJob:
    """An analysis in a child process. The user interface calls `update` regularly, and `cancel` to stop it.

    command : the command line, as from `analysis_command`.
    start : starts the process; a test can replace it.
    """

    def __init__(self, command: Sequence[str], start: Callable[[Sequence[str]], Process] | None = None):
        self._command = list(command)
        self._state = JobState()
        self._heard: queue.SimpleQueue[str | _End] = queue.SimpleQueue()
        self._process: Process | None = None
        try:
            self._process = (start or start_process)(self._command)
        except OSError as error:
            self._fail(f"The analysis could not be started ({error.strerror or error}). Check the installation.")
            return
        threading.Thread(target=_listen, args=(self._process, self._heard), daemon=True).start()

    def update(self) -> JobState:
        """Read the messages of the child and return the state; never waits for the child."""
        if self._state.status == "running":
            # A host such as Slicer holds the interpreter's lock in its event loop, so Python's other threads stand
            # still. Sleeping releases the lock; without it, the child's messages would never arrive.
            time.sleep(LET_OTHERS_RUN_S)
        with suppress(queue.Empty):
            while self._state.status == "running":
                heard = self._heard.get_nowait()
                if isinstance(heard, str):
                    self._hear(heard)
                else:
                    self._fail(_death(heard))
        return self._state

    def cancel(self) -> None:
        """Kill the child and its children, and delete unfinished output; does nothing if the job has ended.

        Returns when they have ended, within milliseconds.
        """
        if self.update().status != "running" or not self._process:
            return
        self._process.kill()
        self._state = replace(self._state, status="cancelled", message="The analysis was cancelled.")
        _tidy(self._command)

    def _hear(self, line: str) -> None:
        """Take in one line of the child."""
        self._state = _after(self._state, line)

    def _fail(self, message: str) -> None:
        self._state = replace(self._state, status="failed", code="child_died", message=message)
        _tidy(self._command)


@dataclass(frozen=True)
class _End:
    """The end of a child."""

    exit_status: int
    last_words: str


def _listen(process: Process, heard: queue.SimpleQueue[str | _End]) -> None:
    """Pass on the child's messages, then its end."""
    with suppress(OSError, ValueError):  # the pipe breaks when the child is killed
        for line in process.lines():
            heard.put(line)
    heard.put(_End(process.wait(), process.last_words()))


def _after(state: JobState, line: str) -> JobState:
    """Return the state after a line of the child; lines that are not ours (output of a library) change nothing."""
    try:
        said = json.loads(line)
    except ValueError:
        return state
    if not isinstance(said, dict):
        return state
    if isinstance(said.get("note"), str):
        return replace(state, notes=(*state.notes, said["note"]))
    if said.get("done"):
        return replace(state, status="done", share=1.0)
    if "error" in said:
        return replace(state, status="failed", code=str(said["error"]), message=str(said.get("message", "")))
    if isinstance(said.get("share"), (int, float)):
        return replace(state, stage=str(said.get("stage", "")), share=min(max(float(said["share"]), 0.0), 1.0))
    return state


def case_line(line: str) -> tuple[str, str] | None:
    """Return name and status of a case from a line of a cohort's child; None if it is another line."""
    with suppress(ValueError):
        said = json.loads(line)
        if isinstance(said, dict) and isinstance(said.get("case"), str):
            return said["case"], str(said.get("status", ""))
    return None


def _death(end: _End) -> str:
    """Describe the end of a child that sent no final message."""
    known = f"exit status {end.exit_status}"
    if end.exit_status < 0:
        with suppress(ValueError):
            known = f"killed by {signal.Signals(-end.exit_status).name}"
    words = f": {without_paths(end.last_words, Path())}" if end.last_words else ""
    return (
        f"The analysis ended unexpectedly ({known}){words}. A common cause is lack of memory: close other programs, or "
        "use a crop of the scan, and try again."
    )


def _tidy(command: Sequence[str]) -> None:
    """Delete the unfinished output of a killed child."""
    from ..report.outputs import discard_unfinished

    if MODULE in command:
        wanted = _parser().parse_args(command[list(command).index(MODULE) + 1 :])
        discard_unfinished(wanted.output, wanted.case)


class _ChildProcess:
    """A real `Process`. Its standard input is a pipe that closes when this process dies, which ends the child too."""

    def __init__(self, command: Sequence[str]):
        path = os.pathsep.join([str(PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._popen = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
            start_new_session=os.name == "posix",  # so that its children can be killed with it
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._words: deque[str] = deque(maxlen=1)
        self._listener = threading.Thread(target=self._keep_last_words, daemon=True)
        self._listener.start()

    def lines(self) -> Iterator[str]:
        """See `Process`."""
        yield from self._pipe(self._popen.stdout)

    def wait(self) -> int:
        """See `Process`."""
        return self._popen.wait()

    def last_words(self) -> str:
        """See `Process`."""
        self._listener.join(timeout=1.0)
        return self._words[0] if self._words else ""

    def kill(self) -> None:
        """See `Process`; the processes that it started end too."""
        if self._popen.poll() is None:
            _kill_tree(self._popen)
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(KILL_WAIT_S)

    def _keep_last_words(self) -> None:
        with suppress(OSError, ValueError):
            self._words.extend(line.strip() for line in self._pipe(self._popen.stderr) if line.strip())

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None, "it was opened as a pipe"
        return pipe


def start_process(command: Sequence[str]) -> Process:
    """Start `command` with pipes and this library on its path. Raises OSError if the interpreter does not exist."""
    return _ChildProcess(command)


def _kill_tree(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the child: analyse one scan and report progress. Returns the exit status: 0, or 3 for a coded failure."""
    wanted = _parser().parse_args(arguments)
    say = channel()
    end_with_the_parent()
    study = Study(wanted.input, wanted.case, wanted.output, wanted.overwrite, wanted.series, False, wanted.trust_header)
    engine = Library(wanted.weights)
    load = partial(engine.load_models, wanted.device)
    outcome = measure_study(
        study,
        engine,
        load,
        lambda stage, share: say({"stage": stage, "share": round(share, 3)}),
        lambda sentence: say({"note": without_paths(sentence, study.path)}),
    )
    if outcome.error is None:
        say({"done": True})
        return 0
    say({"error": outcome.record.status, "message": outcome.record.message})
    return 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Analyse one CT scan in its own process.")
    parser.add_argument("input", type=Path, metavar="SCAN")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--case", required=True)
    parser.add_argument("--trust-header", action="store_true")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--series")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--overwrite", action="store_true")
    return parser


def channel() -> Callable[[dict[str, Any]], None]:
    """Reserve standard output for our messages; from here on, output of libraries goes to standard error."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        """Write one message to the parent."""
        with suppress(OSError):  # the parent has ended; `end_with_the_parent` handles that
            lines.write(json.dumps(message) + "\n")
            lines.flush()

    return say


def end_with_the_parent() -> None:
    """Interrupt this process when its standard input is closed.

    The pipe is moved away from standard input first: on Windows, code that inspects standard input (importing numpy
    does) would wait for the pending read.
    """
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe,), daemon=True).start()


def _watch(pipe: int) -> None:
    import _thread

    with suppress(OSError):
        while os.read(pipe, 1024):
            pass
    _thread.interrupt_main()
    threading.Event().wait(GRACE_S)
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
