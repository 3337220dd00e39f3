"""The vertebrae of a case as its readers mark them, without the readers' names: what a third reader decides on.

Readers are called A, B, ... as in the consensus of the case. Points are `(3, 2, 3)` RAS mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import VFQError
from .consensus import ADJUDICATION, by_case, disagreement, doubts, groups_of, letters
from .dataset import Case, Dataset
from .groups import Group
from .reading import LabelReading
from .store import Slot, final_readings

Rank = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Dispute:
    """One vertebra by all readers of its case.

    Attributes
    ----------
    points, levels : by the reader's letter.
    absent : letters of the readers who did not mark it; `excluded` of those who call it not assessable.
    doubts : why a third reader must decide, some of `consensus.DOUBTS`; empty if the readers agree.
    apart_mm : the largest distance of a point between two readers, in the vertebra's plane.
    mean, level : the mean of the points, and the level that most readers give.
    rank : how far the readers differ, see `consensus.disagreement`; the greatest is the worst.
    """

    points: Mapping[str, np.ndarray]
    levels: Mapping[str, str | None]
    absent: tuple[str, ...]
    excluded: tuple[str, ...]
    doubts: tuple[str, ...]
    apart_mm: float
    mean: np.ndarray
    level: str | None
    rank: Rank

    @property
    def text(self) -> str:
        """What the readers differ in, in words without grades; "" if they agree."""
        said = {
            "grade": "grades differ",
            "points": f"points up to {self.apart_mm:.1f} mm apart",
            "level": "levels " + ", ".join(f"{level} ({r})" for r, level in self.levels.items() if level),
            "not_all_readers": f"not marked by {', '.join(self.absent)}",
            "not_assessable": f"not assessable for {', '.join(self.excluded)}",
        }
        return "; ".join(said[name] for name in self.doubts)


def disputes_of(dataset: Dataset, case: Case, readings: Sequence[LabelReading]) -> list[Dispute]:
    """Return the vertebrae of a case, cranial first; adjudications among its final readings are left out."""
    readings = [r for r in readings if r.mode != ADJUDICATION]
    readers = [r.reader for r in readings]
    called = letters(case.name, readers, dataset.seed)
    return [_dispute(group, readers, called) for group in groups_of(dataset, readings, case)]


def _dispute(group: Group, readers: Sequence[str], called: Mapping[str, str]) -> Dispute:
    order = sorted(readers, key=lambda r: called[r])
    there = [r for r in order if r in group.members]
    rank = disagreement(group, readers)
    return Dispute(
        points={called[r]: group.members[r].points for r in there},
        levels={called[r]: group.members[r].level for r in there},
        absent=tuple(called[r] for r in order if r not in group.members and r not in group.excluded),
        excluded=tuple(called[r] for r in order if r in group.excluded),
        doubts=doubts(group, readers),
        apart_mm=rank[2],
        mean=group.mean_points(there),
        level=group.level_of(list(group.members)),
        rank=rank,
    )


def disputed_cases(dataset: Dataset, but: str = "") -> dict[str, Rank]:
    """Return the cases on which at least two readers disagree, with the rank of their worst vertebra, worst first.

    but : a reader; cases that this reader read as one of the readers are left out. VFQError as `final_readings`.
    """
    found = {}
    for name, readings in by_case(dataset, final_readings(dataset)).items():
        if any(r.reader == but and r.mode != ADJUDICATION for r in readings):
            continue
        ranks = [d.rank for d in disputes_of(dataset, dataset.case(name), readings) if d.doubts]
        if ranks:
            found[name] = max(ranks)
    return dict(sorted(found.items(), key=lambda item: item[1], reverse=True))


def adjudications_to_do(dataset: Dataset, reader: str, case: str | None = None) -> list[Slot]:
    """Return the adjudications that a reader may make, worst first, or that of one case.

    They are the disputed cases that this reader did not read. VFQError `nothing_assigned`; `unknown_case`; as
    `final_readings`.
    """
    found = [(reader, name, 1) for name in disputed_cases(dataset, reader)]
    if case is not None:
        name = dataset.case(case).name
        found = [slot for slot in found if slot[1] == name]
    if not found:
        where = f"In {case}" if case else f"In {dataset.name}"
        message = f"{where}, no two final readings of other readers disagree, so {reader} has nothing to decide."
        raise VFQError("nothing_assigned", f"{message} A reader of a case cannot decide on it.")
    return found


def third_reader(dataset: Dataset, case: str, readings: Sequence[LabelReading]) -> str | None:
    """Return who can decide on a case: who began to, else a reader who did not read it, rather one who need not.

    readings : all readings of the label set, drafts included. None if there is no such reader.
    """
    modes = {r.reader: r.mode for r in readings if r.case == case}
    assigned = {name for name, own in dataset.assignments.items() if any(a.case == case for a in own)}
    began = [name for name in dataset.readers if modes.get(name) == ADJUDICATION]
    unread = [name for name in dataset.readers if name not in modes]
    return next(iter((*began, *sorted(unread, key=lambda name: name in assigned))), None)
