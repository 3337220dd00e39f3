"""Organs of chest and abdomen: lungs, heart, vessels, airways, bowel, psoas; painted over the trunk's HU.

Places are those of `trunk.Place`; HU and signed distances in mm are torch tensors `(n,)`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .anatomy import Anatomy
from .layers import Noise, over, table
from .scanner import AIR
from .surfaces import ellipse
from .trunk import Place

# Size of the lungs relative to their largest, by level, T1 to L1.
LUNG_LEVELS = (5.5, 7, 9, 13, 16, 18.2)
LUNG_SIZE = (0.0, 0.5, 0.9, 1.0, 0.95, 0.0)
# Least and greatest u (mm) from which on lung lies beside the spine, by v: mm in front of the bodies' middle.
GUTTER_V = (-34.0, -18.0, -8.0, 4.0, 14.0, 26.0, 45.0)
GUTTER_U = ((60, 90), (34, 52), (22, 32), (16, 22), (12, 20), (8, 20), (8, 25))


class Blob(NamedTuple):
    """An ellipsoid of one density: its centre, its radii along u, v and S in mm, and its HU."""

    level: float
    u: float
    v: float
    ru: float
    rv: float
    rz: float
    hu: float


def draw_blobs(r: np.random.Generator, soft: dict[str, float]) -> list[Blob]:
    """Draw organs, vessels and bowel."""
    deep, wide = soft["trunk_deep"], soft["trunk_wide"]
    blobs = [
        Blob(15.5, wide * 0.45, deep * 0.9, wide * 0.42, deep * 0.6, 75.0, soft["organ_hu"]),
        Blob(16.5, -wide * 0.55, deep * 0.5, 35.0, 40.0, 50.0, soft["organ_hu"] * 0.9),
        Blob(19.0, wide * 0.42, 5.0, 27.0, 30.0, 52.0, soft["organ_hu"] * 1.1),
        Blob(18.5, -wide * 0.42, 5.0, 27.0, 30.0, 52.0, soft["organ_hu"] * 1.1),
        Blob(11.5, -15.0, 38 + r.uniform(15, 60), 55.0, r.uniform(28, 45), 50.0, soft["heart_hu"]),
        Blob(
            10.5,
            r.uniform(-20, 20),
            18 + r.uniform(12, 40),
            r.uniform(20, 40),
            r.uniform(12, 28),
            25.0,
            soft["blood_hu"],
        ),
    ]
    for _ in range(int(r.integers(0, 6))):  # chambers of the heart and great vessels, bright with contrast
        place = (r.uniform(7.5, 14), r.uniform(-45, 40), 22 + r.uniform(12, 90))
        blobs.append(Blob._make((*place, *r.uniform(9, 34, 3), soft["heart_hu"] * r.uniform(0.7, 1.3))))
    for _ in range(int(r.integers(0, 7))):  # bright objects outside the spine: vessels, bowel contrast, tubes
        place = (r.uniform(5, 28), r.uniform(-0.8, 0.8) * wide, r.uniform(25, 1.6 * deep))
        blobs.append(Blob._make((*place, *r.uniform(5, 30, 3), r.uniform(100, 900))))
    for _ in range(16):  # bowel, some of it with gas
        gas = r.random() < 0.35
        hu = r.uniform(-950, -500) if gas else r.uniform(-60, 90)
        size = r.uniform(8, 28)
        place = (r.uniform(17, 26), r.uniform(-0.7, 0.7) * wide, r.uniform(40, 1.5 * deep))
        blobs.append(Blob(*place, size, size * r.uniform(0.6, 1.4), size * r.uniform(0.6, 2), hu))
    return blobs


def paint_organs(hu: Tensor, at: Place, anatomy: Anatomy, noise: Noise, blobs: list[Blob]) -> Tensor:
    """Return `hu` with lungs, psoas, `blobs` and large vessels and airways laid over it."""
    soft, points, w = anatomy.soft, at.points, at.softness
    cavity = ellipse(at.u, at.v - at.middle - 8, 0.86 * at.wide - soft["fat"], 0.80 * at.deep - soft["fat"])
    belly = torch.maximum(cavity, (16.5 - at.level) * 12)
    hu = over(hu, torch.maximum(belly, 14.0 - at.v), soft["fat_hu"] + 45 * noise(points, 14.0).abs(), 1.5)
    hu = _lungs(hu, at, anatomy, noise, cavity)
    hu = _psoas(hu, at, anatomy, noise)
    inner = ellipse(at.u, at.v - at.middle, at.wide, at.deep) + 4.0
    for lvl, bu, bv, ru, rv, rz, value in blobs:
        q = ((at.u - bu) / ru) ** 2 + ((at.v - bv) / rv) ** 2 + ((at.level - lvl) * 24 / rz) ** 2
        blob = torch.maximum((q.sqrt() - 1) * min(ru, rv, rz), inner)
        hu = over(hu, blob, value + 8 * noise(points, 7.0), max(w, 0.7))
    return _airways(_vessels(hu, at, anatomy, noise), at, anatomy)


def _lungs(hu: Tensor, at: Place, anatomy: Anatomy, noise: Noise, cavity: Tensor) -> Tensor:
    soft, r = anatomy.soft, np.random.default_rng(anatomy.seed + 1)
    u, v, level, edge = at.u, at.v, at.level, max(at.softness, 0.7)
    size = table(level, LUNG_LEVELS, LUNG_SIZE).clamp_min(1e-3)
    lung_hu = soft["lung_hu"] + 40 * noise(at.points, 9.0)
    vessels = torch.sigmoid(9 * (noise(at.points, 6.0) - 1.1))
    lung_hu = lung_hu + vessels * (soft["blood_hu"] - lung_hu)
    reach, back = r.uniform(0.36, 0.47), r.uniform(-0.05, 0.05)
    apex = r.uniform(5.6, 6.9)
    for side in (1, -1):
        off = side * at.wide * r.uniform(0.42, 0.5)
        lung = ellipse(u - off, v - at.middle - back * at.deep, reach * at.wide * size, 0.78 * at.deep * size)
        lung = torch.maximum(lung, (apex - level) * 14)
        hu = over(hu, lung, lung_hu, edge)
    return over(hu, torch.maximum(_gutters(r, u, v, level), cavity), lung_hu, edge)


def _gutters(r: np.random.Generator, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
    """Return the distance to the parts of the lungs beside the bodies of T2 to T11 or T12.

    Muscle and ribs keep them away from the midline behind; in front of the body they come close to each other.
    """
    upper, lower = (r.uniform(5.8, 7.1) - level) * 20, (level - r.uniform(16.3, 18.6)) * 20
    belt = torch.maximum(torch.maximum(upper, lower), v - 60)
    sides = [u * side - table(v, GUTTER_V, tuple(r.uniform(low, high) for low, high in GUTTER_U)) for side in (1, -1)]
    return torch.maximum(-torch.maximum(*sides) * 0.8, belt)


def _psoas(hu: Tensor, at: Place, anatomy: Anatomy, noise: Noise) -> Tensor:
    """Paint the fat behind the peritoneum, and in it the psoas, which begins at T12 and grows downward."""
    soft, r = anatomy.soft, np.random.default_rng(anatomy.seed + 6)
    u, v, level = at.u, at.v, at.level
    beside = torch.maximum(torch.maximum((v + 5).abs() - 20, u.abs() - 85), (18.0 - level) * 20)
    hu = over(hu, beside, soft["fat_hu"] + 30 * noise(at.points, 14.0).abs(), 1.5)
    grown = ((level - r.uniform(16.3, 17.2)) / r.uniform(3.5, 5.0)).clamp(0.05, 1.2)
    size = r.uniform(12, 24) * grown
    muscle = ellipse(u.abs() - r.uniform(19, 23) - 4 * grown - 0.8 * size, v + 4, size, size * r.uniform(0.9, 1.4))
    muscle = torch.maximum(muscle, (17.3 - level) * 20)
    return over(hu, muscle, soft["muscle_hu"] + 8 * noise(at.points, 18.0), 1.0)


def _vessels(hu: Tensor, at: Place, anatomy: Anatomy, noise: Noise) -> Tensor:
    """Paint the aorta from T4 to L4 and the vena cava.

    The aorta lies at the left of T5 and in front of T12.
    """
    soft, u, v, level, w = anatomy.soft, at.u, at.v, at.level, at.softness
    front = _front(level)
    radius = soft["aorta_r"] * torch.clamp(1.35 - level / 40, 0.6, 1.2)
    lower = ((level - 10) / 7).clamp(0, 1)
    angle = soft["aorta_left"] * (1 - lower) + soft["aorta_front"] * lower
    away = front + 1 + radius + soft["aorta_gap"]
    aorta = torch.hypot(u + away * torch.sin(angle), v - away * torch.cos(angle)) - radius
    aorta = torch.maximum(aorta, (torch.abs(level - 15) - 6.5) * 20)
    hu = over(hu, aorta - 1.2, torch.full_like(hu, 40.0), w)
    hu = over(hu, aorta, soft["blood_hu"] + 6 * noise(at.points, 6.0), w)
    if soft["calcified"]:
        plaque = torch.maximum(aorta.abs() - 1.0, 1.6 - noise(at.points, 7.0) * 2)
        hu = over(hu, plaque, torch.full_like(hu, 700.0), w)
    cava = torch.hypot((u - 18) / 1.2, v - front - 12) - 9
    cava = torch.maximum(cava, (torch.abs(level - 19.5) - 3.5) * 20)
    return over(hu, cava, torch.full_like(hu, 0.8 * soft["blood_hu"] + 10), w)


def _airways(hu: Tensor, at: Place, anatomy: Anatomy) -> Tensor:
    """Paint the trachea; kyphosis moves the spine away from it."""
    ahead = _front(at.level) + anatomy.soft["trachea_gap"] + 3.2 * (at.level - 4).clamp(0, 7)
    trachea = torch.hypot(at.u - 3, at.v - ahead) - 8
    trachea = torch.maximum(trachea, (torch.abs(at.level - 5.5) - 4.5) * 16)
    hu = over(hu, trachea - 1.5, torch.full_like(hu, 50.0), at.softness)
    return over(hu, trachea, torch.full_like(hu, AIR), at.softness)


def _front(level: Tensor) -> Tensor:
    """Return roughly how far the bodies' front lies in front of the curve, mm."""
    return 14 + 4 * torch.clamp((level - 6) / 6, 0, 1.5)
