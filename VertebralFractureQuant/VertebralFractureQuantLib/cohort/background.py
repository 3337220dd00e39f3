"""A cohort in a child process with one worker, as 3D Slicer runs it: the same functions as `vfq cohort run`, no dask.

The child, `python -m VertebralFractureQuantLib.cohort.background SOURCE --output DIR`, writes lines as that of `jobs`:
{"stage": "12 of 200", "share": 0.06}, {"note": sentence}, {"case": name, "status": code} for each scan that is done,
and {"done": true} or {"error": code, "message": sentence} at the end. When it is killed, the same command continues.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import as_coded
from ..methods.registry import METHODS, OURS
from .engine import Engine
from .jobs import INTERRUPTED, AnalysisJob, case_line, channel, end_with_the_parent
from .runs import Hooks, Options, run_cohort, thread_crew_of
from .work import Finished

MODULE = "VertebralFractureQuantLib.cohort.background"
DEVICES = ("auto", "cpu", "cuda", "mps")


def cohort_command(
    source: Path, output: Path, device: str, interpreter: str, trust_header: bool = False, method: str = OURS
) -> list[str]:
    """Return the command line that measures the cohort `source` into `output` by a method of `methods.registry`."""
    given = ["--output", str(output), "--device", device, "--method", method]
    trusted = ["--trust-header"] if trust_header else []
    return [interpreter, "-m", MODULE, *given, *trusted, "--", str(source)]


class CohortJob(AnalysisJob):
    """The parent's side; `results` are name and status of the cases that are done, in order."""

    def __init__(self, *arguments: Any):
        self.results: list[tuple[str, str]] = []
        super().__init__(*arguments)

    def _hear(self, line: str) -> None:
        result = case_line(line)
        if result:
            self.results.append(result)
        else:
            super()._hear(line)


def run(options: Options, say: Callable[[dict[str, Any]], None], engine: Engine | None = None) -> bool:
    """Run a cohort, and pass its messages to `say`; return False if it failed as a whole."""
    left = done = failed = 0

    def begin(total: int, kept: int) -> None:
        """Keep how much there is to do."""
        nonlocal left
        left = total - kept
        progress()

    def tell(result: Finished) -> None:
        """Pass on one result."""
        nonlocal done, failed
        done, failed = done + 1, failed + (result.status != "ok")
        say({"case": result.case, "status": result.status})
        progress()

    def progress() -> None:
        """Pass on how far the run is."""
        failures = f", {failed} failed" if failed else ""
        stage = f"{done} of {left} scans{failures}" if done < left else "writing the tables"
        say({"stage": stage, "share": round(done / left, 4) if left else 1.0})

    try:
        run_cohort(options, engine, Hooks(begin=begin, tell=tell), thread_crew_of)
    except Exception as error:
        failure = as_coded(error)
        say({"error": failure.code, "message": failure.message})
        return False
    say({"done": True})
    return True


def options_of(arguments: Sequence[str] | None = None) -> Options:
    """Return the options of a command line; None for that of this process."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Measure a cohort in its own process.")
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("--method", default=OURS, choices=(OURS, *METHODS))
    parser.add_argument("--trust-header", action="store_true")
    wanted = parser.parse_args(arguments)
    chosen = {"device": wanted.device, "trust_header": wanted.trust_header, "method": wanted.method}
    return Options(wanted.source, wanted.output, **chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the child; return the exit status: 0, or 3 for a coded failure."""
    options, say = options_of(arguments), channel()
    end_with_the_parent()
    return 0 if run(options, say) else 3


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
