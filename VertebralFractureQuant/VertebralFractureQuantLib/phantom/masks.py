"""Exact masks of a phantom's vertebral bodies: signed distances to their surfaces, without arches and processes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

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
