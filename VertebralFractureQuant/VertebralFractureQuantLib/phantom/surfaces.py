"""Signed distances `(n,)` (mm, negative inside) of points `(n, 3)` or coordinates `(n,)` to simple shapes, in torch."""

from __future__ import annotations

import torch
from torch import Tensor


def ellipse(u: Tensor, v: Tensor, ru: Tensor | float, rv: Tensor | float) -> Tensor:
    """Return the approximate distance to an ellipse of half axes `ru`, `rv`.

    It is exact for circles; elsewhere its slope is about right.
    """
    q = torch.hypot(u / ru, v / rv).clamp_min(1e-6)
    return (q - 1) * torch.hypot(u, v).clamp_min(1e-3) / q


def capsule(x: Tensor, start: tuple[float, ...], end: tuple[float, ...], radius: float) -> Tensor:
    """Return the distance `(n,)` of points `(n, 3)` to the segment from `start` to `end`, minus `radius`."""
    p, q = x.new_tensor(start), x.new_tensor(end)
    axis = q - p
    t = (((x - p) @ axis) / axis.dot(axis).clamp_min(1e-6)).clamp(0, 1)
    return (x - p - t[:, None] * axis).norm(dim=1) - radius
