"""One study from its scan to its folder on disk, the same for the command, the browser and Slicer.

What fails is a result too: its coded reason is written as the folder's analysis.json, without any path of the computer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import VFQError, as_coded

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..spine.record import SpineAnalysis

ABSOLUTE_FOLDERS = re.compile(r"""(?:\b[A-Za-z]:\\|(?<![\w.])/)(?:[^\s\\/'":;,()]+[\\/])+""")

# Failures that tell nothing of the scan: an earlier result of it stays.
NOT_OF_THE_SCAN = ("bad_weights", "no_device", "missing_dependency", "not_found", "out_of_memory", "internal_error")
KEPT_AS_THEY_ARE = ("output_exists", "output_not_writable")  # failures of the folder itself
KEPT = "was measured before, and is kept; --overwrite measures it anew."

# Shares of a whole study that lie behind once it is read and once it is analysed.
READ_SHARE, ANALYZED_SHARE = 0.3, 0.7

Progress = Callable[[str, float], None]


class Engine(Protocol):
    """The library functions that a study needs; a test hands in others."""

    def read_ct(self, path: Path, series: str | None = None) -> CTVolume:
        """See `files.read_ct`."""

    def load_models(self, device: str) -> Any:
        """See `analysis.load_models`."""

    def analyze(self, ct: CTVolume, models: Any, progress: Progress | None = None) -> SpineAnalysis:
        """See `analysis.analyze`."""


@dataclass(frozen=True)
class Library:
    """The real `Engine`; each function is imported when it is called, so that `vfq --help` waits for none.

    weights : folder of networks that take the place of the shipped ones, see `analysis.load_models`.
    """

    weights: Path | None = None

    def read_ct(self, path: Path, series: str | None = None) -> CTVolume:
        """See `files.read_ct`."""
        from ..imaging.files import read_ct

        return read_ct(path, series=series)

    def load_models(self, device: str) -> Any:
        """See `analysis.load_models`."""
        from ..analysis import load_models

        return load_models(device, self.weights)

    def analyze(self, ct: CTVolume, models: Any, progress: Progress | None = None) -> SpineAnalysis:
        """See `analysis.analyze`."""
        from ..analysis import analyze

        return analyze(ct, models, progress)


@dataclass(frozen=True)
class Study:
    """A scan to be measured into `output/<case>/`; `series` is the UID of the DICOM series to take, `pictures` tells
    whether the study is drawn too."""

    path: Path
    case: str
    output: Path
    overwrite: bool = False
    series: str | None = None
    pictures: bool = True


@dataclass(frozen=True, eq=False)
class Outcome:
    """The record of a study, which is the reason of its failure where there was an `error`."""

    record: SpineAnalysis
    error: Exception | None = None


def measure_study(
    study: Study,
    engine: Engine,
    models: Callable[[], Any],
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Outcome:
    """Read, analyse and write one study; never an exception but KeyboardInterrupt and the like.

    What the folder holds already of the same scan, by the same networks, is kept, so that a cohort goes on where it was
    interrupted. `models` gives the networks, and may fail as `load_models` does. `progress` is told the step and the
    share of the whole that is done; `note` is told what was decided on the way: of the scan, and of the device.
    """
    from ..report.outputs import check_output, restore_replaced, write_outputs

    tell, report = progress or (lambda stage, share: None), note or (lambda sentence: None)
    ct, networks = None, None
    try:
        restore_replaced(study.output, study.case)
        earlier = _measured_before(study)
        if study.overwrite or not earlier:
            check_output(study.output, study.case, study.overwrite)
        tell("read", 0.0)
        started = time.perf_counter()
        ct = engine.read_ct(study.path, study.series)
        read_s = time.perf_counter() - started
        for sentence in ct.notes:
            report(sentence)
        networks = models()
        if earlier:
            _check_same(study, earlier, ct, networks)
            if not study.overwrite:
                report(KEPT)
                return Outcome(earlier)
        analysis = replace(_analyze(engine, ct, networks, _within_study(tell), report), case=study.case)
        timing = {"read": read_s, **analysis.timing_s, "total": read_s + analysis.timing_s.get("total", 0.0)}
        analysis = replace(analysis, timing_s=timing)
        tell("write", ANALYZED_SHARE)
        write_outputs(analysis, ct, study.output, study.overwrite, pictures=study.pictures)
        tell("write", 1.0)
        return Outcome(analysis)
    except Exception as error:
        return Outcome(_failure(study, ct, networks, error), error)


def _measured_before(study: Study) -> SpineAnalysis | None:
    """The analysis that the study's folder holds; None where there is none, or a failure."""
    from ..spine.record import read_analysis

    try:
        earlier = read_analysis(study.output / study.case / "analysis.json")
    except VFQError:
        return None
    return earlier if earlier.status == "ok" else None


def _check_same(study: Study, earlier: SpineAnalysis, ct: CTVolume, networks: Any) -> None:
    """VFQError `output_exists` where the folder holds another scan's analysis, or, unless it is to be replaced, one by
    other networks."""
    from ..spine.record import check_belongs

    try:
        check_belongs(earlier, ct.voxels.shape, ct.ijk_to_ras)
    except VFQError:
        told = "the folder holds the analysis of another CT, which stays; choose another output folder."
        raise VFQError("output_exists", f"{study.case}: {told}") from None
    stamps = getattr(networks, "stamps", earlier.models)  # a test's engine may hand in anything
    if not study.overwrite and [m.sha256 for m in earlier.models] != [m.sha256 for m in stamps]:
        told = "was measured by other networks; choose another output folder, or --overwrite."
        raise VFQError("output_exists", f"{study.case}: {told}")


def _within_study(tell: Progress) -> Progress:
    """The analysis' own shares as shares of the whole study."""
    return lambda stage, share: tell(stage, READ_SHARE + share * (ANALYZED_SHARE - READ_SHARE))


def _analyze(engine: Engine, ct: CTVolume, models: Any, tell: Progress, note: Callable[[str], None]) -> SpineAnalysis:
    """The analysis with `models`; once more on the CPU, from the start, where the GPU runs out of memory."""
    from ..analysis.models import instead_on_cpu
    from ..networks.devices import DeviceMemoryError

    for sentence in getattr(models, "notes", ()):  # a test's engine may hand in anything
        note(sentence)
    try:
        return engine.analyze(ct, models, tell)
    except DeviceMemoryError as lack:
        note(instead_on_cpu(lack))
    return engine.analyze(ct, engine.load_models("cpu"), tell)


def _failure(study: Study, ct: CTVolume | None, networks: Any, error: Exception) -> SpineAnalysis:
    """The record of a failure, with where the scan lies if it was read, so that what it shows can be counted as missed,
    and the networks that failed; written unless the folder itself failed, or holds an earlier result of which the
    failure says nothing, as where the scan could not even be read."""
    from ..report.outputs import write_outputs
    from ..spine.record import SpineAnalysis

    failure = as_coded(error)
    stamps = getattr(networks, "stamps", ())  # a test's engine may hand in anything
    record = SpineAnalysis(study.case, failure.code, without_paths(failure.message, study.path), models=stamps)
    if ct is not None:
        shape, spacing = tuple(int(n) for n in ct.voxels.shape), tuple(float(mm) for mm in ct.spacing_mm)
        record = replace(record, shape=shape, spacing_mm=spacing, ijk_to_ras=ct.ijk_to_ras)
    there = (study.output / study.case).exists() and failure.code in NOT_OF_THE_SCAN
    stays = there or (ct is None and _measured_before(study) is not None)
    if failure.code not in KEPT_AS_THEY_ARE and not stays:
        with suppress(VFQError):
            write_outputs(record, None, study.output, study.overwrite)
    return record


def without_paths(message: str, path: Path) -> str:
    """A record holds no path of this computer: the input's, and any absolute one, is cut to its last part."""
    if len(path.parts) > 1:
        message = message.replace(str(path), path.name)
    return ABSOLUTE_FOLDERS.sub("", message)
