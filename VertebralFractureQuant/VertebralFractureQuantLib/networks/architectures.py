"""The networks as torch modules, one for each role; they are trained, exported, and run on GPUs.

Analysis on a CPU does not need them: OpenVINO runs the graphs that were exported from these modules.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spine.levels import CLASSES
from .detector import OUTPUTS, POINTS


class SpineLocalizer(nn.Module):
    """3D U-Net; its input is `(b, 1, s, a, r)` scaled to [0, 1], its output the map `(b, s, a, r)` of logits."""

    def __init__(self, channels: tuple[int, ...] = (8, 16, 32, 64, 64)):
        super().__init__()
        self.channels = tuple(channels)
        down = [1, *channels]
        self.down = nn.ModuleList(_block(nn.Conv3d, nn.BatchNorm3d, a, b) for a, b in zip(down, down[1:], strict=False))
        pairs = list(zip(channels[::-1], channels[-2::-1], strict=False))
        self.up = nn.ModuleList(_block(nn.Conv3d, nn.BatchNorm3d, a + b, b) for a, b in pairs)
        self.head = nn.Conv3d(channels[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map `(b, s, a, r)` of logits for `x` `(b, 1, s, a, r)`, whose sides are multiples of 16."""
        return self.head(self.features(x)[-1])[:, 0]

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the features `(b, channels, s, a, r)` at the bottom of the U, and after each block on the way up."""
        skips = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool3d(x, 2) if i else x)
            skips.append(x)
        features = [skips.pop()]
        for block in self.up:
            x = F.interpolate(features[-1], scale_factor=2.0, mode="nearest")
            features.append(block(torch.cat([x, skips.pop()], 1)))
        return features


class SpineRefiner(SpineLocalizer):
    """The localizer's network with a second output: which level each slice looks like.

    The input is `(b, 1, s, a, r)` with sides that are multiples of 8; the outputs are the map `(b, s, a, r)` and the
    logits `(b, len(CLASSES), s)` of the levels.
    """

    def __init__(self, channels: tuple[int, ...] = (8, 16, 32, 64)):
        super().__init__(channels)
        pooled = 2 * (channels[-1] + channels[1] + channels[0])
        self.level = nn.Sequential(
            nn.Conv1d(pooled, 64, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Conv1d(64, len(CLASSES), 5, padding=2),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the map `(b, s, a, r)` and the logits `(b, len(CLASSES), s)` for `x` `(b, 1, s, a, r)`."""
        rows = x.shape[2]
        features = self.features(x)
        seen = (features[0], *features[-2:])
        pooled = [torch.cat([f.mean((3, 4)), f.amax((3, 4))], 1) for f in seen]
        stretched = [F.interpolate(p, rows, mode="linear") for p in pooled]
        return self.head(features[-1])[:, 0], self.level(torch.cat(stretched, 1))


class VertebraDetector(nn.Module):
    """2D U-Net at full resolution.

    The input is `(b, 1, rows, columns)`, windowed, with sides that are multiples of 16. The outputs are the objectness
    and offsets of each pixel `(b, OUTPUTS, rows, columns)`, and maps of the key points `(b, POINTS, rows, columns)`.
    """

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96, 128)):
        super().__init__()
        self.channels = tuple(channels)
        down = [1, *channels]
        self.down = nn.ModuleList(_block(nn.Conv2d, nn.BatchNorm2d, a, b) for a, b in zip(down, down[1:], strict=False))
        pairs = list(zip(channels[::-1], channels[-2::-1], strict=False))
        self.up = nn.ModuleList(_block(nn.Conv2d, nn.BatchNorm2d, a + b, b) for a, b in pairs)
        self.head = nn.Conv2d(channels[0], OUTPUTS, 1)
        self.points = nn.Sequential(
            nn.Conv2d(channels[0], 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, POINTS, 1),
        )
        with torch.no_grad():
            self.head.bias[0] = -4.0  # type: ignore[index]  # vertebra centres are rare

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pixels `(b, OUTPUTS, rows, columns)` and maps `(b, POINTS, rows, columns)` for `x`, see the class."""
        features = self.features(x)
        return self.head(features), self.points(features)

    def features(self, x: Tensor) -> Tensor:
        """Return the last features `(b, channels[0], rows, columns)` of the U-Net."""
        skips = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skips.pop()], 1))
        return x


def _block(
    convolution: type[nn.Conv2d] | type[nn.Conv3d],
    normalisation: type[nn.BatchNorm2d] | type[nn.BatchNorm3d],
    inside: int,
    outside: int,
) -> nn.Module:
    layers: list[nn.Module] = []
    for a in (inside, outside):
        layers += [convolution(a, outside, 3, padding=1, bias=False), normalisation(outside), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


ARCHITECTURES: dict[str, type[SpineLocalizer] | type[VertebraDetector]] = {
    "localizer": SpineLocalizer,
    "refiner": SpineRefiner,
    "detector": VertebraDetector,
}
