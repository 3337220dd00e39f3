"""The midline of the vertebral arches: an independent witness of where the middle plane of a spine lies.

Laminae, pedicles, transverse processes and canal are nearly mirror images of one another, and no vessel lies among
them. The plane across which the HU behind the bodies agree best with their mirror image is the midline. Coordinates are
straight R, A, S mm along a curve; offsets are along R.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..imaging.ct import CTVolume
from ..spine.curve import SpineCurve, fit_curve
from ..spine.straightening import Straightening

STEP_MM, DEPTH_STEP_MM = 2.0, 3.0
BEHIND_MM = (-42.0, -4.0)  # range of A, from the middle of the body: the arch, and the back of the body
HALF_MM = 30.0  # of the part that is mirrored
FARTHEST_MM = 24.0  # offset that is looked for
AT_HEIGHT = (-0.3, 0.3)  # of the body's height, from its middle
HU = (-50.0, 600.0)  # soft tissue to bone
MOST_OUTSIDE = 0.3  # share of a mirrored part that may lie outside the scan
NEAR_MM, TURNS_DEG = 3.0, (9.0, -9.0, 18.0, -18.0)  # of a vertebra about the curve
LEAST_DISTINCT = 0.15  # by how much the best plane must be better than the usual one
OUTSIDE_HU = -2000.0
LOST_MM = 6.0  # a curve this far from the midline at two neighbours has left the spine; turned vertebrae reach 4 mm
SMOOTHING_MM = 14.0


def midline_offsets(ct: CTVolume, curve: SpineCurve, middles: np.ndarray, tall: np.ndarray) -> np.ndarray:
    """Return how far right of the curve the midline lies at each vertebra, `(n,)` mm; nan where it is not clear.

    middles : `(n, 3)` RAS mm of the bodies; tall : `(n,)` their heights, mm.

    A turned vertebra has its midline across its own plane: where the image's plane shows none near the curve, the
    clearest of several turned planes counts.
    """
    straightening = Straightening(curve)
    if len(middles) == 0:
        return np.empty(0)
    places, tall = straightening.to_straight(middles), np.asarray(tall, float)
    best, cost = _offsets(ct, straightening, places, tall, 0.0)
    rest = ~(np.abs(best) < NEAR_MM)
    for turn in np.deg2rad(TURNS_DEG) if rest.any() else ():
        offsets, costs = _offsets(ct, straightening, places[rest], tall[rest], float(turn))
        better = ~(costs >= cost[rest]) & np.isfinite(offsets)
        index = np.flatnonzero(rest)[better]
        best[index], cost[index] = offsets[better], costs[better]
    return best


def _offsets(
    ct: CTVolume, straightening: Straightening, places: np.ndarray, tall: np.ndarray, turn: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets `(n,)` mm of midlines that are turned by `turn` radians about the curve, and their costs.

    Both are nan where there is none.
    """
    across = np.arange(-HALF_MM - FARTHEST_MM, HALF_MM + FARTHEST_MM + STEP_MM / 2, STEP_MM)
    depth = np.arange(*BEHIND_MM, DEPTH_STEP_MM)[:, None]
    up = places[:, 2, None] + np.multiply.outer(tall, AT_HEIGHT)
    grid = np.empty((*up.shape, len(depth), len(across), 3))
    grid[..., 0] = across * np.cos(turn) - depth * np.sin(turn)
    grid[..., 1] = places[:, 1, None, None, None] + across * np.sin(turn) + depth * np.cos(turn)
    grid[..., 2] = up[..., None, None]
    hu = ct.sample(straightening.to_patient(grid), fill=OUTSIDE_HU)
    shifts = np.arange(-FARTHEST_MM, FARTHEST_MM + STEP_MM / 2, STEP_MM)
    costs = np.stack([_asymmetry(hu, len(across) // 2 + round(s / STEP_MM)) for s in shifts], 1)
    found = np.array([_clear_minimum(shifts, cost) for cost in costs])
    return found[:, 0] * np.cos(turn), found[:, 1]


def _asymmetry(hu: np.ndarray, center: int) -> np.ndarray:
    """Return how much HU `(n, up, depth, across)` differ from their mirror image about a column, `(n,)`.

    Dense places count more; nan where too much lies outside the scan.
    """
    reach = round(HALF_MM / STEP_MM)
    part = hu[..., center - reach : center + reach + 1]
    held = (part > OUTSIDE_HU) & (part[..., ::-1] > OUTSIDE_HU)
    part = part.clip(*HU)
    mirrored = part[..., ::-1]
    weight = np.where(held, np.maximum(part, mirrored) - HU[0] + 10, 0)
    cost = (np.abs(part - mirrored) * held).sum((1, 2, 3)) / np.maximum(weight.sum((1, 2, 3)), 1)
    cost[held.mean((1, 2, 3)) < 1 - MOST_OUTSIDE] = np.nan
    return np.asarray(cost)


def _clear_minimum(shifts: np.ndarray, cost: np.ndarray) -> tuple[float, float]:
    """Return the shift of the least cost, and the cost; nan if it lies at an end or is not distinct."""
    smooth = cost.copy()
    smooth[1:-1] = (cost[:-2] + 2 * cost[1:-1] + cost[2:]) / 4
    if np.isnan(smooth).mean() > MOST_OUTSIDE:
        return np.nan, np.nan
    best = int(np.nanargmin(smooth))
    distinct = smooth[best] < (1 - LEAST_DISTINCT) * np.nanmedian(smooth)
    return (float(shifts[best]), float(smooth[best])) if distinct and 0 < best < len(shifts) - 1 else (np.nan, np.nan)


def stretch_off_midline(offsets: Sequence[float] | np.ndarray) -> np.ndarray:
    """Tell which vertebrae lie off the midline, `(n,)` booleans.

    A neighbour must lie off it to the same side, or have no clear midline: a single one may be turned.
    """
    known = np.asarray(offsets, float)
    far = np.where(np.abs(np.nan_to_num(known)) >= LOST_MM, np.sign(known), 0)
    unclear = np.r_[False, np.isnan(known), False]
    padded = np.r_[0, far, 0]
    agrees = [(far == padded[side]) | unclear[side] for side in (slice(None, -2), slice(2, None))]
    return (far != 0) & (agrees[0] | agrees[1])


def on_midline(curve: SpineCurve, middles: np.ndarray, offsets: np.ndarray) -> SpineCurve:
    """Return a curve through the points of `curve` beside `middles` `(n, 3)` RAS mm, moved along R by `offsets` `(n,)`.

    Vertebrae whose offset is nan give no point; the ends of the curve move with the outermost points.
    """
    known = np.isfinite(offsets)
    arcs = -Straightening(curve).to_straight(middles[known])[:, 2]
    points, frames = curve.at(arcs)
    moved = offsets[known][:, None] * frames[:, 0]
    ends = (
        [curve.points[0] + moved[0]] * int(arcs[0] > 0),
        [curve.points[-1] + moved[-1]] * int(arcs[-1] < curve.length),
    )
    return fit_curve(np.array([*ends[0], *(points + moved), *ends[1]]), SMOOTHING_MM)
