"""Several examinations of one patient in order: which are compared with which, and how many days lie between them.

A date is used for the number of days alone, and is kept nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from ..errors import VFQError
from .comparison import Comparison, Examination, compare


@dataclass(frozen=True)
class Step:
    """Two of several examinations, compared or not.

    Attributes
    ----------
    prior, current : index of each examination.
    comparison : None if they cannot be compared.
    status, message : "ok" and "", or the code and the reason.
    """

    prior: int
    current: int
    comparison: Comparison | None
    status: str = "ok"
    message: str = ""


def compare_course(examinations: Sequence[Examination], same_patient: bool = False) -> tuple[Step, ...]:
    """Compare each examination with the one before, and the last one with the first: slow changes add up.

    An examination whose analysis failed is passed over; what cannot be compared is a step with its reason.
    `same_patient` is as for `compare`.
    """
    usable = [i for i, e in enumerate(examinations) if e.analysis.status == "ok"]
    pairs = list(pairwise(usable))
    if len(usable) > 2:
        pairs.append((usable[0], usable[-1]))
    return tuple(_step(examinations, i, j, same_patient) for i, j in pairs)


def _step(examinations: Sequence[Examination], prior: int, current: int, same_patient: bool) -> Step:
    try:
        return Step(prior, current, compare(examinations[prior], examinations[current], same_patient))
    except VFQError as error:
        return Step(prior, current, None, error.code, error.message)


def days_between(dates: Sequence[date | None]) -> list[int | None]:
    """Return the days `(n,)` from the first known date to each; None where a date is not known.

    Raises
    ------
    VFQError
        `bad_dates`: a date lies before an earlier one.
    """
    known = [(i, one) for i, one in enumerate(dates, start=1) if one is not None]
    for (i, before), (j, after) in pairwise(known):
        if after < before:
            raise VFQError(
                "bad_dates",
                f"Examination {j} is {(before - after).days} days earlier than examination {i}. Give the examinations "
                "from the earliest to the latest.",
            )
    return [None if one is None else (one - known[0][1]).days for one in dates]


def interval(days: Sequence[int | None], step: Step) -> int | None:
    """Return the days between the examinations of a step; None if a date is not known."""
    before, now = days[step.prior], days[step.current]
    return None if before is None or now is None else now - before


def parsed_dates(text: str, count: int) -> list[date]:
    """Return the dates of "2024-11-30,2026-11-30". VFQError `bad_dates` unless there are `count` of them."""
    try:
        dates = [date.fromisoformat(part.strip()) for part in text.split(",")]
    except ValueError:
        raise VFQError("bad_dates", "A date cannot be read. Write dates as 2026-11-30, with commas between.") from None
    if len(dates) != count:
        raise VFQError("bad_dates", f"There are {len(dates)} dates for {count} examinations. Give one for each.")
    return dates
