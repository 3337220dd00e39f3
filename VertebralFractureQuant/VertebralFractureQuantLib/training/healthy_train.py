"""Training of the generator of the synthetic picture on stored frames (`healthy_data`), with or without its parts.

A run is a folder with `log.csv`, and `healthy.safetensors` with its model card of the best validation so far. Frames
are files `*.npz` in a folder; files that are added while training runs are used as well. Needs torch and safetensors.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..methods.healthy_frame import BAND, OUTSIDE
from ..methods.healthy_network import HealthyGenerator, discriminator
from ..networks import weights
from .healthy_batches import as_batch, augmented, network_input, unwidened, unwidened_input
from .healthy_losses import WEIGHTS, Parts, generator_losses
from .healthy_validation import validate

ROLE = "healthy"
STORED = ("ct", "target", "adjacent", "attention", "height")
REREAD_STEPS = 200
AVERAGE_DECAY, WARM_UP_STEPS, LEAST_RATE = 0.99, 100, 0.02

Frames = list[dict[str, np.ndarray]]


@dataclass(frozen=True)
class HealthyRecipe:
    """How the generator is trained: until `steps` or `minutes` are over; the learning rate falls as they pass."""

    steps: int = 6000
    minutes: float = 45.0
    batch: int = 8
    learning_rate: float = 2e-3
    validate_every: int = 150
    seed: int = 1
    real_share: float = 0.3
    parts: Parts = field(default_factory=Parts)


class Store:
    """Stored frames in memory, of phantoms (files p*.npz) and of real scans (r*.npz), from which batches are drawn."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: set[str] = set()
        self._kinds: dict[str, dict[str, list[np.ndarray]]] = {kind: {key: [] for key in STORED} for kind in ("p", "r")}

    def __len__(self) -> int:
        return sum(len(kind["height"]) for kind in self._kinds.values())

    def refresh(self) -> None:
        """Read the files that are new."""
        for path in sorted(self.folder.glob("[pr]*.npz")):
            if path.name not in self._read and not path.name.startswith("part_"):
                self._read.add(path.name)
                with np.load(path) as file:
                    for key in STORED:
                        self._kinds[path.name[0]][key].extend(file[key])

    def batch(self, rng: np.random.Generator, size: int, real_share: float) -> dict[str, Tensor]:
        """Draw a batch; `real_share` of it are real frames, if there are any."""
        chosen = []
        for _ in range(size):
            kind = self._kinds["r" if self._kinds["r"]["height"] and rng.random() < real_share else "p"]
            i = int(rng.integers(len(kind["height"])))
            chosen.append({key: kind[key][i] for key in STORED})
        return augmented(as_batch(chosen), rng)


class Pupil:
    """The generator in training: its moving average, its optimizer and, if they are a part, its discriminators."""

    def __init__(self, recipe: HealthyRecipe):
        self.recipe = recipe
        self.model = HealthyGenerator().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY), use_buffers=True)
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.learning_rate, weight_decay=1e-3)
        self._judges = nn.ModuleList([discriminator(1), discriminator(2)]) if recipe.parts.adversarial else None
        self._opponent = torch.optim.Adam(self._judges.parameters(), 4e-4, (0.5, 0.99)) if self._judges else None

    def set_rate(self, step: int, passed: float) -> None:
        """Set the learning rate: a warm-up, then a cosine over the share of the run that has `passed`."""
        falling = LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * min(passed, 1))) / 2
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * min(1, (step + 1) / WARM_UP_STEPS) * falling

    def learn(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Take one step on a batch, and return the losses by name."""
        parts = self.recipe.parts
        self.model.train()
        x = network_input(batch, parts) if parts.restoration else unwidened_input(batch, parts)
        true = batch if parts.restoration else unwidened(batch)
        with torch.autocast("cpu", torch.bfloat16):
            images, heights = self.model(x.contiguous(memory_format=torch.channels_last))
        losses = generator_losses((images.float(), heights.float()), true, parts)
        if self._judges is not None:
            losses["adversarial"] = WEIGHTS["adversarial"] * self._judged(images.float(), true)
        total = torch.stack(list(losses.values())).sum()
        self._optimizer.zero_grad(set_to_none=True)
        if bool(torch.isfinite(total)):
            total.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self._optimizer.step()
        self.average.update_parameters(self.model)
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _judged(self, images: Tensor, true: dict[str, Tensor]) -> Tensor:
        """Let the discriminators learn, and return what they think of the generator's images."""
        assert self._judges is not None and self._opponent is not None
        made, real = _seen_by_judges(images, true)
        pairs = list(zip(self._judges, made, real, strict=True))
        gaps = [F.relu(1 + j(m.detach())).mean() + F.relu(1 - j(r)).mean() for j, m, r in pairs]
        self._opponent.zero_grad(set_to_none=True)
        torch.stack(gaps).sum().backward()
        self._opponent.step()
        return -torch.stack([judge(m).mean() for judge, m, _ in pairs]).sum()


def train_healthy(
    recipe: HealthyRecipe,
    frames: Path,
    fixed: dict[str, Frames],
    folder: Path,
    data: str,
    report: Callable[[str], None] = print,
) -> Path:
    """Train a generator on the files of the folder `frames` and return the path of its best weights.

    fixed : frames for validation by the name of their block; the first block decides. data : words for the model card.
    """
    torch.manual_seed(recipe.seed)
    rng, store, pupil = np.random.default_rng(recipe.seed), Store(frames), Pupil(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    started, best, losses = time.monotonic(), math.inf, []
    for step in range(recipe.steps):
        if step % REREAD_STEPS == 0:
            store.refresh()
        seconds = time.monotonic() - started
        passed = max(step / recipe.steps, seconds / 60 / recipe.minutes)
        pupil.set_rate(step, passed)
        losses.append(pupil.learn(store.batch(rng, recipe.batch, recipe.real_share)))
        late = passed >= 1 or step + 1 == recipe.steps
        if (step + 1) % recipe.validate_every == 0 or late:
            spent = {"step": step + 1, "seconds": round(seconds), "frames": len(store)}
            figures = {**spent, **_means(losses), **_validated(pupil, fixed)}
            best, losses = _keep(pupil, figures, figures[f"{next(iter(fixed))}_score"], best, folder, data), []
            report("  ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        if late:
            break
    return folder / f"{ROLE}.safetensors"


def _means(losses: list[dict[str, float]]) -> dict[str, float]:
    return {f"loss_{key}": float(np.mean([each[key] for each in losses])) for key in losses[0]}


def _validated(pupil: Pupil, fixed: dict[str, Frames]) -> dict[str, float]:
    model = pupil.average.module.eval()
    found = {name: validate(model, block, pupil.recipe.parts) for name, block in fixed.items()}
    return {f"{name}_{key}": value for name, figures in found.items() for key, value in figures.items()}


def _keep(pupil: Pupil, figures: dict[str, float], score: float, best: float, folder: Path, data: str) -> float:
    """Add a line to the log, keep the weights if they are the best so far, and return the best score."""
    log = folder / "log.csv"
    fresh = not log.exists()
    with log.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, figures)
        if fresh:
            writer.writeheader()
        writer.writerow(figures)
    if score < best:
        card = {"name": "healthy-1", "data": data, "recipe": asdict(pupil.recipe), "validation": figures}
        weights.save(pupil.average.module, ROLE, folder / f"{ROLE}.safetensors", card)  # type: ignore[arg-type]
    return min(score, best)


def _seen_by_judges(images: Tensor, batch: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return what the discriminators see, made and real: the completed image, and image and mask."""
    rows = slice(OUTSIDE - 16, OUTSIDE + BAND + 16)
    valid = batch["valid"][:, :, rows]
    made, real = images[:, 2:3, rows] * valid, batch["ct"][:, :, rows] * valid
    mask = torch.sigmoid(images[:, 3:4, rows])
    return [made, torch.cat([made, mask], 1)], [real, torch.cat([real, batch["target"][:, :, rows]], 1)]
