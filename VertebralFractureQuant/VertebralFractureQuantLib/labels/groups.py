"""The vertebrae of one case as several sources mark them: readers, second readings, and the automatic result.

Vertebrae are put together where their outlines overlap in the sagittal plane (Butterfly-IoU), so a reader who is off by
one level is compared with the others at the same place. Points are `(3, 2, 3)` RAS mm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..evaluation.matching import match_overlap
from ..spine.genant import GRADES, Measurement, measure, measure_column
from ..spine.keypoints import centers
from ..spine.levels import NAMES

REGIONS = ("cervical", "T1 to T6", "T7 to T12", "lumbar", "unknown")
NORMAL = "normal"


@dataclass(frozen=True, eq=False)
class Marked:
    """One vertebra by one source: level, key points and what is measured on them."""

    level: str | None
    points: np.ndarray
    measured: Measurement

    @property
    def grade(self) -> int:
        """The grade as an index into `genant.GRADES`."""
        return GRADES.index(self.measured.grade)


@dataclass(frozen=True, eq=False)
class Group:
    """One vertebra by all sources that marked it; `excluded` are the sources that call it not assessable."""

    case: str
    patient: str
    members: dict[str, Marked] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()

    def mean_points(self, sources: Sequence[str], how: str = "mean") -> np.ndarray:
        """Return the mean, or the median, `(3, 2, 3)` of the points of these sources."""
        points = np.stack([self.members[s].points for s in sources if s in self.members])
        middle: np.ndarray = np.median(points, axis=0) if how == "median" else points.mean(0)
        return middle

    def level_of(self, sources: Sequence[str]) -> str | None:
        """Return the level that most of these sources give; the first one's of a tie."""
        names = Counter(m.level for s in sources if (m := self.members.get(s)) and m.level)
        return names.most_common(1)[0][0] if names else None

    def normal_of(self) -> np.ndarray:
        """Return the unit normal `(3,)` of the mean plane of all sources."""
        points = self.mean_points(list(self.members))
        normal = np.cross(points[0].mean(0) - points[2].mean(0), (points[:, 0] - points[:, 1]).mean(0))
        unit: np.ndarray = normal / np.linalg.norm(normal)
        return unit


def marked(levels: Sequence[str | None], points: Sequence[np.ndarray]) -> list[Marked]:
    """Return the vertebrae of one source, measured as a column, cranial first."""
    if not len(points):
        return []
    order = np.argsort([-center[2] for center in centers(np.stack(list(points)))], kind="stable")
    measured = measure_column([points[i] for i in order])
    return [Marked(levels[i], np.asarray(points[i]), m) for i, m in zip(order, measured, strict=True)]


def grouped(
    case: str, patient: str, sources: Mapping[str, Sequence[Marked]], excluded: Mapping[str, frozenset[str]]
) -> list[Group]:
    """Return the vertebrae of a case, cranial first.

    sources : the vertebrae of each source; excluded : the levels that a source calls not assessable.
    """
    groups: list[Group] = []
    for source, vertebrae in sources.items():
        means = [group.mean_points(list(group.members)) for group in groups]
        found = match_overlap(np.array([v.points for v in vertebrae]), np.array(means))
        for i, j in found.pairs:
            groups[j].members[source] = vertebrae[i]
        groups += [Group(case, patient, {source: vertebrae[i]}) for i in found.false]
    groups = [_with_excluded(group, excluded) for group in groups]
    return sorted(groups, key=lambda g: -centers(g.mean_points(list(g.members)))[2])


def _with_excluded(group: Group, excluded: Mapping[str, frozenset[str]]) -> Group:
    level = group.level_of(list(group.members))
    sources = frozenset(s for s, levels in excluded.items() if level in levels)
    return Group(group.case, group.patient, group.members, sources)


def region(level: str | None) -> str:
    """Return the region of a level, one of `REGIONS`."""
    if level is None or level not in NAMES:
        return "unknown"
    if level[0] in "CL":
        return "cervical" if level[0] == "C" else "lumbar"
    return "T1 to T6" if int(level[1:]) <= 6 else "T7 to T12"


def shape_of(points: np.ndarray) -> str:
    """Return the shape of a vertebra with these points, "normal" for none."""
    return measure(points).shape or NORMAL
