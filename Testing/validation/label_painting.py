"""Painting of a CT: tissue laid over the bones of a label map (`label_shapes`), with the effects of a scanner.

Points, axes and distances are in RAS mm; arrays are `[k, j, i]` HU; distances are negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from label_shapes import Organs, Shape, Warp
from scipy import ndimage
from scipy.interpolate import interp1d
from scipy.spatial import ConvexHull
from scipy.special import expit
from VertebralFractureQuantLib.imaging.ct import CTVolume, from_array

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]  # R, A and S of a grid's voxels


@dataclass(frozen=True)
class Look:
    """Properties of the tissue and the scan of one case, in HU and mm."""

    spongiosa_hu: float = 120.0
    cortex_hu: float = 550.0
    slice_mm: float = 1.0
    pixel_mm: float = 0.8
    noise_hu: float = 18.0
    blur_mm: float = 0.6
    half_width_mm: float = 80.0  # of the field of view; at 175 the whole trunk is visible
    blood_hu: float = 45.0


def paint(seed: int, shapes: list[Shape], organs: Organs | None, warp: Warp, look: Look, name: str) -> CTVolume:
    """Paint a CT that cuts the first vertebra in its middle and the last one lower, so that a steep L5 is whole."""
    rng = np.random.default_rng(seed)
    spine = warp.to_target(np.stack([s.center for s in shapes]))[::-1]
    (r, a, s), half, pixel = spine.T, look.half_width_mm, look.pixel_mm
    axes = (  # R and A descend, as in files from scanners
        np.arange(r.mean() + half, r.mean() - half, -pixel),
        np.arange(a.max() + half * 1.05, a.min() - min(half, 120), -pixel),
        np.arange(s[0] - 10, s[-1], look.slice_mm),
    )
    hu = _soft_tissue(rng, axes, spine, look, organs, warp)
    box = _box(axes, spine, 58)
    taps = max(1, round(look.slice_mm / 0.6))
    thin = (np.arange(taps) + 0.5) / taps - 0.5
    inner = (axes[0][box[2]], axes[1][box[1]], (axes[2][box[0]][:, None] + look.slice_mm * thin).ravel())
    fine = _with_spine(rng, np.repeat(hu[box], taps, axis=0), inner, shapes, warp, look)
    hu[box] = fine.reshape(-1, taps, *fine.shape[1:]).mean(1)  # the thickness of the slices is their distance
    hu = ndimage.gaussian_filter(hu, (0.25, look.blur_mm / pixel, look.blur_mm / pixel))
    grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0, 0.7, 0.7))
    hu += look.noise_hu * grain / grain.std()
    matrix = np.diag([-pixel, -pixel, look.slice_mm, 1.0])
    matrix[:3, 3] = [axis[0] for axis in axes]
    return from_array(np.clip(hu, -1024, 3071).round().astype(np.int16), matrix, name)


def _box(axes: Axes, points: np.ndarray, reach: float) -> tuple[slice, ...]:
    """Return the part `[k, j, i]` of a grid that is within `reach` of the points' extent."""
    spans = [np.flatnonzero((x > p.min() - reach) & (x < p.max() + reach)) for x, p in zip(axes, points.T, strict=True)]
    return tuple(slice(n[0], n[-1] + 1) for n in spans[::-1])


def _soft_tissue(
    rng: np.random.Generator, axes: Axes, spine: np.ndarray, look: Look, organs: Organs | None, warp: Warp
) -> np.ndarray:
    """Return everything but the spine, `[k, j, i]` HU, painted every 2.5 mm: the map's organs, or else an abdomen."""
    coarse = [np.arange(min(x) - 3, max(x) + 5, 2.5) for x in axes]
    z, a, r = np.meshgrid(*coarse[::-1], indexing="ij")
    u, v = (x - np.interp(z, spine[:, 2], spine[:, d]) for d, x in ((0, r), (1, a)))
    middle, half = [spine[:, 0].mean(), spine[:, 1].mean() + 35], [165.0, 112.0]
    if organs:
        values, spacing, origin = organs
        there = (warp.to_source(np.stack([r, a, z], -1)) - origin) / spacing
        real = ndimage.map_coordinates(values, np.moveaxis(there, -1, 0)[::-1], order=0, cval=-2000)
        limits = [np.percentile(x[real > -1500], (0.1, 99.9)) for x in (r, a)]
        middle, half = np.mean(limits, 1), np.ptp(limits, 1) / 2 + 22
    trunk = _ellipse(r - middle[0], a - middle[1], *half) + rng.uniform(12, 30)
    hu = _over(np.full(z.shape, -1000.0), abs(a - middle[1] + half[1] + 8) - 7, -850.0)  # the couch
    hu = _over(hu, trunk - 20, -105 + 12 * _texture(rng, z.shape, 4))
    hu = _over(hu, trunk, 52 + 10 * _texture(rng, z.shape, 2))
    hu = _over(hu, np.maximum(trunk + 14, 12 - v), -98 + 60 * (_texture(rng, z.shape, 3) > 1))
    muscle = 55 - 130 * (_texture(rng, z.shape, 0.9) > rng.uniform(1.2, 2.2))
    hu = _over(hu, _ellipse(abs(u) - 31, v + 46, 30, 21), muscle)
    if organs:
        hu = np.where(real > -1500, real + 10 * _texture(rng, z.shape, 1), hu)
    else:
        psoas = np.interp(z, spine[[0, -1], 2], (1.0, 0.1))
        hu = _over(hu, _ellipse(abs(u) - 26 - 14 * psoas, v - 2, 6 + 14 * psoas, 8 + 14 * psoas), muscle)
        for _ in range(60):  # bowel, some with gas
            at = rng.uniform((-110, 45, z.min()), (110, 120, z.max()))
            wide, deep, tall = rng.uniform(9, 26, 3)
            far = np.hypot(_ellipse(u - at[0], v - at[1], wide, deep) + wide, (z - at[2]) * wide / tall) - wide
            hu = _over(hu, far, rng.choice([-750.0, 35.0, 60.0, 110.0], p=[0.2, 0.4, 0.3, 0.1]))
        aorta = _ellipse(u + 12, v - 31, 11, 11)
        hu = _over(hu, aorta, look.blood_hu + 380.0 * (_texture(rng, z.shape, 3) > 1.4))  # calcified here and there
        hu = _over(hu, np.minimum(aorta + 1.5, _ellipse(u - 17, v - 29, 12, 9)), look.blood_hu)
    for d in range(3):
        hu = interp1d(coarse[2 - d], hu.astype(np.float32), axis=d)(axes[2 - d])
    return hu.astype(np.float32)


def _with_spine(
    rng: np.random.Generator, hu: np.ndarray, axes: Axes, shapes: list[Shape], warp: Warp, look: Look
) -> np.ndarray:
    """Return `hu` `[k, j, i]` with muscle, canal, discs and vertebrae laid over it."""
    z, a, r = np.meshgrid(*axes[::-1], indexing="ij")
    points = np.stack([r, a, z], -1)
    source = warp.to_source(points).astype(np.float32)
    bone, front, height = (np.full(hu.shape, x, np.float32) for x in (9, 9, 0))
    owner = np.full(hu.shape, -1, np.int8)
    for n, shape in enumerate(shapes):
        end = shape.end
        near = ((source > shape.origin) & (source < end)).all(-1)
        near[near] = shape.sample(source[near]) < bone[near]
        local = shape.local(source[near])
        bone[near], owner[near] = shape.sample(source[near]), n
        front[near], height[near] = local[..., 1] - shape.back, local[..., 2]
    slopes = np.gradient(bone, *(abs(x[1] - x[0]) for x in axes[::-1]))
    bone /= np.clip(np.sqrt(sum(g**2 for g in slopes)), 0.6, 3)  # compressed bone keeps a cortex of normal thickness
    hu = _with_canal(rng, hu, points, shapes, warp)
    for n in range(len(shapes) - 1):
        rims = [(owner == n + below) & (height * (2 * below - 1) > 6) for below in (0, 1)]
        rims = [rim & (abs(bone) < 0.8) & (front > 1) for rim in rims]
        if min(rim.sum() for rim in rims) > 30:
            box = _box(axes, points[rims[0] | rims[1]], 1)
            faces = ConvexHull(points[rims[0] | rims[1]]).equations
            far = np.max([points[box] @ f[:3] + f[3] for f in faces], axis=0)
            hu[box] = _over(hu[box], far + 0.8, rng.uniform(65, 115) + 8 * _texture(rng, far.shape, 3), 0.8)
    return _with_bone(rng, hu, bone, front, height, owner, look)


def _with_canal(
    rng: np.random.Generator, hu: np.ndarray, points: np.ndarray, shapes: list[Shape], warp: Warp
) -> np.ndarray:
    centers = warp.to_target(np.stack([s.canal for s in shapes[::-1] if s.canal is not None]))
    u, v = (points[..., d] - np.interp(points[..., 2], centers[:, 2], centers[:, d]) for d in (0, 1))
    hu = _over(hu, _ellipse(u, v + 14, 22, 26), 45 - 110 * (_texture(rng, u.shape, 3) > 1), 2.0)
    for wide, deep, value in ((11, 10, -55.0), (9, 7.5, 18.0), (5.5, 4.5, 40.0)):  # fat, fluid, cord
        hu = _over(hu, _ellipse(u, v, wide, deep), value, 0.8)
    return hu


def _with_bone(
    rng: np.random.Generator, hu: np.ndarray, bone: np.ndarray, front: np.ndarray, height: np.ndarray,
    owner: np.ndarray, look: Look,
) -> np.ndarray:  # fmt: skip
    """Paint vertebrae by their signed distance: cortex, endplates, and spongiosa that differs between bodies."""
    body = expit(front / 1.5)
    density = look.spongiosa_hu * rng.normal(1, 0.12, int(owner.max()) + 2)[owner]
    fine, patches, clouds, rough = (_texture(rng, hu.shape, mm / look.pixel_mm) for mm in (0.7, 3, 6, 4))
    core = density * body + (look.spongiosa_hu + 130) * (1 - body)
    core = core + (40 + look.spongiosa_hu) * (0.20 * fine + 0.12 * patches)
    core = core + (60 + 50 * clouds) * np.exp(np.minimum(bone, 0) / 2.0)
    core = core - 90 * np.exp(-((height / 2.5) ** 2) - ((front - 3) / 6) ** 2)  # the basivertebral vein
    cortex = look.cortex_hu * (1.3 - 0.3 * body) * (1 + 0.2 * rough)
    shell = 1.5 - 0.9 * body + 0.25 * body * (abs(height) > 7)
    return _over(hu, bone, cortex + expit(-(bone + shell) / 0.3) * (core - cortex), 0.45)


def _over(hu: np.ndarray, distance: np.ndarray, value: np.ndarray | float, softness: float = 1.2) -> np.ndarray:
    """Return `hu` with `value` laid over it where the distance (mm) is negative; edges are blurred by `softness` mm."""
    return hu + expit(-1.7 / softness * distance) * (value - hu)


def _ellipse(u: np.ndarray, v: np.ndarray, wide: np.ndarray | float, deep: np.ndarray | float) -> np.ndarray:
    """Return the approximate distance (mm) to an ellipse of these half axes."""
    return (np.hypot(u / wide, v / deep) - 1) * np.minimum(wide, deep)


def _texture(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Draw a random field of unit variance with a grain of `sigma` voxels; coarse grains are drawn on a coarse grid."""
    step = max(1, int(sigma))
    small = [n // step + 4 for n in shape]
    field = ndimage.gaussian_filter(rng.standard_normal(small, np.float32), sigma / step, mode="wrap")
    field = ndimage.zoom(field / field.std(), step, order=1) if step > 1 else field / field.std()
    return field[tuple(slice(n) for n in shape)]
