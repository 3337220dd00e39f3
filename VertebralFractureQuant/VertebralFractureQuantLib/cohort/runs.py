"""A cohort as a whole: planning, running, and writing what comes of it; what `vfq cohort` calls.

`run.json` says with what the results were made: versions, hashes of the weights, options, computer and times. It
contains no path.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import VFQError
from ..methods.registry import OURS
from ..networks.installed import chosen
from ..report.outputs import check_output, check_writable, writing
from ..whole import whole_file
from .crew import Crew, ThreadCrew
from .engine import Engine, Library
from .planning import Names, Plan, plan
from .rows import case_rows, packed, stamp
from .running import run_tasks, sweep, to_do
from .state import FILE_NAME, CohortState, state_path
from .tables import write_tables
from .work import CASES, THUMBNAILS, Finished, Settings, networks_identity, thumbnail
from .worklist import Case

PACKAGES = ("numpy", "scipy", "SimpleITK", "pydicom", "openvino", "torch", "polars", "dask", "distributed")
RUN_SCHEMA = "vfq-cohort-run/1"


@dataclass(frozen=True)
class Options:
    """What the user asks for; see `vfq cohort run`.

    Attributes
    ----------
    source : folder tree, manifest or scan.
    output : folder of the cohort.
    workers : processes on this computer; None for as many as its cores and its memory allow.
    scheduler : address or file of a running scheduler of dask; None for this computer.
    device, weights, trust_header : as for `vfq analyze`.
    names : how cases are named, see `planning.plan`.
    key_file : file that gets the patient's id of each case.
    overwrite : measure all again.
    method : how vertebrae are found (`methods.registry`).
    """

    source: Path
    output: Path
    workers: int | None = None
    scheduler: str | None = None
    device: str = "auto"
    weights: Path | None = None
    trust_header: bool = False
    names: Names = "auto"
    key_file: Path | None = None
    overwrite: bool = False
    method: str = OURS


@dataclass(frozen=True)
class Hooks:
    """What a face is told during a run.

    Attributes
    ----------
    say : a sentence for the user.
    begin : the numbers of scans: in the plan, and with a result that is kept.
    tell : a result.
    """

    say: Callable[[str], None] = lambda sentence: None
    begin: Callable[[int, int], None] = lambda total, kept: None
    tell: Callable[[Finished], None] = lambda done: None


@dataclass(frozen=True)
class Summary:
    """How a run ended: the number of scans by status, what was passed over by kind, and the page of the gallery."""

    statuses: dict[str, int]
    passed_over: dict[str, int]
    gallery: Path


def run_cohort(
    options: Options,
    engine: Engine | None = None,
    hooks: Hooks | None = None,
    make_crew: Callable[[Settings, Options, Hooks], Crew] | None = None,
) -> Summary:
    """Plan, measure what has no result yet, and write tables, run.json and gallery.

    Results that are there are kept when the run is ended by a failure, Ctrl+C or a kill; the same call goes on.

    Parameters
    ----------
    engine : the library functions to use; a test replaces them.
    make_crew : returns the workers; by default those of dask that the options name.

    VFQError as in `plan`, `CohortState`, `run_tasks`.
    """
    hooks = hooks or Hooks()
    with _opened(options) as state:
        began = time.time()
        planned = _plan(state, options, hooks)
        settings = _settings(options, engine)
        _make_folders(options.output)
        sweep(options.output / CASES)
        tasks = to_do(state, settings, options.overwrite)
        hooks.begin(len(planned.scans), len(planned.scans) - len(tasks))
        try:
            if tasks:
                crew = (make_crew or dask_crew_of)(settings, options, hooks)
                _run(state, tasks, crew, settings, hooks)
        finally:
            with suppress(VFQError):
                _write_run(state, options, settings, began, len(tasks))
        _read_again(state)
        write_tables(state)
        return Summary(state.statuses(), planned.passed_over, _gallery_of(state))


def _opened(options: Options) -> CohortState:
    _check_place(options.output)
    check_output(options.output, CASES, overwrite=True) if not (options.output / CASES).exists() else None
    check_writable(options.output)
    return CohortState(options.output)


def _check_place(output: Path) -> None:
    """Raise VFQError `output_in_cohort` if the folder is, or lies in, the folder of cases of another cohort."""
    place = Path(os.path.realpath(output))
    for folder in (place, *place.parents):
        if folder.name == CASES and (folder.parent / FILE_NAME).exists():
            raise VFQError(
                "output_in_cohort",
                f"{output.name}: the folder lies among the cases of the cohort {folder.parent.name!r}, which would be "
                "mixed up. Choose an output folder outside of it.",
            )


def _run(state: CohortState, tasks: list[Any], crew: Crew, settings: Settings, hooks: Hooks) -> None:
    try:
        run_tasks(state, tasks, crew, settings, hooks.tell)
    finally:
        crew.close()


def dask_crew_of(settings: Settings, options: Options, hooks: Hooks) -> Crew:
    """Return the workers that the options name. VFQError as in `local_crew` and `remote_crew`."""
    from .dask_crew import local_crew, local_size, remote_crew

    if options.scheduler:
        crew = remote_crew(settings, options.scheduler, hooks.say)
    else:
        gpus = _gpus(options.device)
        count, _ = local_size(options.workers, gpus)
        if isinstance(settings.engine, Library) and not gpus:  # each worker computes on its share of the cores
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            settings = replace(settings, engine=replace(settings.engine, threads=max(1, cores // count)))
        crew = local_crew(settings, options.workers, hooks.say, gpus)
    if crew.dashboard:
        hooks.say(f"Dashboard of the workers: {crew.dashboard}")
    return crew


def thread_crew_of(settings: Settings, options: Options, hooks: Hooks) -> Crew:
    """Return one worker in this process, without dask, as 3D Slicer runs a cohort."""
    return ThreadCrew(settings)


def _gpus(device: str) -> int:
    """Return the number of CUDA devices to use; 0 for a CPU."""
    from ..networks.devices import accelerators

    if device not in ("auto", "cuda") or accelerators().get("cuda", "none"):
        return 0
    import torch

    return int(torch.cuda.device_count())


def refresh_cohort(folder: Path) -> int:
    """Read the records again that a review has changed, and rebuild tables and gallery; return their number.

    VFQError `not_a_cohort`, `cohort_in_use`, `output_not_writable`.
    """
    state_path(folder)
    with CohortState(folder) as state:
        changed = _read_again(state)
        write_tables(state)
        _gallery(folder)
        return changed


def list_cohort(options: Options) -> list[tuple[Case, str]]:
    """Plan a cohort without measuring anything; return each case, and its status as in the tables.

    VFQError as in `plan` and `CohortState`.
    """
    with _opened(options) as state:
        _plan(state, options, Hooks())
        return [
            (
                Case(one.name, Path(one.path), options.output / CASES / one.name, one.files),
                one.problem[0] if one.problem else one.status,
            )
            for one in state.planned()
        ]


def cases_of(folder: Path, names: Sequence[str]) -> list[Case]:
    """Return cases of a cohort for a review, with the scans that the plan has for them.

    VFQError `not_a_cohort`, `cohort_in_use`, `not_found`.
    """
    state_path(folder)
    with CohortState(folder) as state:
        found = [state.find(name) for name in names]
    return [Case(one.name, Path(one.path), folder / CASES / one.name, one.files) for one in found]


def _read_again(state: CohortState) -> int:
    """Take over each record that is another one than when it was read; a damaged one keeps its values."""
    changed = 0
    for name, known in state.stamps():
        folder = state.folder / CASES / name
        now = stamp(folder)
        if now and now != known:
            with suppress(VFQError):
                patient, rows = case_rows(folder)
                state.refresh(name, now, patient, packed(rows))
                changed += 1
                thumbnail(folder, state.folder / THUMBNAILS / f"{name}.jpg")
    return changed


def _gallery_of(state: CohortState) -> Path:
    """Write the gallery unless it shows the tables already, and return its page."""
    shown, told = state.read("gallery"), [state.changes(), __version__]
    if shown and shown[:2] == told and (state.folder / shown[2]).exists():
        return state.folder / str(shown[2])
    page = _gallery(state.folder)
    state.write("gallery", [*told, os.path.relpath(page, state.folder)])
    return page


def _gallery(folder: Path) -> Path:
    from .gallery import write_gallery

    return write_gallery(folder)


def _plan(state: CohortState, options: Options, hooks: Hooks) -> Plan:
    hooks.say("Reading the folder." if options.source.is_dir() else "Reading the manifest.")
    planned = plan(options.source, options.output, state.salt(), options.names, state.names())
    state.save_plan(planned.scans)
    state.write("covariates", list(planned.covariates))
    state.write("passed_over", planned.passed_over)
    if dropped := state.dropped():
        hooks.say(f"{dropped} finished cases are no longer in the source: they are kept, but are not in the tables.")
    if options.key_file:
        _write_key(planned, options.key_file)
    return planned


def _write_key(planned: Plan, path: Path) -> None:
    """Write which case is whose: readable by the user alone."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(opened, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("case", "patient_id", "path"))
            writer.writerows((one.name, planned.patients.get(one.name, ""), one.path) for one in planned.scans)


def _settings(options: Options, engine: Engine | None) -> Settings:
    weights = options.weights.resolve() if options.weights else chosen()  # the same for all workers
    return Settings(
        folder=str(options.output.resolve()),
        engine=engine or Library(weights, method=None if options.method == OURS else options.method),
        device=options.device,
        weights=str(weights) if weights else None,
        identity=networks_identity(weights, options.method),
        trust_header=options.trust_header,
        method=options.method,
    )


def _make_folders(output: Path) -> None:
    with writing(output):
        (output / CASES).mkdir(parents=True, exist_ok=True)
        (output / THUMBNAILS).mkdir(parents=True, exist_ok=True)


def _write_run(state: CohortState, options: Options, settings: Settings, began: float, tasks: int) -> None:
    """Write run.json: what the results were made with, and where the time went."""
    told = {
        "schema": RUN_SCHEMA,
        "version": __version__,
        "versions_of_results": state.versions(),
        "weights": dict(settings.identity),
        "options": {
            "method": options.method, "device": options.device, "trust_header": options.trust_header,
            "names": options.names, "workers": options.workers, "own_weights": settings.weights is not None,
            "own_scheduler": options.scheduler is not None,
        },
        "machine": {
            "system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(),
            "python": platform.python_version(), "packages": _packages(),
        },
        "started": _utc(began),
        "ended": _utc(time.time()),
        "scans_measured_in_this_run": tasks,
        "statuses": state.statuses(),
        "passed_over": state.read("passed_over") or {},
        "seconds_by_step": state.seconds(),
    }  # fmt: skip
    path = state.folder / "run.json"
    with writing(state.folder), whole_file(path) as fresh:
        fresh.write_text(json.dumps(told, indent=1), encoding="utf-8")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
