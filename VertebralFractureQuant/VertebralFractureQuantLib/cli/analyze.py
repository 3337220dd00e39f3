"""`vfq analyze`: measure CT scans one after the other; a scan that fails does not stop the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ..cohort.studies import Study, measure_study
from ..cohort.worklist import find_cases, passed_over
from .common import (
    EXIT_CODED_FAILURE,
    NOTICE,
    DebugOption,
    Device,
    DeviceOption,
    OverwriteOption,
    output_console,
    print_traceback,
    progress_bar,
)
from .engine import LazyEngine

if TYPE_CHECKING:
    from ..spine.record import SpineAnalysis


def analyze(
    ctx: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="NIfTI, NRRD or MHA files, DICOM folders, or folders of such files."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Gets one folder a case.")],
    device: DeviceOption = Device.AUTO,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the analyses as a JSON array, and nothing else.")
    ] = False,
    overwrite: OverwriteOption = False,
    series: Annotated[str | None, typer.Option(help="UID of the DICOM series to take; for one INPUT.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of networks of your own, as `vfq train` leaves them.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Find and measure the vertebrae of CT scans."""
    from ..spine.record import to_json

    cases = find_cases(inputs, output)
    if series and len(cases) > 1:
        raise typer.BadParameter("--series belongs to one DICOM folder; give one INPUT with it.")
    complaints = Console(stderr=True)
    for folder in passed_over(inputs):
        told = f"{folder} is not searched, as scans lie beside it. Give it as an INPUT too where it holds some."
        complaints.print(told, markup=False, highlight=False, soft_wrap=True)
    engine = LazyEngine(weights) if weights else ctx.obj
    batch = Batch(engine, output, device.value, overwrite, series, complaints, debug)
    analyses = batch.run([(case.source, case.name) for case in cases])
    if as_json:
        typer.echo(json.dumps([to_json(a) for a in analyses], indent=1))
    else:
        _print_tables(analyses, output)
    if any(a.status != "ok" for a in analyses):
        raise typer.Exit(EXIT_CODED_FAILURE)


@dataclass
class Batch:
    """Studies analysed one after the other; what fails in one is recorded and the next is done."""

    engine: Any
    output: Path
    device: str
    overwrite: bool
    series: str | None
    complaints: Console
    debug: bool = False

    @cached_property
    def models(self) -> Any:
        """The networks, loaded when the first study needs them."""
        return self.engine.load_models(self.device)

    def run(self, studies: Sequence[tuple[Path, str]]) -> list[SpineAnalysis]:
        """The record of each (path, case), in that order; every one of them is written."""
        done: list[SpineAnalysis] = []
        try:
            with progress_bar(self.complaints) as show:
                for path, case in studies:
                    done.append(self._study(path, case, show))
        except KeyboardInterrupt:
            told = f"Interrupted: {len(done)} of {len(studies)} scans are done; the same command goes on with the rest."
            self.complaints.print(told, highlight=False, soft_wrap=True)
            raise
        return done

    def _study(self, path: Path, case: str, show: Callable[[str, str, float], None]) -> SpineAnalysis:
        from ..report.outputs import case_name

        if case != case_name(path):
            self._say(case, f"another input is called {case_name(path)} too; this one is {path}.")
        outcome = measure_study(
            Study(path, case, self.output, self.overwrite, self.series),
            self.engine,
            lambda: self.models,
            lambda stage, share: show(case, stage, share),
            lambda note: self._say(case, note),
        )
        if outcome.error:
            self._say(case, f"{outcome.record.status}: {outcome.record.message}")
            if self.debug:
                print_traceback(outcome.error)
        return outcome.record

    def _say(self, case: str, sentence: str) -> None:
        self.complaints.print(f"[bold]{escape(case)}[/bold]: {escape(sentence)}", highlight=False, soft_wrap=True)


def _print_tables(analyses: Sequence[SpineAnalysis], output: Path) -> None:
    from ..report.terminal import case_table, vertebra_table

    console = output_console()
    console.print(case_table(analyses))
    if len(analyses) == 1 and analyses[0].vertebrae:
        console.print()
        console.print(vertebra_table(analyses[0]))
        console.print()
        console.print(
            f"Look at {output / analyses[0].case / 'overview.png'}", markup=False, highlight=False, soft_wrap=True
        )
    console.print(NOTICE, style="dim")
