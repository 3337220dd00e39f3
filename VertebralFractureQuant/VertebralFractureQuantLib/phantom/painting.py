"""Painting an anatomy: Hounsfield units at any patient RAS points, and the exact key points of every body.

The patient is a function of position, built from implicit surfaces in torch: the same code paints a CT grid,
a straightened plane or a coarse volume, on a CPU or a GPU, without a mesh or a label map between.
A surface is a signed distance in mm, negative inside; `softness` (mm) is the blur with which it is laid over
what is below, so that thin cortex keeps its partial volume on coarse grids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .anatomy import COLUMN, ROUND_CORNER, SACRUM, SIZES, Anatomy, Body
from .metal import TITANIUM_HU
from .posterior import arch_distance, draw_build, draw_posterior
from .scanner import AIR, Protocol, visible_shift
from .surfaces import capsule, ellipse

# Width and depth of the trunk by level against the chest's, C2, C7, T1, T3, T8, L1, L3, S1, S3.
TRUNK_LEVELS = (0, 4, 6, 8, 13, 18, 20, 23, 26)
TRUNK_WIDE = (0.40, 0.45, 0.85, 1.05, 1.0, 0.95, 0.92, 1.0, 1.05)
TRUNK_DEEP = (0.70, 0.62, 0.75, 0.95, 1.0, 1.0, 0.95, 0.95, 0.95)
MIDDLE_BEHIND = 0.012  # readers set the middle point this share of the depth behind the middle
SHARE_OF_SHIFT = (1.0, 0.5, 1.0)  # at the middle readers follow the depression rather than its blurred flank
# How much denser than the bone behind them a body's superior and inferior endplate are at least: in slices of 2.5 mm
# the palest then stand out about as far as those of the references.
PALEST_PLATES_HU = (100.0, 250.0)
PALEST_WALLS_HU, PALEST_RING_HU = 60.0, 300.0  # and the walls, and the ring where both meet
COLLAR_BLUR_MM = 0.7
REACH_MM = 95.0  # no part of a vertebra, its discs and processes lies farther from its centre along an axis
RODS, SCREWED = ("T11", "T12", "L1", "L2", "L3"), ("T11", "T12", "L2", "L3")  # as L1 is stabilised where it broke
ROD_MM, SCREW_MM = 2.75, 2.8  # radii
GROWTHS_REACH_MM = 11.0  # osteophytes end so near to the body
# Extent of the lungs by level, T1 to L1.
LUNG_LEVELS = (5.5, 7, 9, 13, 16, 18.2)
LUNG_SIZE = (0.0, 0.5, 0.9, 1.0, 0.95, 0.0)
# From how far out lung lies beside the spine, least and most, by place in front of the bodies' middle; mm.
GUTTER_V = (-34.0, -18.0, -8.0, 4.0, 14.0, 26.0, 45.0)
GUTTER_U = ((60, 90), (34, 52), (22, 32), (16, 22), (12, 20), (8, 20), (8, 25))


class Painter:
    """Hounsfield units of one anatomy at any points; see the module's text."""

    def __init__(self, anatomy: Anatomy, device: str | torch.device = "cpu"):
        self.anatomy = anatomy
        self.device = torch.device(device)
        self._rng = np.random.default_rng(anatomy.seed)
        lattice = self._rng.standard_normal((33, 33, 33))
        lattice[-1], lattice[:, -1], lattice[..., -1] = lattice[0], lattice[:, 0], lattice[..., 0]  # no seam
        self._lattice = self._tensor(lattice)[None, None]
        self._column = self._column_table()
        self._blobs = self._draw_blobs()
        wide = np.mean([b.width / SIZES[b.level][3] for b in anatomy.bodies if b.level in SIZES])
        self._build = draw_build(self._rng, float(wide))
        self._posterior = {b.level: draw_posterior(self._rng, b, self._build) for b in anatomy.bodies}
        self._discs = self._rng.random((len(COLUMN), 4))

    def hounsfield(self, points: Tensor, softness: float = 0.4) -> Tensor:
        """HU `(n,)` at patient RAS points `(n, 3)`."""
        return self.skeleton(points, self.background(points, softness), softness)

    def background(self, points: Tensor, softness: float = 0.4) -> Tensor:
        """HU `(n,)` of everything but the spine."""
        soft, w = self.anatomy.soft, softness
        spine, level = self._at_height(points[:, 2])
        u, v = points[:, 0] - spine[:, 0], points[:, 1] - spine[:, 1]
        wide = soft["trunk_wide"] * _table(level, TRUNK_LEVELS, TRUNK_WIDE)
        deep = soft["trunk_deep"] * _table(level, TRUNK_LEVELS, TRUNK_DEEP)
        middle = deep - soft["behind_spine"]
        skin = ellipse(u, v - middle, wide, deep)
        hu = torch.full_like(u, AIR)
        hu = self._table_and_arms(hu, u, v, points[:, 2], level, wide, w)
        hu = _over(hu, skin, soft["fat_hu"] + 12 * self.noise(points, 25.0), w)
        muscle = soft["muscle_hu"] + 10 * self.noise(points, 18.0)
        streaks = torch.sigmoid(6 * (self.noise(points, 5.0) - 1.5 + 1.5 * soft["muscle_fat"]))
        muscle = muscle + (soft["fat_hu"] - muscle) * streaks * 0.8
        hu = _over(hu, skin + soft["fat"], muscle, w)
        hu = self._viscera(hu, points, u, v, level, wide, deep, middle, w)
        hu = self._ribs(hu, points, u, v - middle, level, wide - soft["fat"] - 8, deep - soft["fat"] - 8, w)
        hu = self._shoulders(hu, u, v, level, w)
        return self._head_and_pelvis(hu, points, u, v, level, w)

    def skeleton(self, points: Tensor, hu: Tensor, softness: float = 0.4) -> Tensor:
        """`hu` `(n,)` with discs, canal, vertebrae and what grows on them laid over it."""
        hu = hu.clone()
        low, high = (x.cpu().numpy() for x in (points.amin(0), points.amax(0)))
        close = [(i, b) for i, b in enumerate(self.anatomy.bodies) if _within_reach(b, low, high)]
        local = [self._select(points, body) for _, body in close]
        for (i, body), (index, rel) in zip(close, local, strict=True):
            if len(index):
                hu[index] = self._soft_column(hu[index], rel, body, i, softness)
        for (_, body), (index, rel) in zip(close, local, strict=True):
            if len(index):
                hu[index] = self._bone(hu[index], rel, points[index], body, softness)
        return hu

    def noise(self, points: Tensor, wavelength: float) -> Tensor:
        """Smooth random field `(n,)` of unit variance or less, features `wavelength` mm across; repeats after 32."""
        unit = torch.remainder(points / wavelength, 32.0) / 16.0 - 1.0
        values: Tensor = grid_sample(self._lattice, unit[None, None, None], align_corners=True)
        return values.reshape(-1)

    # --- where things are ---------------------------------------------------------------------------------

    def _tensor(self, values: np.ndarray | tuple[float, ...]) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=self.device)

    def _column_table(self) -> tuple[float, float, Tensor]:
        """Spine R, A and continuous level index by height S, every 2 mm; smoothed, as a trunk bends less."""
        curve, arcs = self.anatomy.curve, self.anatomy.arcs
        order = np.argsort(curve.points[:, 2])
        s = curve.points[order, 2]
        z = np.arange(s[0], s[-1], 2.0)
        level = np.interp(np.arange(len(curve.points)) * curve.step, arcs, np.arange(len(arcs)))[order]
        columns = [np.interp(z, s, values) for values in (curve.points[order, 0], curve.points[order, 1], level)]
        return float(z[0]), 2.0, self._tensor(np.stack(columns, 1))

    def _at_height(self, z: Tensor) -> tuple[Tensor, Tensor]:
        low, step, table = self._column
        x = ((z - low) / step).clamp(0, len(table) - 1.001)
        i = x.long()
        t = (x - i)[:, None]
        row = table[i] * (1 - t) + table[i + 1] * t
        beyond = (z - low) / step - x  # above the head or below the sacrum, the level goes on
        return row[:, :2], row[:, 2] - beyond * step / 25.0

    def _select(self, points: Tensor, body: Body) -> tuple[Tensor, Tensor]:
        """Indices of the points near a vertebra, and their coordinates in its frame."""
        center, frame = self._tensor(body.center), self._tensor(body.frame)
        near = ((points - center).abs() < REACH_MM).all(1).nonzero()[:, 0]
        rel = (points[near] - center) @ frame.T
        tall = float(np.ptp(body.corners)) / 2 + 36
        keep = (rel[:, 2].abs() < tall) & (rel[:, 0].abs() < 62) & (rel[:, 1] < body.depth / 2 + 12)
        return near[keep], rel[keep]

    # --- soft tissue --------------------------------------------------------------------------------------

    def _draw_blobs(self) -> list[tuple[float, ...]]:
        """Organs, vessels and bowel: level, u, v, radii u v z, HU."""
        r, soft = self._rng, self.anatomy.soft
        deep, wide = soft["trunk_deep"], soft["trunk_wide"]
        blobs: list[tuple[float, ...]] = [
            (15.5, wide * 0.45, deep * 0.9, wide * 0.42, deep * 0.6, 75.0, soft["organ_hu"]),
            (16.5, -wide * 0.55, deep * 0.5, 35.0, 40.0, 50.0, soft["organ_hu"] * 0.9),
            (19.0, wide * 0.42, 5.0, 27.0, 30.0, 52.0, soft["organ_hu"] * 1.1),
            (18.5, -wide * 0.42, 5.0, 27.0, 30.0, 52.0, soft["organ_hu"] * 1.1),
            (11.5, -15.0, 38 + r.uniform(15, 60), 55.0, r.uniform(28, 45), 50.0, soft["heart_hu"]),
            (
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
            blobs.append((*place, *r.uniform(9, 34, 3), soft["heart_hu"] * r.uniform(0.7, 1.3)))
        for _ in range(int(r.integers(0, 7))):  # bright things that are no spine: vessels, bowel contrast, tubes
            place = (r.uniform(5, 28), r.uniform(-0.8, 0.8) * wide, r.uniform(25, 1.6 * deep))
            blobs.append((*place, *r.uniform(5, 30, 3), r.uniform(100, 900)))
        for _ in range(16):
            gas = r.random() < 0.35
            hu = r.uniform(-950, -500) if gas else r.uniform(-60, 90)
            size = r.uniform(8, 28)
            place = (r.uniform(17, 26), r.uniform(-0.7, 0.7) * wide, r.uniform(40, 1.5 * deep))
            blobs.append((*place, size, size * r.uniform(0.6, 1.4), size * r.uniform(0.6, 2), hu))
        return blobs

    def _viscera(
        self, hu: Tensor, points: Tensor, u: Tensor, v: Tensor, level: Tensor, wide: Tensor, deep: Tensor,
        middle: Tensor, w: float,
    ) -> Tensor:  # fmt: skip
        soft, r = self.anatomy.soft, np.random.default_rng(self.anatomy.seed + 1)
        cavity = ellipse(u, v - middle - 8, 0.86 * wide - soft["fat"], 0.80 * deep - soft["fat"])
        belly = torch.maximum(cavity, (16.5 - level) * 12)
        hu = _over(hu, torch.maximum(belly, 14.0 - v), soft["fat_hu"] + 45 * self.noise(points, 14.0).abs(), 1.5)
        size = _table(level, LUNG_LEVELS, LUNG_SIZE).clamp_min(1e-3)
        lung_hu = soft["lung_hu"] + 40 * self.noise(points, 9.0)
        vessels = torch.sigmoid(9 * (self.noise(points, 6.0) - 1.1))
        lung_hu = lung_hu + vessels * (soft["blood_hu"] - lung_hu)
        reach, back = r.uniform(0.36, 0.47), r.uniform(-0.05, 0.05)
        apex = r.uniform(5.6, 6.9)
        for side in (1, -1):
            off = side * wide * r.uniform(0.42, 0.5)
            lung = ellipse(u - off, v - middle - back * deep, reach * wide * size, 0.78 * deep * size)
            lung = torch.maximum(lung, (apex - level) * 14)
            hu = _over(hu, lung, lung_hu, max(w, 0.7))
        hu = _over(hu, torch.maximum(_gutters(r, u, v, level), cavity), lung_hu, max(w, 0.7))
        hu = self._psoas(hu, points, u, v, level)
        inner = ellipse(u, v - middle, wide, deep) + 4.0
        for lvl, bu, bv, ru, rv, rz, value in self._blobs:
            q = ((u - bu) / ru) ** 2 + ((v - bv) / rv) ** 2 + ((level - lvl) * 24 / rz) ** 2
            blob = torch.maximum((q.sqrt() - 1) * min(ru, rv, rz), inner)
            hu = _over(hu, blob, value + 8 * self.noise(points, 7.0), max(w, 0.7))
        return self._tubes(hu, points, u, v, level, w)

    def _psoas(self, hu: Tensor, points: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
        """Fat behind the peritoneum, and in it the muscle that begins at T12 and grows downward."""
        soft, r = self.anatomy.soft, np.random.default_rng(self.anatomy.seed + 6)
        beside = torch.maximum(torch.maximum((v + 5).abs() - 20, u.abs() - 85), (18.0 - level) * 20)
        hu = _over(hu, beside, soft["fat_hu"] + 30 * self.noise(points, 14.0).abs(), 1.5)
        grown = ((level - r.uniform(16.3, 17.2)) / r.uniform(3.5, 5.0)).clamp(0.05, 1.2)
        size = r.uniform(12, 24) * grown
        muscle = ellipse(u.abs() - r.uniform(19, 23) - 4 * grown - 0.8 * size, v + 4, size, size * r.uniform(0.9, 1.4))
        muscle = torch.maximum(muscle, (17.3 - level) * 20)
        return _over(hu, muscle, soft["muscle_hu"] + 8 * self.noise(points, 18.0), 1.0)

    def _tubes(self, hu: Tensor, points: Tensor, u: Tensor, v: Tensor, level: Tensor, w: float) -> Tensor:
        """Aorta before the spine (T4 to L4), vena cava, trachea, oesophagus."""
        soft = self.anatomy.soft
        front = 14 + 4 * torch.clamp((level - 6) / 6, 0, 1.5)
        radius = soft["aorta_r"] * torch.clamp(1.35 - level / 40, 0.6, 1.2)
        lower = ((level - 10) / 7).clamp(0, 1)  # it lies at the left of T5 and comes before the spine at T12
        angle = soft["aorta_left"] * (1 - lower) + soft["aorta_front"] * lower
        away = front + 1 + radius + soft["aorta_gap"]
        aorta = torch.hypot(u + away * torch.sin(angle), v - away * torch.cos(angle)) - radius
        aorta = torch.maximum(aorta, (torch.abs(level - 15) - 6.5) * 20)
        hu = _over(hu, aorta - 1.2, torch.full_like(hu, 40.0), w)
        hu = _over(hu, aorta, soft["blood_hu"] + 6 * self.noise(points, 6.0), w)
        if soft["calcified"]:
            plaque = torch.maximum(aorta.abs() - 1.0, 1.6 - self.noise(points, 7.0) * 2)
            hu = _over(hu, plaque, torch.full_like(hu, 700.0), w)
        cava = torch.hypot((u - 18) / 1.2, v - front - 12) - 9
        cava = torch.maximum(cava, (torch.abs(level - 19.5) - 3.5) * 20)
        hu = _over(hu, cava, torch.full_like(hu, 0.8 * soft["blood_hu"] + 10), w)
        ahead = front + soft["trachea_gap"] + 3.2 * (level - 4).clamp(0, 7)  # kyphosis leads the spine away from it
        trachea = torch.hypot(u - 3, v - ahead) - 8
        trachea = torch.maximum(trachea, (torch.abs(level - 5.5) - 4.5) * 16)
        hu = _over(hu, trachea - 1.5, torch.full_like(hu, 50.0), w)
        return _over(hu, trachea, torch.full_like(hu, AIR), w)

    def _table_and_arms(
        self, hu: Tensor, u: Tensor, v: Tensor, z: Tensor, level: Tensor, wide: Tensor, w: float
    ) -> Tensor:
        soft, r = self.anatomy.soft, np.random.default_rng(self.anatomy.seed + 2)
        base = -soft["behind_spine"] - r.uniform(15, 45) + r.uniform(0, 0.0006) * u**2
        if r.random() < 0.75:
            hu = _over(hu, (v - base).abs() - r.uniform(1, 4), torch.full_like(u, r.uniform(-200, 300)), w)
            hu = _over(hu, (v - base + 25).abs() - 22, torch.full_like(u, r.uniform(-990, -800)), w)
        if not soft["arms_up"]:
            for side in (1, -1):
                arm = torch.hypot(u - side * (soft["trunk_wide"] + 50), v - 30) - 42
                arm = torch.maximum(arm, (6 - level) * 14)
                hu = _over(hu, arm, torch.full_like(u, soft["muscle_hu"]), w)
                hu = _over(hu, arm + 31, torch.full_like(u, 900.0), w)
                hu = _over(hu, arm + 35, torch.full_like(u, 60.0), w)
        return hu

    def _ribs(
        self, hu: Tensor, points: Tensor, u: Tensor, v: Tensor, level: Tensor, wide: Tensor, deep: Tensor, w: float
    ) -> Tensor:
        """Twelve rings that fall towards the front, and the sternum."""
        r, soft = np.random.default_rng(self.anatomy.seed + 3), self.anatomy.soft
        wall = ellipse(u, v, wide, deep)
        angle = (1 + torch.cos(torch.atan2(u / wide, v / deep))) / 2  # 0 behind, 1 in front
        fall = r.uniform(50, 110)
        ring = torch.full_like(u, 1e3)
        for body in self.anatomy.bodies:
            if body.level[0] == "T":
                number = int(body.level[1:])
                z = body.center[2] + 6 - fall * angle**1.2 * min(1.0, 0.35 + number / 8)
                lying = torch.hypot(wall, (points[:, 2] - z) / 1.5) - 4.2
                end = 1.0 if number <= 10 else 0.35  # floating ribs
                ring = torch.minimum(ring, torch.maximum(lying, (angle - end) * 60))
        ring = torch.maximum(ring, 45.0 - u.abs())  # beside the spine `posterior` paints them
        hu = _bone_over(hu, ring, soft["rib_hu"] * 1.6 + 200, soft["rib_hu"] * 0.4, 1.3, w)
        sternum = torch.maximum((v - deep).abs() - 5, u.abs() - 18)
        sternum = torch.maximum(sternum, (torch.abs(level - 10) - 3.2) * 20)
        return _bone_over(hu, sternum, 450.0, 80.0, 1.2, w)

    def _shoulders(self, hu: Tensor, u: Tensor, v: Tensor, level: Tensor, w: float) -> Tensor:
        """Humeral heads, shoulder blades and collar bones."""
        r, wide = np.random.default_rng(self.anatomy.seed + 5), self.anatomy.soft["trunk_wide"]
        high, across = r.uniform(5.0, 7.5), r.uniform(0.8, 1.05) * wide
        out = torch.stack([u.abs(), v, (level - high) * -18], 1)
        flesh = capsule(out, (across - 10, 5, -15), (across, 10, -60), 48.0)
        hu = _over(hu, flesh, torch.full_like(u, self.anatomy.soft["muscle_hu"]), w)
        head = capsule(out, (across, 8, 0), (across, 8, -8), 23.0)
        collar = capsule(out, (15, 55, -22), (across - 20, 15, 12), 6.0)
        blade = torch.maximum(capsule(out, (0.45 * wide, -25, -75), (across - 25, -8, -10), 30.0), (v + 18).abs() - 5)
        bone = torch.minimum(torch.minimum(head, collar), blade)
        return _bone_over(hu, bone, r.uniform(350, 900), r.uniform(60, 200), 2.0, w)

    def _head_and_pelvis(self, hu: Tensor, points: Tensor, u: Tensor, v: Tensor, level: Tensor, w: float) -> Tensor:
        r = np.random.default_rng(self.anatomy.seed + 4)
        top = self.anatomy.bodies[0].center + np.array([0, r.uniform(5, 35), r.uniform(85, 110)])
        d = points - self._tensor(top)
        skull = (torch.sqrt((d[:, 0] / 72) ** 2 + (d[:, 1] / 92) ** 2 + (d[:, 2] / 80) ** 2) - 1) * 75
        hu = _over(hu, skull - 6, torch.full_like(u, 20.0), w)
        hu = _bone_over(hu, skull, 1000.0, 35.0, 5.0, w)
        jaw = (torch.hypot(u / 48, (v - 55) / 48) - 1).abs() * 48 - 5
        jaw = torch.maximum(torch.maximum(jaw, 45 - v), (torch.abs(level - 1.0) - 0.8) * 18)
        hu = _bone_over(hu, jaw, 1100.0, 400.0, 2.0, w)
        for side in (1, -1):
            x, y = (u - side * 85) * np.cos(0.6) - side * (v - 5) * np.sin(0.6), (v - 5) * np.cos(0.6)
            y = y + side * (u - side * 85) * np.sin(0.6)
            wing = torch.maximum(x.abs() - 5.5, y.abs() - 62)
            wing = torch.maximum(wing, (21.6 - level) * 24)
            hu = _bone_over(hu, wing, 600.0, 130.0, 1.5, w)
        for side in (1, -1):  # hip joints and thighs
            hip = points - self._tensor((0.0, 0.0, self.anatomy.bodies[-1].center[2] - 75.0))
            head = torch.sqrt((u - side * 88) ** 2 + (v - 35) ** 2 + hip[:, 2] ** 2) - 24
            seat = torch.sqrt((u - side * 60) ** 2 + ((v - 10) / 1.3) ** 2 + ((hip[:, 2] + 25) / 1.6) ** 2) - 22
            shaft = torch.maximum(torch.hypot(u - side * 115, v - 25) - 16, hip[:, 2] + 10)
            hu = _bone_over(hu, torch.minimum(torch.minimum(head, seat), shaft), 700.0, 180.0, 2.5, w)
        return hu

    # --- the column ---------------------------------------------------------------------------------------

    def _soft_column(self, hu: Tensor, rel: Tensor, body: Body, i: int, w: float) -> Tensor:
        """Disc tissue around and between bodies, the canal with fat, fluid and cord."""
        soft = self.anatomy.soft
        r, a, z = rel.unbind(1)
        tall = float(body.corners[:, 0].max() - body.corners[:, 1].min()) / 2
        reach = tall + 7 + (body.level in SACRUM) * -4
        wall = outline_distance(body, r, a, 1.03)
        belt = (z.abs() - reach).clamp_min(-5)
        jacket = torch.maximum(ellipse(r, a + body.depth / 2 + 18, body.width / 2 + 26, 26.0), belt)
        hu = _over(hu, jacket, torch.full_like(r, soft["muscle_hu"] - 5), 2.0)  # muscle between the processes
        disc_hu = soft["disc_hu"] + soft["annulus_hu"] * torch.sigmoid(wall + 4.0)
        chance = self._discs[i]
        if chance[0] < soft["vacuum"]:
            disc_hu = disc_hu - 400 * torch.sigmoid(3 * self.noise(rel * 0.6 + 7, 5.0) - 1)
        elif chance[1] < soft["disc_calcified"]:
            disc_hu = disc_hu + 400 * torch.sigmoid(4 * self.noise(rel + 3, 4.0) - 3)
        disc_hu = disc_hu + self._ligaments(chance, a, wall)
        hu = _over(hu, torch.maximum(wall, belt), disc_hu, max(w, 0.5))
        p = self._posterior[body.level]
        canal = ellipse(r, a - p["canal_a"], p["canal_w"], p["canal_d"])
        canal = torch.maximum(canal, torch.maximum(belt, wall * -1))
        hu = _over(hu, canal - 1.5, torch.full_like(r, -60.0 * p["epidural"]), w)
        hu = _over(hu, canal, torch.full_like(r, soft["canal_hu"]), w)
        if i < 18:
            cord = torch.maximum(ellipse(r, a - p["canal_a"], 5.5, 4.0), belt)
            hu = _over(hu, cord, torch.full_like(r, soft["canal_hu"] + 15), w)
        return hu

    def _ligaments(self, chance: np.ndarray, a: Tensor, wall: Tensor) -> Tensor:
        """HU that the outer annulus and the longitudinal ligaments add at a disc's front and back: calcified fibres
        and rims that meet bridge many discs, above all behind, where a thick slice shows them as bright as bone."""
        soft, ahead = self.anatomy.soft, torch.sigmoid(a / 2)
        layer = torch.exp(-(((wall + 0.7) / soft["bridge_mm"]) ** 2))
        front, back = (max(0.0, soft["bridging"] - c) / max(soft["bridging"], 1e-6) for c in chance[2:])
        strength: Tensor = soft["bridge_hu"] * (front * ahead + back * (1 - ahead)) * layer
        return strength

    def _bone(self, hu: Tensor, rel: Tensor, points: Tensor, body: Body, w: float) -> Tensor:
        """Arch, body and what grows on it; each only where it may show, as noise is dear."""
        p = self._posterior[body.level]
        arch = arch_distance(rel, body, p, self._build)
        near = (arch < 4 * w + 1.0).nonzero()[:, 0]
        rough = 1 + 0.12 * self.noise(points[near], 2.2) + 0.12 * self.noise(points[near], 7.0)
        cortex = body.cortex * p["arch"] * rough
        hu[near] = _bone_over(hu[near], arch[near], cortex, body.spongiosa + 60, 1.4, w)
        ends, wall = end_distance(body, *rel.unbind(1)), wall_distance(body, *rel.unbind(1))
        near = (torch.maximum(ends, wall) < GROWTHS_REACH_MM).nonzero()[:, 0]
        hu[near] = self._body(hu[near], rel[near], points[near], body, ends[near], wall[near], w)
        if body.level == "C2":
            hu = _dens_and_atlas(hu, rel, body, w)
        if self.anatomy.soft["screws"] and body.level in RODS:
            hu = _over(hu, _implant_distance(rel, body), TITANIUM_HU, w)
        return hu

    def _body(
        self, hu: Tensor, rel: Tensor, points: Tensor, body: Body, ends: Tensor, wall: Tensor, w: float
    ) -> Tensor:
        r, a, z = rel.unbind(1)
        depth = -rounded_edge(ends, wall, body.rounding)
        inner = torch.sigmoid(-torch.maximum(ends + body.shell[0], wall + body.shell[1]) / w * 1.7)
        thick, denser = body.subchondral
        zone = torch.sigmoid((thick * (1 + 0.5 * self.noise(points, 9.0)) + ends) / 0.7)
        trabeculae = body.texture * (body.spongiosa + 40) * (self.noise(points, 2.2) + self.noise(points, 5.0))
        core = body.spongiosa + denser * zone + trabeculae
        vein = torch.exp(-((z / 2.0) ** 2) - ((a + body.depth / 2) / 6) ** 2 - (r / 4) ** 2)
        core = core - self._posterior[body.level]["vein"] * vein * 120
        plate = ends > wall - 1.0
        periphery = torch.sigmoid((wall + 4.0) / 0.8)
        collar = torch.sigmoid((ends + body.collar) / COLLAR_BLUR_MM)
        endplates = torch.where(z > 0, *body.endplates) * (1 + body.ring * periphery)
        walls = body.walls[0] + (body.walls[1] - body.walls[0]) * torch.sigmoid(a / 2)
        share = torch.where(plate, endplates, walls + (1 - walls) * collar)
        rim = body.cortex * share * (1 + 0.35 * self.noise(points, 6.0)).clamp(0.25, 1.8)
        palest = torch.where(plate, torch.where(z > 0, *PALEST_PLATES_HU), PALEST_WALLS_HU)
        palest = palest + torch.where(plate, periphery, collar) * (PALEST_RING_HU - palest)
        rim = torch.maximum(rim, body.spongiosa + palest)
        hu = _over(hu, -depth, rim + inner * (core - rim), w)
        for gr, ga, gz, size, tall, grown, confined in body.growths:
            q = torch.sqrt(((r - gr) / (size * 1.4)) ** 2 + ((a - ga) / size) ** 2 + ((z - gz) / tall) ** 2)
            distance = (q - 1) * min(size, tall)
            distance = torch.maximum(distance, -depth) if confined else distance
            hu = _over(hu, distance, grown, max(w, 0.6))
        return hu


def _dens_and_atlas(hu: Tensor, rel: Tensor, body: Body, w: float) -> Tensor:
    dens = capsule(rel, (0, 1.0, 5.0), (0, 1.5, 26.0), 5.0)
    hu = _bone_over(hu, dens, body.cortex, body.spongiosa, 1.2, w)
    arch = capsule(rel, (-14, 5, 19), (14, 5, 19), 4.0)
    for side in (1, -1):
        arch = torch.minimum(arch, capsule(rel, (side * 20, -10, 19), (side * 14, 5, 19), 6))
    return _bone_over(hu, arch, body.cortex, body.spongiosa, 1.2, w)


def _implant_distance(rel: Tensor, body: Body) -> Tensor:
    """Distance to the two rods beside the spinous process, and to the screws through the pedicles if it has any."""
    behind, reach = -body.depth / 2 - 22, float(np.ptp(body.corners)) * 0.7
    parts = [capsule(rel, (side * 16.0, behind, -reach), (side * 16.0, behind, reach), ROD_MM) for side in (1, -1)]
    if body.level in SCREWED:
        parts += [capsule(rel, (side * 10.0, 6.0, 0.0), (side * 16.0, behind, 2.0), SCREW_MM) for side in (1, -1)]
    distance: Tensor = torch.stack(parts).amin(0)
    return distance


def _gutters(r: np.random.Generator, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
    """Distance to the parts of the lungs that lie beside the bodies of T2 to T11 or T12. Behind, muscle and ribs part
    them from the midline; before the body they come near to each other."""
    upper, lower = (r.uniform(5.8, 7.1) - level) * 20, (level - r.uniform(16.3, 18.6)) * 20
    belt = torch.maximum(torch.maximum(upper, lower), v - 60)
    sides = [u * side - _table(v, GUTTER_V, tuple(r.uniform(low, high) for low, high in GUTTER_U)) for side in (1, -1)]
    return torch.maximum(-torch.maximum(*sides) * 0.8, belt)


def exact_keypoints(anatomy: Anatomy) -> np.ndarray:
    """Key points `(n, 3, 2, 3)` RAS mm of every body of the column (sacrum too), C2 first.

    They are where the body's rim and endplates meet the sagittal plane of the curve's frame: the plane in
    which the method and its human readers work, also where a scoliotic vertebra is turned against it.
    """
    _, frames = anatomy.curve.at(anatomy.arcs)
    return np.stack([_body_keypoints(b, f) for b, f in zip(anatomy.bodies, frames, strict=True)])


@dataclass(frozen=True)
class Endplates:
    """What decides how readers see the points of a column: unit vectors out of the bodies `(n, 3, 2, 3)`, the gaps to
    the neighbours `(n, 3, 2)` mm, the thickness of the plates `(n, 1, 1)` mm."""

    outward: np.ndarray
    gaps: np.ndarray
    plates: np.ndarray

    def shifts(self, protocol: Protocol) -> np.ndarray:
        """`(n, 3, 2, 1)` mm from the exact points outward to the seen ones."""
        shifts = visible_shift(protocol, self.plates, np.abs(self.outward[..., 2]), self.gaps)
        return (shifts * np.array(SHARE_OF_SHIFT)[:, None])[..., None]


def endplates_of(anatomy: Anatomy, exact: np.ndarray) -> Endplates:
    """Of the column with `exact` key points `(n, 3, 2, 3)`."""
    up = exact[:, :, 0] - exact[:, :, 1]
    up = up / np.linalg.norm(up, axis=-1, keepdims=True)
    gaps = np.full(exact.shape[:3], np.inf)
    gaps[1:, :, 0] = gaps[:-1, :, 1] = ((exact[:-1, :, 1] - exact[1:, :, 0]) * up[1:]).sum(-1)
    plates = np.array([b.shell[0] for b in anatomy.bodies])
    return Endplates(np.stack([up, -up], 2), gaps, plates[:, None, None])


def seen_keypoints(anatomy: Anatomy, protocol: Protocol) -> np.ndarray:
    """Key points `(n, 3, 2, 3)` RAS mm where readers of such a scan set them: on the visible edge of the endplates."""
    exact = exact_keypoints(anatomy)
    plates = endplates_of(anatomy, exact)
    return exact + plates.shifts(protocol) * plates.outward


def _body_keypoints(body: Body, curve_frame: np.ndarray) -> np.ndarray:
    ahead = (body.frame @ curve_frame[1])[:2]
    ahead = torch.as_tensor(ahead / np.linalg.norm(ahead))
    local = torch.zeros(3, 2, 3, dtype=torch.float64)
    inset = body.rounding * ROUND_CORNER
    for end in (0, 1):
        front, back = (_rim(body, sign * ahead, end) - sign * inset * ahead for sign in (1, -1))
        middle = (front + back) / 2 - MIDDLE_BEHIND * body.depth * ahead
        for position, spot, lower in ((0, front, inset), (1, middle, 0.0), (2, back, inset)):
            local[position, end, :2] = spot
            local[position, end, 2] = endplate_height(body, spot[0], spot[1], end) - (1 - 2 * end) * lower
    return local.numpy() @ body.frame + body.center


def _rim(body: Body, direction: Tensor, end: int) -> Tensor:
    """Where the wall crosses the ray `direction` in the body's axial plane, at an endplate; by bisection."""
    low, high = torch.tensor(0.0, dtype=torch.float64), torch.tensor(60.0, dtype=torch.float64)
    for _ in range(50):
        mid = (low + high) / 2
        r, a = mid * direction
        inside = outline_distance(body, r, a, body.scale_ends[end]) < 0
        low, high = (mid, high) if inside else (low, mid)
    return (low + high) / 2 * direction


def outline_distance(body: Body, r: Tensor, a: Tensor, scale: Tensor | float) -> Tensor:
    """Distance in the axial plane to the body's outline: a superellipse with a concave back, `scale` times its size."""
    n = body.exponent
    r = r / (1 - body.taper * (a / (body.depth / 2)).clamp(-1, 1))
    q = ((r.abs() / (body.width / 2)) ** n + (a.abs() / (body.depth / 2)) ** n).clamp_min(1e-9) ** (1 / n)
    radius = torch.hypot(r, a) / q
    dent = body.notch * torch.exp(-((r / (0.25 * body.width)) ** 2)) * torch.sigmoid(-a)
    return (q - scale) * radius + dent


def endplate_height(body: Body, r: Tensor, a: Tensor, end: int) -> Tensor:
    """Height of an endplate (0 superior, 1 inferior) above the body's origin."""
    front, middle, back = body.corners[:, end]
    t = (a / (body.depth / 2)).clamp(-1.15, 1.15)
    rim = body.depth / 2 - ROUND_CORNER * body.rounding  # hollow within the ring only: it is flat out to the walls
    inward = torch.where(a > 0, a / rim, -a / (rim - body.notch)).clamp_max(1)
    y = (r / (body.width / 2)).abs().clamp_max(1)
    line = (front + back) / 2 + (front - back) / 2 * t
    sag = middle - (front + back) / 2
    amplitude, ka, kr, phase = body.ripple[end]
    ripple = amplitude * torch.cos(ka * a + phase) * torch.cos(kr * r)
    return line + sag * (1 - inward**body.plateau) * (1 - 0.6 * y**2.5) + body.lateral_tilt[end] * r + ripple


def end_distance(body: Body, r: Tensor, a: Tensor, z: Tensor) -> Tensor:
    """Signed distance along the body's axis to the nearer endplate."""
    return torch.maximum(z - endplate_height(body, r, a, 0), endplate_height(body, r, a, 1) - z)


def rounded_edge(ends: Tensor, wall: Tensor, radius: float) -> Tensor:
    """The larger of two signed distances, with an edge of `radius` mm between the two surfaces."""
    if radius <= 0:
        return torch.maximum(ends, wall)
    corner = torch.hypot((ends + radius).clamp_min(0), (wall + radius).clamp_min(0)) - radius
    return torch.where((ends > -radius) & (wall > -radius), corner, torch.maximum(ends, wall))


def wall_distance(body: Body, r: Tensor, a: Tensor, z: Tensor) -> Tensor:
    """Signed distance to the waisted side wall."""
    top, bottom = endplate_height(body, r, a, 0), endplate_height(body, r, a, 1)
    t = ((z - bottom) / (top - bottom).clamp_min(1)).clamp(0, 1)
    scale = body.scale_ends[1] + (body.scale_ends[0] - body.scale_ends[1]) * t
    return outline_distance(body, r, a, scale * (1 - body.waist * (1 - (2 * t - 1) ** 2)))


def _within_reach(body: Body, low: np.ndarray, high: np.ndarray) -> bool:
    return bool((body.center > low - REACH_MM).all() and (body.center < high + REACH_MM).all())


def _over(hu: Tensor, distance: Tensor, value: Tensor | float, softness: float) -> Tensor:
    """`value` laid over `hu` where `distance` is negative."""
    return hu + torch.sigmoid(-1.7 / softness * distance) * (value - hu)


def _bone_over(
    hu: Tensor, distance: Tensor, cortex: Tensor | float, core: float, shell: float, softness: float
) -> Tensor:
    inner = torch.sigmoid(-1.7 / softness * (distance + shell))
    return _over(hu, distance, cortex + inner * (core - cortex), softness)


def _table(x: Tensor, knots: tuple[float, ...], values: tuple[float, ...]) -> Tensor:
    """Piecewise linear interpolation, constant beyond the ends."""
    out = torch.full_like(x, values[0])
    for k0, k1, v0, v1 in zip(knots, knots[1:], values, values[1:], strict=False):
        out = out + (v1 - v0) * ((x - k0) / (k1 - k0)).clamp(0, 1)
    return out
