"""The networks of other methods (`methods`) as torch modules, one for each role.

They are trained, exported and run as those of `architectures`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .anchors import ANCHORS_MM, VALUES
from .architectures import SpineLocalizer, VertebraDetector

PROPOSAL_CHANNELS = 48


class AnchorBoxDetector(VertebraDetector):
    """The detector's U-Net with a region-proposal head (Pisov et al. 2020).

    The input is as for the detector; the output is `(b, 16 * 13, rows, columns)`, see `anchors`.
    """

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96, 128)):
        super().__init__(channels)
        del self.points
        self.head = nn.Conv2d(PROPOSAL_CHANNELS, len(ANCHORS_MM) * VALUES, 1)
        self.proposal = nn.Sequential(
            nn.Conv2d(channels[0], PROPOSAL_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(PROPOSAL_CHANNELS),
            nn.ReLU(inplace=True),
        )
        nn.init.constant_(self.head.bias[::VALUES], -4.0)  # type: ignore[index]  # vertebrae are rare

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Return the proposals `(b, 16 * 13, rows, columns)` for `x` `(b, 1, rows, columns)`."""
        out: Tensor = self.head(self.proposal(self.features(x)))
        return out

    def take_trunk(self, other: VertebraDetector) -> None:
        """Copy the U-Net of a trained detector with the same channels."""
        self.down.load_state_dict(other.down.state_dict())
        self.up.load_state_dict(other.up.state_dict())


class _Residual(nn.Module):
    """Two convolutions with a residual connection: a block of the local network."""

    def __init__(self, kind: type[nn.Conv2d] | type[nn.Conv3d], inside: int, outside: int):
        super().__init__()
        norm = _norm(kind)
        self.first = nn.Sequential(
            kind(inside, outside, 3, padding=1, bias=False), norm(outside), nn.ReLU(inplace=True)
        )
        self.second = nn.Sequential(kind(outside, outside, 3, padding=1, bias=False), norm(outside))
        self.along = kind(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for `x`."""
        return F.relu(self.second(self.first(x)) + self.along(x))


class _Gate(nn.Module):
    """An additive attention gate (Oktay et al. 2018) on a skip connection."""

    def __init__(self, kind: type[nn.Conv2d] | type[nn.Conv3d], skip: int, deep: int):
        super().__init__()
        inner = max(4, skip // 2)
        self.skip, self.deep, self.gate = kind(skip, inner, 1), kind(deep, inner, 1), kind(inner, 1, 1)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """Return `skip` weighed by what `deep`, upsampled to its size, attends to."""
        out: Tensor = skip * torch.sigmoid(self.gate(F.relu(self.skip(skip) + self.deep(deep))))
        return out


class SpatialConfiguration(nn.Module):
    """M-SCN (Wang et al. 2024): the product of a local and a global heat map, in 2D or 3D.

    The local network is a U-Net of four levels with residual blocks and attention gates. The global one convolves the
    local heat map anew, multiplies it into every level of the local decoder ("multiple filtering"), convolves each with
    kernels of 7, and joins them. Input `(b, 1, *sides)`, output `(b, maps, *sides)`; sides are multiples of 8.
    """

    kind: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv3d
    maps = 1
    filters = 4  # channels of each level of the global network

    def __init__(self, channels: tuple[int, ...] = (8, 12, 16, 16)):
        super().__init__()
        self.channels = tuple(channels)
        kind, down = self.kind, [1, *channels]
        self.down = nn.ModuleList(_Residual(kind, a, b) for a, b in zip(down, down[1:], strict=False))
        pairs = list(zip(channels[::-1], channels[-2::-1], strict=False))
        self.gates = nn.ModuleList(_Gate(kind, b, a) for a, b in pairs)
        self.up = nn.ModuleList(_Residual(kind, a + b, b) for a, b in pairs)
        self.local = kind(channels[0], self.maps, 1)
        self.heat = nn.Sequential(kind(self.maps, self.filters, 7, padding=3), nn.ReLU(inplace=True))
        self.filtered = nn.ModuleList(kind(c, self.filters, 1) for c in channels[::-1])
        self.wide = nn.ModuleList(
            nn.Sequential(kind(self.filters, self.filters, 7, padding=3), nn.ReLU(inplace=True)) for _ in channels
        )
        self.overall = kind(self.filters * len(channels), self.maps, 1)
        for head, bias in ((self.local, 0.0), (self.overall, 1.0)):  # at first, the product is the local map
            nn.init.normal_(head.weight, std=0.02)
            nn.init.constant_(head.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return the heat maps `(b, maps, *sides)`."""
        levels = self._decoded(x)
        local = self.local(levels[-1])
        heat = self.heat(local)
        pool = F.max_pool3d if self.kind is nn.Conv3d else F.max_pool2d
        joined = []
        for i, (features, reduce, convolve) in enumerate(zip(levels, self.filtered, self.wide, strict=True)):
            scale = 2 ** (len(levels) - 1 - i)
            out = convolve(reduce(features) * (pool(heat, scale) if scale > 1 else heat))
            joined.append(F.interpolate(out, scale_factor=float(scale), mode="nearest") if scale > 1 else out)
        out = local * self.overall(torch.cat(joined, 1))
        return out

    def _decoded(self, x: Tensor) -> list[Tensor]:
        """Return the features of the local network from its bottom up."""
        pool = F.max_pool3d if self.kind is nn.Conv3d else F.max_pool2d
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(pool(x, 2) if i else x)
            skips.append(x)
        levels = [skips.pop()]
        for gate, block in zip(self.gates, self.up, strict=True):
            deep = F.interpolate(levels[-1], scale_factor=2.0, mode="nearest")
            levels.append(block(torch.cat([deep, gate(skips.pop(), deep)], 1)))
        return levels


class MScnCentres(SpatialConfiguration):
    """One heat map of the centres of all vertebral bodies in a tube along the spine, see `mscn`."""


class MScnPoints(SpatialConfiguration):
    """A heat map of each of the six key points on the sagittal slice of a mask, see `mscn`."""

    kind = nn.Conv2d
    maps = 6
    filters = 12

    def __init__(self, channels: tuple[int, ...] = (8, 16, 24, 24)):
        super().__init__(channels)


class MScnMask(SpineLocalizer):
    """3D U-Net with three labels: background, normal and fractured bone; logits `(b, 3, s, a, r)`, see `mscn`."""

    def __init__(self, channels: tuple[int, ...] = (8, 16, 24, 32)):
        super().__init__(channels)
        self.head = nn.Conv3d(channels[0], 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(b, 3, s, a, r)` for `x` `(b, 1, s, a, r)`, whose sides are multiples of 8."""
        out: Tensor = self.head(self.features(x)[-1])
        return out


def _norm(kind: type[nn.Conv2d] | type[nn.Conv3d]) -> type[nn.BatchNorm2d] | type[nn.BatchNorm3d]:
    return nn.BatchNorm3d if kind is nn.Conv3d else nn.BatchNorm2d


METHOD_ARCHITECTURES: dict[str, type[nn.Module]] = {
    "anchor-boxes": AnchorBoxDetector,
    "m-scn-centres": MScnCentres,
    "m-scn-mask": MScnMask,
    "m-scn-points": MScnPoints,
}
