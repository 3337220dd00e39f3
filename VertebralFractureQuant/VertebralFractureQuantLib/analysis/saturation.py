"""Are intensities cut off or coarse, as in a windowed or 8-bit copy of a CT? A regular subset of voxels tells.

In a CT of full range the largest value belongs to a few voxels, the smallest is air or padding, and there are more
than a thousand different values. HU throughout.
"""

from __future__ import annotations

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..spine.quality import CODES, Flag

SAMPLED_VOXELS = 250_000
# A scanner's own upper limit is 3071 or more: beyond it lies metal only.
LOWEST_FULL_RANGE_HU = 2000
# Share of the voxels above 0.7 of the largest value that have this value; in CT of full range below 0.1.
MOST_AT_TOP, FEWEST_AT_TOP = 0.15, 20
AIR_HU, MOST_AT_BOTTOM = -900, 0.005  # fewer voxels of the smallest value are noise
FEWEST_VALUES = 257  # more than 8 bits hold
# Cut off here, errors of G double, or levels are named wrong: see the validation page.
TOO_DARK_HU, TOO_BRIGHT_HU = 150, -180


def check_range(ct: CTVolume) -> None:
    """Raise VFQError `not_ct` if so much is cut off that endplates or levels are not seen any more."""
    low, counts = _histogram(ct.voxels)
    high = low + len(counts) - 1
    if _piles_up(high, low, counts) and high <= TOO_DARK_HU:
        lost = f"above {high} HU are cut off, where bone lies"
    elif _is_cut_below(low, counts) and low >= TOO_BRIGHT_HU:
        lost = f"below {low} HU are cut off, where lung, air and fat lie"
    else:
        return
    raise VFQError(
        "not_ct", f"All intensities {lost}. Give the original CT, not a windowed, normalised or 8-bit copy of it."
    )


def clipped_intensities(ct: CTVolume) -> Flag | None:
    """Return the flag of a scan whose intensities are cut off, or have 256 values at most; None for a full range."""
    low, counts = _histogram(ct.voxels)
    high = low + len(counts) - 1
    found = []
    if _piles_up(high, low, counts):
        found.append(f"all intensities above {high} HU are cut off")
    if _is_cut_below(low, counts):
        found.append(f"all intensities below {low} HU are cut off")
    if (counts > 0).sum() < FEWEST_VALUES <= high - low:
        found.append(f"there are only {(counts > 0).sum()} different intensities, as in an 8-bit image")
    if not found:
        return None
    text = ", and ".join(found)
    remedy = CODES["clipped_intensities"].remedy
    return Flag(
        "clipped_intensities", f"{text[0].upper()}{text[1:]}, so endplates and levels are less certain. {remedy}"
    )


def _is_cut_below(low: int, counts: np.ndarray) -> bool:
    """True if the smallest value is no air, and more than a few voxels, but not all, have it."""
    return bool(low > AIR_HU and len(counts) > 1 and counts[0] > MOST_AT_BOTTOM * counts.sum())


def _piles_up(high: int, low: int, counts: np.ndarray) -> bool:
    """True if more voxels have the largest value than a tail of bone has."""
    if len(counts) == 1 or not 0 < high < LOWEST_FULL_RANGE_HU:
        return False
    bright = counts[max(0, int(0.7 * high) - low) :].sum()
    return bool(counts[-1] >= FEWEST_AT_TOP and counts[-1] > MOST_AT_TOP * bright)


def _histogram(voxels: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the smallest value of a regular subset of voxels, and how often each value from it upwards occurs."""
    step = max(1, round((voxels.size / SAMPLED_VOXELS) ** (1 / 3)))
    sample = voxels[::step, ::step, ::step].ravel().astype(np.int32)
    low = int(sample.min())
    return low, np.bincount(sample - low)
