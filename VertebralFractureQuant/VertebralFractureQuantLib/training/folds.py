"""Cross-validation by patient: which cases a network learns from, which tell when to stop, and which measure it.

A patient with several cases is never on two sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import VFQError

ASIDE_SHARE, LEAST_PATIENTS = 0.2, 3  # of the patients to learn from are set aside, if there are at least so many


@dataclass(frozen=True)
class Fold:
    """The patients of one training: to learn from, to see when to stop, and to measure the result on."""

    taught: frozenset[str]
    aside: frozenset[str]
    unseen: frozenset[str]


def folds_of(patients: Sequence[str], count: int, seed: int) -> list[Fold]:
    """Return `count` folds, each patient unseen in one of them. VFQError `too_few_labels` for fewer patients."""
    shuffled = _shuffled(patients, seed)
    if count > len(shuffled) or count == 1:
        message = f"{count} folds need at least {max(count, 2)} patients; the label set has {len(shuffled)}."
        raise VFQError("too_few_labels", f"{message} Use between 2 and as many --folds as patients, or 0 for none.")
    return [_fold(shuffled, frozenset(shuffled[i::count]), seed) for i in range(count)]


def whole(patients: Sequence[str], seed: int) -> Fold:
    """Return the fold of the network that is used: it learns from all patients but those set aside."""
    return _fold(_shuffled(patients, seed), frozenset(), seed)


def _fold(patients: Sequence[str], unseen: frozenset[str], seed: int) -> Fold:
    seen = [patient for patient in patients if patient not in unseen]
    count = max(1, round(ASIDE_SHARE * len(seen))) if len(seen) >= LEAST_PATIENTS else 0
    aside = frozenset(_shuffled(seen, seed + 1)[:count])
    return Fold(frozenset(seen) - aside, aside, unseen)


def _shuffled(patients: Sequence[str], seed: int) -> list[str]:
    names = sorted(set(patients))
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
