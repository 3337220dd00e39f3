"""`vfq report`: the report of analysed cases, as text, HTML, PDF or JSON."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import VFQError
from .common import DebugOption, OverwriteOption, coded_exit, refuse_existing, write_whole

if TYPE_CHECKING:
    from ..report.prior import Prior
    from ..spine.record import SpineAnalysis


class Format(str, Enum):
    """The file that is written."""

    PDF = "pdf"
    HTML = "html"
    TXT = "txt"
    JSON = "json"


def report(
    ctx: typer.Context,
    case: Annotated[
        Path,
        typer.Argument(
            metavar="CASE", help="Folder of an analysed case, or a structured report that vfq dicom made of one."
        ),
    ],
    format: Annotated[
        Format, typer.Option(help="File to write; txt without --output goes to the terminal.")
    ] = Format.PDF,
    output: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="<CASE>-report.<format> in this folder")
    ] = None,
    language: Annotated[str, typer.Option(help="Language of the report: en or de.")] = "en",
    template: Annotated[
        Path | None,
        typer.Option(
            help="Folder with templates of your own: report.txt.j2, words.json, page.html.j2, or some of them."
        ),
    ] = None,
    ct: Annotated[
        Path | None,
        typer.Option("--ct", help="The scan, for a sharper picture, or if the case has no straightened image."),
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(metavar="CASE", help="Folder of an analysed earlier examination of the patient, to compare with."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=0, help="Days between the prior examination and this one.", show_default="unknown")
    ] = None,
    same_patient: Annotated[
        bool, typer.Option("--same-patient", help="Compare even if the vertebrae look like those of two patients.")
    ] = False,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the report of a case: vertebral fractures, levels that are not assessable, SDI, table and picture."""
    from ..dicom.back import read_record
    from ..report.document import FORMATS, case_panel, make_report
    from ..report.wording import Wording

    with coded_exit(debug):
        wording = Wording(language, template)
        to_terminal = format is Format.TXT and output is None
        name = case.stem if case.is_file() else case.resolve().name
        target = output or Path(f"{name}-report.{format.value}")
        if not to_terminal:
            refuse_existing([target], overwrite)
        analysis = read_record(_record(case))
        volume = ctx.obj.read_ct(ct) if ct else None
        drawn = format in (Format.PDF, Format.HTML)
        compared = _compared(case, analysis, prior, days, same_patient)
        made = make_report(analysis, wording, case_panel(case, analysis, volume) if drawn else None, compared)
        text = FORMATS[format.value](made)
        if to_terminal:
            typer.echo(text, nl=False)
        else:
            _write(text if isinstance(text, bytes) else text.encode(), target)


def _write(data: bytes, target: Path) -> None:
    write_whole(target, lambda path: path.write_bytes(data))
    Console(stderr=True).print(f"{target} written.", markup=False, highlight=False, soft_wrap=True)


def _record(case: Path) -> Path:
    """Return the file of the record: `case` itself, or that in the folder of a case."""
    record = case if case.is_file() else case / "analysis.json"
    if not record.exists():
        raise VFQError("not_found", f"{case.name}: the folder holds no analysis.json. Give the folder of a case.")
    return record


def _compared(
    case: Path, analysis: SpineAnalysis, prior: Path | None, days: int | None, same_patient: bool
) -> Prior | None:
    """Return the comparison of a case with an earlier one; None without one."""
    if prior is None:
        if days is not None or same_patient:
            raise typer.BadParameter("--days and --same-patient need the earlier case: give it with --prior.")
        return None
    from ..followup.comparison import Examination, compare
    from ..report.comparison_files import read_examination
    from ..report.prior import prior_of

    current = Examination(analysis) if case.is_file() else read_examination(case)
    return prior_of(compare(read_examination(prior), current, same_patient), days)
