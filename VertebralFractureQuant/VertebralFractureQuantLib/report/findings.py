"""What a report says of a study, as plain data without words: fractures, levels that are not assessable, SDI, doubts.

The sentences around it are templates (`wording`). Heights are in mm, losses in percent of the height that is named. It
holds nothing of the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import __version__
from ..spine.genant import GRADES, MILD, MODERATE, SEVERE, deciding_ratio, severity
from ..spine.levels import LUMBAR, NAMES, THORACIC
from ..spine.record import SpineAnalysis, Vertebra, shown_names, vertebra_name
from .prior import Prior

SDI_LEVELS = (*THORACIC[3:], *LUMBAR[:4])  # T4 to L4, the levels of the spinal deformity index
HEIGHTS = ("anterior", "middle", "posterior")
DOUBTFUL = "?"


@dataclass(frozen=True)
class Loss:
    """How much height a vertebra has lost.

    Attributes
    ----------
    percent : of the height that it is compared with.
    lowest : the height that is lower, of `HEIGHTS`; "mean" where the neighbours are the reference.
    of : the height that it is compared with, of `HEIGHTS`, or "neighbours": the mean height that they lead to expect.
    of_largest : True if `of` is the largest of the three heights, and not the posterior one by convention.
    lowest_mm, of_mm : both heights.
    sd_percent : standard deviation in percentage points as the network estimates it; None for a reader's points.
    """

    percent: float
    lowest: str
    of: str
    of_largest: bool
    lowest_mm: float
    of_mm: float
    sd_percent: float | None


@dataclass(frozen=True)
class Row:
    """One vertebra of the table, and of the sentences if it is fractured.

    Attributes
    ----------
    name : of the level, or "V1", "V2", ...; without a question mark.
    level_certain : False if the level is in doubt.
    heights_mm : (anterior, middle, posterior).
    genant_ratio, genant_spread : the Genant ratio and its standard deviation, which is None for a reader's points.
    grade, genant_grade, shape : the grade as a word and as a number 0 to 3, and the shape or None.
    counts : False if it is not counted: rejected, or with impossible points.
    physiologic : True if its shape is normal at its level; it then counts as normal.
    may_be : the grade on the other side of a threshold that is close; None if the grade is certain.
    loss : None for a vertebra that is not fractured.
    review : "open", "confirmed" or "rejected".
    by_reader : True if a reader placed the points.
    doubts : codes of the reasons to doubt it that are not settled by a reader.
    """

    name: str
    level_certain: bool
    heights_mm: tuple[float, float, float]
    genant_ratio: float
    genant_spread: float | None
    grade: str
    genant_grade: int
    shape: str | None
    counts: bool
    physiologic: bool
    may_be: str | None
    loss: Loss | None
    review: str
    by_reader: bool
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """What a report says of a study.

    Attributes
    ----------
    case : name of the case.
    rows : all vertebrae, cranial first; `fractures` are those that count as fractured, the worst first.
    first, last : names of the first and last vertebra that was assessed; None without one.
    not_assessable : (reason, names) of levels T4 to L4; reasons are "outside", "gap", "rejected", "impossible".
    sdi : the spinal deformity index over all that counts; None if nothing does.
    sdi_levels : how many of T4 to L4 were assessed; None if the levels have no names.
    sdi_beyond : names of fractured levels outside T4 to L4 that the index includes.
    study_doubts : (code, names) of the reasons to doubt the study.
    readers : who confirmed or rejected vertebrae, in order; reviewed_at is the last time, UTC.
    signatures : (reader, role of `reading.ROLES`, time) of the signatures that hold.
    unreviewed : number of vertebrae that no reader has decided.
    slice_mm : the largest voxel size in mm; None in older records.
    models : (role, name, first eight letters of the hash of its weights).
    version : of this program.
    prior : the comparison with a prior examination; None without one.
    """

    case: str
    rows: tuple[Row, ...]
    fractures: tuple[Row, ...]
    first: str | None
    last: str | None
    not_assessable: tuple[tuple[str, tuple[str, ...]], ...]
    sdi: int | None
    sdi_levels: int | None
    sdi_beyond: tuple[str, ...]
    study_doubts: tuple[tuple[str, tuple[str, ...]], ...]
    readers: tuple[str, ...]
    reviewed_at: str | None
    signatures: tuple[tuple[str, str, str], ...]
    unreviewed: int
    slice_mm: float | None
    models: tuple[tuple[str, str, str], ...]
    version: str = __version__
    prior: Prior | None = None

    @property
    def assessed(self) -> int:
        """Number of vertebrae that count."""
        return sum(row.counts for row in self.rows)


def findings(analysis: SpineAnalysis, prior: Prior | None = None) -> Findings:
    """Return what a report says of a measured study, and of its comparison with a prior examination."""
    shown = shown_names(analysis.vertebrae)
    rows = tuple(_row(v, vertebra_name(v, i), shown[i]) for i, v in enumerate(analysis.vertebrae))
    paired = list(zip(rows, analysis.vertebrae, strict=True))
    counted = [row for row in rows if row.counts]
    fractured = sorted((p for p in paired if p[0].loss), key=lambda p: severity(p[1].measurement))
    reviewed = [v.reviewed_at for v in analysis.vertebrae if v.reviewed_at]
    named = any(v.level for v in analysis.vertebrae)
    return Findings(
        case=analysis.case,
        rows=rows,
        fractures=tuple(row for row, _ in fractured),
        first=counted[0].name if counted else None,
        last=counted[-1].name if counted else None,
        not_assessable=_not_assessable(rows) if named else (),
        sdi=analysis.spinal_deformity_index,
        sdi_levels=sum(row.name in SDI_LEVELS for row in counted) if named else None,
        sdi_beyond=tuple(r.name for r in rows if r.loss and r.name not in SDI_LEVELS) if named else (),
        study_doubts=tuple((flag.code, flag.where) for flag in analysis.quality),
        readers=tuple(dict.fromkeys(v.reviewer for v in analysis.vertebrae if v.reviewer)),
        reviewed_at=max(reviewed, default=None),
        signatures=tuple((s.reader, s.role, s.at) for s in analysis.signatures),
        unreviewed=sum(v.review == "open" for v in analysis.vertebrae),
        slice_mm=max(analysis.spacing_mm) if analysis.spacing_mm else None,
        models=tuple((m.role, m.name, m.sha256[:8]) for m in analysis.models),
        prior=prior,
    )


def _row(vertebra: Vertebra, name: str, shown: str) -> Row:
    m = vertebra.measurement
    fractured = vertebra.counts and vertebra.called != "normal"
    return Row(
        name=name,
        level_certain=not shown.endswith(DOUBTFUL),
        heights_mm=m.heights_mm,
        genant_ratio=m.genant_ratio,
        genant_spread=vertebra.spread,
        grade=m.grade,
        genant_grade=GRADES.index(m.grade),
        shape=m.shape,
        counts=vertebra.counts,
        physiologic=bool(vertebra.physiologic),
        may_be=_other_grade(vertebra) if vertebra.counts and not vertebra.physiologic else None,
        loss=_loss(vertebra) if fractured else None,
        review=vertebra.review,
        by_reader=vertebra.origin == "reader",
        doubts=tuple(dict.fromkeys(f.code for f in vertebra.quality)) if vertebra.review == "open" else (),
    )


def _other_grade(vertebra: Vertebra) -> str | None:
    """Return the grade beyond the nearest threshold if the deciding ratio is borderline."""
    m = vertebra.measurement
    if not m.borderline:
        return None
    ratio, here = deciding_ratio(m), GRADES.index(m.grade)
    bounds = {i: t for i, t in zip((1, 2, 3), (MILD, MODERATE, SEVERE), strict=True) if i in (here, here + 1)}
    nearest = min(bounds, key=lambda i: abs(bounds[i] - ratio))
    return GRADES[nearest - 1 if nearest == here else nearest]


def _loss(vertebra: Vertebra) -> Loss:
    """Return the loss of a fractured vertebra: of its posterior height, else of its largest, else of its neighbours.

    Genant et al. 1993 compare with the posterior height. Where another one is larger, that one is the reference, so the
    loss is always 1 - G; for a body that is low as a whole the neighbours are.
    """
    m = vertebra.measurement
    decided = deciding_ratio(m)
    sd = None if vertebra.spread is None else 100 * vertebra.spread
    if decided < m.genant_ratio:  # the neighbours gave the grade
        mean = sum(m.heights_mm) / 3
        return Loss(100 * (1 - decided), "mean", "neighbours", False, mean, mean / decided, None)
    low, high = (pick(range(3), key=lambda i: m.heights_mm[i]) for pick in (min, max))
    largest, lowest = m.heights_mm[high], m.heights_mm[low]
    return Loss(100 * (1 - lowest / largest), HEIGHTS[low], HEIGHTS[high], high != 2, lowest, largest, sd)


def _not_assessable(rows: Sequence[Row]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return why levels T4 to L4 were not assessed: not found "outside" what was, or in a "gap" between others."""
    by_name = {row.name: row for row in rows}
    places = [NAMES.index(row.name) for row in rows if row.name in NAMES]
    reasons: dict[str, list[str]] = {}
    for level in SDI_LEVELS:
        row = by_name.get(level)
        if row is None:
            reason = "gap" if min(places) < NAMES.index(level) < max(places) else "outside"
        elif not row.counts:
            reason = "rejected" if row.review == "rejected" else "impossible"
        else:
            continue
        reasons.setdefault(reason, []).append(level)
    return tuple((reason, tuple(names)) for reason, names in reasons.items())
