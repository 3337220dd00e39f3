"""The trunk around the spine: skin, fat and muscle, and what lies outside: the couch and the arms.

A place is given relative to the spine at the same height: u mm to the right of it, v mm in front of it, and a
continuous level index (0 is C2, 1 is C3, ...). HU and distances in mm are torch tensors `(n,)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .anatomy import Anatomy
from .layers import Noise, over, table
from .scanner import AIR
from .surfaces import ellipse

# Width and depth of the trunk relative to the chest's, by level index: C2, C6, T1, T3, T8, L1, L3, S1, below S3.
TRUNK_LEVELS = (0, 4, 6, 8, 13, 18, 20, 23, 26)
TRUNK_WIDE = (0.40, 0.45, 0.85, 1.05, 1.0, 0.95, 0.92, 1.0, 1.05)
TRUNK_DEEP = (0.70, 0.62, 0.75, 0.95, 1.0, 1.0, 0.95, 0.95, 0.95)


@dataclass(frozen=True)
class Place:
    """Where points `(n, 3)` RAS mm lie in the trunk; all else is `(n,)`.

    `u`, `v` and `level` are as in the module's text; `wide` and `deep` are the half axes of the trunk there, `middle`
    is the v of its centre; all but `level` are in mm. `softness` (mm) is the blur of edges.
    """

    points: Tensor
    u: Tensor
    v: Tensor
    level: Tensor
    wide: Tensor
    deep: Tensor
    middle: Tensor
    softness: float


class Trunk:
    """The trunk's shape along the spine of one anatomy."""

    def __init__(self, anatomy: Anatomy, device: torch.device):
        self._soft = anatomy.soft
        self._low, self._step, columns = _spine_by_height(anatomy)
        self._table = torch.as_tensor(columns, dtype=torch.float32, device=device)

    def place(self, points: Tensor, softness: float) -> Place:
        """Return where `points` `(n, 3)` RAS mm lie in the trunk."""
        spine, level = self._at_height(points[:, 2])
        u, v = points[:, 0] - spine[:, 0], points[:, 1] - spine[:, 1]
        wide = self._soft["trunk_wide"] * table(level, TRUNK_LEVELS, TRUNK_WIDE)
        deep = self._soft["trunk_deep"] * table(level, TRUNK_LEVELS, TRUNK_DEEP)
        return Place(points, u, v, level, wide, deep, deep - self._soft["behind_spine"], softness)

    def _at_height(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x = ((z - self._low) / self._step).clamp(0, len(self._table) - 1.001)
        i = x.long()
        t = (x - i)[:, None]
        row = self._table[i] * (1 - t) + self._table[i + 1] * t
        beyond = (z - self._low) / self._step - x  # the level index continues above the head and below the sacrum
        return row[:, :2], row[:, 2] - beyond * self._step / 25.0


def _spine_by_height(anatomy: Anatomy) -> tuple[float, float, np.ndarray]:
    """Return the lowest S, the step (mm), and by height the spine's R, its A and the level index `(n, 3)`."""
    curve, arcs = anatomy.curve, anatomy.arcs
    order = np.argsort(curve.points[:, 2])
    s = curve.points[order, 2]
    z = np.arange(s[0], s[-1], 2.0)
    level = np.interp(np.arange(len(curve.points)) * curve.step, arcs, np.arange(len(arcs)))[order]
    columns = [np.interp(z, s, values) for values in (curve.points[order, 0], curve.points[order, 1], level)]
    return float(z[0]), 2.0, np.stack(columns, 1)


def paint_flesh(at: Place, anatomy: Anatomy, noise: Noise) -> Tensor:
    """Return the HU of air, couch, arms, fat and muscle."""
    soft, points, w = anatomy.soft, at.points, at.softness
    skin = ellipse(at.u, at.v - at.middle, at.wide, at.deep)
    hu = torch.full_like(at.u, AIR)
    hu = _couch_and_arms(hu, at, anatomy)
    hu = over(hu, skin, soft["fat_hu"] + 12 * noise(points, 25.0), w)
    muscle = soft["muscle_hu"] + 10 * noise(points, 18.0)
    streaks = torch.sigmoid(6 * (noise(points, 5.0) - 1.5 + 1.5 * soft["muscle_fat"]))
    muscle = muscle + (soft["fat_hu"] - muscle) * streaks * 0.8
    return over(hu, skin + soft["fat"], muscle, w)


def _couch_and_arms(hu: Tensor, at: Place, anatomy: Anatomy) -> Tensor:
    soft, r = anatomy.soft, np.random.default_rng(anatomy.seed + 2)
    u, v, w = at.u, at.v, at.softness
    base = -soft["behind_spine"] - r.uniform(15, 45) + r.uniform(0, 0.0006) * u**2
    if r.random() < 0.75:
        hu = over(hu, (v - base).abs() - r.uniform(1, 4), torch.full_like(u, r.uniform(-200, 300)), w)
        hu = over(hu, (v - base + 25).abs() - 22, torch.full_like(u, r.uniform(-990, -800)), w)
    if not soft["arms_up"]:
        for side in (1, -1):
            arm = torch.hypot(u - side * (soft["trunk_wide"] + 50), v - 30) - 42
            arm = torch.maximum(arm, (6 - at.level) * 14)
            hu = over(hu, arm, torch.full_like(u, soft["muscle_hu"]), w)
            hu = over(hu, arm + 31, torch.full_like(u, 900.0), w)
            hu = over(hu, arm + 35, torch.full_like(u, 60.0), w)
    return hu
