"""What a review opens: a CT, its analysis, and the reformat along its curve. Plain data, made in any thread."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..imaging.files import read_ct
from ..report.outputs import write_outputs
from ..spine.curve import SpineCurve, fit_curve
from ..spine.record import SpineAnalysis, check_belongs, read_analysis
from .straight import Reformat, reformat

# The scan can be read, the machine found nothing in it: a person can still click the spine.
RESCUABLE = ("no_spine_found", "no_vertebra_found", "too_few_vertebrae")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study that can be shown at once: the machine's analysis, and the reformat along the curve of now, which is the
    machine's until a person draws another."""

    ct: CTVolume
    analysis: SpineAnalysis
    made: Reformat


def prepare(ct: CTVolume, analysis: SpineAnalysis, case: str, folder: Path | None = None) -> Prepared:
    """A study of `ct` under the name `case`; `folder` is where a review of it may have begun.

    VFQError `other_ct`; the analysis' own failure, where a person's clicks could not help.
    """
    check_reviewable(analysis)
    if analysis.shape is None:
        analysis = replace(analysis, shape=ct.voxels.shape, spacing_mm=ct.spacing_mm, ijk_to_ras=ct.ijk_to_ras)
    check_belongs(analysis, ct.voxels.shape, ct.ijk_to_ras)
    curve = SpineCurve(analysis.curve) if len(analysis.curve) else middle_line(ct)
    analysis = replace(analysis, case=case, curve=curve.points)
    return Prepared(ct, analysis, reformat(ct, _curve_of_now(folder) or curve))


def _curve_of_now(folder: Path | None) -> SpineCurve | None:
    """The curve that the review in a case's folder has come to; None without one."""
    if folder is None or not (folder / "machine.json").exists():
        return None
    with suppress(VFQError):
        curve = read_analysis(folder / "analysis.json").curve
        return SpineCurve(curve) if len(curve) else None
    return None


def read_study(source: Path, folder: Path, case: str, analysis_file: Path | None = None) -> Prepared:
    """A study that was analysed into `folder` from the file or DICOM folder `source`; its analysis may lie elsewhere.

    VFQError `other_ct`, `newer_schema`, the analysis' own failure, or as `given_analysis` and `read_ct`.
    """
    analysis = given_analysis(folder, analysis_file) if analysis_file else machine_analysis(folder)
    check_reviewable(analysis)
    prepared = prepare(read_ct(source), analysis, case, folder)
    if analysis_file and not folder.exists():  # so that the case can be opened again without the other file
        write_outputs(prepared.analysis, None, folder.parent, pictures=False)
    return prepared


def given_analysis(folder: Path, analysis_file: Path) -> SpineAnalysis:
    """An analysis from elsewhere, for a case whose folder holds none, or the same one.

    VFQError `output_exists` where a review would mix the two; as `read_analysis`.
    """
    given = read_analysis(analysis_file)
    if any((folder / name).exists() for name in ("machine.json", "analysis.json")):
        here = machine_analysis(folder)
        if [v.keypoints.tolist() for v in here.vertebrae] != [v.keypoints.tolist() for v in given.vertebrae]:
            raise VFQError(
                "output_exists",
                f"{folder.name}: the folder holds another analysis than {analysis_file.name}. Leave --analysis out to "
                "go on with that one, or choose another output folder.",
            )
    return given


def check_reviewable(analysis: SpineAnalysis) -> None:
    """VFQError, the analysis' own, where it failed and a person's clicks could not help."""
    if analysis.status != "ok" and analysis.status not in RESCUABLE:
        raise VFQError(analysis.status, analysis.message)


def machine_analysis(folder: Path) -> SpineAnalysis:
    """The machine's own analysis in a case's folder: beside the reviewed one, where there is one. VFQError as
    `read_analysis`."""
    machine = folder / "machine.json"
    return read_analysis(machine if machine.exists() else folder / "analysis.json")


def middle_line(ct: CTVolume) -> SpineCurve:
    """Head to foot through the middle of the volume: something to look along until a person clicks the spine."""
    columns = np.array(ct.voxels.shape[::-1]) - 1.0
    corners = np.array(np.meshgrid(*[(0, n) for n in columns])).reshape(3, -1).T
    ras = corners @ ct.ijk_to_ras[:3, :3].T + ct.ijk_to_ras[:3, 3]
    low, high = ras.min(0), ras.max(0)
    middle = (low + high) / 2
    return fit_curve(np.stack([[middle[0], middle[1], s] for s in np.linspace(high[2], low[2], 5)]))
