"""The report of one study: plain text, JSON, one HTML page that needs no other file, and a PDF of one or two pages.

It is made from the folder of the case alone; the picture comes from its straightened volume, or from the CT if given.
It says nothing of the patient but the name of the case.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..spine.curve import fit_curve
from ..spine.record import SpineAnalysis, check_belongs
from ..spine.record_json import read_analysis
from .findings import Findings, Row, findings
from .markups import GRADE_COLORS
from .outputs import MACHINE_NAME, read_straightened
from .panels import Panel, stored_panel, straightened_panel
from .prior import Prior
from .wording import Changes, Section, TableRow, Wording, plain

SCHEMA = "vfq-report/1"
TEXT_COLUMNS = (0, 5, 6, 8)  # of the table; the others are numbers


@dataclass(frozen=True)
class Report:
    """A report that is ready to be written in each format.

    picture : PNG; None without a straightened image.
    changes : the table of changes since a prior examination: its columns, and the cells of each vertebra; None without.
    """

    found: Findings
    wording: Wording
    sections: tuple[Section, ...]
    columns: tuple[str, ...]
    table: tuple[TableRow, ...]
    picture: bytes | None
    changes: Changes | None = None


def make_report(
    analysis: SpineAnalysis, wording: Wording, panel: Panel | None = None, prior: Prior | None = None
) -> Report:
    """Return the report of a measured study.

    panel : the straightened image, see `case_panel`.
    prior : the comparison with a prior examination, see `prior.prior_of`.

    Raises
    ------
    VFQError
        The code of a study that failed; `bad_template` for an error in a site's template.
    """
    if analysis.status != "ok":
        raise VFQError(
            analysis.status, f"{analysis.case}: there is no report, as the analysis failed. {analysis.message}"
        )
    found = findings(analysis, prior)
    words = wording.words["page"]
    columns = (
        words["level"],
        *words["height_columns"],
        *(words[k] for k in ("ratio", "grade", "shape", "loss", "state")),
    )
    rows = tuple(_table_row(row, wording) for row in found.rows)
    names = [row.cells[0] for row in rows]
    picture = _picture(analysis, panel, names, wording.words["decimal"]) if panel else None
    changes = wording.changes(prior) if prior else None
    return Report(found, wording, wording.sections(found), columns, rows, picture, changes)


def report_text(report: Report) -> str:
    """Return the sentences, ready to be pasted into a report system."""
    return plain(report.sections)


def report_html(report: Report) -> str:
    """Return the page, with its picture inside."""
    picture = report.picture and "data:image/png;base64," + base64.b64encode(report.picture).decode()
    return report.wording.page(
        f=report.found,
        sections=[(s.heading, s.paragraphs) for s in report.sections],
        columns=report.columns,
        texts=TEXT_COLUMNS,
        table=report.table,
        picture=picture,
        changes=report.changes,
    )


def report_json(report: Report) -> str:
    """Return the findings and the sentences as JSON, see `vfq-report-1.schema.json`."""
    sections = [{"heading": s.heading, "paragraphs": list(s.paragraphs)} for s in report.sections]
    document = {
        "schema": SCHEMA,
        "language": report.wording.language,
        **_rounded(asdict(report.found)),
        "sections": sections,
        "notice": report.wording.words["page"]["notice"],
    }
    document["vertebrae"] = document.pop("rows")
    document["fractures"] = [row.name for row in report.found.fractures]
    document["not_assessable"] = {reason: names for reason, names in report.found.not_assessable}
    document["study_doubts"] = [{"code": code, "where": where} for code, where in report.found.study_doubts]
    document["signatures"] = [dict(zip(("reader", "role", "at"), s, strict=True)) for s in report.found.signatures]
    document["models"] = [dict(zip(("role", "name", "hash"), m, strict=True)) for m in report.found.models]
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: Any) -> Any:
    """Return plain data with its numbers rounded to four decimals."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def report_pdf(report: Report) -> bytes:
    """Return the PDF. VFQError `missing_dependency` without reportlab."""
    try:
        from .pdf import draw_pdf
    except ImportError as error:
        message = "A PDF needs the package reportlab. Install it with pip install 'vertebral-fracture-quant[report]'."
        raise VFQError("missing_dependency", message) from error
    return draw_pdf(
        report.found.case,
        report.wording.words["page"],
        report.sections,
        report.columns,
        report.table,
        report.picture,
        report.changes,
    )


FORMATS: dict[str, Callable[[Report], str | bytes]] = {
    "html": report_html,
    "pdf": report_pdf,
    "txt": report_text,
    "json": report_json,
}


def case_panel(folder: Path, analysis: SpineAnalysis, ct: CTVolume | None = None) -> Panel | None:
    """Return the straightened image of a case: from the CT, else from the volume in its folder; None if there is none.

    The automatic straightened volume serves a review, too, as long as its curve is the same. VFQError `other_ct` if the
    CT is not the analysed one.
    """
    if not len(analysis.curve):
        return None
    if ct is not None:
        check_belongs(analysis, ct.voxels.shape, ct.ijk_to_ras)
        return straightened_panel(analysis, ct, fit_curve(analysis.curve))
    file = stored_straightened(folder, analysis)
    if file is None:
        return None
    return stored_panel(analysis, read_straightened(file))


def stored_straightened(folder: Path, analysis: SpineAnalysis) -> Path | None:
    """Return the file of the straightened volume of a case along the curve of its record; None without one."""
    if (folder / "straightened.nrrd").exists():
        return folder / "straightened.nrrd"
    automatic, machine = folder / "machine-straightened.nrrd", folder / MACHINE_NAME
    same = automatic.exists() and machine.exists() and np.array_equal(read_analysis(machine).curve, analysis.curve)
    return automatic if same else None


def _picture(analysis: SpineAnalysis, panel: Panel, names: Sequence[str], decimal: str) -> bytes:
    from .print_picture import print_picture  # matplotlib is slow to import

    return print_picture(analysis, panel, names, decimal)


def _table_row(row: Row, wording: Wording) -> TableRow:
    page, number = wording.words["page"], wording.number
    ratio = ("~" if row.may_be else "") + wording.ratio(row.genant_ratio)
    grade = wording.words["grades"][row.grade] + (f" ({row.genant_grade})" if row.genant_grade else "")
    if row.physiologic:
        grade = page["physiologic"]
    cells = (
        wording.level(row.name) + ("" if row.level_certain else "?"),
        *(number(height, 1) for height in row.heights_mm),
        ratio + (f" ± {number(row.genant_spread, 2)}" if row.genant_spread is not None else ""),
        grade if row.counts else page["not_counted"],
        wording.words["shapes"][row.shape] if row.shape and row.loss else "",
        f"{number(row.loss.percent, 0)} %" if row.loss else "",
        wording.words["review"][row.review] + ("*" if row.by_reader else ""),
    )
    color = GRADE_COLORS["normal" if row.physiologic else row.grade] if row.counts else (0.5, 0.5, 0.5)
    return TableRow(cells, "#" + "".join(f"{round(255 * c):02x}" for c in color), row.counts, row.loss is not None)
