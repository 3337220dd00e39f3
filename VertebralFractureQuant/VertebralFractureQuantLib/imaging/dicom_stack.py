"""Putting the slices of a DICOM series in order along their normal, and refusing series that are no regular stack.

Positions are DICOM's (LPS mm) until the last step, which returns `ijk_to_ras`. Order and spacing come from the slices'
positions, never from instance numbers or the nominal thickness.
"""

from __future__ import annotations

import numpy as np

from ..errors import VFQError
from .checks import LPS_TO_RAS, MIN_SLICES, ORTHONORMAL_TOLERANCE
from .dicom_slices import Slice

# Positions in headers are rounded, some to 0.01 mm; thin slices are 0.3 mm apart.
SAME_PLACE_MM = 0.02
SAME_AXES = 1e-3


def stack(slices: list[Slice]) -> tuple[list[Slice], np.ndarray]:
    """Return the slices in order along their normal, and `ijk_to_ras` `(4, 4)`.

    VFQError: `too_few_slices`, `bad_direction`, `mixed_series`, `missing_slices`.
    """
    if len(slices) < MIN_SLICES:
        raise VFQError(
            "too_few_slices",
            f"The largest or chosen CT series has {len(slices)} slices, but at least {MIN_SLICES} are needed. Give "
            "the folder of a whole series.",
        )
    _require_one_geometry(slices)
    normal = slices[0].normal / np.linalg.norm(slices[0].normal)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.array([s.position for s in slices])
    heights = positions @ normal
    _require_single_pass(heights)
    _require_straight_stack(positions, normal)
    spacing = _require_no_gaps(heights)
    return slices, _matrix(slices[0], normal * spacing)


def _require_one_geometry(slices: list[Slice]) -> None:
    first = slices[0]
    if not np.allclose(first.axes @ first.axes.T, np.eye(2), atol=ORTHONORMAL_TOLERANCE):
        raise VFQError("bad_direction", "The slices' axes are not unit vectors at right angles. Export the CT again.")
    odd = {
        "size": sum(s.size != first.size for s in slices),
        "orientation": sum(not np.allclose(s.axes, first.axes, atol=SAME_AXES) for s in slices),
        "pixel spacing": sum(not np.allclose(s.pixel_spacing, first.pixel_spacing, rtol=1e-3) for s in slices),
    }
    mixed = [f"{name} ({n} of {len(slices)} slices differ from the first)" for name, n in odd.items() if n]
    if mixed:
        raise VFQError(
            "mixed_series",
            f"The series mixes images of different {', '.join(mixed)}. Export its parts as separate series.",
        )


def _require_single_pass(heights: np.ndarray) -> None:
    repeated = int((np.diff(heights) < SAME_PLACE_MM).sum())
    if repeated:
        raise VFQError(
            "mixed_series",
            f"{repeated} of {len(heights)} slices have the same position as another (several phases or "
            "reconstructions in one series). Export them as separate series.",
        )


def _require_straight_stack(positions: np.ndarray, normal: np.ndarray) -> None:
    offsets = positions - positions[0]
    along = offsets @ normal
    aside = offsets - along[:, None] * normal
    tilt = np.linalg.norm(aside[-1]) / along[-1]
    if tilt > ORTHONORMAL_TOLERANCE:
        raise VFQError(
            "bad_direction",
            f"The slices are sheared by {np.degrees(np.arctan(tilt)):.1f} degrees (gantry tilt). Correct the tilt "
            "when you convert the series (dcm2niix does), or resample it to an orthogonal grid, and give the result.",
        )
    wander = np.linalg.norm(aside, axis=1).max()
    if wander > 1.0 + ORTHONORMAL_TOLERANCE * along[-1]:
        raise VFQError(
            "mixed_series",
            f"Slices of the series are shifted sideways by up to {wander:.1f} mm. Export its parts as separate series.",
        )


def _require_no_gaps(heights: np.ndarray) -> float:
    """Return the distance between slices, mm; VFQError `missing_slices`, or `mixed_series` if it merely varies."""
    steps = np.diff(heights)
    spacing = float(np.median(steps))
    absent = np.rint(steps / spacing).astype(int) - 1
    if absent.max() > 0:
        raise VFQError("missing_slices", _missing(absent, heights))
    if np.abs(steps - spacing).max() > max(0.05 * spacing, SAME_PLACE_MM):
        raise VFQError(
            "mixed_series",
            f"The distance between slices varies from {steps.min():.2f} to {steps.max():.2f} mm within the series. "
            "Resample the series to a constant distance.",
        )
    return float((heights[-1] - heights[0]) / len(steps))


def _missing(absent: np.ndarray, heights: np.ndarray) -> str:
    gaps = np.flatnonzero(absent > 0)
    places = [f"{absent[g]} between {heights[g]:.1f} and {heights[g + 1]:.1f} mm" for g in gaps[:4]]
    more = f" and {len(gaps) - 4} more gaps" if len(gaps) > 4 else ""
    return (
        f"{int(absent[gaps].sum())} slices are missing from a series of {len(heights)}: {', '.join(places)}{more} "
        "along the slices' normal. Copy or export the series again."
    )


def _matrix(first: Slice, step: np.ndarray) -> np.ndarray:
    lps = np.eye(4)
    lps[:3, 0] = first.axes[0] * first.pixel_spacing[0]
    lps[:3, 1] = first.axes[1] * first.pixel_spacing[1]
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return LPS_TO_RAS @ lps
