"""Which cases are worth reading first: those where the automatic result is least sure, or where readers disagree."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import VFQError
from ..spine.genant import BORDERLINE_MARGIN, grade_doubt
from ..spine.record import SpineAnalysis, Vertebra, check_belongs
from ..spine.record_json import read_analysis
from .dataset import Case, Dataset
from .disputes import disputed_cases

FIRST = ("unsure", "disagreement")
FAILED = 2.0  # more than any doubt: nothing was measured automatically


def sorted_cases(dataset: Dataset, names: Iterable[str], first: str, analyses: Path | None = None) -> list[str]:
    """Return these cases in the order of `first`, one of `FIRST`; cases of the same rank keep their order.

    analyses : folder with `CASE/analysis.json` of the automatic results, for "unsure". Cases without one come last.

    Raises
    ------
    VFQError
        `not_found` if "unsure" has no automatic result of any case; as `read_analysis` and `final_readings`.
    """
    names = list(names)
    if first == "unsure":
        found = case_doubts(dataset, names, analyses)
        return sorted(names, key=lambda name: -found.get(name, -1.0))
    place = {name: i for i, name in enumerate(disputed_cases(dataset))}
    return sorted(names, key=lambda name: place.get(name, len(place)))


def case_doubts(dataset: Dataset, names: Iterable[str], analyses: Path | None) -> dict[str, float]:
    """Return how unsure the automatic result of each case is, 0 to 1, or `FAILED` if it measured nothing.

    VFQError `not_found` without any result.
    """
    records = {name: _record(dataset.case(name), analyses) for name in names} if analyses else {}
    found = {name: doubt(record) for name, record in records.items() if record}
    if not found:
        message = "No automatic result of these cases was found, so it is not known where it is unsure."
        raise VFQError("not_found", f"{message} Give --analyses with the folder that vfq analyze wrote.")
    return found


def doubt(record: SpineAnalysis) -> float:
    """Return the mean probability, 0 to 1, that a vertebra of a case is wrong; `FAILED` if none was measured."""
    found = [_doubt(v) for v in record.graded]
    return sum(found) / len(found) if found else FAILED


def _doubt(vertebra: Vertebra) -> float:
    """Return the probability of another grade, of no vertebra, or of another level: the greatest of the three."""
    spread = BORDERLINE_MARGIN if vertebra.spread is None else vertebra.spread
    level = vertebra.level_probabilities.get(vertebra.level or "", 0.0) if vertebra.level_probabilities else 1.0
    return max(grade_doubt(vertebra.measurement.genant_ratio, spread), 1.0 - vertebra.score, 1.0 - level)


def _record(case: Case, analyses: Path) -> SpineAnalysis | None:
    """Return the automatic result of a case as it was before any review; None without one."""
    folder = analyses / case.name
    file = next((folder / n for n in ("machine.json", "analysis.json") if (folder / n).exists()), None)
    if file is None:
        return None
    record = read_analysis(file)
    if record.shape is not None and case.shape is not None and case.ijk_to_ras is not None:
        check_belongs(record, case.shape, case.ijk_to_ras)
    return record
