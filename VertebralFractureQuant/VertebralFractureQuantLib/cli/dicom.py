"""`vfq dicom`: write the results of a case as DICOM objects, for an archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .common import DebugOption, coded_exit

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..spine.record import SpineAnalysis


def dicom(
    ctx: typer.Context,
    case: Annotated[Path, typer.Argument(metavar="CASE", help="Folder of an analysed case, as vfq analyze writes it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the DICOM files.")],
    source: Annotated[
        Path | None,
        typer.Option(help="Folder of the DICOM series that was analysed: identity of patient and study are its own."),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="UID of that series; only for a case that an older version analysed.")
    ] = None,
    overview: Annotated[bool, typer.Option("--overview/--no-overview", help="Also write the overview image.")] = True,
    pdf: Annotated[bool, typer.Option("--pdf/--no-pdf", help="Also write the report as PDF.")] = True,
    language: Annotated[str, typer.Option(help="Language of the report: en or de.")] = "en",
    template: Annotated[Path | None, typer.Option(help="Folder with templates of your own for the report.")] = None,
    debug: DebugOption = False,
) -> None:
    """Write a case as DICOM: structured report, overview image and report as PDF.

    The files hold the identity of the patient, copied from the series.
    """
    from ..dicom.case_report import case_report
    from ..dicom.export import export_case

    def read(analysis: SpineAnalysis) -> CTVolume:
        """Read the CT of a record."""
        return ctx.obj.read_ct(source, series or analysis.series, analysis.trust_header)

    with coded_exit(debug):
        report = case_report(case, language, template, read)
        written = export_case(case, source, output, series, overview, report if pdf else None)
        for path in written:
            Console(stderr=True).print(f"{path} written.", markup=False, highlight=False, soft_wrap=True)
