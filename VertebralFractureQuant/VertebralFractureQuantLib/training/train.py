"""Training the networks from phantoms: seeded, resumable, with a moving average of the weights and a model card.

A run is a folder: `checkpoint.pt` (to resume), `log.csv`, `<role>.safetensors` and `<role>.json` of the best
validation so far, and when it ends `<role>.onnx`. Needs torch, scipy, safetensors; for the graph openvino
and onnx.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import VFQError
from ..networks import weights
from ..networks.architectures import ARCHITECTURES, SpineLocalizer, SpineRefiner, VertebraDetector
from ..networks.detector import COLUMNS, HALF_WIDTH_MM, detect, window
from ..networks.localizer import SPACING_MM, scale
from ..networks.losses import (
    POINT_SHARE,
    detector_loss,
    localizer_loss,
    point_loss,
    refiner_loss,
    slice_logits,
    soft_argmax,
)
from ..networks.predictor import TorchPredictor
from ..networks.refiner import SPACING_MM as TUBE_SPACING_MM
from ..spine.record import ModelStamp
from . import checkpoints, samples, tubes
from .crew import Crew, joined
from .export import export_or_report

VALIDATION_SEED = 9_000_000
AVERAGE_DECAY = 0.995
PAST_WARM_UP = 10_000  # updates that the average of weights that were trained before counts as
SHIPPED = "shipped"  # the name of the shipped weights as a start
GUESS_PIXELS = 1.8  # how far off, by standard deviation, a key point's place is before its map is looked at
NARROW = 96  # columns of a detector picture trained on at a time: a spine off the middle, in less time


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    role: str
    steps: int
    batch: int
    learning_rate: float
    seed: int = 1
    workers: int = 1
    pool: int = 8
    reuse: int = 10
    validate_every: int = 250
    minutes: float | None = None  # stop early, resumable
    start: str | None = None  # a weights file to begin with, or SHIPPED; chance if None
    channels: tuple[int, ...] | None = None  # of each depth; the architecture's if None


RECIPES = {
    "localizer": Recipe("localizer", steps=6000, batch=4, learning_rate=1.5e-3, pool=16, reuse=25),
    "refiner": Recipe("refiner", steps=4500, batch=4, learning_rate=2e-3, pool=12, reuse=40),
    "detector": Recipe("detector", steps=8000, batch=8, learning_rate=1.5e-3, pool=16, reuse=24),
}


def train(recipe: Recipe, folder: Path, device: str = "cpu", report: Callable[[str], None] = print) -> Path:
    """Train, or go on with the run in `folder`; returns the best weights' path. An exported graph lies beside them.

    Started by torch's launcher, it trains on all the processes' GPUs: see `crew`.
    VFQError `bad_weights`, `bad_channels` and `bad_checkpoint` for what a run cannot begin or go on with,
    `output_exists` where the folder holds weights of no run, `diverged` where numbers are no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best = folder / f"{recipe.role}.safetensors"
    if best.exists() and not (folder / checkpoints.NAME).exists():
        raise VFQError(
            "output_exists", f"{folder.name} holds {best.name}, and no run that made it. Give another folder."
        )
    with joined(device) as crew:
        _train(recipe, folder, crew, report)
        if crew.leads:
            export_or_report(recipe.role, best, report)
    return best


def _train(recipe: Recipe, folder: Path, crew: Crew, report: Callable[[str], None]) -> None:
    torch.manual_seed(recipe.seed)
    task = TASKS[recipe.role]
    layout = torch.channels_last if recipe.role == "detector" else torch.channels_last_3d  # half the time on a CPU
    saved = checkpoints.read(folder, recipe.role, crew.device)
    model, origin = _begin(recipe) if saved is None else _begun(recipe, saved)
    model = model.to(crew.device).to(memory_format=layout)  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=_moving_average, use_buffers=True)
    if origin:
        average.n_averaged.fill_(PAST_WARM_UP)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=1e-3)
    state: dict = {"step": 0, "best": math.inf, "seconds": 0}
    if saved is not None:
        state = checkpoints.restore(folder, saved, model, average, optimizer)
    torch.manual_seed(recipe.seed + 1000 * state["step"] + crew.rank)  # of the crops, each process and start its own
    together = crew.together(model)
    stream = iter(_loader(recipe, state["step"], crew))
    fixed = _validation_set(task) if crew.leads else []
    started, before, losses, late = time.monotonic(), state["seconds"], [], False
    while state["step"] < recipe.steps and not late:
        _set_rate(optimizer, recipe, state["step"])
        losses.append(_step(task, together, optimizer, next(stream), crew))
        average.update_parameters(model)
        state["step"] += 1
        seconds = time.monotonic() - started
        late = recipe.minutes is not None and not crew.all(seconds < recipe.minutes * 60)
        if crew.leads and (state["step"] % recipe.validate_every == 0 or state["step"] == recipe.steps or late):
            figures = task.validate(average.module.eval(), fixed)
            _check_finite(folder, state["step"], figures, model, average.module)
            state["seconds"] = round(before + seconds)
            spent = {"step": state["step"], "seconds": state["seconds"], "loss": float(np.mean(losses))}
            losses, figures = [], {**spent, **figures}
            _keep(folder, recipe, origin, average.module, figures, state)
            begun = {"channels": list(model.channels), "started_from": origin and asdict(origin)}
            checkpoints.write(folder, recipe.role, {**begun, **state}, model, average, optimizer)
            report("  ".join(f"{k} {v:.4g}" for k, v in figures.items()))


def _begin(recipe: Recipe) -> tuple[nn.Module, ModelStamp | None]:
    """The network to train, and whose weights it has if the recipe starts from some. VFQError `bad_weights`,
    `bad_channels`."""
    scratch = ARCHITECTURES[recipe.role]()
    channels = recipe.channels or scratch.channels
    if len(channels) != len(scratch.channels) or min(channels) < 1:
        raise VFQError("bad_channels", f"The {recipe.role} has {len(scratch.channels)} depths: give channels for each.")
    if recipe.start is None:
        return ARCHITECTURES[recipe.role](channels), None
    model, origin = weights.load(recipe.role, path=None if recipe.start == SHIPPED else Path(recipe.start))
    if recipe.channels and channels != model.channels:
        raise VFQError(
            "bad_channels", f"The weights to start from have {model.channels}. Leave out channels, or start."
        )
    return model.requires_grad_(True), origin


def _check_finite(folder: Path, step: int, figures: dict, *models: nn.Module) -> None:
    """VFQError `diverged` where the validation or a weight is no number any more; nothing is saved then."""
    if not math.isfinite(figures["score"]) or not all(weights.is_storable(model) for model in models):
        raise VFQError(
            "diverged",
            f"By step {step} numbers of the network were no longer finite, and nothing of this was saved. What "
            f"{folder.name} holds is of an earlier step and can be gone on from with a lower learning rate (--rate).",
        )


@torch.no_grad()
def _moving_average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
    """Exponential with a warm-up: the first steps' batch statistics are far off and must not linger in the mean."""
    decay = min(AVERAGE_DECAY, (1 + float(count)) / (10 + float(count)))
    for mean, new in zip(averaged, current, strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)


def _begun(recipe: Recipe, saved: dict) -> tuple[nn.Module, ModelStamp | None]:
    """The network of a run that was begun, and whose weights it began with; VFQError `bad_checkpoint` where other ones
    or other channels are wished for now. Checkpoints of earlier versions do not tell."""
    channels, told = saved.get("channels"), saved.get("started_from")
    origin = ModelStamp(**told) if told else None
    if channels is None:
        return _begin(recipe)
    wished = _begin(recipe)[1] if recipe.start else origin
    if wished != origin or (recipe.channels and list(recipe.channels) != channels):
        begun = f"from {origin.name}" if origin else "from scratch"
        raise VFQError(
            "bad_checkpoint",
            f"The run in the folder began {begun} with channels {'-'.join(map(str, channels))}. Leave --start and "
            "--channels out to go on with it, or give another folder for a new run.",
        )
    return ARCHITECTURES[recipe.role](tuple(channels)), origin


def _loader(recipe: Recipe, done: int, crew: Crew) -> torch.utils.data.DataLoader:
    """Fresh phantoms; neither a resumed run nor another process of the crew sees the same. Without workers they are
    painted on the crew's device."""
    task = TASKS[recipe.role]
    paint = partial(task.paint, device="cpu" if recipe.workers else crew.device)
    seed = (recipe.seed + 1000 * done, crew.rank)
    stream = samples.Stream(paint, task.sample, seed, recipe.pool, recipe.reuse)
    prefetch = 4 if recipe.workers else None
    return torch.utils.data.DataLoader(stream, recipe.batch, num_workers=recipe.workers, prefetch_factor=prefetch)


def _set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int) -> None:
    """Linear warm-up over 100 steps, then a cosine to a hundredth."""
    share = step / recipe.steps
    rate = recipe.learning_rate * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)
    for group in optimizer.param_groups:
        group["lr"] = rate


def _step(
    task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], crew: Crew
) -> float:
    model.train()
    batch = {k: v.to(crew.device) for k, v in batch.items()}
    with torch.autocast(crew.device.split(":")[0], torch.bfloat16):
        loss = task.loss(model, batch)
    optimizer.zero_grad(set_to_none=True)
    if crew.all(bool(torch.isfinite(loss))):
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return float(loss.detach())


def _localizer_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return localizer_loss(model(scale(batch["volume"])[:, None]), batch["position"], batch["holds_spine"])


def _refiner_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    out = model(scale(batch["volume"])[:, None])
    return refiner_loss(out, batch["position"], batch["holds_spine"], batch["level"])


def _detector_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    left = int(torch.randint(0, COLUMNS - NARROW + 1, ()))
    places, known = (batch[k] for k in ("places", "known"))
    places = places - places.new_tensor((0.0, left))
    batch = {k: v[..., left : left + NARROW] for k, v in batch.items() if k not in ("places", "known")}
    out, maps = model(window(batch["picture"])[:, None])
    loss = detector_loss(out, batch["objectness"], batch["weight"], batch["offsets"], batch["emphasis"])
    known = known * ((places[..., 1] >= 0) & (places[..., 1] < NARROW))
    guess = places + GUESS_PIXELS * torch.randn_like(places)
    return loss + POINT_SHARE * point_loss(maps, guess, places, known)


def _validation_set(task: Task) -> list:
    """Fixed phantoms of seeds that training never draws."""
    rngs = [np.random.default_rng([i, 0, 0, VALIDATION_SEED]) for i in range(task.validated)]  # a stream's are shorter
    return [task.sample(task.paint(r), r) for r in rngs]


@torch.inference_mode()
def validate_localizer(model: SpineLocalizer, fixed: list) -> dict[str, float]:
    """Curve error (mm) on slices that hold spine, and the share of slices with a wrong spine flag."""
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
    """Curve error (mm) on slices that hold spine, and the share of slices that look most like a wrong level."""
    errors, wrong = [], []
    for s in fixed:
        heat, logits = model(scale(s["volume"])[None, None])
        distance = (soft_argmax(heat)[0] - s["position"]).norm(dim=-1) * TUBE_SPACING_MM
        errors.append(distance[s["holds_spine"] > 0])
        wrong.append((logits[0].argmax(0) != s["level"])[s["level"] != tubes.UNKNOWN].float())
    line, level = float(torch.cat(errors).mean()), float(torch.cat(wrong).mean())
    return {"curve_mm": line, "wrong_levels": level, "score": line + level}


def validate_detector(model: VertebraDetector, fixed: list) -> dict[str, float]:
    """Recall, false detections for each true vertebra, point error (mm), mean |dG| of matched vertebrae."""
    predict = TorchPredictor(model, str(model.head.weight.device))
    found, true, false, errors, ratio_errors = 0, 0, 0, [], []
    for s in fixed:
        truth, ignored = _truth(s), s["weight"].numpy() < 0.5
        detections = detect(predict, s["picture"].numpy()).keypoints
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


def _truth(sample: dict[str, Tensor]) -> list[np.ndarray]:
    """Key points of a sample's vertebrae, read back from its offset maps."""
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


@dataclass(frozen=True)
class Task:
    """What a role is trained with: its phantoms, samples, loss and validation on `validated` fixed samples."""

    paint: Callable
    sample: Callable
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    validate: Callable
    validated: int


TASKS = {
    "localizer": Task(samples.paint_trunk, samples.localizer_sample, _localizer_loss, validate_localizer, 10),
    "refiner": Task(tubes.paint_tube, tubes.refiner_sample, _refiner_loss, validate_refiner, 16),
    "detector": Task(samples.paint_column, samples.detector_sample, _detector_loss, validate_detector, 16),
}


def _keep(
    folder: Path, recipe: Recipe, origin: ModelStamp | None, model: nn.Module, figures: dict, state: dict
) -> None:
    log = folder / "log.csv"
    fresh = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, figures)
        if fresh:
            writer.writeheader()
        writer.writerow(figures)
    if figures["score"] < state["best"]:
        state["best"] = figures["score"]
        start = recipe.start and Path(recipe.start).name  # a card tells no place of this computer
        card = {
            "name": f"{recipe.role}-1",
            "data": "synthetic phantoms made on the fly; no patient data",
            "recipe": {**asdict(recipe), "start": start},
            "started_from": origin and asdict(origin),
            "validation": figures,
        }
        weights.save(model, recipe.role, folder / f"{recipe.role}.safetensors", card)  # type: ignore[arg-type]
