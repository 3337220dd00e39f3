"""`vfq compare`: examinations of one patient side by side, vertebra by vertebra."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import VFQError
from .analyze import Batch
from .common import (
    EXIT_CODED_FAILURE,
    NOTICE,
    DebugOption,
    Device,
    DeviceOption,
    OverwriteOption,
    TrustHeaderOption,
    coded_exit,
    output_console,
    refuse_existing,
    write_json,
    write_whole,
)

if TYPE_CHECKING:
    from ..followup.comparison import Examination
    from ..followup.course import Step

NAMES = ("comparison.json", "comparison.csv", "comparison.png")


def compare(
    ctx: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="PRIOR CURRENT ...",
            help="Two or more examinations of one patient, the earliest first: folders of analysed cases, or scans as "
            "for vfq analyze, which are analysed first.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the comparison, and for cases that are analysed first.")
    ] = Path("comparison"),
    dates: Annotated[
        str | None,
        typer.Option(
            help="Dates of the examinations, as 2024-11-30,2026-11-30; only the days between them are kept.",
            show_default="those of DICOM scans",
        ),
    ] = None,
    same_patient: Annotated[
        bool, typer.Option("--same-patient", help="Compare even if the vertebrae look like those of two patients.")
    ] = False,
    device: DeviceOption = Device.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print comparison.json instead of tables.")] = False,
    trust_header: TrustHeaderOption = False,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare examinations of one patient: is a fracture new?

    Vertebrae are matched by shape, place along the spine and image, never by the name of their level alone. Each
    examination is compared with the one before, and the last one with the first.
    """
    from ..followup.course import compare_course
    from ..report.comparison_files import comparison_json, write_comparison_rows

    if len(inputs) < 2:
        raise typer.BadParameter("give at least two examinations, the earliest first.")
    with coded_exit(debug):
        targets = [output / name for name in NAMES]
        refuse_existing(targets, overwrite)
        _check_different(inputs)
        days = _days(inputs, dates)
        examinations = _examinations(ctx, inputs, output, device, trust_header, debug)
        steps = compare_course(examinations, same_patient)
        record = comparison_json(examinations, days, steps)
        write_whole(targets[0], lambda path: write_json(record, path))
        write_whole(targets[1], lambda path: write_comparison_rows(record, path))
        _write_picture(examinations, steps, targets[2])
    if as_json:
        typer.echo(json.dumps(record, indent=1))
    else:
        _say_failures(inputs, examinations)
        _print(examinations, days, steps, targets)
    whole = all(e.analysis.status == "ok" for e in examinations) and all(s.comparison for s in steps)
    if not whole:
        raise typer.Exit(EXIT_CODED_FAILURE)


def _check_different(inputs: Sequence[Path]) -> None:
    if len({path.resolve() for path in inputs}) < len(inputs):
        raise VFQError("same_study", "The same input was given twice. Give two examinations of one patient.")


def _days(inputs: Sequence[Path], dates: str | None) -> list[int | None]:
    from ..followup.course import days_between, parsed_dates
    from ..imaging.dicom_dates import study_date

    known: list[date | None] = []
    known += parsed_dates(dates, len(inputs)) if dates else [None if _is_case(p) else study_date(p) for p in inputs]
    return days_between(known)


def _is_case(path: Path) -> bool:
    return (path / "analysis.json").exists()


def _examinations(
    ctx: typer.Context, inputs: Sequence[Path], output: Path, device: Device, trust_header: bool, debug: bool
) -> list[Examination]:
    """Return the examinations in the order of `inputs`; scans are analysed into the output folder."""
    from ..cohort.worklist import find_cases
    from ..followup.comparison import Examination
    from ..report.comparison_files import read_examination

    scans = [path for path in inputs if not _is_case(path)]
    found = find_cases(scans, output) if scans else []
    if len(found) > len(scans):
        raise typer.BadParameter("an input contains several scans. Give one scan, or one case, for each examination.")
    batch = Batch(ctx.obj, output, device.value, False, None, Console(stderr=True), debug, trust_header)
    records = batch.run([(case.source, case.name) for case in found]) if found else []
    folders = {path: case.folder for path, case in zip(scans, found, strict=True)}  # a source may lie below its input
    failed = {path: record for path, record in zip(scans, records, strict=True) if record.status != "ok"}
    return [
        Examination(failed[path]) if path in failed else read_examination(folders.get(path, path)) for path in inputs
    ]


def _write_picture(examinations: Sequence[Examination], steps: Sequence[Step], target: Path) -> None:
    """Draw the examinations if two have an image; else no picture of an earlier comparison stays."""
    from ..report.comparison_picture import drawable, write_comparison_picture

    if len(drawable(examinations)) > 1:
        write_whole(target, lambda path: write_comparison_picture(examinations, steps, path))
    else:
        target.unlink(missing_ok=True)


def _say_failures(inputs: Sequence[Path], examinations: Sequence[Examination]) -> None:
    """Print why an analysed case failed; of a scan it was said when it was analysed."""
    for path, e in zip(inputs, examinations, strict=True):
        if e.analysis.status != "ok" and _is_case(path):
            _say(output_console(), f"{e.analysis.case}: {e.analysis.status}: {e.analysis.message}")


def _print(
    examinations: Sequence[Examination], days: Sequence[int | None], steps: Sequence[Step], targets: Sequence[Path]
) -> None:
    from ..followup.course import interval
    from ..report.comparison_terminal import change_lines, change_table

    console = output_console()
    for step in steps:
        before, now = (examinations[i].analysis.case for i in (step.prior, step.current))
        console.print(f"{now} compared with {before}", style="bold", markup=False, highlight=False, soft_wrap=True)
        if step.comparison is None:
            _say(console, f"{step.status}: {step.message}")
            continue
        console.print(change_table(step.comparison))
        for line in change_lines(step.comparison, interval(days, step)):
            _say(console, line)
        console.print()
    written = ", ".join(str(path) for path in targets if path.exists())
    if any(step.comparison for step in steps):
        _say(console, "± is what measurement error explains (95 %).")
    _say(console, f"Written: {written}")
    console.print(NOTICE, style="dim")


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
