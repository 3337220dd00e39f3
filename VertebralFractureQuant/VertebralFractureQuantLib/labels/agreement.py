"""`vfq agreement`: the readers of a label set against each other, against themselves, and against the automatic result.

Only final first readings count between readers; drafts, adjudications and what is not assessable are listed and left
out. Intervals come from a bootstrap over patients.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..errors import VFQError
from ..evaluation.metrics import COVERAGE, REPEATS, Estimates
from ..evaluation.records import number
from ..spine.genant import GRADES
from ..spine.keypoints import centers
from ..spine.record import check_belongs
from ..spine.record_json import read_analysis
from .comparison import Compared, compare
from .consensus import ADJUDICATION, CONSENSUS, FAR_MM, by_case, disagreement
from .dataset import Case, Dataset
from .disputes import third_reader
from .groups import Group, Marked, grouped, marked
from .reading import LabelReading
from .statistics import check_packages
from .store import all_readings, final_of

SCHEMA = "vfq-agreement/1"
AUTOMATIC = "automatic"
AGAIN = " (second reading)"


@dataclass(frozen=True)
class Disagreement:
    """One vertebra on which sources differ.

    Attributes
    ----------
    case, level : where it is.
    ratios, grades, levels : by source: G, grade and level.
    steps : the largest difference of grades, 0 to 3; ratio_difference : of G.
    point_mm : the largest distance of a point between two sources, in the plane.
    command : opens the case; None without its CT, or where no third reader can decide.
    """

    case: str
    level: str | None
    ratios: dict[str, float]
    grades: dict[str, str]
    levels: dict[str, str | None]
    steps: int
    ratio_difference: float
    point_mm: float
    command: str | None


@dataclass(frozen=True, eq=False)
class Opening:
    """How the disagreements of a label set are opened: the set, all its readings, and the automatic results."""

    dataset: Dataset
    readings: Sequence[LabelReading]
    analyses: Path | None

    def command(self, group: Group, sources: Sequence[str]) -> str | None:
        """Return the command that opens a vertebra on which `sources` differ; None without a CT or a third reader.

        Readers who differ are adjudicated. Else the automatic result is reviewed, or the second reading opened.
        """
        path = self.dataset.ct_path(self.dataset.cases[group.case])
        if path is None:
            return None
        readers = [s for s in sources if s in self.dataset.readers]
        if len(readers) > 1 and _is_far(*disagreement(group, readers)):
            third = third_reader(self.dataset, group.case, self.readings)
            return third and self._annotate(third, group.case, "--adjudicate")
        if AUTOMATIC in sources and self.analyses:
            return _line("review", str(path), "--output", str(self.analyses.resolve()))
        again = next(s for s in sources if s.endswith(AGAIN))
        return self._annotate(again.removesuffix(AGAIN), group.case)

    def _annotate(self, reader: str, case: str, *more: str) -> str:
        return _line("annotate", str(self.dataset.folder.resolve()), "--reader", reader, *more, "--case", case)


def _line(*words: str) -> str:
    return shlex.join(("vfq", *words))


def _is_far(steps: float, ratio_difference: float, apart_mm: float) -> bool:
    return bool(steps) or apart_mm > FAR_MM


@dataclass(frozen=True, eq=False)
class Agreement:
    """The results of `vfq agreement`.

    Attributes
    ----------
    dataset : the label set.
    compared : the readers together, each two of them, second readings, the automatic result.
    worst : the vertebrae on which the grades differ, or a point by more than 2 mm; worst first.
    effort : by reader: readings, vertebrae, median seconds for a vertebra (None if not measured), how many readings
        were blinded.
    left_out : what does not count, a sentence each.
    repeats, seed : of the bootstrap.
    """

    dataset: Dataset
    compared: tuple[Compared, ...]
    worst: tuple[Disagreement, ...]
    effort: dict[str, dict[str, Any]]
    left_out: tuple[str, ...]
    repeats: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of schema `vfq-agreement/1`."""
        return {
            "schema": SCHEMA,
            "dataset": self.dataset.name,
            "settings": {"repeats": self.repeats, "seed": self.seed, "coverage": COVERAGE, "far_mm": FAR_MM},
            "compared": [_compared_json(c) for c in self.compared],
            "worst": [{k: number(v) if isinstance(v, float) else v for k, v in vars(d).items()} for d in self.worst],
            "effort": self.effort,
            "left_out": list(self.left_out),
        }


def measure_agreement(
    dataset: Dataset,
    analyses: Path | None = None,
    readers: Sequence[str] = (),
    repeats: int = REPEATS,
    seed: int = 0,
) -> Agreement:
    """Compare the readings of a label set.

    analyses : folder with `CASE/analysis.json` of the automatic results, as `vfq analyze` writes it.
    readers : whose readings; all if empty.

    Raises
    ------
    VFQError
        `nothing_to_evaluate` if nothing can be compared; `unknown_reader`; `missing_dependency`; as `all_readings`.
    """
    check_packages()
    chosen = [dataset.reader(name) for name in readers] or list(dataset.readers)
    whole, every = dataset, all_readings(dataset)
    dataset = replace(dataset, readers=tuple(r for r in dataset.readers if r in chosen))
    readings = [r for r in every if r.reader in chosen]
    sessions = [by_case(dataset, final_of(readings), session) for session in (1, 2)]
    left_out = list(_not_counted(readings))
    groups = []
    for case in dataset.cases.values():
        first, again = (found.get(case.name, []) for found in sessions)
        machine = _automatic(case, analyses, left_out) if analyses else None
        groups += _groups(dataset, case, first, again, machine)
    compared = tuple(_comparisons(dataset, groups, repeats, seed))
    if not compared:
        message = f"{dataset.name}: no vertebra was labelled in final readings of two readers, or found automatically."
        details = "".join(f"\n  {sentence}" for sentence in left_out[:6])
        raise VFQError("nothing_to_evaluate", f"{message} Finish readings, or give --analyses.{details}")
    worst = sorted(
        (d for g in groups if (d := _disagreement(g, Opening(whole, every, analyses)))),
        key=lambda d: (-d.steps, -d.ratio_difference, -d.point_mm),
    )
    return Agreement(dataset, compared, tuple(worst), _effort(dataset, readings), tuple(left_out), repeats, seed)


def _comparisons(dataset: Dataset, groups: Sequence[Group], repeats: int, seed: int) -> Iterator[Compared]:
    first = [r for r in dataset.readers if any(r in g.members for g in groups)]
    again = [(r, r + AGAIN) for r in first if any(r + AGAIN in g.members for g in groups)]
    true = (*first, CONSENSUS) if len(first) > 1 else first
    machine = [(AUTOMATIC, r) for r in true] if any(AUTOMATIC in g.members for g in groups) else []
    planned: list[tuple[str, tuple[str, ...], bool]] = [("readers", tuple(first), True)] if len(first) > 1 else []
    planned += [("pair", pair, False) for pair in combinations(first, 2)] if len(first) > 2 else []
    planned += [("repeated", pair, False) for pair in again]
    planned += [("automatic", pair, pair[1] == true[-1]) for pair in machine]
    for kind, sources, parts in planned:
        found = compare(kind, groups, sources, repeats, seed, parts)
        if found.vertebrae:
            yield found


def _groups(
    dataset: Dataset,
    case: Case,
    first: Sequence[LabelReading],
    again: Sequence[LabelReading],
    machine: Sequence[Marked] | None,
) -> list[Group]:
    """Return the vertebrae of one case by all sources, the consensus included.

    A source that did not read the case, or calls the vertebra not assessable, is excluded: it missed nothing.
    """
    readings = {r.reader: r for r in first if r.mode != ADJUDICATION}
    decided = {f"{r.reader} ({ADJUDICATION})": r for r in first if r.mode == ADJUDICATION}
    every = {**readings, **{r.reader + AGAIN: r for r in again}, **decided}
    sources = {name: marked([v.level for v in r.measured], _points(r)) for name, r in every.items()}
    sources |= {} if machine is None else {AUTOMATIC: list(machine)}
    unseen = {n: frozenset(v.level for v in r.labels if v.not_assessable and v.level) for n, r in every.items()}
    levels = [unseen[name] for name in readings]
    unseen[CONSENSUS] = frozenset().union(*levels)  # where it has no points, as some reader could not see it
    found = _wanted(dataset, grouped(case.name, case.patient, sources, unseen), [*decided, *readings])
    _add_consensus(found, list(readings), list(decided))
    absent = {*dataset.readers, *(r + AGAIN for r in dataset.readers), AUTOMATIC} - {*sources}
    absent |= set() if readings or decided else {CONSENSUS}
    return [replace(g, excluded=(g.excluded - {*g.members}) | absent) for g in found]


def _points(reading: LabelReading) -> list[np.ndarray]:
    return [np.asarray(v.keypoints) for v in reading.measured]


def _wanted(dataset: Dataset, groups: list[Group], readers: Sequence[str]) -> list[Group]:
    """Leave out what the protocol does not ask for."""
    levels = dataset.protocol.get("levels")
    return [g for g in groups if not levels or (g.level_of(readers) or g.level_of([*g.members])) in levels]


def _add_consensus(groups: list[Group], readers: Sequence[str], deciding: Sequence[str]) -> None:
    """Add the mean of the readers' points, or of those who decided, to each vertebra; measured as a column."""
    chosen = []
    for group in groups:
        sources = [s for s in deciding if s in group.members] or [s for s in readers if s in group.members]
        if sources:
            chosen.append((group, group.level_of(sources), group.mean_points(sources)))
    chosen.sort(key=lambda c: -centers(c[2])[2])
    column: list[Marked] = marked([level for _, level, _ in chosen], [points for _, _, points in chosen])
    for (group, _, _), one in zip(chosen, column, strict=True):
        group.members[CONSENSUS] = one


def _automatic(case: Case, analyses: Path, left_out: list[str]) -> list[Marked] | None:
    """Return the automatic vertebrae of a case as they were before any review; None if there are none of its CT."""
    folder = analyses / case.name
    file = next((folder / n for n in ("machine.json", "analysis.json") if (folder / n).exists()), None)
    if file is None or case.shape is None or case.ijk_to_ras is None:
        left_out.append(f"{case.name}: there is no automatic result of its CT.")
        return None
    try:
        found = read_analysis(file)
        if found.shape is not None:
            check_belongs(found, case.shape, case.ijk_to_ras)
    except VFQError as error:
        left_out.append(f"{case.name}: the automatic result does not count. {error.message}")
        return None
    counted = found.graded
    return marked([v.level for v in counted], [v.keypoints for v in counted])


def _disagreement(group: Group, opening: Opening) -> Disagreement | None:
    members = {s: m for s, m in group.members.items() if s != CONSENSUS and not s.endswith(f"({ADJUDICATION})")}
    if len(members) < 2:
        return None
    ratios = {s: m.measured.genant_ratio for s, m in members.items()}
    steps, ratio_difference, apart = disagreement(group, list(members))
    if not _is_far(steps, ratio_difference, apart):
        return None
    return Disagreement(
        case=group.case,
        level=group.level_of(list(members)),
        ratios={s: round(r, 4) for s, r in ratios.items()},
        grades={s: GRADES[m.grade] for s, m in members.items()},
        levels={s: m.level for s, m in members.items()},
        steps=int(steps),
        ratio_difference=ratio_difference,
        point_mm=apart,
        command=opening.command(group, list(members)),
    )


def _effort(dataset: Dataset, readings: Sequence[LabelReading]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for reader in dataset.readers:
        own = [r for (name, _, _), r in final_of(readings).items() if name == reader]
        seconds = [v.seconds for r in own for v in r.labels if v.seconds is not None]
        found[reader] = {
            "readings": len(own),
            "vertebrae": sum(len(r.measured) for r in own),
            "median_seconds": round(median(seconds), 1) if seconds else None,
            "blinded": sum(r.mode == "blinded" for r in own),
        }
    return found


def _not_counted(readings: Sequence[LabelReading]) -> Iterator[str]:
    """Say which drafts and adjudications do not count, and which vertebrae are not assessable."""
    final = final_of(readings).values()
    drafts = sum(r.state == "draft" for r in readings)
    if drafts:
        yield f"Readings that are not finished (drafts): {drafts}."
    deciding = sum(r.mode == ADJUDICATION for r in final)
    if deciding:
        yield f"Adjudications, which count for the consensus only: {deciding}."
    reasons = Counter((r.reader, v.not_assessable) for r in final for v in r.labels if v.not_assessable)
    for (reader, reason), count in sorted(reasons.items(), key=str):
        yield f"{reader}, vertebrae that are not assessable ({str(reason).replace('_', ' ')}): {count}."


def _compared_json(compared: Compared) -> dict[str, Any]:
    return {
        "kind": compared.kind,
        "sources": list(compared.sources),
        "patients": compared.patients,
        "vertebrae": compared.vertebrae,
        "marked_by_all": compared.complete,
        "figures": _figures_json(compared.estimates),
        "by_region": {p: {"vertebrae": n, "figures": _figures_json(e)} for p, (n, e) in compared.by_region.items()},
        "by_shape": {p: {"vertebrae": n, "figures": _figures_json(e)} for p, (n, e) in compared.by_shape.items()},
    }


def _figures_json(estimates: Estimates) -> dict[str, Any]:
    return {
        key[0]: {"value": number(e.value), "low": number(e.low), "high": number(e.high)} for key, e in estimates.items()
    }
