"""Bring the readings of a copy of a label set together with this one, as when readers worked on several computers.

Everything is checked before the first file is written. Each file is written as a whole, so a merge that was interrupted
is completed by running it again; until then `merging.json` says that it is not complete.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import VFQError
from .dataset import Dataset, changing, load, put, with_cases, with_readers
from .files import write_json
from .reading import LabelReading, to_json
from .store import Slot, all_readings, check, history, path_of

MARKER = "merging.json"


@dataclass(frozen=True)
class Merged:
    """What a merge did: numbers of readings added, known already, and kept as further versions."""

    added: int
    known: int
    versions: int


def merge(folder: Path, other: Path, keep_both: bool = False) -> Merged:
    """Add the cases, readers, assignments and readings of the label set in `other` to that in `folder`.

    keep_both : a reading that differs from ours of the same version becomes the next version.

    Raises
    ------
    VFQError
        `labels_exist` if readings differ and `keep_both` is off; `other_ct` if a case has another CT there; as `load`
        and `save`. Nothing is written then.
    """
    theirs = load(other)
    with changing(folder) as held:
        ours = _together(held[0], theirs)
        incoming = sorted(all_readings(theirs), key=lambda r: (r.reader, r.case, r.session, r.version))
        for reading in incoming:
            check(ours, reading)
        planned, conflicts, known = _plan(ours, incoming)
        if conflicts and not keep_both:
            raise _differ(conflicts)
        write_json(folder / MARKER, {"from": other.name})
        put(ours)  # before its readings, which would belong to nobody
        for reading in (*planned, *_as_next_versions(ours, conflicts, planned)):
            write_json(path_of(ours, reading), to_json(reading))
    with suppress(OSError):
        (folder / MARKER).unlink()
    return Merged(len(planned), known, len(conflicts))


def _together(ours: Dataset, theirs: Dataset) -> Dataset:
    joined = with_readers(with_cases(ours, list(theirs.cases.values())), theirs.readers)
    assignments = dict(joined.assignments)
    for reader, own in theirs.assignments.items():
        there = {(a.case, a.session) for a in assignments.get(reader, ())}
        more = tuple(a for a in own if (a.case, a.session) not in there)
        assignments[reader] = (*assignments.get(reader, ()), *more)
    return replace(joined, assignments=assignments)


def _plan(ours: Dataset, incoming: list[LabelReading]) -> tuple[list[LabelReading], list[LabelReading], int]:
    """Return the readings to add, those that differ from ours at their place, and the number of known ones."""
    planned: list[LabelReading] = []
    conflicts: list[LabelReading] = []
    known = 0
    for reading in incoming:
        versions = history(ours, _slot(reading))
        there = next((v for v in versions if v.version == reading.version), None)
        if any(to_json(replace(v, version=reading.version)) == to_json(reading) for v in versions):
            known += 1  # also as a further version, from an earlier merge
        elif there or any(_slot(reading) == _slot(conflict) for conflict in conflicts):
            conflicts.append(reading)  # a correction of a reading that differs stays behind it
        else:
            planned.append(reading)
    return planned, conflicts, known


def _as_next_versions(ours: Dataset, conflicts: list[LabelReading], planned: list[LabelReading]) -> list[LabelReading]:
    last: dict[Slot, int] = {}
    for reading in planned:
        last[_slot(reading)] = max(reading.version, last.get(_slot(reading), 0))
    found = []
    for reading in conflicts:
        slot = _slot(reading)
        last[slot] = max(len(history(ours, slot)), last.get(slot, 0)) + 1
        found.append(replace(reading, version=last[slot]))
    return found


def _slot(reading: LabelReading) -> Slot:
    return reading.reader, reading.case, reading.session


def _differ(conflicts: list[LabelReading]) -> VFQError:
    named = ", ".join(f"{r.case} by {r.reader} (version {r.version})" for r in conflicts[:5])
    more = f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
    return VFQError(
        "labels_exist",
        f"Nothing was merged: {len(conflicts)} readings differ from ours: {named}{more}. Use --keep-both to keep them "
        "as further versions.",
    )
