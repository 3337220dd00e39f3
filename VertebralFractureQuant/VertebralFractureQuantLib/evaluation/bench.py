"""Time and memory of an analysis: median seconds of each part, on a volume of a given shape.

`vfq bench` prints them, and the published speed figures come from here.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..imaging.axes import directions, upright
from ..imaging.ct import CTVolume
from ..spine.curve import fit_curve
from ..spine.record import SpineAnalysis
from ..spine.straightening import Straightening

HALF_WIDTH_MM = 64.0
AIR_HU = -1000


@dataclass(frozen=True)
class BenchReport:
    """Medians over the repeated runs.

    Attributes
    ----------
    seconds : median seconds of each part ("read", "localize", "refine", "straighten", "detect", "measure", "total").
        "total" is the analysis of a volume in memory, without "read".
    peak_mb : highest resident memory during the analyses minus the bytes of the volume itself, in 10^6 bytes.
    plane_s, volume_s : seconds to straighten the sagittal plane, and the whole volume point by point.
    vertebrae : number of vertebrae found.
    """

    seconds: dict[str, float]
    peak_mb: float
    plane_s: float
    volume_s: float
    vertebrae: int

    @property
    def plane_speedup(self) -> float:
        """How many times faster the plane is straightened than the whole volume."""
        return self.volume_s / self.plane_s


def bench(
    ct: CTVolume,
    analyze: Callable[[CTVolume], SpineAnalysis],
    repeats: int = 5,
    read: Callable[[Path], CTVolume] | None = None,
    write: Callable[[CTVolume, Path], Any] | None = None,
) -> BenchReport:
    """Time `analyze` on `ct` after one warm-up run, and `read` on the file that `write` makes of it.

    Reading is timed only with both `read` and `write`. Raises whatever `analyze` raises.
    """
    analyze(ct)
    reset_peak_memory()
    analyses = [analyze(ct) for _ in range(repeats)]
    peak = peak_memory_bytes() - ct.voxels.nbytes
    seconds = median_timings([a.timing_s for a in analyses])
    if read and write:
        seconds = {"read": statistics.median(_reading_times(ct, read, write, repeats)), **seconds}
    plane, volume = straightening_times(ct, analyses[-1].curve, repeats)
    return BenchReport(seconds, peak / 1e6, plane, volume, len(analyses[-1].vertebrae))


def median_timings(timings: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each part over runs that all have the same parts."""
    return {part: statistics.median(t[part] for t in timings) for part in timings[0]}


def straightening_times(ct: CTVolume, curve: np.ndarray, repeats: int = 5) -> tuple[float, float]:
    """Return median seconds for the straightened sagittal plane and the whole volume (+-64 mm both ways, 1 mm)."""
    straightening = Straightening(fit_curve(curve))
    laterals = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + 1)

    def whole_volume() -> None:
        """Sample every sagittal plane."""
        for lateral in laterals:
            straightening.sample_sagittal(ct, HALF_WIDTH_MM, lateral_mm=float(lateral))

    plane = _median_seconds(lambda: straightening.sample_sagittal(ct, HALF_WIDTH_MM), repeats)
    return plane, _median_seconds(whole_volume, min(repeats, 3))


def on_grid(ct: CTVolume, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> CTVolume:
    """Resample `ct` onto a grid of `shape` and `spacing_mm`, both [k, j, i], about the same centre; air outside it."""
    kji = np.array(spacing_mm)
    axes = directions(upright(ct.ijk_to_ras))
    center = ct.ijk_to_ras[:3] @ np.r_[(np.array(ct.voxels.shape[::-1]) - 1) / 2, 1]
    matrix = np.eye(4)
    matrix[:3, :3] = axes * kji[::-1]
    matrix[:3, 3] = center - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    voxels = np.full(shape, AIR_HU, np.int16)
    for k in range(shape[0]):  # slice by slice: the points of the whole volume would take gigabytes
        voxels[k] = np.rint(ct.sample(_slice_points(matrix, k, shape), fill=AIR_HU))
    return replace(ct, voxels=voxels, ijk_to_ras=matrix)


def _slice_points(matrix: np.ndarray, k: int, shape: tuple[int, int, int]) -> np.ndarray:
    j, i = np.indices(shape[1:])
    return i[..., None] * matrix[:3, 0] + j[..., None] * matrix[:3, 1] + k * matrix[:3, 2] + matrix[:3, 3]


def reset_peak_memory() -> None:
    """Start counting the peak from now on (Linux); on other systems it counts from the start of the program."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def peak_memory_bytes() -> int:
    """Return the highest resident memory of this process since `reset_peak_memory`."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return _peak_without_proc()


def _peak_without_proc() -> int:
    import resource  # absent on Windows, whose peak the standard library cannot read

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reading_times(
    ct: CTVolume, read: Callable[[Path], CTVolume], write: Callable[[CTVolume, Path], Any], repeats: int
) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ct.nii.gz"
        write(ct, path)
        return [_seconds(lambda: read(path)) for _ in range(min(repeats, 3))]


def _median_seconds(action: Callable[[], Any], repeats: int) -> float:
    return statistics.median(_seconds(action) for _ in range(repeats))


def _seconds(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
