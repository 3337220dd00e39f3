"""A cohort whose work is replaced: what the tests of the engine and the benchmark of 100,000 cases measure with.

A scan is a small file of JSON that says what happens to it: {"lowered_mm": 7} is measured, {"code": ...} fails,
{"dies": true} kills its worker, {"eats": bytes} takes memory, {"waits": path} is measured when the path exists. Run as
a program, it runs a cohort until the end: `python cohort_bench.py SOURCE OUTPUT WORKERS_OR_SCHEDULER`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from VertebralFractureQuantLib.cohort import runs
from VertebralFractureQuantLib.cohort.crew import ThreadCrew
from VertebralFractureQuantLib.cohort.rows import case_rows, packed, stamp
from VertebralFractureQuantLib.cohort.sources import content, files_of, signature
from VertebralFractureQuantLib.cohort.work import CASES, MOST_SCANS, SLOTS, Finished, Settings, Task
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.report.outputs import write_outputs
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra, with_expected

LOG = "measured.log"  # beside the cohort's folder: one line for each scan that was measured


def write_scans(folder: Path, scans: dict[str, dict[str, Any]]) -> Path:
    """Write scans; a name may contain folders. Returns the folder."""
    for name, told in scans.items():
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told), encoding="utf-8")
    return folder


def column(n: int, lowered_mm: float) -> tuple[Vertebra, ...]:
    """`n` vertebrae from T9 down, the first lowered in front; their key points are as plausible as needed."""
    points = np.zeros((n, 3, 2, 3))
    points[..., 1] += np.array([12.0, 0.0, -12.0])[:, None]
    points[..., 2] += (-28 * np.arange(n))[:, None, None] + np.array([11.0, -11.0])
    points[0, 0, 0, 2] -= lowered_mm
    names = ["T9", "T10", "T11", "T12", "L1", "L2"][:n]
    measured = zip(points, measure_column(points), names, strict=True)
    return tuple(Vertebra(k, m, level=level, level_probabilities={level: 0.99}) for k, m, level in measured)


@lru_cache(maxsize=8)
def record(lowered_mm: float) -> SpineAnalysis:
    """The record of a scan whose first vertebra is lowered."""
    return SpineAnalysis("x", vertebrae=with_expected(column(4, lowered_mm)))


def stub_work(task: Task, settings: Settings) -> Finished:
    """Do to a scan what its file says, in place of `work.work_on`."""
    with SLOTS.take(MOST_SCANS if task.alone else 1):
        files = files_of(Path(task.path), task.files)
        held = content(files)
        if held == task.known:
            return Finished(task.case, unchanged=True, signature=signature(files), content=held)
        told = json.loads(files[0].read_text())
        _happens(told)
        with (Path(settings.folder).parent / LOG).open("a", encoding="utf-8") as log:
            log.write(f"{task.case}\n")
        done = Finished(task.case, signature=signature(files), content=held)
        try:
            return _failed(done, told) if "code" in told else _measured(done, told, settings)
        except VFQError as error:
            return replace(done, status=error.code, message=error.message)


def _happens(told: dict[str, Any]) -> None:
    if told.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if "eats" in told:
        held = np.ones(told["eats"], np.uint8)
        time.sleep(30)
        del held
    while "waits" in told and not Path(told["waits"]).exists():
        time.sleep(0.01)
    time.sleep(told.get("takes", 0.0))


def _failed(done: Finished, told: dict[str, Any]) -> Finished:
    return replace(done, status=told["code"], message="It failed. Do something.")


def _measured(done: Finished, told: dict[str, Any], settings: Settings) -> Finished:
    output = Path(settings.folder, CASES)
    write_outputs(replace(record(told.get("lowered_mm", 0.0)), case=done.case), None, output, True, pictures=False)
    patient, rows = case_rows(output / done.case)
    return replace(done, patient=patient, rows=packed(rows), stamp=stamp(output / done.case))


def stub_threads(settings: Settings, options: runs.Options, hooks: runs.Hooks) -> ThreadCrew:
    """One worker in this process, with the stub."""
    return ThreadCrew(settings, stub_work)


def stub_dask(settings: Settings, options: runs.Options, hooks: runs.Hooks) -> Any:
    """The workers of dask that the options name, with the stub."""
    crew: Any = runs.dask_crew_of(settings, options, hooks)
    crew.work = stub_work
    return crew


def main() -> None:
    """Run a cohort with the stub, without a gallery."""
    source, output, where = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    runs._gallery = lambda folder: folder
    options = runs.Options(source, output, workers=int(where) if where.isdigit() else None)
    if not where.isdigit():
        options = runs.Options(source, output, scheduler=where)
    summary = runs.run_cohort(options, hooks=runs.Hooks(say=lambda text: print(text, flush=True)), make_crew=stub_dask)
    print(json.dumps(summary.statuses))


if __name__ == "__main__":
    import cohort_bench  # workers import the stub by this name

    cohort_bench.main()
