"""Real vertebral shapes, severe fractures among them, painted as CT and analysed: python Testing/label_maps.py [N]

A label map gives the bones' surfaces; tissue is laid over them with the density, blur, slices and noise of a scan.
More fractures come from real bodies pressed together. Nothing is shared with the phantoms that the networks learn from.
Points, axes and distances are RAS mm, arrays `[k, j, i]`, frames rows right, anterior, up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from label_painting import Look, Organs, paint
from scipy import ndimage
from VertebralFractureQuantLib.analysis import analyze, load_models
from VertebralFractureQuantLib.ct import CTVolume
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import HALF_A_VERTEBRA_MM, match
from VertebralFractureQuantLib.genant import Measurement, measure_column
from VertebralFractureQuantLib.keypoints import centers

MASKS = Path(os.environ.get("VFQ_DATA") or Path(__file__).parents[2] / "shared/data") / "masks"
NAMES = [f"{region}{n}" for region, count in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, count + 1)]
VERSE = {i + 1: name for i, name in enumerate(NAMES)}
TOTALSEG = {50 - i: name for i, name in enumerate(NAMES)} | {26: "S1"}
# HU of TotalSegmentator's organs: ranges of labels.
ORGANS = ((1, 3, 110), (5, 9, 90), (10, 14, -860), (15, 15, 30), (16, 16, -990), (17, 24, 40), (51, 63, 150),
          (69, 78, 260), (80, 89, 55), (92, 116, 330), (118, 118, 120))  # fmt: skip
GRID_MM = 0.8
SMOOTH_MM = 0.9  # takes the stairs of a 1 mm mask off its surface
SMALLEST_ML = 4.0  # less of a vertebra is not painted
DISC_MM = 5.0  # a depressed endplate stretches the disc this far
WORSE = ("moderate", "severe")
Fractures = dict[str, tuple[float, float, float]]  # by level, heights left of a real body's: front, middle, back


@dataclass(frozen=True, eq=False)
class Shape:
    """A vertebra: signed distance `[k, j, i]` mm (negative inside) on a GRID_MM grid from `origin`; may be `cut`.

    `center` and `frame` are the body's; `back` is its posterior wall's A in that frame, `canal` the canal's centre.
    """

    level: str
    distance: np.ndarray
    origin: np.ndarray
    cut: bool
    center: np.ndarray
    frame: np.ndarray
    back: float = 0.0
    canal: np.ndarray | None = None

    @property
    def end(self) -> np.ndarray:
        """The corner of the grid opposite to `origin`."""
        return self.origin + np.array(self.distance.shape[::-1]) * GRID_MM

    def sample(self, points: np.ndarray) -> np.ndarray:
        """Signed distance, mm, at RAS points `(..., 3)`; 9 mm far off."""
        index = np.moveaxis((np.asarray(points) - self.origin) / GRID_MM, -1, 0)[::-1]
        return ndimage.map_coordinates(self.distance, index, order=1, cval=9.0)

    def local(self, points: np.ndarray) -> np.ndarray:
        """RAS points in the body's frame: right, anterior, up of its centre, mm."""
        return (points - self.center) @ self.frame.T


@lru_cache(maxsize=3)
def read_map(path: Path) -> tuple[list[Shape], Organs | None]:
    """Vertebrae, cranial first, and `[k, j, i]` HU of other organs with their spacing and origin (None: no organs)."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAS")
    labels, spacing, origin = sitk.GetArrayFromImage(image), np.array(image.GetSpacing()), np.array(image.GetOrigin())
    origin *= -1, -1, 1  # LPS to RAS
    names = TOTALSEG if "totalseg" in path.name else VERSE
    boxes = {n: box for n, box in enumerate(ndimage.find_objects(labels.astype(int)), 1) if box and n in names}
    large = [n for n, box in boxes.items() if (labels[box] == n).sum() * spacing.prod() > SMALLEST_ML * 1000]
    shapes = [_shape(names[n], labels == n, boxes[n], spacing, origin) for n in large]
    shapes.sort(key=lambda s: -s.center[2])
    if shapes[-1].level == "L5":  # the map lacks the sacrum: L5 once more, one step further down and backwards
        last = shapes[-1]
        step = (last.center - shapes[-2].center) * [1, 0, 1.05] + [0, -12, 0]
        shapes.append(replace(last, level="S1", origin=last.origin + step, center=last.center + step, cut=True))
    for _ in range(3):  # frames need bodies, bodies need frames
        up = -np.gradient([s.center for s in shapes], axis=0)
        shapes = [_in_frame(s, u) for s, u in zip(shapes, up, strict=True)]
    if labels.max() < 100:
        return shapes, None
    hu = np.full(256, -2000.0, np.float32)
    for low, high, value in ORGANS:
        hu[low : high + 1] = value
    return shapes, (hu[labels.astype(np.uint8)], spacing, origin)


def _shape(level: str, mask: np.ndarray, box: tuple[slice, ...], spacing: np.ndarray, origin: np.ndarray) -> Shape:
    """Anisotropic masks are interpolated by their distances, so that thick slices leave no stairs."""
    cut = any(s.start == 0 or s.stop == n for s, n in zip(box, mask.shape, strict=True))
    pad = np.ceil(8 / spacing[::-1]).astype(int)
    part = np.pad(mask[box], [(p, p) for p in pad])
    out, within = (ndimage.distance_transform_edt(m, sampling=spacing[::-1]) for m in (~part, part))
    signed = np.where(part, spacing.min() / 2 - within, out - spacing.min() / 2)
    fine = ndimage.zoom(signed, spacing[::-1] / GRID_MM, order=1, grid_mode=True, mode="nearest")
    fine = ndimage.gaussian_filter(fine, np.maximum(SMOOTH_MM, 0.6 * spacing[::-1]) / GRID_MM)
    low = origin + (np.array([s.start for s in box])[::-1] - pad[::-1] - 0.5) * spacing + GRID_MM / 2
    center = low + np.argwhere(fine < 0).mean(0)[::-1] * GRID_MM
    return Shape(level, fine.astype(np.float32), low, cut, center, np.eye(3))


def _in_frame(shape: Shape, up: np.ndarray) -> Shape:
    """The body in front of the canal (a hole in the shadow along `up`): its centre, and its frame, canal behind."""
    up = up / np.linalg.norm(up)
    ahead = np.array([0, 1.0, 0]) if shape.canal is None else shape.center - shape.canal
    ahead = ahead - (ahead @ up) * up
    ahead /= np.linalg.norm(ahead)
    frame = np.stack([np.cross(ahead, up), ahead, up])
    r, a, z = np.meshgrid(np.arange(-40.0, 41), np.arange(-60.0, 41), np.arange(-35.0, 36), indexing="ij")
    bone = shape.sample(np.stack([r, a, z], -1) @ frame + shape.center) < 0
    shadow = bone.any(2)
    holes, count = ndimage.label(ndimage.binary_fill_holes(shadow) & ~shadow)
    if count == 0:
        return replace(shape, frame=frame, back=-14.0 if shape.canal is None else shape.back)
    hole = holes == np.argmax(np.bincount(holes.ravel())[1:]) + 1
    middle = np.array([r[hole, 0].mean(), a[hole, 0].mean()])
    back = a[hole & (abs(r[..., 0] - middle[0]) < 4), 0].max() + 0.5
    body = bone & (a > back) & (abs(r - middle[0]) < 32)
    shift = np.array([r[body].mean(), a[body].mean(), z[body].mean()])
    canal = np.array([*middle, shift[2]]) @ frame + shape.center
    return replace(shape, frame=frame, center=shape.center + shift @ frame, back=back - shift[1], canal=canal)


def six_points(shape: Shape) -> np.ndarray:
    """Key points `(3, 2, 3)` RAS mm on the mask's surface in the body's mid-sagittal plane."""
    axes = shape.frame[1:]
    for _ in range(3):  # the axes are turned along the endplates' mean direction
        flat = _flat_points(shape, axes)
        points = shape.center + flat @ axes
        x, y = (flat[0] - flat[2]).sum(0)
        axes = np.array([[x, y], [-y, x]]) / np.hypot(x, y) @ axes
    return points


def _flat_points(shape: Shape, axes: np.ndarray, step: float = 0.25) -> np.ndarray:
    """Key points `(3, 2, 2)` along `axes` (anterior, up): corners are outermost, but for osteophytes.

    Posterior ones are as high as the endplate beside them.
    """
    grid = np.arange(-32, 32, step)
    a, z = np.meshgrid(grid, grid, indexing="ij")
    plane = np.stack([a, z], -1) @ axes + shape.center
    bone = (shape.sample(plane) < 0) & (shape.local(plane)[..., 1] > shape.back - 4)
    parts, _ = ndimage.label(bone)
    body = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    disk = np.hypot(*np.mgrid[-6:7, -6:7]) <= 6
    blunt = ndimage.binary_opening(body, disk)
    points = np.zeros((3, 2, 2))
    for position, forward in ((0, 1), (2, -1)):
        for end, upward in ((0, 1), (1, -1)):
            reach = np.where(blunt, forward * a + upward * z, -np.inf)
            points[position, end] = grid[list(np.unravel_index(reach.argmax(), reach.shape))]
    for end, pick, out in ((0, np.max, step / 2), (1, np.min, -step / 2)):

        def edge(at: float, pick=pick) -> list[float]:  # the surface within 3 mm
            return [pick(grid[body[c]]) for c in np.flatnonzero(abs(grid - at) < 3) if body[c].any()]

        middle = points[[0, 2], end, 0].mean()
        points[1, end] = middle, np.mean(edge(middle)) + out  # a broad depression is followed, a focal one is not
        points[2, end, 1] = pick(edge(points[2, end, 0])) + out
    return points


def measured(path: Path, fractures: Fractures | None = None, span: slice = slice(None)) -> tuple[list[str], np.ndarray]:
    """Levels and key points `(n, 3, 2, 3)` RAS mm of the whole vertebrae of a map's `span`, fractures applied."""
    shapes = read_map(path)[0][span]
    warp = Warp(shapes, fractures)
    whole = [s for s in shapes[1:-1] if not s.cut and s.level != "S1"]
    return [s.level for s in whole], np.stack([warp.to_target(six_points(s)) for s in whole])


class Warp:
    """Real bodies pressed together; what lies above follows rigidly, as a spine does (a wedge makes a kyphosis)."""

    def __init__(self, shapes: list[Shape], fractures: Fractures | None):
        self.presses = [_press(s, *fractures[s.level]) for s in shapes if fractures and s.level in fractures]

    def to_source(self, points: np.ndarray) -> np.ndarray:
        """Where in the label map the points `(..., 3)` of the deformed spine lie."""
        for press in reversed(self.presses):  # caudal first: a press moves all that is above
            points = press(points)
        return points

    def to_target(self, points: np.ndarray) -> np.ndarray:
        target = np.array(points, float)
        for _ in range(150 * bool(self.presses)):
            target += 0.35 * (points - self.to_source(target))
        return target


def _press(shape: Shape, front_left: float, middle_left: float, back_left: float) -> Callable[[np.ndarray], np.ndarray]:
    """The map from a fractured vertebra, and all above, to the unharmed one."""
    corners = shape.local(six_points(shape))[..., 1:]
    front, back = corners[0], corners[2]
    new_front = front[1] + front_left * (front[0] - front[1])
    new_back = back[1] + back_left * (back[0] - back[1])
    turn = np.diff([np.arctan2(*(f - b)[::-1]) for f, b in ((new_front, new_back), (front[0], back[0]))])[0]
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    height = np.linalg.norm(corners[1, 0] - corners[1, 1])
    mean_left = (front_left + back_left) / 2
    sunk = (1 - middle_left / mean_left) * height / 2

    def line(a: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return start[1] + (a - start[0]) * (end[1] - start[1]) / (end[0] - start[0])

    def press(points: np.ndarray) -> np.ndarray:
        local = shape.local(points)
        flat = local[..., 1:]
        low, high = line(flat[..., 0], back[1], front[1]), line(flat[..., 0], new_back, new_front)
        share = np.clip((flat[..., 1] - low) / np.maximum(high - low, 3.0), 0, 1)
        flat = flat + share[..., None] * ((flat - new_back) @ rotation + back[0] - flat)
        half = np.maximum((line(flat[..., 0], back[0], front[0]) - line(flat[..., 0], back[1], front[1])) / 2, 4.0)
        level = flat[..., 1] - line(flat[..., 0], back[1], front[1]) - half
        t = (flat[..., 0] - back[0, 0]) / (front[0, 0] - back[0, 0]) * 2 - 1
        bump = sunk * np.clip(1 - abs(t) ** 3, 0, 1) * np.clip(1 - (local[..., 0] / 24) ** 4, 0, 1)
        inner = abs(level) * bump / (half - bump)
        outer = bump * (half + DISC_MM - abs(level)) / (DISC_MM + bump)
        flat[..., 1] += np.sign(level) * np.clip(np.minimum(inner, outer), 0, None)
        return np.concatenate([local[..., :1], flat], -1) @ shape.frame + shape.center

    return press


def painted_ct(
    path: Path, seed: int, look: Look, fractures: Fractures | None = None, span: slice = slice(None)
) -> CTVolume:
    """A CT of a map's `span` of vertebrae; the first and the last are cut by the border."""
    shapes, organs = read_map(path)
    shapes = shapes[span]
    return paint(seed, shapes, organs, Warp(shapes, fractures), look, f"{path.name.split('_')[0]}-{seed}")


MAPS = (  # label map, vertebrae that the scan shows, intact ones to be pressed
    ("HealthiVert_0007_vert_msk", slice(None), ("T11", "T12", "L5")),
    ("LIDC-IDRI-0001_totalseg_full", slice(5, 15), ("T7", "T8", "T9", "T11", "T12", "L1")),
    ("TS_example_ct_totalseg", slice(None), ("L1", "L2", "L3", "L5")),
)
KINDS = np.array([(0.5, 0.65, 0.97), (0.95, 0.5, 0.95), (0.5, 0.48, 0.55)])  # wedge, biconcave, crush


def drawn_case(seed: int) -> tuple[Path, Look, Fractures, slice]:
    """A map as it is (every sixth) or with one or two of its intact vertebrae pressed, and the look of its CT."""
    rng = np.random.default_rng(seed)
    name, span, intact = MAPS[seed % len(MAPS)]
    density = rng.uniform(40, 200)
    look = Look(
        spongiosa_hu=density,
        cortex_hu=250 + 2.2 * density + rng.normal(0, 40),
        slice_mm=(1.0, 2.0, 3.0, 1.5)[seed % 4],
        noise_hu=rng.uniform(8, 30),
        blur_mm=rng.uniform(0.4, 0.8),
        half_width_mm=(80.0, 175.0)[seed // 2 % 2],
        blood_hu=rng.choice([45.0, 180.0]),
    )
    pressed = rng.permutation(intact)[: 1 + seed % 2] if seed % 6 else []
    fractures = {level: tuple(np.clip(KINDS[rng.integers(3)] + rng.normal(0, 0.05), 0.4, 1)) for level in pressed}
    return MASKS / f"{name}.nii.gz", look, fractures, span


def main(count: int) -> None:
    """Analyse the cases, print every vertebra, then how many of the moderate or severe ones were called so."""
    models = load_models("cpu")
    rows: list[tuple[Measurement, Measurement | None]] = []
    false = 0
    for seed in range(count):
        path, look, fractures, span = drawn_case(seed)
        ct = painted_ct(path, seed, look, fractures, span)
        print(
            f"\n{ct.name}: pressed {', '.join(fractures) or 'none'}; {look.slice_mm} mm, noise {look.noise_hu:.0f}, "
            f"spongiosa {look.spongiosa_hu:.0f} HU, field {2 * look.half_width_mm:.0f} mm",
            flush=True,
        )
        levels, truth = measured(path, fractures, span)
        try:
            found = np.stack([v.keypoints for v in analyze(ct, models).vertebrae])
        except VFQError as error:
            print(error.code)
            found = np.zeros((0, 3, 2, 3))
        m, calls = match(found, truth), measure_column(found)
        partner = {j: i for i, j in m.pairs}
        for j, real in enumerate(measure_column(truth)):
            i = partner.get(j)
            rows.append((real, None if i is None else calls[i]))
            print(_line(levels[j], *rows[-1], None if i is None else found[i] - truth[j]))
        shapes = read_map(path)[0][span]  # a prediction on a vertebra cut by a border counts neither way
        cut = np.stack([s.center for s in shapes if s.level not in levels])
        away = centers(found[list(m.false)])[:, None] - Warp(shapes, fractures).to_target(cut)
        false += int((np.linalg.norm(away, axis=-1).min(1) > HALF_A_VERTEBRA_MM).sum())
    groups = {
        "moderate or severe": lambda t: t.grade in WORSE,
        "moderate or severe, clearly": lambda t: t.grade in WORSE and (t.genant_ratio < 0.72 or t.crush_ratio < 0.75),
        "normal": lambda t: t.grade == "normal",
        "normal, clearly (G > .85)": lambda t: t.grade == "normal" and t.genant_ratio > 0.85,
    }
    for name, belongs in groups.items():
        calls = [call for real, call in rows if belongs(real)]
        called = sum(call is not None and call.grade in WORSE for call in calls)
        print(f"{name}: {called} of {len(calls)} called moderate or worse")
    print(f"missed {sum(c is None for _, c in rows)} of {len(rows)}, false {false}")


def _line(level: str, real: Measurement, call: Measurement | None, error: np.ndarray | None) -> str:
    """One vertebra: true and measured ratio and grade, point error (mm) and its part along R, an arrow if wrong."""
    text = f"  {level:3s} G {real.genant_ratio:.2f} {real.grade:8s} {real.shape or '':9s} -> "
    if call is None or error is None:
        return text + "missed"
    text += f"{call.genant_ratio:.2f} {call.grade:8s} points {np.linalg.norm(error, axis=-1).mean():.1f} mm"
    wrong = (call.grade in WORSE) != (real.grade in WORSE)
    return text + f" (R {error[..., 0].mean():+.1f})" + " <--" * wrong


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
