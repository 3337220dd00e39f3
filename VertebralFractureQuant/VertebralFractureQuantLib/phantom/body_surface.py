"""The surface of a vertebral body as signed distances in mm, negative inside, and heights of its endplates.

Coordinates are r (right), a (anterior) and z (up) in mm in the body's frame. They and the results are torch tensors
`(n,)` of any dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .body import ROUND_CORNER, Body


def outline_distance(body: Body, r: Tensor, a: Tensor, scale: Tensor | float) -> Tensor:
    """Return the distance in the axial plane to the body's outline, a superellipse with a concave back.

    The outline is `scale` times as large as the body's.
    """
    n = body.exponent
    r = r / (1 - body.taper * (a / (body.depth / 2)).clamp(-1, 1))
    q = ((r.abs() / (body.width / 2)) ** n + (a.abs() / (body.depth / 2)) ** n).clamp_min(1e-9) ** (1 / n)
    radius = torch.hypot(r, a) / q
    dent = body.notch * torch.exp(-((r / (0.25 * body.width)) ** 2)) * torch.sigmoid(-a)
    return (q - scale) * radius + dent


def endplate_height(body: Body, r: Tensor, a: Tensor, end: int) -> Tensor:
    """Return the height of an endplate (`end` 0 superior, 1 inferior) above the body's origin."""
    front, middle, back = body.corners[:, end]
    t = (a / (body.depth / 2)).clamp(-1.15, 1.15)
    # An endplate is hollow only within its ring; between the ring and the walls it is flat.
    rim = body.depth / 2 - ROUND_CORNER * body.rounding
    inward = torch.where(a > 0, a / rim, -a / (rim - body.notch)).clamp_max(1)
    y = (r / (body.width / 2)).abs().clamp_max(1)
    line = (front + back) / 2 + (front - back) / 2 * t
    sag = middle - (front + back) / 2
    amplitude, ka, kr, phase = body.ripple[end]
    ripple = amplitude * torch.cos(ka * a + phase) * torch.cos(kr * r)
    return line + sag * (1 - inward**body.plateau) * (1 - 0.6 * y**2.5) + body.lateral_tilt[end] * r + ripple


def end_distance(body: Body, r: Tensor, a: Tensor, z: Tensor) -> Tensor:
    """Return the signed distance to the nearer endplate along the body's axis."""
    return torch.maximum(z - endplate_height(body, r, a, 0), endplate_height(body, r, a, 1) - z)


def wall_distance(body: Body, r: Tensor, a: Tensor, z: Tensor) -> Tensor:
    """Return the signed distance to the side wall, which has a waist."""
    top, bottom = endplate_height(body, r, a, 0), endplate_height(body, r, a, 1)
    t = ((z - bottom) / (top - bottom).clamp_min(1)).clamp(0, 1)
    scale = body.scale_ends[1] + (body.scale_ends[0] - body.scale_ends[1]) * t
    return outline_distance(body, r, a, scale * (1 - body.waist * (1 - (2 * t - 1) ** 2)))


def rounded_edge(ends: Tensor, wall: Tensor, radius: float) -> Tensor:
    """Return the larger of two signed distances, with the edge between the two surfaces rounded by `radius` mm."""
    if radius <= 0:
        return torch.maximum(ends, wall)
    corner = torch.hypot((ends + radius).clamp_min(0), (wall + radius).clamp_min(0)) - radius
    return torch.where((ends > -radius) & (wall > -radius), corner, torch.maximum(ends, wall))
