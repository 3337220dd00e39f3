"""`vfq analyze`: measure CT scans one after another; a failed scan does not stop the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ..cohort.engine import Library
from ..cohort.studies import Study, measure_study
from ..cohort.worklist import find_cases, passed_over_sentences
from .common import (
    EXIT_CODED_FAILURE,
    NOTICE,
    OURS,
    DebugOption,
    Device,
    DeviceOption,
    MethodOption,
    OverwriteOption,
    TrustHeaderOption,
    WeightsOption,
    coded_exit,
    output_console,
    own_weights,
    print_traceback,
    progress_bar,
)

if TYPE_CHECKING:
    from ..spine.record import SpineAnalysis


def analyze(
    ctx: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="NIfTI, NRRD or MHA files, DICOM folders, or folders of such files."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder; each case gets its own subfolder.")],
    device: DeviceOption = Device.AUTO,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the analyses as a JSON array instead of tables.")
    ] = False,
    overwrite: OverwriteOption = False,
    series: Annotated[
        str | None, typer.Option(help="UID of the DICOM series to use; only with a single INPUT.")
    ] = None,
    weights: WeightsOption = None,
    method: MethodOption = OURS,
    trust_header: TrustHeaderOption = False,
    debug: DebugOption = False,
) -> None:
    """Find and measure the vertebrae of CT scans.

    Existing results of the same scan are kept, so that an interrupted run can be resumed with the same command.
    """
    from ..spine.record_json import to_json

    cases = find_cases(inputs, output, series is not None)
    if series and len(cases) > 1:
        raise typer.BadParameter("--series needs a single INPUT, a DICOM folder.")
    messages = Console(stderr=True)
    for sentence in passed_over_sentences(inputs):
        messages.print(sentence, markup=False, highlight=False, soft_wrap=True)
    other = None if method == OURS else _known(method, debug)
    engine = Library(own_weights(weights), method=other) if weights or other else ctx.obj
    batch = Batch(engine, output, device.value, overwrite, series, messages, debug, trust_header)
    analyses = batch.run([(case.source, case.name) for case in cases])
    if as_json:
        typer.echo(json.dumps([to_json(a) for a in analyses], indent=1))
    else:
        _print_tables(analyses, output)
    if any(a.status != "ok" for a in analyses):
        raise typer.Exit(EXIT_CODED_FAILURE)


def _known(method: str, debug: bool) -> str:
    """Return the name of another method; end the command with `unknown_method` if there is none."""
    from ..methods.registry import method as find

    with coded_exit(debug):
        find(method)
    return method


@dataclass
class Batch:
    """Analyses scans one after another; a failure is recorded, and the next scan follows.

    engine, output, device, overwrite, series, debug, trust_header : as given to the command.
    messages : console for progress and messages.
    """

    engine: Any
    output: Path
    device: str
    overwrite: bool
    series: str | None
    messages: Console
    debug: bool = False
    trust_header: bool = False

    @property
    def models(self) -> Any:
        """The networks; wait until they are loaded."""
        return self._loading.result()

    @cached_property
    def _loading(self) -> Future[Any]:
        """The loading of the networks, in another thread."""
        return self._aside.submit(self.engine.load_models, self.device)

    @cached_property
    def _aside(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)

    def _prepare(self) -> None:
        """Load the networks and import what writes images, while the first scan is read and analysed."""
        from .. import analysis  # noqa: F401  in this thread, as the scan is read by some of the same modules
        from ..imaging import files  # noqa: F401
        from ..report.outputs import import_writers

        _ = self._loading
        self._aside.submit(import_writers)

    def run(self, studies: Sequence[tuple[Path, str]]) -> list[SpineAnalysis]:
        """Analyse each (path, case), write it, and return the records in the same order."""
        done: list[SpineAnalysis] = []
        if any(path.exists() for path, _ in studies):
            self._prepare()
        try:
            with progress_bar(self.messages) as show:
                for path, case in studies:
                    done.append(self._study(path, case, show))
        except KeyboardInterrupt:
            sentence = (
                f"Interrupted: {len(done)} of {len(studies)} scans are done. Run the same command again to resume."
            )
            self.messages.print(sentence, highlight=False, soft_wrap=True)
            raise
        return done

    def _study(self, path: Path, case: str, show: Callable[[str, str, float], None]) -> SpineAnalysis:
        from ..report.names import case_name

        if case != case_name(path):
            self._say(case, f"This is the case of {path}. Another input is also called {case_name(path)}.")
        outcome = measure_study(
            Study(path, case, self.output, self.overwrite, self.series, trust_header=self.trust_header),
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
        self.messages.print(f"[bold]{escape(case)}[/bold]: {escape(sentence)}", highlight=False, soft_wrap=True)


def _print_tables(analyses: Sequence[SpineAnalysis], output: Path) -> None:
    from ..report.terminal import case_table, doubt_lines, vertebra_table

    console = output_console()
    console.print(case_table(analyses))
    for analysis in analyses:
        for line in doubt_lines(analysis):
            console.print(f"[bold]{escape(analysis.case)}[/bold]:", line, highlight=False, soft_wrap=True)
    if len(analyses) == 1 and analyses[0].vertebrae:
        console.print()
        console.print(vertebra_table(analyses[0]))
        console.print()
        console.print(
            f"Overview image: {output / analyses[0].case / 'overview.png'}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    console.print(NOTICE, style="dim")
