"""`vfq dataset`: make a label set, say who reads what, and exchange its labels with other programs.

What is done is in `labels/`; this file reads arguments and prints what was done.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import VFQError
from .common import DebugOption, TrustHeaderOption, coded_exit, output_console

dataset_app = typer.Typer(
    name="dataset",
    help="Label sets: six-point labels of your own CTs by several readers, on disk.",
    no_args_is_help=True,
)

DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of the label set.")]
PatientsOption = Annotated[
    Path | None,
    typer.Option(help="CSV with the columns case and patient.", show_default="each CT is another patient"),
]


class Mode(str, Enum):
    """What readers see."""

    BLINDED = "blinded"
    ASSISTED = "assisted"


class First(str, Enum):
    """Which cases come first."""

    UNSURE = "unsure"
    DISAGREEMENT = "disagreement"


FirstOption = Annotated[
    First | None,
    typer.Option(
        "--first",
        help="Put first the cases where the automatic result is least sure (needs --analyses), or where readers "
        "disagree most.",
        show_default="random order",
    ),
]
AnalysesOption = Annotated[
    Path | None, typer.Option(help="Folder of automatic results, as vfq analyze writes it, for --first unsure.")
]


class ImportForm(str, Enum):
    """Forms of files that can be imported."""

    AUTO = "auto"
    ANNOTATIONS = "annotations"
    MARKUPS = "markups"
    CSV = "csv"
    CENTROIDS = "centroids"
    REFERENCE = "reference"
    ANALYSIS = "analysis"
    READING = "reading"
    MASK = "mask"


class ExportForm(str, Enum):
    """Forms of files that can be exported."""

    ANNOTATIONS = "annotations"
    MARKUPS = "markups"
    CSV = "csv"
    CENTROIDS = "centroids"
    REFERENCE = "reference"


class Numbers(str, Enum):
    """Which numbers a mask has."""

    TOTALSEGMENTATOR = "totalsegmentator"
    VERSE = "verse"


@dataset_app.command("create")
def create(
    dataset: DatasetArgument,
    scans: Annotated[list[Path] | None, typer.Argument(metavar="[CT]...", help="CT files or DICOM folders.")] = None,
    reader: Annotated[list[str] | None, typer.Option(help="Name of a reader; repeat it for each.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the label set.", show_default="that of the folder")] = None,
    protocol: Annotated[Path | None, typer.Option(help="Text file with the instructions for the readers.")] = None,
    mode: Annotated[Mode, typer.Option(help="Blinded readers see no automatic points, and no other reader's.")] = (
        Mode.BLINDED
    ),
    level: Annotated[
        list[str] | None, typer.Option(help="A level to be read, such as T4; repeat it for each.", show_default="all")
    ] = None,
    points: Annotated[
        str | None,
        typer.Option(
            help="Order in which the six points are clicked: their names with spaces between.",
            show_default="A+ M+ P+ P- M- A-",
        ),
    ] = None,
    patients: PatientsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the order of cases.")] = 0,
    trust_header: TrustHeaderOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a label set in a new folder. Each CT is read once, so that a replaced CT is noticed later."""
    from ..labels.adding import read_cases
    from ..labels.dataset import changing, check_new, checked_reader, with_cases, with_readers
    from ..labels.dataset import create as make

    with coded_exit(debug):
        names = [checked_reader(each) for each in reader or ()]
        rules = {"text": _text(protocol) if protocol else "", "mode": mode.value, "levels": level}
        rules |= {"points": points.split()} if points else {}
        check_new(dataset, rules)
        with Console(stderr=True).status("reading the CTs") as shown:
            cases = read_cases(
                dataset, scans or [], patients, trust_header, lambda name: shown.update(f"reading {name}")
            )
        make(dataset, name or dataset.resolve().name, rules, seed)
        with changing(dataset) as held:
            held[0] = with_readers(with_cases(held[0], cases), names)
        _say(f"{dataset} has {len(cases)} cases. Next: vfq dataset assign {dataset}")


@dataset_app.command("add")
def add(
    dataset: DatasetArgument,
    scans: Annotated[list[Path] | None, typer.Argument(metavar="[CT]...", help="CT files or DICOM folders.")] = None,
    reader: Annotated[
        list[str] | None, typer.Option(help="Name of a reader, who gets no cases yet; repeat it for each.")
    ] = None,
    patients: PatientsOption = None,
    trust_header: TrustHeaderOption = False,
    debug: DebugOption = False,
) -> None:
    """Add CTs, readers or both to a label set. Nothing is assigned yet."""
    from ..labels.adding import add_cases
    from ..labels.dataset import load

    if not (scans or reader):
        raise typer.BadParameter("Give a CT, or a reader with --reader.")
    with coded_exit(debug), Console(stderr=True).status("reading the CTs") as shown:
        cases = add_cases(
            dataset, scans or [], patients, trust_header, lambda name: shown.update(f"reading {name}"), reader or ()
        )
        if cases:
            _say(f"{len(cases)} cases are in {dataset}. Next: vfq dataset assign {dataset}")
        if reader:
            _say(f"The readers are {', '.join(load(dataset).readers)}. Next: vfq dataset assign {dataset}")


@dataset_app.command("assign")
def assign(
    dataset: DatasetArgument,
    reader: Annotated[
        list[str] | None,
        typer.Option(help="Name of a reader, who may be new; repeat it for each.", show_default="all readers"),
    ] = None,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the cases that every reader reads; the others are dealt out.")
    ] = 1.0,
    second: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a reader's cases that this reader reads a second time.")
    ] = 0.0,
    after_days: Annotated[int, typer.Option(min=0, help="Days between the first and the second reading.")] = 14,
    first: FirstOption = None,
    analyses: AnalysesOption = None,
    debug: DebugOption = False,
) -> None:
    """Say who reads what, in an order that is random for each reader. Earlier assignments stay.

    With --first, the newly assigned cases of each reader come in that order.
    """
    from ..labels.assigning import assign as give
    from ..labels.dataset import changing, with_readers
    from ..labels.ordering import sorted_cases

    with coded_exit(debug), changing(dataset) as held:
        held[0] = with_readers(held[0], reader or ())
        readers = [name.strip() for name in reader or held[0].readers]
        if not readers:
            raise VFQError("no_reader", "The label set has no reader. Use --reader.")
        in_order = partial(sorted_cases, held[0], first=first.value, analyses=analyses) if first else None
        held[0] = give(held[0], readers, overlap, second, after_days, in_order)
        for name, own in held[0].assignments.items():
            again = sum(a.session > 1 for a in own)
            _say(f"{name}: {len(own) - again} cases, {again} second readings")


@dataset_app.command("status")
def status(
    dataset: DatasetArgument,
    verify: Annotated[bool, typer.Option("--verify", help="Read each CT and compare its voxels.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: DebugOption = False,
) -> None:
    """Show how far each reader is, and what is wrong with the files. Ends with status 3 if anything is."""
    from ..labels.dataset import load
    from ..labels.status import status as look

    with coded_exit(debug):
        found = look(load(dataset), verify)
        if as_json:
            typer.echo(json.dumps(asdict(found), indent=1, ensure_ascii=False))
        else:
            table = Table(title=escape(f"{found.name}: {found.cases} cases"), title_justify="left")
            for column in ("reader", "assigned", "final", "drafts", "not assigned", "next case"):
                table.add_column(column)
            for p in found.progress:
                counts = map(str, (p.assigned, p.final, p.drafts, p.unassigned))
                table.add_row(escape(p.reader), *counts, p.next_case or "")
            output_console().print(table)
        for code, sentence in found.problems:
            _say(f"{code}: {sentence}")
        if found.problems:
            raise typer.Exit(3)


@dataset_app.command("import")
def import_(
    dataset: DatasetArgument,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files with labels.")],
    form: Annotated[ImportForm, typer.Option("--format", help="Form of the files.")] = ImportForm.AUTO,
    reader: Annotated[str | None, typer.Option(help="Whose labels they are.", show_default="as the files say")] = None,
    case: Annotated[
        str | None, typer.Option(help="Case they belong to.", show_default="as the files or their names say")
    ] = None,
    numbers: Annotated[Numbers | None, typer.Option(help="Whose numbers a mask has.", show_default="none")] = None,
    pixel_mm: Annotated[
        float | None,
        typer.Option(min=0.01, help="Pixel size of annotations without their CT.", show_default="recovered"),
    ] = None,
    slice_mm: Annotated[float, typer.Option(min=0.01, help="Distance of their slices.")] = 0.8,
    correct: Annotated[
        bool, typer.Option("--correct", help="Add labels that differ from final ones as their next version.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Import labels: public annotations, Slicer markups, CSV, VerSe centroids, references, analyses, masks.

    All files are imported or none. Labels that the set has already are passed over. Key points from masks, centroids,
    and analyses that are not completely reviewed become drafts.
    """
    from ..labels.importing import Settings, import_files

    with coded_exit(debug):
        chosen = None if form is ImportForm.AUTO else form.value
        settings = Settings(chosen, reader, case, numbers and numbers.value, pixel_mm, slice_mm, correct)
        found = import_files(dataset, files, settings)
        for sentence in found.left_out:
            _say(f"Left out: {sentence}")
        _say(f"{len(found.saved)} readings imported, {found.known} known already.")
        if found.drafts:
            _say(f"Drafts among them: {found.drafts}. They count for nothing until a reader finishes them.")


@dataset_app.command("export")
def export(
    dataset: DatasetArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder.")],
    form: Annotated[ExportForm, typer.Option("--format", help="Form of the files.")] = ExportForm.ANNOTATIONS,
    reader: Annotated[
        list[str] | None, typer.Option(help="Whose readings; repeat it for each.", show_default="all readers")
    ] = None,
    consensus: Annotated[
        bool, typer.Option("--consensus", help="The consensus, as vfq agreement --consensus wrote it.")
    ] = False,
    session: Annotated[int, typer.Option(min=1, max=2, help="2 for the second readings.")] = 1,
    debug: DebugOption = False,
) -> None:
    """Export final readings, or the consensus, for other programs; references serve vfq evaluate and vfq train."""
    from ..labels.dataset import load
    from ..labels.exporting import export as write

    with coded_exit(debug):
        files, left_out = write(load(dataset), output, form.value, reader or (), consensus, session)
        for sentence in left_out:
            _say(f"Left out: {sentence}")
        _say(f"{len(files)} files written into {output}.")


@dataset_app.command("merge")
def merge(
    dataset: DatasetArgument,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="Folder of a copy with further readings.")],
    keep_both: Annotated[
        bool, typer.Option("--keep-both", help="Add readings that differ from ours as their next version.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Bring in the readings of a copy of the label set. Nothing is overwritten; repeat it after an interruption."""
    from ..labels.merging import merge as bring

    with coded_exit(debug):
        found = bring(dataset, other, keep_both)
        _say(f"{found.added} readings added, {found.known} known already, {found.versions} kept as further versions.")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.") from None
    except (OSError, ValueError) as error:
        raise VFQError("bad_import", f"{path.name} cannot be read as text ({error}). Save it as UTF-8.") from error


def _say(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
