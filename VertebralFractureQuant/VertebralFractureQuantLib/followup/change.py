"""What has changed in a vertebra between two examinations, and whether measurement error explains it.

Heights are in mm. The rule for a fracture is that of trials: a height that is lower by 20 % and 4 mm, or a worse grade,
beyond the error of the two measurements. A worse grade counts only where a height is lower beyond its error too: the
ratio also falls if the largest height is measured a little too large. Losses within the error are no change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..spine.genant import GRADES, deciding_ratio
from ..spine.quality import codes_text
from ..spine.record import Vertebra

Verdict = Literal["unchanged", "new fracture", "progressed", "better", "not comparable"]
VERDICTS: tuple[Verdict, ...] = ("unchanged", "new fracture", "progressed", "better", "not comparable")

LEAST_LOSS, LEAST_LOSS_MM = 0.20, 4.0
BEYOND = 2.33  # standard deviations: a one-sided error of 1 %
INTERVAL = 1.96  # of the 95 % interval that is told
# The parts of the network's standard deviation of G that differ between two examinations of the same vertebra, for
# heights and for G; the rest is common to both. Measured on unchanged vertebrae of phantoms.
REPEATED, REPEATED_RATIO = 0.7, 0.5
# Standard deviation of a height of a reader's points: between experts on public annotations .47 mm (METHOD).
READER_HEIGHT_MM = 0.47
# Standard deviation of a height of automatic points whose method gives none of G (Documentation/methods.md).
UNTOLD_HEIGHT_MM = 2.0


@dataclass(frozen=True)
class Change:
    """One vertebra in two examinations.

    Attributes
    ----------
    prior, current : its index in each examination; None where it was not found.
    heights_mm : `(2, 3)` before and now; the rest of the numbers, like these, is None if it is not comparable.
    difference_mm, error_mm : `(3,)` now minus before, and the half width of the 95 % interval of measurement error.
    ratios : G before and now; `ratio_error` is the half width for their difference.
    verdict : what follows.
    reason : why it is not comparable, or what speaks against the verdict; "" otherwise.
    grades : the grade that counts before and now.
    losses : the relative height loss value (RHLV) before and now: the largest share by which a height is lower than
        expected; None where the record has none.
    """

    prior: int | None
    current: int | None
    heights_mm: tuple[tuple[float, float, float], tuple[float, float, float]] | None
    difference_mm: tuple[float, float, float] | None
    error_mm: tuple[float, float, float] | None
    ratios: tuple[float, float] | None
    ratio_error: float | None
    verdict: Verdict
    reason: str = ""
    grades: tuple[str, str] | None = None
    losses: tuple[float | None, float | None] = (None, None)


def height_sd(vertebra: Vertebra) -> np.ndarray:
    """Return the repeatability `(3,)` of the heights as a standard deviation in mm.

    It follows from that of G, to which the errors of two heights contribute alike; a reader's points have their own.
    """
    h = np.array(vertebra.measurement.heights_mm)
    if vertebra.spread is None:
        return np.full(3, _untold_mm(vertebra))
    return np.maximum(REPEATED * vertebra.spread * h / np.sqrt(2), READER_HEIGHT_MM)


def ratio_sd(vertebra: Vertebra) -> float:
    """Return the repeatability of G as a standard deviation."""
    h = vertebra.measurement.heights_mm
    least = _untold_mm(vertebra) * np.sqrt(2) / max(h)
    return float(least if vertebra.spread is None else max(REPEATED_RATIO * vertebra.spread, least))


def _untold_mm(vertebra: Vertebra) -> float:
    """Return the least standard deviation of a height; without one of G it is all that is known."""
    unseen = vertebra.spread is None and vertebra.origin == "model" and vertebra.review != "confirmed"
    return UNTOLD_HEIGHT_MM if unseen else READER_HEIGHT_MM


def change_of(prior: Vertebra, current: Vertebra, i: int, j: int) -> Change:
    """Return what has changed between vertebra `i` of the prior and `j` of the current examination."""
    for vertebra, when in ((prior, "before"), (current, "now")):
        if not vertebra.counts:
            why = "rejected" if vertebra.review == "rejected" else "impossible points"
            return missing(i, j, f"{why} {when}")
    before, now = (np.array(v.measurement.heights_mm) for v in (prior, current))
    sd = np.hypot(height_sd(prior), height_sd(current))
    sd_ratio = float(np.hypot(ratio_sd(prior), ratio_sd(current)))
    verdict, reason = _verdict(prior, current, before - now, sd, sd_ratio)
    doubts = codes_text([f for v in (prior, current) if v.review == "open" for f in v.quality])
    if verdict != "unchanged" and doubts:
        reason = "; ".join(filter(None, (reason, f"in doubt: {doubts.replace(' ', ', ')}")))
    return Change(
        prior=i,
        current=j,
        heights_mm=(_three(before), _three(now)),
        difference_mm=_three(now - before),
        error_mm=_three(INTERVAL * sd),
        ratios=(prior.measurement.genant_ratio, current.measurement.genant_ratio),
        ratio_error=INTERVAL * sd_ratio,
        verdict=verdict,
        reason=reason,
        grades=(prior.called, current.called),
        losses=(_lost(prior), _lost(current)),
    )


def _lost(vertebra: Vertebra) -> float | None:
    """Return the largest of the three losses against the expected heights, if the record has them."""
    return None if vertebra.expected is None else float(max(vertebra.expected.loss))


def missing(i: int | None, j: int | None, reason: str) -> Change:
    """Return a vertebra that cannot be compared, with the reason."""
    return Change(i, j, None, None, None, None, None, "not comparable", reason)


def _verdict(
    prior: Vertebra, current: Vertebra, loss: np.ndarray, sd: np.ndarray, sd_ratio: float
) -> tuple[Verdict, str]:
    before, now = (GRADES.index(v.called) for v in (prior, current))
    fall = deciding_ratio(prior.measurement) - deciding_ratio(current.measurement)
    lost = _much(loss, np.array(prior.measurement.heights_mm), sd)
    gained = _much(-loss, np.array(current.measurement.heights_mm), sd)
    if lost or (now > before and fall > BEYOND * sd_ratio and (loss > BEYOND * sd).any()):
        return "new fracture" if before == 0 else "progressed", ""
    if gained or (now < before and -fall > BEYOND * sd_ratio and (-loss > BEYOND * sd).any()):
        return "better", "vertebrae do not regain height: check the points of both examinations"
    return "unchanged", "another grade, but within the error of measurement" if now != before else ""


def _much(loss: np.ndarray, of: np.ndarray, sd: np.ndarray) -> bool:
    """True if a height is lower by 20 % and 4 mm, beyond its error."""
    return bool(((loss >= LEAST_LOSS * of) & (loss >= LEAST_LOSS_MM) & (loss > BEYOND * sd)).any())


def _three(values: np.ndarray) -> tuple[float, float, float]:
    a, m, p = (float(v) for v in values)
    return a, m, p
