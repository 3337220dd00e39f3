"""Finding the spine's curve: with the localizer and the refiner, or through points that a reader clicks.

Curves are in patient RAS mm and run from cranial to caudal; arc lengths along them are in mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume, inside
from ..spine.curve import SpineCurve, fit_curve
from ..spine.record import Vertebra
from ..spine.straightening import Straightening
from .models import Models

if TYPE_CHECKING:
    from ..networks.refiner import Refined

COARSE_SMOOTHING_MM = 14.0
CURVE_SMOOTHING_MM = 20.0
LOOK_BEYOND_MM = 32.0  # the refiner looks this far beyond the coarse curve: a sacrum there identifies the levels
# The limits are extended by 2 cm, like "ours ext." of Zakharov et al. 2023. At the lower end the extension is an L5 and
# the disc above it: the localizer is least certain there and loses them first.
EXTENSION_MM, EXTENSION_BELOW_MM = 20.0, 44.0
# Beyond a reader's outermost clicks, which are middles of bodies, the next vertebra is seen whole: its middle is at
# most 36 mm farther, and its endplate 14 mm more.
BEYOND_CLICKS_MM = 52.0
# If the last vertebra lies closer to the curve's end than this multiple of its height, and the scan continues there,
# the next vertebra would not be seen whole, and the localizer may have lost the spine: the curve is lengthened.
LEAST_ROOM, LENGTHENED_MM = 1.25, 50.0
FOLLOW_THRESHOLD = 0.05
SHORTEST_SPINE_MM = 40.0
# Two groups of slices that look like spine may be different structures if the gap is wider: hips look like spine.
WIDEST_GAP_MM, SHORTEST_PART_MM = 40.0, 20.0
# Behind the middle of a body lie 8 (neck) to 18 mm (lumbar) of bone, then a canal of 12 mm or more. In all real scans
# with a spine, most of the curve has 36 mm or more; in coronal planes that lack the spine, 13 to 15 mm.
CANAL_BEHIND_MM, MOST_CUT_OFF = 16.0, 0.5
# A curve through a reader's clicks.
FEWEST_POINTS = 3
DISTINCT_MM = 2.0  # closer points count as one
SHORTEST_DRAWN_MM = 20.0
LEAST_RISE = 0.2  # along S: no spine leans by more than 78 degrees
DRAWN_SMOOTHING_MM = 6.0  # rounds the corners at the clicks, and moves the curve from them by less than 1 mm
# A curve that is accurate to a few mm, and the upper and lower end `(2, 3)` RAS mm of the part that surely is spine.
CoarseCurve = tuple[SpineCurve, np.ndarray]


def coarse_curves(ct: CTVolume, models: Models) -> list[CoarseCurve]:
    """Return coarse curves through everything that may be spine.

    If there may be several structures, there is one curve through each, the longest first, then one through all.
    VFQError `no_spine_found`.
    """
    from ..networks.localizer import SLICE_THRESHOLD, SPACING_MM, coarsen, localize

    points, probability = localize(models.localizer, coarsen(ct))
    candidates = spine_candidates(probability > SLICE_THRESHOLD, round(WIDEST_GAP_MM / SPACING_MM))
    covered = max((float(np.ptp(points[first:last, 2])) for first, last in candidates), default=0.0)
    if covered < SHORTEST_SPINE_MM:
        raise VFQError(
            "no_spine_found",
            f"No spine found: only {covered:.0f} mm of the scan look like spine, but at least "
            f"{SHORTEST_SPINE_MM:.0f} mm are needed. Give a CT of the neck or trunk that contains the vertebral "
            "column.",
        )
    curves = []
    for first, last in candidates:
        line = points[slice(*followed(probability, first, last))]
        if np.ptp(line[:, 2]) >= SHORTEST_PART_MM:
            curves.append((fit_curve(line, COARSE_SMOOTHING_MM), points[[last - 1, first]]))
    return curves


@dataclass(frozen=True, eq=False)
class Spine:
    """A curve along the spine, and the refiner's output.

    Attributes
    ----------
    curve : reaches some cm beyond the ends of what may be spine.
    limits_mm : arc lengths on it between which spine was seen.
    coarse : the straightening along the coarse curve and beyond its ends, in which the refiner looked.
    refined : what the refiner saw there.
    """

    curve: SpineCurve
    limits_mm: tuple[float, float]
    coarse: Straightening
    refined: Refined


def refined_spine(ct: CTVolume, coarse: SpineCurve, ends: np.ndarray, models: Models) -> Spine:
    """Return the curve through the middles of the vertebral bodies, found along the coarse curve.

    ends : `(2, 3)` RAS mm, the upper and lower end of the part that surely is spine.
    """
    from ..networks.refiner import refine

    straightening = Straightening(extended(coarse, LOOK_BEYOND_MM))
    refined = refine(models.refiner, ct, straightening)
    arcs = -refined.middles[:, 2]
    between = refined.middles[(arcs >= LOOK_BEYOND_MM) & (arcs <= LOOK_BEYOND_MM + coarse.length)]
    middle = fit_curve(straightening.to_patient(between), CURVE_SMOOTHING_MM)
    curve = extended(middle, EXTENSION_MM, EXTENSION_BELOW_MM)
    upper, lower = (int(np.linalg.norm(curve.points - end, axis=1).argmin()) * curve.step for end in ends)
    return Spine(curve, (upper, lower), straightening, refined)


def longer_curve(ct: CTVolume, curve: SpineCurve, vertebrae: tuple[Vertebra, ...]) -> CoarseCurve | None:
    """Lengthen the curve at each end that a vertebra reaches although the scan continues; None if there is no such end.

    The result includes the upper and lower end `(2, 3)` RAS mm of the vertebrae.
    """
    if not vertebrae:
        return None
    ends = np.stack([vertebrae[0].keypoints[:, 0].mean(0), vertebrae[-1].keypoints[:, 1].mean(0)])
    tall = np.array([np.mean(vertebrae[i].measurement.heights_mm) for i in (0, -1)])
    upper, lower = -Straightening(curve).to_straight(ends)[:, 2]
    goes_on = inside(ct, curve.at(np.array([-EXTENSION_MM, curve.length + EXTENSION_MM]))[0])
    lost = goes_on & (np.array([upper, curve.length - lower]) < LEAST_ROOM * tall)
    own = (-EXTENSION_MM, -EXTENSION_BELOW_MM)  # without the extension, which `refined_spine` adds again
    return (extended(curve, *np.where(lost, LENGTHENED_MM, own)), ends) if lost.any() else None


def check_canal_in_view(ct: CTVolume, spine: Spine) -> None:
    """Raise VFQError `spine_cut_off` if the scan ends right behind most of the curve between its limits.

    Then no spinal canal is in view, and what was found is probably no spine: airways and the heart look similar.
    """
    arc = np.arange(spine.limits_mm[0], spine.limits_mm[1] + 1e-6, 2.0)
    behind = np.stack([0 * arc, np.full_like(arc, -CANAL_BEHIND_MM), -arc], -1)
    outside = ~inside(ct, Straightening(spine.curve).to_patient(behind))
    if outside.mean() > MOST_CUT_OFF:
        raise VFQError(
            "spine_cut_off",
            f"The scan ends less than {CANAL_BEHIND_MM:.0f} mm behind {100 * outside.mean():.0f} % of what may be the "
            "spine, so the spinal canal is not in view. Give a scan or a reformat that contains the whole spine.",
        )


def drawn_curve(points: np.ndarray) -> SpineCurve:
    """Return the curve through a reader's points `(n, 3)` RAS mm. VFQError `too_few_points`, `not_along_spine`."""
    points = np.asarray(points, float).reshape(-1, 3)
    distinct = _distinct(points[np.argsort(-points[:, 2])])
    covered = float(np.ptp(distinct[:, 2])) if len(distinct) else 0.0
    if len(distinct) < FEWEST_POINTS or covered < SHORTEST_DRAWN_MM:
        raise VFQError(
            "too_few_points",
            f"{len(distinct)} different points over {covered:.0f} mm are too few for a curve. Click the middles of "
            f"{FEWEST_POINTS} or more vertebral bodies, {SHORTEST_DRAWN_MM:.0f} mm or more from top to bottom.",
        )
    curve = fit_curve(distinct, DRAWN_SMOOTHING_MM)
    if np.abs(curve.tangents[:, 2]).min() < LEAST_RISE:
        raise VFQError(
            "not_along_spine",
            "The points lie beside one another, so the curve through them leaves the spine. Click the middles of "
            "vertebral bodies, one below the other.",
        )
    return curve


def _distinct(points: np.ndarray) -> np.ndarray:
    """Drop each of the points `(n, 3)` that lies within `DISTINCT_MM` of the last one kept: clicks can be repeated."""
    kept: list[np.ndarray] = []
    for point in points:
        if not kept or np.linalg.norm(point - kept[-1]) > DISTINCT_MM:
            kept.append(point)
    return np.reshape(kept, (-1, 3))


def drawn_spine(ct: CTVolume, curve: SpineCurve, models: Models) -> Spine:
    """Return a reader's curve with what the refiner sees along it, which identifies the levels.

    It reaches straight `BEYOND_CLICKS_MM` beyond the outermost clicks, so that the next vertebrae are seen whole.
    """
    from ..networks.refiner import refine

    reaching = extended(curve, BEYOND_CLICKS_MM)
    straightening = Straightening(reaching)
    refined = refine(models.refiner, ct, straightening)
    return Spine(reaching, (BEYOND_CLICKS_MM, BEYOND_CLICKS_MM + curve.length), straightening, refined)


def followed(probability: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """Widen a range of slices at both ends as long as the next slice may contain spine.

    probability : `(s,)` that a slice holds spine, caudal first; `first` and one past the `last` slice of the range.

    The localizer is least certain at the ends of the spine, where L5 and the sacrum look alike; the detector can tell
    them apart.
    """
    while first > 0 and probability[first - 1] > FOLLOW_THRESHOLD:
        first -= 1
    while last < len(probability) and probability[last] > FOLLOW_THRESHOLD:
        last += 1
    return first, last


def spine_candidates(holds_spine: np.ndarray, widest_gap: int) -> list[tuple[int, int]]:
    """Return the first and one past the last slice of each part that may be the spine, the longest first; then of all.

    holds_spine : `(s,)` flags of the slices.
    A part is a group of flagged slices more than `widest_gap` slices from the next. Parts shorter than a third of the
    longest are left out.
    """
    flagged = np.flatnonzero(holds_spine)
    if len(flagged) == 0:
        return []
    apart = np.flatnonzero(np.diff(flagged) > widest_gap + 1) + 1
    groups = []
    for slices in np.split(flagged, apart):
        alone = np.zeros(len(holds_spine), bool)
        alone[slices] = True
        groups.append(spine_slices(alone))
    groups.sort(key=np.ptp, reverse=True)
    comparable = [group for group in groups if np.ptp(group) >= np.ptp(groups[0]) / 3]
    return list(dict.fromkeys([*comparable, spine_slices(holds_spine)]))


def spine_slices(holds_spine: np.ndarray) -> tuple[int, int]:
    """Return the first and one past the last slice of the spine: the hull of all flagged runs except stray ones.

    holds_spine : `(s,)` flags of the slices.
    A run is stray if it is shorter than a fifth of the longest and farther from it than its own length.
    """
    edges = np.flatnonzero(np.diff(np.r_[0, holds_spine.astype(int), 0]))
    runs = edges.reshape(-1, 2)
    if len(runs) == 0:
        return 0, 0
    longest = runs[np.argmax(np.ptp(runs, axis=1))]
    size = np.ptp(runs, axis=1)
    gap = np.maximum(runs[:, 0] - longest[1], longest[0] - runs[:, 1])
    kept = runs[(size >= np.ptp(longest) / 5) | (gap <= size)]
    return int(kept[:, 0].min()), int(kept[:, 1].max())


def extended(curve: SpineCurve, by_mm: float, below_mm: float | None = None) -> SpineCurve:
    """Extend the curve straight by `by_mm` at both ends, or by `below_mm` at the lower one; negative values cut it."""
    above, below = (round(mm / curve.step) for mm in (by_mm, by_mm if below_mm is None else below_mm))
    arcs = np.arange(-above, len(curve.points) + below) * curve.step
    return SpineCurve(curve.at(arcs)[0], curve.step)
