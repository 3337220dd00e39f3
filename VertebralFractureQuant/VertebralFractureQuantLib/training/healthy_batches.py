"""Batches of stored frames (`healthy_data`) for the generator of the synthetic picture, and its input.

Images are `(b, 1, ROWS, COLUMNS)`; `attention` is `(b, 1, ROWS, 1)`, `height` `(b,)` rows. `valid` is 1 where the image
is known, and 0 in what is left of the band.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..methods.healthy_frame import BAND, OUTSIDE
from .healthy_losses import Parts


def as_batch(frames: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """Return stored frames as a batch, see `healthy_losses.generator_losses`, with `attention` `(b, 1, ROWS, 1)`."""
    stacked = {key: torch.as_tensor(np.stack([f[key] for f in frames])) for key in frames[0]}
    out = {key: stacked[key].float()[:, None] / 255 for key in ("ct", "target", "adjacent")}
    out["ct"] = out["ct"] * 2 - 1
    out["attention"] = stacked["attention"].float()[:, None, :, None] / 255
    out["attention"][:, :, OUTSIDE : OUTSIDE + BAND] = 1
    out["height"] = stacked["height"].float()
    rows = torch.arange(BAND)
    top = torch.div(BAND - out["height"].int(), 2, rounding_mode="floor")[:, None]
    valid = torch.ones_like(out["ct"])
    valid[:, :, OUTSIDE : OUTSIDE + BAND] = ((rows >= top) & (rows < top + out["height"].int()[:, None])).float()[
        :, None, :, None
    ]
    out["valid"] = valid
    return out


def augmented(batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """Return the batch with another contrast, more noise, and a small shift along A."""
    ct = batch["ct"]
    gain = torch.as_tensor(rng.normal(1, 0.08, (len(ct), 1, 1, 1)), dtype=ct.dtype)
    shift = torch.as_tensor(rng.normal(0, 0.03, (len(ct), 1, 1, 1)), dtype=ct.dtype)
    moved = int(rng.integers(-3, 4))
    wide = {k: batch[k] for k in ("target", "adjacent")} | {"ct": (ct * gain + shift).clamp(-1, 1)}
    return batch | {k: torch.roll(v, moved, 3) for k, v in wide.items()}


def network_input(batch: dict[str, Tensor], parts: Parts) -> Tensor:
    """Return the input `(b, 3, ROWS, COLUMNS)` of the generator, see `healthy_frame.Frame.channels`."""
    band = torch.zeros_like(batch["ct"])
    band[:, :, OUTSIDE : OUTSIDE + BAND] = 1
    attention = batch["attention"] if parts.attention else torch.ones_like(batch["attention"])
    return torch.cat([batch["ct"] * (1 - band), band, attention.expand_as(band)], 1)


def unwidened(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return frames whose band is only as tall as what it hides: for the ablation of the height restoration.

    The image above and below is moved to the rows of the vertebra; the frame's ends repeat their outermost row.
    """
    out = dict(batch)
    for key in ("ct", "adjacent", "attention"):
        out[key] = batch[key].clone()
        for i, tall in enumerate(batch["height"].int().tolist()):
            top = (BAND - tall) // 2
            bottom = BAND - tall - top
            x = batch[key][i]
            above = torch.cat([x[:, :1].expand(-1, top, -1), x[:, :OUTSIDE]], 1)
            below = torch.cat([x[:, -OUTSIDE:], x[:, -1:].expand(-1, bottom, -1)], 1)
            out[key][i] = torch.cat([above, x[:, OUTSIDE + top : OUTSIDE + top + tall], below], 1)
    out["valid"] = torch.ones_like(batch["ct"])
    return out


def unwidened_input(batch: dict[str, Tensor], parts: Parts) -> Tensor:
    """Return `network_input` of `unwidened` frames: the band is `valid` of the widened ones."""
    band = batch["valid"].clone()
    band[:, :, :OUTSIDE], band[:, :, OUTSIDE + BAND :] = 0, 0
    moved = unwidened(batch)
    attention = moved["attention"] if parts.attention else torch.ones_like(moved["attention"])
    return torch.cat([moved["ct"] * (1 - band), band, attention.expand_as(band)], 1)
