"""The methods side by side (`vfq evaluate methods`): ours, the others, and rules that read masks, on the same scans.

Phantoms of seeds that no training used have exact truth and exact masks; real scans have references of six points. Each
analysis is kept as a file, so that an interrupted evaluation can be resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import VFQError
from ..spine.keypoints import centers
from ..spine.record import SpineAnalysis
from ..spine.record_json import read_analysis, to_json
from ..spine.reference import Reference, read_reference
from .graders import GRADERS, REPORTED
from .method_figures import Estimates, Trial, estimate_method, trial
from .records import nested, settings
from .spines import Spine

if TYPE_CHECKING:
    from ..analysis import Models
    from ..imaging.ct import CTVolume

METHODS_SCHEMA = "vfq-methods/1"
OURS = "anchor-free"
FIRST_SEED = 950_000  # no training and no choice of weights used these phantoms
FRACTURE_RATE = 0.25
EMPTY = np.empty((0, 3, 2, 3))

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One row of the table and its trials; `missing` is the code of why it has none, `points` if it sets key points."""

    name: str
    trials: list[Trial]
    missing: str = ""
    points: bool = True


@dataclass(frozen=True)
class Block:
    """The rows on one kind of scans, each with its figures."""

    name: str
    rows: list[Row]
    estimates: dict[str, Estimates]
    status: dict[str, dict[str, str]] = field(default_factory=dict)  # method, scan: "ok" or a code


@dataclass(frozen=True)
class Comparison:
    """The result of `vfq evaluate methods`."""

    blocks: list[Block]
    stamps: dict[str, list[dict[str, Any]]]
    repeats: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of schema `vfq-methods/1`."""
        return {
            "schema": METHODS_SCHEMA,
            "settings": {key: settings(self.repeats, self.seed)[key] for key in ("specificity", "bootstrap")},
            "models": self.stamps,
            "blocks": [
                {
                    "name": block.name,
                    "patients": max((len(row.trials) for row in block.rows), default=0),
                    "rows": [
                        {"name": row.name, "missing": row.missing or None, "figures": nested(block.estimates[row.name])}
                        for row in block.rows
                    ],
                    "status": block.status,
                }
                for block in self.blocks
            ],
        }


@dataclass(frozen=True)
class Subject:
    """One scan with its truth: `ct` reads or paints it, `masks` are the key points that rules read from masks."""

    case: str
    ct: Callable[[], CTVolume]
    truth: Spine
    fractured: np.ndarray
    masks: dict[str, np.ndarray] = field(default_factory=dict)


def phantoms(count: int, seed: int = FIRST_SEED) -> Iterator[Subject]:
    """Yield `count` phantoms of the seeds from `seed` on."""
    from ..phantom.masks import LINES, THIRDS, mask_keypoints
    from ..phantom.options import PhantomOptions
    from ..phantom.volume import make_phantom, phantom_anatomy

    options = PhantomOptions(fracture_rate=FRACTURE_RATE, field_of_view="spine")
    for number in range(seed, seed + count):
        anatomy, truth = phantom_anatomy(number, options)
        if len(truth.levels) < 2:
            continue
        yield Subject(
            f"phantom-{number}",
            lambda number=number: make_phantom(number, options)[0],  # type: ignore[misc]
            _truth(f"phantom-{number}", truth.keypoints, truth.levels, [center for _, center in truth.partial]),
            np.array([kind is not None for kind in truth.fractures]),
            {
                "mask: thirds": mask_keypoints(anatomy, truth.levels, THIRDS),
                "mask: 15/50/85 %": mask_keypoints(anatomy, truth.levels, LINES),
            },
        )


def real_scans(folders: Sequence[Path], scans: Path) -> Iterator[Subject]:
    """Yield the scans with references of six points in `folders` whose CT is in `scans`; others are passed over."""
    from ..imaging.files import read_ct

    for path in sorted(p for folder in folders for p in folder.glob("*.json")):
        reference: Reference = read_reference(path)
        place = scans / reference.ct_file
        if len(reference.keypoints) < 2 or not place.exists():
            continue
        truth = _truth(reference.case, reference.keypoints, reference.levels, reference.partial)
        yield Subject(reference.case, lambda place=place: read_ct(place), truth, np.zeros(len(truth.levels), bool))  # type: ignore[misc]


def _truth(case: str, keypoints: np.ndarray, levels: Sequence[str | None], partial: Any) -> Spine:
    order = np.argsort(-centers(keypoints)[:, 2])
    assert (order == np.arange(len(order))).all()
    return Spine(case, case, keypoints, tuple(levels), np.reshape(partial, (-1, 3)).astype(float))


def compare_methods(
    subjects: Sequence[Subject],
    name: str,
    models: dict[str, Models | VFQError],
    folder: Path,
    say: Say,
    repeats: int,
    seed: int,
) -> Block:
    """Run every method on every subject, and return the rows with their figures."""
    spines: dict[str, list[tuple[Spine, float]]] = {method: [] for method in models}
    for subject in subjects:
        say(subject.case)
        ct: list[CTVolume] = []
        for method, networks in models.items():
            if isinstance(networks, VFQError):
                continue
            record = _analysis(subject, method, networks, folder, ct)
            spines[method].append((_found(record), record.timing_s.get("total", np.nan)))
    rows = [_method_row(subjects, method, spines[method], networks) for method, networks in models.items()]
    rows += _mask_rows(subjects)
    if spines.get(OURS):
        rows += [_graded_row(subjects, spines[OURS], grader) for grader in GRADERS]
    estimates = {row.name: estimate_method(row.trials, repeats, seed) if row.trials else {} for row in rows}
    status = {
        method: {s.case: found.status for s, (found, _) in zip(subjects, spines[method], strict=True)}
        for method in models
        if spines[method]
    }
    return Block(name, rows, estimates, status)


def _analysis(subject: Subject, method: str, networks: Models, folder: Path, ct: list[CTVolume]) -> SpineAnalysis:
    """Return the analysis of a subject: the file of an earlier run with the same networks, or a new one."""
    from ..analysis import analyze

    path = folder / method / f"{subject.case}.json"
    if path.exists():
        earlier = read_analysis(path)
        if [m.sha256 for m in earlier.models] == [m.sha256 for m in networks.stamps]:
            return earlier
    if not ct:
        ct.append(subject.ct())
    try:
        record = analyze(ct[0], networks)
    except VFQError as error:
        record = SpineAnalysis(subject.case, error.code, error.message, models=networks.stamps)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_json(record)), encoding="utf-8")
    return record


def _found(record: SpineAnalysis) -> Spine:
    points = np.reshape([v.keypoints for v in record.vertebrae], (-1, 3, 2, 3)) if record.vertebrae else EMPTY
    return Spine(record.case, record.case, points, tuple(v.level for v in record.vertebrae), status=record.status)


def _method_row(
    subjects: Sequence[Subject], method: str, found: list[tuple[Spine, float]], networks: Models | VFQError
) -> Row:
    missing = networks.code if isinstance(networks, VFQError) else ""
    pairs = zip(subjects, found, strict=False)
    return Row(method, [_trial(s, spine, REPORTED, seconds) for s, (spine, seconds) in pairs], missing)


def _mask_rows(subjects: Sequence[Subject]) -> list[Row]:
    names = list(subjects[0].masks) if subjects else []
    return [
        Row(
            n,
            [_trial(s, Spine(s.case, n, s.masks[n], s.truth.levels), REPORTED, np.nan) for s in subjects],
            points=False,
        )
        for n in names
    ]


def _graded_row(subjects: Sequence[Subject], found: list[tuple[Spine, float]], grader: str) -> Row:
    pairs = zip(subjects, found, strict=True)
    return Row(f"{OURS}, grade by {grader}", [_trial(s, spine, grader, np.nan) for s, (spine, _) in pairs])


def _trial(subject: Subject, found: Spine, grader: str, seconds: float) -> Trial:
    true = GRADERS[REPORTED](subject.truth.keypoints)
    return trial(found, subject.truth, GRADERS[grader](found.keypoints), true, subject.fractured, seconds)
