"""Painting of the vertebrae: bodies and arches, discs, canal, degenerative findings, cement and implants.

Points `(n, 3)` are given twice: `points` in patient RAS mm, and `rel` in the frame of one body (right, anterior, up of
its middle). HU and signed distances in mm are torch tensors `(n,)`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .anatomy import Anatomy
from .body import Body
from .body_surface import end_distance, outline_distance, rounded_edge, wall_distance
from .implant import RODS, implant_distance
from .layers import Noise, bone_over, over
from .metal import TITANIUM_HU
from .morphometry import COLUMN, SACRUM, SIZES
from .posterior import arch_distance, draw_build, draw_posterior
from .surfaces import capsule, ellipse

# A body's superior and inferior endplate are at least so much denser than the bone behind them. In slices of 2.5 mm the
# palest endplates then stand out about as far as those of the references.
PALEST_PLATES_HU = (100.0, 250.0)
PALEST_WALLS_HU, PALEST_RING_HU = 60.0, 300.0  # the same for the walls, and for the ring where walls and endplates meet
COLLAR_BLUR_MM = 0.7
GROWTHS_REACH_MM = 11.0  # osteophytes reach no farther from the body


class Vertebrae:
    """The vertebrae of one anatomy, with the arches and discs that `rng` draws for them."""

    def __init__(self, rng: np.random.Generator, anatomy: Anatomy, noise: Noise):
        self.soft, self.noise = anatomy.soft, noise
        wide = np.mean([b.width / SIZES[b.level][3] for b in anatomy.bodies if b.level in SIZES])
        self._build = draw_build(rng, float(wide))
        self._posterior = {b.level: draw_posterior(rng, b, self._build) for b in anatomy.bodies}
        self._discs = rng.random((len(COLUMN), 4))

    def paint_soft(self, hu: Tensor, rel: Tensor, body: Body, i: int, w: float) -> Tensor:
        """Return `hu` with disc tissue around body `i` of the column, and the contents of the canal, laid over it."""
        soft = self.soft
        r, a, z = rel.unbind(1)
        tall = float(body.corners[:, 0].max() - body.corners[:, 1].min()) / 2
        reach = tall + 7 + (body.level in SACRUM) * -4
        wall = outline_distance(body, r, a, 1.03)
        belt = (z.abs() - reach).clamp_min(-5)
        jacket = torch.maximum(ellipse(r, a + body.depth / 2 + 18, body.width / 2 + 26, 26.0), belt)
        hu = over(hu, jacket, torch.full_like(r, soft["muscle_hu"] - 5), 2.0)  # muscle between the processes
        hu = over(hu, torch.maximum(wall, belt), self._disc_hu(rel, wall, i), max(w, 0.5))
        p = self._posterior[body.level]
        canal = ellipse(r, a - p["canal_a"], p["canal_w"], p["canal_d"])
        canal = torch.maximum(canal, torch.maximum(belt, wall * -1))
        hu = over(hu, canal - 1.5, torch.full_like(r, -60.0 * p["epidural"]), w)
        hu = over(hu, canal, torch.full_like(r, soft["canal_hu"]), w)
        if i < 18:
            cord = torch.maximum(ellipse(r, a - p["canal_a"], 5.5, 4.0), belt)
            hu = over(hu, cord, torch.full_like(r, soft["canal_hu"] + 15), w)
        return hu

    def _disc_hu(self, rel: Tensor, wall: Tensor, i: int) -> Tensor:
        """Return the disc's HU: annulus, a vacuum or calcification in some, and ligaments."""
        soft, chance = self.soft, self._discs[i]
        hu: Tensor = soft["disc_hu"] + soft["annulus_hu"] * torch.sigmoid(wall + 4.0)
        if chance[0] < soft["vacuum"]:
            hu = hu - 400 * torch.sigmoid(3 * self.noise(rel * 0.6 + 7, 5.0) - 1)
        elif chance[1] < soft["disc_calcified"]:
            hu = hu + 400 * torch.sigmoid(4 * self.noise(rel + 3, 4.0) - 3)
        return hu + self._ligaments(chance, rel[:, 1], wall)

    def _ligaments(self, chance: np.ndarray, a: Tensor, wall: Tensor) -> Tensor:
        """Return the HU that the outer annulus and the longitudinal ligaments add at a disc's front and back.

        Calcified fibres and rims that meet bridge many discs, above all at the back, where a thick slice shows them as
        bright as bone.
        """
        soft, ahead = self.soft, torch.sigmoid(a / 2)
        layer = torch.exp(-(((wall + 0.7) / soft["bridge_mm"]) ** 2))
        front, back = (max(0.0, soft["bridging"] - c) / max(soft["bridging"], 1e-6) for c in chance[2:])
        strength: Tensor = soft["bridge_hu"] * (front * ahead + back * (1 - ahead)) * layer
        return strength

    def paint_bone(self, hu: Tensor, rel: Tensor, points: Tensor, body: Body, w: float) -> Tensor:
        """Return `hu` with the arch, the body and its findings laid over it.

        Each is computed only near where it can show, because noise is slow to compute.
        """
        arch = arch_distance(rel, body, self._posterior[body.level], self._build)
        near = (arch < 4 * w + 1.0).nonzero()[:, 0]
        rough = 1 + 0.12 * self.noise(points[near], 2.2) + 0.12 * self.noise(points[near], 7.0)
        cortex = body.cortex * self._posterior[body.level]["arch"] * rough
        hu[near] = bone_over(hu[near], arch[near], cortex, body.spongiosa + 60, 1.4, w)
        ends, wall = end_distance(body, *rel.unbind(1)), wall_distance(body, *rel.unbind(1))
        near = (torch.maximum(ends, wall) < GROWTHS_REACH_MM).nonzero()[:, 0]
        hu[near] = self._body(hu[near], rel[near], points[near], body, ends[near], wall[near], w)
        if body.level == "C2":
            hu = _dens_and_atlas(hu, rel, body, w)
        if self.soft["screws"] and body.level in RODS:
            hu = over(hu, implant_distance(rel, body), TITANIUM_HU, w)
        return hu

    def _body(
        self, hu: Tensor, rel: Tensor, points: Tensor, body: Body, ends: Tensor, wall: Tensor, w: float
    ) -> Tensor:
        r, a, z = rel.unbind(1)
        depth = -rounded_edge(ends, wall, body.rounding)
        inner = torch.sigmoid(-torch.maximum(ends + body.shell[0], wall + body.shell[1]) / w * 1.7)
        core, rim = self._core(rel, points, body, ends), self._rim(rel, points, body, ends, wall)
        hu = over(hu, -depth, rim + inner * (core - rim), w)
        for gr, ga, gz, size, tall, grown, confined in body.growths:
            q = torch.sqrt(((r - gr) / (size * 1.4)) ** 2 + ((a - ga) / size) ** 2 + ((z - gz) / tall) ** 2)
            distance = (q - 1) * min(size, tall)
            distance = torch.maximum(distance, -depth) if confined else distance
            hu = over(hu, distance, grown, max(w, 0.6))
        return hu

    def _core(self, rel: Tensor, points: Tensor, body: Body, ends: Tensor) -> Tensor:
        """Return the HU of the spongiosa: denser under the endplates, with trabeculae and the basivertebral vein."""
        r, a, z = rel.unbind(1)
        thick, denser = body.subchondral
        zone = torch.sigmoid((thick * (1 + 0.5 * self.noise(points, 9.0)) + ends) / 0.7)
        trabeculae = body.texture * (body.spongiosa + 40) * (self.noise(points, 2.2) + self.noise(points, 5.0))
        core = body.spongiosa + denser * zone + trabeculae
        vein = torch.exp(-((z / 2.0) ** 2) - ((a + body.depth / 2) / 6) ** 2 - (r / 4) ** 2)
        return core - self._posterior[body.level]["vein"] * vein * 120

    def _rim(self, rel: Tensor, points: Tensor, body: Body, ends: Tensor, wall: Tensor) -> Tensor:
        """Return the HU of the cortex: endplates with a bright ring, and walls that are dense near the endplates."""
        a, z = rel[:, 1], rel[:, 2]
        plate = ends > wall - 1.0
        periphery = torch.sigmoid((wall + 4.0) / 0.8)
        collar = torch.sigmoid((ends + body.collar) / COLLAR_BLUR_MM)
        endplates = torch.where(z > 0, *body.endplates) * (1 + body.ring * periphery)
        walls = body.walls[0] + (body.walls[1] - body.walls[0]) * torch.sigmoid(a / 2)
        share = torch.where(plate, endplates, walls + (1 - walls) * collar)
        rim = body.cortex * share * (1 + 0.35 * self.noise(points, 6.0)).clamp(0.25, 1.8)
        palest = torch.where(plate, torch.where(z > 0, *PALEST_PLATES_HU), PALEST_WALLS_HU)
        palest = palest + torch.where(plate, periphery, collar) * (PALEST_RING_HU - palest)
        return torch.maximum(rim, body.spongiosa + palest)


def _dens_and_atlas(hu: Tensor, rel: Tensor, body: Body, w: float) -> Tensor:
    dens = capsule(rel, (0, 1.0, 5.0), (0, 1.5, 26.0), 5.0)
    hu = bone_over(hu, dens, body.cortex, body.spongiosa, 1.2, w)
    arch = capsule(rel, (-14, 5, 19), (14, 5, 19), 4.0)
    for side in (1, -1):
        arch = torch.minimum(arch, capsule(rel, (side * 20, -10, 19), (side * 14, 5, 19), 6))
    return bone_over(hu, arch, body.cortex, body.spongiosa, 1.2, w)
