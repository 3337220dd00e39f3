"""The whole way: a CT in, a measured spine out; in patient RAS millimetres, each arrow one function.

ct -> coarse curve -> curve and level looks -> straightened sagittal slab -> vertebrae (six points) -> heights, G,
grade, shape, level.
The networks are functions from array to arrays (`networks.predictor`); what comes out is plain data (`record`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .ct import CTVolume, without_padding
from .curve import SpineCurve, fit_curve
from .errors import VFQError
from .genant import measure_column
from .keypoints import centers
from .levels import SURE, UNMEASURED, name_levels, steps_between
from .record import ModelStamp, SpineAnalysis, Vertebra
from .ribs import rib_signs
from .straightening import Straightening

if TYPE_CHECKING:
    from .networks.detector import Detections
    from .networks.predictor import Predictor
    from .networks.refiner import Refined

COARSE_SMOOTHING_MM = 14.0
CURVE_SMOOTHING_MM = 20.0
# The detector sees the mean of these planes: less noise, and a rotated endplate's middle rather than one cut of it.
SLAB_MM = (-4.0, -2.0, 0.0, 2.0, 4.0)
# Finer than the 1 mm that the detector learned from: corners are found better, in real scans, painted label maps and
# phantoms alike; .8 mm is too fine again.
PIXEL_MM = 0.85
LOOK_BEYOND_MM = 32.0  # the refiner looks so far past the coarse curve's ends: a sacrum there tells the levels
# "ours ext." of Zakharov et al. 2023: the limits are extended by 2 cm; below by an L5 and the disc over it, which the
# localizer, least sure of the spine's lower end, loses first.
EXTENSION_MM, EXTENSION_BELOW_MM = 20.0, 44.0
# Where the curve's end leaves the last vertebra less room than this share of its height, though the scan goes on, a
# next one would not be seen whole, and the localizer may have lost the spine: the curve is led on.
LEAST_ROOM, LED_ON_MM = 1.25, 50.0
BORDER_MM = 1.0  # so far out of the scan a point may lie for its own error
# A scan padded with air ends before its voxels do: at one of these places inward of each point there is tissue.
INWARD_MM, TISSUE_HU = (1.0, 2.0, 3.0), -800.0
FOLLOW_THRESHOLD = 0.05
SHORTEST_SPINE_MM = 40.0
# Slices that look like spine with a wider gap between them may be two things, as hips look like spine.
WIDEST_GAP_MM, SHORTEST_PART_MM = 40.0, 20.0
COLUMN_STEP_MM = 80.0  # vertebrae nearer to one another stand in one column, though one may be missing between them
FEWEST_VERTEBRAE = 2  # one alone has no neighbours to judge it by
FARTHEST_FROM_CURVE_MM = 25.0
# A curve that a person clicks: points nearer than this are one, and fewer or closer ones draw no curve.
FEWEST_POINTS = 3
DISTINCT_MM = 2.0
SHORTEST_DRAWN_MM = 20.0
LEAST_RISE = 0.2  # of a drawn curve, along S: no spine leans by more than 78 degrees
DRAWN_SMOOTHING_MM = 6.0  # takes off the corners at the clicks, and moves the curve from them by less than a millimetre

ROLES = ("localizer", "refiner", "detector")

Progress = Callable[[str, float], None]
# A curve to a few millimetres, and the upper and lower end `(2, 3)` RAS mm of what surely is spine on it.
CoarseCurve = tuple[SpineCurve, np.ndarray]


@dataclass(frozen=True)
class Models:
    """The networks, ready on a device, and their identities."""

    localizer: Predictor
    refiner: Predictor
    detector: Predictor
    stamps: tuple[ModelStamp, ...]
    device: str
    notes: tuple[str, ...] = ()  # what was decided while loading, in sentences for people


def choose_device(device: str = "auto") -> str:
    """The device for "auto" | "cpu" | "cuda" | "mps"; VFQError `no_device` where the wish cannot be met."""
    from .networks.predictor import accelerators

    if device == "cpu":
        return device
    there = accelerators()
    if device == "auto":
        return next((name for name, unfit in there.items() if not unfit), "cpu")
    unfit = there.get(device, f"The device {device!r} is not available here. Use the device auto or cpu.")
    if unfit:
        raise VFQError("no_device", unfit)
    return device


def load_models(device: str = "auto", weights: Path | None = None) -> Models:
    """Load the networks; on the CPU, with a note, where the GPU has too little free memory.

    weights : folder with the ROLE.safetensors of networks that take the place of the shipped ones.
    VFQError `bad_weights`, `no_device`, `missing_dependency`.
    """
    from .networks.predictor import DeviceMemoryError, check_free_memory

    device = choose_device(device)
    try:
        check_free_memory(device)
        return _loaded(device, weights)
    except DeviceMemoryError as lack:
        return replace(_loaded("cpu", weights), notes=(instead_on_cpu(lack),))


def instead_on_cpu(lack: VFQError) -> str:
    """The note on an analysis that left the GPU."""
    return f"{lack.message} The CPU was used instead; it takes longer."


def _loaded(device: str, folder: Path | None) -> Models:
    from .networks.predictor import load

    given = {role: folder / f"{role}.safetensors" for role in ROLES} if folder else {}
    given = {role: path for role, path in given.items() if path.is_file()}
    if folder and not given:
        name, roles = folder.resolve().name, ", ".join(ROLES)
        raise VFQError(
            "bad_weights", f"{name!r} is no folder that holds a ROLE.safetensors of {roles}. Give the folder."
        )
    try:
        loaded = [load(role, device, given.get(role)) for role in ROLES]
    except ImportError as error:
        raise VFQError(
            "missing_dependency",
            f"{error}. On a CPU the networks need openvino: pip install openvino; in 3D Slicer's Python console "
            "slicer.util.pip_install('openvino'). On a GPU, and where weights have no .onnx beside them, they need "
            "torch and safetensors.",
        ) from error
    localizer, refiner, detector = (network for network, _ in loaded)
    return Models(localizer, refiner, detector, tuple(stamp for _, stamp in loaded), device)


def analyze(ct: CTVolume, models: Models, progress: Progress | None = None) -> SpineAnalysis:
    """Localise, straighten, detect and measure every vertebra of `ct`.

    VFQError `no_spine_found`, `no_vertebra_found` or `too_few_vertebrae` where there is nothing to measure.
    `progress` is told the step's name and the share of the whole that is done.
    """
    timing: dict[str, float] = {}
    whole, ct = ct, without_padding(ct)
    with _timed("total", timing):
        _tell(progress, "localize", 0.0)
        with _timed("localize", timing):
            first, *others = coarse_curves(ct, models)
        _tell(progress, "refine", 0.5)
        spine, vertebrae = _led_on(ct, *_refined_along(ct, first, models, timing, progress), models, timing)
        _tell(progress, "detect", 0.9)
        for coarse in others:
            further, found = _led_on(ct, *_refined_along(ct, coarse, models, timing, None), models, timing)
            if in_columns(found) > in_columns(vertebrae):
                spine, vertebrae = further, found
        _check_enough(vertebrae, spine.curve)
    _tell(progress, "measure", 1.0)
    return _record(whole, spine, vertebrae, models, timing)


def in_columns(vertebrae: tuple[Vertebra, ...]) -> int:
    """How many of the vertebrae do not stand alone: a hip may look like one."""
    middles = centers(np.reshape([v.keypoints for v in vertebrae], (-1, 3, 2, 3)))
    near = np.linalg.norm(np.diff(middles, axis=0), axis=1) < COLUMN_STEP_MM
    return int((np.r_[False, near] | np.r_[near, False])[: len(vertebrae)].sum())


def _refined_along(
    ct: CTVolume, coarse: CoarseCurve, models: Models, timing: dict[str, float], progress: Progress | None
) -> tuple[Spine, tuple[Vertebra, ...]]:
    """Refine a coarse curve, and all that follows."""
    with _timed("refine", timing):
        spine = refined_spine(ct, *coarse, models)
    return spine, _along(ct, spine, models, timing, progress)


def _led_on(
    ct: CTVolume, spine: Spine, vertebrae: tuple[Vertebra, ...], models: Models, timing: dict[str, float]
) -> tuple[Spine, tuple[Vertebra, ...]]:
    """The curve led on as long as that finds more vertebrae, and all of them."""
    while longer := longer_curve(ct, spine.curve, vertebrae):
        further, found = _refined_along(ct, longer, models, timing, None)
        if len(found) <= len(vertebrae):
            break
        spine, vertebrae = further, found
    return spine, vertebrae


def analyze_along(ct: CTVolume, models: Models, points: np.ndarray, progress: Progress | None = None) -> SpineAnalysis:
    """Straighten along a person's three or more points `(n, 3)` RAS mm on the spine, in any order, detect and measure.

    The curve is the person's; no vertebra, or a lone one, is a result here: the person will add the others.
    VFQError `too_few_points`, `not_along_spine`.
    """
    timing: dict[str, float] = {}
    whole, ct = ct, without_padding(ct)
    with _timed("total", timing):
        _tell(progress, "refine", 0.0)
        with _timed("refine", timing):
            spine = drawn_spine(ct, drawn_curve(points), models)
        vertebrae = _along(ct, spine, models, timing, progress)
    _tell(progress, "measure", 1.0)
    return _record(whole, spine, vertebrae, models, timing)


def propose_vertebra(
    ct: CTVolume,
    curve: SpineCurve,
    models: Models,
    anterior_mm: float,
    arc_mm: float,
    slab: np.ndarray | None = None,
) -> Vertebra | None:
    """The vertebra that the detector sees from one place of the straightened picture: A and arc length, mm.

    `slab` is `straightened_slab` of the same curve, where it is at hand. None outside the picture.
    """
    from .networks.detector import propose

    picture = straightened_slab(ct, curve) if slab is None else slab
    found = propose(models.detector, picture, anterior_mm, arc_mm, PIXEL_MM)
    return _vertebrae(_to_patient(curve, found.keypoints), found.scores, found.spreads)[0] if found else None


def _along(
    ct: CTVolume, spine: Spine, models: Models, timing: dict[str, float], progress: Progress | None
) -> tuple[Vertebra, ...]:
    """Straighten along a known curve, detect, measure and name."""
    from .networks.detector import detect

    _tell(progress, "straighten", 0.7)
    with _timed("straighten", timing):
        slab = straightened_slab(ct, spine.curve)
    _tell(progress, "detect", 0.8)
    with _timed("detect", timing):
        detections = detect(models.detector, slab, spacing_mm=PIXEL_MM)
    with _timed("measure", timing):
        return measurable(with_levels(ct, measured_vertebrae(ct, spine.curve, detections), spine))


def _record(
    ct: CTVolume, spine: Spine, vertebrae: tuple[Vertebra, ...], models: Models, timing: dict[str, float]
) -> SpineAnalysis:
    return SpineAnalysis(
        case=ct.name,
        shape=tuple(int(n) for n in ct.voxels.shape),
        spacing_mm=tuple(float(s) for s in ct.spacing_mm),
        ijk_to_ras=ct.ijk_to_ras,
        models=models.stamps,
        curve=spine.curve.points,
        limits_mm=spine.limits_mm,
        vertebrae=vertebrae,
        timing_s=timing,
    )


def coarse_curves(ct: CTVolume, models: Models) -> list[CoarseCurve]:
    """The curve through all that may be spine; where that may be several things, through each alone, the longest
    first, and through all. VFQError `no_spine_found`."""
    from .networks.localizer import SLICE_THRESHOLD, SPACING_MM, coarsen, localize

    points, probability = localize(models.localizer, coarsen(ct))
    candidates = spine_candidates(probability > SLICE_THRESHOLD, round(WIDEST_GAP_MM / SPACING_MM))
    covered = max((float(np.ptp(points[first:last, 2])) for first, last in candidates), default=0.0)
    if covered < SHORTEST_SPINE_MM:
        raise VFQError(
            "no_spine_found",
            f"No spine found: {covered:.0f} mm of the scan look like spine, at least {SHORTEST_SPINE_MM:.0f} mm are "
            "needed. Give a CT of the neck or trunk that holds the vertebral column.",
        )
    curves = []
    for first, last in candidates:
        line = points[slice(*followed(probability, first, last))]
        if np.ptp(line[:, 2]) >= SHORTEST_PART_MM:
            curves.append((fit_curve(line, COARSE_SMOOTHING_MM), points[[last - 1, first]]))
    return curves


@dataclass(frozen=True, eq=False)
class Spine:
    """A curve that reaches some cm over the ends of what may be spine, the arc lengths between which spine was seen,
    and what the refiner saw along the coarse curve and beyond."""

    curve: SpineCurve
    limits_mm: tuple[float, float]
    coarse: Straightening
    refined: Refined


def refined_spine(ct: CTVolume, coarse: SpineCurve, ends: np.ndarray, models: Models) -> Spine:
    """The curve through the middles of the bodies, found along the coarse one."""
    from .networks.refiner import refine

    straightening = Straightening(extended(coarse, LOOK_BEYOND_MM))
    refined = refine(models.refiner, ct, straightening)
    arcs = -refined.middles[:, 2]
    between = refined.middles[(arcs >= LOOK_BEYOND_MM) & (arcs <= LOOK_BEYOND_MM + coarse.length)]
    middle = fit_curve(straightening.to_patient(between), CURVE_SMOOTHING_MM)
    curve = extended(middle, EXTENSION_MM, EXTENSION_BELOW_MM)
    upper, lower = (int(np.linalg.norm(curve.points - end, axis=1).argmin()) * curve.step for end in ends)
    return Spine(curve, (upper, lower), straightening, refined)


def longer_curve(ct: CTVolume, curve: SpineCurve, vertebrae: tuple[Vertebra, ...]) -> CoarseCurve | None:
    """The curve led on beyond the ends that vertebrae reach though the scan does not end there, and the upper and
    lower end `(2, 3)` RAS mm of the vertebrae; None where there is nothing to lead on."""
    if not vertebrae:
        return None
    ends = np.stack([vertebrae[0].keypoints[:, 0].mean(0), vertebrae[-1].keypoints[:, 1].mean(0)])
    tall = np.array([np.mean(vertebrae[i].measurement.heights_mm) for i in (0, -1)])
    upper, lower = -Straightening(curve).to_straight(ends)[:, 2]
    goes_on = inside(ct, curve.at(np.array([-EXTENSION_MM, curve.length + EXTENSION_MM]))[0])
    lost = goes_on & (np.array([upper, curve.length - lower]) < LEAST_ROOM * tall)
    own = (-EXTENSION_MM, -EXTENSION_BELOW_MM)  # without what `refined_spine` will add again
    return (extended(curve, *np.where(lost, LED_ON_MM, own)), ends) if lost.any() else None


def drawn_curve(points: np.ndarray) -> SpineCurve:
    """The curve through a person's points `(n, 3)` RAS mm. VFQError `too_few_points`, `not_along_spine`."""
    points = np.asarray(points, float).reshape(-1, 3)
    distinct = _distinct(points[np.argsort(-points[:, 2])])
    covered = float(np.ptp(distinct[:, 2])) if len(distinct) else 0.0
    if len(distinct) < FEWEST_POINTS or covered < SHORTEST_DRAWN_MM:
        raise VFQError(
            "too_few_points",
            f"{len(distinct)} different points over {covered:.0f} mm are too few for a curve: click the middles of "
            f"{FEWEST_POINTS} or more vertebral bodies, {SHORTEST_DRAWN_MM:.0f} mm or more from top to bottom.",
        )
    curve = fit_curve(distinct, DRAWN_SMOOTHING_MM)
    if np.abs(curve.tangents[:, 2]).min() < LEAST_RISE:
        raise VFQError(
            "not_along_spine",
            "The points lie beside one another: a curve through them leaves the spine. Click the middles of vertebral "
            "bodies, one below the other.",
        )
    return curve


def _distinct(points: np.ndarray) -> np.ndarray:
    """Without the points `(n, 3)` that lie on the last one before them; clicks of a trembling hand are one."""
    kept: list[np.ndarray] = []
    for point in points:
        if not kept or np.linalg.norm(point - kept[-1]) > DISTINCT_MM:
            kept.append(point)
    return np.reshape(kept, (-1, 3))


def drawn_spine(ct: CTVolume, curve: SpineCurve, models: Models) -> Spine:
    """A person's curve as it is, and what the refiner sees along it, which tells the levels."""
    from .networks.refiner import refine

    straightening = Straightening(extended(curve, LOOK_BEYOND_MM))
    refined = refine(models.refiner, ct, straightening)
    limits = (EXTENSION_MM, EXTENSION_MM + curve.length)
    return Spine(extended(curve, EXTENSION_MM), limits, straightening, refined)


def followed(probability: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """The range of slices widened at both ends while they still may hold spine.

    The network is least sure of the spine's ends, L5 and the sacrum look alike; the detector tells them apart.
    """
    while first > 0 and probability[first - 1] > FOLLOW_THRESHOLD:
        first -= 1
    while last < len(probability) and probability[last] > FOLLOW_THRESHOLD:
        last += 1
    return first, last


def spine_candidates(holds_spine: np.ndarray, widest_gap: int) -> list[tuple[int, int]]:
    """First and one past the last slice of what may be the spine: each group of flagged runs that lies farther than
    `widest_gap` slices from the others and is not much shorter than the longest, that one first; then all together."""
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
    """First and one past the last slice of the spine: the hull of all flagged runs but stray ones.

    A run is stray when it is shorter than a fifth of the longest and farther from it than its own length.
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
    """The curve going straight on for `by_mm` at both ends, or for `below_mm` at the lower one; cut where negative."""
    above, below = (round(mm / curve.step) for mm in (by_mm, by_mm if below_mm is None else below_mm))
    arcs = np.arange(-above, len(curve.points) + below) * curve.step
    return SpineCurve(curve.at(arcs)[0], curve.step)


def straightened_slab(ct: CTVolume, curve: SpineCurve) -> np.ndarray:
    """The detector's input: `(rows, 128)` HU, pixels of `PIXEL_MM`, rows along the arc, columns along A with 0 in the
    64th."""
    from .networks.detector import COLUMNS, HALF_WIDTH_MM, SPACING_MM

    half_mm = HALF_WIDTH_MM * PIXEL_MM / SPACING_MM
    planes = Straightening(curve).sample_slab(ct, half_mm, np.array(SLAB_MM), PIXEL_MM)
    slab: np.ndarray = planes.mean(0)[:, :COLUMNS]
    return slab


def measured_vertebrae(ct: CTVolume, curve: SpineCurve, found: Detections) -> tuple[Vertebra, ...]:
    """Vertebrae from what the detector found in the slab; those that the border or padding cuts are left out."""
    near = np.abs(found.keypoints[..., 0].mean((1, 2))) < FARTHEST_FROM_CURVE_MM
    patient = _to_patient(curve, found.keypoints)
    whole = near & (inside(ct, patient, BORDER_MM) & in_tissue(ct, patient)).all((1, 2))
    return _vertebrae(patient[whole], found.scores[whole], found.spreads[whole])


def _check_enough(vertebrae: tuple[Vertebra, ...], curve: SpineCurve) -> None:
    if not vertebrae:
        raise VFQError(
            "no_vertebra_found",
            f"No complete vertebra found along {curve.length:.0f} mm of spine. Check that the vertebral bodies lie "
            "whole in the field of view.",
        )
    if len(vertebrae) < FEWEST_VERTEBRAE:
        raise VFQError(
            "too_few_vertebrae",
            "Only one complete vertebra lies in the field of view; at least two are needed, so that a vertebra can be "
            "judged beside its neighbours. Give a longer scan.",
        )


def _to_patient(curve: SpineCurve, flat: np.ndarray) -> np.ndarray:
    """Key points `(n, 3, 2, 2)` as (A, row) mm of the slab to `(n, 3, 2, 3)` RAS mm."""
    straight = np.stack([np.zeros(flat.shape[:-1]), flat[..., 0], -flat[..., 1]], -1)
    return Straightening(curve).to_patient(straight)


def _vertebrae(patient: np.ndarray, scores: np.ndarray, spreads: np.ndarray) -> tuple[Vertebra, ...]:
    rows = zip(patient, measure_column(patient, spreads.tolist()), scores.tolist(), spreads.tolist(), strict=True)
    return tuple(Vertebra(k, m, score, spread=spread) for k, m, score, spread in rows)


def with_levels(ct: CTVolume, vertebrae: tuple[Vertebra, ...], spine: Spine) -> tuple[Vertebra, ...]:
    """The vertebrae with their names, where something in view tells them: they, or what lies beyond the last ones."""
    if len(vertebrae) < FEWEST_VERTEBRAE:
        return vertebrae
    middles = np.stack([v.keypoints.mean((0, 1)) for v in vertebrae])
    tall = np.array([np.mean(v.measurement.heights_mm) for v in vertebrae])
    arcs = -spine.coarse.to_straight(middles)[:, 2]
    steps = steps_between(middles, tall)
    beyond = _with_next(arcs, steps)
    looks = [spine.refined.looks_at(arc, h) for arc, h in zip(beyond, tall[[0, *range(len(tall)), -1]], strict=True)]
    corners = np.stack([v.keypoints[2, 0] for v in vertebrae])
    ribs = rib_signs(ct, spine.coarse, _with_next(corners, steps))
    tallest = [np.nan, *(max(v.measurement.heights_mm) for v in vertebrae), np.nan]
    named = name_levels(np.stack(looks), np.r_[1, steps, 1], ribs, np.array(tallest))[1:-1]
    return tuple(
        replace(v, level=n.name, level_probabilities=n.distribution) for v, n in zip(vertebrae, named, strict=True)
    )


def _with_next(places: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """`places` `(n, ...)` of vertebrae `steps` `(n - 1,)` levels apart, and of one more level beyond either end."""
    above, below = (places[0] - places[1]) / steps[0], (places[-1] - places[-2]) / steps[-1]
    return np.concatenate([places[:1] + above, places, places[-1:] + below])


def measurable(vertebrae: tuple[Vertebra, ...]) -> tuple[Vertebra, ...]:
    """Without what surely is one of `UNMEASURED`, the rest measured without them as neighbours."""
    chances = [sum(v.level_probabilities.get(name, 0.0) for name in UNMEASURED) for v in vertebrae]
    kept = [v for v, chance in zip(vertebrae, chances, strict=True) if chance < SURE]
    measured = measure_column([v.keypoints for v in kept], [v.spread for v in kept])
    return tuple(replace(v, measurement=m) for v, m in zip(kept, measured, strict=True))


def inside(ct: CTVolume, points: np.ndarray, margin_mm: float = 0.0) -> np.ndarray:
    """Whether RAS points `(..., 3)` lie within the volume's outer voxel edges, or no farther out than `margin_mm`;
    booleans `(...)`."""
    ijk = points @ ct.ras_to_ijk[:3, :3].T + ct.ras_to_ijk[:3, 3]
    size = np.array(ct.voxels.shape[::-1])
    margin = 0.5 + margin_mm / np.array(ct.spacing_mm[::-1])
    return ((ijk >= -margin) & (ijk <= size - 1 + margin)).all(-1)


def in_tissue(ct: CTVolume, keypoints: np.ndarray) -> np.ndarray:
    """Whether there is tissue just inward of key points `(n, 3, 2, 3)` RAS mm; booleans `(n, 3, 2)`."""
    inward = centers(keypoints)[:, None, None] - keypoints
    steps = np.reshape(INWARD_MM, (-1, 1, 1, 1, 1)) / np.linalg.norm(inward, axis=-1, keepdims=True)
    found: np.ndarray = ct.sample(keypoints + steps * inward).max(0) > TISSUE_HU
    return found


@contextmanager
def _timed(name: str, timing: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timing[name] = timing.get(name, 0.0) + time.perf_counter() - start


def _tell(progress: Progress | None, step: str, share: float) -> None:
    if progress:
        progress(step, share)
