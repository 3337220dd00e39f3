"""Conditions that a CT must meet to be measured: three dimensions, plausible axes, finite HU, enough memory.

Voxels are `[k, j, i]`; `ijk_to_ras` maps (i, j, k, 1) to RAS mm. The limits were chosen on real CT, including crops of
the spine without air and padded volumes; they exclude label maps, MR and windowed images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .axes import is_sheared, tilt_deg

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING_LIMITS_MM = (0.05, 20.0)
# Gantries tilt by 30 degrees at most.
GREATEST_TILT_DEG = 35.0
MIN_SLICES = 3
SAMPLED_VOXELS = 1_000_000
# Padding lies below this (-1200 to -3024); measured air, noise and metal shadows hardly ever do.
LOWEST_HU = -1200
# Fat lies below this; noise and interpolation ringing of images without negative intensities stay above.
FAT_HU = -20
LEAST_FAT_OR_AIR = 0.003
MOST_BELOW_AIR = 0.05
# Soft tissue of a CT whose rescale intercept is lost, and the values just below it, which are rare there. Of real CT
# (also with noise of 150 HU) at most 2.3 % lie in the former, 1.2 times as many as in the latter; of crops of 60 mm, of
# skull, at most 12 %, 6 times as many. Without intercept it is at least 20 %, 9 times as many, at noise up to 100 HU.
LOST_INTERCEPT_TISSUE = (850, 1250)
LOST_INTERCEPT_GAP = (500, 750)
MOST_AT_1000 = 0.12
MOST_TO_GAP = 6.0
UNSIGNED_MEDIAN = 20000  # half of the values above this: 32768 was not subtracted
INT16 = np.iinfo(np.int16)


def require_memory(n_bytes: int, max_bytes: int | None = None) -> None:
    """Raise VFQError `too_large` if `n_bytes` exceeds `max_bytes` or, if that is None, the available memory."""
    limit = available_bytes() if max_bytes is None else max_bytes
    if n_bytes > limit:
        raise VFQError(
            "too_large",
            f"The volume needs {n_bytes / 2**30:.3g} GiB of memory, but only {limit / 2**30:.3g} GiB are available. "
            "If its size is correct, crop it to the spine or use a computer with more memory.",
        )


def available_bytes() -> int:
    """Return the memory that can be allocated now: the least of what system, physical memory and container allow."""
    found = [v for v in (_linux_available(), _container_limit(), _physical()) if v]
    return min(found, default=16 * 2**30)


def _linux_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None


def _container_limit() -> int | None:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # sysconf is absent on Windows
        return None


def to_int16(raw: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """Return `raw * slope + intercept` for `[k, j, i]`, rounded and clipped to int16; unscaled int16 is not copied.

    It works slice by slice, so there is never a floating-point copy of the whole volume.
    VFQError `bad_voxels` for NaN or infinity, `not_ct` for voxels that are not real numbers.
    """
    if raw.dtype.kind not in "iuf":
        raise VFQError(
            "not_ct",
            f"The voxels are of type {raw.dtype}, but a CT has integers or real numbers. Give the original CT.",
        )
    if raw.dtype == np.int16 and (slope, intercept) == (1.0, 0.0):
        return raw
    voxels = np.empty(raw.shape, np.int16)
    for k, plane in enumerate(raw):
        _require_finite(plane, k)
        with np.errstate(over="ignore"):  # infinity is clipped as well
            scaled = plane.astype(np.float64) * slope + intercept
        voxels[k] = np.clip(np.rint(scaled), INT16.min, INT16.max)
    return voxels


def _require_finite(plane: np.ndarray, k: int) -> None:
    if plane.dtype.kind == "f" and not np.isfinite(plane).all():
        count = int((~np.isfinite(plane)).sum())
        raise VFQError(
            "bad_voxels",
            f"Slice {k} has {count} NaN or infinite voxels. Replace them with -1024 (air) or export the CT again.",
        )


def check_ct(voxels: np.ndarray, ijk_to_ras: np.ndarray) -> None:
    """Raise a VFQError unless this is a CT that can be measured.

    Parameters
    ----------
    voxels : `[k, j, i]` HU, any real type.
    ijk_to_ras : `(4, 4)`, (i, j, k, 1) to RAS mm.

    Errors: `not_3d`, `bad_spacing`, `bad_direction`, `too_few_slices`, `bad_voxels`, `not_ct`.
    """
    check_shape(voxels.shape)
    check_axes(ijk_to_ras)
    if voxels.dtype.kind == "f":
        for k, plane in enumerate(voxels):
            _require_finite(plane, k)
    check_intensities(voxels)


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise VFQError `not_3d` or `too_few_slices` unless the shape `(k, j, i)` is that of a volume."""
    if len(shape) != 3:
        raise VFQError(
            "not_3d",
            f"The image has {len(shape)} dimensions ({times(shape)}), but a CT volume has 3. Give a single volume.",
        )
    if min(shape) < MIN_SLICES:
        raise VFQError(
            "too_few_slices",
            f"The volume has {times(shape)} voxels (slices x rows x columns), but at least {MIN_SLICES} are needed "
            "along each axis. Give the whole series, not a single image.",
        )


def times(values: Iterable[float]) -> str:
    """Return numbers such as sizes or spacings for a message: "0.7 x 0.8 x 2.5"."""
    return " x ".join(str(v) if isinstance(v, int) else f"{v:.4g}" for v in values)


def check_axes(ijk_to_ras: np.ndarray) -> None:
    """Raise VFQError `bad_spacing` or `bad_direction` unless the axes of `(4, 4)` are plausible.

    They may be sheared as by a tilted gantry, by `GREATEST_TILT_DEG` at most.
    """
    axes = np.asarray(ijk_to_ras, float)
    if axes.shape != (4, 4) or not np.allclose(axes[3], [0, 0, 0, 1]):
        raise VFQError(
            "bad_direction", "ijk_to_ras is not a 4 x 4 matrix with the last row 0 0 0 1. Give such a matrix."
        )
    spacing = np.linalg.norm(axes[:3, :3], axis=0)
    check_spacing(spacing)
    check_position(axes[:3, 3])
    check_tilt(axes)


def check_position(position: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the position `(3,)` of the first voxel; VFQError `bad_direction` if it is not finite."""
    if not np.isfinite(position).all():
        raise VFQError("bad_direction", "The position of the volume is NaN or infinite. Export the CT again.")
    return np.asarray(position, float)


def check_spacing(spacing_mm: np.ndarray) -> None:
    """Raise VFQError `bad_spacing` unless each voxel size `(3,)` [i, j, k] lies within `SPACING_LIMITS_MM`."""
    low, high = SPACING_LIMITS_MM
    spacing = np.asarray(spacing_mm, float)
    if not (np.isfinite(spacing).all() and (spacing >= low).all() and (spacing <= high).all()):
        raise VFQError(
            "bad_spacing",
            f"The voxel spacing is {times(spacing)} mm, but only {low} to {high:g} mm is "
            "plausible, so heights in mm would be wrong. Correct the header or export the CT again.",
        )


def check_positive(spacing: np.ndarray) -> None:
    """Raise VFQError `bad_spacing` unless every entry of `(3,)` mm is finite and above zero."""
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise VFQError(
            "bad_spacing",
            f"The header gives a voxel spacing of {times(spacing)} mm, but each must be a finite number above 0. "
            "Correct the header or export the CT again.",
        )


def orientation_unknown(why: str) -> VFQError:
    """Return the VFQError for a header that does not tell left from right, front from back and head from feet."""
    return VFQError(
        "orientation_unknown",
        f"The header does not tell where left, front and head are: {why}. Convert the scan again from DICOM, or write "
        "the orientation into the header. If its axes run to the left, to the back and to the head, use "
        "--trust-header.",
    )


def check_tilt(ijk_to_ras: np.ndarray) -> None:
    """Raise VFQError `bad_direction` if the axes of `(4, 4)` are sheared in a way that no tilted gantry does."""
    if not is_sheared(ijk_to_ras):
        return
    tilt = tilt_deg(ijk_to_ras)
    if not tilt <= GREATEST_TILT_DEG:
        how = "no two axes are at right angles, or all lie in one plane"
        raise VFQError(
            "bad_direction",
            f"The axes of the volume are sheared: {f'one axis leans by {tilt:.1f} degrees' if tilt < 89.9 else how}. "
            f"A tilted gantry is measured, but it leans by {GREATEST_TILT_DEG:.0f} degrees at most. Give the scan as "
            "it was acquired, or resample it to an orthogonal grid.",
        )


def check_intensities(voxels: np.ndarray) -> None:
    """Raise VFQError `not_ct` if the intensities `[k, j, i]` cannot be Hounsfield units.

    A CT contains fat (about -100 HU) or air. An image without either is MR, a label map, a windowed or normalised
    image, or a CT whose rescale intercept was lost. A regular subset of about a million voxels is examined.
    """
    sample = _subsample(voxels)
    padding = sample < LOWEST_HU
    body = sample[~padding]
    below_air = np.mean(padding & (sample > sample.min()))
    if below_air > MOST_BELOW_AIR or not len(body):
        raise VFQError("not_ct", _not_ct(sample, f"{100 * below_air:.0f} % of the voxels are darker than air"))
    if _intercept_lost(body):
        raise VFQError("not_ct", _not_ct(body, LOST_INTERCEPT))
    negative = body[body < FAT_HU]
    if len(negative) < LEAST_FAT_OR_AIR * len(body):
        raise VFQError("not_ct", _not_ct(body, _why_no_fat(body)))
    if negative.min() == negative.max() and not _like_tissue(body[body >= FAT_HU]):
        raise VFQError("not_ct", _not_ct(body, f"the only dark value is {negative[0]}, which is constant like padding"))


def _subsample(voxels: np.ndarray) -> np.ndarray:
    step = max(1, round((voxels.size / SAMPLED_VOXELS) ** (1 / 3)))
    return voxels[::step, ::step, ::step].ravel()


LOST_INTERCEPT = (
    "soft tissue seems to lie near 1050, so the rescale intercept (usually -1024 or -1000) may be missing: convert the "
    "DICOM again with its rescale, or subtract 1024 or 1000"
)


def _intercept_lost(body: np.ndarray) -> bool:
    """Tell by the histogram, as air near 0 with noise, or padding, has negative values too."""
    tissue, gap = (np.mean((body > low) & (body < high)) for low, high in (LOST_INTERCEPT_TISSUE, LOST_INTERCEPT_GAP))
    return bool(tissue > MOST_AT_1000 and tissue > MOST_TO_GAP * gap)


def _why_no_fat(body: np.ndarray) -> str:
    if np.median(body) > UNSIGNED_MEDIAN:
        return (
            "most of them lie near 32768, so the rescale intercept may be missing: convert the DICOM again with its "
            "rescale, or subtract 32768"
        )
    return "no fat or air is found, which lie below -20 HU"


def _like_tissue(bright: np.ndarray) -> bool:
    """Tell air of a single value (a clean phantom) from another modality that was padded like CT."""
    return bright.size == 0 or bool(np.median(bright) <= 150 and bright.max() > 150)


def _not_ct(values: np.ndarray, why: str) -> str:
    low, high = values.min(), values.max()
    return (
        f"The intensities ({low:g} to {high:g}) are not Hounsfield units: {why}. Give the original CT, "
        "not MR, a label map, or a windowed or normalised image."
    )


def itk_name(path: Path, code: str = "not_an_image") -> str:
    """Return `path` as text for SimpleITK; VFQError `code` if it is not UTF-8, which would end the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise VFQError(
            code,
            f"The name of {path.name!r}, or of a folder that contains it, is not UTF-8 (it comes from another system). "
            "Rename it with plain letters.",
        ) from None
    return str(path)
