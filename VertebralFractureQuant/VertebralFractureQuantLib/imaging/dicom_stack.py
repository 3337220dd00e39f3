"""Putting the slices of a DICOM series in order along their normal, and refusing series that are no stack.

Positions are DICOM's (LPS mm) until the last step, which returns `ijk_to_ras`. Order and distances come from the
slices' positions, never from instance numbers or the nominal thickness. A tilted gantry displaces each slice against
the one before it: then the matrix is sheared. Slices at varying distances are interpolated to constant ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import VFQError
from .axes import ORTHONORMAL_TOLERANCE
from .checks import GREATEST_TILT_DEG, LPS_TO_RAS, MIN_SLICES
from .dicom_slices import Slice

# Positions in headers are rounded, some to 0.01 mm; thin slices are 0.3 mm apart.
SAME_PLACE_MM = 0.02
SAME_AXES = 1e-3
ASIDE_MM = 1.0  # a slice may lie this far beside the line through the first and the last one
VARYING = 0.05  # a distance between slices varies if it differs from the usual one by more than this share
MOST_ROUNDED = 0.2  # rounding may displace a slice by up to this share of the distance
# Equal distances of this many in a row belong to the acquisition; a single wider one is a gap.
RUN = 3
# A vertebral body of 20 mm still has two slices inside it.
WIDEST_INTERPOLATED_MM = 7.5


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of a series in order, and the grid of the volume that they make.

    Attributes
    ----------
    slices : along their normal.
    ijk_to_ras : `(4, 4)` of the volume.
    places : `(n,)` ascending: the k of each slice in the volume. Whole numbers 0, 1, 2, ... unless the distances vary.
    notes : what was decided, in sentences for the user.
    widest_gap_mm : the widest distance between neighbouring slices along their normal, as they were acquired.
    """

    slices: list[Slice]
    ijk_to_ras: np.ndarray
    places: np.ndarray
    notes: tuple[str, ...] = ()
    widest_gap_mm: float = 0.0

    @property
    def count(self) -> int:
        """The number of slices of the volume."""
        return int(np.floor(self.places[-1] + 1e-6)) + 1

    def fill(self, voxels: np.ndarray, index: int, before: np.ndarray | None, plane: np.ndarray) -> None:
        """Write slice `index` into `voxels` `[k, j, i]`, with all that lies between it and the one `before`.

        Between two slices the voxels are interpolated linearly.
        """
        end = self.places[index]
        start = end if before is None else self.places[index - 1]
        for k in range(int(np.ceil(start - 1e-6)), int(np.floor(end + 1e-6)) + 1):
            share = 1.0 if end == start else (k - start) / (end - start)
            if before is None or share > 1 - 1e-6:
                voxels[k] = plane
            elif share > 1e-6:  # the slice before is in place already
                earlier = before.astype(np.float32)
                voxels[k] = np.rint(earlier + share * (plane - earlier))


def stack(slices: list[Slice]) -> Stack:
    """Put slices of one size, orientation and pixel spacing in order along their normal, and find their grid.

    VFQError: `too_few_slices`, `bad_direction`, `mixed_series`, `missing_slices`.
    """
    if len(slices) < MIN_SLICES:
        raise VFQError(
            "too_few_slices",
            f"The CT series has {len(slices)} slices, but at least {MIN_SLICES} are needed. Give the folder of a whole "
            "series.",
        )
    _require_right_angles(slices)
    normal = slices[0].normal / np.linalg.norm(slices[0].normal)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.array([s.position for s in slices])
    heights = positions @ normal
    _require_single_pass(heights)
    across = normal + _lean(positions, normal)
    spacing, notes = _spacing(heights, np.array([s.thickness_mm for s in slices]), _rounding(slices))
    places = (heights - heights[0]) / spacing
    widest = float(np.diff(heights).max()) if notes else spacing
    places = places if notes else np.arange(len(slices))
    return Stack(slices, _matrix(slices[0], across * spacing), places, notes, widest)


def _require_right_angles(slices: list[Slice]) -> None:
    axes = np.array([s.axes for s in slices])
    if np.abs(axes @ axes.transpose(0, 2, 1) - np.eye(2)).max() > ORTHONORMAL_TOLERANCE:
        raise VFQError("bad_direction", "The slices' axes are not unit vectors at right angles. Export the CT again.")


def _require_single_pass(heights: np.ndarray) -> None:
    repeated = int((np.diff(heights) < SAME_PLACE_MM).sum())
    if repeated:
        raise VFQError(
            "mixed_series",
            f"{repeated} of {len(heights)} slices have the same position as another (several phases or "
            "reconstructions in one series). Export them as separate series.",
        )


def _lean(positions: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return how far slices are displaced within their plane for each mm along the normal `(3,)`.

    Zero unless the gantry was tilted. VFQError `mixed_series` if the slices do not follow one line, `bad_direction` if
    they are displaced more than by any gantry.
    """
    offsets = positions - positions[0]
    along = offsets @ normal
    aside = offsets - along[:, None] * normal
    lean = aside[-1] / along[-1]
    straight = np.linalg.norm(lean) <= ORTHONORMAL_TOLERANCE
    rounding = ORTHONORMAL_TOLERANCE * along[-1] if straight else 0.0
    lean = np.zeros(3) if straight else lean
    wander = np.linalg.norm(aside - along[:, None] * lean, axis=1).max()
    if wander > ASIDE_MM + rounding:
        raise VFQError(
            "mixed_series",
            f"Slices of the series are shifted sideways by up to {wander:.1f} mm. Export its parts as separate series.",
        )
    tilt = np.degrees(np.arctan(np.linalg.norm(lean)))
    if tilt > GREATEST_TILT_DEG:
        raise VFQError(
            "bad_direction",
            f"The slices are sheared by {tilt:.1f} degrees, but a gantry tilts by {GREATEST_TILT_DEG:.0f} degrees at "
            "most. Export the CT again, or resample it to an orthogonal grid.",
        )
    return lean


def _rounding(slices: list[Slice]) -> float:
    """Return to how many mm the positions across the slices are rounded, by the decimals in the headers."""
    across = int(np.argmax(np.abs(slices[0].normal)))
    values = [s.header.text["ImagePositionPatient"].replace(",", ".").split("\\")[across] for s in slices]
    return float(10.0 ** -max(len(value.partition(".")[2].strip()) for value in values))


def _spacing(heights: np.ndarray, thickness: np.ndarray, rounding_mm: float) -> tuple[float, tuple[str, ...]]:
    """Return the distance between the volume's slices along their normal, mm, and a note if it had to be chosen.

    Positions that are rounded to `rounding_mm` may lie as far beside those of a constant distance.

    VFQError `missing_slices`, or `mixed_series` if the distances vary in a way that cannot be interpolated.
    """
    steps = np.diff(heights)
    usual = float(np.median(steps))
    regular = _in_runs(steps)
    acquired = regular & (_covered(steps, thickness) | ~_is_multiple(steps / usual))
    absent = np.where(acquired, 0, np.rint(steps / usual).astype(int) - 1)
    if absent.max() > 0:
        raise VFQError("missing_slices", _missing(absent, heights))
    even = np.linspace(heights[0], heights[-1], len(heights))
    rounded = np.abs(heights - even).max() <= min(rounding_mm, MOST_ROUNDED * usual)
    if rounded or np.abs(steps - usual).max() <= max(VARYING * usual, SAME_PLACE_MM):
        return float((heights[-1] - heights[0]) / len(steps)), ()
    varies = f"The distance between slices varies from {steps.min():.2f} to {steps.max():.2f} mm within the series"
    if 2 * regular.sum() < len(steps):
        raise VFQError(
            "mixed_series",
            f"{varies}, without a part of constant distance (several reconstructions in one series). Export them as "
            "separate series, or resample the series to a constant distance.",
        )
    if steps.max() > WIDEST_INTERPOLATED_MM:
        raise VFQError(
            "mixed_series",
            f"{varies}; more than {WIDEST_INTERPOLATED_MM} mm cannot be interpolated. Export its parts as separate "
            "series.",
        )
    # Half of the usual distance, so that interpolation blurs the slices little, wherever they lie.
    return usual / 2, (f"{varies}: slices were interpolated every {usual / 2:.2f} mm between their true positions.",)


def _in_runs(steps: np.ndarray) -> np.ndarray:
    """Tell which distances belong to `RUN` or more equal ones in a row: booleans like `steps`."""
    inside = np.zeros(len(steps), bool)
    for first in range(len(steps) - RUN + 1):
        run = steps[first : first + RUN]
        if np.ptp(run) <= max(VARYING * run.min(), SAME_PLACE_MM):
            inside[first : first + RUN] = True
    return inside


def _covered(steps: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Tell between which slices there is no gap, by their nominal thickness (0 if unknown)."""
    covered: np.ndarray = np.minimum(thickness[:-1], thickness[1:]) >= (1 - VARYING) * steps
    return covered


def _is_multiple(ratios: np.ndarray) -> np.ndarray:
    """Tell which ratios are 2, 3, ...: what is left where slices are lost."""
    whole = np.rint(ratios)
    multiple: np.ndarray = (whole > 1) & (np.abs(ratios - whole) <= VARYING * whole)
    return multiple


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
