"""Losses of the synthetic picture; images are `(b, 1, rows, columns)`, masks probabilities, heights rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..methods.healthy_frame import BAND, OUTSIDE

WEIGHTS = {"ct": 4.0, "dice": 1.0, "adjacent": 0.5, "edges": 4.0, "height": 2.0, "columns": 1.0, "adversarial": 0.02}
BESIDE = 0.1  # weight of the image outside of the band, which is known
LEAST_COLUMN = 0.5  # rows: a column of the target's mask


@dataclass(frozen=True)
class Parts:
    """Which parts of the method are on; the ablations switch them off one at a time."""

    attention: bool = True
    restoration: bool = True
    edges: bool = True
    adversarial: bool = False


def generator_losses(out: tuple[Tensor, Tensor], batch: dict[str, Tensor], parts: Parts) -> dict[str, Tensor]:
    """Return the weighted losses by name.

    `batch`: `ct` -1 to 1, `target` and `adjacent` masks, `valid` (1 where the image is known, 0 in what is left of the
    band), all `(b, 1, ROWS, COLUMNS)`; `height` `(b,)` rows.
    """
    images, heights = out
    coarse, adjacent, fine, target = (images[:, i : i + 1] for i in range(4))
    mask = torch.sigmoid(target)
    weight = batch["valid"] * BESIDE
    weight[:, :, OUTSIDE : OUTSIDE + BAND] = batch["valid"][:, :, OUTSIDE : OUTSIDE + BAND]
    missed = ((coarse - batch["ct"]).abs() + (fine - batch["ct"]).abs()) * weight
    losses = {
        "ct": missed.sum() / weight.sum() / 2,
        "dice": dice_loss(mask, batch["target"]) + F.binary_cross_entropy_with_logits(target, batch["target"]) * 4,
        "adjacent": dice_loss(torch.sigmoid(adjacent), batch["adjacent"])
        + F.binary_cross_entropy_with_logits(adjacent, batch["adjacent"]),
    }
    if parts.edges:
        losses["edges"] = edge_loss(mask, batch["target"])
    if parts.restoration:
        true = batch["height"][:, None]
        losses["height"] = ((heights - true).abs() / true).mean()
        losses["columns"] = column_loss(mask, batch["target"])
    return {name: WEIGHTS[name] * loss for name, loss in losses.items()}


def dice_loss(mask: Tensor, true: Tensor) -> Tensor:
    """Return 1 - Dice of soft masks, mean over the batch."""
    both, total = (mask * true).sum((1, 2, 3)), (mask + true).sum((1, 2, 3))
    return (1 - (2 * both + 1) / (total + 1)).mean()


def edge_loss(mask: Tensor, true: Tensor) -> Tensor:
    """Return the squared difference of the Sobel edges of two soft masks, near the true edges.

    The paper thresholds the mask first, so that its edge loss has no gradient; a probability has one.
    """
    found, wanted = sobel(mask), sobel(true)
    near = F.max_pool2d(wanted.norm(dim=1, keepdim=True), 5, 1, 2) > 0.05
    return (((found - wanted) ** 2).sum(1, keepdim=True) * near).sum() / near.sum().clamp_min(1)


def sobel(mask: Tensor) -> Tensor:
    """Return the horizontal and vertical edges `(b, 2, rows, columns)` of a mask."""
    kernel = mask.new_tensor([[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]], [[[-1, -2, -1], [0, 0, 0], [1, 2, 1]]]]) / 8
    return F.conv2d(F.pad(mask, (1, 1, 1, 1), mode="replicate"), kernel)


def column_loss(mask: Tensor, true: Tensor) -> Tensor:
    """Return the mean relative error of the heights of the mask's columns."""
    found, wanted = mask.sum(2), true.sum(2)
    tall = wanted > 0.6 * wanted.amax(2, keepdim=True)
    return ((found - wanted).abs() / wanted.clamp_min(LEAST_COLUMN) * tall).sum() / tall.sum().clamp_min(1)
