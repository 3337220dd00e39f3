"""`vfq evaluate methods`: ours and other methods on the same phantoms and scans, in one table.

The figures are computed in `evaluation/`; this file reads arguments, and writes and prints results.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import VFQError
from .common import (
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
    from ..evaluation.methods import Comparison


def evaluate_methods(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Output folder for methods.json, methods.png and the analyses.")
    ] = Path("evaluation-methods"),
    phantoms: Annotated[int, typer.Option(min=0, help="Number of phantoms, of seeds that no training used.")] = 200,
    method: Annotated[
        list[str] | None, typer.Option(help="Method to run; can be repeated.", show_default="all with weights")
    ] = None,
    references: Annotated[
        list[Path] | None, typer.Option(help="Folder of six-point references of real CT; can be repeated.")
    ] = None,
    scans: Annotated[Path | None, typer.Option(help="Folder with the CTs of the references.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of your own networks, from `vfq train`.", show_default="shipped weights")
    ] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Number of bootstrap draws for the 95 % intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare the methods on phantoms with exact truth, and on real CT with references.

    Analyses are kept in the output folder, so that an interrupted evaluation resumes where it stopped.
    """
    record, picture = output / "methods.json", output / "methods.png"
    messages = Console(stderr=True)
    with coded_exit(debug):
        refuse_existing((record, picture), overwrite)
        if references and not scans:
            raise typer.BadParameter("--references needs --scans, the folder with their CTs.")
        from ..report.methods_table import methods_tables, write_methods_figure

        models = _models(method, weights)
        with messages.status("evaluating") as status:
            compared = _compare(models, phantoms, references or [], scans, output, repeats, seed, status.update)
        write_whole(picture, lambda beside: write_methods_figure(compared, beside))
        write_whole(record, lambda beside: write_json(compared.to_json(), beside))
        output_console().print(methods_tables(compared))
    typer.echo(f"Figure: {picture}. All numbers are in {record.name} beside it.")
    typer.echo(NOTICE)


def _models(chosen: list[str] | None, weights: Path | None) -> dict[str, Models | VFQError]:
    """Load the networks of each method; a method without weights is listed, unless it was asked for."""
    from ..methods.registry import METHODS, OURS, load_method

    found: dict[str, Models | VFQError] = {}
    for name in chosen or (OURS, *METHODS):
        try:
            found[name] = load_method(name, "cpu", weights)
        except VFQError as error:
            if chosen or error.code != "no_method_weights":
                raise
            found[name] = error
    return found


def _compare(
    models: dict[str, Models | VFQError],
    count: int,
    references: list[Path],
    scans: Path | None,
    output: Path,
    repeats: int,
    seed: int,
    say: object,
) -> Comparison:
    from ..evaluation.methods import Comparison, compare_methods, phantoms, real_scans

    kinds = {"phantoms": list(phantoms(count)) if count else []}
    kinds["real scans"] = list(real_scans(references, scans)) if references and scans else []
    if not any(kinds.values()):
        raise VFQError(
            "nothing_to_evaluate",
            "There is nothing to compare the methods on. Give --phantoms, or --references and --scans.",
        )
    blocks = [
        compare_methods(subjects, name, models, output, say, repeats, seed)  # type: ignore[arg-type]
        for name, subjects in kinds.items()
        if subjects
    ]
    stamps = {n: [vars(s) for s in m.stamps] for n, m in models.items() if not isinstance(m, VFQError)}
    return Comparison(blocks, stamps, repeats, seed)
