"""`vfq evaluate`: the published tables, for the public annotations and for any set of analyses with references.

A face only, as `cli`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group

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

evaluate_app = typer.Typer(
    name="evaluate", help="The published tables: for expert annotations, and for analyses.", no_args_is_help=True
)

RepeatsOption = Annotated[int, typer.Option(min=0, help="Bootstrap draws behind the 95 % intervals.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the bootstrap.")]


@dataclass(frozen=True)
class Outcome:
    """What a command leaves: the JSON object, the function that draws the picture into a file, the tables, and the
    function that writes one row a vertebra into a file, if there is one."""

    record: dict[str, Any]
    draw: Callable[[Path], None]
    tables: Group
    write_rows: Callable[[Path], None] | None = None


@evaluate_app.command("annotations")
def evaluate_annotations(
    folder: Annotated[Path, typer.Argument(help="JSON files of the public six-point annotations.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Gets evaluation.json and evaluation.png.")] = Path(
        "evaluation-annotations"
    ),
    repeats: RepeatsOption = 1000,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Count the annotated vertebrae by grade and level, and measure how the experts agree."""

    def evaluate() -> Outcome:
        from ..evaluation.experts import evaluate_annotations as measure
        from ..report.evaluation_figure import write_annotations_figure
        from ..report.evaluation_terminal import annotations_tables

        found = measure(folder, repeats, seed)
        return Outcome(found.to_json(), partial(write_annotations_figure, found), annotations_tables(found))

    _run(evaluate, output, overwrite, debug)


@evaluate_app.command("predictions")
def evaluate_predictions(
    analyses: Annotated[Path, typer.Argument(metavar="PRED", help="Folder of analyses, as `vfq analyze` writes it.")],
    reference: Annotated[
        Path,
        typer.Option(
            "--reference", "-r", help="Folder or file: references, phantom truths, annotations, corrected analyses."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Gets evaluation.json, .png and .csv.")] = Path(
        "evaluation-predictions"
    ),
    reviewed: Annotated[
        bool, typer.Option("--reviewed", help="Evaluate analyses as a person left them, not as the machine made them.")
    ] = False,
    repeats: RepeatsOption = 1000,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Hold analyses against references: curve, detection, grades, points and heights.

    A reference belongs to the analyses whose case has its name, or a name that begins with it ("X_ct" from "X"); a
    single file to a single analysis. evaluation.csv has a row for each vertebra that was found, missed or made up.
    """

    def evaluate() -> Outcome:
        from ..evaluation.predictions import evaluate_predictions as measure
        from ..report.evaluation_figure import write_predictions_figure
        from ..report.evaluation_rows import write_rows
        from ..report.evaluation_terminal import predictions_tables

        found = measure(analyses, reference, repeats, seed, reviewed)
        draw, write = partial(write_predictions_figure, found), partial(write_rows, found.scans)
        return Outcome(found.to_json(), draw, predictions_tables(found), write)

    _run(evaluate, output, overwrite, debug)


def _run(evaluate: Callable[[], Outcome], output: Path, overwrite: bool, debug: bool) -> None:
    """Evaluate, write the files and print the tables; a failure ends the command with its code."""
    record, picture, rows = (output / f"evaluation.{suffix}" for suffix in ("json", "png", "csv"))
    console = output_console()
    with coded_exit(debug):
        refuse_existing((record, picture, rows), overwrite)
        with Console(stderr=True).status("evaluating"):
            outcome = evaluate()

        def draw(path: Path) -> None:
            outcome.draw(path)
            if outcome.write_rows:
                write_whole(rows, outcome.write_rows)
            write_whole(record, lambda beside: write_json(outcome.record, beside))

        write_whole(picture, draw)
        console.print(outcome.tables)
    where = f"Look at {picture}; every number is in {record.name} beside it."
    console.print(where, markup=False, highlight=False, soft_wrap=True)
    console.print(NOTICE, style="dim")
