"""`vfq agreement`: how far the readers of a label set agree, with each other and with the automatic result."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

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


class Method(str, Enum):
    """How the readers' points become one."""

    MEAN = "mean"
    MEDIAN = "median"


def agreement(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of the label set.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Output folder for agreement.html and agreement.json.")
    ] = Path("agreement"),
    analyses: Annotated[
        Path | None,
        typer.Option(help="Folder of automatic results to compare with the readers, as vfq analyze writes it."),
    ] = None,
    reader: Annotated[
        list[str] | None, typer.Option(help="Whose readings; repeat it for each.", show_default="all readers")
    ] = None,
    consensus: Annotated[
        Method | None,
        typer.Option(help="Also write the readers' consensus into the label set.", show_default="no consensus"),
    ] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Number of bootstrap draws for the 95 % intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how far the readers of a label set agree.

    Between readers, between a reader's first and second reading, and with the automatic result: distances of points,
    heights, G, grades and found vertebrae, by region and shape, with intervals over patients. The page lists the
    largest disagreements first.
    """
    from ..labels.agreement import measure_agreement
    from ..labels.agreement_page import counts, page, rows, title
    from ..labels.consensus import write_consensus
    from ..labels.dataset import load

    html, record = output / "agreement.html", output / "agreement.json"
    with coded_exit(debug):
        refuse_existing((html, record), overwrite)
        found_set = load(dataset)
        with Console(stderr=True).status("comparing"):
            found = measure_agreement(found_set, analyses, reader or (), repeats, seed)
            text = page(found)
        write_whole(html, lambda path: path.write_text(text, encoding="utf-8"))
        write_whole(record, lambda path: write_json(found.to_json(), path))
        if consensus:
            doubtful = write_consensus(found_set, consensus.value)
            _say(f"Consensus written into {dataset / 'consensus'}; {doubtful} vertebrae need a third reader.")
        for compared in found.compared:
            table = Table(title=escape(f"{title(compared)}: {counts(compared)}"), title_justify="left")
            table.add_column("")
            table.add_column("value (95 % interval)")
            for name, value in rows(compared.estimates):
                table.add_row(name, value)
            output_console().print(table)
    _say(f"Page: {html}. {len(found.worst)} vertebrae differ in grade, or by more than 2 mm. {NOTICE}")


def _say(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
