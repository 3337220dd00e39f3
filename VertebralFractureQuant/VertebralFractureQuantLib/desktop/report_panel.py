"""The panel's Report section, and the DICOM objects of a study: shown, copied, saved and sent to Slicer's database.

All is made from the files in the folder of the reading, which are saved before.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import partial
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..dicom.export import Pdf, export_case
from ..errors import VFQError
from ..report.document import FORMATS, Report, case_panel, make_report, report_pdf, report_text
from ..report.outputs import writing
from ..report.wording import Wording, languages
from ..spine.record_json import read_analysis
from ..whole import whole_file
from .clipboard import copied
from .dependencies import agreed
from .dicom_database import INSTANCES, drawn, loaded_series
from .face import DesktopFace

PICTURE_PIXELS = 260  # width of the image in the preview
OBJECTS = "dicom"  # the folder of the DICOM objects in that of the reading


class ReportPanel:
    """Makes the reports and DICOM objects of the open study.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    face : shows the study; runs work in other threads.
    """

    def __init__(self, ui: Any, face: DesktopFace):
        self.ui = ui
        self.face = face
        ui.languageComboBox.addItems(list(languages()))
        ui.languageComboBox.currentText = "en"
        ui.reportBrowser.visible = False

    @property
    def language(self) -> str:
        """The language of the report, one of `report.wording.languages`."""
        return str(self.ui.languageComboBox.currentText)

    # -- the report

    def show_report(self) -> None:
        """Show the report of the study as it is now."""
        self._make(self._show)

    def copy_text(self) -> None:
        """Copy the text of the report to the clipboard."""
        self._make(self._copy, picture=False)

    def save(self, kind: str) -> None:
        """Ask for a file, and save the report: "pdf" or "html"."""
        if self.face.review.editor is None or not agreed("report", *(("report as PDF",) if kind == "pdf" else ())):
            return
        case = self.face.case_folder
        proposed = Path(self.ui.exportPathLineEdit.currentPath) / f"{case.name if case else ''}-report.{kind}"
        chosen = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Save the report"), str(proposed), f"{kind.upper()} (*.{kind})"
        )
        if chosen:
            path = Path(chosen)
            self._make(lambda report: self._written(report, path, kind))

    def hide(self) -> None:
        """Hide the report of a study that was changed or closed."""
        self.ui.reportBrowser.visible = False

    def show_buttons(self) -> None:
        """Enable the buttons that can be used now."""
        editor = self.face.review.editor
        for name in ("reportButton", "copyReportButton", "pdfButton", "htmlButton", "dicomFilesButton"):
            getattr(self.ui, name).enabled = editor is not None
        node = self.face.review.study.nodes.get("ct") if editor else None
        self.ui.dicomDatabaseButton.enabled = bool(node and node.GetAttribute(INSTANCES))

    def _make(self, then: Callable[[Report], None], picture: bool = True) -> None:
        editor = self.face.review.editor
        if editor is None or not agreed("report"):
            return
        folder, ct, language = self._folder(), editor.machine.ct, self.language

        def made() -> Report:
            """Make the report in another thread."""
            analysis = read_analysis(folder / "analysis.json")
            return make_report(analysis, Wording(language), case_panel(folder, analysis, ct) if picture else None)

        self.face.work(_("writing the report"), made, then)

    def _folder(self) -> Path:
        """Save the study, and return the folder of its reading. VFQError `output_not_writable`, `not_found`."""
        self.face.check_saved()
        folder = self.face.review.folder
        if folder is None or not (folder / "analysis.json").exists():
            raise VFQError("not_found", _("The study has no results yet. Add a vertebra first."))
        return folder

    def _show(self, report: Report) -> None:
        self.ui.reportBrowser.setHtml(preview(report))
        self.ui.reportBrowser.visible = True

    def _copy(self, report: Report) -> None:
        text = report_text(report)
        self.face.tell(_("The report is on the clipboard.") if copied(text) else text)

    def _written(self, report: Report, path: Path, kind: str) -> None:
        made = FORMATS[kind](report)
        with writing(path.parent), whole_file(path) as partial_file:
            partial_file.write_bytes(made if isinstance(made, bytes) else made.encode())
        self.face.tell(_("The report was saved as {}.").format(path))

    # -- DICOM

    def export_to_database(self) -> None:
        """Write the DICOM objects of the study, and add them to Slicer's DICOM database."""
        node = self.face.review.study.nodes.get("ct")
        if self.face.review.editor and agreed("DICOM objects", "report"):
            path, series = loaded_series(node, slicer.dicomDatabase)
            self._objects(path, series, self._folder() / OBJECTS, to_database=True)

    def write_files(self) -> None:
        """Ask for a folder, and write the DICOM objects of the study into it."""
        if self.face.review.editor is None or not agreed("DICOM objects", "report"):
            return
        node = self.face.review.study.nodes["ct"]
        database: Any = getattr(slicer, "dicomDatabase", None)
        source: tuple[Path, str | None]
        try:
            source = loaded_series(node, database)
        except VFQError:  # the series lies in a folder, as that of a case of a cohort
            source = self._asked(_("The folder of the DICOM series that was analysed")), None
        if source[0] == Path():
            return
        output = self._asked(_("The folder for the DICOM files"))
        if output != Path():
            self._objects(source[0], source[1], output, to_database=False)

    def _asked(self, title: str) -> Path:
        first = self.ui.exportPathLineEdit.currentPath
        return Path(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, first) or "")

    def _objects(self, source: Path, series: str | None, output: Path, to_database: bool) -> None:
        editor = self.face.review.editor
        assert editor is not None
        folder, ct, language = self._folder(), editor.machine.ct, self.language

        def report() -> bytes:
            """Return the report as PDF."""
            analysis = read_analysis(folder / "analysis.json")
            return report_pdf(make_report(analysis, Wording(language), case_panel(folder, analysis, ct)))

        pdf = Pdf(report, language) if find_spec("reportlab") else None
        export = partial(export_case, folder, source, output, series, drawn(folder), pdf)

        def done(written: list[Path]) -> None:
            """Report what was written."""
            if to_database:
                from DICOMLib import DICOMUtils

                DICOMUtils.importDicom(str(output), slicer.dicomDatabase)
                self.face.tell(_("{} objects were added to the DICOM database.").format(len(written)))
            else:
                self.face.tell(_("{} DICOM files were written to {}.").format(len(written), output))

        self.face.work(_("writing DICOM objects"), export, done)


def preview(report: Report) -> str:
    """Return the sentences and the image of a report as HTML of the kind that Qt shows, for a narrow panel."""
    told = []
    for section in report.sections:
        told += [f"<h4>{escape(section.heading)}</h4>"] if section.heading else []
        told += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    if report.picture:
        picture = b64encode(report.picture).decode()
        told.append(f'<p><img width="{PICTURE_PIXELS}" src="data:image/png;base64,{picture}"></p>')
    return "".join(told)
