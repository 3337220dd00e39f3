"""Training of the anchor boxes (Pisov et al. 2020), on the samples of the detector.

The loss is the paper's: BCE of the objectness, which is 1 where an anchor's box and a vertebra's overlap with an IoU
above 0.5, and the mean absolute error of the offsets divided by G.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.anchors import ANCHORS_MM, POSITIVE_IOU, VALUES
from ..networks.detector import window

OFFSET_SHARE = 4.0  # as in the detector's loss, so that both methods weigh places alike


def anchor_step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss on a batch of `columns.detector_sample`."""
    out = model(window(batch["picture"])[:, None]).float()
    out = out.unflatten(1, (len(ANCHORS_MM), VALUES))
    return anchor_loss(out, batch["places"], batch["known"].amax(-1) > 0, batch["weight"])


def anchor_loss(out: Tensor, places: Tensor, known: Tensor, weight: Tensor) -> Tensor:
    """Return BCE(objectness) + 1 / sum I * sum I * MAE(offsets) / G (equation 2 of the paper).

    out `(b, 16, 13, h, w)`; places `(b, n, 6, 2)` (row, column) pixels of the vertebrae, `known` `(b, n)` of which
    exist; weight `(b, h, w)` is 0 on pixels that are neither. BCE is summed and divided by the number of positive
    anchors, as in the detector's loss: with a mean over all anchors it would be negligible.
    """
    bce, error, positives = out.new_zeros(()), out.new_zeros(()), 0
    for one, all_points, exists, seen in zip(out, places, known, weight, strict=True):
        points = all_points[exists]
        nearest, objects = assigned(points, one.shape[-2:])
        weights = torch.maximum(seen[None], objects.to(seen)).expand_as(objects)
        bce = bce + F.binary_cross_entropy_with_logits(one[:, 0], objects.to(one), weights, reduction="sum")
        anchor, row, column = objects.nonzero(as_tuple=True)
        if len(anchor):
            true = points[nearest[anchor, row, column]]
            target = _offsets(true, anchor, row, column)
            tall = (true[:, 0::2] - true[:, 1::2]).norm(dim=-1)
            ratio = tall.amin(-1) / tall.amax(-1).clamp_min(1)
            found = one[anchor, 1:, row, column]
            error = error + ((found - target).abs().mean(-1) / ratio.clamp_min(0.2)).sum()
            positives += len(anchor)
    return (bce + OFFSET_SHARE * error) / max(1, positives)


def assigned(points: Tensor, shape: torch.Size | tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the vertebra `(16, h, w)` that each anchor overlaps most, and whether it overlaps it by more than 0.5.

    points : `(n, 6, 2)` (row, column) pixels.
    """
    anchors = torch.as_tensor(ANCHORS_MM, dtype=torch.float32, device=points.device)
    if not len(points):
        none = torch.zeros((len(anchors), *shape), dtype=torch.long, device=points.device)
        return none, none.bool()
    low, high = points.amin(1), points.amax(1)
    shared = []
    for axis, side in ((0, 1), (1, 0)):
        at = torch.arange(shape[axis], device=points.device, dtype=torch.float32)
        half = anchors[:, side, None] / 2
        above = torch.minimum(at + half, high[:, axis, None, None]) - torch.maximum(at - half, low[:, axis, None, None])
        shared.append(above.clamp_min(0))  # (n, 16, h or w)
    both = shared[0][..., :, None] * shared[1][..., None, :]
    areas = anchors.prod(-1)[None, :] + (high - low).prod(-1)[:, None]
    iou = both / (areas[..., None, None] - both)
    best, nearest = iou.max(0)
    return nearest, best > POSITIVE_IOU


def _offsets(true: Tensor, anchor: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return the offsets `(k, 12)`, (A, row) in sides of their anchors, of points `(k, 6, 2)` (row, column)."""
    sides = torch.as_tensor(ANCHORS_MM, dtype=torch.float32, device=true.device)[anchor]
    place = torch.stack([row, column], -1).to(true)
    return ((true - place[:, None]).flip(-1) / sides[:, None]).flatten(1)
