"""The spine localizer: a coarse CT in, the spine's curve and the limits of the spine out.

A 3D U-Net on a RAS-aligned grid of 4 mm gives one map; a 2D soft-argmax on each axial slice is the curve's point
there, the slice's largest value is the logit of "this slice holds spine" (Zakharov et al. 2023, section 2.1).
Volumes are `[s, a, r]`: slices from caudal to cranial, rows towards anterior, columns towards R.

Departure from the paper (2 x 2 x 4 mm): 4 mm isotropic. The soft-argmax is sub-voxel, and it is a quarter of the
voxels. At inference the soft-argmax looks only around the one continuous path that explains all slices best:
a bright heart or aorta may win a slice, but not a spine's length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ct import CTVolume

SPACING_MM = 4.0
WINDOW_HU = (-1000.0, 1000.0)
DEPTH = 4
SLICE_THRESHOLD = 0.5  # paper
PATH_REACH = 2  # voxels a slice: a spine that leans by 60 degrees
PATH_RADIUS = 5  # voxels
WORST_LOG_PROBABILITY = -8.0  # a slice without spine must not cost more than a detour


@dataclass(frozen=True)
class CoarseVolume:
    """A RAS-aligned isotropic volume `[s, a, r]` HU; `origin` is the RAS mm of voxel (0, 0, 0)."""

    voxels: np.ndarray
    origin: np.ndarray
    spacing: float = SPACING_MM


class SpineLocalizer(nn.Module):
    """3D U-Net; input `(b, 1, s, a, r)` scaled to [0, 1], output the map `(b, s, a, r)`."""

    def __init__(self, channels: tuple[int, ...] = (8, 16, 32, 64, 64)):
        super().__init__()
        self.channels = tuple(channels)
        down = [1, *channels]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(down, down[1:], strict=False))
        pairs = list(zip(channels[::-1], channels[-2::-1], strict=False))
        self.up = nn.ModuleList(_block(a + b, b) for a, b in pairs)
        self.head = nn.Conv3d(channels[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, 1, s, a, r)`, sides multiples of 16, to the map `(b, s, a, r)` of logits."""
        skips = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool3d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skips.pop()], 1))
        return self.head(x)[:, 0]


def _block(inside: int, outside: int) -> nn.Module:
    layers: list[nn.Module] = []
    for a in (inside, outside):
        layers += [nn.Conv3d(a, outside, 3, padding=1, bias=False), nn.BatchNorm3d(outside), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def scale(volume: Tensor) -> Tensor:
    """HU to [0, 1]."""
    low, high = WINDOW_HU
    return (volume.clamp(low, high) - low) / (high - low)


def soft_argmax(heat: Tensor) -> Tensor:
    """`(b, s, 2)`: expected (a, r) voxel position on every slice of `heat` `(b, s, a, r)`."""
    weight = heat.float().flatten(2).softmax(-1).reshape(heat.shape)
    a = torch.arange(heat.shape[2], device=heat.device, dtype=weight.dtype)
    r = torch.arange(heat.shape[3], device=heat.device, dtype=weight.dtype)
    return torch.stack([(weight.sum(3) * a).sum(2), (weight.sum(2) * r).sum(2)], -1)


def slice_logits(heat: Tensor) -> Tensor:
    """`(b, s)`: logit that the slice holds spine."""
    return heat.float().flatten(2).amax(-1)


def continuous_path(heat: Tensor) -> Tensor:
    """`(s, 2)` voxels (a, r): the path through `heat` `(s, a, r)` of the greatest sum of log-probabilities that
    moves at most `PATH_REACH` voxels from slice to slice (dynamic programming)."""
    gain = F.logsigmoid(heat.float()).clamp_min(WORST_LOG_PROBABILITY)
    best, pointers = gain[0], []
    for plane in gain[1:]:
        reached, pointer = F.max_pool2d(best[None, None], 2 * PATH_REACH + 1, 1, PATH_REACH, return_indices=True)
        pointers.append(pointer[0, 0])
        best = reached[0, 0] + plane
    path = [int(best.argmax())]
    for pointer in pointers[::-1]:
        path.append(int(pointer.flatten()[path[-1]]))
    flat = torch.tensor(path[::-1], device=heat.device)
    return torch.stack([flat // heat.shape[2], flat % heat.shape[2]], -1)


def around_path(heat: Tensor, path: Tensor) -> Tensor:
    """`heat` `(1, s, a, r)` with minus infinity farther than `PATH_RADIUS` voxels from `path` `(s, 2)`."""
    a = torch.arange(heat.shape[2], device=heat.device)[None, :, None] - path[:, 0, None, None]
    r = torch.arange(heat.shape[3], device=heat.device)[None, None, :] - path[:, 1, None, None]
    return heat.float().masked_fill((a**2 + r**2 > PATH_RADIUS**2)[None], -torch.inf)


def coarsen(ct: CTVolume, spacing: float = SPACING_MM) -> CoarseVolume:
    """`ct` averaged in blocks of its own axes, then resampled to a RAS-aligned grid of `spacing` mm."""
    steps = np.maximum(1, np.floor(spacing / np.asarray(ct.spacing_mm)).astype(int))
    blocks = _block_mean(ct.voxels, steps)
    to_ras = ct.ijk_to_ras.copy()
    to_ras[:3, 3] += to_ras[:3, :3] @ [np.mean(_picks(s)) for s in steps[::-1]]
    to_ras[:3, :3] = to_ras[:3, :3] * steps[::-1]
    corners = _corners(blocks.shape, to_ras)
    low, high = corners.min(0), corners.max(0)
    count = np.maximum(1, np.floor((high - low) / spacing).astype(int) + 1)
    origin = low + ((high - low) - (count - 1) * spacing) / 2
    return CoarseVolume(_resampled(blocks, np.linalg.inv(to_ras), origin, spacing, count), origin, spacing)


def _resampled(
    blocks: np.ndarray, ras_to_ijk: np.ndarray, origin: np.ndarray, spacing: float, count: np.ndarray
) -> np.ndarray:
    """Trilinear samples `[s, a, r]` of `blocks` `[k, j, i]`; both index orders are the reverse of their matrix's."""
    from scipy.ndimage import affine_transform

    matrix = (ras_to_ijk[:3, :3] * spacing)[::-1, ::-1]
    offset = (ras_to_ijk[:3, :3] @ origin + ras_to_ijk[:3, 3])[::-1]
    shape = tuple(int(n) for n in count[::-1])
    resampled: np.ndarray = affine_transform(blocks, matrix, offset, shape, order=1, mode="nearest")
    outside = affine_transform(np.ones_like(blocks), matrix, offset, shape, order=1, mode="constant") < 0.5
    resampled[outside] = -1000.0
    return resampled


def _block_mean(voxels: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Mean over blocks `steps` [k, j, i], from at most two samples along each axis: enough against aliasing here."""
    count = [max(1, n // s) for n, s in zip(voxels.shape, steps, strict=True)]
    total: np.ndarray | None = None
    picks = [_picks(s) for s in steps]
    for k in picks[0]:
        for j in picks[1]:
            for i in picks[2]:
                part = voxels[k :: steps[0], j :: steps[1], i :: steps[2]][: count[0], : count[1], : count[2]]
                total = part.astype(np.int32) if total is None else total + part
    assert total is not None
    return total.astype(np.float32) / np.prod([len(p) for p in picks])


def _picks(step: int) -> list[int]:
    """Which voxels of a block of `step` stand for it."""
    return sorted({step // 4, (3 * step) // 4})


def _corners(shape: tuple[int, ...], ijk_to_ras: np.ndarray) -> np.ndarray:
    ends = [(0, n - 1) for n in shape[::-1]]
    ijk = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    return ijk @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]


@torch.inference_mode()
def localize(model: SpineLocalizer, volume: CoarseVolume) -> tuple[np.ndarray, np.ndarray]:
    """Curve points `(s, 3)` RAS mm, one an axial slice from caudal to cranial, and P(slice holds spine) `(s,)`."""
    device = model.head.weight.device
    shape = volume.voxels.shape
    pad = [p for n in shape[::-1] for p in (0, -n % 2**DEPTH)]
    x = F.pad(torch.as_tensor(volume.voxels, dtype=torch.float32, device=device), pad, value=-1000.0)
    heat = model(scale(x)[None, None])[:, : shape[0], : shape[1], : shape[2]]
    near = around_path(heat, continuous_path(heat[0]))
    position = soft_argmax(near)[0].cpu().numpy()
    probability = slice_logits(near)[0].sigmoid().cpu().numpy()
    sar = np.column_stack([np.arange(shape[0]), position])
    return volume.origin + sar[:, ::-1] * volume.spacing, probability
