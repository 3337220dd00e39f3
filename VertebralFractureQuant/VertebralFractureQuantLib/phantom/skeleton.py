"""The bones around the spine: ribs, sternum, shoulders, skull, jaw, pelvis and hips; painted over the trunk's HU.

Ribs near the spine belong to `posterior`. Places are those of `trunk.Place`; HU and signed distances in mm are torch
tensors `(n,)`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .anatomy import Anatomy
from .layers import bone_over, over
from .surfaces import capsule, ellipse
from .trunk import Place


def paint_skeleton(hu: Tensor, at: Place, anatomy: Anatomy) -> Tensor:
    """Return `hu` with all bones but the spine's laid over it."""
    hu = _rib_cage(hu, at, anatomy)
    hu = _shoulders(hu, at, anatomy)
    return _pelvis(_head(hu, at, anatomy), at, anatomy)


def _rib_cage(hu: Tensor, at: Place, anatomy: Anatomy) -> Tensor:
    """Paint the ribs, as twelve rings that descend towards the front, and the sternum."""
    r, soft = np.random.default_rng(anatomy.seed + 3), anatomy.soft
    u, v, w = at.u, at.v - at.middle, at.softness
    wide, deep = at.wide - soft["fat"] - 8, at.deep - soft["fat"] - 8
    wall = ellipse(u, v, wide, deep)
    angle = (1 + torch.cos(torch.atan2(u / wide, v / deep))) / 2  # 0 at the back, 1 in front
    fall = r.uniform(50, 110)
    ring = torch.full_like(u, 1e3)
    for body in anatomy.bodies:
        if body.level[0] == "T":
            number = int(body.level[1:])
            z = body.center[2] + 6 - fall * angle**1.2 * min(1.0, 0.35 + number / 8)
            lying = torch.hypot(wall, (at.points[:, 2] - z) / 1.5) - 4.2
            end = 1.0 if number <= 10 else 0.35  # floating ribs
            ring = torch.minimum(ring, torch.maximum(lying, (angle - end) * 60))
    ring = torch.maximum(ring, 45.0 - u.abs())  # beside the spine, `posterior` paints the ribs
    hu = bone_over(hu, ring, soft["rib_hu"] * 1.6 + 200, soft["rib_hu"] * 0.4, 1.3, w)
    sternum = torch.maximum((v - deep).abs() - 5, u.abs() - 18)
    sternum = torch.maximum(sternum, (torch.abs(at.level - 10) - 3.2) * 20)
    return bone_over(hu, sternum, 450.0, 80.0, 1.2, w)


def _shoulders(hu: Tensor, at: Place, anatomy: Anatomy) -> Tensor:
    """Paint the shoulders' flesh, humeral heads, shoulder blades and collar bones."""
    r, wide = np.random.default_rng(anatomy.seed + 5), anatomy.soft["trunk_wide"]
    u, v, w = at.u, at.v, at.softness
    high, across = r.uniform(5.0, 7.5), r.uniform(0.8, 1.05) * wide
    out = torch.stack([u.abs(), v, (at.level - high) * -18], 1)
    flesh = capsule(out, (across - 10, 5, -15), (across, 10, -60), 48.0)
    hu = over(hu, flesh, torch.full_like(u, anatomy.soft["muscle_hu"]), w)
    head = capsule(out, (across, 8, 0), (across, 8, -8), 23.0)
    collar = capsule(out, (15, 55, -22), (across - 20, 15, 12), 6.0)
    blade = torch.maximum(capsule(out, (0.45 * wide, -25, -75), (across - 25, -8, -10), 30.0), (v + 18).abs() - 5)
    bone = torch.minimum(torch.minimum(head, collar), blade)
    return bone_over(hu, bone, r.uniform(350, 900), r.uniform(60, 200), 2.0, w)


def _head(hu: Tensor, at: Place, anatomy: Anatomy) -> Tensor:
    r = np.random.default_rng(anatomy.seed + 4)
    u, v, w = at.u, at.v, at.softness
    top = anatomy.bodies[0].center + np.array([0, r.uniform(5, 35), r.uniform(85, 110)])
    d = at.points - at.points.new_tensor(top)
    skull = (torch.sqrt((d[:, 0] / 72) ** 2 + (d[:, 1] / 92) ** 2 + (d[:, 2] / 80) ** 2) - 1) * 75
    hu = over(hu, skull - 6, torch.full_like(u, 20.0), w)
    hu = bone_over(hu, skull, 1000.0, 35.0, 5.0, w)
    jaw = (torch.hypot(u / 48, (v - 55) / 48) - 1).abs() * 48 - 5
    jaw = torch.maximum(torch.maximum(jaw, 45 - v), (torch.abs(at.level - 1.0) - 0.8) * 18)
    return bone_over(hu, jaw, 1100.0, 400.0, 2.0, w)


def _pelvis(hu: Tensor, at: Place, anatomy: Anatomy) -> Tensor:
    """Paint the iliac wings, and the hip joints with the thighs."""
    u, v, w = at.u, at.v, at.softness
    for side in (1, -1):
        x, y = (u - side * 85) * np.cos(0.6) - side * (v - 5) * np.sin(0.6), (v - 5) * np.cos(0.6)
        y = y + side * (u - side * 85) * np.sin(0.6)
        wing = torch.maximum(x.abs() - 5.5, y.abs() - 62)
        wing = torch.maximum(wing, (21.6 - at.level) * 24)
        hu = bone_over(hu, wing, 600.0, 130.0, 1.5, w)
    for side in (1, -1):
        hip = at.points - at.points.new_tensor((0.0, 0.0, anatomy.bodies[-1].center[2] - 75.0))
        head = torch.sqrt((u - side * 88) ** 2 + (v - 35) ** 2 + hip[:, 2] ** 2) - 24
        seat = torch.sqrt((u - side * 60) ** 2 + ((v - 10) / 1.3) ** 2 + ((hip[:, 2] + 25) / 1.6) ** 2) - 22
        shaft = torch.maximum(torch.hypot(u - side * 115, v - 25) - 16, hip[:, 2] + 10)
        hu = bone_over(hu, torch.minimum(torch.minimum(head, seat), shaft), 700.0, 180.0, 2.5, w)
    return hu
