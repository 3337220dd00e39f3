"""Expected heights against truth and against experts: the tables and the figure of Documentation/expected-heights.md.

    python Testing/validation/expected_heights.py ANNOTATIONS OUTPUT [--patients 400] [--repeats 1000]

ANNOTATIONS is the folder of the public annotations (CC BY-NC), on which nothing is fitted. OUTPUT gets
expected-heights.json and expected-heights.png.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from VertebralFractureQuantLib.evaluation.annotations import read_annotations
from VertebralFractureQuantLib.evaluation.experts import in_plane
from VertebralFractureQuantLib.spine.expected import CRUSH, FITS, Expectation, expectations, expectations_of
from VertebralFractureQuantLib.spine.expected_model import coefficients
from VertebralFractureQuantLib.spine.genant import GRADES, MILD, MODERATE, grade, heights, measure_column
from VertebralFractureQuantLib.spine.levels import LEVELS
from VertebralFractureQuantLib.training.expected import MEASURED, NOISE, draw_twins

SEED = 999  # of phantoms that the fit has not seen
NORMAL_TO_MILD = 0.085  # a loss that is as frequent among the experts' vertebrae as G <= 0.8 is
NAMES = [LEVELS[i] for i in MEASURED]


def expert_rows(folder: Path) -> np.ndarray:
    """Return one row for each vertebra that an expert marked, see `FIELDS`."""
    patients, _ = read_annotations(folder)
    rows = []
    for p, patient in enumerate(patients):
        for e, reading in enumerate(patient.readings.values()):
            levels = [level for level in LEVELS if level in reading]
            points = in_plane(patient, np.stack([reading[level] for level in levels]), "mm")
            found, measured = expectations(points, levels), measure_column(points)
            rows += [
                [p, e, LEVELS.index(level), *heights(k), *values(x), crushed(m)]
                for level, k, x, m in zip(levels, points, found, measured, strict=True)
                if x
            ]
    return np.array(rows, float)


def values(e: Expectation) -> list[float]:
    """Return the numbers of an expectation, 14 of them."""
    return [*e.heights_mm, *e.sd_mm, *e.loss, *e.loss_sd, GRADES.index(e.grade), e.neighbours]


def crushed(m: Any) -> bool:
    """True for a crush by the rule of the Genant grade."""
    return bool(m.shape == "crush")


class Rows:
    """Columns of `expert_rows`."""

    def __init__(self, rows: np.ndarray):
        self.patient, self.expert, self.level = rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2].astype(int)
        self.heights, self.expected, self.loss, self.loss_sd = (
            rows[:, 3:6],
            rows[:, 6:9],
            rows[:, 12:15],
            rows[:, 15:18],
        )
        self.grade, self.neighbours, self.crush = rows[:, 18].astype(int), rows[:, 19].astype(int), rows[:, 20] > 0
        self.ratio = self.heights.min(1) / self.heights.max(1)
        self.largest = self.loss.max(1)


def expert_figures(rows: Rows, repeats: int) -> dict[str, Any]:
    """Return the figures on the experts' annotations."""
    normal, mild, worse = rows.ratio > MILD, (rows.ratio <= MILD) & (rows.ratio > MODERATE), rows.ratio <= MODERATE
    called = worse | (mild & (rows.largest > FITS))
    by_loss = rows.largest > FITS
    return {
        "vertebrae": len(rows.ratio),
        "normal": error_figures(rows, normal),
        "normal_at_least_5_neighbours": error_figures(rows, normal & (rows.neighbours >= 5)),
        "mild": int(mild.sum()),
        "mild_that_fit": share(rows.largest[mild] < FITS),
        "moderate_or_worse": int(worse.sum()),
        "moderate_or_worse_that_lost": share(by_loss[worse]),
        "called": share(called),
        "against_the_other_experts": against_others(rows, called),
        "crush_false_all_low": int((normal & (rows.loss.min(1) > CRUSH)).sum()),
        "crush_false_genant_rule": int((normal & rows.crush).sum()),
        "kappa": kappas(rows, repeats),
        "loss_grade_by_genant_grade": confusion([GRADES.index(grade(r)) for r in rows.ratio], rows.grade),
    }


def error_figures(rows: Rows, chosen: np.ndarray) -> dict[str, Any]:
    """Return the errors of the expected heights of normal vertebrae; anterior, middle, posterior."""
    error, loss = (rows.expected - rows.heights)[chosen], rows.loss[chosen]
    inside = np.abs(loss) < 1.96 * rows.loss_sd[chosen]
    return {
        "count": int(chosen.sum()),
        "mae_mm": rounded(np.abs(error).mean(0), 3),
        "bias_mm": rounded(error.mean(0), 3),
        "sd_percent": rounded(100 * loss.std(0), 2),
        "in_95_percent_interval": rounded(inside.mean(0), 3),
        "p95_of_largest_loss": rounded(np.percentile(loss.max(1), 95), 4),
        "lost": share(loss.max(1) > FITS),
    }


def against_others(rows: Rows, called: np.ndarray) -> dict[str, float]:
    """Return specificity and sensitivity of the rule, against the other experts' moderate or worse.

    A vertebra is a negative if no other expert's G is 0.75 or less, and a positive if that of most is.
    """
    result = {}
    key = rows.patient * 100 + rows.level
    others = np.zeros((len(key), 2))
    for k in np.unique(key):
        at = np.flatnonzero(key == k)
        for i in at:
            rest = at[at != i]
            others[i] = ((rows.ratio[rest] <= MODERATE).sum(), len(rest))
    negative, positive = (others[:, 0] == 0) & (others[:, 1] > 0), others[:, 0] * 2 > others[:, 1]
    for name, rule in {
        "g_at_most_0.8": rows.ratio <= MILD,
        "g_at_most_0.75": rows.ratio <= MODERATE,
        "rule": called,
    }.items():
        result[f"specificity_{name}"] = share(~rule[negative])
        result[f"sensitivity_{name}"] = share(rule[positive])
    return result


def kappas(rows: Rows, repeats: int) -> dict[str, Any]:
    """Return Cohen's kappa between pairs of experts, with 95 % intervals by bootstrap over patients."""
    by_vertebra: dict[tuple[int, int], list[int]] = {}
    for i, key in enumerate(zip(rows.patient.tolist(), rows.level.tolist(), strict=True)):
        by_vertebra.setdefault(key, []).append(i)
    pairs = np.array([pair for same in by_vertebra.values() for pair in combinations(same, 2)])
    rules = {
        "g_at_most_0.8": rows.ratio <= MILD,
        "loss_above_0.1": rows.largest > FITS,
        "loss_above_0.085": rows.largest > NORMAL_TO_MILD,
        "g_at_most_0.75": rows.ratio <= MODERATE,
        "loss_above_0.15": rows.largest > 0.15,
        "loss_above_0.14": rows.largest > 0.14,
    }
    compared = [("loss_above_0.1", "g_at_most_0.8"), ("loss_above_0.085", "g_at_most_0.8")]
    compared += [("loss_above_0.15", "g_at_most_0.75"), ("loss_above_0.14", "g_at_most_0.75")]
    rng, patients = np.random.default_rng(0), np.unique(rows.patient)
    of_patient = {p: pairs[rows.patient[pairs[:, 0]] == p] for p in patients}
    drawn = [np.concatenate([of_patient[p] for p in rng.choice(patients, len(patients))]) for _ in range(repeats)]
    samples = {name: np.array([kappa(*rule[some].T) for some in drawn]) for name, rule in rules.items()}
    found = {
        name: {"share": share(rule), **interval(kappa(*rule[pairs].T), samples[name])} for name, rule in rules.items()
    }
    for one, other in compared:
        here = found[one]["value"] - found[other]["value"]
        found[f"{one} - {other}"] = interval(here, samples[one] - samples[other])
    found["pairs"] = len(pairs)
    return found


def kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Return Cohen's kappa of two yes-or-no readings."""
    agreed = (one == other).mean()
    by_chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    return float((agreed - by_chance) / (1 - by_chance))


def interval(value: float, samples: np.ndarray) -> dict[str, Any]:
    """Return a value with the 95 % interval of its bootstrap samples."""
    return {"value": rounded(value, 3), "interval": rounded(np.nanpercentile(samples, [2.5, 97.5]), 3)}


def phantom_figures(patients: int, trend: float, noise: float) -> dict[str, Any]:
    """Return how far losses are from the truth of phantoms that the fit has not seen, in percentage points."""
    healthy, broken, fractured = (x[:, MEASURED] for x in draw_twins(patients, SEED, trend=trend))
    seen = broken * np.random.default_rng(SEED).normal(1, max(noise, 1e-12), broken.shape)
    found = [expectations_of(lengths, NAMES) for lengths in seen]
    loss = np.array([[e.loss for e in column] for column in found])
    grades = np.array([[GRADES.index(e.grade) for e in column] for column in found])
    error = 100 * (loss - (1 - broken / healthy)[..., :3])
    left = np.where(fractured, (broken / healthy)[..., :3].min(-1), 1.0)
    ratio = seen[..., :3].min(-1) / seen[..., :3].max(-1)
    normal, crush = (
        ~fractured & (ratio > MILD),
        fractured & (ratio > MILD) & ((broken / healthy)[..., :3].max(-1) < 1 - CRUSH),
    )
    as_grade = np.vectorize(lambda r: GRADES.index(grade(r)))
    true = as_grade(left)
    return {
        "fractured": int(fractured.sum()),
        "bias": rounded(error[fractured].mean(0), 2),
        "mean_absolute": rounded(np.abs(error[fractured]).mean(0), 2),
        "bias_between_two_fractured": rounded(error[beside(fractured) & fractured].mean(0), 2),
        "crushes": int(crush.sum()),
        "crushes_found": share(loss.min(-1)[crush] > CRUSH),
        "crush_false": share(loss.min(-1)[normal] > CRUSH),
        "grade_accuracy": {
            "genant": share(as_grade(ratio) == true),
            "classifier": share(grades == true),
            "largest_loss": share(as_grade(1 - loss.max(-1)) == true),
        },
        "classifier_confusion": confusion(true.ravel(), grades.ravel()),
    }


def beside(fractured: np.ndarray) -> np.ndarray:
    """True where both adjacent vertebrae are fractured."""
    result = np.zeros_like(fractured)
    result[:, 1:-1] = fractured[:, :-2] & fractured[:, 2:]
    return result


def confusion(true: Any, found: Any) -> list[list[int]]:
    """Return counts by true grade (rows) and found grade."""
    table = np.zeros((4, 4), int)
    np.add.at(table, (np.asarray(true), np.asarray(found)), 1)
    return table.tolist()


def share(mask: np.ndarray) -> float:
    """Return the share that is true, with four decimals."""
    return rounded(np.mean(mask), 4)


def rounded(value: Any, decimals: int) -> Any:
    """Return plain numbers with so many decimals."""
    return np.round(np.asarray(value, float), decimals).tolist()


def draw(rows: Rows, path: Path) -> None:
    """Draw the largest loss against G on the experts' vertebrae, and the errors by level."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.scatter(rows.ratio, 100 * rows.largest, s=4, alpha=0.35, color="#3566a8", linewidths=0)
    for x in (MILD, MODERATE):
        left.axvline(x, color="#888", lw=0.8)
    left.axhline(100 * FITS, color="#c0392b", lw=0.8)
    left.set(xlabel="G, smallest / largest height", ylabel="largest height loss against the neighbours, %")
    left.set_title("Experts' vertebrae: low G, but like the neighbours (below the red line)", fontsize=9)
    normal = rows.ratio > MILD
    levels = [k for k in range(len(LEVELS)) if (normal & (rows.level == k)).sum() >= 20]
    for j, (name, color) in enumerate(
        zip(("anterior", "middle", "posterior"), ("#c0392b", "#3566a8", "#2e8b57"), strict=True)
    ):
        error = [np.abs(rows.expected - rows.heights)[normal & (rows.level == k), j].mean() for k in levels]
        right.plot([LEVELS[k] for k in levels], error, "o-", ms=3, lw=1, color=color, label=name)
    right.set(ylabel="mean absolute error, mm", ylim=(0, None))
    right.set_title("Expected heights of the experts' normal vertebrae", fontsize=9)
    right.tick_params(axis="x", labelsize=7)
    right.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Compute and write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=1000)
    given = parser.parse_args()
    rows = Rows(expert_rows(given.annotations))
    result = {
        "coefficients": coefficients().stamp,
        "experts": expert_figures(rows, given.repeats),
        "phantoms": {
            f"trend {trend:g}, error {100 * noise:g} %": phantom_figures(given.patients, trend, noise)
            for trend in (0.0, 1.0)
            for noise in (0.0, NOISE[0])
        },
    }
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "expected-heights.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(rows, given.output / "expected-heights.png")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
