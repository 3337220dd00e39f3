"""Print the figures of real CT that was made worse, compared with our references.

    python Testing/validation/worsened.py DATA_FOLDER [limits [CASE ...]]

It shows whether vertebrae are lost when scans are brighter, noisier, tilted, thicker sliced or cropped, which a few
scans as they are cannot show. The Genant ratio of a vertebra should not depend on these alterations; its points may, as
a turned patient has another sagittal plane. With `limits`, slices are averaged up to 20 mm, and intensities clipped, of
all scans that have a reference, or of those whose names begin with a CASE: a table that shows from where a height is
not worth telling. Voxels are `[k, j, i]` HU, points RAS mm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from validate import Case, references
from VertebralFractureQuantLib.analysis import Models, analyze, load_models, pipeline
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import is_partial, match
from VertebralFractureQuantLib.evaluation.scans import ratios_of
from VertebralFractureQuantLib.imaging.checks import check_intensities
from VertebralFractureQuantLib.imaging.ct import CTVolume, inside
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.phantom.implant import ROD_MM, SCREW_MM
from VertebralFractureQuantLib.phantom.metal import TITANIUM_HU, metal_artefact
from VertebralFractureQuantLib.phantom.surfaces import capsule
from VertebralFractureQuantLib.spine.genant import MODERATE
from VertebralFractureQuantLib.spine.keypoints import centers
from VertebralFractureQuantLib.spine.reference import read_reference

FEWEST_IN_VIEW = 2
SCREWED = 3  # vertebrae
# From a CT and its key points `(n, 3, 2, 3)` to the altered CT and the matrix `(3, 3)` that turned the patient.
Alteration = Callable[[CTVolume, np.ndarray], tuple[CTVolume, np.ndarray]]


def intensities(change: Callable[[np.ndarray], np.ndarray]) -> Alteration:
    """Return the alteration that changes the HU of the voxels."""
    return lambda ct, _: (_with(ct, change(ct.voxels.astype(np.float32))), np.eye(3))


def noise(sd: float) -> Alteration:
    """Return the alteration that adds noise with a standard deviation of `sd` HU."""
    return intensities(lambda hu: hu + np.random.default_rng(0).normal(0, sd, hu.shape))


def sharpened(amount: float) -> Alteration:
    """Return the alteration that enhances edges in the slices."""
    return intensities(lambda hu: hu + amount * (hu - gaussian_filter(hu, (0, 1.2, 1.2))))


def moved(matrix: np.ndarray) -> Alteration:
    """Return the alteration that turns, mirrors or scales the patient."""

    def alter(ct: CTVolume, _: np.ndarray) -> tuple[CTVolume, np.ndarray]:
        whole = np.eye(4)
        whole[:3, :3] = matrix
        return CTVolume(ct.voxels, whole @ ct.ijk_to_ras, ct.name), matrix

    return alter


def turned(axis: int, degrees: float) -> Alteration:
    """Return the alteration that turns the patient about R (axis 0, forward), A (1, to the side) or S (2)."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.roll([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], (axis, axis), (0, 1))
    return moved(matrix)


def thick_slices(mm: float) -> Alteration:
    """Return the alteration that averages the planes across the body's long axis to a thickness of about `mm`."""

    def alter(ct: CTVolume, _: np.ndarray) -> tuple[CTVolume, np.ndarray]:
        column = int(np.abs(ct.ijk_to_ras[2, :3]).argmax())
        planes = np.moveaxis(ct.voxels, 2 - column, 0)
        n = max(1, round(mm / float(np.linalg.norm(ct.ijk_to_ras[:3, column]))))
        count = len(planes) // n
        averaged = planes[: count * n].reshape(count, n, *planes.shape[1:]).mean(1)
        matrix = ct.ijk_to_ras.copy()
        matrix[:3, 3] += matrix[:3, column] * (n - 1) / 2
        matrix[:3, column] *= n
        return _with(ct, np.moveaxis(averaged, 0, 2 - column), matrix), np.eye(3)

    return alter


def part(low: float, high: float, axis: int = 0) -> Alteration:
    """Return the alteration that keeps the voxels from `low` to `high`, as shares, along `axis` of `[k, j, i]`."""

    def alter(ct: CTVolume, _: np.ndarray) -> tuple[CTVolume, np.ndarray]:
        first, last = (int(share * ct.voxels.shape[axis]) for share in (low, high))
        matrix = ct.ijk_to_ras.copy()
        matrix[:3, 3] += matrix[:3, 2 - axis] * first
        return _with(ct, ct.voxels.take(range(first, last), axis), matrix), np.eye(3)

    return alter


def stabilised(ct: CTVolume, keypoints: np.ndarray) -> tuple[CTVolume, np.ndarray]:
    """Put titanium screws into the middle vertebrae and rods behind them, with their artefacts in the slices."""
    first = (len(keypoints) - SCREWED) // 2
    implant = _implant(keypoints[max(0, first) :][:SCREWED])
    generator = torch.Generator().manual_seed(0)
    voxels = torch.as_tensor(ct.voxels.astype(np.float32))
    j, i = np.indices(ct.voxels.shape[1:])
    for k, plane in enumerate(voxels):
        within = [np.stack([i, j, 0 * i + k + part, 0 * i + 1], -1) @ ct.ijk_to_ras[:3].T for part in (-0.3, 0.0, 0.3)]
        share = torch.stack([_held(implant, points) for points in within]).mean(0)
        plane += share * (TITANIUM_HU - plane)
        plane += metal_artefact(plane, ct.spacing_mm[1], generator)
    return _with(ct, voxels.clamp_max(3071).numpy()), np.eye(3)


def _implant(keypoints: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return capsules (start, end, radius), RAS mm: two screws through each vertebra's pedicles, and two rods."""
    parts, heads = [], []
    for points in keypoints:
        back, front = points[2].mean(0), points[0].mean(0)
        up, ahead = points[:, 0].mean(0) - points[:, 1].mean(0), front - back
        across = np.cross(ahead, up) / np.linalg.norm(np.cross(ahead, up))
        behind = back + 0.2 * up - 26 * ahead / np.linalg.norm(ahead)
        parts += [(behind + side * 17 * across, back + 0.7 * ahead + side * 6 * across, SCREW_MM) for side in (1, -1)]
        heads.append([behind + side * 17 * across for side in (1, -1)])
    for upper, lower in zip(heads, heads[1:], strict=False):
        parts += [(start, end, ROD_MM) for start, end in zip(upper, lower, strict=True)]
    return parts


def _held(implant: list[tuple[np.ndarray, np.ndarray, float]], points: np.ndarray) -> torch.Tensor:
    """Return 1 where a point `(j, i, 3)` is in the metal, else 0."""
    x = torch.as_tensor(points.reshape(-1, 3), dtype=torch.float32)
    distance = torch.stack([capsule(x, tuple(start), tuple(end), radius) for start, end, radius in implant]).amin(0)
    return distance.lt(0).float().reshape(points.shape[:2])


def _with(ct: CTVolume, voxels: np.ndarray, matrix: np.ndarray | None = None) -> CTVolume:
    whole = np.clip(np.rint(voxels), -32768, 32767).astype(np.int16)
    return CTVolume(np.ascontiguousarray(whole), ct.ijk_to_ras if matrix is None else matrix, ct.name)


ALTERATIONS: dict[str, Alteration] = {
    "as it is": moved(np.eye(3)),
    **{f"noise of {sd} HU": noise(sd) for sd in (40, 60, 80)},
    **{f"sharpened by {amount}": sharpened(amount) for amount in (0.7, 1.5)},
    "blurred by 1.5 voxels": intensities(lambda hu: gaussian_filter(hu, (0, 1.5, 1.5))),
    **{f"{hu:+d} HU": intensities(lambda x, hu=hu: x + hu) for hu in (-60, 60)},  # type: ignore[misc]
    **{f"contrast times {c}": intensities(lambda x, c=c: x * c) for c in (0.85, 1.2)},  # type: ignore[misc]
    **{f"turned by {d} about S": turned(2, d) for d in (15, -25)},
    **{f"tilted by {d} to the side": turned(1, d) for d in (12, -12, 20, -20)},
    **{f"bent by {d} forward": turned(0, d) for d in (15, -15, 25, -25)},
    **{f"{size} times the size": moved(size * np.eye(3)) for size in (0.75, 0.85, 1.15, 1.3)},
    "mirrored": moved(np.diag([-1.0, 1.0, 1.0])),
    **{f"slices of {mm} mm": thick_slices(mm) for mm in (4, 5, 7)},
    **{f"lowest {share:.0%}": part(0, share) for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)},
    **{f"uppermost {1 - share:.0%}": part(share, 1) for share in (0.2, 0.4, 0.55, 0.7)},
    **{f"middle {high - low:.0%}": part(low, high) for low, high in ((0.25, 0.75), (0.35, 0.65))},
    f"screws in {SCREWED} vertebrae": stabilised,
    **{f"{low:.0%} to {high:.0%} across": part(low, high, 2) for low, high in ((0, 0.66), (0.34, 1))},
}


def clipped(low: float, high: float) -> Alteration:
    """Return the alteration that clips HU to a window, as a conversion to 8 bits does."""
    return intensities(lambda hu: hu.clip(low, high))


def in_8_bits(low: float, high: float) -> Alteration:
    """Return the alteration that keeps 256 grey values of a window, placed at their HU."""
    step = (high - low) / 255
    return intensities(lambda hu: low + step * np.rint((hu.clip(low, high) - low) / step))


LIMITS: dict[str, Alteration] = {
    "as it is": moved(np.eye(3)),
    **{f"slices of {mm} mm": thick_slices(mm) for mm in (3, 4, 5, 6, 7, 8, 10, 12, 15, 20)},
    **{f"nothing above {hu} HU": clipped(-3000, hu) for hu in (1000, 600, 400, 300, 250, 200, 150)},
    **{f"nothing below {hu} HU": clipped(hu, 3071) for hu in (-200, -100, -50, 0)},
    **{f"8 bits from {a} to {b} HU": in_8_bits(a, b) for a, b in ((-1000, 1000), (-450, 1050), (-160, 240))},
}


def all_references(data: Path, names: tuple[str, ...]) -> Iterator[Case]:
    """Yield the CTs in `data` with our references there and in Testing/references, whose names begin so."""
    own = Path(__file__).resolve().parents[1] / "references"
    for path in sorted(own.glob("*.json")):
        reference = read_reference(path)
        if len(reference.keypoints) > 1 and reference.ct_file.startswith(names):
            ct = read_ct(data / "ct" / reference.ct_file)
            yield Case(ct.name, ct, reference.keypoints, list(reference.levels), reference.partial)
    yield from (case for case in references(data) if case.name.startswith(names))


def worsened(name: str, cases: Iterator[Case], models: Models, alter: Alteration) -> str:
    """Return one line on all scans that show two or more whole vertebrae after the alteration `alter`."""
    n, missed, false, right, wrong, doubted = 0, 0, 0, 0, 0, 0
    ratios, apart, refused = [], [], []
    for file, ct, truth, levels, partial in cases:
        worse, turn = alter(ct, truth)
        truth, partial = truth @ turn.T, partial @ turn.T
        whole = inside(worse, truth).all((1, 2))
        if whole.sum() < FEWEST_IN_VIEW:
            continue
        partial = np.concatenate([partial, centers(truth[~whole])])
        truth, levels = truth[whole], np.array(levels)[whole]
        n += len(truth)
        try:
            check_intensities(worse.voxels)
            analysis = analyze(worse, models)
        except VFQError as error:
            missed += len(truth)
            refused.append(f"{file}: {error.code}")
            continue
        doubted += bool(analysis.quality)
        found = np.stack([v.keypoints for v in analysis.vertebrae])
        matching = match(found, truth)
        missed += len(matching.missed)
        false += int((~is_partial(found, partial)[list(matching.false)]).sum())
        rows, columns = np.array(matching.pairs, int).reshape(-1, 2).T
        ratios.extend(zip(ratios_of(found[rows]), ratios_of(truth[columns]), strict=True))
        apart.extend(np.linalg.norm(found[rows] - truth[columns], axis=-1).mean((1, 2)))
        named = [(analysis.vertebrae[i].level, levels[j]) for i, j in matching.pairs]
        right += sum(name == level for name, level in named if level)
        wrong += sum(name not in (level, None) for name, level in named if level)
    measured, true = np.array(ratios).reshape(-1, 2).T
    called = int(((measured <= MODERATE) & (true > MODERATE)).sum())
    return (
        f"{name}: {n} vertebrae, missed {missed}, false {false}, points {np.mean(apart):.2f} mm, "
        f"|dG| {np.abs(measured - true).mean():.3f}, bias {(measured - true).mean():.3f}, called moderate {called}, "
        f"named right {right}, wrong {wrong}, scans with a flag {doubted} {' '.join(refused)}"
    )


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[2:3] not in ([], ["limits"]):
        sys.exit(__doc__)
    networks, source = load_models("cpu"), Path(sys.argv[1])
    if len(sys.argv) > 2:
        for check in ("check_slices", "check_range"):  # what they refuse is measured here
            setattr(pipeline, check, lambda _: None)
        for limit, alteration in LIMITS.items():
            print(
                worsened(limit, all_references(source, tuple(sys.argv[3:]) or ("",)), networks, alteration), flush=True
            )
    else:
        for altered, alteration in ALTERATIONS.items():
            print(worsened(altered, references(source), networks, alteration), flush=True)
