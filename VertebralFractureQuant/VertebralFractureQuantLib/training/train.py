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
from .real import Lessons, maker_of, read_cases, with_real
from .stream import Stream
from .tasks import TASKS, Task, figures_of, real_validation_set, validation_set

AVERAGE_DECAY = 0.995  # of the moving average; less in a run of few steps, whose last tenth counts
WARM_UP = 100  # steps; at most a tenth of a run
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
    patience : stop after so many validations without a better one; None to make all steps.
    name : of the network, for its model card.
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
    patience: int | None = None
    name: str | None = None

    def on_time(self, step: int) -> bool:
        """True if the run validates after this step, however often it is interrupted."""
        return step % self.validate_every == 0 or step == self.steps


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
# From trained weights on a label set: few small steps, watched often.
TUNING = {"steps": 600, "learning_rate": 5e-4, "validate_every": 40, "patience": 4, "start": SHIPPED}


def train(
    recipe: Recipe,
    folder: Path,
    device: str = "cpu",
    report: Callable[[str], None] = print,
    lessons: Lessons | None = None,
) -> Path:
    """Train, or resume the run in `folder`, and return the path of the best weights.

    lessons : real cases to learn from beside the phantoms; if None, those of the recipe's references. With some that
    are set aside, the initial weights stay the best ones until others are better on these and on phantoms.

    A run that was interrupted, whenever that was, has the same weights at its end as one that was not, on the same
    computer with as many workers. An exported ONNX graph is written beside them. If torch's launcher started the
    process, it trains on the GPUs of all processes, see `crew`. VFQError `bad_weights`, `bad_channels` and
    `bad_checkpoint` if a run cannot start or be resumed, `output_exists` if the folder contains weights but no run,
    `diverged` if numbers are no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best = folder / f"{recipe.role}.safetensors"
    if best.exists() and not (folder / checkpoints.NAME).exists():
        raise VFQError(
            "output_exists", f"{folder.name} contains {best.name}, but no run that made it. Use another folder."
        )
    with joined(device) as crew:
        _train(recipe, folder, crew, report, lessons or _lessons(recipe))
        if crew.leads:
            export_or_report(recipe.role, best, report)
    return best


def _train(recipe: Recipe, folder: Path, crew: Crew, report: Callable[[str], None], lessons: Lessons) -> None:
    torch.manual_seed(recipe.seed)
    task = _task(recipe, lessons)
    saved = checkpoints.read(folder, recipe.role, crew.device)
    model, origin = _begin(recipe) if saved is None else _resumed(recipe, saved, lessons)
    model = model.to(crew.device).to(memory_format=_layout(model))  # type: ignore[call-overload]
    mean = partial(_moving_average, most=min(AVERAGE_DECAY, max(0.0, 1 - 10 / max(recipe.steps, 1))))
    average = AveragedModel(model, multi_avg_fn=mean, use_buffers=True)
    if recipe.start:
        average.n_averaged.fill_(PAST_WARM_UP)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=1e-3)
    state: dict = {"step": 0, "best": math.inf, "seconds": 0, "stale": 0}
    if saved is not None:
        state = checkpoints.restore(folder, saved, model, average, optimizer)
    together = crew.together(model)
    stream = iter(_loader(task, recipe, state["step"], crew))
    fixed = validation_set(task) if crew.leads else []
    real = real_validation_set(task, maker_of(recipe.role), lessons.aside) if crew.leads and lessons.aside else []
    begun = {"channels": list(model.channels), "started_from": origin and asdict(origin), "lessons": lessons.digest}
    started, before = time.monotonic(), state["seconds"]
    losses: list[float] = []

    def look() -> None:
        """Validate the average, keep it if it is the best so far, and write the checkpoint."""
        found = figures_of(task, average.module.eval(), fixed, real)
        _check_finite(folder, state["step"], found, model, average.module)
        state["seconds"] = round(before + time.monotonic() - started)
        loss = float(np.mean(losses)) if losses else None
        figures = {"step": state["step"], "seconds": state["seconds"], "loss": loss, **found}
        losses.clear()
        _keep(folder, recipe, origin, lessons, average.module, figures, state)
        checkpoints.write(folder, recipe.role, {**begun, **state}, model, average, optimizer)
        report("  ".join(f"{k} {v:.4g}" for k, v in figures.items() if v is not None))

    if crew.leads and saved is None and origin and real:
        look()  # the initial weights are the ones to beat
    late = False
    while state["step"] < recipe.steps and not late and crew.all(not _is_enough(recipe, state)):
        torch.manual_seed((recipe.seed + 1000 * state["step"]) * crew.size + crew.rank)  # the same after a restart
        _set_rate(optimizer, recipe, state["step"])
        losses.append(_step(task, together, optimizer, next(stream), crew))
        average.update_parameters(model)
        state["step"] += 1
        late = recipe.minutes is not None and not crew.all(time.monotonic() - started < recipe.minutes * 60)
        if crew.leads and (recipe.on_time(state["step"]) or late):
            look()


def _is_enough(recipe: Recipe, state: dict) -> bool:
    """True if the validation has not become better for as long as the recipe waits."""
    return recipe.patience is not None and state["stale"] >= recipe.patience


def _lessons(recipe: Recipe) -> Lessons:
    """Return the real cases of the recipe's references."""
    if not recipe.references:
        return Lessons(())
    cases = read_cases([Path(r) for r in recipe.references], Path(recipe.scans or "."), recipe.left_out)
    return Lessons(tuple(cases), told=f"real CT: {', '.join(case.reference.case for case in cases)}")


def _task(recipe: Recipe, lessons: Lessons) -> Task:
    """Return the task of a recipe, with its real cases among the phantoms. VFQError `no_real_data`."""
    task = TASKS[recipe.role]
    if not lessons.cases:
        return task
    return replace(task, paint=with_real(recipe.role, task.paint, lessons.cases, recipe.real_share))


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
def _moving_average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int, most: float) -> None:
    """Update an exponential moving average in place.

    It has a warm-up, so that the batch statistics of the first steps, which are far off, do not linger in the mean.
    """
    decay = min(most, (1 + float(count)) / (10 + float(count)))
    for mean, new in zip(averaged, current, strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)


def _resumed(recipe: Recipe, saved: dict, lessons: Lessons) -> tuple[nn.Module, ModelStamp | None]:
    """Return the network of an earlier run, and the stamp of its initial weights.

    VFQError `bad_checkpoint` if the recipe names other initial weights or other channels, or if the real cases changed.
    Checkpoints of earlier versions contain none of these; the recipe is used then.
    """
    if saved.get("lessons", lessons.digest) != lessons.digest:
        raise VFQError(
            "bad_checkpoint",
            "The run in the folder learned from other labels. Use another folder for a new run, or restore the label "
            "set as it was when the run began.",
        )
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
    """Return a loader of the samples after `done` steps, which differ between processes of the crew.

    Without workers the phantoms are painted on the crew's device.
    """
    paint = partial(task.paint, device="cpu" if recipe.workers else crew.device)
    stream = Stream(paint, task.sample, (recipe.seed, crew.rank), recipe.pool, recipe.reuse, recipe.batch, done)
    prefetch = 4 if recipe.workers else None
    return torch.utils.data.DataLoader(stream, recipe.batch, num_workers=recipe.workers, prefetch_factor=prefetch)


def _set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int) -> None:
    """Set the learning rate: a linear warm-up over the first steps, and a cosine down to a hundredth."""
    share = step / recipe.steps
    rate = (
        recipe.learning_rate
        * min(1.0, (step + 1) / min(WARM_UP, max(1, recipe.steps // 10)))
        * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)
    )
    for group in optimizer.param_groups:
        group["lr"] = rate


def _step(
    task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], crew: Crew
) -> float:
    model.train()
    batch = {k: v.to(crew.device) for k, v in batch.items()}
    with torch.autocast(crew.device.split(":")[0], torch.bfloat16, enabled=task.mixed):
        loss = task.loss(model, batch)
    optimizer.zero_grad(set_to_none=True)
    if crew.all(bool(torch.isfinite(loss))):
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        if crew.all(bool(torch.isfinite(norm))):
            optimizer.step()
    return float(loss.detach())


def _keep(
    folder: Path,
    recipe: Recipe,
    origin: ModelStamp | None,
    lessons: Lessons,
    model: nn.Module,
    figures: dict,
    state: dict,
) -> None:
    """Log a validation, and save the weights if they are the best so far.

    At a step where the run stops for its time alone, they are saved only if there are none yet.
    """
    counts = recipe.on_time(state["step"])
    best = folder / f"{recipe.role}.safetensors"
    log = folder / "log.csv"
    fresh = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, figures)
        if fresh:
            writer.writeheader()
        writer.writerow(figures)
    better = figures["score"] < state["best"]
    if counts:
        state["best"], state["stale"] = min(figures["score"], state["best"]), 0 if better else state["stale"] + 1
    if (better and counts) or not best.exists():
        weights.save(model, recipe.role, best, _card(recipe, origin, lessons, figures))  # type: ignore[arg-type]


def _card(recipe: Recipe, origin: ModelStamp | None, lessons: Lessons, figures: dict) -> dict:
    """Return the model card; it contains no folder names."""
    start = recipe.start and Path(recipe.start).name
    own = {**asdict(recipe), "start": start, "scans": None, "references": [Path(r).name for r in recipe.references]}
    real = f"; {lessons.told}" if lessons.cases else "; no patient data"
    earlier = f"; before that, the data of {origin.name}" if origin else ""
    return {
        "name": recipe.name or f"{recipe.role}-1",
        "data": f"synthetic phantoms made on the fly{real}{earlier}",
        "recipe": own,
        "started_from": origin and asdict(origin),
        "validation": figures,
    }
