"""The crew: the processes that train one network together, one for each GPU, as torch's own launcher starts them.

`torchrun --nproc-per-node=4 --no-python vfq train detector --output runs/detector`: each process paints phantoms of its
own and sees its own batches, gradients are their mean, and the leader alone validates, reports and writes. A run that
nobody launched so is a crew of one.
"""

from __future__ import annotations

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
        """Whether this process is the one that validates and writes."""
        return self.rank == 0

    def together(self, model: nn.Module) -> nn.Module:
        """`model`, whose gradients are the mean over the crew's."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)

    def all(self, holds: bool) -> bool:
        """Whether something holds in every process; each must ask."""
        if self.size == 1:
            return holds
        votes = torch.tensor(float(holds), device=self.device)
        distributed.all_reduce(votes, distributed.ReduceOp.MIN)
        return bool(votes > 0)


@contextmanager
def joined(device: str) -> Iterator[Crew]:
    """The crew that the launcher's environment tells of; on CUDA each process takes the GPU of its local rank."""
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
        distributed.barrier()  # none leaves while another still needs it
    finally:
        distributed.destroy_process_group()
