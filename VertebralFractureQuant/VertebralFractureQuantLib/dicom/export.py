"""Writing the DICOM objects of one case: structured report, overview image and PDF.

Each file is complete or absent, and holds the identity of the patient; nothing else that is written does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import VFQError
from ..imaging.files import read_ct
from ..report.outputs import check_writable, writing
from ..spine.record import SpineAnalysis
from ..spine.record_json import read_analysis
from ..whole import beside, whole_file
from .source import Source, read_source, silenced
from .uids import state_of

if TYPE_CHECKING:
    from pydicom import Dataset

    from .objects import Stamp


@dataclass(frozen=True)
class Pdf:
    """The report as PDF.

    Attributes
    ----------
    make : returns the file; it is called only if the object is not there yet.
    variant : tells reports of one state apart: their language, and which template made them.
    """

    make: Callable[[], bytes]
    variant: str


def export_case(
    folder: Path,
    source: Path | None,
    output: Path,
    series: str | None = None,
    overview: bool = True,
    pdf: Pdf | None = None,
    of_study: bool = False,
) -> list[Path]:
    """Write the DICOM objects of the case in `folder` into `output`, and return their paths.

    An object of the same state of the case that lies there already is kept, as it would be the same.

    Parameters
    ----------
    folder : of the case, with its analysis.json.
    source : the DICOM series that was analysed: its folder, or one file of it.
    series : its Series Instance UID; only for records that do not know it.
    overview : also write the overview image.
    pdf : the report, to be encapsulated.
    of_study : `output` holds the objects of one case only, so an earlier report of another series of the study, which
        was analysed before, counts as a predecessor too.

    Raises
    ------
    VFQError
        `missing_dependency`; the status of an analysis that failed; `output_not_writable`; `dicom_not_written` if the
        identity does not fit into an object; as `source.read_source`.
    """
    analysis = read_analysis(folder / "analysis.json")
    if analysis.status != "ok":
        raise VFQError(analysis.status, analysis.message)
    _require_libraries()
    from .objects import Stamp, overview_object, pdf_object
    from .structured import structured_report

    found = read_source(source, analysis, series)
    check_writable(output)
    stamp = Stamp(found, state_of(analysis), _time_of(analysis, folder / "analysis.json"))
    made: dict[Path, Callable[[], Dataset]] = {
        _file(output, stamp, "measurements"): lambda: _built(
            structured_report, analysis, stamp, _predecessor(output, found, of_study)
        )
    }
    if overview:
        pixels = partial(_overview, folder, analysis, source, series, output)
        made[_file(output, stamp, "overview")] = lambda: _built(overview_object, stamp, pixels())
    if pdf:
        made[_file(output, stamp, f"report-{pdf.variant}")] = lambda: _built(pdf_object, stamp, pdf.make(), pdf.variant)
    for path, make in made.items():
        if not path.exists():
            _built(_write, make(), path)
    return list(made)


def _file(output: Path, stamp: Stamp, name: str) -> Path:
    return output / f"{name}-{stamp.short}.dcm"


def _require_libraries() -> None:
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise VFQError(
            "missing_dependency",
            "DICOM objects need the package highdicom. Install it with: pip install 'vertebral-fracture-quant[dicom]'",
        ) from None


def _time_of(analysis: SpineAnalysis, record: Path) -> datetime:
    """Return when a case came into its state, local time: its last review, or when its record was written."""
    from .structured import when

    reviewed = [found for v in analysis.vertebrae if v.reviewed_at and (found := when(v.reviewed_at))]
    latest = max(reviewed) if reviewed else datetime.fromtimestamp(record.stat().st_mtime).astimezone()
    return latest.astimezone().replace(microsecond=0)


def _overview(
    folder: Path, analysis: SpineAnalysis, source: Path | None, series: str | None, output: Path
) -> np.ndarray:
    """Return the overview image of the record, `(rows, columns, 3)` uint8; it is drawn if the folder has none.

    During a review the folder has only that of the automatic points.
    """
    from PIL import Image

    picture = folder / "overview.png"
    if picture.exists():
        return np.asarray(Image.open(picture).convert("RGB"))
    try:
        from ..report.overview import write_overview
    except ImportError:
        raise VFQError(
            "missing_dependency", "The overview image needs the package matplotlib. Install it, or use --no-overview."
        ) from None
    assert source is not None
    drawn = beside(output / "overview.png")
    ct = read_ct(source, series or analysis.series, trust_header=analysis.trust_header)
    with writing(output):
        try:
            write_overview(analysis, ct, drawn)
            return np.asarray(Image.open(drawn).convert("RGB"))
        finally:
            with suppress(OSError):
                drawn.unlink()


def _predecessor(output: Path, source: Source, of_study: bool) -> Dataset | None:
    """Return the header of the latest structured report of the same series, or study, in a folder; None without one."""
    from pydicom import dcmread

    earlier = []
    for path in sorted(output.glob("measurements-*.dcm")):
        with suppress(Exception), silenced():  # a damaged file can make pydicom raise anything
            header = dcmread(path)
            described = header.CurrentRequestedProcedureEvidenceSequence[0]
            series = {str(one.SeriesInstanceUID) for one in described.ReferencedSeriesSequence}
            same = of_study or bool(series & set(source.series.split("\\")))
            if same and header.StudyInstanceUID == source.identity.StudyInstanceUID:
                earlier.append(header)
    return max(earlier, key=lambda one: (str(one.ContentDate), str(one.ContentTime)), default=None)


def _built(make: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function makes; turn what the libraries raise into a VFQError without their message.

    It may quote a patient's name.
    """
    try:
        with silenced():
            return make(*arguments)
    except (VFQError, OSError, MemoryError):
        raise
    except ValueError as error:
        raise VFQError(
            "dicom_not_written",
            "The header of the series has a value that does not fit into a DICOM object. Check the attributes of "
            "patient and study, or export the series again.",
        ) from error
    except Exception as error:
        raise VFQError(
            "internal_error", f"This program has a defect ({type(error).__name__}). Report it, without any name."
        ) from error


def _write(dataset: Dataset, path: Path) -> None:
    with writing(path.parent), whole_file(path) as partial_file:
        dataset.save_as(partial_file, enforce_file_format=True)
