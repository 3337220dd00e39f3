"""`vfq healthy`: what a vertebra may have looked like before it broke, as a synthetic picture beside the real one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import VFQError
from .common import DebugOption, OverwriteOption, coded_exit, refuse_existing, write_json, write_whole

if TYPE_CHECKING:
    from ..spine.record import SpineAnalysis


def healthy(
    ctx: typer.Context,
    case: Annotated[Path, typer.Argument(metavar="CASE", help="Folder of an analysed case.")],
    level: Annotated[
        str | None, typer.Option(help="Vertebra to show, such as T11.", show_default="the one with the lowest G")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="PNG to write; a JSON file of the same name is written beside it.",
            show_default="<CASE>-<LEVEL>-synthetic.png in this folder",
        ),
    ] = None,
    ct: Annotated[
        Path | None, typer.Option("--ct", help="The scan, if the case's folder has no straightened volume.")
    ] = None,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a synthetic picture of a vertebra before its fracture, beside the real one, with its height loss."""
    from ..methods.healthy_picture import load_healer
    from ..report.healthy_sheet import case_sheet, ct_sampler, stored_sampler
    from ..spine.record import vertebra_name
    from ..spine.record_json import read_analysis

    if output and output.suffix.lower() != ".png":
        raise typer.BadParameter(f"--output {output.name}: the picture is a PNG. Give a name that ends in .png.")
    with coded_exit(debug):
        record = case / "analysis.json"
        if not record.exists():
            raise VFQError("not_found", f"{case.name}: the folder holds no analysis.json. Give the folder of a case.")
        analysis = read_analysis(record)
        if analysis.status != "ok":
            raise VFQError(analysis.status, f"{case.name}: the analysis failed. {analysis.message}")
        index = chosen(analysis, level)
        name = vertebra_name(analysis.vertebrae[index], index)
        target = output or Path(f"{case.resolve().name}-{name}-synthetic.png")
        beside = target.with_suffix(".json")
        refuse_existing([target, beside], overwrite)
        sample = ct_sampler(ctx.obj.read_ct(ct), analysis) if ct else stored_sampler(case, analysis)
        sheet = case_sheet(load_healer(), analysis, index, sample)
        write_whole(target, lambda path: path.write_bytes(sheet.png))
        write_whole(beside, lambda path: write_json(sheet.document, path))
        for line in sheet.told:
            typer.echo(line)
        Console(stderr=True).print(f"{target} written.", markup=False, highlight=False, soft_wrap=True)


def chosen(analysis: SpineAnalysis, level: str | None) -> int:
    """Return the index of the vertebra called `level`, or of the one with the lowest G.

    A vertebra without a level is called V1, V2, ... as in the tables. VFQError `not_found`.
    """
    from ..spine.record import vertebra_name

    vertebrae = analysis.vertebrae
    if level is None:
        counted = [i for i, v in enumerate(vertebrae) if v.counts] or list(range(len(vertebrae)))
        if not counted:
            raise VFQError("not_found", f"{analysis.case}: the case has no vertebra. Review it first.")
        return min(counted, key=lambda i: vertebrae[i].measurement.genant_ratio)
    names = [vertebra_name(v, i) for i, v in enumerate(vertebrae)]
    found = [i for i, name in enumerate(names) if name.lower() == level.lower()]
    if not found:
        raise VFQError("not_found", f"{analysis.case}: there is no vertebra {level}. Give one of {', '.join(names)}.")
    return found[0]
