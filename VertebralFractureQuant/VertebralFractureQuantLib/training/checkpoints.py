"""What a run of `vfq train` keeps to go on, `checkpoint.pt` in its folder.

Network, moving average and optimizer, the step, the best validation and the seconds so far, and what it began with:
role, channels, the stamp of its first weights. torch's own file, read without running anything in it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..errors import VFQError

NAME = "checkpoint.pt"
STATE = ("step", "best", "seconds")


def write(
    folder: Path, role: str, told: dict, model: nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer
) -> None:
    """Write all that a run needs to go on; `told` is what the module's text names besides."""
    parts = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    unfinished = folder / "checkpoint.part"
    torch.save({"role": role, **parts, **told}, unfinished)
    unfinished.replace(folder / NAME)


def read(folder: Path, role: str, device: str) -> dict | None:
    """The checkpoint of the run in `folder`, None where it has none yet; VFQError `bad_checkpoint`."""
    path = folder / NAME
    if not path.exists():
        return None
    with _refusing(path):
        saved: dict = torch.load(path, map_location=device, weights_only=True)
        if saved["role"] != role:
            raise ValueError(f"it is of a run for the {saved['role']}")
        return saved


def restore(
    folder: Path, saved: dict, model: nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer
) -> dict:
    """Set network, average and optimizer to a checkpoint; returns its step, best and seconds. VFQError
    `bad_checkpoint`."""
    with _refusing(folder / NAME):
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        return {key: saved[key] for key in STATE}


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file becomes `bad_checkpoint`."""
    try:
        yield
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError, ValueError) as error:
        reason = "it is none of vfq train" if isinstance(error, pickle.UnpicklingError) else str(error)
        raise VFQError(
            "bad_checkpoint",
            f"{path} cannot be gone on from ({' '.join(reason.split())[:200]}). Give another folder for a new run, "
            "or bring the checkpoint back; nothing in the folder was changed.",
        ) from error
