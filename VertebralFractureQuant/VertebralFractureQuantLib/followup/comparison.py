"""Two examinations of one patient compared: which vertebrae belong together, and the change of each.

A study is its record and, where there is one, its straightened volume. Neither holds a date or the patient's name: the
order is the user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..spine.levels import LEVELS
from ..spine.record import SpineAnalysis, Vertebra, vertebra_name
from .change import Change, change_of, missing
from .likeness import likeness, patches
from .matching import LEAST_CERTAINTY, Alignment, align, aligned_as, column_of, scale
from .reader_match import KeptMatches, reader_pairs

LEAST_SHARED_NAMES = 3  # fewer may be an error of a name at the border of a scan
SCALE = 0.04  # a larger share by which all sizes differ is no change of the bones
SHARED_ROLES = ("localizer", "refiner")  # of networks that every method uses
_WITHOUT_FIT = {  # by whether the user vouches for the patient
    False: "If they are, use --same-patient of vfq compare or vfq report.",
    True: "If they are, no match of the vertebrae fits: match them yourself with vfq review --prior, or set the level "
    "of one vertebra in each.",
}


@dataclass(frozen=True, eq=False)
class Examination:
    """One examination.

    Attributes
    ----------
    analysis : its record.
    straightened : HU in straight space; None without an image.
    along : the curve `(n, 3)` RAS mm of that image; None for the curve of the record.
    digest : the `reader_match.scan_digest` of its automatic analysis; "" if it is not known.
    kept : the matches with prior scans that readers corrected.
    """

    analysis: SpineAnalysis
    straightened: CTVolume | None = None
    along: np.ndarray | None = None
    digest: str = ""
    kept: KeptMatches = field(default_factory=KeptMatches)

    @property
    def curve(self) -> np.ndarray:
        """The curve `(n, 3)` RAS mm of the straightened image."""
        return self.analysis.curve if self.along is None else self.along


@dataclass(frozen=True)
class Comparison:
    """What two examinations have in common.

    Attributes
    ----------
    alignment : which vertebrae belong together, and how certain this is.
    changes : one for each vertebra of either examination, cranial first.
    names : what the vertebra of each change is called: its current name; if it has none, that in the prior scan, moved
        by the levels that the names of both scans differ by.
    scale : by which share all sizes are larger now; far from 0 it is an error of a header, not of bones.
    other_match : True if the match was found automatically, although readers corrected those with other prior scans.
    other_weights : the roles of the networks whose weights differ between both examinations, see `other_weights`.
    """

    alignment: Alignment
    changes: tuple[Change, ...]
    names: tuple[str, ...]
    scale: float
    other_match: bool = False
    other_weights: tuple[str, ...] = ()

    @property
    def scale_doubtful(self) -> bool:
        """True if all sizes differ by more than examinations of one patient do."""
        return abs(self.scale) > SCALE

    @property
    def compared(self) -> tuple[Change, ...]:
        """The changes of vertebrae that were measured in both examinations."""
        return tuple(change for change in self.changes if change.heights_mm)


def compare(prior: Examination, current: Examination, same_patient: bool = False) -> Comparison:
    """Compare two examinations of one patient.

    A match that a reader corrected holds, whatever the program thinks of it.

    same_patient : the user vouches for the patient, so that doubts about it are no reason to refuse.

    Raises
    ------
    VFQError
        The code of a study that failed; `same_study`: both are the same; `no_level_in_common`; `other_patient`: the
        shapes are those of two patients; `alignment_uncertain`: several ways to match the vertebrae are likely;
        `bad_matches`: a reader corrected the match, but what was kept cannot be used.
    """
    check_different(prior.analysis, current.analysis)
    vertebrae = prior.analysis.vertebrae, current.analysis.vertebrae
    own = current.kept.of(prior.digest)
    if own:
        before, now = map(column_of, vertebrae)
        pairs = reader_pairs(own, *vertebrae)
        alignment, other_match = aligned_as(before, now, pairs, own.reader, _likeness(prior, current)), False
    else:
        alignment, other_match = aligned(prior, current), current.kept.only_others(prior.digest)
        _check_certain(prior.analysis, current.analysis, alignment, same_patient)
    networks = other_weights(prior.analysis, current.analysis)
    return replace(compare_aligned(*vertebrae, alignment), other_match=other_match, other_weights=networks)


def aligned(prior: Examination, current: Examination) -> Alignment:
    """Return the likeliest match of two examinations, by shape, place, image and name, be it certain or not."""
    before, now = (column_of(e.analysis.vertebrae) for e in (prior, current))
    return align(before, now, _likeness(prior, current))


def _check_certain(prior: SpineAnalysis, current: SpineAnalysis, alignment: Alignment, same_patient: bool) -> None:
    """Raise VFQError unless an automatic match can be used; see `compare`."""
    names = f"{prior.case} and {current.case}"
    apart = not alignment.pairs and _names_overlap(prior, current)  # nothing fits, although it should
    if apart or (alignment.pairs and not alignment.same_patient and not same_patient):
        raise VFQError(
            "other_patient",
            f"{names}: sizes, shapes and images of the vertebrae are unlikely to be those of one patient. Check that "
            "both scans are of the same patient, and their voxel spacing. " + _WITHOUT_FIT[same_patient],
        )
    if alignment.certainty < LEAST_CERTAINTY:
        raise VFQError(
            "alignment_uncertain",
            f"{names}: it is not certain which vertebrae belong together ({100 * alignment.certainty:.0f} %). Open "
            "both in vfq review and match them yourself, or set the level of one vertebra in each.",
        )
    if not alignment.pairs:
        spans = " and ".join(map(_span, (prior, current)))
        raise VFQError(
            "no_level_in_common",
            f"{names}: no vertebra is in both scans ({spans}), so nothing is compared. Give scans that overlap.",
        )


def compare_aligned(prior: Sequence[Vertebra], current: Sequence[Vertebra], alignment: Alignment) -> Comparison:
    """Compare vertebrae, cranial first, whose `alignment` is known, as after a reader moved points."""
    changes = _changes(prior, current, alignment)
    names = _names(prior, current, changes, alignment.shift or 0)
    return Comparison(alignment, changes, names, scale(column_of(prior), column_of(current), alignment.pairs))


def _names_overlap(prior: SpineAnalysis, current: SpineAnalysis) -> bool:
    before, now = ({v.level for v in a.vertebrae if v.level} for a in (prior, current))
    return len(before & now) >= LEAST_SHARED_NAMES


def _span(analysis: SpineAnalysis) -> str:
    names = [vertebra_name(v, i) for i, v in enumerate(analysis.vertebrae)]
    return f"{names[0]} to {names[-1]}" if names else "none"


def check_different(prior: SpineAnalysis, current: SpineAnalysis) -> None:
    """Raise VFQError unless two studies can be compared.

    The code of a study that failed; `same_study`: both are analyses of the same scan; `other_method`: their vertebrae
    were found by different methods, and not all were reviewed.
    """
    for analysis in (prior, current):
        if analysis.status != "ok":
            raise VFQError(analysis.status, f"{analysis.case}: the analysis failed. {analysis.message}")
    if _same_voxels(prior, current):
        raise VFQError(
            "same_study",
            f"{prior.case} and {current.case}: this is the same scan twice. Give two examinations of one patient.",
        )
    one, other = map(_method, (prior, current))
    if one and other and one != other and not _all_reviewed(prior, current):
        raise VFQError(
            "other_method",
            f"{prior.case} and {current.case}: the vertebrae were found by different methods ({', '.join(one)} and "
            f"{', '.join(other)}), whose heights differ by more than measurement error. Analyse both with the same "
            "--method.",
        )


def other_weights(prior: SpineAnalysis, current: SpineAnalysis) -> tuple[str, ...]:
    """Return the roles of the networks that both studies used with different weights; none if all was reviewed."""
    before, now = map(_weights, (prior, current))
    differing = tuple(role for role in now if role in before and before[role] != now[role])
    return () if _all_reviewed(prior, current) else differing


def _weights(analysis: SpineAnalysis) -> dict[str, set[str]]:
    """Return the SHA-256 of the weights by role; a role has several if a vertebra was proposed by other weights."""
    roles = dict.fromkeys(stamp.role for stamp in analysis.models)
    return {role: {stamp.sha256 for stamp in analysis.models if stamp.role == role} for role in roles}


def _all_reviewed(prior: SpineAnalysis, current: SpineAnalysis) -> bool:
    return all(v.review != "open" for v in (*prior.vertebrae, *current.vertebrae))


def _method(analysis: SpineAnalysis) -> list[str]:
    """Return the roles of the networks that found the vertebrae; none if the record names no networks."""
    return sorted({stamp.role for stamp in analysis.models} - {*SHARED_ROLES})


def _same_voxels(prior: SpineAnalysis, current: SpineAnalysis) -> bool:
    """True if both have the same grid of voxels, and the same automatic key points or the same curve."""
    one, other = prior.ijk_to_ras, current.ijk_to_ras
    same_grid = prior.shape == current.shape and (one is None or other is None or np.allclose(one, other, atol=1e-3))
    if not same_grid:
        return False
    same_curve = prior.curve.shape == current.curve.shape and np.allclose(prior.curve, current.curve, atol=1e-3)
    points = [{_machine(v).round(3).tobytes() for v in a.vertebrae} for a in (prior, current)]
    return bool(same_curve and len(prior.curve)) or bool(points[0] & points[1])


def _machine(vertebra: Vertebra) -> np.ndarray:
    return vertebra.keypoints if vertebra.machine_keypoints is None else vertebra.machine_keypoints


def _likeness(prior: Examination, current: Examination) -> np.ndarray | None:
    if prior.straightened is None or current.straightened is None:
        return None
    seen = (prior.analysis, prior.straightened, prior.curve), (current.analysis, current.straightened, current.curve)
    return likeness(*(patches(*each) for each in seen))


def _names(
    prior: Sequence[Vertebra], current: Sequence[Vertebra], changes: Sequence[Change], shift: int
) -> tuple[str, ...]:
    """Return the name of each change: the current one; else that in the prior scan, moved by `shift` levels."""
    told = []
    for change in changes:
        before, now = (None if i is None else v[i] for v, i in ((prior, change.prior), (current, change.current)))
        if now is not None and (now.level or before is None or not before.level):
            told.append(vertebra_name(now, change.current or 0))
        elif before is not None:
            moved = LEVELS.index(before.level) + shift if before.level in LEVELS else -1
            name = vertebra_name(before, change.prior or 0) + ("" if before.level else " (prior)")
            told.append(LEVELS[moved] if 0 <= moved < len(LEVELS) else name)
    return tuple(told)


def _changes(prior: Sequence[Vertebra], current: Sequence[Vertebra], alignment: Alignment) -> tuple[Change, ...]:
    """Return the changes of pairs, and what is in one examination only, by place along the spine."""
    partner, matched = dict(alignment.pairs), {j for _, j in alignment.pairs}
    first = alignment.pairs[0]
    told = [missing(i, None, "not in the current scan") for i in range(first[0])]
    told += [missing(None, j, "not in the prior scan") for j in range(first[1])]
    i, j = first
    while i < len(prior) or j < len(current):
        if i < len(prior) and i not in partner:
            told.append(missing(i, None, "not in the current scan"))
            i += 1
        elif j < len(current) and j not in matched:
            told.append(missing(None, j, "not in the prior scan"))
            j += 1
        else:
            told.append(change_of(prior[i], current[j], i, j))
            i, j = i + 1, j + 1
    return tuple(told)
