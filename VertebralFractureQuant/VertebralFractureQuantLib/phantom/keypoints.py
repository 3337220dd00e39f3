"""Key points of an anatomy: exact on the bone's surface, or where readers of a certain scan would set them.

Arrays `(n, 3, 2, 3)` in patient RAS mm, [A, M, P] x [sup, inf], for all bodies of the column and the sacrum, C2 first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .anatomy import Anatomy
from .body import ROUND_CORNER, Body
from .body_surface import endplate_height, outline_distance
from .scanner import Protocol, visible_shift

MIDDLE_BEHIND = 0.012  # readers set the middle point behind the middle by this share of the depth
SHARE_OF_SHIFT = (1.0, 0.5, 1.0)  # in the middle, readers follow the depression rather than its blurred flank


def exact_keypoints(anatomy: Anatomy) -> np.ndarray:
    """Return the key points `(n, 3, 2, 3)` RAS mm where the bodies' rims and endplates meet a sagittal plane.

    That plane is the sagittal plane of the curve's frame, in which the method and its readers work, even where a
    scoliotic vertebra is rotated against it.
    """
    _, frames = anatomy.curve.at(anatomy.arcs)
    return np.stack([_body_keypoints(b, f) for b, f in zip(anatomy.bodies, frames, strict=True)])


@dataclass(frozen=True)
class Endplates:
    """The geometry that decides where readers see the key points of a column.

    Attributes
    ----------
    outward : unit vectors out of the bodies, `(n, 3, 2, 3)`.
    gaps : distances to the neighbouring bodies, `(n, 3, 2)` mm.
    plates : thickness of the endplates, `(n, 1, 1)` mm.
    """

    outward: np.ndarray
    gaps: np.ndarray
    plates: np.ndarray

    def shifts(self, protocol: Protocol) -> np.ndarray:
        """Return the distances `(n, 3, 2, 1)` mm from the exact points outward to the seen ones."""
        shifts = visible_shift(protocol, self.plates, np.abs(self.outward[..., 2]), self.gaps)
        return (shifts * np.array(SHARE_OF_SHIFT)[:, None])[..., None]


def endplates_of(anatomy: Anatomy, exact: np.ndarray) -> Endplates:
    """Return the endplates of a column with the `exact` key points `(n, 3, 2, 3)`."""
    up = exact[:, :, 0] - exact[:, :, 1]
    up = up / np.linalg.norm(up, axis=-1, keepdims=True)
    gaps = np.full(exact.shape[:3], np.inf)
    gaps[1:, :, 0] = gaps[:-1, :, 1] = ((exact[:-1, :, 1] - exact[1:, :, 0]) * up[1:]).sum(-1)
    plates = np.array([b.shell[0] for b in anatomy.bodies])
    return Endplates(np.stack([up, -up], 2), gaps, plates[:, None, None])


def seen_keypoints(anatomy: Anatomy, protocol: Protocol) -> np.ndarray:
    """Return the key points `(n, 3, 2, 3)` where readers of such a scan set them: on the endplates' visible edges."""
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
    """Return where the wall crosses the ray `direction` in the body's axial plane at an endplate, by bisection."""
    low, high = torch.tensor(0.0, dtype=torch.float64), torch.tensor(60.0, dtype=torch.float64)
    for _ in range(50):
        mid = (low + high) / 2
        r, a = mid * direction
        inside = outline_distance(body, r, a, body.scale_ends[end]) < 0
        low, high = (mid, high) if inside else (low, mid)
    return (low + high) / 2 * direction
