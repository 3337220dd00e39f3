"""What a report says of a prior examination, without words. Heights are in mm, differences are now minus before."""

from __future__ import annotations

from dataclasses import dataclass

from ..followup.comparison import Comparison
from ..spine.genant import GRADES

HEIGHTS = ("anterior", "middle", "posterior")
CHANGED = ("new fracture", "progressed", "better")


@dataclass(frozen=True)
class PriorRow:
    """One vertebra in both examinations.

    Attributes
    ----------
    name : what it is called, see `Comparison.names`.
    index : its place in the current examination, from 0; None if it is not there.
    verdict, reason : see `change.Change`.
    height : the height with the largest difference, of `HEIGHTS`; None, like the numbers, if it is not comparable.
    before_mm, now_mm, difference_mm, error_mm : this height; the error is half of the 95 % interval.
    before_ratio, now_ratio, ratio_error : the same of G.
    before_grade, now_grade : Genant grades 0 to 3, a physiologic shape being 0.
    """

    name: str
    index: int | None
    verdict: str
    reason: str
    height: str | None = None
    before_mm: float | None = None
    now_mm: float | None = None
    difference_mm: float | None = None
    error_mm: float | None = None
    before_ratio: float | None = None
    now_ratio: float | None = None
    ratio_error: float | None = None
    before_grade: int | None = None
    now_grade: int | None = None


@dataclass(frozen=True)
class Prior:
    """A prior examination that was compared.

    Attributes
    ----------
    days : days from it to the current one; None if a date is not known.
    certainty : probability of the match, 0 to 1.
    shift : levels by which the names of both differ; None without names.
    scale_doubtful : True if all sizes differ by more than those of one patient do.
    rows : all vertebrae of both examinations, cranial first.
    reader : who set the match; "" if it was found automatically.
    other_match : True if it was, although readers corrected the matches with other prior scans.
    other_weights : the roles of the networks whose weights differ between both examinations.
    """

    days: int | None
    certainty: float
    shift: int | None
    scale_doubtful: bool
    rows: tuple[PriorRow, ...]
    reader: str = ""
    other_match: bool = False
    other_weights: tuple[str, ...] = ()

    def of(self, index: int) -> PriorRow | None:
        """Return the row of vertebra `index` of the current examination if it was compared."""
        return next((row for row in self.rows if row.index == index and row.height), None)

    def named(self, *verdicts: str) -> tuple[str, ...]:
        """Return the names of the vertebrae with one of these verdicts, cranial first."""
        return tuple(row.name for row in self.rows if row.verdict in verdicts)

    @property
    def compared(self) -> tuple[PriorRow, ...]:
        """The vertebrae that could be compared."""
        return tuple(row for row in self.rows if row.height)

    @property
    def changed(self) -> tuple[PriorRow, ...]:
        """The vertebrae that have changed beyond the error of measurement."""
        return tuple(row for row in self.rows if row.verdict in CHANGED)


def prior_of(comparison: Comparison, days: int | None) -> Prior:
    """Return what a report says of a comparison with a prior examination `days` before."""
    rows = []
    for name, c in zip(comparison.names, comparison.changes, strict=True):
        if c.difference_mm is None or c.error_mm is None or c.heights_mm is None or c.ratios is None or not c.grades:
            rows.append(PriorRow(name, c.current, c.verdict, c.reason))
            continue
        k = max(range(3), key=lambda i, d=c.difference_mm: abs(d[i]))  # type: ignore[misc]
        before, now = (GRADES.index(g) for g in c.grades)
        numbers = (HEIGHTS[k], c.heights_mm[0][k], c.heights_mm[1][k], c.difference_mm[k], c.error_mm[k])
        rows.append(PriorRow(name, c.current, c.verdict, c.reason, *numbers, *c.ratios, c.ratio_error, before, now))
    alignment = comparison.alignment
    told = alignment.reader, comparison.other_match, comparison.other_weights
    return Prior(days, alignment.certainty, alignment.shift, comparison.scale_doubtful, tuple(rows), *told)
