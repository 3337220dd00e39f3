"""Which vertebra of one examination is which of another: by shape, place along the spine, image content and names.

Both columns are cranial first. Names may be off by one in either examination, or missing, so they never decide alone:
every offset of the columns against each other is weighed as a whole, as in `levels`. Weights are log-likelihood ratios
of "the same vertebra" against "another one of this patient". Lengths are in mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..spine.keypoints import ANTERIOR, POSTERIOR
from ..spine.levels import LEVELS, in_doubt, steps_between
from ..spine.record import Vertebra

LEAST_CERTAINTY = 0.9  # an alignment with less is not used
# Logarithms of a vertebra's measures differ by this much (standard deviation) between two examinations of it, and from
# another vertebra of the same region: depth, posterior height, distance to the next vertebra's middle. Measured on
# pairs of phantoms. The tails are heavy (Student's t), since fractures change heights.
MEASURES = ("depth", "posterior height", "distance")
SAME_SD = np.array([0.025, 0.045, 0.035])
OTHER_SD = np.array([0.075, 0.085, 0.075])
TAILS = 3.0  # degrees of freedom
SCALE_SD = 0.015  # of what all measures of one examination share, such as a header's error
# Correlation of the straightened images around two vertebrae (Fisher's z), above the mean of their neighbours: mean and
# standard deviation for the same vertebra, and for two others. Measured on pairs of phantoms and three pairs of CTs.
SAME_CONTRAST, SAME_CONTRAST_SD = 0.7, 0.35
OTHER_CONTRAST, OTHER_CONTRAST_SD = 0.0, 0.15
IMAGE_WEIGHT = 0.5  # the images of neighbours overlap
# The prior of the names: how often the names of two examinations differ by this many levels.
NAME_SHIFT = {0: 0.9, 1: 0.045, 2: 0.004}
FARTHER = 0.0005
SURE_OF_NAMES = 4.0  # how much more improbable a shift is where both examinations are sure of all names
NAMED_BY_READERS = 12.0  # and where readers named a vertebra in both
# What tells one patient from two: mean contrast of all pairs, mean ratio of the measures, and the share by which all
# sizes differ (a header may be wrong, so its tails are heavy). Means and standard deviations of one patient on
# phantoms, of two patients on phantoms and on the CTs of 12 patients.
ONE_PATIENT = {"images": (0.7, 0.25), "shapes": (0.5, 0.2), "scale": (0.0, 0.015)}
TWO_PATIENTS = {"images": (0.03, 0.1), "shapes": (0.2, 0.35), "scale": (0.0, 0.07)}
LEAST_LIKENESS = 0.0  # logarithm of the ratio of the likelihoods below which two patients are told


Pairs = tuple[tuple[int, int], ...]  # (index in the prior, index in the current examination)


@dataclass(frozen=True, eq=False)
class Column:
    """The vertebrae of one examination, as far as matching needs them.

    Attributes
    ----------
    names : level or None of each.
    sure : True where a reader set the names, or no name is in doubt.
    pinned : True where a reader set a name.
    measures : `(n, 3)` logarithms of `MEASURES` in mm; nan where there is none.
    slots : `(n,)` places along the spine, 1 apart, more where a vertebra was not found.
    """

    names: tuple[str | None, ...]
    sure: bool
    pinned: bool
    measures: np.ndarray
    slots: np.ndarray


@dataclass(frozen=True)
class Alignment:
    """How two columns belong together.

    Attributes
    ----------
    pairs : (index in the prior, index in the current examination), cranial first.
    certainty : probability of this alignment among all others, 0 to 1.
    shift : how many levels lower the current names are than those of the same vertebrae before; None without names.
    likeness : logarithm of the ratio of the likelihoods of one patient and of two; 0 without pairs.
    reader : who set these pairs; "" if they were found automatically.
    """

    pairs: Pairs
    certainty: float
    shift: int | None
    likeness: float
    reader: str = ""

    @property
    def same_patient(self) -> bool:
        """False if shapes and images speak for two patients."""
        return self.likeness > LEAST_LIKENESS


def column_of(vertebrae: Sequence[Vertebra]) -> Column:
    """Return what matching needs of vertebrae, cranial first; one with impossible points has no measures."""
    names = tuple(v.level for v in vertebrae)
    points = np.array([v.keypoints for v in vertebrae], float).reshape(-1, 3, 2, 3)
    doubts = in_doubt(names, [v.level_probabilities for v in vertebrae], [v.pinned for v in vertebrae])
    sure = any(names) and all(doubt is None for doubt in doubts)
    centers, heights = points.mean((1, 2)), np.linalg.norm(points[:, :, 0] - points[:, :, 1], axis=-1)
    steps = steps_between(centers, heights.mean(1)) if len(points) > 1 else np.zeros(0, int)
    distance = np.full(len(points), np.nan)
    distance[:-1] = np.where(steps == 1, np.linalg.norm(np.diff(centers, axis=0), axis=1), np.nan)
    depth = np.linalg.norm(points[:, ANTERIOR] - points[:, POSTERIOR], axis=-1).mean(1)
    measures = np.log(np.stack([depth, np.maximum(heights[:, POSTERIOR], 1e-3), distance], 1))
    for i, v in enumerate(vertebrae):
        if v.impossible or v.review == "rejected":
            measures[i] = np.nan
    return Column(
        names, sure, any(v.pinned for v in vertebrae), measures, np.r_[0, np.cumsum(steps)].astype(int)[: len(points)]
    )


def align(prior: Column, current: Column, likeness: np.ndarray | None = None) -> Alignment:
    """Return how two columns belong together; without pairs if they probably have no vertebra in common.

    likeness : `(n, m)` Fisher's z of the correlation of images around each prior and each current vertebra; nan where
        there is none.
    """
    ways = _ways(prior, current, likeness)
    return _alignment(prior, current, max(ways, key=lambda pairs: ways[pairs]), ways, likeness)


def aligned_as(
    prior: Column, current: Column, pairs: Pairs, reader: str, likeness: np.ndarray | None = None
) -> Alignment:
    """Return the alignment with the `pairs` that a reader set, of one offset; certainty is what the program gives it.

    `likeness` as for `align`.
    """
    found = _alignment(prior, current, pairs, _ways(prior, current, likeness), likeness)
    return replace(found, reader=reader)


def _ways(prior: Column, current: Column, likeness: np.ndarray | None) -> dict[Pairs, float]:
    """Return the probability of each way to lay both columns side by side; () for having no vertebra in common."""
    if not len(prior.names) or not len(current.names):
        return {(): 1.0}
    offsets = range(int(-current.slots[-1]), int(prior.slots[-1]) + 1)
    ways = [way for way in (pairs_at(prior.slots, current.slots, offset) for offset in offsets) if way]
    weights = np.array([_apart_weight(prior, current), *(_weight(prior, current, way, likeness) for way in ways)])
    probability = np.exp(weights - weights.max())
    return dict(zip([(), *ways], (probability / probability.sum()).tolist(), strict=True))


def _alignment(
    prior: Column, current: Column, pairs: Pairs, ways: Mapping[Pairs, float], likeness: np.ndarray | None
) -> Alignment:
    likely = _patient_weight(prior, current, pairs, likeness) if pairs else 0.0
    return Alignment(pairs, ways[pairs], _shift(prior, current, pairs), likely)


def scale(prior: Column, current: Column, pairs: Sequence[tuple[int, int]]) -> float:
    """Return the share by which the vertebrae of `current` are larger: of their depths, which fractures spare."""
    i, j = np.array(pairs).T
    change = current.measures[j, 0] - prior.measures[i, 0]
    return float(np.expm1(np.median(change[np.isfinite(change)]))) if np.isfinite(change).any() else 0.0


def pairs_at(prior: np.ndarray, current: np.ndarray, offset: int) -> Pairs:
    """Return the pairs if the slots `(m,)` of `current` lie `offset` lower in those `(n,)` of `prior`."""
    at = {int(slot): i for i, slot in enumerate(prior)}
    return tuple((at[slot + offset], j) for j, slot in enumerate(current.tolist()) if slot + offset in at)


def _weight(prior: Column, current: Column, pairs: Sequence[tuple[int, int]], likeness: np.ndarray | None) -> float:
    total = _name_weight(prior, current, pairs)
    if pairs:
        total += float(np.nansum(_measure_weights(prior, current, pairs)))
        if likeness is not None:
            contrast = _contrast(likeness)
            total += IMAGE_WEIGHT * _image_weight(np.array([contrast[i, j] for i, j in pairs]))
    return total


def _measure_weights(prior: Column, current: Column, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the log-likelihood ratios `(pairs, measures)`, after what all measures share is removed."""
    i, j = np.array(pairs).T
    change = current.measures[j] - prior.measures[i]
    known = np.isfinite(change)
    if not known.any():
        return np.full(change.shape, np.nan)
    shared = np.median((change / SAME_SD)[known]) * SAME_SD.mean()
    shared = float(np.clip(shared, -2 * SCALE_SD, 2 * SCALE_SD))
    return _log_t(change - shared, SAME_SD) - _log_t(change, OTHER_SD)


def _log_t(x: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return the logarithm of Student's density up to a constant that does not depend on `sd`."""
    return np.asarray(-np.log(sd) - (TAILS + 1) / 2 * np.log1p((x / sd) ** 2 / TAILS))


def _patient_weight(
    prior: Column, current: Column, pairs: Sequence[tuple[int, int]], likeness: np.ndarray | None
) -> float:
    """Return the logarithm of how much likelier one patient is than two."""
    weights, apart = _measure_weights(prior, current, pairs), scale(prior, current, pairs)
    total = float(_log_t(np.array(apart), np.array(ONE_PATIENT["scale"][1])))
    total -= float(_log_t(np.array(apart), np.array(TWO_PATIENTS["scale"][1])))
    if np.isfinite(weights).any():
        total += _one_rather_than_two("shapes", float(np.nanmean(weights)))
    contrast = np.array([] if likeness is None else [_contrast(likeness)[i, j] for i, j in pairs])
    if np.isfinite(contrast).any():
        total += _one_rather_than_two("images", float(np.nanmean(contrast)))
    return total


def _one_rather_than_two(what: str, value: float) -> float:
    """Return the logarithm of the ratio of two normal densities; more than one patient's mean, or less than two's, is
    no further evidence."""
    (mean, sd), (other, other_sd) = ONE_PATIENT[what], TWO_PATIENTS[what]
    value = min(value, mean)
    return float(np.log(other_sd / sd)) - ((value - mean) / sd) ** 2 / 2 + (max(0.0, value - other) / other_sd) ** 2 / 2


def _contrast(z: np.ndarray) -> np.ndarray:
    """Return z `(n, m)` minus the mean of its neighbours above, below, left and right; nan without any."""
    n, m = z.shape
    wide = np.full((n + 2, m + 2), np.nan)
    wide[1:-1, 1:-1] = z
    around = np.stack([wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]])
    known = np.isfinite(around)
    total = np.where(known, around, 0.0).sum(0)
    return np.asarray(z - np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan))


def _image_weight(contrast: np.ndarray) -> float:
    contrast = np.minimum(contrast[np.isfinite(contrast)], SAME_CONTRAST)
    same = _log_t(contrast - SAME_CONTRAST, np.array(SAME_CONTRAST_SD))
    other = _log_t(np.maximum(contrast - OTHER_CONTRAST, 0.0), np.array(OTHER_CONTRAST_SD))
    return float((same - other).sum())


def _apart_weight(prior: Column, current: Column) -> float:
    """Return the weight of having no vertebra in common: likely if both are named, and share no name."""
    held = [{LEVELS.index(name) for name in c.names if name in LEVELS} for c in (prior, current)]
    if not all(held):
        return float(np.log(0.1))
    above, below = sorted(held, key=min)
    return _shift_weight(prior, current, max(0, max(above) - min(below) + 1))


def _name_weight(prior: Column, current: Column, pairs: Sequence[tuple[int, int]]) -> float:
    """Return the logarithm of how probable it is that the names differ as these pairs would have it."""
    shift = _shift(prior, current, pairs)
    return float(np.log(0.1)) if shift is None else _shift_weight(prior, current, abs(shift))


def _shift_weight(prior: Column, current: Column, levels: int) -> float:
    share = float(np.log(NAME_SHIFT.get(levels, FARTHER)))
    if levels and prior.pinned and current.pinned:
        return share - NAMED_BY_READERS
    return share - (SURE_OF_NAMES if levels and prior.sure and current.sure else 0.0)


def _shift(prior: Column, current: Column, pairs: Sequence[tuple[int, int]]) -> int | None:
    """Return the commonest difference of the names of pairs, in levels of a regular spine; None without names."""
    named = [
        LEVELS.index(b) - LEVELS.index(a)
        for a, b in ((prior.names[i], current.names[j]) for i, j in pairs)
        if a in LEVELS and b in LEVELS
    ]
    return max(set(named), key=named.count) if named else None
