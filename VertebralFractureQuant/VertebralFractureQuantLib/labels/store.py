"""Where the readings of a label set are: `readings/READER/CASE.json`, one file for each version of a reading.

A second reading of the case is `CASE@session2.json`, a correction `CASE@v2.json`. A draft is replaced by each save; a
final reading is never written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import VFQError
from ..imaging.ct import inside_of
from ..whole import visible
from .dataset import Case, Dataset, reader_folder
from .files import locked, read_json, write_json
from .reading import SCHEMA, LabelReading, faults_of, from_json, now, refuse, to_json

READINGS = "readings"
WORK = "work"
MARGIN_MM = 1.0  # a point may lie this far outside the outer voxels: an endplate at the very border

Slot = tuple[str, str, int]  # reader, case, session


def path_of(dataset: Dataset, reading: LabelReading) -> Path:
    """Return the file of a reading."""
    parts = [reading.case]
    parts += [f"session{reading.session}"] * (reading.session > 1) + [f"v{reading.version}"] * (reading.version > 1)
    return dataset.folder / READINGS / reader_folder(reading.reader) / f"{'@'.join(parts)}.json"


def work_folder(dataset: Dataset, slot: Slot) -> Path:
    """Return the folder for what the annotation of a case computes; it can be deleted while no page is open."""
    reader, case, session = slot
    name = case if session == 1 else f"{case}@session{session}"
    return dataset.folder / WORK / reader_folder(reader) / name


def read_reading(path: Path) -> LabelReading:
    """Read one file. VFQError `newer_schema` or `not_a_dataset`."""
    return from_json(read_json(path, SCHEMA), path)


def history(dataset: Dataset, slot: Slot) -> list[LabelReading]:
    """Return all versions of a reading, first to last; [] if there is none. VFQError as `read_reading`."""
    reader, case, session = slot
    found: list[LabelReading] = []
    while (path := path_of(dataset, LabelReading(case, reader, session, len(found) + 1))).exists():
        found.append(_at_its_place(dataset, path))
    return found


def newest(dataset: Dataset, slot: Slot) -> LabelReading | None:
    """Return the newest version of a reading, draft or final; None if there is none. VFQError as `read_reading`."""
    found = history(dataset, slot)
    return found[-1] if found else None


def all_readings(dataset: Dataset) -> list[LabelReading]:
    """Return every version of every reading. VFQError as `read_reading`, or for a file at another one's place."""
    return [_at_its_place(dataset, path) for path in reading_files(dataset.folder)]


def readings_by(dataset: Dataset, reader: str) -> list[LabelReading]:
    """Return every version of every reading of one reader. VFQError as `all_readings`."""
    own = dataset.folder / READINGS / reader_folder(reader)
    return [_at_its_place(dataset, path) for path in reading_files(dataset.folder) if path.parent == own]


def reading_files(folder: Path) -> list[Path]:
    """Return the files of all readings in the label set in `folder`."""
    return visible(folder.glob(f"{READINGS}/*/*.json"))


def final_readings(dataset: Dataset) -> dict[Slot, LabelReading]:
    """Return the newest final version of each reading. VFQError as `all_readings`."""
    return final_of(all_readings(dataset))


def final_of(readings: Iterable[LabelReading]) -> dict[Slot, LabelReading]:
    """Return the newest final version of each of these readings."""
    final = sorted((r for r in readings if r.state == "final"), key=lambda r: r.version)
    return {(r.reader, r.case, r.session): r for r in final}


def save(dataset: Dataset, reading: LabelReading) -> LabelReading:
    """Save a reading, and return it as it is on disk, to be given to the next save.

    Raises
    ------
    VFQError
        `bad_labels` for faults, or points outside the scan; `labels_changed` if the draft was saved elsewhere since;
        `labels_exist` if this version is final; `dataset_in_use`; `output_not_writable`; `unknown_case`,
        `unknown_reader`.
    """
    check(dataset, reading)
    with locked(dataset.folder):
        return write_reading(dataset, reading)


def check(dataset: Dataset, reading: LabelReading) -> None:
    """Raise VFQError as `save` does for a reading that may not be saved, whatever is on disk."""
    case = dataset.case(dataset.reader(reading.reader) and reading.case)
    refuse(f"{reading.case}, {reading.reader}", [*faults_of(reading), *outside(case, reading)])
    if reading.ct_sha256 and case.sha256 and reading.ct_sha256 != case.sha256:
        message = f"{reading.case}: the reading was made on another CT than that of the label set. Read that CT again."
        raise VFQError("other_ct", message)


def write_reading(dataset: Dataset, reading: LabelReading) -> LabelReading:
    """Write a reading that was checked, under the lock; returns and raises as `save`."""
    before = newest(dataset, (reading.reader, reading.case, reading.session))
    place = f"{reading.case}, {reading.reader}"
    if before and before.state == "final" and reading.version != before.version + 1:
        message = (
            f"{place}: version {before.version} is final and never changes. Save a correction as the next version."
        )
        raise VFQError("labels_exist", message)
    if before and before.state == "draft" and (reading.version, reading.revision) != (before.version, before.revision):
        message = (
            f"{place}: this draft was saved in another window at {before.saved_at}. Open it again; both stay as is."
        )
        raise VFQError("labels_changed", message)
    if before is None and (reading.version, reading.revision) != (1, 0):
        raise VFQError("labels_changed", f"{place}: the file of this reading is gone. Restore it, or begin again.")
    at = now()
    finished = reading.finished_at or (at if reading.state == "final" else None)
    saved = replace(reading, revision=reading.revision + 1, saved_at=at, finished_at=finished)
    write_json(path_of(dataset, saved), to_json(saved))
    return saved


def outside(case: Case, reading: LabelReading) -> Iterator[str]:
    """Yield a sentence for each vertebra with points outside the CT of its case."""
    if case.shape is None or case.ijk_to_ras is None:
        return
    whole = inside_of(case.shape, case.ijk_to_ras, MARGIN_MM)
    for i, label in enumerate(reading.labels):
        points = [p for p in (label.keypoints, label.center) if p is not None]
        if not all(whole(p) for p in points):
            yield f"{label.level or f'vertebra {i + 1}'}: points lie outside the CT. Check that it is the right CT."


def _at_its_place(dataset: Dataset, path: Path) -> LabelReading:
    reading = read_reading(path)
    if path_of(dataset, reading).resolve() != path.resolve():
        message = (
            f"{path.parent.name}/{path.name} holds version {reading.version} of {reading.case} by {reading.reader!r}, "
            f"which belongs into {path_of(dataset, reading).name}. A file was copied or renamed; move it back."
        )
        raise VFQError("not_a_dataset", message)
    return reading
