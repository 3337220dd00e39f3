"""Validation of the networks during training, on a fixed list of samples (dicts of tensors).

Each function returns figures by name; `score` decides which weights are kept: lower is better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..networks.anchors import detect_boxes
from ..networks.architectures import SpineLocalizer, SpineRefiner, VertebraDetector
from ..networks.detector import HALF_WIDTH_MM, Detections, detect
from ..networks.localizer import SPACING_MM, scale
from ..networks.losses import slice_logits, soft_argmax
from ..networks.predictor import TorchPredictor
from ..networks.refiner import SPACING_MM as TUBE_SPACING_MM
from . import tubes


@torch.inference_mode()
def validate_localizer(model: SpineLocalizer, fixed: list) -> dict[str, float]:
    """Return the curve error (mm) on slices that hold spine, and the share of slices with a wrong spine flag."""
    errors, wrong = [], []
    for s in fixed:
        heat = model(scale(s["volume"])[None, None])
        distance = (soft_argmax(heat)[0] - s["position"]).norm(dim=-1) * SPACING_MM
        errors.append(distance[s["holds_spine"] > 0])
        wrong.append(((slice_logits(heat)[0] > 0) != (s["holds_spine"] > 0)).float())
    line, flag = float(torch.cat(errors).mean()), float(torch.cat(wrong).mean())
    return {"curve_mm": line, "wrong_slices": flag, "score": line + 20 * flag}


@torch.inference_mode()
def validate_refiner(model: SpineRefiner, fixed: list) -> dict[str, float]:
    """Return the curve error (mm) on slices that hold spine, and the share of slices whose likeliest level is wrong."""
    errors, wrong = [], []
    for s in fixed:
        heat, logits = model(scale(s["volume"])[None, None])
        distance = (soft_argmax(heat)[0] - s["position"]).norm(dim=-1) * TUBE_SPACING_MM
        errors.append(distance[s["holds_spine"] > 0])
        wrong.append((logits[0].argmax(0) != s["level"])[s["level"] != tubes.UNKNOWN].float())
    line, level = float(torch.cat(errors).mean()), float(torch.cat(wrong).mean())
    return {"curve_mm": line, "wrong_levels": level, "score": line + level}


def validate_anchor_boxes(model: VertebraDetector, fixed: list) -> dict[str, float]:
    """Return the figures of `validate_detector` for the anchor boxes."""
    return validate_detector(model, fixed, detect_boxes)


def validate_detector(
    model: VertebraDetector, fixed: list, find: Callable[..., Detections] = detect
) -> dict[str, float]:
    """Return recall, false detections per true vertebra, point error (mm) and mean |dG| of matched vertebrae."""
    predict = TorchPredictor(model, str(model.head.weight.device))
    found, true, false, errors, ratio_errors = 0, 0, 0, [], []
    for s in fixed:
        truth, ignored = true_keypoints(s), s["weight"].numpy() < 0.5
        detections = find(predict, s["picture"].numpy()).keypoints
        matched: set[int] = set()
        for points in detections:
            center = points.mean((0, 1))
            distance = [np.linalg.norm(t.mean((0, 1)) - center) for t in truth]
            best = int(np.argmin(distance)) if truth else -1
            if best >= 0 and distance[best] < 8 and best not in matched:
                matched.add(best)
                errors.append(np.linalg.norm(points - truth[best], axis=-1).mean())
                ratio_errors.append(abs(_ratio(points) - _ratio(truth[best])))
            elif not ignored[
                tuple(np.clip((center[::-1] + (0, HALF_WIDTH_MM)).astype(int), 0, np.array(ignored.shape) - 1))
            ]:
                false += 1
        found, true = found + len(matched), true + len(truth)
    point, ratio = float(np.mean(errors or [99])), float(np.mean(ratio_errors or [1]))
    score = point + 20 * (1 - found / max(1, true)) + 20 * false / max(1, true)
    return {
        "recall": found / max(1, true),
        "false": false / max(1, true),
        "point_mm": point,
        "dG": ratio,
        "score": score,
    }


def true_keypoints(sample: dict[str, Tensor]) -> list[np.ndarray]:
    """Return the key points `(3, 2, 2)` (A, row) mm of a sample's vertebrae, read from its offset maps."""
    from scipy.ndimage import center_of_mass, label

    regions, count = label(sample["objectness"].numpy())
    out = []
    for i in range(1, count + 1):
        row, column = (round(c) for c in center_of_mass(regions == i))
        offsets = sample["offsets"][:, row, column].numpy().reshape(3, 2, 2)
        out.append(offsets + np.array([column - HALF_WIDTH_MM, row]))
    return out


def _ratio(points: np.ndarray) -> float:
    h = np.linalg.norm(points[:, 0] - points[:, 1], axis=-1)
    return float(h.min() / max(h.max(), 1e-6))
