"""`vfq evaluate methods`: ours and other methods on the same phantoms and scans, in one table.

The figures are computed in `evaluation/`; this file reads arguments, and writes and prints results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import VFQError
from .common import (
    EXIT_CODED_FAILURE,
    INCOMPLETE,
    NOTICE,
    DebugOption,
    OverwriteOption,
    coded_exit,
    output_console,
    refuse_existing,
    write_json,
    write_whole,
)

if TYPE_CHECKING:
    from ..analysis import Models
    from ..evaluation.coverage import Cell
    from ..evaluation.methods import Block, Comparison, Systems
    from ..evaluation.problems import Problem

REAL = "real scans"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What the methods are to be compared on, and where the results and the intermediate files go."""

    output: Path
    phantoms: int
    references: list[Path]
    scans: Path | None
    annotations: Path | None
    repeats: int
    seed: int


def evaluate_methods(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Output folder for methods.json, two pictures, phantoms and analyses."),
    ] = Path("evaluation-methods"),
    phantoms: Annotated[int, typer.Option(min=0, help="Number of phantoms, of seeds that no training used.")] = 200,
    synthetic: Annotated[
        int, typer.Option(min=0, help="Number of phantoms that are also graded by synthetic pictures; scans are, too.")
    ] = 0,
    method: Annotated[
        list[str] | None, typer.Option(help="Method to run; can be repeated.", show_default="all with weights")
    ] = None,
    references: Annotated[
        list[Path] | None, typer.Option(help="Folder of six-point references of real CT; can be repeated.")
    ] = None,
    scans: Annotated[
        Path | None,
        typer.Option(help="Folder of CTs: those of the references, and all for the table of who measures what."),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Folder of the public six-point annotations by experts.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of your own networks, from `vfq train`.", show_default="shipped weights")
    ] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Number of bootstrap draws for the 95 % intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare the methods on phantoms with exact truth, real CT with references, and the experts' annotations.

    Phantoms and analyses are kept in the output folder, so that an interrupted evaluation resumes where it stopped.
    """
    record, picture, curves = (output / f"methods{end}" for end in (".json", ".png", "-curves.png"))
    messages = Console(stderr=True)
    with coded_exit(debug):
        refuse_existing((record, picture, curves), overwrite)
        if references and not scans:
            raise typer.BadParameter("--references needs --scans, the folder with their CTs.")
        from ..report.methods_curves import write_methods_curves
        from ..report.methods_table import methods_tables, write_methods_figure

        systems = _systems(method, weights, synthetic)
        wanted = Wanted(output, phantoms, references or [], scans, annotations, repeats, seed)
        with messages.status("evaluating") as status:
            compared = _compare(systems, wanted, status.update)
        write_whole(picture, lambda beside: write_methods_figure(compared, beside))
        write_whole(curves, lambda beside: write_methods_curves(compared, beside))
        write_whole(record, lambda beside: write_json(compared.to_json(), beside))
        output_console().print(methods_tables(compared))
    typer.echo(f"Figures: {picture}, {curves.name}. All numbers are in {record.name} beside them.")
    typer.echo(NOTICE)
    if compared.problems:
        messages.print(INCOMPLETE, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_CODED_FAILURE)


def _systems(chosen: list[str] | None, weights: Path | None, synthetic: int) -> Systems:
    """Load the networks of each method; a method without weights is listed, unless it was asked for."""
    from ..evaluation.methods import Systems
    from ..methods.healthy_picture import load_healer
    from ..methods.registry import METHODS, OURS, load_method

    found: dict[str, Models | VFQError] = {}
    for name in chosen or (OURS, *METHODS):
        try:
            found[name] = load_method(name, "cpu", weights)
        except VFQError as error:
            if chosen or error.code != "no_method_weights":
                raise
            found[name] = error
    return Systems(found, load_healer() if synthetic else None, synthetic)


def _compare(systems: Systems, wanted: Wanted, say: Say) -> Comparison:
    """Compute all blocks. VFQError `nothing_to_evaluate`."""
    from ..evaluation.expert_rules import expert_block
    from ..evaluation.methods import Comparison

    if not (wanted.phantoms or wanted.scans or wanted.annotations):
        raise VFQError(
            "nothing_to_evaluate",
            "There is nothing to compare the methods on. Give --phantoms, --references and --scans, or --annotations.",
        )
    experts = expert_block(wanted.annotations, wanted.repeats, wanted.seed) if wanted.annotations else None
    problems = list(experts.problems) if experts else []
    blocks = _blocks(systems, wanted, say, problems)
    covered = _coverage(systems, wanted, say)
    problems += _unmeasured(
        blocks, covered, [name for name, m in systems.methods.items() if not isinstance(m, VFQError)]
    )
    stamps = {n: [vars(s) for s in m.stamps] for n, m in systems.methods.items() if not isinstance(m, VFQError)}
    generator = systems.healer.stamp if systems.healer else None
    return Comparison(blocks, stamps, wanted.repeats, wanted.seed, covered, experts, generator, tuple(problems))


def _unmeasured(blocks: list[Block], covered: dict[str, dict[str, Cell]], methods: list[str]) -> list[Problem]:
    """Return the real scans that no method measured; that a phantom is not measured is a figure of the methods."""
    from ..evaluation.methods import unmeasured

    everywhere = [block.status for block in blocks if block.name == REAL]
    everywhere.append({method: {scan: cells[method].status for scan, cells in covered.items()} for method in methods})
    found = [problem for status in everywhere for problem in unmeasured(status)]
    return list({problem.file: problem for problem in found}.values())


def _blocks(systems: Systems, wanted: Wanted, say: Say, problems: list[Problem]) -> list[Block]:
    """Compute the blocks of phantoms and of real scans; what is wrong with the references is added to `problems`."""
    from ..evaluation.method_subjects import phantoms, real_scans
    from ..evaluation.methods import compare_methods

    say("drawing phantoms")
    kinds = {"phantoms": list(phantoms(wanted.phantoms, wanted.output / "phantoms")) if wanted.phantoms else []}
    kinds[REAL] = list(real_scans(wanted.references, wanted.scans, problems)) if wanted.scans else []
    return [
        compare_methods(subjects, name, systems, wanted.output, say, wanted.repeats, wanted.seed)
        for name, subjects in kinds.items()
        if subjects
    ]


def _coverage(systems: Systems, wanted: Wanted, say: Say) -> dict[str, dict[str, Cell]]:
    """Run every system on every CT of --scans, and return what each measured."""
    if wanted.scans is None:
        return {}
    from ..cohort.worklist import find_cases
    from ..evaluation.coverage import coverage
    from ..evaluation.method_subjects import scan_of
    from ..methods.registry import OURS

    scans = [scan_of(case.name, case.source) for case in find_cases([wanted.scans], wanted.output)]
    return coverage(scans, systems.methods, OURS, systems.healer, wanted.output, say)
