"""How far a label set is, and what is wrong with it: progress of readers, missing or replaced CTs, damaged files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ..errors import VFQError
from ..imaging.files import read_ct
from .dataset import Assignment, Case, Dataset, check_ct
from .merging import MARKER
from .reading import LabelReading
from .store import READINGS, Slot, newest, outside, path_of, read_reading, reading_files


@dataclass(frozen=True)
class Progress:
    """The work of one reader: numbers of assigned readings, final and draft ones, and the next case to read."""

    reader: str
    assigned: int
    final: int
    drafts: int
    unassigned: int
    next_case: str | None


@dataclass(frozen=True)
class Status:
    """The state of a label set; `problems` are (code, sentence)."""

    name: str
    cases: int
    progress: tuple[Progress, ...]
    problems: tuple[tuple[str, str], ...]


def status(dataset: Dataset, verify: bool = False) -> Status:
    """Return how far the label set is.

    verify : read each CT, and compare its voxels with those that the labels were made for.
    """
    readings, problems = _readings(dataset)
    problems += [problem for case in dataset.cases.values() for problem in _of_ct(dataset, case, verify)]
    problems += [problem for reading in readings for problem in _of_reading(dataset, reading)]
    if (dataset.folder / MARKER).exists():
        problems.append(("not_a_dataset", "A merge was interrupted. Run vfq dataset merge again to complete it."))
    progress = tuple(_progress(dataset, reader, readings) for reader in dataset.readers)
    return Status(dataset.name, len(dataset.cases), progress, tuple(problems))


def _readings(dataset: Dataset) -> tuple[list[LabelReading], list[tuple[str, str]]]:
    readings, problems = [], []
    for path in reading_files(dataset.folder):
        try:
            reading = read_reading(path)
        except VFQError as error:
            problems.append((error.code, error.message))
            continue
        if path_of(dataset, reading).resolve() == path.resolve():
            readings.append(reading)
        else:
            where = f"{READINGS}/{path.parent.name}/{path.name}"
            problems.append(
                ("not_a_dataset", f"{where} belongs into {path_of(dataset, reading).name}: it was renamed.")
            )
    return readings, problems


def _of_ct(dataset: Dataset, case: Case, verify: bool) -> Iterator[tuple[str, str]]:
    path = dataset.ct_path(case)
    if path is None:
        return
    if not path.exists():
        yield "not_found", f"{case.name}: its CT {case.ct} is missing. Put it back; the labels are intact."
    elif case.ct_bytes is not None and path.is_file() and path.stat().st_size != case.ct_bytes and not verify:
        yield "other_ct", f"{case.name}: the file of its CT has another size. Use --verify to compare the voxels."
    elif verify:
        try:
            check_ct(case, read_ct(path, trust_header=True))
        except VFQError as error:
            yield error.code, error.message


def _of_reading(dataset: Dataset, reading: LabelReading) -> Iterator[tuple[str, str]]:
    place = f"{reading.case}, {reading.reader}"
    if reading.case not in dataset.cases or reading.reader not in dataset.readers:
        yield "unknown_case", f"{place}: dataset.json lacks this case or reader. Restore it from a backup."
        return
    case = dataset.cases[reading.case]
    if reading.ct_sha256 and case.sha256 and reading.ct_sha256 != case.sha256:
        yield "other_ct", f"{place}: the labels were made on another CT than that of the case."
    for sentence in outside(case, reading):
        yield "bad_labels", f"{place}, {sentence}"


def _progress(dataset: Dataset, reader: str, readings: list[LabelReading]) -> Progress:
    own = [r for r in readings if r.reader == reader]
    final = {(r.case, r.session) for r in own if r.state == "final"}
    begun = {(r.case, r.session) for r in own} - final
    assigned = [(a.case, a.session) for a in dataset.assignments.get(reader, ())]
    following = next_assignment(dataset, reader, own)
    case = following.case if following else None
    return Progress(reader, len(assigned), len(final), len(begun), len(final - set(assigned)), case)


def next_assignment(dataset: Dataset, reader: str, readings: Sequence[LabelReading]) -> Assignment | None:
    """Return what a reader reads next, by this reader's `readings`; None if nothing is left, or due yet."""
    final = {(r.case, r.session): r for r in readings if r.reader == reader and r.state == "final"}
    left = [a for a in dataset.assignments.get(reader, ()) if (a.case, a.session) not in final]
    return next((a for a in left if _is_due(a, final.get((a.case, 1)))), None)


def due(dataset: Dataset, reader: str) -> list[Slot]:
    """Return the readings that are assigned to a reader, final ones included, without those that are not due yet.

    VFQError as `read_reading`.
    """
    slots = [(reader, a.case, a.session) for a in dataset.assignments.get(reader, ())]
    latest = {slot: newest(dataset, slot) for slot in slots}
    first = {slot[1]: found for slot, found in latest.items() if slot[2] == 1 and found and found.state == "final"}
    assigned = zip(slots, dataset.assignments.get(reader, ()), strict=True)
    return [slot for slot, a in assigned if latest[slot] or _is_due(a, first.get(a.case))]


def readings_to_do(dataset: Dataset, reader: str, case: str | None = None) -> list[Slot]:
    """Return the readings of a reader in their order: those assigned and due, or that of one case.

    VFQError `nothing_assigned`; `unknown_case`.
    """
    assigned = due(dataset, reader)
    if case is not None:
        name = dataset.case(case).name
        own = [slot for slot in assigned if slot[1] == name]
        return own[-1:] or [(reader, name, 1)]
    if not assigned:
        raise VFQError(
            "nothing_assigned",
            f"No case is assigned to {reader}, or due yet. Assign cases with vfq dataset assign, or give --case.",
        )
    return assigned


def _is_due(assignment: Assignment, first: LabelReading | None) -> bool:
    """True for a first reading, and for a second one when its days have passed since the first one."""
    if assignment.session == 1:
        return True
    if first is None or first.finished_at is None:
        return False
    at = datetime.fromisoformat(first.finished_at.replace("Z", "+00:00"))
    return at + timedelta(days=assignment.after_days) <= datetime.now(timezone.utc)
