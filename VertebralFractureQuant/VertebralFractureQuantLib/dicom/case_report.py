"""The report of a case as PDF, as it goes into a DICOM object."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ..report.document import case_panel, make_report, report_pdf
from ..report.wording import Wording
from ..spine.record_json import read_analysis
from .export import Pdf

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..spine.record import SpineAnalysis


def case_report(folder: Path, language: str, template: Path | None, read: Callable[[SpineAnalysis], CTVolume]) -> Pdf:
    """Return the report of the case in `folder`, to be made when it is needed.

    The picture is the straightened image in the folder; if there is none, the CT is read for it.

    Parameters
    ----------
    language, template : as for `report.wording.Wording`.
    read : returns the CT of a record.

    Raises
    ------
    VFQError
        `bad_template`; when the report is made, as the functions of `report.document`.
    """
    wording = Wording(language, template)

    def make() -> bytes:
        """Return the PDF."""
        analysis = read_analysis(folder / "analysis.json")
        panel = case_panel(folder, analysis) or case_panel(folder, analysis, read(analysis))
        return report_pdf(make_report(analysis, wording, panel))

    return Pdf(make, _variant(language, template))


def _variant(language: str, template: Path | None) -> str:
    """Return what tells reports of one case apart: the language, and a hash of the templates."""
    if template is None:
        return language
    files = sorted(path for path in template.glob("*") if path.is_file())
    return f"{language}-{sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:8]}"
