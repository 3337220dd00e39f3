"""Measure one scan into its folder on disk: the same for the command, the review page and Slicer.

A failure is a result too: its code and message are written as the folder's analysis.json. A record never contains a
path of the computer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VFQError, as_coded
from .engine import Engine, Progress

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..spine.record import SpineAnalysis

ABSOLUTE_FOLDERS = re.compile(r"""(?:\b[A-Za-z]:\\|(?<![\w.])/)(?:[^\s\\/'":;,()]+[\\/])+""")

# Failures that say nothing about the scan; an earlier result of it is kept.
NOT_OF_THE_SCAN = (
    *("bad_weights", "no_method_weights", "no_device", "missing_dependency"),
    *("not_found", "out_of_memory", "internal_error"),
)
OF_THE_FOLDER = ("output_exists", "output_not_writable")  # failures of the output folder; nothing is written to it
KEPT = "Existing results are kept; use --overwrite to recompute."
KEPT_SERIES = (
    "Existing results are kept, and they may be those of another series of the same size and place; use --overwrite to "
    "analyse the series that was asked for."
)

# Shares of the whole that are done after reading, and after the analysis.
READ_SHARE, ANALYZED_SHARE = 0.3, 0.7


@dataclass(frozen=True)
class Study:
    """A scan to be measured into `output/<case>/`.

    Attributes
    ----------
    path : the scan, a file or a DICOM folder.
    case, output : the results are written to `output/<case>/`.
    overwrite : replace existing results.
    series : UID of the DICOM series to use.
    pictures : also write straightened.nrrd and overview.png.
    trust_header : the user vouches for the orientation and the spacing in the header, see `analysis.analyze`.
    managed : the state of a cohort decides about earlier results: they are replaced, except a review, whatever scan
        they are of, and what killed processes left was cleared away before.
    """

    path: Path
    case: str
    output: Path
    overwrite: bool = False
    series: str | None = None
    pictures: bool = True
    trust_header: bool = False
    managed: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """The record of a scan; if it failed, the record holds the reason and `error` is the exception."""

    record: SpineAnalysis
    error: Exception | None = None


def measure_study(
    study: Study,
    engine: Engine,
    models: Callable[[], Any],
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Outcome:
    """Read, analyse and write one scan. Failures are recorded, not raised, except KeyboardInterrupt and the like.

    An existing result of the same scan by the same networks is kept, so that an interrupted cohort can be resumed.

    Parameters
    ----------
    study : the scan and where its results go.
    engine : the library functions to use.
    models : returns the networks; may raise as `load_models` does.
    progress : called with the step and the share of the whole that is done.
    note : called with each decision about the scan or the device, as a sentence.
    """
    from ..report.outputs import check_output, restore_replaced, write_outputs

    tell, report = progress or (lambda stage, share: None), note or (lambda sentence: None)
    ct, networks = None, None
    try:
        if not study.managed:  # it lists the folder, which may hold 100,000 cases
            restore_replaced(study.output, study.case)
        earlier = None if study.managed else _measured_before(study)
        if study.overwrite or not earlier:
            check_output(study.output, study.case, study.overwrite)
        tell("read", 0.0)
        started = time.perf_counter()
        ct = engine.read_ct(study.path, study.series, study.trust_header)
        read_s = time.perf_counter() - started
        for sentence in ct.notes:
            report(sentence)
        networks = models()
        if earlier:
            _check_same(study, earlier, ct, networks)
            if not study.overwrite:
                report(KEPT_SERIES if study.series and earlier.series is None else KEPT)
                return Outcome(earlier)
        analysis = _analyze(engine, ct, networks, _within_study(tell), report, study.trust_header)
        analysis = replace(analysis, case=study.case)
        timing = {"read": read_s, **analysis.timing_s, "total": read_s + analysis.timing_s.get("total", 0.0)}
        analysis = replace(analysis, timing_s=timing)
        tell("write", ANALYZED_SHARE)
        write_outputs(analysis, ct, study.output, study.overwrite, pictures=study.pictures)
        tell("write", 1.0)
        return Outcome(analysis)
    except Exception as error:
        for sentence in getattr(error, "notes", ()):
            report(sentence)
        return Outcome(_failure(study, ct, networks, error), error)


def _measured_before(study: Study) -> SpineAnalysis | None:
    """Return the analysis in the scan's output folder; None if there is none or it is a failure."""
    from ..spine.record_json import read_analysis

    try:
        earlier = read_analysis(study.output / study.case / "analysis.json")
    except VFQError:
        return None
    return earlier if earlier.status == "ok" else None


def _check_same(study: Study, earlier: SpineAnalysis, ct: CTVolume, networks: Any) -> None:
    """Raise VFQError `output_exists` if the folder holds the analysis of another scan.

    Without `study.overwrite` also if other networks made it.
    """
    from ..spine.record import check_belongs

    try:
        check_belongs(earlier, ct.voxels.shape, ct.ijk_to_ras)
    except VFQError:
        message = "the folder holds the analysis of another CT, which is kept. Choose another output folder."
        raise VFQError("output_exists", f"{study.case}: {message}") from None
    if earlier.series and ct.series and earlier.series != ct.series and not study.overwrite:
        message = (
            "the folder holds the analysis of another DICOM series of the same size and place, which is kept. Choose "
            "another output folder, or use --overwrite."
        )
        raise VFQError("output_exists", f"{study.case}: {message}")
    stamps = getattr(networks, "stamps", earlier.models)  # the networks of a test may lack it
    if not study.overwrite and [m.sha256 for m in earlier.models] != [m.sha256 for m in stamps]:
        message = "the existing results were made by other networks. Choose another output folder, or use --overwrite."
        raise VFQError("output_exists", f"{study.case}: {message}")


def _within_study(tell: Progress) -> Progress:
    """Rescale the progress of the analysis to its part of the whole."""
    return lambda stage, share: tell(stage, READ_SHARE + share * (ANALYZED_SHARE - READ_SHARE))


def _analyze(
    engine: Engine, ct: CTVolume, models: Any, tell: Progress, note: Callable[[str], None], trust_header: bool
) -> SpineAnalysis:
    """Analyse with `models`; if the GPU runs out of memory, start again on the CPU."""
    from ..analysis.models import instead_on_cpu
    from ..networks.devices import DeviceMemoryError

    for sentence in getattr(models, "notes", ()):  # the networks of a test may lack it
        note(sentence)
    try:
        return engine.analyze(ct, models, tell, trust_header)
    except DeviceMemoryError as lack:
        note(instead_on_cpu(lack))
    return engine.analyze(ct, engine.load_models("cpu"), tell, trust_header)


def _failure(study: Study, ct: CTVolume | None, networks: Any, error: Exception) -> SpineAnalysis:
    """Record a failure, and write the record unless that would harm an earlier result.

    The record names the networks. If the scan was read, it also says where the scan lies, so that an evaluation can
    count the vertebrae in it as missed. Nothing is written if the folder itself was the failure, or if it holds an
    earlier result about which the failure says nothing, for example because the scan could not be read.
    """
    from ..report.outputs import write_outputs
    from ..spine.record import SpineAnalysis

    failure = as_coded(error)
    stamps = getattr(networks, "stamps", ())  # the networks of a test may lack it
    record = SpineAnalysis(study.case, failure.code, without_paths(failure.message, study.path), models=stamps)
    record = replace(record, trust_header=study.trust_header)
    if ct is not None:
        shape, spacing = tuple(int(n) for n in ct.voxels.shape), tuple(float(mm) for mm in ct.spacing_mm)
        record = replace(record, shape=shape, spacing_mm=spacing, ijk_to_ras=ct.ijk_to_ras, series=ct.series)
    there = (study.output / study.case).exists() and failure.code in NOT_OF_THE_SCAN
    stays = there or (ct is None and _measured_before(study) is not None)
    if failure.code not in OF_THE_FOLDER and not stays:
        with suppress(VFQError):
            write_outputs(record, None, study.output, study.overwrite)
    return record


def without_paths(message: str, path: Path) -> str:
    """Cut the input's path, and any absolute path, to its last part: a record contains no path of this computer."""
    if len(path.parts) > 1:
        message = message.replace(str(path), path.name)
    return ABSOLUTE_FOLDERS.sub("", message)
