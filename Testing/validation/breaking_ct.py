"""Breaking of real CT: the vertebrae of a scan with a reference become wedges, biconcaves and crushes, in 3D.

The scan's own texture is pressed together; the disc follows a sunken endplate; everything above a fractured vertebra
follows rigidly, so a wedge makes a kyphosis. No code is shared with the fractures that the networks learn from. Points
are RAS mm; frames have the rows right, anterior, up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from VertebralFractureQuantLib.imaging.ct import CTVolume, from_array

AROUND_MM, BESIDE_MM = 60.0, 45.0  # what is kept around the curve, in front and behind, and to the sides
NARROW_MM = 26.0  # half of the width over which an endplate sinks


@dataclass(frozen=True, eq=False)
class Press:
    """The map from a fractured vertebra, and everything above it, to the intact one.

    Attributes
    ----------
    center, frame : `(3,)` and `(3, 3)` of the intact body.
    corners : `(3, 2, 2)` its key points (anterior, up) in the frame.
    left : shares of the height that remain in front, in the middle and behind.
    upper : share of the depression that is the upper endplate's.
    power, deepest : shape of the depression, 1 is a V, and its place, from -1 behind to 1 in front.
    discs : `(2,)` distances to the neighbours' endplates above and below.
    """

    center: np.ndarray
    frame: np.ndarray
    corners: np.ndarray
    left: tuple[float, float, float]
    upper: float
    power: float
    deepest: float
    discs: tuple[float, float]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return where points `(n, 3)` of the broken spine are in the intact one."""
        local = (points - self.center) @ self.frame.T
        front, back = self.corners[0], self.corners[2]
        new_front = front[1] + self.left[0] * (front[0] - front[1])
        new_back = back[1] + self.left[2] * (back[0] - back[1])
        was, now = front[0] - back[0], new_front - new_back
        turn = np.arctan2(was[1], was[0]) - np.arctan2(now[1], now[0])
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        flat = local[:, 1:]
        low = _height(flat[:, 0], back[1], front[1])
        share = np.clip((flat[:, 1] - low) / np.maximum(_height(flat[:, 0], new_back, new_front) - low, 2.5), 0, 1)
        flat = flat + share[:, None] * ((flat - new_back) @ rotation + back[0] - flat)
        low, high = _height(flat[:, 0], back[1], front[1]), _height(flat[:, 0], back[0], front[0])
        middle = (low + high) / 2
        half = np.maximum((high - low) / 2, 3.0)
        rim = (self.left[0] + self.left[2]) / 2
        tall = np.linalg.norm(self.corners[1, 0] - self.corners[1, 1])
        sunk = max(0.0, 1 - self.left[1] / rim) * tall
        dent = self._dent(flat[:, 0], local[:, 0]) * sunk
        for up, part, disc in ((1, self.upper, self.discs[0]), (-1, 1 - self.upper, self.discs[1])):
            depth = np.minimum(part * dent, 0.9 * half)
            away = up * (flat[:, 1] - middle)
            inner = away * depth / np.maximum(half - depth, 0.5)
            outer = depth * (half + disc - away) / (disc + depth)
            flat[:, 1] += np.where(away > 0, up * np.clip(np.minimum(inner, outer), 0, None), 0)
        return np.concatenate([local[:, :1], flat], 1) @ self.frame + self.center

    def _dent(self, ahead: np.ndarray, aside: np.ndarray) -> np.ndarray:
        """Return the depth of the depression, 0 at the rim to 1."""
        back, front = self.corners[2, :, 0].mean(), self.corners[0, :, 0].mean()
        t = (ahead - back) / (front - back) * 2 - 1 - self.deepest
        t = t / np.where(t < 0, 1 + self.deepest, 1 - self.deepest)
        return np.clip(1 - np.abs(t) ** self.power, 0, 1) * np.clip(1 - (aside / NARROW_MM) ** 4, 0, 1)


def _height(a: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    return start[1] + (a - start[0]) * (end[1] - start[1]) / (end[0] - start[0])


def draw_presses(rng: np.random.Generator, keypoints: np.ndarray, share: float) -> list[Press]:
    """Draw fractures of about this `share` of the vertebrae `(n, 3, 2, 3)`, cranial first."""
    presses = []
    for i in np.flatnonzero(rng.random(len(keypoints)) < share):
        points = keypoints[i]
        up = (points[:, 0] - points[:, 1]).mean(0)
        up /= np.linalg.norm(up)
        ahead = points[0].mean(0) - points[2].mean(0)
        ahead -= (ahead @ up) * up
        ahead /= np.linalg.norm(ahead)
        frame = np.stack([np.cross(ahead, up), ahead, up])
        center = points.mean((0, 1))
        gaps = [
            np.linalg.norm(keypoints[j, 1, 1 - e] - points[1, e]) if 0 <= j < len(keypoints) else 5.0
            for j, e in ((i - 1, 0), (i + 1, 1))
        ]
        presses.append(
            Press(
                center, frame, ((points - center) @ frame.T)[..., 1:], _draw_left(rng), float(rng.uniform(0, 1)),
                float(rng.choice([1.0, 2.0, 3.5])), float(np.clip(rng.normal(0, 0.25), -0.5, 0.5)),
                (max(1.0, gaps[0]), max(1.0, gaps[1])),
            )
        )  # fmt: skip
    return presses


def _draw_left(rng: np.random.Generator) -> tuple[float, float, float]:
    low = rng.uniform(0.38, 0.85)
    kind = rng.integers(4)
    if kind == 0:
        return low, (1 + low) / 2 * rng.uniform(0.85, 1.0), rng.uniform(0.95, 1.0)
    if kind in (1, 2):
        return rng.uniform(0.9, 1.0), low, rng.uniform(0.92, 1.0)
    return low * rng.uniform(0.9, 1.1), low * rng.uniform(0.85, 1.0), low * rng.uniform(1.0, 1.2)


def to_target(presses: list[Press]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from points `(n, 3)` of the intact spine to those of the broken one, by iteration."""

    def moved(points: np.ndarray) -> np.ndarray:
        target = np.array(points, float)
        for _ in range(200 * bool(presses)):
            target += 0.3 * (points - _to_source(presses, target))
        return target

    return moved


def _to_source(presses: list[Press], points: np.ndarray) -> np.ndarray:
    for press in reversed(presses):  # caudal first: each one moves everything above it
        points = press(points)
    return points


def broken_ct(
    ct: CTVolume, curve: np.ndarray, keypoints: np.ndarray, presses: list[Press], denser: float, name: str
) -> tuple[CTVolume, np.ndarray]:
    """Return the part of a CT around its `curve` `(k, 3)` with fractures, and its key points `(n, 3, 2, 3)`."""

    target = to_target(presses)(keypoints.reshape(-1, 3))
    low, high = np.minimum(curve.min(0), target.min(0)), np.maximum(curve.max(0), target.max(0))
    grow = (BESIDE_MM, AROUND_MM, 0.0)
    ijk = np.array(np.meshgrid(*np.stack([low - grow, high + grow], 1))).reshape(3, -1).T
    ijk = ijk @ ct.ras_to_ijk[:3, :3].T + ct.ras_to_ijk[:3, 3]
    last = np.array(ct.voxels.shape[::-1])
    start, stop = np.maximum(np.floor(ijk.min(0)), 0).astype(int), np.minimum(np.ceil(ijk.max(0)) + 1, last).astype(int)
    to_ras = ct.ijk_to_ras.copy()
    to_ras[:3, 3] += to_ras[:3, :3] @ start
    i, j, k = (np.arange(b - a) for a, b in zip(start, stop, strict=True))
    grid = np.stack(np.meshgrid(k, j, i, indexing="ij"), -1)[..., ::-1].reshape(-1, 3)
    points = grid @ to_ras[:3, :3].T + to_ras[:3, 3]
    source = np.concatenate(
        [_to_source(presses, part) for part in np.array_split(points, max(1, len(points) // 500_000))]
    )
    hu = ct.sample(source).reshape(len(k), len(j), len(i))
    if presses:
        up = source.reshape(*hu.shape, 3)
        pressed = np.linalg.norm(np.gradient(up, axis=0), axis=-1) / np.linalg.norm(to_ras[:3, 2]) - 1
        bone = ndimage.gaussian_filter((hu > 60).astype(np.float32), 1.0)
        hu += np.clip(hu + 80, 0, 700) * np.clip(pressed, 0, 1.5) * denser * bone
    voxels = np.clip(hu, -1024, 3071).round().astype(np.int16)
    return from_array(voxels, to_ras, name), target.reshape(keypoints.shape)


def rescanned(ct: CTVolume, rng: np.random.Generator, slices_mm: float, noise_hu: float) -> CTVolume:
    """Return the CT with slices of about `slices_mm`, each the mean of the originals, and more noise."""
    step = max(1, round(slices_mm / ct.spacing_mm[0]))
    count = len(ct.voxels) // step
    thick = ct.voxels[: count * step].reshape(count, step, *ct.voxels.shape[1:]).mean(1)
    thick += noise_hu * ndimage.gaussian_filter(rng.standard_normal(thick.shape), (0, 0.7, 0.7)) * 2.2
    to_ras = ct.ijk_to_ras.copy()
    to_ras[:3, 3] += to_ras[:3, 2] * (step - 1) / 2
    to_ras[:3, 2] *= step
    return from_array(np.clip(thick, -1024, 3071).round().astype(np.int16), to_ras, ct.name)
