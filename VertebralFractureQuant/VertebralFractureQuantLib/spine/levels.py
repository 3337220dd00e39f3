"""Level names of vertebrae, C2 to L6: from the looks of single vertebrae to one consistent naming of the column.

A look is a vector of log-probabilities over `CLASSES`. A column can be named in few ways: its vertebrae follow one
another, in a regular spine or in a variant with an additional or a missing vertebra. Each way is weighed as a whole, so
one rib or the sacrum helps to name all vertebrae. The confidence of a name is the sum of the weights of all ways that
give it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CERVICAL = tuple(f"C{i}" for i in range(2, 8))
THORACIC = tuple(f"T{i}" for i in range(1, 13))
LUMBAR = tuple(f"L{i}" for i in range(1, 6))
LEVELS = CERVICAL + THORACIC + LUMBAR
SACRUM = "S1"
ABOVE = "C1"
CLASSES = (ABOVE, *LEVELS, SACRUM)
# Not measured, as there are no heights to compare: C1 has no body, C2 no upper endplate, S1 no disc below.
UNMEASURED = (ABOVE, "C2", SACRUM)
NAMES = (*CERVICAL, *THORACIC, "T13", *LUMBAR, "L6")  # every name that a vertebra can have, cranial first

# Shares of spines, regular and with another number of vertebrae. In VerSe, which collected variants on purpose, 13 %
# have an L6, 2 % a T13 and 3 % no T12.
VARIANTS = {
    LEVELS: 0.90,
    (*CERVICAL, *THORACIC, *LUMBAR, "L6"): 0.05,
    (*CERVICAL, *THORACIC, "T13", *LUMBAR): 0.01,
    (*CERVICAL, *THORACIC[:-1], *LUMBAR): 0.02,
    (*CERVICAL, *THORACIC, *LUMBAR[:-1]): 0.02,
}
LOOKS_LIKE = {"T13": ("T12", "L1"), "L6": ("L5", SACRUM)}
# Vertebrae of one column look a level off for a common reason, such as a small patient: their evidence is not
# independent and must not be counted as if it were. The ends of the column, above C2 and at the sacrum, are clearly
# seen.
TRUST = 0.2
ENDS = (ABOVE, SACRUM)
# Probabilities that a side of a vertebra shows a level rib, a falling rib, no rib (see `ribs`). Beside L5 and the
# sacrum the pelvis may look like a rib, and a twelfth rib may be a stump. Counted on phantoms and real scans, with a
# margin.
RIBS = {
    "C": (0.03, 0.07, 0.90),
    "C6": (0.03, 0.35, 0.62),
    "C7": (0.12, 0.50, 0.38),
    "T": (0.88, 0.07, 0.05),
    "T10": (0.74, 0.19, 0.07),
    "T11": (0.50, 0.44, 0.06),
    "T12": (0.25, 0.49, 0.26),
    "T13": (0.10, 0.40, 0.50),
    "L1": (0.05, 0.05, 0.90),
    "L2": (0.15, 0.05, 0.80),
    "L3": (0.28, 0.05, 0.67),  # the longest transverse process
    "L4": (0.20, 0.05, 0.75),
    "L5": (0.3, 0.2, 0.5),
    "L6": (0.3, 0.2, 0.5),
    "S": (0.4, 0.2, 0.4),
}
# The larger of the anterior and posterior height, mm: means of the public expert annotations from C4 to L3. All
# vertebrae of a patient are larger or smaller by one factor. In the 100 annotated patients its logarithm lies within
# 0.16. Up to `SIZES_WITHIN` it says nothing about names; beyond, names become impossible: no adult's L1 is as low as a
# C3.
TALLEST_MM = dict(
    zip(
        NAMES,
        (17.0, 13.6, 13.1, 12.7, 13.2, 14.9)
        + (17.2, 18.2, 18.9, 19.6, 20.4, 20.9, 21.3, 21.8, 22.2, 23.5, 25.3, 26.7, 27.3)
        + (28.0, 28.6, 29.0, 29.5, 30.8, 30.8),
        strict=True,
    )
)
SIZES_WITHIN, SIZE_SD = 0.3, 0.07
OFF_BY_ONE = 0.3  # share of looks that are those of a neighbouring level
STRAY = 0.03  # probability of a C1 or S1 that was detected as a vertebra to be measured
MOST_STRAYS = 2  # at either end
FLOOR = 1e-3  # added to the probabilities of a look, so that none excludes a name
LEAST_CONFIDENCE = 0.6  # a vertebra with less gets no name
SURE = 0.9  # a name with less is shown as doubtful


@dataclass(frozen=True)
class LevelName:
    """The most probable name of a vertebra, its probability, and the distribution: all names of 1 % or more.

    `name` is None if it is too uncertain.
    """

    name: str | None
    confidence: float
    distribution: dict[str, float]


def name_levels(
    looks: np.ndarray, steps: np.ndarray, ribs: np.ndarray | None = None, tallest: np.ndarray | None = None
) -> list[LevelName]:
    """Name vertebrae given from cranial to caudal; None where no name is more probable than `LEAST_CONFIDENCE`.

    looks : `(n, len(CLASSES))` log-probabilities. The first and the last may belong to the places above and below the
        vertebrae, which are named C1 and S1 if the whole column is in view.
    steps : `(n - 1,)` levels from each vertebra to the next: 1, or more if vertebrae between them were not found (see
        `steps_between`).
    ribs : `(n, 2, 3)`, see `ribs.rib_signs`.
    tallest : `(n,)` the larger of the anterior and posterior heights, mm; nan where there is none.
    """
    tallest = np.full(len(looks), np.nan) if tallest is None else np.asarray(tallest, float)
    ribs = np.ones((len(looks), 2, 3)) if ribs is None else np.asarray(ribs, float)
    looks = _hedged(np.asarray(looks, float))
    place = np.r_[0, np.cumsum(steps)].astype(int)
    ways, weights = [], []
    for variant, prior in VARIANTS.items():
        column = (ABOVE, *[ABOVE] * MOST_STRAYS, *variant, *[SACRUM] * MOST_STRAYS, SACRUM)
        score = np.stack([_look_of(name, looks) + _ribs_of(name, ribs) for name in column], 1)
        for first in range(len(column) - place[-1]):
            ways.append([column[first + p] for p in place])
            last = first + place[-1]
            strays = max(0, MOST_STRAYS - first) + max(0, last - (len(column) - 1 - MOST_STRAYS))
            seen = score[np.arange(len(place)), first + place].sum() + _size_of(ways[-1], tallest)
            weights.append(np.log(prior * STRAY**strays) + seen)
    if not ways:
        return [LevelName(None, 0.0, {}) for _ in place]
    probability = np.exp(np.array(weights) - max(weights))
    probability /= probability.sum()
    return [_name([way[i] for way in ways], probability) for i in range(len(place))]


def in_doubt(
    names: Sequence[str | None], probabilities: Sequence[Mapping[str, float]], pinned: Sequence[bool]
) -> list[float | None]:
    """Return the probability of each name of a column that is not `SURE`, and None for the sure ones.

    All names are sure if a reader named one of the vertebrae, as the others follow from it. So is a name without
    probabilities. A name that is missing among its probabilities counts as 0.
    """
    shares = [
        1.0 if name is None else p.get(name, 0.0 if p else 1.0) for name, p in zip(names, probabilities, strict=True)
    ]
    return [None if any(pinned) or share >= SURE else share for share in shares]


def steps_between(centers: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Return the levels `(n - 1,)` from each vertebra to the next: more than 1 where the gap has room for another.

    centers `(n, 3)` mm and mean heights `(n,)` mm, cranial first. Discs are at least a fifth of a body's height.
    """
    distance = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    usual = np.array([np.median(heights[max(0, i - 2) : i + 3]) for i in range(len(heights))])  # a crushed one is low
    tall = np.maximum(heights, usual)
    expected = 1.2 * (tall[1:] + tall[:-1]) / 2
    return np.maximum(1, np.round(distance / expected)).astype(int)


def renamed(
    names: Sequence[str | None], pinned: Sequence[bool], steps: Sequence[int], index: int, name: str
) -> list[str | None]:
    """Return the names of a column `(n,)`, cranial first, after a reader named vertebra `index`: the others follow.

    Names continue by `steps` `(n - 1,)` along the regular column, with T13 or L6 in it if `name` or a pinned name is
    one of them. They change up to the next pinned vertebra, which keeps its name, like all vertebrae beyond it. A
    vertebra above C2 or below the last lumbar level gets None. ValueError for an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"unknown level {name!r}: it must be one of {', '.join(NAMES)}")
    held = {name, *(n for i, (n, pin) in enumerate(zip(names, pinned, strict=True)) if pin and i != index)}
    column = [n for n in NAMES if n in LEVELS or n in held]
    new = list(names)
    new[index] = name
    for direction in (-1, 1):
        at = column.index(name)
        i = index + direction
        while 0 <= i < len(new) and not pinned[i]:
            at += direction * steps[min(i, i - direction)]
            new[i] = column[at] if 0 <= at < len(column) else None
            i += direction
    return new


def contradictions(names: Sequence[str | None], steps: Sequence[int] | None = None) -> list[int]:
    """Return the indices of vertebrae whose name is that of a vertebra above them, or belongs above it.

    Without `steps`, a skipped name is no contradiction: that vertebra may be missing in the image or in the spine. With
    `steps` `(n - 1,)`, a name must also lie that many levels below the last known one, in the regular spine or in one
    of `VARIANTS`. One step from T11 to L1 is no contradiction, as T12 may be missing. ValueError for an unknown name.
    """
    place = np.r_[0, np.cumsum([] if steps is None else steps)].astype(int)
    known = [(i, name) for i, name in enumerate(names) if name is not None]
    found, lowest = [], -1
    for at, (i, name) in enumerate(known):
        above, upper = known[at - 1] if at else (i, name)
        skips = steps is not None and not _follows(upper, name, int(place[i] - place[above]))
        if skips or NAMES.index(name) <= lowest:
            found.append(i)
        lowest = max(lowest, NAMES.index(name))
    return found


def _follows(upper: str, name: str, levels: int) -> bool:
    """True if `name` lies that many levels below `upper` in one of `VARIANTS`."""
    return any(
        upper in column and name in column and column.index(name) - column.index(upper) == levels for column in VARIANTS
    )


def _hedged(looks: np.ndarray) -> np.ndarray:
    """Return looks `(n, classes)` that leave some probability to neighbouring levels and to all other classes."""
    levels = slice(1, -1)  # without the ends of the column, which are clearly seen
    p = np.exp(looks - np.logaddexp.reduce(looks, axis=1, keepdims=True))
    own = np.pad(p[:, levels], ((0, 0), (1, 1)), mode="edge")
    p[:, levels] = (1 - OFF_BY_ONE) * own[:, 1:-1] + OFF_BY_ONE / 2 * (own[:, :-2] + own[:, 2:])
    return np.asarray(np.log((p + FLOOR) / (1 + len(CLASSES) * FLOOR)))


def _look_of(name: str, looks: np.ndarray) -> np.ndarray:
    """Return how well looks agree with a name, `(n,)`: the end of the column counts fully, the level by `TRUST`."""
    ended = np.logaddexp(*(looks[:, CLASSES.index(n)] for n in ENDS))
    level = np.mean([looks[:, CLASSES.index(n)] for n in LOOKS_LIKE.get(name, (name,))], 0)
    return (ended if name in ENDS else np.log1p(-np.exp(np.minimum(ended, -FLOOR)))) + TRUST * level


def _ribs_of(name: str, ribs: np.ndarray) -> np.ndarray:
    """Return the log-likelihood `(n,)` of the rib signs at both sides of each vertebra if it has this name."""
    chances = np.array(RIBS.get(name) or RIBS[name[0]])
    return np.asarray(np.log(ribs @ chances).sum(1))


def _size_of(names: Sequence[str], tallest: np.ndarray) -> float:
    """Return the log-likelihood of the patient's size under these names.

    The size is the median over the vertebrae, as some are fractured.
    """
    larger = np.log(tallest / [TALLEST_MM.get(name, np.nan) for name in names])
    larger = larger[np.isfinite(larger)]
    beyond = max(0.0, abs(float(np.median(larger))) - SIZES_WITHIN) if len(larger) else 0.0
    return -((beyond / SIZE_SD) ** 2) / 2


def _name(names: list[str], probability: np.ndarray) -> LevelName:
    total = {name: 0.0 for name in (*ENDS, *NAMES)}
    for name, p in zip(names, probability, strict=True):
        total[name] += float(p)
    best = max(total, key=lambda name: total[name])
    known = total[best] > LEAST_CONFIDENCE and best in NAMES
    return LevelName(best if known else None, total[best], {n: p for n, p in total.items() if p >= 0.01})
