"""Layers of HU painted over each other with soft edges, and smooth random patterns in them.

HU and distances are torch tensors `(n,)`. A surface is a signed distance in mm, negative inside. Its edge is blurred by
`softness` mm, so that thin cortex keeps its partial volume on coarse grids.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def over(hu: Tensor, distance: Tensor, value: Tensor | float, softness: float) -> Tensor:
    """Return `hu` with `value` laid over it where `distance` is negative."""
    return hu + torch.sigmoid(-1.7 / softness * distance) * (value - hu)


def bone_over(
    hu: Tensor, distance: Tensor, cortex: Tensor | float, core: float, shell: float, softness: float
) -> Tensor:
    """Return `hu` with a bone laid over it: a `cortex` that is `shell` mm thick, around a `core`."""
    inner = torch.sigmoid(-1.7 / softness * (distance + shell))
    return over(hu, distance, cortex + inner * (core - cortex), softness)


def table(x: Tensor, knots: tuple[float, ...], values: tuple[float, ...]) -> Tensor:
    """Return values at `x` `(n,)`, linear between `knots` and constant beyond the first and the last."""
    out = torch.full_like(x, values[0])
    for k0, k1, v0, v1 in zip(knots, knots[1:], values, values[1:], strict=False):
        out = out + (v1 - v0) * ((x - k0) / (k1 - k0)).clamp(0, 1)
    return out


class Noise:
    """A smooth random field of unit variance or less, a function of position."""

    def __init__(self, rng: np.random.Generator, device: torch.device):
        lattice = rng.standard_normal((33, 33, 33))
        lattice[-1], lattice[:, -1], lattice[..., -1] = lattice[0], lattice[:, 0], lattice[..., 0]  # without a seam
        self._lattice = torch.as_tensor(lattice, dtype=torch.float32, device=device)[None, None]

    def __call__(self, points: Tensor, wavelength: float) -> Tensor:
        """Return values `(n,)` at `points` `(n, 3)` mm.

        Features are `wavelength` mm across; the field repeats after 32 of them.
        """
        unit = torch.remainder(points / wavelength, 32.0) / 16.0 - 1.0
        values: Tensor = grid_sample(self._lattice, unit[None, None, None], align_corners=True)
        return values.reshape(-1)
