"""Tables of analyses for the terminal (rich); all numbers come from the records.

"~" after a ratio means that it is near a threshold, "?" after a level that it is in doubt. "of neighbours" marks a
crush ratio (see `genant.Measurement`), which is shown if it decided the grade. The column "doubts" counts the reasons
to doubt a study, or names those of a vertebra; `doubt_lines` writes them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..spine.expected import sentence
from ..spine.genant import Measurement, deciding_text
from ..spine.quality import codes_text, is_suspect
from ..spine.record import SpineAnalysis, Vertebra, not_counted_text, physiologic_text, shown_names, worst_text

if TYPE_CHECKING:
    from ..evaluation.bench import BenchReport
    from ..evaluation.matching import Comparison, VertebraComparison

GRADE_STYLES = {"normal": "green", "mild": "yellow", "moderate": "dark_orange", "severe": "bold red"}


def case_table(analyses: Sequence[SpineAnalysis]) -> Table:
    """Return a table with one row for each case."""
    table = _table("case", "vertebrae", "worst", "SDI", "borderline", "doubts", "status", "seconds")
    for analysis in analyses:
        table.add_row(*_case_row(analysis))
    return table


def vertebra_table(analysis: SpineAnalysis) -> Table:
    """Return a table with one row for each vertebra of a case; heights in mm.

    "loss %" is that of the anterior / middle / posterior height against what the neighbours lead to expect.
    """
    table = _table("level", "ha", "hm", "hp", "G", "grade", "shape", "score", "doubts", "loss %")
    for vertebra, name in zip(analysis.vertebrae, shown_names(analysis.vertebrae), strict=True):
        table.add_row(*_vertebra_row(vertebra, name))
    return table


def doubt_lines(analysis: SpineAnalysis) -> list[Text]:
    """Return a line for each reason to doubt a case, and what is said of shapes at this level or beside these ones."""
    lines = [Text(f.message, style="yellow" if is_suspect(f) else "") for f in analysis.quality]
    paired = zip(shown_names(analysis.vertebrae), analysis.vertebrae, strict=True)
    named = [(name, v) for name, v in paired if v.review != "rejected"]
    usual = [f"{name}: {v.physiologic}" for name, v in named if v.physiologic]
    beside = [
        f"{name}: {told}" for name, v in named if not v.physiologic and (told := sentence(v.expected, v.measurement))
    ]
    return [
        *lines,
        *([Text(f"Physiologic, counted as normal: {' '.join(usual)}")] if usual else []),
        *([Text(f"Against the neighbours: {' '.join(beside)}")] if beside else []),
    ]


def comparison_table(comparison: Comparison) -> Table:
    """Return a table with one row for each true vertebra: true and measured ratio and grade, and the point error."""
    table = _table("level", "true G", "measured G", "true grade", "measured grade", "point error mm")
    for vertebra in comparison.vertebrae:
        table.add_row(*_comparison_row(vertebra))
    return table


def bench_table(report: BenchReport) -> Table:
    """Return a table of median seconds for each part of the analysis, then memory and straightening."""
    table = _table("part", "median")
    for part, seconds in report.seconds.items():
        table.add_row(part, f"{seconds:.3f} s")
    table.add_row("peak memory above the volume", f"{report.peak_mb:.0f} MB")
    table.add_row("straightening the sagittal plane", f"{1000 * report.plane_s:.1f} ms")
    table.add_row(
        "straightening the whole volume", f"{1000 * report.volume_s:.1f} ms ({report.plane_speedup:.0f} times)"
    )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        words = name in ("worst", "doubts") or name.endswith(
            "G"
        )  # left, so that "~" does not shift digits; a long crush may wrap
        table.add_column(name, justify="left" if words else "right", no_wrap=not words)
    return table


def _case_row(analysis: SpineAnalysis) -> tuple[Text, ...]:
    seconds = analysis.timing_s.get("total")
    suspect = any(map(is_suspect, analysis.quality))
    measured, sdi = analysis.status == "ok", analysis.spinal_deformity_index
    return (
        Text(analysis.case),
        Text(str(len(analysis.graded)) if measured else ""),
        _worst(analysis),
        Text("" if sdi is None else str(sdi)),
        Text(str(sum(v.measurement.borderline for v in analysis.graded)) if measured else ""),
        Text(str(len(analysis.quality)) if measured else "", style="yellow" if suspect else ""),
        Text(analysis.status, style="green" if measured else "bold red"),
        Text("" if seconds is None else f"{seconds:.1f}"),
    )


def _worst(analysis: SpineAnalysis) -> Text:
    worst, grade, left_out = worst_text(analysis), analysis.patient_grade, physiologic_text(analysis)
    told = "; ".join(filter(None, (worst, left_out, not_counted_text(analysis))))
    return Text(told if analysis.status == "ok" else "", style="" if grade is None else GRADE_STYLES[grade])


def _vertebra_row(vertebra: Vertebra, name: str) -> tuple[Text, ...]:
    m = vertebra.measurement
    return (
        Text(name),
        *(Text(f"{h:.1f}") for h in m.heights_mm),
        Text(_ratio(m)),
        Text(f"{m.grade}, physiologic" if vertebra.physiologic else m.grade, style=GRADE_STYLES[vertebra.called]),
        Text(m.shape or ""),
        Text(f"{vertebra.score:.2f}"),
        Text(codes_text(vertebra.quality).replace(" ", ", "), style="yellow"),
        Text("/".join(f"{round(100 * loss)}" for loss in vertebra.expected.loss) if vertebra.expected else ""),
    )


def _comparison_row(vertebra: VertebraComparison) -> tuple[Text, ...]:
    true, measured = vertebra.truth, vertebra.measured
    missed = Text("missed", style="bold red")
    error = "" if vertebra.point_error_mm is None else f"{vertebra.point_error_mm:.2f}"
    return (
        Text(vertebra.name),
        Text(_ratio(true)),
        Text(_ratio(measured)) if measured else missed,
        Text(true.grade, style=GRADE_STYLES[true.grade]),
        Text(measured.grade, style=GRADE_STYLES[measured.grade]) if measured else Text(""),
        Text(error),
    )


def _ratio(measurement: Measurement) -> str:
    return f"{deciding_text(measurement)} {'~' if measurement.borderline else ''}"
