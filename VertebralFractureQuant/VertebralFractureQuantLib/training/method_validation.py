"""Validation of M-SCN's networks during training, as `validation` does for ours."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from ..networks.mscn import SLICE, SLICE_MM, TUBE_MM, peaks, scaled
from .mscn import soft_places

FOUND_MM = 10.0


@torch.inference_mode()
def validate_centres(model: nn.Module, fixed: list) -> dict[str, float]:
    """Return recall within 10 mm, false centres per true one, and the mean error in mm."""
    found, true, false, errors = 0, 0, 0, []
    for s in fixed:
        heat = model(scaled(s["volume"])[None, None])[0, 0].float().numpy()
        at, centres = peaks(heat)[0], s["centres"].numpy()
        centres = centres[np.isfinite(centres[:, 0])]
        away = np.linalg.norm(at[:, None] - centres[None], axis=-1) * TUBE_MM
        i, j = linear_sum_assignment(away)
        near = away[i, j] < FOUND_MM
        errors += away[i, j][near].tolist()
        seen = [s["weight"].numpy()[tuple(np.clip(p.round().astype(int), 0, np.array(heat.shape) - 1))] > 0 for p in at]
        false += sum(ok for k, ok in enumerate(seen) if k not in set(i[near]))
        found, true = found + int(near.sum()), true + len(centres)
    line, recall, wrong = float(np.mean(errors or [99])), found / max(1, true), false / max(1, true)
    return {"recall": recall, "false": wrong, "centre_mm": line, "score": line + 20 * (1 - recall) + 20 * wrong}


@torch.inference_mode()
def validate_mask(model: nn.Module, fixed: list) -> dict[str, float]:
    """Return the mean Dice of the bodies, and the share whose commoner label of normal and fractured is right."""
    dices, right = [], []
    for s in fixed:
        chances = model(scaled(s["volume"])[None, None])[0].float().softmax(0)
        bone, true = chances[0] < 0.5, s["labels"] > 0
        dices.append(float(2 * (bone & true).sum() / (bone.sum() + true.sum()).clamp_min(1)))
        called = bool((chances[2] > chances[1])[bone].float().mean() > 0.5) if bone.any() else False
        right.append(called == bool((s["labels"] == 2).any()))
    dice, share = float(np.mean(dices)), float(np.mean(right))
    return {"dice": dice, "label": share, "score": 1 - dice + 0.1 * (1 - share)}


@torch.inference_mode()
def validate_points(model: nn.Module, fixed: list) -> dict[str, float]:
    """Return the point error (mm) and the mean |dG|."""
    steps = (torch.arange(SLICE) + 0.5 - SLICE / 2) * SLICE_MM
    heat = torch.cat([model(s["mask"][None, None]).float() for s in fixed])
    found, true = soft_places(heat, steps), torch.stack([s["points"] for s in fixed])
    tall = [(p[:, 0::2] - p[:, 1::2]).norm(dim=-1) for p in (found, true)]
    ratios = [t.amin(-1) / t.amax(-1) for t in tall]
    point, ratio = float((found - true).norm(dim=-1).mean()), float((ratios[0] - ratios[1]).abs().mean())
    return {"point_mm": point, "dG": ratio, "score": point}
