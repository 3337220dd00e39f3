"""Figures of agreement between sources (readers, second readings, the automatic result), with intervals over patients.

`Table` holds the groups of vertebrae as arrays, one for each patient, so that a bootstrap draw only joins arrays.
Lengths are mm. In-plane distances leave out what lies across the vertebra's plane, as readers choose their plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..evaluation.metrics import Estimates, Figures, Key, bland_altman, bootstrap, mean
from ..spine.genant import GRADES, heights
from .groups import REGIONS, Group, region, shape_of
from .statistics import fleiss_kappa, icc_a1, weighted_kappa

SHAPES = ("normal", "wedge", "biconcave", "crush")
SHARES = ("raw_agreement", "precision", "recall", "found_by_both")


@dataclass(frozen=True, eq=False)
class Table:
    """The vertebrae of one patient.

    Attributes
    ----------
    scatter : `(m, 6)` of vertebrae that two or more sources marked: variance (n - 1) of G, mean variance of a height,
        mean distance of a point from the sources' mean, the same in the plane, largest distance of the planes, and
        standard deviation (n) of G.
    pairs : `(p, 8)` of pairs of sources: G of both, grade of both, mean distance of their points, the same in the
        plane, mean height of both.
    complete : `(c, 2, sources)`: G and grade of the vertebrae that all sources marked.
    found : (vertebrae that both sources marked, that the first one marked, that the second one marked).
    """

    scatter: np.ndarray
    pairs: np.ndarray
    complete: np.ndarray
    found: np.ndarray


def table(groups: Sequence[Group], sources: Sequence[str]) -> Table:
    """Return the arrays of these groups for these sources."""
    several = [g for g in groups if sum(s in g.members for s in sources) > 1]
    scatter = [_scatter(g, [s for s in sources if s in g.members]) for g in several]
    both = [(g, a, b) for g in several for a, b in combinations(sources, 2) if a in g.members and b in g.members]
    all_marked = [[g.members[s] for s in sources] for g in groups if all(s in g.members for s in sources)]
    complete = [[[m.measured.genant_ratio for m in row], [m.grade for m in row]] for row in all_marked]
    return Table(
        scatter=np.reshape(scatter, (-1, 6)),
        pairs=np.reshape([_pair(g, a, b) for g, a, b in both], (-1, 8)),
        complete=np.array(complete, float).reshape(-1, 2, len(sources)),
        found=np.sum([_found(g, sources) for g in groups], axis=0, initial=0) if groups else np.zeros(3),
    )


def _scatter(group: Group, sources: list[str]) -> tuple[float, ...]:
    points = np.stack([group.members[s].points for s in sources])
    ratios = np.array([group.members[s].measured.genant_ratio for s in sources])
    away = points - points.mean(0)
    normal = group.normal_of()
    across = away @ normal
    flat = away - across[..., None] * normal
    lateral = np.ptp(across.mean((1, 2)))
    lengths = (np.linalg.norm(x, axis=-1).mean() for x in (away, flat))
    return ratios.var(ddof=1), heights(points).var(0, ddof=1).mean(), *lengths, lateral, ratios.std()


def _pair(group: Group, a: str, b: str) -> tuple[float, ...]:
    one, other = group.members[a], group.members[b]
    apart = one.points - other.points
    normal = group.normal_of()
    flat = apart - (apart @ normal)[..., None] * normal
    lengths = (float(np.linalg.norm(x, axis=-1).mean()) for x in (apart, flat))
    ratios = one.measured.genant_ratio, other.measured.genant_ratio
    return *ratios, one.grade, other.grade, *lengths, *(float(np.mean(m.measured.heights_mm)) for m in (one, other))


def _found(group: Group, sources: Sequence[str]) -> np.ndarray:
    """Count a vertebra for each pair of sources, but for those that call it not assessable."""
    judging = [s for s in sources if s not in group.excluded]
    pairs = [(a in group.members, b in group.members) for a, b in combinations(judging, 2)]
    return np.sum([(a and b, a, b) for a, b in pairs], axis=0, initial=0) if pairs else np.zeros(3)


def figures(tables: Sequence[Table], sources: int) -> Figures:
    """Return the figures of these patients; those of two sources have bias, limits, precision and recall too."""
    scatter, pairs, complete, found = (
        np.concatenate([getattr(t, name) for t in tables]) if name != "found" else np.sum([t.found for t in tables], 0)
        for name in ("scatter", "pairs", "complete", "found")
    )
    result: Figures = {
        ("ratio_sd",): mean(scatter[:, 0]) ** 0.5,
        ("mean_ratio_sd",): mean(scatter[:, 5]),
        ("height_sd_mm",): mean(scatter[:, 1]) ** 0.5,
        ("point_to_mean_mm",): mean(scatter[:, 2]),
        ("point_to_mean_in_plane_mm",): mean(scatter[:, 3]),
        ("planes_apart_mm",): mean(scatter[:, 4]),
        ("point_mm",): mean(pairs[:, 4]),
        ("point_in_plane_mm",): mean(pairs[:, 5]),
        ("weighted_kappa",): weighted_kappa(pairs[:, 2].astype(int), pairs[:, 3].astype(int), len(GRADES)),
        ("raw_agreement",): mean(pairs[:, 2] == pairs[:, 3]),
        ("icc_ratio",): icc_a1(complete[:, 0]),
    }
    return {**result, **(_of_two(pairs, found) if sources == 2 else _of_several(complete, found))}


def _of_two(pairs: np.ndarray, found: np.ndarray) -> Figures:
    result: Figures = {("precision",): _share(found[0], found[1]), ("recall",): _share(found[0], found[2])}
    for name, a, b in (("ratio", pairs[:, 0], pairs[:, 1]), ("height_mm", pairs[:, 6], pairs[:, 7])):
        agreed = bland_altman(a, b)
        for what in ("bias", "sd", "low", "high"):
            result[(f"{name}_difference_{what}",)] = getattr(agreed, what)
    return result


def _of_several(complete: np.ndarray, found: np.ndarray) -> Figures:
    return {
        ("fleiss_kappa",): fleiss_kappa(complete[:, 1].astype(int), len(GRADES)),
        ("found_by_both",): _share(2 * found[0], found[1] + found[2]),
    }


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


@dataclass(frozen=True, eq=False)
class Compared:
    """Sources compared with each other.

    Attributes
    ----------
    kind : "readers", "pair", "repeated" or "automatic".
    sources : their names; a measured one, then a true one where that matters.
    patients, vertebrae, complete : number of patients, of vertebrae that two or more marked, and that all marked.
    estimates : the figures; by_region, by_shape : the same for parts.
    groups : the vertebrae.
    """

    kind: str
    sources: tuple[str, ...]
    patients: int
    vertebrae: int
    complete: int
    estimates: Estimates
    by_region: dict[str, tuple[int, Estimates]]
    by_shape: dict[str, tuple[int, Estimates]]
    groups: list[Group]


def compare(
    kind: str, groups: Sequence[Group], sources: Sequence[str], repeats: int, seed: int, parts: bool
) -> Compared:
    """Compare sources on these vertebrae; `parts`: also by region and by shape of the mean of their points."""
    there = [g for g in groups if any(s in g.members for s in sources) and len(set(sources) - g.excluded) > 1]
    tables = _tables(there, sources)
    split = {
        "region": {name: [g for g in there if region(g.level_of(sources)) == name] for name in REGIONS},
        "shape": {name: [g for g in there if shape_of(g.mean_points(sources)) == name] for name in SHAPES},
    }

    def of_parts(name: str) -> dict[str, tuple[int, Estimates]]:
        """Return number and figures of each part that has vertebrae which several sources marked."""
        found = {part: _tables(chosen, sources) for part, chosen in split[name].items()} if parts else {}
        counts = {part: sum(len(t.scatter) for t in ts) for part, ts in found.items()}
        return {p: (counts[p], _estimated(ts, sources, repeats, seed)) for p, ts in found.items() if counts[p]}

    return Compared(
        kind=kind,
        sources=tuple(sources),
        patients=len(tables),
        vertebrae=sum(len(t.scatter) for t in tables),
        complete=sum(len(t.complete) for t in tables),
        estimates=_estimated(tables, sources, repeats, seed),
        by_region=of_parts("region"),
        by_shape=of_parts("shape"),
        groups=there,
    )


def _tables(groups: Sequence[Group], sources: Sequence[str]) -> list[Table]:
    patients = dict.fromkeys(g.patient for g in groups)
    return [table([g for g in groups if g.patient == patient], sources) for patient in patients]


def _estimated(tables: Sequence[Table], sources: Sequence[str], repeats: int, seed: int) -> Estimates:
    count = len(sources)
    measured: Callable[[list[Table]], Figures] = lambda drawn: figures(drawn, count)  # noqa: E731

    def is_share(key: Key) -> bool:
        """True for a figure that is a share of vertebrae."""
        return key[0] in SHARES

    return bootstrap([[t] for t in tables], measured, repeats, seed, is_share) if tables else {}
