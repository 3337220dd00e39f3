"""Two examinations of one patient compared: which vertebrae belong together, and the change of each.

A study is its record and, where there is one, its straightened volume. Neither holds a date or the patient's name: the
order is the user's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..spine.record import SpineAnalysis
from .change import Change, change_of, missing
from .likeness import likeness, patches
from .matching import LEAST_CERTAINTY, Alignment, align, column_of

SCALE = 0.04  # a larger share by which all sizes differ is no change of the bones


@dataclass(frozen=True, eq=False)
class Examination:
    """One examination: its record, and its straightened volume (HU in straight space) or None."""

    analysis: SpineAnalysis
    straightened: CTVolume | None = None


@dataclass(frozen=True)
class Comparison:
    """What two examinations have in common.

    Attributes
    ----------
    alignment : which vertebrae belong together, and how certain this is.
    changes : one for each vertebra of either examination, cranial first.
    scale : by which share all sizes are larger now; far from 0 it is an error of a header, not of bones.
    """

    alignment: Alignment
    changes: tuple[Change, ...]
    scale: float

    @property
    def scale_doubtful(self) -> bool:
        """True if all sizes differ by more than examinations of one patient do."""
        return abs(self.scale) > SCALE


def compare(prior: Examination, current: Examination) -> Comparison:
    """Compare two examinations of one patient.

    Raises
    ------
    VFQError
        The code of a study that failed; `same_study`: both are the same; `no_level_in_common`; `other_patient`: the
        shapes are those of two patients; `alignment_uncertain`: several ways to match the vertebrae are likely.
    """
    _check(prior.analysis, current.analysis)
    before, now = (column_of(e.analysis.vertebrae) for e in (prior, current))
    alignment = align(before, now, _likeness(prior, current))
    names = f"{prior.analysis.case} and {current.analysis.case}"
    if alignment.certainty < LEAST_CERTAINTY:
        raise VFQError(
            "alignment_uncertain",
            f"{names}: it is not certain which vertebrae belong together ({100 * alignment.certainty:.0f} %). Open both "
            "in vfq review and set the level of one vertebra in each.",
        )
    if not alignment.pairs:
        raise VFQError("no_level_in_common", f"{names}: no vertebra is in both scans, so nothing is compared.")
    if not alignment.same_patient:
        raise VFQError(
            "other_patient",
            f"{names}: sizes and shapes of the vertebrae are unlikely to be those of one patient. Check that both "
            "scans are of the same patient, and their voxel spacing.",
        )
    i, j = np.array(alignment.pairs).T
    change = np.nanmedian((now.measures[j] - before.measures[i])[:, :1])
    return Comparison(alignment, _changes(prior.analysis, current.analysis, alignment), float(np.expm1(change)))


def _check(prior: SpineAnalysis, current: SpineAnalysis) -> None:
    for analysis in (prior, current):
        if analysis.status != "ok":
            raise VFQError(analysis.status, f"{analysis.case}: the analysis failed. {analysis.message}")
    same_curve = prior.curve.shape == current.curve.shape and np.array_equal(prior.curve, current.curve)
    if same_curve and prior.shape == current.shape and len(prior.curve):
        raise VFQError(
            "same_study",
            f"{prior.case} and {current.case}: this is the same scan twice. Give two examinations of one patient.",
        )


def _likeness(prior: Examination, current: Examination) -> np.ndarray | None:
    if prior.straightened is None or current.straightened is None:
        return None
    return likeness(*(patches(e.analysis, e.straightened) for e in (prior, current) if e.straightened is not None))


def _changes(prior: SpineAnalysis, current: SpineAnalysis, alignment: Alignment) -> tuple[Change, ...]:
    """Return the changes of pairs, and what is in one examination only, by place along the spine."""
    before, after = dict(alignment.pairs), {j: i for i, j in alignment.pairs}
    first = alignment.pairs[0]
    above = [missing(i, None, "not in the current scan") for i in range(first[0])]
    above += [missing(None, j, "not in the prior scan") for j in range(first[1])]
    rest: list[Change] = []
    i, j = first
    while i < len(prior.vertebrae) or j < len(current.vertebrae):
        if i < len(prior.vertebrae) and i not in before:
            rest.append(missing(i, None, "not in the current scan"))
            i += 1
        elif j < len(current.vertebrae) and j not in after:
            rest.append(missing(None, j, "not in the prior scan"))
            j += 1
        else:
            rest.append(change_of(prior.vertebrae[i], current.vertebrae[j], i, j))
            i, j = i + 1, j + 1
    return (*above, *rest)
