"""The PDF of a report, by reportlab: picture and sentences side by side on A4, then the table.

Lengths are in points. The same report gives the same bytes. Letters are DejaVu's, which matplotlib brings along.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    KeepTogether,
    NextPageTemplate,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from .wording import Changes, Section, TableRow

FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"
MARGIN, HEAD, FOOT, GAP = 14 * mm, 13 * mm, 9 * mm, 5 * mm
PICTURE_WIDTH = 60 * mm
INK, QUIET, LINE, NOTICE = HexColor("#16191d"), HexColor("#4c545d"), HexColor("#d7dbe0"), HexColor("#8a4b00")


def draw_pdf(
    case: str,
    words: Mapping[str, Any],
    sections: Sequence[Section],
    columns: Sequence[str],
    table: Sequence[TableRow],
    picture: bytes | None,
    changes: Changes | None = None,
) -> bytes:
    """Return a PDF of the sentences, the picture (PNG) and the tables; `words` are those of the page."""
    _register_fonts()
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer, pagesize=A4, title=f"{words['title']}: {case}", creator="VertebralFractureQuant", invariant=1
    )
    width, height = A4
    room, bottom = height - 2 * MARGIN - HEAD - FOOT, MARGIN + FOOT
    left = PICTURE_WIDTH + GAP if picture else 0
    draw = partial(_page, case=case, words=words)
    beside = Frame(MARGIN + left, bottom, width - 2 * MARGIN - left, room, 0, 0, 0, 0)
    alone = Frame(MARGIN, bottom, width - 2 * MARGIN, room, 0, 0, 0, 0)
    document.addPageTemplates(
        [
            PageTemplate("first", [beside], onPage=partial(draw, picture=picture, room=room)),
            PageTemplate("next", [alone], onPage=draw),
        ]
    )
    story: list[Flowable] = [NextPageTemplate("next")]
    for section in sections:
        if section.heading:
            story.append(Paragraph(escape(section.heading), _style(10, BOLD, before=6, keep=True)))
        style = _style(8.5) if section.heading else _style(9, BOLD, color=NOTICE)
        story += [Paragraph(escape(_unbroken(told)), style) for told in section.paragraphs]
    legend = Paragraph(escape(words["legend"]), _style(6.5, before=3))
    story.append(KeepTogether([Spacer(1, 8), _table(columns, table), legend]))
    if changes:
        title, below = Paragraph(escape(changes.title), _style(9, BOLD)), Paragraph(escape(changes.legend), _style(6.5))
        story.append(KeepTogether([Spacer(1, 8), title, _change_table(changes), below]))
    document.build(story)
    return buffer.getvalue()


def _register_fonts() -> None:
    from matplotlib import get_data_path

    for name in (FONT, BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(Path(get_data_path()) / "fonts" / "ttf" / f"{name}.ttf")))


def _style(size: float, font: str = FONT, before: float = 0, color: Any = INK, keep: bool = False) -> ParagraphStyle:
    return ParagraphStyle(
        "text",
        fontName=font,
        fontSize=size,
        leading=1.32 * size,
        spaceBefore=before,
        spaceAfter=2.5,
        textColor=color,
        keepWithNext=keep,
    )


def _change_table(changes: Changes) -> Table:
    style: list[tuple[Any, ...]] = [
        ("FONT", (0, 0), (-1, 0), BOLD, 6.3),
        ("FONT", (0, 1), (-1, -1), FONT, 6.3),
        ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
        ("LINEBELOW", (0, 1), (-1, -1), 0.3, LINE),
        ("LEFTPADDING", (0, 0), (-1, -1), 2),
        ("RIGHTPADDING", (0, 0), (-1, -1), 2),
        ("TOPPADDING", (0, 0), (-1, -1), 1),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.6),
    ]
    style += [("FONT", (0, i), (-1, i), BOLD, 6.3) for i, (_, bold) in enumerate(changes.rows, start=1) if bold]
    cells = [list(changes.columns), *(list(row) for row, _ in changes.rows)]
    return Table(cells, repeatRows=1, hAlign="LEFT", style=style)


def _table(columns: Sequence[str], rows: Sequence[TableRow]) -> Table:
    """Return the table of vertebrae, as wide as its texts, with its head on each page."""
    style: list[tuple[Any, ...]] = [
        ("FONT", (0, 0), (-1, 0), BOLD, 6.3),
        ("FONT", (0, 1), (-1, -1), FONT, 6.3),
        ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
        ("LINEBELOW", (0, 1), (-1, -1), 0.3, LINE),
        ("ALIGN", (1, 0), (4, -1), "RIGHT"),
        ("ALIGN", (7, 0), (7, -1), "RIGHT"),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("LEFTPADDING", (0, 0), (-1, -1), 2),
        ("RIGHTPADDING", (0, 0), (-1, -1), 2),
        ("TOPPADDING", (0, 0), (-1, -1), 1),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.6),
    ]
    for i, row in enumerate(rows, start=1):
        style.append(("LINEBEFORE", (0, i), (0, i), 4, HexColor(row.color)))
        if row.fractured:
            style.append(("FONT", (0, i), (-1, i), BOLD, 6.3))
        if not row.counts:
            style.append(("TEXTCOLOR", (0, i), (-1, i), QUIET))
    cells = [[f"  {row.cells[0]}", *row.cells[1:]] for row in rows]
    return Table([list(columns), *cells], repeatRows=1, hAlign="LEFT", style=style)


def _picture(canvas: Any, picture: bytes, room: float) -> None:
    image = ImageReader(io.BytesIO(picture))
    pixels_wide, pixels_high = image.getSize()
    scale = min(PICTURE_WIDTH / pixels_wide, room / pixels_high)
    high = scale * pixels_high
    canvas.drawImage(image, MARGIN, MARGIN + FOOT + room - high, scale * pixels_wide, high)


def _page(
    canvas: Any, document: Any, case: str, words: Mapping[str, Any], picture: bytes | None = None, room: float = 0
) -> None:
    """Draw what stands around the text: title, case, notice and page number, and the picture on the first page."""
    width, height = A4
    canvas.saveState()
    canvas.setFillColor(INK)
    canvas.setFont(BOLD, 13)
    canvas.drawString(MARGIN, height - MARGIN - 9, words["title"])
    canvas.setFont(FONT, 8)
    canvas.drawRightString(width - MARGIN, height - MARGIN - 9, f"{words['case']}: {_short(case)}")
    canvas.setStrokeColor(INK)
    canvas.line(MARGIN, height - MARGIN - 15, width - MARGIN, height - MARGIN - 15)
    canvas.setFont(BOLD, 7.5)
    canvas.setFillColor(NOTICE)
    canvas.drawString(MARGIN, MARGIN, words["notice"])
    canvas.setFillColor(QUIET)
    canvas.setFont(FONT, 7.5)
    canvas.drawRightString(width - MARGIN, MARGIN, f"{words['page']} {document.page}")
    canvas.restoreState()
    if picture:
        _picture(canvas, picture, room)


def _unbroken(text: str) -> str:
    """Keep a number and its unit on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace(" mm", "\N{NO-BREAK SPACE}mm")


def _short(case: str, most: int = 60) -> str:
    return case if len(case) <= most else f"{case[: most - 1]}…"
