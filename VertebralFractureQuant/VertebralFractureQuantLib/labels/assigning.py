"""Who reads which case, in which order: random, and the same each time for the same seed.

A share of the cases is read by everyone, for agreement; the others are dealt out. A share of a reader's cases is read a
second time, at the end. What was assigned before stays. Instead of at random, cases can come in a given order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from .dataset import Assignment, Dataset


def assign(
    dataset: Dataset,
    readers: Sequence[str],
    overlap: float = 1.0,
    second: float = 0.0,
    after_days: int = 14,
    in_order: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> Dataset:
    """Return the label set with its unassigned cases assigned to `readers`.

    Parameters
    ----------
    overlap : share of the cases that all readers read, 0 to 1; a new reader gets those of earlier assignments, too.
    second : share of each reader's newly assigned cases that are read a second time.
    after_days : a second reading begins this many days after the first one at the earliest.
    in_order : sorts the names of a reader's newly assigned cases, as by `ordering`; they are in random order before.

    Raises
    ------
    VFQError
        `unknown_reader`.
    """
    readers = [dataset.reader(name) for name in dict.fromkeys(readers)]
    known = {a.case for own in dataset.assignments.values() for a in own}
    fresh = _shuffled(sorted(set(dataset.cases) - known), f"{dataset.seed} cases")
    common = [*fresh[: math.ceil(overlap * len(fresh) - 1e-9)]]
    earlier = sorted({a.case for own in dataset.assignments.values() for a in own if a.overlap})
    dealt = fresh[len(common) :]
    given = dict(dataset.assignments)
    for i, reader in enumerate(readers):
        own = given.get(reader, ())
        shared = [*common, *earlier]
        new = [*shared, *dealt[i :: len(readers)]]
        new = _shuffled(sorted(set(new) - {a.case for a in own}), f"{dataset.seed} {reader} {len(own)}")
        new = list(in_order(new)) if in_order and new else new
        again = _shuffled(new, f"{dataset.seed} {reader} again")[: math.ceil(second * len(new) - 1e-9)]
        given[reader] = (
            *own,
            *(Assignment(case, overlap=case in shared) for case in new),
            *(Assignment(case, 2, after_days, case in shared) for case in again),
        )
    return replace(dataset, assignments={reader: own for reader, own in given.items() if own})


def _shuffled(names: Sequence[str], key: str) -> list[str]:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
