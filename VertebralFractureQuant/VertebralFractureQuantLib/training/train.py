"""Training of the networks from phantoms: seeded, resumable, with a moving average of the weights and a model card.

A run is a folder. It contains `checkpoint.pt` (to resume), `log.csv`, `<role>.safetensors` and `<role>.json` of the
best validation so far, and, when training has ended, `<role>.onnx`. Needs torch, scipy and safetensors; openvino and
onnx for the graph.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import VFQError
from ..networks import weights
from ..networks.roles import architecture
from ..spine.record import ModelStamp
from . import checkpoints
from .crew import Crew, joined
from .export import export_or_report
from .real import read_cases, with_real
from .stream import Stream
from .tasks import TASKS, Task, validation_set

AVERAGE_DECAY = 0.995
PAST_WARM_UP = 10_000  # number of updates that the average starts with if the initial weights were trained before
SHIPPED = "shipped"  # names the shipped weights as initial weights


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes
    ----------
    role, steps, batch, learning_rate, seed : the network, optimizer steps, samples per step, highest rate, random seed.
    trunk : role whose shipped weights are the first part of the network, if `start` names no others.
    workers : processes that paint phantoms; 0 paints in the training process.
    pool, reuse : phantoms in memory, and samples taken from each (`Stream`).
    validate_every : steps between validations.
    minutes : stop after this time; the run can be resumed.
    start : initial weights, a file or `SHIPPED`; random if None.
    channels : of each depth; those of the architecture if None.
    references, scans : folders of six-point references, and the folder of their CTs, to learn from beside the phantoms.
    left_out : beginnings of the names of cases that are not learned from.
    real_share : share of real scans among the images that are painted or taken.
    """

    role: str
    steps: int
    batch: int
    learning_rate: float
    seed: int = 1
    workers: int = 1
    pool: int = 8
    reuse: int = 10
    validate_every: int = 250
    minutes: float | None = None
    start: str | None = None
    channels: tuple[int, ...] | None = None
    references: tuple[str, ...] = ()
    scans: str | None = None
    left_out: tuple[str, ...] = ()
    real_share: float = 0.5
    trunk: str | None = None


RECIPES = {
    "localizer": Recipe("localizer", steps=6000, batch=4, learning_rate=1.5e-3, pool=16, reuse=25),
    "refiner": Recipe("refiner", steps=4500, batch=4, learning_rate=2e-3, pool=12, reuse=40),
    "detector": Recipe("detector", steps=8000, batch=8, learning_rate=1.5e-3, pool=16, reuse=24),
    "anchor-boxes": Recipe(
        "anchor-boxes", steps=4000, batch=8, learning_rate=6e-4, pool=16, reuse=24, trunk="detector"
    ),
    "m-scn-centres": Recipe("m-scn-centres", steps=2000, batch=4, learning_rate=2e-3, pool=16, reuse=30),
    "m-scn-mask": Recipe("m-scn-mask", steps=3000, batch=4, learning_rate=2e-3, pool=16, reuse=72),
    "m-scn-points": Recipe("m-scn-points", steps=3000, batch=8, learning_rate=2e-3, pool=16, reuse=150),
}


def train(recipe: Recipe, folder: Path, device: str = "cpu", report: Callable[[str], None] = print) -> Path:
    """Train, or resume the run in `folder`, and return the path of the best weights.

    An exported ONNX graph is written beside them. If torch's launcher started the process, it trains on the GPUs of all
    processes, see `crew`. VFQError `bad_weights`, `bad_channels` and `bad_checkpoint` if a run cannot start or be
    resumed, `output_exists` if the folder contains weights but no run, `diverged` if numbers are no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best = folder / f"{recipe.role}.safetensors"
    if best.exists() and not (folder / checkpoints.NAME).exists():
        raise VFQError(
            "output_exists", f"{folder.name} contains {best.name}, but no run that made it. Use another folder."
        )
    with joined(device) as crew:
        _train(recipe, folder, crew, report)
        if crew.leads:
            export_or_report(recipe.role, best, report)
    return best


def _train(recipe: Recipe, folder: Path, crew: Crew, report: Callable[[str], None]) -> None:
    torch.manual_seed(recipe.seed)
    task, cases = _task(recipe)
    saved = checkpoints.read(folder, recipe.role, crew.device)
    model, origin = _begin(recipe) if saved is None else _resumed(recipe, saved)
    model = model.to(crew.device).to(memory_format=_layout(model))  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=_moving_average, use_buffers=True)
    if recipe.start:
        average.n_averaged.fill_(PAST_WARM_UP)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=1e-3)
    state: dict = {"step": 0, "best": math.inf, "seconds": 0}
    if saved is not None:
        state = checkpoints.restore(folder, saved, model, average, optimizer)
    # The crops differ between processes, and between the starts of a run.
    torch.manual_seed(recipe.seed + 1000 * state["step"] + crew.rank)
    together = crew.together(model)
    stream = iter(_loader(task, recipe, state["step"], crew))
    fixed = validation_set(task) if crew.leads else []
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
            _keep(folder, recipe, origin, cases, average.module, figures, state)
            begun = {"channels": list(model.channels), "started_from": origin and asdict(origin)}
            checkpoints.write(folder, recipe.role, {**begun, **state}, model, average, optimizer)
            report("  ".join(f"{k} {v:.4g}" for k, v in figures.items()))


def _task(recipe: Recipe) -> tuple[Task, list[str]]:
    """Return the task of a recipe, and the real cases that it learns from."""
    task = TASKS[recipe.role]
    if not recipe.references:
        return task, []
    cases = read_cases([Path(r) for r in recipe.references], Path(recipe.scans or "."), recipe.left_out)
    mixed = replace(task, paint=with_real(recipe.role, task.paint, cases, recipe.real_share))
    return mixed, [case.reference.case for case in cases]


def _begin(recipe: Recipe) -> tuple[nn.Module, ModelStamp | None]:
    """Return a new network, and the stamp of its initial weights if the recipe names some.

    VFQError `bad_weights`, `bad_channels`.
    """
    scratch = architecture(recipe.role)()
    channels = recipe.channels or scratch.channels
    if len(channels) != len(scratch.channels) or min(channels) < 1:
        raise VFQError(
            "bad_channels",
            f"The channels {'-'.join(map(str, channels))} do not fit the {recipe.role}. Give "
            f"{len(scratch.channels)} numbers above 0, one for each depth.",
        )
    if recipe.start is None:
        model = architecture(recipe.role)(channels)
        return model, _with_trunk(model, recipe.trunk) if recipe.trunk else None
    model, origin = weights.load(recipe.role, path=None if recipe.start == SHIPPED else Path(recipe.start))
    if recipe.channels and channels != model.channels:
        raise VFQError(
            "bad_channels",
            f"The initial weights have other channels: {model.channels}. Leave out --channels or --start.",
        )
    return model.requires_grad_(True), origin


def _with_trunk(model: nn.Module, role: str) -> ModelStamp:
    """Copy the shipped weights of `role` into the network's first part; return their stamp. VFQError `bad_channels`."""
    trunk, origin = weights.load(role)
    if trunk.channels != model.channels:
        raise VFQError(
            "bad_channels",
            f"The network begins with the {role}, whose channels are {'-'.join(map(str, trunk.channels))}. Leave out "  # type: ignore[arg-type]
            "--channels.",
        )
    model.take_trunk(trunk)  # type: ignore[operator]
    return origin


def _layout(model: nn.Module) -> torch.memory_format:
    """Return the order of numbers in memory that halves the time on a CPU."""
    three = any(isinstance(m, nn.Conv3d) for m in model.modules())
    return torch.channels_last_3d if three else torch.channels_last


def _check_finite(folder: Path, step: int, figures: dict, *models: nn.Module) -> None:
    """Raise VFQError `diverged` if the validation score or a weight is no longer finite; nothing is saved then."""
    if not math.isfinite(figures["score"]) or not all(weights.is_storable(model) for model in models):
        raise VFQError(
            "diverged",
            f"The training diverged: at step {step} numbers of the network are no longer finite. Nothing of this was "
            f"saved. If {folder.name} contains a checkpoint, resume from it with a lower learning rate (--rate).",
        )


@torch.no_grad()
def _moving_average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
    """Update an exponential moving average in place.

    It has a warm-up, so that the batch statistics of the first steps, which are far off, do not linger in the mean.
    """
    decay = min(AVERAGE_DECAY, (1 + float(count)) / (10 + float(count)))
    for mean, new in zip(averaged, current, strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)


def _resumed(recipe: Recipe, saved: dict) -> tuple[nn.Module, ModelStamp | None]:
    """Return the network of an earlier run, and the stamp of its initial weights.

    VFQError `bad_checkpoint` if the recipe names other initial weights or other channels. Checkpoints of earlier
    versions contain neither; the recipe is used then.
    """
    channels, start = saved.get("channels"), saved.get("started_from")
    origin = ModelStamp(**start) if start else None
    if channels is None:
        return _begin(recipe)
    requested = _begin(recipe)[1] if recipe.start else origin
    if requested != origin or (recipe.channels and list(recipe.channels) != channels):
        begun = f"from {origin.name}" if origin else "from scratch"
        raise VFQError(
            "bad_checkpoint",
            f"The run in the folder started {begun} with the channels {'-'.join(map(str, channels))}. Leave out "
            "--start and --channels to resume it, or use another folder for a new run.",
        )
    return architecture(recipe.role)(tuple(channels)), origin


def _loader(task: Task, recipe: Recipe, done: int, crew: Crew) -> torch.utils.data.DataLoader:
    """Return a loader of samples from new phantoms, which differ between starts and between processes of the crew.

    Without workers the phantoms are painted on the crew's device.
    """
    paint = partial(task.paint, device="cpu" if recipe.workers else crew.device)
    seed = (recipe.seed + 1000 * done, crew.rank)
    stream = Stream(paint, task.sample, seed, recipe.pool, recipe.reuse)
    prefetch = 4 if recipe.workers else None
    return torch.utils.data.DataLoader(stream, recipe.batch, num_workers=recipe.workers, prefetch_factor=prefetch)


def _set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int) -> None:
    """Set the learning rate: a linear warm-up over 100 steps, and a cosine down to a hundredth."""
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


def _keep(
    folder: Path,
    recipe: Recipe,
    origin: ModelStamp | None,
    cases: list[str],
    model: nn.Module,
    figures: dict,
    state: dict,
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
        start = recipe.start and Path(recipe.start).name  # a model card contains no folder names
        own = {**asdict(recipe), "start": start, "scans": None, "references": [Path(r).name for r in recipe.references]}
        real = f"; real CT: {', '.join(cases)}" if cases else "; no patient data"
        earlier = f"; before that, the data of {origin.name}" if origin else ""
        card = {
            "name": f"{recipe.role}-1",
            "data": f"synthetic phantoms made on the fly{real}{earlier}",
            "recipe": own,
            "started_from": origin and asdict(origin),
            "validation": figures,
        }
        weights.save(model, recipe.role, folder / f"{recipe.role}.safetensors", card)  # type: ignore[arg-type]
