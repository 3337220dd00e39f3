"""The whole analysis: from a CT to a measured spine, in patient RAS mm. Each arrow is one function.

CT -> coarse curve -> curve and level looks -> straightened sagittal slab -> vertebrae (six key points) -> heights, G,
grade, shape, level.
The networks are functions from arrays to arrays (`networks.predictor`); the result is plain data (`spine.record`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume, without_padding
from ..spine.curve import SpineCurve
from ..spine.keypoints import centers
from ..spine.quality import Flag, sorted_flags
from ..spine.record import SpineAnalysis, Vertebra
from .contradiction import Contradiction, contradiction
from .curve_finding import (
    EXTENSION_BELOW_MM,
    EXTENSION_MM,
    CoarseCurve,
    Spine,
    check_canal_in_view,
    coarse_curves,
    drawn_curve,
    drawn_spine,
    extended,
    longer_curve,
    refined_spine,
)
from .curve_repair import PresentCurve, repaired_spine
from .detection import PIXEL_MM, measured_found, measured_vertebrae, straightened_slab, whole_along
from .midline import on_midline, stretch_off_midline
from .models import Models
from .naming import FEWEST_VERTEBRAE, measurable, with_levels
from .quality import check_slices, judged, off_midline
from .saturation import check_range
from .slice_distance import distance_error, distance_flag, wrong_distance

# Failures of a scan that may show a spine the other way round.
NOTHING_FOUND = ("no_spine_found", "no_vertebra_found", "too_few_vertebrae", "spine_cut_off")
COLUMN_STEP_MM = 80.0  # vertebrae at most this far apart form a column, even if one between them is missing

Progress = Callable[[str, float], None]


def analyze(
    ct: CTVolume, models: Models, progress: Progress | None = None, trust_header: bool = False
) -> SpineAnalysis:
    """Localise, straighten, detect and measure every vertebra of `ct`.

    `progress` is called with the name of each step and the share of the work that is done. With `trust_header` the
    body is not held against the header's axes and spacing: doubts become flags, and the record says so.
    VFQError `no_spine_found`, `no_vertebra_found`, `too_few_vertebrae` or `spine_cut_off` if there is nothing to
    measure; `implausible_size` if most of what was found cannot be vertebrae; `orientation_contradicts_anatomy` if
    they lie otherwise than the header says; `slices_too_thick`; `not_ct` if intensities are cut off.
    """
    timing: dict[str, float] = {}
    whole, ct = ct, without_padding(ct)
    check_slices(ct)
    check_range(ct)
    again = partial(_found_again, models=models)
    with _timed("total", timing):
        try:
            spine, vertebrae, offsets = _found(ct, models, timing, progress)
        except VFQError as error:
            doubted = error.code in NOTHING_FOUND and not trust_header
            against = contradiction(ct, (), again) if doubted else None
            raise against.error() if against else error from None
        with _timed("check", timing):
            against = contradiction(ct, vertebrae, again)
            claim = wrong_distance(ct, vertebrae, again)
            if not trust_header:
                _refuse_contradictions(against, claim)
            vertebrae, flags = judged(ct, spine, vertebrae, offsets, models, refuse=not trust_header)
            flags = _with_doubt(flags, against, claim)
    _report(progress, "measure", 1.0)
    return replace(_record(whole, spine, vertebrae, flags, models, timing), trust_header=trust_header)


def analyze_along(
    ct: CTVolume,
    models: Models,
    points: np.ndarray,
    progress: Progress | None = None,
    present: PresentCurve | None = None,
) -> SpineAnalysis:
    """Straighten along a reader's three or more points `(n, 3)` RAS mm on the spine, in any order; detect and measure.

    The curve follows the points. With a `present` curve one point is enough: it is led through the points, and stays
    elsewhere (`curve_repair`). Finding no vertebra, or a single one, is no error here: the reader adds the others.
    VFQError `too_few_points`, `not_along_spine`.
    """
    timing: dict[str, float] = {}
    whole, ct = ct, without_padding(ct)
    with _timed("total", timing):
        _report(progress, "refine", 0.0)
        with _timed("refine", timing):
            if present:
                spine = repaired_spine(ct, present, points, models)
            else:
                spine = drawn_spine(ct, drawn_curve(points), models)
        vertebrae = _along(ct, spine, models, timing, progress, only_whole=True)
        with _timed("check", timing):
            offsets = off_midline(ct, spine.curve, vertebrae)
            vertebrae, flags = judged(ct, spine, vertebrae, offsets, models, np.asarray(points, float))
            flags = _with_doubt(flags, contradiction(ct, vertebrae, lambda _: ()))
    _report(progress, "measure", 1.0)
    return _record(whole, spine, vertebrae, flags, models, timing)


def _found(
    ct: CTVolume, models: Models, timing: dict[str, float], progress: Progress | None
) -> tuple[Spine, tuple[Vertebra, ...], np.ndarray]:
    """Find the spine and its vertebrae; the third result is as in `_on_bone`. VFQError if there are too few."""
    _report(progress, "localize", 0.0)
    with _timed("localize", timing):
        first, *others = coarse_curves(ct, models)
    _report(progress, "refine", 0.5)
    spine, vertebrae = _lengthened(ct, *_refined_along(ct, first, models, timing, progress), models, timing)
    _report(progress, "detect", 0.9)
    for coarse in others:
        further, found = _lengthened(ct, *_refined_along(ct, coarse, models, timing, None), models, timing)
        if in_columns(found) > in_columns(vertebrae):
            spine, vertebrae = further, found
    spine, vertebrae, offsets = _on_bone(ct, spine, vertebrae, models, timing)
    _check_enough(vertebrae, spine.curve)
    check_canal_in_view(ct, spine)
    return spine, vertebrae, offsets


def _found_again(ct: CTVolume, models: Models) -> tuple[Vertebra, ...]:
    """Return the vertebrae of another CT; none if the analysis fails."""
    try:
        return _found(ct, models, {}, None)[1]
    except VFQError:
        return ()


def _refuse_contradictions(against: Contradiction | None, claim: str) -> None:
    """Raise the refusal of a contradiction that is certain; a wrong slice distance can make bones look turned."""
    if claim:
        raise distance_error(claim)
    if against and against.certain:
        raise against.error()


def _with_doubt(flags: tuple[Flag, ...], against: Contradiction | None, claim: str = "") -> tuple[Flag, ...]:
    more = [*([against.flag()] if against else []), *([distance_flag(claim)] if claim else [])]
    return sorted_flags([*flags, *more]) if more else flags


def in_columns(vertebrae: tuple[Vertebra, ...]) -> int:
    """Count the vertebrae that have another one near: a single one may be a hip, which looks similar."""
    middles = centers(np.reshape([v.keypoints for v in vertebrae], (-1, 3, 2, 3)))
    near = np.linalg.norm(np.diff(middles, axis=0), axis=1) < COLUMN_STEP_MM
    return int((np.r_[False, near] | np.r_[near, False])[: len(vertebrae)].sum())


def _refined_along(
    ct: CTVolume, coarse: CoarseCurve, models: Models, timing: dict[str, float], progress: Progress | None
) -> tuple[Spine, tuple[Vertebra, ...]]:
    """Refine a coarse curve, then detect, measure and name vertebrae along it."""
    with _timed("refine", timing):
        spine = refined_spine(ct, *coarse, models)
    return spine, _along(ct, spine, models, timing, progress)


def _lengthened(
    ct: CTVolume, spine: Spine, vertebrae: tuple[Vertebra, ...], models: Models, timing: dict[str, float]
) -> tuple[Spine, tuple[Vertebra, ...]]:
    """Lengthen the curve as long as this finds more vertebrae; return it and all vertebrae."""
    while longer := longer_curve(ct, spine.curve, vertebrae):
        further, found = _refined_along(ct, longer, models, timing, None)
        if len(found) <= len(vertebrae):
            break
        spine, vertebrae = further, found
    return spine, vertebrae


def _on_bone(
    ct: CTVolume, spine: Spine, vertebrae: tuple[Vertebra, ...], models: Models, timing: dict[str, float]
) -> tuple[Spine, tuple[Vertebra, ...], np.ndarray]:
    """Bring back a curve that lies beside the midline of the arches, and detect again; else return what is given.

    The refiner looks again along the midline. If it leads away once more, the curve stays on the midline. The third
    result are the vertebrae's offsets from the midline that remain, `(n,)` mm.
    """
    with _timed("check", timing):
        offsets = off_midline(ct, spine.curve, vertebrae)
    if not stretch_off_midline(offsets).any():
        return spine, vertebrae, offsets
    middles = np.stack([v.keypoints.mean((0, 1)) for v in vertebrae])
    curve = on_midline(spine.curve, middles, offsets)
    ends = curve.at(np.array(spine.limits_mm))[0]
    coarse = extended(curve, -EXTENSION_MM, -EXTENSION_BELOW_MM)
    tried = [_lengthened(ct, *_refined_along(ct, (coarse, ends), models, timing, None), models, timing)]
    if stretch_off_midline(off_midline(ct, tried[0][0].curve, tried[0][1])).any():
        drawn = drawn_spine(ct, coarse, models)
        tried.append((drawn, _along(ct, drawn, models, timing, None)))
    judged_ones = [(*each, off_midline(ct, each[0].curve, each[1])) for each in tried]
    return min([*judged_ones, (spine, vertebrae, offsets)], key=lambda each: _lost_share(each[2]))


def _lost_share(offsets: np.ndarray) -> float:
    """Return the share of vertebrae off the midline; 1 if there are none."""
    return float(stretch_off_midline(offsets).mean()) if len(offsets) else 1.0


def _along(
    ct: CTVolume,
    spine: Spine,
    models: Models,
    timing: dict[str, float],
    progress: Progress | None,
    only_whole: bool = False,
) -> tuple[Vertebra, ...]:
    """Straighten along a known curve, then detect, measure and name vertebrae.

    only_whole : leave out those that the ends of the curve cut; no search lengthens a reader's curve.
    """
    if models.finder:
        return _along_otherwise(ct, spine, models, timing, progress, only_whole)
    from ..networks.detector import detect

    _report(progress, "straighten", 0.7)
    with _timed("straighten", timing):
        slab = straightened_slab(ct, spine.curve)
    _report(progress, "detect", 0.8)
    with _timed("detect", timing):
        detections = detect(models.detector, slab, spacing_mm=PIXEL_MM)
        if only_whole:
            detections = whole_along(spine.curve, detections)
    with _timed("measure", timing):
        return measurable(with_levels(ct, measured_vertebrae(ct, spine.curve, detections), spine))


def _along_otherwise(
    ct: CTVolume,
    spine: Spine,
    models: Models,
    timing: dict[str, float],
    progress: Progress | None,
    only_whole: bool,
) -> tuple[Vertebra, ...]:
    """Find vertebrae along a known curve by another method, then measure and name them as ours."""
    assert models.finder
    _report(progress, "detect", 0.8)
    with _timed("detect", timing):
        found = models.finder(ct, spine.curve)
    with _timed("measure", timing):
        return measurable(with_levels(ct, measured_found(ct, spine.curve, found, only_whole), spine))


def _record(
    ct: CTVolume,
    spine: Spine,
    vertebrae: tuple[Vertebra, ...],
    flags: tuple[Flag, ...],
    models: Models,
    timing: dict[str, float],
) -> SpineAnalysis:
    return SpineAnalysis(
        case=ct.name,
        shape=tuple(int(n) for n in ct.voxels.shape),
        spacing_mm=tuple(float(s) for s in ct.spacing_mm),
        ijk_to_ras=ct.ijk_to_ras,
        series=ct.series,
        models=models.stamps,
        curve=spine.curve.points,
        limits_mm=spine.limits_mm,
        vertebrae=vertebrae,
        timing_s=timing,
        quality=flags,
    )


def _check_enough(vertebrae: tuple[Vertebra, ...], curve: SpineCurve) -> None:
    if not vertebrae:
        raise VFQError(
            "no_vertebra_found",
            f"No complete vertebra found along {curve.length:.0f} mm of spine. Give a CT with whole vertebral bodies "
            "in its field of view.",
        )
    if len(vertebrae) < FEWEST_VERTEBRAE:
        raise VFQError(
            "too_few_vertebrae",
            f"Only one complete vertebra lies in the field of view, but at least {FEWEST_VERTEBRAE} are needed, to "
            "compare each with its neighbours. Give a longer scan.",
        )


@contextmanager
def _timed(name: str, timing: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timing[name] = timing.get(name, 0.0) + time.perf_counter() - start


def _report(progress: Progress | None, step: str, share: float) -> None:
    if progress:
        progress(step, share)
