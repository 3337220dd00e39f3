"""The stream of training samples, made from phantoms during training.

Painting a phantom is slow and scanning it is fast, so each phantom gives several samples that differ in crop, scanner
and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor


class Stream(torch.utils.data.IterableDataset):
    """An endless, seeded stream of samples from `pool` phantoms, each of which is replaced after `reuse` samples."""

    def __init__(self, paint: Callable, sample: Callable, seed: int | tuple[int, ...], pool: int = 6, reuse: int = 10):
        self.paint, self.sample, self.seed, self.pool, self.reuse = paint, sample, seed, pool, reuse

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        if worker:
            torch.set_num_threads(1)
        rng = np.random.default_rng([*np.atleast_1d(self.seed), worker.id if worker else 0])
        stock: list[list] = []
        while True:
            if len(stock) < self.pool:
                stock.append([self.paint(rng), self.reuse])
            pick = stock[int(rng.integers(len(stock)))]
            pick[1] -= 1
            yield self.sample(pick[0], rng)
            stock = [s for s in stock if s[1] > 0]
