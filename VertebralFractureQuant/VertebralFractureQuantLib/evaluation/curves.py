"""Curves of `vfq evaluate methods` with bands: ROC, distances of centres, and measured against true height loss.

A band is the 95 % interval at each place of the curve, by drawing patients with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .method_figures import Trial, vertebra_scores
from .metrics import COVERAGE, roc

GRID = np.linspace(0, 1, 101)  # of 1 - specificity
AWAY_MM = np.linspace(0, 20, 81)
LOSS_EDGES = np.array([-0.05, 0.05, 0.15, 0.25, 0.35, 0.45, 0.65])  # bins of the true loss
LEAST_IN_BIN = 5


@dataclass(frozen=True, eq=False)
class Band:
    """A curve `y` over `x`, and its interval `low` to `high`; nan where it does not exist. All `(k,)`."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc_band(trials: Sequence[Trial], by_loss: bool, repeats: int, seed: int) -> Band:
    """Return the ROC curve of the vertebrae, see `method_figures.vertebra_scores`; x is 1 - specificity."""

    def curve(chosen: Sequence[Trial]) -> np.ndarray:
        """Return the sensitivities on the grid."""
        off, on = roc(*vertebra_scores(chosen, by_loss))
        if not len(off):
            return np.full(len(GRID), np.nan)
        return on[np.searchsorted(off, GRID + 1e-12, side="right") - 1]

    return _band(trials, curve, GRID, repeats, seed)


def distance_band(trials: Sequence[Trial], repeats: int, seed: int) -> Band:
    """Return the share of true vertebrae whose nearest found centre is farther away than x, mm."""

    def curve(chosen: Sequence[Trial]) -> np.ndarray:
        """Return the shares on the grid."""
        away = np.sort(np.concatenate([t.away_mm for t in chosen]))
        return 1 - np.searchsorted(away, AWAY_MM, side="right") / len(away)

    return _band(trials, curve, AWAY_MM, repeats, seed)


def loss_band(trials: Sequence[Trial], repeats: int, seed: int) -> Band:
    """Return the mean measured height loss over the mean true one, in bins of the true loss; all three positions.

    nan in bins of fewer than `LEAST_IN_BIN` heights. In draws, too few heights give no mean.
    """
    true, _ = _losses(trials)
    bins = np.digitize(true, LOSS_EDGES) - 1
    x = np.array([true[bins == b].mean() if (bins == b).any() else np.nan for b in range(len(LOSS_EDGES) - 1)])
    return _band(trials, lambda chosen: _binned(*_losses(chosen)), x, repeats, seed)


def _losses(trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
    true = np.concatenate([t.truth.loss for t in trials]).ravel()
    measured = np.concatenate([t.loss for t in trials]).ravel()
    known = np.isfinite(true) & np.isfinite(measured)
    return true[known], measured[known]


def _binned(true: np.ndarray, measured: np.ndarray) -> np.ndarray:
    bins = np.digitize(true, LOSS_EDGES) - 1
    chosen = [measured[bins == b] for b in range(len(LOSS_EDGES) - 1)]
    return np.array([values.mean() if len(values) >= LEAST_IN_BIN else np.nan for values in chosen])


def _band(
    trials: Sequence[Trial], curve: Callable[[Sequence[Trial]], np.ndarray], x: np.ndarray, repeats: int, seed: int
) -> Band:
    rng = np.random.default_rng(seed)
    y, count = curve(trials), len(trials)
    drawn = [curve([trials[i] for i in rng.integers(count, size=count)]) for _ in range(repeats if count > 1 else 0)]
    low, high = np.full((2, len(x)), np.nan)
    values = np.array(drawn).reshape(-1, len(x))
    there = np.isfinite(values).any(0) & np.isfinite(y)
    if there.any():
        ends = [50 * (1 - COVERAGE), 50 * (1 + COVERAGE)]
        low[there], high[there] = np.nanpercentile(values[:, there], ends, axis=0)
    return Band(x, y, low, high)
