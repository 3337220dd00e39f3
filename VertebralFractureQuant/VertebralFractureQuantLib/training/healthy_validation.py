"""Validation of the generator of the synthetic picture on frames of intact vertebrae: the image is the answer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..methods.healthy_frame import BAND, OUTSIDE
from ..methods.healthy_loss import column_heights, thirds
from .healthy_batches import as_batch, network_input, unwidened, unwidened_input
from .healthy_losses import Parts

BATCH = 32


@torch.no_grad()
def validate(model: nn.Module, frames: list[dict[str, np.ndarray]], parts: Parts) -> dict[str, float]:
    """Return means over the frames.

    `dice`, `iou` of the body; `anterior`, `middle`, `posterior` (relative error of the thirds' heights, mean of the
    absolute value) and their `bias`; `height` (the same of the hidden rows); `psnr` and `ssim` of what the band hides.
    `score` decides which weights are kept: lower is better.
    """
    rows = []
    for start in range(0, len(frames), BATCH):
        batch = as_batch(frames[start : start + BATCH])
        wide = parts.restoration
        images, heights = model(network_input(batch, parts) if wide else unwidened_input(batch, parts))
        true = batch if wide else unwidened(batch)
        rows += [_row(images[i], heights[i], true, batch["valid"][i], i) for i in range(len(images))]
    figures = {key: float(np.nanmean([r[key] for r in rows])) for key in rows[0]}
    figures["score"] = (figures["anterior"] + figures["middle"] + figures["posterior"]) / 3 + (1 - figures["dice"])
    return figures


def _row(images: Tensor, heights: Tensor, batch: dict[str, Tensor], band: Tensor, i: int) -> dict[str, float]:
    mask, true = torch.sigmoid(images[3]).numpy(), batch["target"][i, 0].numpy()
    both, hard, real = (mask * true).sum(), mask > 0.5, true > 0.5
    split = thirds(column_heights(mask), column_heights(true))
    errors = split[0] / split[1] - 1 if split else np.full(3, np.nan)
    tall = float(batch["height"][i])
    within = slice(OUTSIDE, OUTSIDE + BAND)
    known = band[0, within].bool().numpy()
    made, seen = images[2, within].clamp(-1, 1).numpy(), batch["ct"][i, 0, within].numpy()
    rows = known.any(1)
    return {
        "dice": float(2 * both / (mask.sum() + true.sum())),
        "iou": float((hard & real).sum() / max((hard | real).sum(), 1)),
        **dict(zip(("anterior", "middle", "posterior"), map(float, abs(errors)), strict=True)),
        "bias": float(errors.mean()),
        "spread": float((errors**2).mean()),
        "height": abs(float(heights[1]) - tall) / tall,
        "psnr": psnr(made[rows], seen[rows]),
        "ssim": ssim(made[rows], seen[rows]),
    }


def psnr(made: np.ndarray, seen: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio, dB, of images from -1 to 1."""
    return float(10 * np.log10(4 / max(float(((made - seen) ** 2).mean()), 1e-9)))


def ssim(made: np.ndarray, seen: np.ndarray) -> float:
    """Return the structural similarity of images from -1 to 1, with windows of 7 pixels."""
    from scipy.ndimage import uniform_filter

    mean = [uniform_filter(x, 7) for x in (made, seen)]
    var = [uniform_filter(x * x, 7) - m * m for x, m in zip((made, seen), mean, strict=True)]
    both = uniform_filter(made * seen, 7) - mean[0] * mean[1]
    one, two = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    top = (2 * mean[0] * mean[1] + one) * (2 * both + two)
    return float((top / ((mean[0] ** 2 + mean[1] ** 2 + one) * (var[0] + var[1] + two))).mean())
