"""The stream of training samples, made from phantoms during training.

Painting a phantom is slow and scanning it is fast, so each phantom gives several samples that differ in crop, scanner
and noise. Each sample follows from the seed and its number alone: a run that is resumed gets the samples that it would
have got without the interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import torch
from torch import Tensor

PAINT, SAMPLE = 1, 2  # in a seed: of a phantom, of a sample


class Stream(torch.utils.data.IterableDataset):
    """An endless, seeded stream of samples from `pool` phantoms, each of which gives about `reuse` samples.

    It begins with batch number `done`, of `batch` samples each. The workers of a loader take turns with the batches;
    with another number of workers the samples are others.
    """

    def __init__(
        self,
        paint: Callable,
        sample: Callable,
        seed: int | tuple[int, ...],
        pool: int = 6,
        reuse: int = 10,
        batch: int = 1,
        done: int = 0,
    ):
        self.paint, self.sample, self.seed, self.pool, self.reuse = paint, sample, seed, pool, reuse
        self.batch, self.done = batch, done

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        if worker:
            torch.set_num_threads(1)
        workers = worker.num_workers if worker else 1
        turns, lane = divmod(self.done + (worker.id if worker else 0), workers)
        seed = [int(n) for n in (*np.atleast_1d(self.seed), lane)]
        stock: dict[int, object] = {}
        for n in count(turns * self.batch):
            rng = np.random.default_rng([*seed, SAMPLE, n])
            oldest = n // self.reuse
            pick = oldest + int(rng.integers(self.pool))
            stock = {number: phantom for number, phantom in stock.items() if number >= oldest}
            if pick not in stock:
                stock[pick] = self.paint(np.random.default_rng([*seed, PAINT, pick]))
            yield self.sample(stock[pick], rng)
