"""`vfq bench`: measure time and memory of an analysis on this computer."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from .common import DebugOption, Device, DeviceOption, coded_exit, numbers, output_console, progress_bar


def bench(
    ctx: typer.Context,
    shape: Annotated[str, typer.Option(help="Number of voxels along x, y, z.")] = "512x512x400",
    spacing: Annotated[str, typer.Option(help="Voxel spacing in mm along x, y, z.")] = "0.7x0.7x0.8",
    repeats: Annotated[int, typer.Option(min=1, help="Number of runs; their median is shown.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the phantom in the volume.")] = 0,
    device: DeviceOption = Device.AUTO,
    debug: DebugOption = False,
) -> None:
    """Measure time and memory of an analysis of a synthetic CT; reading the file is timed separately."""
    from ..evaluation.bench import bench as measure
    from ..evaluation.bench import on_grid
    from ..report.terminal import bench_table

    engine = ctx.obj
    kji = numbers(shape, 3, int)[::-1], numbers(spacing, 3, float)[::-1]
    with coded_exit(debug), progress_bar(Console(stderr=True)) as show:
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
