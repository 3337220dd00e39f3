"""`vfq`, the command: analyse CT scans, try it on a synthetic one, make phantoms, measure speed.

A face only: it reads arguments, calls the library and shows what comes back. Tables and JSON go to standard output,
progress and complaints to standard error. Exit status 0: all measured; 3: a coded failure; 2: wrong usage.
A further command is one more `@app.command()`, or `app.add_typer(...)` for a family of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from . import __version__
from .cli_common import (
    EXIT_CODED_FAILURE,
    NOTICE,
    DebugOption,
    Device,
    DeviceOption,
    OverwriteOption,
    coded_exit,
    output_console,
    print_traceback,
    refuse_existing,
    write_json,
    write_whole,
)
from .cli_evaluate import evaluate_app
from .cli_review import BrowserOption, PortOption, ReaderOption, review, serve_review
from .cli_train import mix, train
from .cohort.studies import Library, Study, measure_study
from .cohort.worklist import find_cases, passed_over

if TYPE_CHECKING:
    from .ct import CTVolume
    from .record import SpineAnalysis

app = typer.Typer(
    name="vfq",
    help="Vertebral fractures on CT: six key points, heights, Genant ratio and grade of every vertebra. " + NOTICE,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(evaluate_app)
app.command()(review)
app.command()(train)
app.command()(mix)


class FieldOfView(str, Enum):
    """What part of the body a phantom shows."""

    WHOLE = "whole"
    CHEST = "chest"
    ABDOMEN = "abdomen"
    SPINE = "spine"


@dataclass(frozen=True)
class Engine:
    """The library functions behind the command; a test hands in others (`CliRunner.invoke(app, args, obj=engine)`).

    `make_phantom` takes the seed and the fields of `PhantomOptions` by name.
    """

    read_ct: Callable[..., CTVolume]
    write_ct: Callable[[CTVolume, Path], Any]
    load_models: Callable[[str], Any]
    analyze: Callable[..., SpineAnalysis]
    make_phantom: Callable[..., tuple[CTVolume, Any]]


class LazyEngine(Library):
    """The real `Engine`; each function is imported when it is called, so that `vfq --help` waits for none."""

    def write_ct(self, ct: CTVolume, path: Path) -> None:
        """See `ct.write_ct`."""
        from .ct import write_ct

        write_ct(ct, path)

    def make_phantom(self, seed: int, **options: Any) -> tuple[CTVolume, Any]:
        """See `phantom.make_phantom`; `options` are the fields of `PhantomOptions`."""
        from .phantom import PhantomOptions, make_phantom

        return make_phantom(seed, PhantomOptions(**options))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vfq {__version__}")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = ctx.obj or LazyEngine()


@app.command()
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
    from .record import to_json

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


@app.command()
def demo(
    ctx: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="Gets the folder of the synthetic case.")] = Path(
        "vfq-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another body.")] = 7,
    device: DeviceOption = Device.AUTO,
    overwrite: OverwriteOption = False,
    show: Annotated[bool, typer.Option("--review/--no-review", help="Open it in the browser afterwards.")] = True,
    port: PortOption = 0,
    reader: ReaderOption = None,
    browser: BrowserOption = True,
    debug: DebugOption = False,
) -> None:
    """Analyse a synthetic scoliotic chest CT with fractures, compare with its known truth, and review it."""
    from .cohort.worklist import Case
    from .evaluation.matching import compare
    from .report.outputs import check_output, write_outputs

    engine, case = ctx.obj, f"phantom-{seed}"
    with coded_exit(debug):
        check_output(output, case, overwrite)
        with _progress(Console(stderr=True)) as tell:
            tell(case, "making the phantom", 0.0)
            ct, truth = engine.make_phantom(seed, scoliosis_deg=35.0, fracture_rate=0.3, field_of_view="chest")
            found = engine.analyze(ct, engine.load_models(device.value), lambda stage, part: tell(case, stage, part))
            found = replace(found, case=case)
            extras = {
                "ct.nii.gz": lambda p: engine.write_ct(ct, p),
                "truth.json": lambda p: write_json(truth.to_json(), p),
            }
            folder = write_outputs(found, ct, output, overwrite, extras)
    _print_comparison(compare(found, truth.keypoints, list(truth.levels)), folder)
    if show:
        with coded_exit(debug):
            serve_review([Case(case, folder / "ct.nii.gz", folder)], port, reader, browser, show_names=True)


@app.command()
def phantom(
    ctx: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The CT: .nii.gz, .nrrd or .mha.")],
    truth: Annotated[Path | None, typer.Option(help="Gets the exact key points, curve and levels (JSON).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another body.")] = 0,
    scoliosis: Annotated[
        float | None, typer.Option(min=0, max=80, help="Cobb angle in degrees; random if not given.")
    ] = None,
    fracture_rate: Annotated[float | None, typer.Option(min=0, max=1, help="Chance of a fracture a vertebra.")] = None,
    field_of_view: Annotated[
        FieldOfView | None, typer.Option(help="Random if not given; spine is a tight crop.")
    ] = None,
    spacing: Annotated[str | None, typer.Option(help="In-plane x slice spacing in mm, such as 0.7x0.8.")] = None,
    noise: Annotated[float | None, typer.Option(min=0, help="Standard deviation of the noise in HU.")] = None,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a synthetic CT of the trunk with exactly known key points."""
    from .ct import WRITTEN

    if not output.name.lower().endswith(WRITTEN):
        raise typer.BadParameter(f"{output.name}: name the CT *.nii.gz, *.nrrd or *.mha.", param_hint="--output")
    wanted = {
        "scoliosis_deg": scoliosis,
        "fracture_rate": fracture_rate,
        "field_of_view": field_of_view.value if field_of_view else None,
        "spacing_mm": _numbers(spacing, 2, float) if spacing else None,
        "noise_hu": noise,
    }
    options = {name: value for name, value in wanted.items() if value is not None}
    engine = ctx.obj
    with coded_exit(debug):
        targets = [path for path in (output, truth) if path]
        refuse_existing(targets, overwrite)
        ct, exact = engine.make_phantom(seed, **options)
        write_whole(output, lambda p: engine.write_ct(ct, p))
        if truth:
            write_whole(truth, lambda p: write_json(exact.to_json(), p))
    Console(stderr=True).print(f"Wrote {' and '.join(str(path) for path in targets)}.", markup=False, highlight=False)


@app.command()
def bench(
    ctx: typer.Context,
    shape: Annotated[str, typer.Option(help="Voxels along x, y, z.")] = "512x512x400",
    spacing: Annotated[str, typer.Option(help="Spacing in mm along x, y, z.")] = "0.7x0.7x0.8",
    repeats: Annotated[int, typer.Option(min=1, help="Runs of which the median is shown.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the phantom in the volume.")] = 0,
    device: DeviceOption = Device.AUTO,
    debug: DebugOption = False,
) -> None:
    """Measure speed and memory on a synthetic CT that is in memory already."""
    from .evaluation.bench import bench as measure
    from .evaluation.bench import on_grid
    from .report.terminal import bench_table

    engine = ctx.obj
    kji = _numbers(shape, 3, int)[::-1], _numbers(spacing, 3, float)[::-1]
    with coded_exit(debug), _progress(Console(stderr=True)) as show:
        show("bench", "making the volume", 0.0)
        ct = on_grid(engine.make_phantom(seed, field_of_view="chest")[0], *kji)
        models = engine.load_models(device.value)
        show("bench", f"{repeats} runs", 0.3)
        report = measure(ct, lambda volume: engine.analyze(volume, models), repeats, engine.read_ct, engine.write_ct)
    console = output_console()
    console.print(
        f"{shape} voxels of {spacing} mm, {report.vertebrae} vertebrae, median of {repeats} runs", highlight=False
    )
    console.print(bench_table(report))


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
            with _progress(self.complaints) as show:
                for path, case in studies:
                    done.append(self._study(path, case, show))
        except KeyboardInterrupt:
            told = f"Interrupted: {len(done)} of {len(studies)} scans are done; the same command goes on with the rest."
            self.complaints.print(told, highlight=False, soft_wrap=True)
            raise
        return done

    def _study(self, path: Path, case: str, show: Callable[[str, str, float], None]) -> SpineAnalysis:
        from .report.outputs import case_name

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
    from .report.terminal import case_table, vertebra_table

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


def _print_comparison(comparison: Any, folder: Path) -> None:
    from .report.terminal import comparison_table

    error = comparison.mean_point_error_mm
    console = output_console()
    console.print(comparison_table(comparison))
    console.print()
    console.print(
        f"Found {comparison.found} of {len(comparison.vertebrae)} vertebrae, {len(comparison.false)} false"
        + ("." if error is None else f"; the points are {error:.2f} mm off on average."),
        highlight=False,
    )
    console.print(
        f"Look at {folder / 'overview.png'}; 3D Slicer opens ct.nii.gz and keypoints.mrk.json of the same folder.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, str, float], None]]:
    """A bar on `console`, and the function (case, stage, part of 1) that moves it."""
    columns = (
        TextColumn("{task.fields[case]}", markup=False),
        BarColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0, case="")
        shown = ""

        def show(case: str, stage: str, part: float) -> None:
            nonlocal shown
            if case != shown:
                progress.reset(task)
                shown = case
            progress.update(task, completed=part, description=stage, case=case)

        yield show


def _numbers(text: str, count: int, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """ "512x512x400" as numbers; all must be positive."""
    try:
        values = tuple(kind(part) for part in text.lower().split("x"))
    except ValueError:
        values = ()
    if len(values) != count or min(values) <= 0:
        raise typer.BadParameter(f"{text!r}: expected {count} positive numbers with an x between them.")
    return values


if __name__ == "__main__":
    app()
