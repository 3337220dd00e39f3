"""What voxels must fulfil before they are measured: three dimensions, sane axes, finite HU; and file names, for ITK.

Voxels are `[k, j, i]`; `ijk_to_ras` maps (i, j, k, 1) to RAS mm. The limits were chosen on real CT, crops of the
spine without air and padded volumes among them; label maps, MR and windowed pictures fall outside.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import VFQError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING_LIMITS_MM = (0.05, 20.0)
# About 0.3 degrees: far above the rounding of headers, below any gantry tilt that would bend a height by 1 %.
ORTHONORMAL_TOLERANCE = 5e-3
MIN_SLICES = 3
SAMPLED_VOXELS = 1_000_000
# Padding lies below this (-1200 .. -3024); scanners' own air, noise and metal shadows hardly do.
LOWEST_HU = -1200
# Fat starts below it; noise and interpolation ringing of pictures without negative intensities stay above.
FAT_HU = -20
LEAST_FAT_OR_AIR = 0.003
MOST_BELOW_AIR = 0.05
INT16 = np.iinfo(np.int16)


def require_memory(n_bytes: int, max_bytes: int | None = None) -> None:
    """VFQError `too_large` where `n_bytes` exceed `max_bytes` or, without it, the memory that is available."""
    limit = available_bytes() if max_bytes is None else max_bytes
    if n_bytes > limit:
        raise VFQError(
            "too_large",
            f"The volume needs {n_bytes / 2**30:.3g} GiB, {limit / 2**30:.3g} GiB are available. "
            "If the size is right, crop it to the spine or use a machine with more memory.",
        )


def available_bytes() -> int:
    """Memory that can be taken now: the least of what the system, its physical pages and the container allow."""
    found = [v for v in (_linux_available(), _container_limit(), _physical()) if v]
    return min(found, default=16 * 2**30)


def _linux_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None


def _container_limit() -> int | None:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return None


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # sysconf is absent on Windows
        return None


def to_int16(raw: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """`raw * slope + intercept` rounded and clipped to int16; int16 that needs no scaling comes back uncopied.

    Works slice by slice, so that no floating-point copy of the volume is ever made.
    VFQError `bad_voxels` for NaN or infinity, `not_ct` for voxels that are not real numbers.
    """
    if raw.dtype.kind not in "iuf":
        raise VFQError("not_ct", f"The voxels are of type {raw.dtype}, CT holds integers or real numbers.")
    if raw.dtype == np.int16 and (slope, intercept) == (1.0, 0.0):
        return raw
    voxels = np.empty(raw.shape, np.int16)
    for k, plane in enumerate(raw):
        _require_finite(plane, k)
        voxels[k] = np.clip(np.rint(plane.astype(np.float64) * slope + intercept), INT16.min, INT16.max)
    return voxels


def _require_finite(plane: np.ndarray, k: int) -> None:
    if plane.dtype.kind == "f" and not np.isfinite(plane).all():
        count = int((~np.isfinite(plane)).sum())
        raise VFQError(
            "bad_voxels",
            f"Slice {k} holds {count} NaN or infinite voxels. Replace them by -1024 (air) or export the CT again.",
        )


def check_ct(voxels: np.ndarray, ijk_to_ras: np.ndarray) -> None:
    """Raise VFQError unless this is a CT that can be measured.

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
    """VFQError `not_3d` or `too_few_slices` by the shape `(k, j, i)` alone."""
    if len(shape) != 3:
        raise VFQError("not_3d", f"The image has {len(shape)} dimensions {_times(shape)}; one CT volume has three.")
    if min(shape) < MIN_SLICES:
        raise VFQError(
            "too_few_slices",
            f"The volume is {_times(shape)} voxels (slices x rows x columns); "
            f"at least {MIN_SLICES} are needed along each axis. Choose the whole series, not a single picture.",
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def check_axes(ijk_to_ras: np.ndarray) -> None:
    """VFQError `bad_spacing` or `bad_direction` unless the axes of `(4, 4)` are orthogonal and of sane length."""
    axes = np.asarray(ijk_to_ras, float)
    if axes.shape != (4, 4) or not np.allclose(axes[3], [0, 0, 0, 1]):
        raise VFQError("bad_direction", "ijk_to_ras must be a 4 x 4 matrix with the last row 0 0 0 1.")
    spacing = np.linalg.norm(axes[:3, :3], axis=0)
    check_spacing(spacing)
    if not np.isfinite(axes).all():
        raise VFQError("bad_direction", "The position of the volume is NaN or infinite. Export the CT again.")
    check_orthogonal(axes[:3, :3] / spacing)


def check_spacing(spacing_mm: np.ndarray) -> None:
    """VFQError `bad_spacing` unless each of the voxel's sizes `(3,)` [i, j, k] lies within `SPACING_LIMITS_MM`."""
    low, high = SPACING_LIMITS_MM
    spacing = np.asarray(spacing_mm, float)
    if not (np.isfinite(spacing).all() and (spacing >= low).all() and (spacing <= high).all()):
        raise VFQError(
            "bad_spacing",
            f"The voxel spacing is {' x '.join(f'{s:.4g}' for s in spacing)} mm; {low} to {high:g} mm is plausible. "
            "Millimetres cannot be measured with it: correct the header or export the CT again.",
        )


def check_orthogonal(direction: np.ndarray) -> None:
    """VFQError `bad_direction` unless the unit columns of `(3, 3)` stand at right angles."""
    error = np.abs(direction.T @ direction - np.eye(3)).max()
    if not error <= ORTHONORMAL_TOLERANCE:
        angle = np.degrees(np.arcsin(min(error, 1.0)))
        raise VFQError(
            "bad_direction",
            f"The axes of the volume deviate from right angles by {angle:.1f} degrees (shear or gantry tilt). "
            "Resample it to an orthogonal grid first, or correct the tilt when converting from DICOM.",
        )


def check_intensities(voxels: np.ndarray) -> None:
    """VFQError `not_ct` where the intensities `[k, j, i]` cannot be Hounsfield units.

    CT holds fat (about -100 HU) or air; a picture without either is MR, a label map, a windowed or normalised
    picture, or CT whose rescale intercept was lost. A regular subset of about a million voxels is looked at.
    """
    sample = _subsample(voxels)
    padding = sample < LOWEST_HU
    body = sample[~padding]
    below_air = np.mean(padding & (sample > sample.min()))
    if below_air > MOST_BELOW_AIR or not len(body):
        raise VFQError("not_ct", _not_ct(sample, f"{100 * below_air:.0f} % of the voxels are darker than air"))
    negative = body[body < FAT_HU]
    if len(negative) < LEAST_FAT_OR_AIR * len(body):
        raise VFQError("not_ct", _not_ct(body, _why_no_fat(body)))
    if negative.min() == negative.max() and not _like_tissue(body[body >= FAT_HU]):
        raise VFQError("not_ct", _not_ct(body, f"the only dark value is the constant {negative[0]} of a padding"))


def _subsample(voxels: np.ndarray) -> np.ndarray:
    step = max(1, round((voxels.size / SAMPLED_VOXELS) ** (1 / 3)))
    return voxels[::step, ::step, ::step].ravel()


def _why_no_fat(body: np.ndarray) -> str:
    if np.mean((body > 850) & (body < 1250)) > 0.1:
        return (
            "soft tissue seems to lie near 1050, so the rescale intercept (usually -1024) may be missing: "
            "convert the DICOM again with its rescale, or subtract 1024"
        )
    return "there is neither fat nor air, which lie below -20 HU"


def _like_tissue(bright: np.ndarray) -> bool:
    """Distinguishes air of one value (a clean phantom) from another modality that was padded like CT."""
    return bright.size == 0 or bool(np.median(bright) <= 150 and bright.max() > 150)


def _not_ct(values: np.ndarray, why: str) -> str:
    low, high = values.min(), values.max()
    return (
        f"The intensities ({low:g} to {high:g}) are not Hounsfield units: {why}. Give the original CT, "
        "not MR, a label map, or a windowed or normalised picture."
    )


def itk_name(path: Path, code: str = "not_an_image") -> str:
    """`path` as SimpleITK takes it; VFQError `code` for a name that is not UTF-8, which would end the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise VFQError(
            code,
            f"{path.name!r}, or a folder that it lies in, has a name that is not UTF-8 (from another system). "
            "Rename it, with plain letters.",
        ) from None
    return str(path)
