"""The training tasks: for each role its phantoms, samples, loss and validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..networks.detector import COLUMNS, window
from ..networks.localizer import scale
from ..networks.losses import POINT_SHARE, detector_loss, localizer_loss, point_loss, refiner_loss
from . import columns, mscn, trunks, tubes
from .anchor_boxes import anchor_step_loss
from .method_validation import validate_centres, validate_mask, validate_points
from .validation import validate_anchor_boxes, validate_detector, validate_localizer, validate_refiner

VALIDATION_SEED = 9_000_000
GUESS_PIXELS = 2.4  # standard deviation of the error of a key point's place before its map is used
NARROW = 96  # columns of a detector image used in each step: spines off the middle are seen, and it takes less time


def localizer_step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of the localizer on a batch of `trunks.localizer_sample`."""
    return localizer_loss(model(scale(batch["volume"])[:, None]), batch["position"], batch["holds_spine"])


def refiner_step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of the refiner on a batch of `tubes.refiner_sample`."""
    out = model(scale(batch["volume"])[:, None])
    return refiner_loss(out, batch["position"], batch["holds_spine"], batch["level"])


def detector_step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of the detector on `NARROW` random columns of a batch of `columns.detector_sample`."""
    batch = narrowed(batch)
    places, known = batch["places"], batch["known"]
    out, maps = model(window(batch["picture"])[:, None])
    loss = detector_loss(out, batch["objectness"], batch["weight"], batch["offsets"], batch["emphasis"])
    known = known * ((places[..., 1] >= 0) & (places[..., 1] < NARROW))
    guess = places + GUESS_PIXELS * torch.randn_like(places)
    return loss + POINT_SHARE * point_loss(maps, guess, places, known)


def narrow_anchor_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of the anchor boxes on `NARROW` random columns of a batch of `columns.detector_sample`."""
    return anchor_step_loss(model, narrowed(batch))


def narrowed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `NARROW` random columns of a batch of `columns.detector_sample`, with the places in them."""
    left = int(torch.randint(0, COLUMNS - NARROW + 1, ()))
    cut = {k: v if k in ("places", "known") else v[..., left : left + NARROW] for k, v in batch.items()}
    return {**cut, "places": batch["places"] - batch["places"].new_tensor((0.0, left))}


@dataclass(frozen=True)
class Task:
    """The training of one role: phantoms, samples, loss, and validation on `validated` fixed samples.

    `mixed` computes convolutions in bfloat16.
    """

    paint: Callable
    sample: Callable
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    validate: Callable
    validated: int
    mixed: bool = True


TASKS = {
    "localizer": Task(trunks.paint_trunk, trunks.localizer_sample, localizer_step_loss, validate_localizer, 10),
    "refiner": Task(tubes.paint_tube, tubes.refiner_sample, refiner_step_loss, validate_refiner, 16),
    "detector": Task(columns.paint_column, columns.detector_sample, detector_step_loss, validate_detector, 16),
    "anchor-boxes": Task(columns.paint_column, columns.detector_sample, narrow_anchor_loss, validate_anchor_boxes, 16),
    # In bfloat16, gradients of kernels of 7 x 7 x 7 with few channels are wrong on some CPUs.
    "m-scn-centres": Task(mscn.paint_centres, mscn.centres_sample, mscn.centres_step_loss, validate_centres, 8, False),
    "m-scn-mask": Task(mscn.paint_bodies, mscn.bodies_sample, mscn.mask_step_loss, validate_mask, 8),
    "m-scn-points": Task(mscn.paint_slices, mscn.slices_sample, mscn.points_step_loss, validate_points, 24),
}


def validation_set(task: Task) -> list:
    """Return the fixed samples of a task's validation, from seeds that training never uses."""
    # These seeds have more numbers than those of a stream.
    rngs = [np.random.default_rng([i, 0, 0, VALIDATION_SEED]) for i in range(task.validated)]
    return [task.sample(task.paint(r), r) for r in rngs]


def real_validation_set(task: Task, maker: Callable, cases: Sequence[Any]) -> list:
    """Return as many fixed samples of real cases, each case in its turn; `maker` takes an image from a list of them."""
    rngs = [np.random.default_rng([i, 1, 0, VALIDATION_SEED]) for i in range(task.validated if cases else 0)]
    return [task.sample(maker([cases[i % len(cases)]], r), r) for i, r in enumerate(rngs)]


def figures_of(task: Task, model: nn.Module, fixed: list, real: list) -> dict[str, float]:
    """Return the figures of a validation; with real samples also theirs, and the sum of both scores as the score."""
    figures: dict[str, float] = task.validate(model, fixed)
    if not real:
        return figures
    seen: dict[str, float] = task.validate(model, real)
    both = figures["score"] + seen["score"]
    return {**figures, **{f"real_{name}": value for name, value in seen.items()}, "score": both}
