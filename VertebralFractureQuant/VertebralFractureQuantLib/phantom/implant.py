"""The implant of a stabilised spine: rods of titanium beside the spinous processes and screws through the pedicles.

Lengths in mm, in the frame of a vertebral body: right, anterior, up of its middle.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .body import Body
from .surfaces import capsule

# As after a fracture of L1: rods from T11 to L3, screws in all of these but L1.
RODS, SCREWED = ("T11", "T12", "L1", "L2", "L3"), ("T11", "T12", "L2", "L3")
ROD_MM, SCREW_MM = 2.75, 2.8  # radii


def implant_distance(rel: Tensor, body: Body) -> Tensor:
    """Return the signed distance `(n,)` from points `rel` `(n, 3)` to the metal beside and in `body`.

    That is two rods, and two screws if the level has any.
    """
    behind, reach = -body.depth / 2 - 22, float(np.ptp(body.corners)) * 0.7
    parts = [capsule(rel, (side * 16.0, behind, -reach), (side * 16.0, behind, reach), ROD_MM) for side in (1, -1)]
    if body.level in SCREWED:
        parts += [capsule(rel, (side * 10.0, 6.0, 0.0), (side * 16.0, behind, 2.0), SCREW_MM) for side in (1, -1)]
    distance: Tensor = torch.stack(parts).amin(0)
    return distance
