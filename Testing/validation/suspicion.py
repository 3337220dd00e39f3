"""Print how often the quality flags are raised where a measurement failed, and where it did not.

    python Testing/validation/suspicion.py DATA_FOLDER [PHANTOMS]

Every CT of DATA_FOLDER/ct is analysed as it is, which is the reference for what follows: curves that are pushed aside,
crops through the spine, thick slices, screws, and wrong slice distances. PHANTOMS phantoms are compared with their
truth. A study failed if a whole vertebra is missed, one is false, or a middle is more than `FAR_MM` off; a refused
study counts as flagged. Thick slices alone are no suspicion. Points are RAS mm.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from validate import FIRST_SEED, options_of
from VertebralFractureQuantLib.analysis import Models, analyze, load_models
from VertebralFractureQuantLib.analysis.curve_finding import Spine, coarse_curves, refined_spine
from VertebralFractureQuantLib.analysis.detection import PIXEL_MM, measured_vertebrae, straightened_slab
from VertebralFractureQuantLib.analysis.naming import measurable, with_levels
from VertebralFractureQuantLib.analysis.quality import judged, off_midline
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.ct import CTVolume, inside, without_padding
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.networks.detector import detect
from VertebralFractureQuantLib.phantom import make_phantom
from VertebralFractureQuantLib.spine.curve import fit_curve
from VertebralFractureQuantLib.spine.quality import Flag, is_suspect, place
from VertebralFractureQuantLib.spine.record import Vertebra
from worsened import Alteration, moved, part, stabilised, thick_slices

FAR_MM, SAME_MM, OF_PARTIAL_MM = 4.0, 10.0, 25.0
KNOWN_WRONG = ("TS_aorta_ct_cropped", "VHM_head_neck_ct_spine", "TPTBox_label22_ct", "IBSI_STS_007_ct")
UNSPOILED = ("as it is", "phantom")
# Axis (0 right, 1 front) and mm.
PUSHES = ((0, 3), (0, -5), (0, 8), (0, -12), (0, 20), (1, 8), (1, 20))
SPOILED: dict[str, Alteration] = {
    "slices of 5 mm": thick_slices(5),
    "screws": stabilised,
    **{f"slice distance x {f}": moved(np.diag([1.0, 1.0, f])) for f in (0.5, 0.8, 1.25, 2.0)},
    "lowest 40 %": part(0, 0.4),
    "uppermost 40 %": part(0.6, 1),
}


@dataclass(frozen=True)
class Result:
    """One study: what was done to it, did it fail, and the flags (`refused` if it was not measured)."""

    kind: str
    name: str
    failed: bool
    flags: tuple[Flag, ...] = ()
    refused: str = ""

    @property
    def flagged(self) -> bool:
        """True if the study is refused or has a flag that suggests a failure."""
        return bool(self.refused) or any(map(is_suspect, self.flags))


def middles(vertebrae: tuple[Vertebra, ...]) -> np.ndarray:
    """Return the middles `(n, 3)` of vertebrae, mm."""
    return np.reshape([v.keypoints.mean((0, 1)) for v in vertebrae], (-1, 3))


def has_failed(found: np.ndarray, truth: np.ndarray, partial: np.ndarray) -> bool:
    """True if a true middle is missed or far, or a found one is false; those near `partial` ones are not false."""
    apart = np.linalg.norm(found[:, None] - np.concatenate([truth, partial])[None], axis=-1)
    if not len(found):
        return bool(len(truth))
    lost = apart[:, : len(truth)].min(0) > SAME_MM
    off = apart.min(1) > np.where(apart.argmin(1) < len(truth), FAR_MM, OF_PARTIAL_MM)
    return bool(lost.any() or off.any())


def pushed(spine: Spine, axis: int, mm: float, rng: np.random.Generator) -> Spine:
    """Return the spine with its curve pushed by `mm` to the right (axis 0) or the front (1) over some vertebrae."""
    points, arcs = spine.curve.points, np.arange(len(spine.curve.points))
    at, width = rng.uniform(30, max(31, len(points) - 50)), rng.uniform(15, 35)
    weight = np.clip(1.25 * np.exp(-0.5 * ((arcs - at) / width) ** 2), 0, 1)
    return replace(spine, curve=fit_curve(points + mm * weight[:, None] * spine.curve.frames[:, axis]))


def along(ct: CTVolume, spine: Spine, models: Models) -> tuple[Vertebra, ...]:
    """Detect, measure and name vertebrae along the curve of `spine`."""
    found = detect(models.detector, straightened_slab(ct, spine.curve), spacing_mm=PIXEL_MM)
    return measurable(with_levels(ct, measured_vertebrae(ct, spine.curve, found), spine))


def pushes(name: str, ct: CTVolume, truth: np.ndarray, models: Models) -> Iterator[Result]:
    """Yield a result for each push of the scan's curve."""
    ct, rng = without_padding(ct), np.random.default_rng(0)
    spine = refined_spine(ct, *coarse_curves(ct, models)[0], models)
    for axis, mm in PUSHES:
        other = pushed(spine, axis, mm, rng)
        kind = f"pushed {abs(mm)} mm {'to the side' if axis == 0 else 'forward'}"
        try:
            found = along(ct, other, models)
            found, flags = judged(ct, other, found, off_midline(ct, other.curve, found), models)
            yield Result(kind, name, has_failed(middles(found), truth, np.empty((0, 3))), flags)
        except VFQError as error:
            yield Result(kind, name, True, refused=error.code)


def analysed(kind: str, name: str, ct: CTVolume, truth: np.ndarray, partial: np.ndarray, models: Models) -> Result:
    """Return the result of one analysis, compared with true middles."""
    try:
        analysis = analyze(ct, models)
    except VFQError as error:
        return Result(kind, name, True, refused=error.code)
    return Result(kind, name, has_failed(middles(analysis.vertebrae), truth, partial), analysis.quality)


def of_scan(path: Path, models: Models) -> Iterator[Result]:
    """Yield the results of one CT: as it is, pushed and spoiled."""
    ct = read_ct(path)
    analysis = analyze(ct, models)
    points = np.stack([v.keypoints for v in analysis.vertebrae])
    yield Result("as it is", ct.name, False, analysis.quality)
    yield from pushes(ct.name, ct, middles(analysis.vertebrae), models)
    for kind, alter in SPOILED.items():
        worse, turn = alter(ct, points)
        whole = inside(worse, points @ turn.T).all((1, 2))
        if whole.sum() > 1:
            centres = points.mean((1, 2)) @ turn.T
            yield analysed(kind, ct.name, worse, centres[whole], centres[~whole], models)


def of_phantoms(count: int, models: Models) -> Iterator[Result]:
    """Yield the results of phantoms, compared with their truth."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        ct, truth = make_phantom(seed, options_of(seed))
        partial = np.reshape([center for _, center in truth.partial], (-1, 3))  # C2 is one of them
        centres = truth.keypoints.mean((1, 2))
        yield analysed("phantom", f"phantom {seed}", ct, centres, partial, models)


def table(results: list[Result]) -> str:
    """Return a line for each kind, and for groups of them: failed studies, how many are flagged; the others, too."""
    lines = []
    kinds = {
        "unspoiled": [r for r in results if r.kind in UNSPOILED],
        "failed or not, all but wrong slice distances": [r for r in results if not r.kind.startswith("slice distance")],
    }
    for kind in dict.fromkeys(r.kind for r in results):
        kinds[kind] = [r for r in results if r.kind == kind]
    for kind, these in kinds.items():
        failed, good = [r for r in these if r.failed], [r for r in these if not r.failed]
        lines.append(
            f"{kind}: {len(failed)} failed, {sum(r.flagged for r in failed)} flagged; "
            f"{len(good)} good, {sum(r.flagged for r in good)} flagged"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    networks, everything = load_models("cpu"), []
    files = [f for f in sorted(Path(sys.argv[1], "ct").iterdir()) if not f.name.startswith(KNOWN_WRONG)]
    scans = chain.from_iterable(of_scan(file, networks) for file in files)
    for r in chain(scans, of_phantoms(int(sys.argv[2]) if len(sys.argv) == 3 else 0, networks)):
        everything.append(r)
        told = " ".join([r.refused, *(f"{f.code} {place(f.where)}" for f in r.flags)])
        print(f"{r.name}, {r.kind}: {'failed' if r.failed else 'good'}; {told}", flush=True)
    print(table(everything))
