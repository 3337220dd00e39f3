"""The checkpoint of a run of `vfq train`: `checkpoint.pt` in the run's folder, from which training can be resumed.

It holds network, moving average and optimizer; the step, the best validation score, the validations since then and the
seconds so far; and what the run started with: role, channels, the stamp of the initial weights and the digest of the
real cases. It is a file of torch, read without executing anything in it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..errors import VFQError
from ..whole import whole_file

NAME = "checkpoint.pt"
STATE = {"step": None, "best": None, "seconds": None, "stale": 0}  # with what checkpoints of earlier versions lack


def write(
    folder: Path, role: str, facts: dict, model: nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer
) -> None:
    """Write everything that a run needs to be resumed.

    `facts` holds what the module's text names besides role, network, average and optimizer.
    """
    parts = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    packed = io.BytesIO()  # a full disk is an OSError then
    torch.save({"role": role, **parts, **facts}, packed)
    with whole_file(folder / NAME) as unfinished:
        unfinished.write_bytes(packed.getvalue())


def read(folder: Path, role: str, device: str) -> dict | None:
    """Return the checkpoint of the run in `folder`, or None if there is none yet; VFQError `bad_checkpoint`."""
    path = folder / NAME
    if not path.exists():
        return None
    with _as_bad_checkpoint(path):
        saved: dict = torch.load(path, map_location=device, weights_only=True)
        if saved["role"] != role:
            raise ValueError(f"it belongs to a run for the {saved['role']}")
        return saved


def restore(
    folder: Path, saved: dict, model: nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer
) -> dict:
    """Restore network, average and optimizer from a checkpoint, and return its state (`STATE`).

    VFQError `bad_checkpoint`.
    """
    with _as_bad_checkpoint(folder / NAME):
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        return {key: saved[key] if old is None else saved.get(key, old) for key, old in STATE.items()}


@contextmanager
def _as_bad_checkpoint(path: Path) -> Iterator[None]:
    """Turn every error about the file into VFQError `bad_checkpoint`."""
    try:
        yield
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError, ValueError) as error:
        reason = "vfq train did not write it" if isinstance(error, pickle.UnpicklingError) else str(error)
        raise VFQError(
            "bad_checkpoint",
            f"{path} cannot be used to resume training ({' '.join(reason.split())[:200]}). Use another folder for a "
            "new run, or restore the checkpoint; nothing in the folder was changed.",
        ) from error
