"""Exact masks of a phantom's vertebral bodies: signed distances to their surfaces, without arches and processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .anatomy import Anatomy
from .body import Body
from .body_surface import end_distance, rounded_edge, wall_distance


def body_distance(body: Body, points: np.ndarray) -> Tensor:
    """Return the signed distance in mm, negative inside, to one body's surface at RAS mm `points` `(..., 3)`.

    Findings that grow on the body, such as osteophytes, do not belong to it.
    """
    rel = torch.as_tensor((np.reshape(points, (-1, 3)) - body.center) @ body.frame.T, dtype=torch.float32)
    r, a, z = rel.unbind(1)
    distance = rounded_edge(end_distance(body, r, a, z), wall_distance(body, r, a, z), body.rounding)
    return distance.reshape(points.shape[:-1])


THIRDS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0))
LINES = ((0.15, 0.15), (0.5, 0.5), (0.85, 0.85))  # as TotalSegmentator's spine report does


def mask_keypoints(
    anatomy: Anatomy, levels: Sequence[str], parts: Sequence[tuple[float, float]], step_mm: float = 0.25
) -> np.ndarray:
    """Return the key points `(n, 3, 2, 3)` RAS mm that a rule reads from exact masks of `levels`.

    The rule takes the columns of the mask's sagittal slice, in the curve's frame, and averages their upper and lower
    ends over three `parts` of the depth, from posterior 0 to anterior 1: thirds, or single lines.
    """
    by_level = {body.level: i for i, body in enumerate(anatomy.bodies)}
    steps = np.arange(-35.0, 35.0, step_mm)
    points = []
    for i in (by_level[level] for level in levels):
        body = anatomy.bodies[i]
        frame = anatomy.curve.at(anatomy.arcs[[i]])[1][0]
        plane = body.center + steps[:, None, None] * frame[1] + steps[:, None] * frame[2]  # (A, up)
        points.append(_read(body_distance(body, plane).numpy() < 0, steps, parts) @ frame[1:] + body.center)
    return np.reshape(points, (-1, 3, 2, 3))


def _read(mask: np.ndarray, steps: np.ndarray, parts: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the points `(3, 2, 2)`, (A, up) mm, of three parts of a mask `(A, up)`, anterior first."""
    held = np.flatnonzero(mask.any(1))
    low = steps[mask[held].argmax(1)]
    high = steps[::-1][mask[held][:, ::-1].argmax(1)]
    share = np.linspace(0, 1, len(held))
    rows = []
    for first, last in reversed(parts):
        chosen = (share >= first) & (share <= last) if last > first else np.array([np.abs(share - first).argmin()])
        ahead = steps[held][chosen].mean()
        rows.append([(ahead, high[chosen].mean()), (ahead, low[chosen].mean())])
    return np.array(rows)
