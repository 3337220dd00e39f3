"""The heights that each vertebra would have if it were not fractured, expected from the vertebrae beside it.

A patient's vertebrae are alike: the logarithms of heights and body depth, relative to the mean of their level, follow a
normal distribution whose covariance depends on how many levels two vertebrae are apart. The expected heights are the
conditional mean, given up to three vertebrae on either side and the vertebra's own depth. Fractured neighbours are
healed first: what is lost of them is not used, see `_intact`. The coefficients are fitted on phantoms
(`training.expected`); the idea is that of McCloskey et al. 1993 and of HealthiVert-GAN (2025).

Lengths are in mm, cranial to caudal; height loss is 1 - measured / expected, negative where a vertebra is taller.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .expected_model import Coefficients, coefficients
from .genant import GRADES, MILD, ROUNDING, Measurement, heights
from .levels import LEVELS, UNMEASURED

REACH = 3  # neighbours on either side
SLOTS = 2 * REACH + 1
HEIGHTS = slice(0, 3)  # of the four lengths: anterior, middle, posterior height, depth
DEPTH = 3
LENGTHS = 4
# A vertebra fits its neighbours if no height is lower than expected by this share or more. In healthy phantoms and in
# the experts' normal readings, 95 % fit.
FITS = 0.10
# All three heights are low by more than this: a crush, which min / max cannot show, or a wrong vertebra.
CRUSH = 0.20
ODD = 3.0  # a vertebra by so many standard deviations off, and by `CRUSH`, tells nothing of its neighbours
Three = tuple[float, float, float]


@dataclass(frozen=True)
class Expectation:
    """What is expected of one vertebra, and what it lacks.

    Attributes
    ----------
    heights_mm, sd_mm : expected (anterior, middle, posterior) height and its standard deviation.
    loss, loss_sd : the share by which each height is lower than expected, not clamped, and its standard deviation.
    grade : one of `GRADES`, by a linear classifier of the three losses; a second opinion beside the Genant grade.
    neighbours : number of unfractured vertebrae, at most three levels away, that were used. If 0, all are fractured and
        the expectation rests on the heights that were left of them.
    model : name of the coefficients and the beginning of their SHA-256.
    """

    heights_mm: Three
    sd_mm: Three
    loss: Three
    loss_sd: Three
    grade: str
    neighbours: int
    model: str = ""

    def fits(self, m: Measurement) -> bool:
        """True if G is low but no height is: the vertebra is wedged or hollow like its neighbours."""
        return m.genant_ratio <= MILD + ROUNDING and max(self.loss) < FITS

    @property
    def crushed(self) -> bool:
        """True if all heights are low against the neighbours."""
        return min(self.loss) > CRUSH


def expectations(
    keypoints: Sequence[np.ndarray] | np.ndarray, levels: Sequence[str | None], left_out: Collection[int] = ()
) -> list[Expectation | None]:
    """Return what is expected of each vertebra `(n, 3, 2, 3)` RAS mm, cranial to caudal; None without neighbours.

    levels : names. Vertebrae of `levels.UNMEASURED` are neither expected nor used. If no vertebra has a name, heights
        are expected to grow as in an average spine, with a larger standard deviation.
    left_out : indices of vertebrae from which nothing is expected (`plausibility.impossible`).
    """
    if len(keypoints) < 2:
        return [None] * len(keypoints)
    points = keypoints if isinstance(keypoints, np.ndarray) else np.stack(list(keypoints))
    middles = points.mean(-2)
    lengths = np.c_[heights(points), np.linalg.norm(middles[:, 0] - middles[:, 2], axis=-1)]
    return expectations_of(lengths, levels, left_out)


def column_expectations(
    keypoints: Sequence[np.ndarray] | np.ndarray,
    levels: Sequence[str | None],
    impossible: Sequence[bool],
    rejected: Sequence[bool],
) -> list[Expectation | None]:
    """Return what is expected of each vertebra, as `expectations`; of rejected ones, nothing.

    From rejected ones nothing is expected either, as they may be no vertebrae. `impossible` ones have a place in the
    column, but nothing is expected from them.
    """
    kept = [i for i, out in enumerate(rejected) if not out]
    found = iter(
        expectations(
            [keypoints[i] for i in kept], [levels[i] for i in kept], [k for k, i in enumerate(kept) if impossible[i]]
        )
    )
    return [None if out else next(found) for out in rejected]


def expectations_of(
    lengths: np.ndarray,
    levels: Sequence[str | None],
    left_out: Collection[int] = (),
    model: Coefficients | None = None,
) -> list[Expectation | None]:
    """Return what is expected of each vertebra with `lengths` `(n, 4)` mm; otherwise as `expectations`."""
    column = _Column(lengths, levels, left_out, model or coefficients())
    fractured = column.usable & ~column.normal
    counts = column.windows(column.intact.any(1) & ~fractured)[:, np.arange(SLOTS) != REACH].sum(1)
    expected, sd = column.expected(column.intact)
    loss, loss_sd = column.losses(expected, sd)
    rank = column.model.grades(loss)
    known = (column.measured & np.isfinite(sd[:, 0])).tolist()
    lists = (a.tolist() for a in (expected, expected * sd, loss, loss_sd, rank, counts))
    return [
        Expectation(_three(h), _three(s), _three(x), _three(xs), GRADES[g], n, column.model.stamp) if there else None
        for h, s, x, xs, g, n, there in zip(*lists, known, strict=True)
    ]


def against(e: Expectation | None, m: Measurement) -> str | None:
    """Return "fits" if G is low but no height is, "low" if all heights are and the grade does not say so, or None."""
    if e is None:
        return None
    return "fits" if e.fits(m) else "low" if e.crushed and m.shape != "crush" else None


def sentence(e: Expectation | None, m: Measurement) -> str:
    """Say how a vertebra compares with its neighbours where its grade does not say it; "" elsewhere."""
    told = against(e, m)
    if told == "low":
        return f"All heights are more than {CRUSH:.0%} lower than its neighbours lead to expect: look for a crush."
    if told != "fits":
        return ""
    hollow = m.heights_mm.index(min(m.heights_mm)) == 1
    how, what = ("Hollow", "shape") if hollow else ("Wedged", "wedging")
    return f"{how} like its neighbours: physiologic {what} likely."


def expected_keypoints(points: np.ndarray, heights_mm: Sequence[float], expected_mm: Sequence[float]) -> np.ndarray:
    """Return key points `(3, 2, d)` with the expected heights, about the middles of the present ones.

    The points may be those of a straightened image, in which lengths are stretched: each height is scaled.
    """
    middles = points.mean(1, keepdims=True)
    scale = np.array(expected_mm) / np.maximum(heights_mm, 1e-3)
    return np.asarray(middles + (points - middles) * scale[:, None, None])


def losses_text(e: Expectation | None) -> str:
    """Write the loss of each third against the expected heights: "A 3, M 12, P -1 %"; "" without neighbours."""
    if e is None:
        return ""
    return ", ".join(f"{name} {round(100 * loss):d}" for name, loss in zip("AMP", e.loss, strict=True)) + " %"


class _Column:
    """The vertebrae of a column as offsets of logarithms from the means of their levels, in slots one level apart."""

    def __init__(
        self, lengths: np.ndarray, levels: Sequence[str | None], left_out: Collection[int], model: Coefficients
    ):
        self.lengths = lengths
        self.named = any(level is not None for level in levels)
        self.model = model
        self._at, self._mean = _frame(model, tuple(levels))
        self._around = self.windows(np.log(np.maximum(lengths, 1e-3)) - self._mean).reshape(len(lengths), -1)
        self.measured = np.array([level not in UNMEASURED for level in levels])
        self.usable = self.measured.copy()
        self.usable[list(left_out)] = False
        ratio = lengths[:, HEIGHTS].min(1) / np.maximum(lengths[:, HEIGHTS].max(1), 1e-3)
        self.normal = ratio > MILD + ROUNDING
        self.intact = self._intact(ratio)

    def windows(self, values: np.ndarray) -> np.ndarray:
        """Return `(n, SLOTS, ...)`: `values` `(n, ...)` of the vertebrae around each, 0 where there is none."""
        slots = np.zeros((self._at.max() + REACH + 1, *values.shape[1:]), values.dtype)
        slots[self._at] = values
        found: np.ndarray = slots[self._at[:, None] + np.arange(-REACH, REACH + 1)]
        return found

    def expected(self, intact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return expected heights and the standard deviations of their logarithms `(n, 3)`; nan without neighbours.

        intact : `(n, 4)`, the lengths that may be used.
        """
        seen = self.windows(intact)
        seen[:, REACH, HEIGHTS] = False
        seen[:, REACH, DEPTH] = self.usable
        weights, sd = _weights(self.model, seen.tobytes(), self.named)
        return np.exp(self._mean[:, HEIGHTS] + (weights @ self._around[..., None])[..., 0]), sd

    def losses(self, expected: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss of each height `(n, 3)` and its standard deviation."""
        left = self.lengths[:, HEIGHTS] / expected
        return 1 - left, left * np.sqrt(sd**2 + self.model.noise[HEIGHTS] ** 2)

    def _intact(self, ratio: np.ndarray) -> np.ndarray:
        """Return which lengths `(n, 4)` tell how tall the neighbours were.

        Those of vertebrae that are normal by G do, unless all heights are far from what the others lead to expect.
        Fractured ones are healed from the most to the least normal: a height counts again if it is not lost. Where no
        neighbour of a fractured one is known, the most normal one is believed.
        """
        intact = self._without_odd(np.repeat((self.usable & self.normal)[:, None], LENGTHS, axis=1))
        still_open = [i for i in np.argsort(-ratio) if self.usable[i] and not self.normal[i]]
        while still_open:
            loss, _ = self.losses(*self.expected(intact))
            healed = next((i for i in still_open if np.isfinite(loss[i, 0])), still_open[0])
            intact[healed, HEIGHTS] = ~(loss[healed] >= FITS)
            intact[healed, DEPTH] = intact[healed, HEIGHTS].all()
            still_open.remove(healed)
        return intact

    def _without_odd(self, intact: np.ndarray) -> np.ndarray:
        """Leave out, the worst first, vertebrae whose heights are all far lower or higher than expected."""
        for _ in range(len(intact)):
            loss, sd = self.losses(*self.expected(intact))
            least = np.maximum(loss.min(1), (-loss).min(1))
            odd = intact[:, 0] & (least > CRUSH) & (least > ODD * sd.max(1))
            if not odd.any():
                break
            intact[np.where(odd, least, 0.0).argmax()] = False
        return intact


@lru_cache(maxsize=16)
def _frame(model: Coefficients, levels: tuple[str | None, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the slot of each vertebra `(n,)`, and the means of the logarithms of its lengths `(n, 4)`."""
    at = _places(levels)
    return np.array(at) - min(at) + REACH, model.means(levels, at)


def _places(levels: Sequence[str | None]) -> list[int]:
    """Return the level of each vertebra as a whole number, counted on where a name is unknown or has no place.

    An added T13 or L6 stands between its neighbours and moves those below it.
    """
    at: list[int] = []
    shift = 0
    for level in levels:
        if level in LEVELS:
            place = LEVELS.index(level) + shift
            at.append(max(place, at[-1] + 1) if at else place)
        else:
            shift += level == "T13"
            at.append(at[-1] + 1 if at else _first(levels))
    return at


def _first(levels: Sequence[str | None]) -> int:
    """Return the place of the first vertebra, counted back from the first one with a name."""
    known = next((i for i, level in enumerate(levels) if level in LEVELS), None)
    return (len(LEVELS) - len(levels)) // 2 if known is None else LEVELS.index(str(levels[known])) - known


@lru_cache(maxsize=256)
def _weights(model: Coefficients, seen: bytes, named: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return for each vertebra its weights `(n, 3, 4 * SLOTS)` of the offsets seen, and the standard deviations.

    seen : a bool array `(n, SLOTS, 4)`. A hand that moves points hardly ever changes it.
    """
    rows = np.frombuffer(seen, bool).reshape(-1, SLOTS * 4)
    each = [_row_weights(model, row.tobytes(), named) for row in rows]
    return np.stack([w for w, _ in each]), np.stack([s for _, s in each])


@lru_cache(maxsize=4096)
def _row_weights(model: Coefficients, seen: bytes, named: bool) -> tuple[np.ndarray, np.ndarray]:
    observed = np.flatnonzero(np.frombuffer(seen, bool))
    weights, target = np.zeros((3, SLOTS * 4)), REACH * 4 + np.arange(3)
    if (observed // 4 == REACH).all():
        return weights, np.full(3, np.nan)
    truth = model.covariance(named)
    measured = truth + np.diag(np.tile(model.noise**2, SLOTS))
    both = truth[np.ix_(observed, target)]
    solved = np.linalg.solve(measured[np.ix_(observed, observed)], both)
    weights[:, observed] = solved.T
    variance = truth[target, target] - (both * solved).sum(0)
    return weights, np.sqrt(np.maximum(variance, 0.0))


def _three(values: Sequence[float]) -> Three:
    a, m, p = values
    return a, m, p
