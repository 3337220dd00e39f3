"""`vfq phantom` and `vfq demo`: make synthetic CT scans whose key points are known exactly, and analyse one."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .common import (
    BrowserOption,
    DebugOption,
    Device,
    DeviceOption,
    OverwriteOption,
    PortOption,
    ReaderOption,
    coded_exit,
    numbers,
    output_console,
    progress_bar,
    refuse_existing,
    write_json,
    write_whole,
)
from .review import serve_review


class FieldOfView(str, Enum):
    """The part of the body that a phantom shows."""

    WHOLE = "whole"
    CHEST = "chest"
    ABDOMEN = "abdomen"
    SPINE = "spine"


def demo(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Output folder; the case gets its own subfolder.")
    ] = Path("vfq-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Random seed; each seed gives a different patient.")] = 7,
    device: DeviceOption = Device.AUTO,
    overwrite: OverwriteOption = False,
    show: Annotated[
        bool, typer.Option("--review/--no-review", help="Open the case for review in the browser, or only analyse it.")
    ] = True,
    port: PortOption = 0,
    reader: ReaderOption = None,
    browser: BrowserOption = True,
    debug: DebugOption = False,
) -> None:
    """Analyse a synthetic chest CT with scoliosis and fractures, compare it with the exact truth, and review it."""
    from ..cohort.worklist import Case
    from ..evaluation.matching import compare
    from ..report.outputs import check_output, write_outputs

    engine, case = ctx.obj, f"phantom-{seed}"
    with coded_exit(debug):
        check_output(output, case, overwrite)
        with progress_bar(Console(stderr=True)) as tell:
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


def phantom(
    ctx: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the CT: *.nii.gz, *.nrrd or *.mha.")],
    truth: Annotated[
        Path | None,
        typer.Option(help="JSON file for the exact key points, curve and levels.", show_default="not written"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; each seed gives a different patient.")] = 0,
    scoliosis: Annotated[
        float | None, typer.Option(min=0, max=80, help="Cobb angle in degrees.", show_default="random")
    ] = None,
    fracture_rate: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Probability that a vertebra from T4 to L5 is fractured.", show_default="0.2"),
    ] = None,
    field_of_view: Annotated[
        FieldOfView | None, typer.Option(help="Part of the body; spine is a tight crop.", show_default="random")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="In-plane x slice spacing in mm, such as 0.7x0.8.", show_default="random")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(min=0, max=1000, help="Standard deviation of the noise in HU.", show_default="random"),
    ] = None,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a synthetic CT of the trunk with exactly known key points."""
    from ..imaging.files import WRITTEN

    if not output.name.lower().endswith(WRITTEN):
        message = f"{output.name}: the name of the CT must end in .nii.gz, .nrrd or .mha."
        raise typer.BadParameter(message, param_hint="--output")
    wanted = {
        "scoliosis_deg": scoliosis,
        "fracture_rate": fracture_rate,
        "field_of_view": field_of_view.value if field_of_view else None,
        "spacing_mm": numbers(spacing, 2, float, "--spacing") if spacing else None,
        "noise_hu": noise,
    }
    options = {name: value for name, value in wanted.items() if value is not None}
    _check_numbers(options)
    if truth and _same_file(output, truth):
        raise typer.BadParameter(f"{truth.name}: this is the file of the CT. Give another name.", param_hint="--truth")
    engine = ctx.obj
    with coded_exit(debug):
        targets = [path for path in (output, truth) if path]
        refuse_existing(targets, overwrite)
        ct, exact = engine.make_phantom(seed, **options)
        write_whole(output, lambda p: engine.write_ct(ct, p))
        if truth:
            write_whole(truth, lambda p: write_json(exact.to_json(), p))
    Console(stderr=True).print(f"Wrote {' and '.join(str(path) for path in targets)}.", markup=False, highlight=False)


def _check_numbers(options: dict[str, Any]) -> None:
    """Refuse NaN, which lies within all limits, and a spacing that `read_ct` would refuse."""
    from ..imaging.checks import SPACING_LIMITS_MM

    low, high = SPACING_LIMITS_MM
    for name, value in options.items():
        if isinstance(value, float) and math.isnan(value):
            hint = "--" + name.removesuffix("_deg").removesuffix("_hu").replace("_", "-")
            raise typer.BadParameter("give a number.", param_hint=hint)
    if not all(low <= value <= high for value in options.get("spacing_mm", ())):
        raise typer.BadParameter(f"give {low} to {high:g} mm.", param_hint="--spacing")


def _same_file(one: Path, other: Path) -> bool:
    """True if both names lead to one file: by a link, or by letters that a file system does not tell apart."""
    with suppress(OSError):
        if one.samefile(other):
            return True
    return str(one.resolve()).casefold() == str(other.resolve()).casefold()


def _print_comparison(comparison: Any, folder: Path) -> None:
    from ..report.terminal import comparison_table

    error = comparison.mean_point_error_mm
    console = output_console()
    console.print(comparison_table(comparison))
    console.print()
    console.print(
        f"Found {comparison.found} of {len(comparison.vertebrae)} vertebrae, {len(comparison.false)} false"
        + ("." if error is None else f"; mean point error {error:.2f} mm."),
        highlight=False,
    )
    console.print(
        f"Overview image: {folder / 'overview.png'}. 3D Slicer opens ct.nii.gz and keypoints.mrk.json in that folder.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
