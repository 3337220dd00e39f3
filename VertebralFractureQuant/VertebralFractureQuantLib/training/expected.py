"""Fitting of the expected heights (`spine.expected`) on the healthy shapes of phantoms, and on nothing else.

Each phantom patient is drawn twice from the same numbers: healthy, and with fractures. Means and covariances come from
the healthy vertebrae; the classifier of losses from the fractured ones, with the errors of a reader.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..phantom.morphometry import SEEN_OUTSIDE_MM
from ..phantom.options import PhantomOptions
from ..phantom.shapes import draw_shapes
from ..spine.expected import HEIGHTS, REACH, expectations_of
from ..spine.expected_model import NAME, PAIRS, Coefficients, as_coefficients, digest, read_coefficients
from ..spine.genant import GRADES, MILD, grade
from ..spine.levels import LEVELS, UNMEASURED

PATIENTS = 4000
SEED = 28
# Relative standard deviations of a measured height and depth. Our references, set again from scratch, differ by 0.4 mm
# a point: 0.5 mm in a height of 20 mm.
NOISE = (0.025, 0.025, 0.025, 0.025)
UNKNOWN_PLACE = 5.0  # standard deviation, in levels, of where a column without names begins
FRACTURE_RATE = 0.2
TREND = 1.0
PER_GRADE = 1500  # vertebrae of each grade from which the classifier learns
DECIMALS = 6
MEASURED = [i for i, level in enumerate(LEVELS) if level not in UNMEASURED]


def draw_twins(patients: int, seed: int, rate: float = FRACTURE_RATE, trend: float = TREND) -> tuple[np.ndarray, ...]:
    """Draw phantom patients without painting them.

    Returns
    -------
    lengths (healthy), lengths (with fractures), `(n, 23, 4)` mm from C2 to L5, where readers see them; and which are
    fractured, `(n, 23)`.
    """
    options = PhantomOptions(fracture_rate=rate, trend=trend)
    spines = [draw_shapes(np.random.default_rng([seed, i]), options)[: len(LEVELS)] for i in range(patients)]
    seen = np.array([2 * SEEN_OUTSIDE_MM] * 3 + [0.0])
    healthy = np.array([[s["healthy"] for s in spine] for spine in spines]) + seen
    broken = np.array([[(s["ha"], s["hm"], s["hp"], s["depth"]) for s in spine] for spine in spines]) + seen
    return healthy, broken, np.array([[s["fracture"] is not None for s in spine] for spine in spines])


def fit(patients: int = PATIENTS, seed: int = SEED) -> dict[str, Any]:
    """Return the model card with all coefficients. The same arguments give the same coefficients."""
    healthy, _, _ = draw_twins(patients, seed)
    normal = healthy[..., HEIGHTS].min(-1) / healthy[..., HEIGHTS].max(-1) > MILD
    logs = np.where(normal[..., None], np.log(healthy), np.nan)
    means = np.nanmean(logs, 0)
    growth, first = np.polyfit(np.arange(len(LEVELS)), means, 1)
    line = first + np.arange(len(LEVELS))[:, None] * growth
    place = UNKNOWN_PLACE**2 * np.outer(growth, growth)
    given = {
        "level_means": means,
        "lags": _lags(logs - means),
        "line": np.stack([first, growth]),
        "line_lags": _lags(logs - line) + place,
        "noise": np.array(NOISE),
        "planes": np.zeros((len(PAIRS), 4)),
    }
    rounded = _rounded(given)
    losses, grades = broken_losses(as_coefficients(rounded), patients // 4, seed + 1)
    return _card({**rounded, "planes": _rounded({"planes": fit_planes(losses, grades)})["planes"]}, patients, seed)


def broken_losses(model: Coefficients, patients: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return measured losses `(k, 3)` and true grades `(k,)` of the vertebrae of phantoms with fractures.

    The true grade is that of the largest true loss, by the thresholds of Genant et al. 1993; an unfractured vertebra is
    normal.
    """
    healthy, broken, fractured = (values[:, MEASURED] for values in draw_twins(patients, seed))
    noisy = broken * np.random.default_rng(seed).normal(1, NOISE, broken.shape)
    levels = [LEVELS[i] for i in MEASURED]
    found = [expectations_of(lengths, levels, (), model) for lengths in noisy]
    losses = np.array([[e.loss if e else [np.nan] * 3 for e in column] for column in found])
    left = (broken / healthy)[..., HEIGHTS].min(-1)
    true = np.vectorize(lambda ratio: GRADES.index(grade(ratio)))(np.where(fractured, left, 1.0))
    known = np.isfinite(losses).all(-1)
    return losses[known], true[known]


def fit_planes(losses: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """Return a plane `(6, 4)` between each pair of grades: linear support vector machines, both weighing alike."""
    from sklearn.svm import SVC

    planes = []
    for first, second in PAIRS:
        chosen = np.concatenate([np.flatnonzero(grades == g)[:PER_GRADE] for g in (first, second)])
        scale = losses[chosen].std(0)
        machine = SVC(kernel="linear", class_weight="balanced").fit(losses[chosen] / scale, grades[chosen] == first)
        planes.append(np.r_[machine.coef_[0] / scale, machine.intercept_])
    return np.array(planes)


def write(card: dict[str, Any], path: Path) -> None:
    """Write a model card, and read it again to be sure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_laid_out(card), encoding="utf-8")
    read_coefficients(path)


def _laid_out(card: dict[str, Any]) -> str:
    """Return JSON with one row of numbers in each line."""
    text = json.dumps(card, indent=1)
    return re.sub(r"\[\s+([-\d.e,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def _lags(offsets: np.ndarray) -> np.ndarray:
    """Return the covariances `(7, 4, 4)` of vertebrae 0 to 6 levels apart."""
    found = []
    for lag in range(2 * REACH + 1):
        upper, lower = offsets[:, : len(LEVELS) - lag], offsets[:, lag:]
        known = np.isfinite(upper).all(-1) & np.isfinite(lower).all(-1)
        upper, lower = upper[known], lower[known]
        found.append(upper.T @ lower / len(upper))
    return np.array(found)


def _rounded(given: dict[str, np.ndarray]) -> dict[str, Any]:
    return {key: np.round(value, DECIMALS).tolist() for key, value in given.items()}


def _card(given: dict[str, Any], patients: int, seed: int) -> dict[str, Any]:
    return {
        "name": f"{NAME}-1",
        "data": f"healthy and fractured shapes of {patients} phantoms from seed {seed}; no patient",
        "order": "anterior, middle, posterior height, body depth; natural logarithms of mm; levels from C2 to L5",
        "recipe": {"patients": patients, "seed": seed, "trend": TREND, "fracture_rate": FRACTURE_RATE},
        "coefficients": given,
        "sha256": digest(given),
    }


def main() -> None:
    """Fit the coefficients and write them: `python -m VertebralFractureQuantLib.training.expected FILE`."""
    parser = argparse.ArgumentParser(description=fit.__doc__)
    parser.add_argument("file", type=Path, help="the file to write, such as expected-heights.json")
    parser.add_argument("--patients", type=int, default=PATIENTS, help="number of phantoms (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="random seed (default: %(default)s)")
    given = parser.parse_args()
    card = fit(given.patients, given.seed)
    write(card, given.file)
    print(f"{given.file.name}: {card['sha256']}")


if __name__ == "__main__":
    main()
