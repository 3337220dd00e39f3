"""The figures of `vfq evaluate methods`: one method, or one rule of grading, on many patients.

Lengths are mm; a figure that cannot be computed is nan. Intervals come from drawing patients. There are two truths of a
fracture: G of the true points, and, of phantoms, the height that was lost since before the fracture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..spine.genant import GRADES, MILD, MODERATE_METRIC, ROUNDING
from ..spine.keypoints import POSITIONS, centers
from .graders import UNGRADED, Graded, loss_grades
from .matching import is_partial, match_overlap
from .metrics import Estimates, Figures, auc, bootstrap, mean, sensitivity_at
from .scans import Scan, compare_spines, pool, ratios_of
from .spines import Spine

OUTLIERS_MM = (4, 10, 20)
MODERATE = GRADES.index("moderate")
SHARES = {"recall", "precision", "outliers", "sensitivity", "accuracy", "crushes", "physiologic", "graded"}


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of the `m` true vertebrae beside their points.

    Attributes
    ----------
    grade : `(m,)` indices into `genant.GRADES`.
    fractured : `(m,)` whether the phantom broke them.
    loss : `(m, 3)` height loss since before the fracture [anterior, middle, posterior]; nan where unknown.
    """

    grade: np.ndarray
    fractured: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True, eq=False)
class Trial:
    """One method on one patient; arrays are over the `m` true vertebrae.

    Attributes
    ----------
    scan : the comparison with the truth.
    truth : as given.
    away_mm : distance from each true centre to the nearest that the method found, infinite if it found none.
    found : whether the vertebra was found.
    grade : index into `genant.GRADES`, `UNGRADED` where the vertebra was missed or the rule has no answer.
    score : higher the more likely a fracture, nan as `grade`.
    worst : the highest score of anything that was found, false ones included; nan if nothing was.
    loss : measured height loss `(m, 3)`, nan as `grade`.
    ratio : true G.
    seconds : of the analysis; nan if the method had none.
    """

    scan: Scan
    truth: Truth
    away_mm: np.ndarray
    found: np.ndarray
    grade: np.ndarray
    score: np.ndarray
    worst: float
    loss: np.ndarray
    ratio: np.ndarray
    seconds: float

    @cached_property
    def broken(self) -> np.ndarray:
        """Whether each true vertebra has a G of at most 0.74."""
        return np.asarray(self.ratio <= MODERATE_METRIC + ROUNDING)

    @cached_property
    def lost(self) -> np.ndarray:
        """The grade of each true vertebra by the height that it lost; `UNGRADED` where that is not known."""
        return loss_grades(self.truth.loss, self.truth.fractured)


def trial(found: Spine, spine: Spine, graded: Graded, truth: Truth, seconds: float) -> Trial:
    """Compare what a method found, and how a rule graded it, with the true `spine`."""
    near = np.linalg.norm(centers(spine.keypoints)[:, None] - centers(found.keypoints)[None], axis=-1)
    overlap = match_overlap(found.keypoints, spine.keypoints)
    i, j = (np.array([pair[side] for pair in overlap.pairs], int) for side in (0, 1))
    count = len(spine.keypoints)
    there = np.isin(np.arange(count), j)
    grade, score, loss = np.full(count, UNGRADED), np.full(count, np.nan), np.full((count, 3), np.nan)
    grade[j], score[j], loss[j] = graded.grade[i], graded.score[i], graded.loss[i]
    partial = is_partial(found.keypoints, spine.partial)
    false = [f for f in overlap.false if not partial[f]]
    scores = graded.score[np.r_[i, np.array(false, int)]]
    return Trial(
        scan=compare_spines(found, spine),
        truth=truth,
        away_mm=near.min(1) if near.size else np.full(count, np.inf),
        found=there,
        grade=grade,
        score=score,
        worst=max(scores[np.isfinite(scores)], default=np.nan),
        loss=loss,
        ratio=ratios_of(spine.keypoints),
        seconds=seconds,
    )


def estimate_method(trials: Sequence[Trial], repeats: int, seed: int) -> Estimates:
    """Return all figures with intervals over patients."""
    return bootstrap([[t] for t in trials], method_figures, repeats, seed, lambda key: not SHARES.isdisjoint(key))


def method_figures(trials: Sequence[Trial]) -> Figures:
    """Return the figures of one method."""
    scans = [t.scan for t in trials]
    pairs = pool(scans)
    found, false, missed = (sum(s.by_overlap[k] for s in scans) for k in range(3))
    away = np.concatenate([t.away_mm for t in trials])
    return {
        ("recall",): found / (found + missed) if found + missed else np.nan,
        ("precision",): found / (found + false) if found + false else np.nan,
        ("centre_mm",): mean(pairs.centers_mm),
        **{("outliers", f"{mm}"): mean(away > mm) for mm in OUTLIERS_MM},
        ("point_mm",): mean(pairs.points_mm),
        ("height_mm",): mean(np.abs(pairs.heights - pairs.true_heights)),
        ("ratio",): mean(np.abs(pairs.ratio - pairs.true_ratio)),
        **score_figures(trials),
        **grade_figures(trials),
        **loss_figures(trials),
        ("seconds",): mean(np.array([t.seconds for t in trials if not np.isnan(t.seconds)])),
    }


def vertebra_scores(trials: Sequence[Trial], by_loss: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores `(k,)` of the vertebrae that have one, and whether they are positives.

    A positive has a true G of at most 0.74 or, `by_loss`, has lost a quarter of a height or more by a fracture.
    """
    score = np.concatenate([t.score for t in trials])
    lost = np.concatenate([t.lost for t in trials])
    known = np.isfinite(score) & ((lost != UNGRADED) if by_loss else True)
    positive = lost >= MODERATE if by_loss else np.concatenate([t.broken for t in trials])
    return score[known], positive[known]


def patient_scores(trials: Sequence[Trial], by_loss: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the worst score of each patient, and whether a vertebra is positive (see `vertebra_scores`).

    Where nothing was measured the score is the worst possible: a failure must not look like a healthy spine.
    """
    if by_loss:
        trials = [t for t in trials if (t.lost != UNGRADED).any()]
    positive = np.array([bool((t.lost >= MODERATE).any() if by_loss else t.broken.any()) for t in trials], bool)
    worst = np.array([t.worst for t in trials], float)
    return np.where(np.isnan(worst), np.where(positive, -np.inf, np.inf), worst), positive


def score_figures(trials: Sequence[Trial]) -> Figures:
    """Return AUC and sensitivity by both truths; nan for a rule that gives no scores."""
    silent = not np.isfinite(np.concatenate([t.score for t in trials])).any() and any(t.found.any() for t in trials)
    result: Figures = {}
    for kind, chosen in {"vertebra": vertebra_scores, "patient": patient_scores}.items():
        for group, by_loss in (((), False), (("by_loss",), True)):
            scores, positive = (np.empty(0), np.empty(0, bool)) if silent else chosen(trials, by_loss)
            figures = {"auc": auc(scores, positive), "sensitivity": sensitivity_at(scores, positive)}
            result |= {(*group, name, kind): value for name, value in figures.items()}
    return result


def grade_figures(trials: Sequence[Trial]) -> Figures:
    """Return the figures of the grades of the vertebrae that were found, by both truths."""
    grade, true, lost, there = (
        np.concatenate(parts)
        for parts in zip(*[(t.grade, t.truth.grade, t.lost, t.found) for t in trials], strict=True)
    )
    fractured, ratio = (
        np.concatenate(parts) for parts in zip(*[(t.truth.fractured, t.ratio) for t in trials], strict=True)
    )
    normal = ratio > MILD + ROUNDING
    graded = grade != UNGRADED
    known = graded & (lost != UNGRADED)
    crushed, wedged = fractured & normal & (true >= MODERATE), ~fractured & ~normal
    return {
        ("graded",): mean(graded[there]),
        **agreement(grade[graded], true[graded]),
        ("crushes",): mean(grade[graded & crushed] >= MODERATE),
        ("physiologic",): mean(grade[graded & wedged] == 0),
        **{("by_loss", *key): value for key, value in agreement(grade[known], lost[known]).items()},
    }


def agreement(grade: np.ndarray, true: np.ndarray) -> Figures:
    """Return how well grades agree with the true ones."""
    return {
        ("accuracy",): mean(grade == true),
        ("macro_f1",): macro_f1(grade, true),
        ("kappa",): weighted_kappa(grade, true),
    }


def loss_figures(trials: Sequence[Trial]) -> Figures:
    """Return mean and mean absolute error of the measured height loss of intact and of fractured vertebrae.

    Shares, by position, and `all` three together; nan for a rule that measures no loss.
    """
    error = np.concatenate([t.loss - t.truth.loss for t in trials])
    fractured = np.concatenate([t.truth.fractured for t in trials])
    known = np.isfinite(error).all(1)
    result: Figures = {}
    for group, chosen in (("fractured", known & fractured), ("intact", known & ~fractured)):
        for position, column in zip((*POSITIONS, "all"), (*error[chosen].T, error[chosen]), strict=True):
            result["loss", group, "bias", position] = mean(column)
            result["loss", group, "error", position] = mean(np.abs(column))
    return result


def macro_f1(grade: np.ndarray, true: np.ndarray) -> float:
    """Return the mean over the grades that occur of F1, the harmonic mean of precision and recall."""
    scores = []
    for g in np.unique(true):
        both, either = ((grade == g) & (true == g)).sum(), (grade == g).sum() + (true == g).sum()
        scores.append(2 * both / either)
    return mean(np.array(scores))


def weighted_kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Return Cohen's kappa with quadratic weights; nan if only one grade occurs."""
    count = len(GRADES)
    table = np.bincount(one * count + other, minlength=count**2).reshape(count, count)
    weight = np.subtract.outer(np.arange(count), np.arange(count)) ** 2
    by_chance = np.outer(table.sum(1), table.sum(0)) / max(table.sum(), 1)
    expected = (weight * by_chance).sum()
    return float(1 - (weight * table).sum() / expected) if expected else float("nan")
