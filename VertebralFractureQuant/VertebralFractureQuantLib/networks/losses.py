"""Losses of the networks (Zakharov et al. 2023, equations 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .detector import MAP_REACH, OFFSET_SCALE_MM
from .localizer import SPACING_MM
from .refiner import SPACING_MM as TUBE_SPACING_MM

LEVEL_SHARE = 0.3
OFFSET_SHARE = 4.0
POINT_SHARE = 0.5
BLOB_SHARE = 0.1
BLOB_PIXELS = 1.0
NEVER = -1e4  # logit of what is impossible


def soft_argmax(heat: Tensor) -> Tensor:
    """Return the expected (a, r) voxel position `(b, s, 2)` on every slice of `heat` `(b, s, a, r)`; differentiable."""
    weight = heat.float().flatten(2).softmax(-1).reshape(heat.shape)
    a, r = (torch.arange(n, device=heat.device, dtype=weight.dtype) for n in heat.shape[2:])
    return torch.stack([weight.sum(3) @ a, weight.sum(2) @ r], -1)


def slice_logits(heat: Tensor) -> Tensor:
    """Return the logit `(b, s)` that a slice holds spine, from `heat` `(b, s, a, r)`."""
    return heat.float().amax((2, 3))


def localizer_loss(heat: Tensor, position: Tensor, holds_spine: Tensor) -> Tensor:
    """Return the MAE of the curve (unit: 10 mm) on slices that hold spine + BCE of the slices' logits.

    heat `(b, s, a, r)`; position `(b, s, 2)` voxels (a, r); holds_spine `(b, s)` in {0, 1}.
    """
    error = (soft_argmax(heat) - position).abs().sum(-1) * SPACING_MM / 10
    line = (error * holds_spine).sum() / holds_spine.sum().clamp_min(1)
    return line + F.binary_cross_entropy_with_logits(slice_logits(heat), holds_spine)


def refiner_loss(out: tuple[Tensor, Tensor], position: Tensor, holds_spine: Tensor, level: Tensor) -> Tensor:
    """Return the MAE of the curve (unit: 5 mm) on slices that hold spine + cross-entropy of the slices' levels.

    out is heat `(b, s, a, r)` and logits `(b, len(CLASSES), s)`; position `(b, s, 2)` voxels (a, r); level `(b, s)`
    class indices, -1 if unknown.
    """
    heat, logits = out
    error = (soft_argmax(heat) - position).abs().sum(-1) * TUBE_SPACING_MM / 5
    line = (error * holds_spine).sum() / holds_spine.sum().clamp_min(1)
    looks = F.cross_entropy(logits.float(), level, ignore_index=-1, reduction="sum") / (level >= 0).sum().clamp_min(1)
    return line + LEVEL_SHARE * looks


def detector_loss(out: Tensor, objectness: Tensor, weight: Tensor, offsets: Tensor, emphasis: Tensor) -> Tensor:
    """Return BCE(objectness) + 1 / sum I[o = 1] * sum I[o = 1] / G * MAE(offsets).

    out `(b, OUTPUTS, h, w)`; objectness, weight (0 = ignored pixel) and emphasis (1/G on objects) `(b, h, w)`;
    offsets `(b, 12, h, w)` mm. The paper prints I[o = 0] in the normaliser, but means I[o = 1] (Pisov et al. 2020).

    Departures from the paper:

    - A crush, whose G is near 1, has a larger emphasis (`training.columns`).
    - The error of the offsets' differences across the body is added: G is made of heights, and an error that is common
      to both endplates does not change it.
    - BCE, too, is summed over the pixels and divided by the number of object pixels. With a mean over all pixels it
      would be negligible, as only one pixel in forty holds a vertebra.
    """
    out = out.float()
    objects = objectness.sum().clamp_min(1)
    bce = F.binary_cross_entropy_with_logits(out[:, 0], objectness, weight, reduction="sum") / objects
    residual = (out[:, 1:] - offsets / OFFSET_SCALE_MM).unflatten(1, (3, 2, 2))  # position, endplate, (A, row)
    error = residual.abs().mean((1, 2, 3)) + (residual[:, :, 0] - residual[:, :, 1]).abs().mean((1, 2))
    return bce + OFFSET_SHARE * (error * emphasis).sum() / objects


def point_loss(maps: Tensor, guess: Tensor, truth: Tensor, emphasis: Tensor) -> Tensor:
    """Return the errors, in pixels and weighted by 1/G, of the key points that `maps` give around `guess`.

    It is the sum of three terms: the distance of the points from the truth; the error of their differences across the
    body; and the cross-entropy of the maps with a narrow blob at the truth, without which a map could be right only on
    average.

    maps `(b, POINTS, h, w)`; guess, truth `(b, n, POINTS, 2)` (row, column) pixels; emphasis `(b, n, POINTS)`, 0 for
    points that do not exist or are outside the image.
    """
    around, outside, logits = _around(maps, guess)
    known = emphasis * (guess - truth).abs().amax(-1).le(MAP_REACH - 0.5)
    error = (logits.softmax(-1)[..., None] * around).sum(-2) - truth
    both = known.unflatten(-1, (3, 2)).amin(-1)
    across = error.unflatten(-2, (3, 2)).diff(dim=-2)[..., 0, :].abs().mean(-1)
    blob = -((around - truth[..., None, :]) ** 2).sum(-1) / (2 * BLOB_PIXELS**2)
    entropy = -(blob.masked_fill(outside, NEVER).softmax(-1) * logits.log_softmax(-1)).sum(-1)
    point = ((error.abs().mean(-1) + BLOB_SHARE * entropy) * known).sum() / emphasis.gt(0).sum().clamp_min(1)
    return point + (across * both).sum() / both.gt(0).sum().clamp_min(1)


def _around(maps: Tensor, guess: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels `(b, n, POINTS, k, 2)` (row, column) around `guess`.

    Also return whether they are outside the image, and the values of `maps` there, both `(b, n, POINTS, k)`.
    """
    reach = torch.arange(-MAP_REACH, MAP_REACH + 1, device=maps.device)
    at = guess.round().long()[..., None, :] + torch.cartesian_prod(reach, reach)
    size = torch.tensor(maps.shape[2:], device=maps.device)
    row, column = at.clamp_min(0).minimum(size - 1).unbind(-1)
    batch, point = torch.meshgrid(*(torch.arange(n, device=maps.device) for n in maps.shape[:2]), indexing="ij")
    logits = maps.float()[batch[:, None, :, None], point[:, None, :, None], row, column]
    outside = ((at < 0) | (at >= size)).any(-1)
    return at.float(), outside, logits.masked_fill(outside, NEVER)
