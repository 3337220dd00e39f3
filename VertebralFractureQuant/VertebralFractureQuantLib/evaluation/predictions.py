"""The evaluation of predictions: analyses are read, paired with references, compared, and summed up in figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..spine.genant import GRADES
from .figures import counts, estimate
from .metrics import REPEATS, Estimates, mean
from .pairing import in_common_space, pair_cases
from .problems import Problem, listed
from .records import EVALUATION_SCHEMA, nested, number, settings
from .scans import Scan, compare_spines
from .severity import confusion, reported_confusion
from .sources import read_predictions, read_references
from .spines import Spine


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scans compared with their references, the figures, and the problems of the files."""

    scans: list[Scan]
    estimates: Estimates
    problems: list[Problem]
    repeats: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of schema `vfq-evaluation/1`."""
        return {
            "schema": EVALUATION_SCHEMA,
            "kind": "predictions",
            "settings": settings(self.repeats, self.seed),
            "counts": counts(self.scans),
            "figures": nested(self.estimates),
            "confusion": {
                "order": [*GRADES, "absent"],
                "true_by_measured": confusion(self.scans).tolist(),
                "true_by_reported": reported_confusion(self.scans).tolist(),
            },
            "scans": [_scan_json(s) for s in self.scans],
            "problems": [vars(p) for p in self.problems],
        }


def evaluate_predictions(
    predictions: Path, references: Path, repeats: int = REPEATS, seed: int = 0, reviewed: bool = False
) -> Evaluation:
    """Compare a folder of analyses with references (see `sources`); an analysis is not a reference for itself.

    If a single file is given as the reference of a single analysis, the two are a pair whatever their names. Reviewed
    cases count as the program measured them or, with `reviewed`, as the reader left them.

    Raises
    ------
    VFQError
        `not_found`: there are no predictions or no references; `nothing_to_evaluate`: no prediction has a usable
        reference.
    """
    found, problems = read_predictions(predictions, reviewed)
    known, more = read_references(references, predictions, reviewed)
    if references.is_file() and len(found) == len(known) == 1:
        known = [replace(known[0], case=found[0].case)]
    pairs, unpaired = pair_cases(found, known)
    problems += more + unpaired
    scans = _compared(pairs, problems)
    if not scans:
        details = listed(problems)
        if not found:
            details += f" {predictions.name} holds no CASE/analysis.json."
        raise VFQError("nothing_to_evaluate", f"No prediction could be compared with a reference.{details}")
    return Evaluation(scans, estimate(scans, repeats, seed), problems, repeats, seed)


def _compared(pairs: list[tuple[Spine, Spine]], problems: list[Problem]) -> list[Scan]:
    scans = []
    for prediction, reference in pairs:
        common, trouble = in_common_space(prediction, reference)
        problems += trouble
        if common is not None and len(common.keypoints):
            scans.append(compare_spines(prediction, common))
        elif common is not None:
            message = f"{prediction.case} is not evaluated: its reference has no usable vertebra."
            problems.append(Problem("no_vertebra", reference.file, None, message))
    return scans


def _scan_json(scan: Scan) -> dict[str, Any]:
    found, false, missed = scan.by_overlap
    return {
        "case": scan.case,
        "reference": scan.patient,
        "status": scan.status,
        "found": found,
        "false": false,
        "missed": missed,
        "point_mm": number(mean(scan.pairs.points_mm)),
        "line_mm": number(mean(scan.line_mm)),
        "ratio_error": number(mean(np.abs(scan.pairs.ratio - scan.pairs.true_ratio))),
        "worst_ratio": number(scan.worst),
        "true_worst_ratio": number(scan.true_worst),
    }
