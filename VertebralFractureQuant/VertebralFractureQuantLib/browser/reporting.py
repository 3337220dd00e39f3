"""The report on the page: its preview in a dialog, its text on the clipboard, and its files as downloads.

The report is of the open study as it is shown, reviewed or not, and says which. Nothing is written into the case's
folder: a file there could outlive the numbers that it tells. DICOM objects, whose names follow from the state of the
case, go into "dicom" beside the cases.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..dicom.case_report import case_report
from ..dicom.export import export_case
from ..report.document import FORMATS, Report, make_report, report_html, report_text
from ..report.panels import straightened_panel
from ..report.wording import Wording, languages
from ..spine.curve import fit_curve
from .face import BrowserFace
from .saving import Autosave
from .worklist import Worklist

MIME = {"pdf": "application/pdf", "html": "text/html"}
LANGUAGES = {"en": "English", "de": "Deutsch"}


@dataclass
class Reporting:
    """Makes and shows the report.

    Attributes
    ----------
    server : the trame server of the page.
    face, worklist, autosave : of the session.
    """

    server: Any
    face: BrowserFace
    worklist: Worklist
    autosave: Autosave
    _report: Report | None = None

    @property
    def state(self) -> Any:
        """The page's state."""
        return self.server.state

    def toggle_report(self) -> None:
        """Show the report of the open study, or hide it."""
        if self.state.report_open:
            self.state.report_open = False
        elif self.face.review.editor and not self.state.busy:
            self.report_in(self.state.report_language)

    def report_in(self, language: str) -> None:
        """Make the report in one of `languages` and show it."""
        if language in languages() and self.face.review.editor:
            asyncio.get_running_loop().create_task(self._make(language))

    async def _make(self, language: str) -> None:
        review, editor = self.face.review, self.face.review.editor
        assert editor
        record, ct = review.record(), editor.machine.ct
        record = replace(record, case=self.worklist.name(self.worklist.at))

        def make() -> Report:
            """Draw the straightened image, and make the report with it."""
            panel = straightened_panel(record, ct, fit_curve(record.curve)) if len(record.curve) else None
            return make_report(record, Wording(language), panel)

        try:
            report = await asyncio.to_thread(make)
        except Exception as error:
            self.face.tell(error)
            return
        self._report = report
        with self.state:
            self.state.update({"report_language": language, "report_page": report_html(report), "report_open": True})

    def copy_report(self) -> None:
        """Put the text of the shown report on the clipboard."""
        if self._report:
            text = report_text(self._report)
            self.state.update({"report": text, "report_note": "", "report_folder": "", "copied": None})
            self.server.controller.copy(text)

    def export_dicom(self) -> None:
        """Write the study, as it is saved, as DICOM objects with the identity of its series."""
        if self.worklist.current and self.face.review.folder:
            asyncio.get_running_loop().create_task(self._export(self.face.review.folder))

    async def _export(self, folder: Path) -> None:
        case, editor, language = self.worklist.current, self.face.review.editor, self.state.report_language
        assert case and editor
        ct = editor.machine.ct
        output = case.folder.parent / "dicom" / case.name
        try:
            problem = await self.autosave.now(case)
            if problem:
                self.face.tell(problem)
                return
            pdf = case_report(folder, language, None, lambda _: ct)
            written = await asyncio.to_thread(export_case, folder, case.source, output, pdf=pdf)
        except Exception as error:
            self.face.tell(error)
            return
        with self.state:
            told = f"{len(written)} DICOM objects were written, with the identity of the patient"
            where = f": {output.resolve()}" if self.worklist.show_names else " into the folder dicom beside the results"
            self.face.tell(f"{told}{where}.")

    async def file(self, kind: str) -> Any:
        """Return the shown report as a file of `MIME` for the browser to save; None if it cannot be made."""
        if self._report is None or kind not in MIME:
            return None
        try:
            data = await asyncio.to_thread(FORMATS[kind], self._report)
        except Exception as error:
            with self.state:
                self.face.tell(error)
            return None
        return self.server.protocol.addAttachment(data.encode() if isinstance(data, str) else data)
