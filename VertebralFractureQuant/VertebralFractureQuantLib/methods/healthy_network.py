"""The generator of the synthetic picture: a coarse and a fine stage, rebuilt after HealthiVert-GAN (2025).

Images are `(b, c, ROWS, COLUMNS)` of `healthy_frame`. The coarse stage completes the frame and finds the bodies beside
the target; the fine stage completes it again, with attention, and finds the target's body. Each stage estimates the
target's height as well. Departures from the paper are in Documentation/healthy-picture.md. Needs torch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .healthy_frame import BAND

LEAST_ATTENTION = 1e-3


class _Encoder(nn.Module):
    """Features at a quarter of the resolution, and the height that they suggest."""

    def __init__(self, inside: int, wide: int, deep: int):
        super().__init__()
        self.steps = nn.Sequential(
            _block(inside, wide, 5, stride=2), _block(wide, wide), _block(wide, deep, stride=2), _block(deep, deep)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features `(b, deep, ROWS / 4, COLUMNS / 4)`."""
        out: Tensor = self.steps(x)
        return out


class _Dilated(nn.Module):
    """Residual convolutions that look farther and farther."""

    def __init__(self, deep: int, dilations: tuple[int, ...]):
        super().__init__()
        self.steps = nn.ModuleList(_block(deep, deep, dilation=d) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        for step in self.steps:
            x = x + step(x)
        return x


class _Height(nn.Module):
    """The hidden rows `(b,)`, from the means of the features in the band and everywhere; 0 to `BAND`, not clamped."""

    def __init__(self, deep: int):
        super().__init__()
        self.steps = nn.Sequential(nn.Linear(3 * deep, 48), nn.ReLU(inplace=True), nn.Linear(48, 1))

    def forward(self, x: Tensor, band: Tensor) -> Tensor:
        """Return the height `(b,)` for features and the band at their resolution."""
        within = (x * band).sum((2, 3)) / band.sum((2, 3)).clamp_min(1e-3)
        pooled = torch.cat([within, x.mean((2, 3)), x.amax((2, 3))], 1)
        out: Tensor = BAND * torch.sigmoid(self.steps(pooled))[:, 0]
        return out


class _Decoder(nn.Module):
    """Image and mask logits at full resolution; `beside` `(b, c, ROWS, COLUMNS)` enters at both scales."""

    def __init__(self, deep: int, wide: int, beside: int):
        super().__init__()
        self.low = _block(deep + beside, wide)
        self.high = _block(wide + beside, wide // 2)
        self.head = nn.Conv2d(wide // 2, 2, 3, padding=1)

    def forward(self, x: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image and the mask's logits `(b, 1, ROWS, COLUMNS)`."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.low(torch.cat([x, F.avg_pool2d(beside, 2)], 1))
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        out = self.head(self.high(torch.cat([x, beside], 1)))
        return out[:, :1].clamp(-1.0, 1.0) if not self.training else out[:, :1], out[:, 1:]


class _Lookup(nn.Module):
    """Contextual attention: the band takes features from outside of it, the less the more fractured they are."""

    def __init__(self, deep: int):
        super().__init__()
        self.into = nn.Conv2d(deep, 2 * (deep // 2) + deep, 1)
        self.out = nn.Conv2d(deep, deep, 1)
        self.deep = deep

    def forward(self, x: Tensor, band: Tensor, attention: Tensor) -> Tensor:
        """Return features of the same shape; `band` and `attention` `(b, 1, rows, columns)` have their resolution."""
        b, c, rows, columns = x.shape
        query, key, value = self.into(x).flatten(2).split([c // 2, c // 2, c], 1)
        open_to = ((1 - band) * attention).flatten(2).clamp_min(LEAST_ATTENTION).log()  # (b, 1, keys)
        weight = torch.softmax(query.transpose(1, 2) @ key / (c // 2) ** 0.5 + open_to, -1)
        taken = (value @ weight.transpose(1, 2)).reshape(b, c, rows, columns)
        looked: Tensor = x + self.out(taken)
        return looked


class HealthyGenerator(nn.Module):
    """Coarse and fine generator; `channels` are those at half and at a quarter of the resolution."""

    def __init__(self, channels: tuple[int, ...] = (16, 32)):
        super().__init__()
        self.channels = tuple(channels)
        wide, deep = channels
        self.coarse = nn.ModuleDict(
            {
                "encoder": _Encoder(3, wide, deep),
                "far": _Dilated(deep, (1, 2, 4, 8)),
                "height": _Height(deep),
                "decoder": _Decoder(deep, wide, 1),
            }
        )
        self.fine = nn.ModuleDict(
            {
                "encoder": _Encoder(4, wide, deep),
                "far": _Dilated(deep, (2, 4, 8)),
                "lookup": _Lookup(deep),
                "near": _Dilated(deep, (1,)),
                "merge": _block(2 * deep, deep),
                "height": _Height(deep),
                "decoder": _Decoder(deep, wide, 3),
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return images `(b, 4, ROWS, COLUMNS)` and heights `(b, 2)` in rows for `Frame.channels`.

        The images are: coarse CT, logits of the bodies beside the target, fine CT, logits of the target's body. The
        heights are the coarse and the fine estimate of the hidden rows.
        """
        ct, band, attention = x.split(1, 1)
        low_band, low_attention = F.avg_pool2d(band, 4), F.avg_pool2d(attention, 4)
        seen = self.coarse["far"](self.coarse["encoder"](x))
        coarse_height = self.coarse["height"](seen, low_band)
        coarse, adjacent = self.coarse["decoder"](seen, attention)
        whole = ct + band * (coarse - ct)
        seen = self.fine["encoder"](torch.cat([whole, torch.sigmoid(adjacent), band, attention], 1))
        looked = self.fine["near"](self.fine["lookup"](seen, low_band, low_attention))
        seen = self.fine["merge"](torch.cat([self.fine["far"](seen), looked], 1))
        fine_height = self.fine["height"](seen, low_band)
        fine, target = self.fine["decoder"](seen, torch.cat([whole, torch.sigmoid(adjacent), band], 1))
        return torch.cat([coarse, adjacent, fine, target], 1), torch.stack([coarse_height, fine_height], 1)


def _block(inside: int, outside: int, size: int = 3, stride: int = 1, dilation: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inside, outside, size, stride, dilation * (size // 2), dilation, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    )


def discriminator(inside: int, wide: int = 16) -> nn.Module:
    """Return a small PatchGAN for images `(b, inside, rows, columns)`; it judges patches of 22 pixels."""
    layers: list[nn.Module] = []
    for a, b in ((inside, wide), (wide, 2 * wide), (2 * wide, 4 * wide)):
        layers += [nn.utils.spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(4 * wide, 1, 3, padding=1))
