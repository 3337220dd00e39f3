"""The labels of a label set as lessons for a network: for each case the CT and a six-point reference, RAS mm.

The references are those of one reader, or of the readers' consensus. Only final first readings teach. What no reader
labelled, and what the readers disagree about, is neither a vertebra nor background: nothing is learned there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import VFQError
from ..imaging.files import read_ct
from ..spine.keypoints import centers
from ..spine.levels import NAMES
from ..spine.reference import Reference
from ..training.real import RealCase, extended_curve, real_case
from .consensus import by_case, document
from .dataset import Case, Dataset, check_ct
from .reading import LabelReading
from .store import final_readings, outside

LEAST_LABELLED = 3  # vertebrae, to know how the spine runs
UNDECIDED = ("points", "not_assessable")  # doubts of the consensus for which a vertebra is not learned from
LEVEL_DOUBT = "level"
REGULAR = [name for name in NAMES if name not in ("T13", "L6")]
WIDE_DISC_MM = 14.0  # between endplates; more is room for a vertebra that nobody labelled
EVERY_MM, FROM_ENDPLATE_MM = 7.0, 5.0  # of the places where nothing is learned


@dataclass(frozen=True, eq=False)
class Lesson:
    """One case to learn from: its names, its CT and its reference."""

    case: Case
    patient: str
    ct_path: Path
    reference: Reference


def lessons_of(dataset: Dataset, reader: str | None = None, left_out: Sequence[str] = ()) -> list[Lesson]:
    """Return the lessons of a label set, without reading the CTs.

    reader : whose readings teach; None for the consensus of all readers (the mean, or who adjudicated).
    left_out : beginnings of the names of cases that do not teach.

    Raises
    ------
    VFQError
        `unknown_reader`; `not_found` for a case without its CT; `bad_labels` for points outside the CT; `other_ct` for
        labels that were made on another CT; `too_few_labels` if no case has three labelled vertebrae; as
        `final_readings`.
    """
    final = final_readings(dataset)
    if reader is not None:
        final = {slot: reading for slot, reading in final.items() if slot[0] == dataset.reader(reader)}
    found = []
    for name, readings in by_case(dataset, final).items():
        if any(name.startswith(beginning) for beginning in left_out):
            continue
        case = dataset.cases[name]
        path = _ct_path(dataset, case)
        for reading in readings:
            _check(case, reading)
        vertebrae = _vertebrae(dataset, case, readings)
        if len(vertebrae) >= LEAST_LABELLED:
            found.append(Lesson(case, case.patient, path, _reference(case, path, vertebrae)))
    if not found:
        message = (
            f"{dataset.name}: no case has a final reading with {LEAST_LABELLED} vertebrae that may be learned from."
        )
        raise VFQError("too_few_labels", f"{message} Finish readings, or name another --reader.")
    return found


def read_lesson(lesson: Lesson) -> RealCase:
    """Read the CT of a lesson. VFQError `other_ct` if it is not the one that was labelled; those of `read_ct`."""
    ct = read_ct(lesson.ct_path, trust_header=True)
    check_ct(lesson.case, ct)
    return real_case(ct, lesson.reference, whole=False)


def digest_of(lessons: Sequence[Lesson]) -> str:
    """Return a hash that changes with the cases, their CTs and their labels."""
    digest = hashlib.sha256()
    for lesson in sorted(lessons, key=lambda one: one.case.name):
        digest.update(f"{lesson.case.name} {lesson.case.sha256} {lesson.reference.levels}".encode())
        digest.update(np.round(lesson.reference.keypoints, 4).tobytes())
    return digest.hexdigest()


def _ct_path(dataset: Dataset, case: Case) -> Path:
    path = dataset.ct_path(case)
    if path is None or not path.exists():
        name = f"its CT {case.ct} is missing" if case.ct else "its labels have no CT"
        message = f"{case.name}: {name}. Put the CT back (vfq dataset add), or leave the case out with --leave-out."
        raise VFQError("not_found", message)
    return path


def _check(case: Case, reading: LabelReading) -> None:
    if reading.ct_sha256 and case.sha256 and reading.ct_sha256 != case.sha256:
        message = "the labels were made on another CT than that of the case. Read that CT again, or use --leave-out."
        raise VFQError("other_ct", f"{case.name}, {reading.reader}: {message}")
    for sentence in outside(case, reading):
        raise VFQError("bad_labels", f"{case.name}, {reading.reader}, {sentence}")


def _vertebrae(dataset: Dataset, case: Case, readings: Sequence[LabelReading]) -> list[tuple[str | None, np.ndarray]]:
    """Return level and key points `(3, 2, 3)` of the vertebrae to learn from, cranial first."""
    agreed = document(dataset, case, readings, "mean")["vertebrae"]
    kept = [v for v in agreed if not set(v["doubts"]) & set(UNDECIDED)]
    found = [(None if LEVEL_DOUBT in v["doubts"] else v["level"], np.array(v["keypoints"], float)) for v in kept]
    return sorted(found, key=lambda one: -centers(one[1])[2])


def _reference(case: Case, path: Path, vertebrae: Sequence[tuple[str | None, np.ndarray]]) -> Reference:
    points = np.stack([keypoints for _, keypoints in vertebrae])
    levels = tuple(level for level, _ in vertebrae)
    middles = points.mean((1, 2))
    return Reference(case.name, path.name, points, levels, _unlabelled(points, levels), middles)


def _unlabelled(points: np.ndarray, levels: Sequence[str | None]) -> np.ndarray:
    """Return places `(m, 3)` along the spine where a vertebra may be that has no label.

    They lie beyond the outermost labels, and between two labels with room for another vertebra.
    """
    middles, ends = points.mean((1, 2)), points.mean(1)  # (n, 3), (n, [upper, lower], 3)
    beyond = extended_curve(middles).points
    up = beyond[0] - beyond[-1]
    above, below = ends[0, 0], ends[-1, 1]
    found = [p for p in beyond if (p - above) @ up > 0 and np.linalg.norm(p - above) > FROM_ENDPLATE_MM]
    found += [p for p in beyond if (below - p) @ up > 0 and np.linalg.norm(p - below) > FROM_ENDPLATE_MM]
    places = found[:: int(EVERY_MM)]
    for i, (upper, lower) in enumerate(zip(ends[:-1, 1], ends[1:, 0], strict=True)):
        gap = float(np.linalg.norm(lower - upper))
        if gap > WIDE_DISC_MM or not _neighbours(levels[i], levels[i + 1]):
            shares = np.arange(FROM_ENDPLATE_MM, max(gap - FROM_ENDPLATE_MM, FROM_ENDPLATE_MM + 0.1), EVERY_MM) / gap
            places += [upper + share * (lower - upper) for share in shares]
    return np.reshape(places, (-1, 3))


def _neighbours(upper: str | None, lower: str | None) -> bool:
    """True unless both levels are known and another one lies between them."""
    if upper not in REGULAR or lower not in REGULAR:
        return True
    return REGULAR.index(lower) - REGULAR.index(upper) == 1
