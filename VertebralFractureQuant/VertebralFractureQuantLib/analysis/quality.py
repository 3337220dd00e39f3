"""Quality flags of an analysis: is the curve on the bone, are sizes human, is the scan good enough there?

Nothing is measured here; each check compares what was found with a fixed limit and says what to do. The limits were
set on real CT, on curves that were pushed aside and on scans that were spoiled (`Testing/validation/suspicion.py`).
Coordinates are RAS mm.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume, inside
from ..spine.curve import SpineCurve
from ..spine.keypoints import faults
from ..spine.plausibility import (
    OUTSIDE_MM,
    column_flags,
    implausible,
    impossible,
    own_fault,
    scale_flag,
)
from ..spine.quality import CODES, Flag, of_study, sorted_flags
from ..spine.record import Vertebra, remeasured, vertebra_name
from ..spine.straightening import Straightening
from .curve_check import off_bone
from .curve_finding import Spine
from .midline import midline_offsets, stretch_off_midline
from .models import Models
from .saturation import clipped_intensities

# The refiner finds the bodies of good scans at most 2.8 mm from the curve; of a curve that was pushed aside, farther.
OFF_BONE_MM = 3.5
# Coarse and refined curves of good scans differ by at most 3.3 mm beside a vertebra, where the refined one left by 7.9.
CURVES_APART_MM = 6.0
CLICKED_MM = 25.0  # about a vertebra: nearer to a reader's click the curve is not doubted
# In good scans the score is 0.96 or more and the standard deviation of G at most 0.10.
LEAST_SCORE, MOST_SPREAD = 0.90, 0.11
# Points whose standard deviation of G exceeds this are hardly those of a vertebra.
HOPELESS_SPREAD = 0.16
LONG_AXIS, FRONT_AXIS = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
TOO_THICK_MM = 7.5
THICK_MM = 4.0  # errors of G grow from 0.04 to 0.05 there: see the validation page
# Bone, contrast and calcified vessels stay below 1800 HU beside the spine; cement and metal do not.
METAL_HU, METAL_SAMPLES = 2000.0, 2
METAL_STEP_MM, METAL_SIDE_MM, METAL_FRONT_MM, METAL_BACK_MM = 4.0, 24.0, 4.0, 35.0
# A body is cut where there is no scan this far to either side of its middle; the narrowest are 17 mm wide.
SIDE_MM, PADDING_HU = 8.0, -950.0
MOST_IMPLAUSIBLE = 0.5  # with more, the study is refused
# A scan of which the scale is in doubt is refused if most of its vertebrae have one of these doubts.
DOUBTED_WITH_SCALE = ("impossible_points", "implausible_size", "column_gap", "low_score", "curve_off_bone")


def off_midline(ct: CTVolume, curve: SpineCurve, vertebrae: tuple[Vertebra, ...]) -> np.ndarray:
    """Return how far right of the curve the midline of the arches lies at each vertebra, `(n,)` mm; nan if unclear."""
    middles = np.reshape([v.keypoints.mean((0, 1)) for v in vertebrae], (-1, 3))
    return midline_offsets(ct, curve, middles, np.array([np.mean(v.measurement.heights_mm) for v in vertebrae]))


def judged(
    ct: CTVolume,
    spine: Spine,
    vertebrae: tuple[Vertebra, ...],
    offsets: np.ndarray,
    models: Models,
    clicks: np.ndarray | None = None,
    refuse: bool = True,
) -> tuple[tuple[Vertebra, ...], tuple[Flag, ...]]:
    """Return the vertebrae with their flags, and the flags of the study.

    offsets : `off_midline` of the same curve and vertebrae.
    clicks : the points `(n, 3)` through which a reader led the curve: it is not doubted there, and the study is not
        refused.
    refuse : False if the user vouches for the header: then sizes are flagged only.
    VFQError `implausible_size` if most of the vertebrae have sizes that no human has.
    """
    if not vertebrae:
        return vertebrae, ()
    points, levels = np.stack([v.keypoints for v in vertebrae]), [v.level for v in vertebrae]
    if clicks is None and refuse:
        _check_plausible(points, vertebrae)
    found: list[list[Flag]] = [
        list(flags) for flags in column_flags(points, levels, _impossible(ct, spine, points, levels))
    ]
    raised = {
        "curve_off_bone": _off_bone(ct, spine, vertebrae, offsets, models) & ~_is_clicked(points, clicks),
        "cut_by_border": _is_cut(ct, spine, points),
        "metal": _has_metal(ct, spine, points),
        "low_score": np.array([is_uncertain(v) for v in vertebrae]),
    }
    for code, concerned in raised.items():
        for i in np.flatnonzero(concerned):
            found[i].append(_flag(code))
    ordered = [sorted_flags(flags) for flags in found]
    names = [vertebra_name(v, i) for i, v in enumerate(vertebrae)]
    likely = [v.level_probabilities for v in vertebrae]
    scale, lost = scale_flag(points, levels, likely), lost_spacing(ct)
    if clicks is None and refuse and (scale or lost):
        _check_scale(vertebrae, ordered)
    whole = [flag for flag in (scale, lost, clipped_intensities(ct), thick_slices(ct, points)) if flag]
    told = tuple(replace(v, quality=flags) for v, flags in zip(vertebrae, ordered, strict=True))
    return (remeasured(told) if any(v.impossible for v in told) else told), of_study(names, ordered, whole)


def is_uncertain(vertebra: Vertebra) -> bool:
    """True if the network is less certain of the vertebra or of its key points than usual."""
    return vertebra.score < LEAST_SCORE or (vertebra.spread or 0.0) > MOST_SPREAD


def check_slices(ct: CTVolume) -> None:
    """Raise VFQError `slices_too_thick` if planes are more than `TOO_THICK_MM` apart along the body or front to back.

    Sagittal slices may be thicker: the key points of a body lie in a sagittal plane.
    """
    for along, direction, lost in (
        (LONG_AXIS, "along the body", "a vertebral body would be two or three slices high"),
        (
            FRONT_AXIS,
            "from front to back",
            "front, middle and back of a vertebral body would lie in two or three slices",
        ),
    ):
        apart = slice_distance(ct, along)
        if apart > TOO_THICK_MM:
            raise VFQError(
                "slices_too_thick",
                f"The slices are {apart:.1f} mm apart {direction}, but heights are measured up to {TOO_THICK_MM:g} mm "
                f"only: {lost}. Use a reconstruction with slices of 3 mm or less.",
            )


def slice_distance(ct: CTVolume, along: np.ndarray) -> float:
    """Return how far apart planes lie along the unit vector `along` `(3,)` RAS, mm; the widest gap counts."""
    apart = float(np.linalg.norm(ct.ijk_to_ras[:3, :3].T @ along))
    normal = np.cross(ct.ijk_to_ras[:3, 0], ct.ijk_to_ras[:3, 1])
    return max(apart, ct.widest_gap_mm * float(abs(normal @ along) / np.linalg.norm(normal)))


def lost_spacing(ct: CTVolume) -> Flag | None:
    """Return the flag of a scan with the header of no header: voxels of 1 mm, straight axes, origin 0; else None."""
    axes, origin = np.abs(ct.ijk_to_ras[:3, :3]), ct.ijk_to_ras[:3, 3]
    unset = np.isin(axes, (0.0, 1.0)).all() and not origin.any()
    return _flag("spacing_doubtful") if unset else None


def thick_slices(ct: CTVolume, points: np.ndarray) -> Flag | None:
    """Return the flag of a scan whose slices are `THICK_MM` or more apart; else None.

    The distance counts along the spine of `points` `(n, 3, 2, 3)`, and from front to back.
    """
    middles = points.mean((1, 2))
    along = middles[-1] - middles[0] if len(middles) > 1 else LONG_AXIS
    apart = slice_distance(ct, along / max(float(np.linalg.norm(along)), 1e-6))
    apart = max(apart, slice_distance(ct, FRONT_AXIS))
    if apart < THICK_MM:
        return None
    doubt = CODES["thick_slices"]
    return Flag("thick_slices", f"The slices are {apart:.1f} mm apart, so heights are less exact. {doubt.remedy}")


def _check_plausible(points: np.ndarray, vertebrae: tuple[Vertebra, ...]) -> None:
    sizes = implausible(points, [None] * len(points))  # a wrong name is no reason to refuse
    hopeless = np.array([(v.spread or 0.0) > HOPELESS_SPREAD for v in vertebrae])
    if not sizes.any() or (sizes | hopeless).mean() <= MOST_IMPLAUSIBLE:
        return
    raise _implausible(int((sizes | hopeless).sum()), vertebrae)


def _check_scale(vertebrae: tuple[Vertebra, ...], flags: list[tuple[Flag, ...]]) -> None:
    """Raise VFQError `implausible_size` if, in a scan whose scale is in doubt, most of the vertebrae are as well."""
    doubted = sum(any(flag.code in DOUBTED_WITH_SCALE for flag in of_one) for of_one in flags)
    if doubted > MOST_IMPLAUSIBLE * len(vertebrae):
        raise _implausible(doubted, vertebrae)


def _implausible(count: int, vertebrae: tuple[Vertebra, ...]) -> VFQError:
    tall = [max(v.measurement.heights_mm) for v in vertebrae]
    return VFQError(
        "implausible_size",
        f"{count} of {len(vertebrae)} structures that look like vertebrae are none, or have sizes that no human spine "
        f"has (heights of {min(tall):.0f} to {max(tall):.0f} mm). Check the voxel spacing in the header, and that the "
        "scan contains whole vertebral bodies from front to back. If they are right, analyse it with --trust-header.",
    )


def _off_bone(
    ct: CTVolume, spine: Spine, vertebrae: tuple[Vertebra, ...], offsets: np.ndarray, models: Models
) -> np.ndarray:
    """True where the refiner or the arches see the bodies elsewhere, or the two curves disagree: `(n,)`."""
    middles = np.stack([v.keypoints.mean((0, 1)) for v in vertebrae])
    apart = np.abs(spine.coarse.to_straight(middles)[:, 0])
    elsewhere = off_bone(ct, spine.curve, vertebrae, models) > OFF_BONE_MM
    found: np.ndarray = elsewhere | stretch_off_midline(offsets) | (apart > CURVES_APART_MM)
    return found


def _is_clicked(points: np.ndarray, clicks: np.ndarray | None) -> np.ndarray:
    """True where a click of the reader lies near the vertebra's middle: `(n,)`."""
    if clicks is None:
        return np.zeros(len(points), bool)
    apart = points.mean((1, 2))[:, None] - np.reshape(clicks, (-1, 3))
    near: np.ndarray = np.linalg.norm(apart, axis=-1).min(1) < CLICKED_MM
    return near


def _impossible(ct: CTVolume, spine: Spine, points: np.ndarray, levels: list[str | None]) -> list[str]:
    """Return why each vertebra cannot be a vertebral body, or ""."""
    straight = Straightening(spine.curve).to_straight(points)
    own = [
        own_fault(faults(flat), bool(inside(ct, body, OUTSIDE_MM).all()))
        for flat, body in zip(straight[..., 1:], points, strict=True)
    ]
    return impossible(points, straight, levels, own)


def _is_cut(ct: CTVolume, spine: Spine, points: np.ndarray) -> np.ndarray:
    """True where a key point lies beyond the scan, or a side of the body beyond it or in padding: `(n,)`."""
    middles = Straightening(spine.curve).to_straight(points.mean((1, 2)))
    sides = np.stack([middles + (x, 0.0, 0.0) for x in (-SIDE_MM, SIDE_MM)], 1)
    beside = Straightening(spine.curve).to_patient(sides)
    whole = inside(ct, points).all((1, 2)) & (ct.sample(beside, fill=-3000.0) > PADDING_HU).all(1)
    return np.asarray(~whole)


def _has_metal(ct: CTVolume, spine: Spine, points: np.ndarray) -> np.ndarray:
    """True where metal or cement lies in the body, beside it, or in its arch: `(n,)`."""
    straightening = Straightening(spine.curve)
    beside = np.arange(-METAL_SIDE_MM, METAL_SIDE_MM + 0.1, METAL_STEP_MM)
    grids = []
    for body in straightening.to_straight(points):
        (_, back, low), (_, front, high) = body.min((0, 1)), body.max((0, 1))
        along = np.arange(back - METAL_BACK_MM, front + METAL_FRONT_MM, METAL_STEP_MM)
        grid = np.meshgrid(beside, along, np.arange(low, high, METAL_STEP_MM), indexing="ij")
        grids.append(np.stack(grid, -1).reshape(-1, 3))
    bright = _nearest(ct, straightening.to_patient(np.concatenate(grids))) > METAL_HU
    counts = np.add.reduceat(bright.astype(int), np.r_[0, np.cumsum([len(g) for g in grids])[:-1]])
    found: np.ndarray = counts >= METAL_SAMPLES
    return found


def _nearest(ct: CTVolume, points: np.ndarray) -> np.ndarray:
    """Return the HU `(m,)` of the voxels nearest to RAS mm points `(m, 3)`; outside, those of the border."""
    ijk = np.rint(points @ ct.ras_to_ijk[:3, :3].T + ct.ras_to_ijk[:3, 3]).astype(int)
    i, j, k = np.clip(ijk, 0, np.array(ct.voxels.shape[::-1]) - 1).T
    values: np.ndarray = ct.voxels[k, j, i]
    return values


def _flag(code: str) -> Flag:
    doubt = CODES[code]
    return Flag(code, f"{doubt.meaning[0].upper()}{doubt.meaning[1:]}. {doubt.remedy}")
