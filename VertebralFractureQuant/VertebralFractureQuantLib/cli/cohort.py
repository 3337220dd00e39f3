"""`vfq cohort`: measure many scans at once, on this computer or on a cluster, and show them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .common import (
    EXIT_CODED_FAILURE,
    NOTICE,
    OURS,
    BrowserOption,
    DebugOption,
    Device,
    DeviceOption,
    MethodOption,
    PortOption,
    ReaderOption,
    TrustHeaderOption,
    WeightsOption,
    coded_exit,
    output_console,
    own_weights,
)

if TYPE_CHECKING:
    from ..cohort.runs import Summary

cohort_app = typer.Typer(
    name="cohort", help="Measure a cohort of many scans: tables, gallery, and a restart that continues.",
    no_args_is_help=True,
)  # fmt: skip
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the cohort, the --output of vfq cohort run.")]
SAID = 5  # failures that are named on the terminal while the run goes on


class CaseNames(str, Enum):
    """How cases are named."""

    AUTO = "auto"
    FILE = "file"
    HASH = "hash"


@cohort_app.command()
def run(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(help="Folder tree of NIfTI, NRRD, MHA or DICOM files, or a manifest (.csv, .parquet)."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the cohort.")],
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes on this computer.", show_default="one for each core, if memory allows"),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address or scheduler file of a running dask scheduler.", show_default="this computer"),
    ] = None,
    device: DeviceOption = Device.AUTO,
    weights: WeightsOption = None,
    method: MethodOption = OURS,
    trust_header: TrustHeaderOption = False,
    names: Annotated[
        CaseNames,
        typer.Option(help="Names of cases: auto hashes DICOM patients and keeps names of image files."),
    ] = CaseNames.AUTO,
    key_file: Annotated[
        Path | None, typer.Option(help="Write a CSV file that tells which case is which patient and path.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure all scans again; reviews are kept.")] = False,
    debug: DebugOption = False,
) -> None:
    """Measure all scans in a folder tree or a manifest.

    Run the same command again to continue after an interruption: finished cases are kept. Another method measures them
    again, except reviewed ones.
    """
    from ..cohort.engine import Library
    from ..cohort.runs import Options, run_cohort

    options = Options(
        source,
        output,
        workers,
        scheduler,
        device.value,
        own_weights(weights),
        trust_header,
        names.value,
        key_file,
        overwrite,
        method,
    )
    engine = None if isinstance(ctx.obj, Library) else ctx.obj
    with coded_exit(debug), _interruptible(), _shown(Console(stderr=True)) as hooks:
        summary = run_cohort(options, engine, hooks)
    _print_summary(summary)
    if set(summary.statuses) - {"ok"}:
        raise typer.Exit(EXIT_CODED_FAILURE)


@cohort_app.command()
def report(folder: Folder, debug: DebugOption = False) -> None:
    """Write the gallery of a cohort again, from its tables."""
    from ..cohort.gallery import write_gallery

    with coded_exit(debug):
        page = write_gallery(folder)
    output_console().print(f"Gallery: {page}", markup=False, highlight=False, soft_wrap=True)


@cohort_app.command()
def refresh(folder: Folder, debug: DebugOption = False) -> None:
    """Take reviews over into the tables and the gallery of a cohort.

    The values of the reader then stand beside the automatic ones.
    """
    from ..cohort.runs import refresh_cohort

    with coded_exit(debug):
        changed = refresh_cohort(folder)
    output_console().print(f"{changed} cases changed. Tables and gallery are up to date.", highlight=False)


@cohort_app.command()
def incidents(
    folder: Folder,
    patient: Annotated[
        str | None,
        typer.Option(
            help="Column of the manifest with the patient of a scan.", show_default="patient, else that of DICOM scans"
        ),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(
            help="Column of the manifest with the date of a scan, as 2026-11-30.",
            show_default="date, else that of DICOM scans",
        ),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Count fractures that are new, and person-years: incidents.csv in the folder of the cohort.

    Successive scans of each patient are compared as by `vfq compare`. Only days between dates are written. Without such
    columns, patients and dates are read from the DICOM files of the cohort, and kept nowhere.
    """
    from ..cohort.incidents import FILE, write_incidents

    with coded_exit(debug):
        found = write_incidents(folder, patient, date)
    console = output_console()
    left_out = len(found.rows) - len(found.compared)
    lines = [
        f"{found.patients} patients, {len(found.compared)} intervals compared, {left_out} not compared.",
        f"{found.fractures} new fractures in {found.fractured} patients, {found.person_years:.1f} person-years.",
    ]
    if found.rate:
        lines.append("{:.2f} new fractures in 100 person-years (95 %: {:.2f} to {:.2f}).".format(*found.rate))
    if found.other_weights:
        lines.append(
            f"{found.other_weights} intervals are between scans that were measured with different weights; small "
            "differences may come from that. Measure the cohort again with one set of weights."
        )
    if found.left_out:
        lines.append(f"{found.left_out} scans without a patient or a date are left out.")
    if found.from_dicom:
        lines.append("Patients or dates are those of DICOM headers: only the days between them are written.")
    for line in (*lines, f"Table: {folder / FILE}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(NOTICE, style="dim")


@cohort_app.command()
def review(
    folder: Folder,
    cases: Annotated[list[str], typer.Argument(metavar="CASE", help="Names of cases, as in patients.csv.")],
    port: PortOption = 0,
    device: DeviceOption = Device.AUTO,
    reader: ReaderOption = None,
    show_names: Annotated[bool, typer.Option("--show-names", help="Show the names of the cases.")] = False,
    browser: BrowserOption = True,
    weights: WeightsOption = None,
    debug: DebugOption = False,
) -> None:
    """Review cases of a cohort in the browser; see `vfq review`.

    Run `vfq cohort refresh` afterwards to take the review over into tables and gallery.
    """
    from ..cohort.runs import cases_of
    from .review import serve_review

    with coded_exit(debug):
        own = own_weights(weights)
        serve_review(
            cases_of(folder, cases), port, reader, browser, device=device.value, show_names=show_names, weights=own
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted. Run the same command again to continue: finished cases are kept.")
        raise


class _Rate(ProgressColumn):
    """Scans per hour."""

    def render(self, task: Task) -> Text:
        """See rich."""
        return Text(f"{task.speed * 3600:,.0f} scans/h" if task.speed else "")


@contextmanager
def _shown(console: Console) -> Iterator[Any]:
    """Show progress with rate and time left; yields the hooks of the run."""
    from ..cohort.runs import Hooks

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )  # fmt: skip
    shown = Progress(*columns, console=console, transient=True, speed_estimate_period=600, refresh_per_second=2)
    with shown as progress:
        bar = progress.add_task("Planning", total=None, failed="")
        failed = 0

        def say(sentence: str) -> None:
            """Print a sentence above the bar."""
            progress.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

        def begin(total: int, kept: int) -> None:
            """Show how much there is to do."""
            say(f"{total} scans; {kept} of them have a result that is kept.")
            progress.update(bar, description="Measuring", total=total - kept, completed=0)

        def tell(done: Any) -> None:
            """Count a result; name the first failures."""
            nonlocal failed
            if done.status != "ok":
                failed += 1
                if failed <= SAID:
                    say(f"{done.case}: {done.status}: {done.message}")
                elif failed == SAID + 1:
                    say("Further failures are listed in failures.csv.")
            progress.update(bar, advance=1, failed=f"{failed} failed" if failed else "")

        yield Hooks(say, begin, tell)


def _print_summary(summary: Summary) -> None:
    from ..errors import meaning

    console = output_console()
    table = Table("status", "scans", "meaning")
    for status, count in sorted(summary.statuses.items(), key=lambda item: (item[0] != "ok", -item[1])):
        table.add_row(status, f"{count:,}", meaning(status, "measured" if status == "ok" else "not measured yet"))
    console.print(table)
    if passed_over := sum(summary.passed_over.values()):
        console.print(f"{passed_over:,} other files are no scans (run.json counts them by kind).", highlight=False)
    console.print(f"Gallery: {summary.gallery}", markup=False, highlight=False, soft_wrap=True)
    console.print(NOTICE, style="dim")
