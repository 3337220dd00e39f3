"""What a review opens: a CT, its analysis, and the straightened image along its curve.

Plain data without MRML, so it may be prepared in any thread. Coordinates are RAS mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..imaging.files import read_ct
from ..report.outputs import write_outputs
from ..spine.curve import SpineCurve, fit_curve
from ..spine.record import SpineAnalysis, check_belongs
from ..spine.record_json import read_analysis
from .straight import Reformat, reformat

# Failures after which a reader can still click the spine: the scan can be read, but nothing was found in it.
RESCUABLE = ("no_spine_found", "no_vertebra_found", "too_few_vertebrae", "spine_cut_off", "implausible_size")
SAME_POINT_MM = 1e-3
STAND_IN_MM = 0.01  # smaller differences are rounding in a file


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study that is ready to be shown.

    Attributes
    ----------
    analysis : the automatic analysis.
    made : the straightened image along the present curve: that of the analysis, unless a reader has clicked another.
    """

    ct: CTVolume
    analysis: SpineAnalysis
    made: Reformat

    def along(self, curve: np.ndarray) -> Reformat:
        """Return the straightened image along a curve `(n, 3)` RAS mm; reuse `made` if it follows the same curve."""
        if np.array_equal(self.made.straightening.curve.points, curve):
            return self.made
        return reformat(self.ct, SpineCurve(curve))


def prepare(ct: CTVolume, analysis: SpineAnalysis, case: str, folder: Path | None = None) -> Prepared:
    """Return a study of `ct` with the name `case`; `folder` is the case's, where an earlier review may be.

    VFQError `other_ct` if the analysis belongs to another CT, or as `check_reviewable`.
    """
    check_reviewable(analysis)
    if analysis.shape is None:
        analysis = replace(analysis, shape=ct.voxels.shape, spacing_mm=ct.spacing_mm, ijk_to_ras=ct.ijk_to_ras)
        analysis = replace(analysis, series=ct.series)
    check_belongs(analysis, ct.voxels.shape, ct.ijk_to_ras)
    curve = SpineCurve(analysis.curve) if len(analysis.curve) else middle_line(ct)
    analysis = replace(analysis, case=case, curve=curve.points)
    return Prepared(ct, analysis, reformat(ct, _reviewed_curve(folder) or curve))


def _reviewed_curve(folder: Path | None) -> SpineCurve | None:
    """Return the present curve of the review in a case's folder; None if there is no review."""
    if folder is None or not (folder / "machine.json").exists():
        return None
    with suppress(VFQError):
        curve = read_analysis(folder / "analysis.json").curve
        return SpineCurve(curve) if len(curve) else None
    return None


def read_study(
    source: Path, folder: Path, case: str, analysis_file: Path | None = None, files: Sequence[str] | None = None
) -> Prepared:
    """Return the study of a scan, the file or DICOM folder `source`, that was analysed into `folder`.

    `analysis_file` is an analysis from elsewhere to use instead; `files` as in `read_ct`. VFQError `other_ct`,
    `newer_schema`, or as `check_reviewable`, `given_analysis` and `read_ct`.
    """
    analysis = given_analysis(folder, analysis_file) if analysis_file else machine_analysis(folder)
    check_reviewable(analysis)
    prepared = prepare(_read_again(source, analysis, files), analysis, case, folder)
    if analysis_file and not folder.exists():  # then the case can be opened later without that file
        write_outputs(prepared.analysis, None, folder.parent, pictures=False)
    return prepared


def _read_again(source: Path, analysis: SpineAnalysis, files: Sequence[str] | None) -> CTVolume:
    """Read the DICOM series that was analysed; the fittest one if its UID has changed, as after anonymisation."""
    if analysis.series:
        try:
            return read_ct(source, analysis.series, trust_header=analysis.trust_header, files=files)
        except VFQError as error:
            if error.code != "no_ct_series":
                raise
    return read_ct(source, trust_header=analysis.trust_header, files=files)


def given_analysis(folder: Path, analysis_file: Path) -> SpineAnalysis:
    """Return an analysis from elsewhere, for a case whose folder has none, or has the same one.

    It is an analysis.json or a structured report of this program. VFQError `output_exists` if the folder has another
    analysis, since a review would mix the two; as `dicom.back.read_record`.
    """
    from ..dicom.back import read_record

    given = read_record(analysis_file)
    if any((folder / name).exists() for name in ("machine.json", "analysis.json")):
        here = machine_analysis(folder)
        if not _same_points(here, given):
            raise VFQError(
                "output_exists",
                f"{folder.name}: the folder already contains another analysis, which differs from "
                f"{analysis_file.name}. Omit --analysis to review the existing one, or choose another output folder.",
            )
    return given


def _same_points(one: SpineAnalysis, other: SpineAnalysis) -> bool:
    """True if the key points agree within the rounding of a structured report."""
    a, b = (np.reshape([v.keypoints for v in each.vertebrae], (-1, 3, 2, 3)) for each in (one, other))
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=SAME_POINT_MM)


def check_reviewable(analysis: SpineAnalysis) -> None:
    """VFQError with the analysis' own code and message, if it failed and clicks of a reader could not help."""
    if analysis.status != "ok" and analysis.status not in RESCUABLE:
        raise VFQError(analysis.status, analysis.message)


def machine_analysis(folder: Path) -> SpineAnalysis:
    """Return the automatic analysis in a case's folder: `machine.json` after a review, else `analysis.json`.

    VFQError as `read_analysis`.
    """
    machine = folder / "machine.json"
    return read_analysis(machine if machine.exists() else folder / "analysis.json")


def stands_in(curve: SpineCurve, ct: CTVolume) -> bool:
    """True if `curve` is the `middle_line` of the CT: there is no curve of the spine yet."""
    line = middle_line(ct).points
    return line.shape == curve.points.shape and np.allclose(line, curve.points, atol=STAND_IN_MM)


def middle_line(ct: CTVolume) -> SpineCurve:
    """Return a straight curve from head to foot through the middle of the volume.

    It stands in for the spine's curve until a reader clicks the spine.
    """
    columns = np.array(ct.voxels.shape[::-1]) - 1.0
    corners = np.array(np.meshgrid(*[(0, n) for n in columns])).reshape(3, -1).T
    ras = corners @ ct.ijk_to_ras[:3, :3].T + ct.ijk_to_ras[:3, 3]
    low, high = ras.min(0), ras.max(0)
    middle = (low + high) / 2
    return fit_curve(np.stack([[middle[0], middle[1], s] for s in np.linspace(high[2], low[2], 5)]))
