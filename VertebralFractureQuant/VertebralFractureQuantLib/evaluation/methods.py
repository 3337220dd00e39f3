"""The methods side by side (`vfq evaluate methods`): ours, the others, rules that read masks and rules that grade.

A block is a table on one kind of scans. Rows of one block have the same columns; a row lacks those that its kind cannot
have, and a method without weights has none, but says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import VFQError
from ..spine.record import ModelStamp, SpineAnalysis
from .coverage import Cell, coverage_json
from .expert_rules import ExpertBlock
from .graders import BY_G, BY_PICTURE, GRADERS, REPORTED, Graded
from .method_figures import Trial, estimate_method, trial
from .method_subjects import Subject, analysis_of, pictures_of
from .metrics import Estimates
from .picture_losses import as_graded
from .problems import Problem
from .records import nested, settings
from .spines import Spine

if TYPE_CHECKING:
    from ..analysis import Models
    from ..methods.healthy_picture import Healer

METHODS_SCHEMA = "vfq-methods/1"
OURS = "anchor-free"
EMPTY = np.empty((0, 3, 2, 3))
EXACT = "true points"

OF_POINTS = ("recall", "precision", "centre_mm", "outliers", "point_mm", "seconds")  # not of rules that read masks
OF_GRADES = {
    "graded",
    "accuracy",
    "macro_f1",
    "kappa",
    "crushes",
    "physiologic",
    "auc",
    "sensitivity",
    "loss",
    "by_loss",
}
KINDS: dict[str, Callable[[tuple[str, ...]], bool]] = {  # which figures each kind of row has
    "method": lambda key: True,
    "mask": lambda key: key[0] not in OF_POINTS,
    "grader": lambda key: key[0] in OF_GRADES,
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One row of the table and its trials; `missing` is the code of why it has none, `kind` one of `KINDS`.

    `why` says the same in a sentence.
    """

    name: str
    trials: list[Trial]
    missing: str = ""
    kind: str = "method"
    why: str = ""


@dataclass(frozen=True)
class Block:
    """The rows on one kind of scans, each with its figures."""

    name: str
    rows: list[Row]
    estimates: dict[str, Estimates]
    status: dict[str, dict[str, str]] = field(default_factory=dict)  # method, scan: "ok" or a code
    patients: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return one of the `blocks` of `vfq-methods/1`."""
        return {
            "name": self.name,
            "patients": self.patients,
            "rows": [
                {
                    "name": row.name,
                    "patients": len(row.trials) or (0 if row.missing else self.patients),
                    "missing": row.missing or None,
                    "figures": nested(self.estimates[row.name]),
                }
                for row in self.rows
            ],
            "status": self.status,
        }


@dataclass(frozen=True)
class Comparison:
    """The result of `vfq evaluate methods`.

    Attributes
    ----------
    blocks : the tables on scans.
    stamps : by method, its networks.
    repeats, seed : of the bootstrap.
    coverage : by scan and system, what was measured.
    experts : the rules on annotations, None without any.
    generator : that of the synthetic pictures, None without any.
    problems : what was wrong with the files, which were left out.
    """

    blocks: list[Block]
    stamps: dict[str, list[dict[str, Any]]]
    repeats: int
    seed: int
    coverage: dict[str, dict[str, Cell]] = field(default_factory=dict)
    experts: ExpertBlock | None = None
    generator: ModelStamp | None = None
    problems: tuple[Problem, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of schema `vfq-methods/1`."""
        return {
            "schema": METHODS_SCHEMA,
            "settings": {key: settings(self.repeats, self.seed)[key] for key in ("specificity", "bootstrap")},
            "models": self.stamps,
            "synthetic_picture": self.generator and {"name": self.generator.name, "sha256": self.generator.sha256},
            "blocks": [block.to_json() for block in (*self.blocks, self.experts) if block],
            "coverage": coverage_json(self.coverage),
            "problems": [vars(p) for p in self.problems],
        }


@dataclass(frozen=True)
class Systems:
    """What is compared: the networks of each method, or why it has none, and the generator of synthetic pictures.

    `pictured` is the number of scans of a block for which synthetic pictures are made.
    """

    methods: dict[str, Models | VFQError]
    healer: Healer | None = None
    pictured: int = 0


def compare_methods(
    subjects: Sequence[Subject], name: str, systems: Systems, folder: Path, say: Say, repeats: int, seed: int
) -> Block:
    """Run every method on every subject, and return the rows with their figures."""
    records: dict[str, list[SpineAnalysis]] = {method: [] for method in systems.methods}
    pictures: list[Graded] = []
    for number, subject in enumerate(subjects, 1):
        say(f"{subject.case} ({number} of {len(subjects)})")
        scan = subject.source
        for method, networks in systems.methods.items():
            if not isinstance(networks, VFQError):
                records[method].append(analysis_of(scan, method, networks, folder))
        if systems.healer and number <= systems.pictured and records.get(OURS):
            pictures.append(as_graded(pictures_of(scan, records[OURS][-1], systems.healer, folder)))
        scan.forget()
    rows = [_method_row(subjects, method, records[method], networks) for method, networks in systems.methods.items()]
    rows += _mask_rows(subjects)
    rows += _rule_rows(subjects, records.get(OURS, []), pictures)
    status = {
        m: {s.case: r.status for s, r in zip(subjects, found, strict=True)} for m, found in records.items() if found
    }
    return Block(name, rows, {row.name: _estimates(row, repeats, seed) for row in rows}, status, len(subjects))


def unmeasured(status: Mapping[str, Mapping[str, str]]) -> list[Problem]:
    """Return a problem for each scan that no method measured. status : by method and scan, "ok" or a code."""
    scans = dict.fromkeys(scan for found in status.values() for scan in found)
    codes = {scan: {found[scan] for found in status.values() if scan in found} for scan in scans}
    return [
        Problem("not_measured", scan, None, f"No method measured this scan: {', '.join(sorted(found))}.")
        for scan, found in codes.items()
        if "ok" not in found
    ]


def _estimates(row: Row, repeats: int, seed: int) -> Estimates:
    """Return the figures that a row has: a rule of grading finds nothing, one that reads masks sets no points."""
    found = estimate_method(row.trials, repeats, seed) if row.trials else {}
    return {key: value for key, value in found.items() if KINDS[row.kind](key)}


def _found(record: SpineAnalysis) -> Spine:
    points = np.reshape([v.keypoints for v in record.vertebrae], (-1, 3, 2, 3)) if record.vertebrae else EMPTY
    return Spine(record.case, record.case, points, tuple(v.level for v in record.vertebrae), status=record.status)


def _as_published(spine: Spine) -> Graded:
    """Grade as the program reports it, with the score of the published AUC, which is G alone."""
    reported = GRADERS[REPORTED](spine)
    return Graded(reported.grade, GRADERS[BY_G](spine).score, reported.loss)


def _method_row(
    subjects: Sequence[Subject], method: str, records: list[SpineAnalysis], networks: Models | VFQError
) -> Row:
    if isinstance(networks, VFQError):
        return Row(method, [], networks.code, why=networks.message)
    trials = []
    for subject, record in zip(subjects, records, strict=True):
        spine, seconds = _found(record), record.timing_s.get("total", np.nan)
        trials.append(trial(spine, subject.truth, _as_published(spine), subject.known(), seconds))
    return Row(method, trials)


def _mask_rows(subjects: Sequence[Subject]) -> list[Row]:
    rows = []
    for name in subjects[0].masks if subjects else ():
        spines = [Spine(s.case, name, s.masks[name], s.truth.levels) for s in subjects]
        rows.append(_row(name, subjects, spines, [_as_published(spine) for spine in spines], "mask"))
    return rows


def _rule_rows(subjects: Sequence[Subject], records: list[SpineAnalysis], pictures: list[Graded]) -> list[Row]:
    """Return the rows of rules that grade our points and, where the lost height is known, the true points."""
    rows = []
    if records:
        spines = [_found(record) for record in records]
        for name, rule in GRADERS.items():
            rows.append(_row(f"{OURS}, {name}", subjects, spines, [rule(spine) for spine in spines]))
        if pictures:
            rows.append(_row(f"{OURS}, {BY_PICTURE}", subjects[: len(pictures)], spines[: len(pictures)], pictures))
    truths = [s.truth for s in subjects]
    if any(np.isfinite(s.healthy_mm).any() for s in subjects):
        rows += [
            _row(f"{EXACT}, {name}", subjects, truths, [rule(t) for t in truths]) for name, rule in GRADERS.items()
        ]
    return rows


def _row(
    name: str, subjects: Sequence[Subject], spines: Sequence[Spine], graded: Sequence[Graded], kind: str = "grader"
) -> Row:
    parts = zip(subjects, spines, graded, strict=True)
    return Row(name, [trial(x, s.truth, g, s.known(g.thirds), np.nan) for s, x, g in parts], kind=kind)
