"""Painting of an anatomy: Hounsfield units at any points of the patient, in RAS mm.

The patient is a function of position, built from implicit surfaces in torch. The same code paints a CT grid, a
straightened plane or a coarse volume, on a CPU or a GPU; no mesh or label map is needed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .anatomy import Anatomy
from .body import Body
from .layers import Noise
from .organs import draw_blobs, paint_organs
from .skeleton import paint_skeleton
from .trunk import Trunk, paint_flesh
from .vertebrae import Vertebrae

REACH_MM = 95.0  # no part of a vertebra, its discs and its processes lies farther from its centre along R, A or S


class Painter:
    """Hounsfield units of one anatomy at any points."""

    def __init__(self, anatomy: Anatomy, device: str | torch.device = "cpu"):
        self.anatomy = anatomy
        self.device = torch.device(device)
        rng = np.random.default_rng(anatomy.seed)
        self.noise = Noise(rng, self.device)
        self._trunk = Trunk(anatomy, self.device)
        self._blobs = draw_blobs(rng, anatomy.soft)
        self._vertebrae = Vertebrae(rng, anatomy, self.noise)

    def hounsfield(self, points: Tensor, softness: float = 0.4) -> Tensor:
        """Return HU `(n,)` at patient RAS points `(n, 3)`; `softness` (mm) is the blur of edges."""
        return self.spine(points, self.background(points, softness), softness)

    def background(self, points: Tensor, softness: float = 0.4) -> Tensor:
        """Return HU `(n,)` of everything but the spine, at points `(n, 3)`."""
        at = self._trunk.place(points, softness)
        hu = paint_flesh(at, self.anatomy, self.noise)
        hu = paint_organs(hu, at, self.anatomy, self.noise, self._blobs)
        return paint_skeleton(hu, at, self.anatomy)

    def spine(self, points: Tensor, hu: Tensor, softness: float = 0.4) -> Tensor:
        """Return `hu` `(n,)` with discs, canal, vertebrae and their findings laid over it, at points `(n, 3)`."""
        hu = hu.clone()
        low, high = (x.cpu().numpy() for x in (points.amin(0), points.amax(0)))
        close = [(i, b) for i, b in enumerate(self.anatomy.bodies) if _within_reach(b, low, high)]
        local = [_near(points, body) for _, body in close]
        for (i, body), (index, rel) in zip(close, local, strict=True):
            if len(index):
                hu[index] = self._vertebrae.paint_soft(hu[index], rel, body, i, softness)
        for (_, body), (index, rel) in zip(close, local, strict=True):
            if len(index):
                hu[index] = self._vertebrae.paint_bone(hu[index], rel, points[index], body, softness)
        return hu


def _near(points: Tensor, body: Body) -> tuple[Tensor, Tensor]:
    """Return the indices of the points near a vertebra, and their coordinates in its frame."""
    center, frame = points.new_tensor(body.center), points.new_tensor(body.frame)
    near = ((points - center).abs() < REACH_MM).all(1).nonzero()[:, 0]
    rel = (points[near] - center) @ frame.T
    tall = float(np.ptp(body.corners)) / 2 + 36
    keep = (rel[:, 2].abs() < tall) & (rel[:, 0].abs() < 62) & (rel[:, 1] < body.depth / 2 + 12)
    return near[keep], rel[keep]


def _within_reach(body: Body, low: np.ndarray, high: np.ndarray) -> bool:
    return bool((body.center > low - REACH_MM).all() and (body.center < high + REACH_MM).all())
