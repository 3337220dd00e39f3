"""How well heights and G repeat: from examinations of the same patient between which nothing has changed.

A folder holds one sub-folder for each patient, with the folders of two or more analysed cases in it; or the cases of
one patient. Heights are in mm. The standard deviation within a vertebra is sqrt(mean(d^2) / 2) over the differences d
of pairs (Bland & Altman 1999); the smallest detectable change is 1.96 * sqrt(2) times it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..followup.change import INTERVAL, Change
from ..followup.comparison import Examination, compare
from ..spine.record_json import read_analysis
from ..whole import visible
from .metrics import LIMITS_SD, Estimates, Figures, bland_altman, bootstrap
from .problems import PROBLEMS

SCHEMA = "vfq-repeatability/1"
MEASURES = ("anterior", "middle", "posterior", "heights", "genant_ratio")  # "heights": all three together


@dataclass(frozen=True)
class Repeat:
    """A vertebra that was measured in two examinations: the patient, both cases, its name, and the change."""

    patient: str
    prior: str
    current: str
    name: str
    change: Change

    def differences(self, measure: str) -> list[float]:
        """Return now minus before of one of `MEASURES`: one number, three for "heights"."""
        if measure == "genant_ratio":
            before, now = self.change.ratios or (np.nan, np.nan)
            return [now - before]
        found = self.change.difference_mm or (np.nan,) * 3
        return list(found) if measure == "heights" else [found[MEASURES.index(measure)]]

    def errors(self, measure: str) -> list[float]:
        """Return the standard deviations that the program gives for the differences."""
        if measure == "genant_ratio":
            return [(self.change.ratio_error or np.nan) / INTERVAL]
        found = [e / INTERVAL for e in self.change.error_mm or (np.nan,) * 3]
        return found if measure == "heights" else [found[MEASURES.index(measure)]]


@dataclass(frozen=True)
class Repeatability:
    """The repeats of all patients, the figures by (measure, name) with 95 % intervals over patients, and settings.

    problems : (patient, code, message) of pairs that could not be compared.
    """

    repeats: tuple[Repeat, ...]
    estimates: Estimates
    problems: tuple[tuple[str, str, str], ...]
    draws: int
    seed: int

    @property
    def patients(self) -> int:
        """Number of patients with a pair."""
        return len({r.patient for r in self.repeats})

    @property
    def changed(self) -> tuple[Repeat, ...]:
        """The vertebrae that the comparison calls changed, although nothing has."""
        return tuple(r for r in self.repeats if r.change.verdict != "unchanged")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object of schema `vfq-repeatability/1`."""
        figures: dict[str, Any] = {}
        for (measure, name), e in self.estimates.items():
            interval = [e.low, e.high] if np.isfinite([e.low, e.high]).all() else None
            value = e.value if np.isfinite(e.value) else None
            figures.setdefault(measure, {})[name] = {"value": _rounded(value), "ci95": _rounded(interval)}
        return {
            "schema": SCHEMA,
            "settings": {"repeats": self.draws, "seed": self.seed},
            "counts": {
                "patients": self.patients,
                "pairs": len({(r.patient, r.prior, r.current) for r in self.repeats}),
                "vertebrae": len(self.repeats),
                "called_changed": len(self.changed),
            },
            "figures": figures,
            "problems": [dict(zip(("patient", "code", "message"), p, strict=True)) for p in self.problems],
        }


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return None if value is None else round(float(value), 5)


def evaluate_repeatability(folder: Path, draws: int, seed: int) -> Repeatability:
    """Compare all examinations of each patient with each other.

    Raises
    ------
    VFQError
        `not_found`: there is no such folder; `nothing_to_evaluate`: no two examinations of a patient can be compared.
    """
    if not folder.is_dir():
        raise VFQError("not_found", f"There is no folder {folder.name!r}. Check the path.")
    found: list[Repeat] = []
    problems: list[tuple[str, str, str]] = []
    for patient, cases in _patients(folder).items():
        if len(cases) == 1:
            problems.append((patient, "no_pair", f"{PROBLEMS['no_pair'].meaning}. {PROBLEMS['no_pair'].remedy}"))
        for one, other in combinations(cases, 2):
            try:
                found += _repeats(patient, one, other)
            except VFQError as error:
                problems.append((patient, error.code, error.message))
    if not found:
        told = "; ".join(f"{patient}: {message}" for patient, _, message in problems[:3])
        raise VFQError(
            "nothing_to_evaluate",
            "No two examinations of a patient can be compared. Give a folder with one sub-folder for each patient, and "
            f"the folders of two analysed cases in it. {told}".strip(),
        )
    by_patient = [[r for r in found if r.patient == p] for p in dict.fromkeys(r.patient for r in found)]
    return Repeatability(tuple(found), bootstrap(by_patient, _figures, draws, seed), tuple(problems), draws, seed)


def _patients(folder: Path) -> dict[str, list[Path]]:
    """Return the folders of cases of each patient: of each sub-folder that holds cases, and of the folder itself.

    A single case in the folder itself is no patient.
    """
    places = [folder, *visible(p for p in folder.iterdir() if p.is_dir() and not (p / "analysis.json").exists())]
    held = {p.name: visible(c.parent for c in p.glob("*/analysis.json")) for p in places}
    return {name: cases for name, cases in held.items() if len(cases) > (name == folder.name)}


def _repeats(patient: str, one: Path, other: Path) -> list[Repeat]:
    prior, current = (Examination(read_analysis(case / "analysis.json")) for case in (one, other))
    comparison = compare(prior, current)
    cases = prior.analysis.case, current.analysis.case
    named = zip(comparison.names, comparison.changes, strict=True)
    return [Repeat(patient, *cases, name, change) for name, change in named if change.heights_mm]


def _figures(repeats: Sequence[Repeat]) -> Figures:
    told: Figures = {}
    for measure in MEASURES:
        d = np.array([x for r in repeats for x in r.differences(measure)])
        errors = np.array([x for r in repeats for x in r.errors(measure)])
        within = float(np.sqrt(np.mean(d**2) / 2)) if len(d) else float("nan")
        both = bland_altman(d, np.zeros_like(d))
        told |= {
            (measure, "sd"): within,
            (measure, "bias"): both.bias,
            (measure, "limit_low"): both.low,
            (measure, "limit_high"): both.high,
            (measure, "smallest_detectable_change"): LIMITS_SD * np.sqrt(2) * within,
            (measure, "error_ratio"): float(np.sqrt(np.mean((d / errors) ** 2))) if len(d) else float("nan"),
        }
    return told
