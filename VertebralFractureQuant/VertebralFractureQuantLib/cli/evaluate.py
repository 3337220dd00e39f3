"""`vfq evaluate`: compute the published tables, for the public annotations or for analyses with references.

The figures are computed in `evaluation/`; this file reads arguments, and writes and prints results.
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

evaluate_app = typer.Typer(
    name="evaluate",
    help="Compute the published tables, for expert annotations or for analyses with references.",
    no_args_is_help=True,
)

RepeatsOption = Annotated[int, typer.Option(min=0, help="Number of bootstrap draws for the 95 % intervals.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")]


@dataclass(frozen=True)
class Outcome:
    """The results of an evaluation, ready to be written and printed.

    Attributes
    ----------
    record : the JSON object.
    draw : draws the figure into a file.
    tables : what the terminal shows.
    write_rows : writes one row for each vertebra into a file; None if there are no rows.
    whole : False if a part of the input could not be evaluated; the tables say which.
    """

    record: dict[str, Any]
    draw: Callable[[Path], None]
    tables: Group
    write_rows: Callable[[Path], None] | None = None
    whole: bool = True


@evaluate_app.command("annotations")
def evaluate_annotations(
    folder: Annotated[Path, typer.Argument(help="Folder of the public six-point annotations (JSON files).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Output folder for evaluation.json and evaluation.png.")
    ] = Path("evaluation-annotations"),
    repeats: RepeatsOption = 1000,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Count the annotated vertebrae by grade and level, and measure the agreement of the experts."""

    def evaluate() -> Outcome:
        """Evaluate the annotations."""
        from ..evaluation.experts import evaluate_annotations as measure
        from ..report.evaluation_figure import write_annotations_figure
        from ..report.evaluation_terminal import annotations_tables

        found = measure(folder, repeats, seed)
        return Outcome(
            found.to_json(),
            partial(write_annotations_figure, found),
            annotations_tables(found),
            whole=not found.problems,
        )

    run_evaluation(evaluate, output, overwrite, debug)


@evaluate_app.command("predictions")
def evaluate_predictions(
    analyses: Annotated[Path, typer.Argument(metavar="PRED", help="Folder of analyses, as `vfq analyze` writes it.")],
    reference: Annotated[
        Path,
        typer.Option(
            "--reference",
            "-r",
            help="Folder or file of references, phantom truths, public annotations or reviewed analyses.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Output folder for evaluation.json, evaluation.png and evaluation.csv."),
    ] = Path("evaluation-predictions"),
    reviewed: Annotated[
        bool, typer.Option("--reviewed", help="Evaluate the analyses after review; by default, as they were before it.")
    ] = False,
    repeats: RepeatsOption = 1000,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare analyses with references: curve, detection, grades, key points and heights.

    A reference belongs to each analysis whose case has the same name, or a name that begins with it ("X_ct" with "X").
    A single reference file belongs to a single analysis whatever their names. evaluation.csv has one row for each
    vertebra that was found, missed or falsely detected.
    """

    run_evaluation(partial(predictions_outcome, analyses, reference, repeats, seed, reviewed), output, overwrite, debug)


def predictions_outcome(
    analyses: Path, reference: Path, repeats: int = 1000, seed: int = 0, reviewed: bool = False
) -> Outcome:
    """Evaluate predictions. VFQError as `evaluation.predictions.evaluate_predictions`."""
    from ..evaluation.predictions import evaluate_predictions as measure
    from ..report.evaluation_figure import write_predictions_figure
    from ..report.evaluation_rows import write_rows
    from ..report.evaluation_terminal import predictions_tables

    found = measure(analyses, reference, repeats, seed, reviewed)
    draw, write = partial(write_predictions_figure, found), partial(write_rows, found.scans)
    return Outcome(found.to_json(), draw, predictions_tables(found), write, whole=not found.problems)


@evaluate_app.command("repeatability")
def evaluate_repeatability(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with one sub-folder for each patient, which holds the folders of two or more analysed cases "
            "between which nothing has changed."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Output folder for repeatability.json, repeatability.png and repeatability.csv."
        ),
    ] = Path("evaluation-repeatability"),
    repeats: RepeatsOption = 1000,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how well heights and G repeat, from scans of the same patients without change between them.

    Gives the standard deviation within a vertebra, limits of agreement and the smallest detectable change.
    """

    def evaluate() -> Outcome:
        """Compare the examinations of each patient."""
        from ..evaluation.repeatability import evaluate_repeatability as measure
        from ..report.repeatability import (
            repeatability_tables,
            write_repeatability_figure,
            write_repeatability_rows,
        )

        found = measure(folder, repeats, seed)
        draw, write = partial(write_repeatability_figure, found), partial(write_repeatability_rows, found)
        return Outcome(found.to_json(), draw, repeatability_tables(found), write, whole=not found.problems)

    run_evaluation(evaluate, output, overwrite, debug, "repeatability")


def run_evaluation(
    evaluate: Callable[[], Outcome], output: Path, overwrite: bool, debug: bool, name: str = "evaluation"
) -> None:
    """Evaluate, write the files and print the tables; a failure, also of a part, ends the command with status 3."""
    record, picture, rows = (output / f"{name}.{suffix}" for suffix in ("json", "png", "csv"))
    console = output_console()
    with coded_exit(debug):
        refuse_existing((record, picture, rows), overwrite)
        with Console(stderr=True).status("evaluating"):
            outcome = evaluate()

        def draw(path: Path) -> None:
            """Write the figure, the rows and the record."""
            outcome.draw(path)
            if outcome.write_rows:
                write_whole(rows, outcome.write_rows)
            write_whole(record, lambda beside: write_json(outcome.record, beside))

        write_whole(picture, draw)
        console.print(outcome.tables)
    where = f"Figure: {picture}. All numbers are in {record.name} beside it."
    console.print(where, markup=False, highlight=False, soft_wrap=True)
    console.print(NOTICE, style="dim")
    if not outcome.whole:
        Console(stderr=True).print(INCOMPLETE, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_CODED_FAILURE)
