"""The crew: the processes that train one network together, one for each GPU, started by torch's launcher.

For example: `torchrun --nproc-per-node=4 --no-python vfq train detector --output runs/detector`. Each process paints
its own phantoms and makes its own batches; gradients are averaged over the processes; only the leader validates,
reports and writes. Without the launcher, the crew is a single process.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Crew:
    """This process's `rank` among `size`, and the device it trains on."""

    rank: int
    size: int
    device: str

    @property
    def leads(self) -> bool:
        """True if this is the process that validates and writes."""
        return self.rank == 0

    def together(self, model: nn.Module) -> nn.Module:
        """Return `model` with gradients that are averaged over the crew."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)

    def all(self, holds: bool) -> bool:
        """True if `holds` is true in every process; all processes must call this."""
        if self.size == 1:
            return holds
        votes = torch.tensor(float(holds), device=self.device)
        distributed.all_reduce(votes, distributed.ReduceOp.MIN)
        return bool(votes > 0)


@contextmanager
def joined(device: str) -> Iterator[Crew]:
    """Join the crew that the launcher's environment variables describe.

    On CUDA each process takes the GPU of its local rank.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Crew(0, 1, device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Crew(distributed.get_rank(), size, device)
        distributed.barrier()  # no process leaves while another still needs it
    finally:
        gc.collect()  # the wrapped network, a cycle, must not outlive the group: the process may abort at its end then
        distributed.destroy_process_group()
