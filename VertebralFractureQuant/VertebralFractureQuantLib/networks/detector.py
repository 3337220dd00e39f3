"""The vertebra detector: a straightened sagittal picture in, vertebrae with six key points out (anchor-free).

A picture is `(rows, columns)` HU at 1 mm, rows along the arc (cranial first), columns along A (posterior
first, A = column - 64 mm). For each pixel the network gives an objectness logit and six (A, row) offsets in
mm from the pixel to the key points (Zakharov et al. 2023, section 2.2).

Departures from the paper: a fixed HU window instead of zero mean and unit variance, so that a picture half outside
the field of view keeps its contrast; and a vertebra's points are the score-weighted mean over the pixels that agree
with the best one, instead of that pixel's alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..butterfly import NMS_THRESHOLD, suppress

SPACING_MM = 1.0
HALF_WIDTH_MM = 64.0
COLUMNS = 128
OFFSET_SCALE_MM = 16.0
WINDOW_HU = (-300.0, 1000.0)
DEPTH = 4  # poolings: sides are padded to multiples of 2 ** DEPTH

SCORE_THRESHOLD = 0.7  # objectness, paper


@dataclass(frozen=True)
class Detections:
    """Vertebrae of one picture: key points `(n, 3, 2, 2)` as (A, row) mm and scores `(n,)`, cranial to caudal."""

    keypoints: np.ndarray
    scores: np.ndarray


class VertebraDetector(nn.Module):
    """2D U-Net at full resolution; input `(b, 1, rows, columns)` windowed, output `(b, 13, rows, columns)`."""

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96, 128)):
        super().__init__()
        self.channels = tuple(channels)
        down = [1, *channels]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(down, down[1:], strict=False))
        pairs = list(zip(channels[::-1], channels[-2::-1], strict=False))
        self.up = nn.ModuleList(_block(a + b, b) for a, b in pairs)
        self.head = nn.Conv2d(channels[0], 13, 1)
        with torch.no_grad():
            self.head.bias[0] = -4.0  # type: ignore[index]  # vertebra centres are rare

    def forward(self, x: Tensor) -> Tensor:
        """`(b, 1, rows, columns)`, sides multiples of 16, to `(b, 13, rows, columns)`."""
        skips = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skips.pop()], 1))
        return self.head(x)


def _block(inside: int, outside: int) -> nn.Module:
    layers: list[nn.Module] = []
    for a in (inside, outside):
        layers += [nn.Conv2d(a, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def window(picture: Tensor) -> Tensor:
    """HU to the network's input range."""
    low, high = WINDOW_HU
    return (picture.clamp(low, high) - 150.0) / 350.0


def pixel_positions(rows: int, columns: int, device: torch.device | str = "cpu") -> Tensor:
    """`(rows, columns, 2)`: (A, row) mm of every pixel."""
    a = torch.arange(columns, device=device, dtype=torch.float32) * SPACING_MM - HALF_WIDTH_MM
    r = torch.arange(rows, device=device, dtype=torch.float32) * SPACING_MM
    return torch.stack([a[None].expand(rows, -1), r[:, None].expand(-1, columns)], -1)


@torch.inference_mode()
def detect(model: VertebraDetector, picture: np.ndarray, score_threshold: float = SCORE_THRESHOLD) -> Detections:
    """Vertebrae of one straightened picture `(rows, 128)` HU."""
    device = model.head.weight.device
    rows, columns = picture.shape
    unit = 2**DEPTH
    x = F.pad(
        torch.as_tensor(picture, dtype=torch.float32, device=device),
        (0, -columns % unit, 0, -rows % unit),
        value=-1000.0,
    )
    out = model(window(x)[None, None])[0, :, :rows, :columns].float()
    scores = out[0].sigmoid().flatten()
    points = pixel_positions(rows, columns, device)[..., None, :] + _offsets(out)
    return _decode(scores.cpu().numpy(), points.flatten(0, 1).cpu().numpy(), score_threshold)


def _offsets(out: Tensor) -> Tensor:
    """`(rows, columns, 6, 2)` offsets in mm of the 13-channel output."""
    return out[1:].unflatten(0, (6, 2)).permute(2, 3, 0, 1) * OFFSET_SCALE_MM


def _decode(scores: np.ndarray, points: np.ndarray, threshold: float) -> Detections:
    """Butterfly-IoU suppression, then a vote of the pixels around each survivor."""
    order = np.flatnonzero(scores > threshold)
    points, scores = points[order].reshape(-1, 3, 2, 2).astype(float), scores[order].astype(float)
    if len(scores) == 0:
        return Detections(np.empty((0, 3, 2, 2)), np.empty(0))
    kept = suppress(points, scores, NMS_THRESHOLD)
    voted = np.stack([_vote(points, scores, i) for i in kept])
    best = scores[kept]
    down = np.argsort(voted[..., 1].mean((1, 2)))
    return Detections(voted[down], best[down])


def _vote(points: np.ndarray, scores: np.ndarray, best: int) -> np.ndarray:
    """Score-weighted mean of all candidates whose points lie within a third of a height of the best's."""
    reach = np.linalg.norm(points[best, :, 0] - points[best, :, 1], axis=-1).max() / 3
    distance = np.linalg.norm(points - points[best], axis=-1).mean((1, 2))
    near = distance < reach
    weight = scores[near]
    voted: np.ndarray = (points[near] * weight[:, None, None, None]).sum(0) / weight.sum()
    return voted
