"""Repairing the spine's curve with a reader's clicks: it passes the clicks, and stays where there are none.

One click for each part that is wrong is enough. Curves and clicks are patient RAS mm; arc lengths are in mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..spine.curve import SpineCurve, cubic, fit_curve, smoothed
from ..spine.straightening import Straightening
from .curve_finding import BEYOND_CLICKS_MM, DISTINCT_MM, LEAST_RISE, LOOK_BEYOND_MM, Spine, extended
from .models import Models

# A click replaces the present curve this far to both sides, or this many times the distance between click and curve if
# that is more: the farther away the curve lies, the longer is the stretch in which it is wrong. It does not reach
# beyond another click.
REPLACED_MM, REPLACED_TIMES = 40.0, 5.0
SHORTEST_MM = 20.0  # a shorter stretch between the reaches of two clicks does not stay: the curve would bend sharply
SMOOTHING_MM = 10.0  # of the repaired stretch, but the curve passes the clicks as near as `PASSED_MM`
PASSED_MM = 0.8
MOST_ROUNDS = 40  # of smoothing; more would follow clicks that contradict each other within a few mm
FADING_MM = 20.0  # the smoothing ends over this distance


@dataclass(frozen=True, eq=False)
class PresentCurve:
    """The curve that a reader repairs, and the arc lengths on it between which the spine was seen."""

    curve: SpineCurve
    limits_mm: tuple[float, float]


def repaired_curve(present: SpineCurve, clicks: np.ndarray) -> SpineCurve:
    """Return `present` led through clicks `(n, 3)` RAS mm, one or more.

    The curve passes the clicks within 1 mm; where clicks closer than 1 cm contradict each other, it passes between
    them. Farther from them than `REPLACED_MM`, or `REPLACED_TIMES` the distance between click and curve, it stays as it
    is; in between it returns to its old course. A click beyond an end lengthens it. Of clicks on one slice the last one
    counts. VFQError `too_few_points`, `not_along_spine`.
    """
    clicks = np.asarray(clicks, float).reshape(-1, 3)
    if not len(clicks):
        raise VFQError(
            "too_few_points", "No point was clicked. Click the middle of a vertebral body where the curve is wrong."
        )
    arcs, clicks = _one_a_slice(_arcs_at_heights(present, clicks[:, 2]), clicks)
    shifts = clicks - present.at(arcs)[0]
    reach = np.maximum(REPLACED_MM, REPLACED_TIMES * np.linalg.norm(shifts, axis=1))
    along = np.arange(min(0.0, arcs[0]), max(present.length, arcs[-1]) + present.step / 2, present.step)
    course = cubic(*_knots(present, arcs, shifts, reach), along)
    rounded = _rounded(course, np.searchsorted(along, arcs - present.step / 2), present.step)
    share = np.clip(1 - _beyond(along, arcs, reach) / FADING_MM, 0, 1)[:, None]  # what stays is smooth already
    curve = fit_curve(course + share * (rounded - course), step=present.step)
    _check_rises(curve)
    return curve


def repaired_spine(ct: CTVolume, present: PresentCurve, clicks: np.ndarray, models: Models) -> Spine:
    """Return the repaired curve (`repaired_curve`), with what the refiner sees along it, which identifies the levels.

    The curve reaches at least `BEYOND_CLICKS_MM` beyond the outermost clicks.
    """
    from ..networks.refiner import refine

    clicks = np.asarray(clicks, float).reshape(-1, 3)
    repaired = repaired_curve(present.curve, clicks)
    reached = [nearest_arc(repaired, click) for click in clicks]
    lacking = BEYOND_CLICKS_MM - np.array([min(reached), repaired.length - max(reached)])
    curve = extended(repaired, *np.maximum(lacking, 0.0))
    seen = [*clicks, *present.curve.at(np.array(present.limits_mm))[0]]
    places = [nearest_arc(curve, point) for point in seen]
    straightening = Straightening(extended(curve, LOOK_BEYOND_MM))
    return Spine(curve, (min(places), max(places)), straightening, refine(models.refiner, ct, straightening))


def nearest_arc(curve: SpineCurve, point: np.ndarray) -> float:
    """Return the arc length of the curve's sample that is nearest to a point `(3,)` RAS mm."""
    return float(np.linalg.norm(curve.points - point, axis=1).argmin() * curve.step)


def _arcs_at_heights(curve: SpineCurve, heights: np.ndarray) -> np.ndarray:
    """Return the arc lengths `(n,)` of the samples at these S `(n,)` mm; beyond its ends the curve goes on straight."""
    beyond = int(np.ptp(np.r_[heights, curve.points[:, 2]]) / (LEAST_RISE * curve.step)) + 1
    arcs = np.arange(-beyond, len(curve.points) + beyond) * curve.step
    lowest_so_far = np.minimum.accumulate(curve.at(arcs)[0][:, 2])  # a curve in the wrong place may rise again
    found: np.ndarray = arcs[[int(np.abs(lowest_so_far - height).argmin()) for height in heights]]
    return found


def _one_a_slice(arcs: np.ndarray, clicks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return arc lengths and clicks, cranial first, without those that a later click on their slice replaces."""
    kept: list[int] = []
    for i, arc in enumerate(arcs):
        kept = [j for j in kept if abs(arcs[j] - arc) > DISTINCT_MM] + [i]
    order = sorted(kept, key=lambda i: arcs[i])
    return arcs[order], clicks[order]


def _beyond(places: np.ndarray, arcs: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return how far places `(n,)` lie beyond the reach of their neighbouring clicks at `arcs`, mm; negative within."""
    after = np.searchsorted(arcs, places)
    arcs, reach = np.r_[-np.inf, arcs, np.inf], np.r_[0.0, reach, 0.0]
    return np.minimum(places - arcs[after] - reach[after], arcs[after + 1] - places - reach[after + 1])


def _knots(
    present: SpineCurve, arcs: np.ndarray, shifts: np.ndarray, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return arc lengths `(m,)`, ascending, and places `(m, 3)` through which the curve is led.

    These are the clicks and what stays of the present curve. If nothing stays beyond the outermost click, the end is
    moved with that click: by less, the farther away it is.
    """
    own = np.arange(len(present.points)) * present.step
    stays = _beyond(own, arcs, reach) > 0
    for i in np.flatnonzero(np.diff(arcs) - reach[:-1] - reach[1:] < SHORTEST_MM):
        stays[(own > arcs[i]) & (own < arcs[i + 1])] = False
    knots, places = [*arcs, *own[stays]], [*(present.at(arcs)[0] + shifts), *present.points[stays]]
    for end, room in ((0, arcs[0]), (-1, own[-1] - arcs[-1])):
        if present.step < room <= reach[end]:
            knots.append(own[end])
            places.append(present.points[end] + (1 - room / reach[end]) * shifts[end])
    order = np.argsort(knots)
    return np.array(knots)[order], np.array(places)[order]


def _rounded(course: np.ndarray, at: np.ndarray, step: float) -> np.ndarray:
    """Smooth a course `(n, 3)`, but no more than that it still passes its own samples `at`."""
    sigma = SMOOTHING_MM / step
    rounded = smoothed(course, sigma)
    for _ in range(MOST_ROUNDS):
        if np.linalg.norm((rounded - course)[at], axis=1).max() < PASSED_MM:
            break
        rounded = rounded + smoothed(course - rounded, sigma)
    return rounded


def _check_rises(curve: SpineCurve) -> None:
    if np.abs(curve.tangents[:, 2]).min() < LEAST_RISE or (curve.tangents[:, 2] > 0).any():
        raise VFQError(
            "not_along_spine",
            "The points lie beside one another or far beside the curve, so the curve through them leaves the spine. "
            "Click the middles of vertebral bodies, one below the other; click more of them where the curve is far "
            "from the spine.",
        )
