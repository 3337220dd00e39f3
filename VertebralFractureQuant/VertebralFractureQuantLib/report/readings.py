"""The readings of a case: the first one in the case's own folder, each further reader's own one in `readings/`.

Each reading is a folder with the same files: analysis.json, machine.json, keypoints.mrk.json, measurements.csv and
review.sqlite. So there is one JSON for a case and reader, and no two readers write into the same folder.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import VFQError
from ..spine.reading import Reading
from ..spine.record import SpineAnalysis
from ..spine.record_json import read_analysis

READINGS = "readings"
LONGEST = 40  # characters of a reader's name in the name of a folder


@dataclass(frozen=True, eq=False)
class Found:
    """A reading on disk: its folder, and the record in it."""

    folder: Path
    record: SpineAnalysis


def own_folder(case_folder: Path, reader: str) -> Path:
    """Return the folder of a reader's own reading, which may not exist; readers of different names never share one."""
    safe = re.sub(r"[^\w+-]+", "_", reader).strip("_")[:LONGEST] or "reader"
    return case_folder / READINGS / f"{safe}-{hashlib.sha256(reader.encode()).hexdigest()[:8]}"


def case_folder_of(folder: Path) -> Path:
    """Return the folder of the case to which the folder of a reading belongs."""
    return folder.parent.parent if folder.parent.name == READINGS else folder


def reading_of(record: SpineAnalysis) -> Reading | None:
    """Return whose reading a record is; in an older record, that of the first reader with a verdict."""
    if record.reading:
        return record.reading
    first = min((v for v in record.vertebrae if v.reviewer), key=lambda v: v.reviewed_at or "", default=None)
    return Reading(str(first.reviewer), first.reviewed_at or "") if first else None


def takes_part(record: SpineAnalysis, reader: str) -> bool:
    """True if the reader began or signed this reading, or judged a vertebra in it."""
    reading = reading_of(record)
    known = {v.reviewer for v in record.vertebrae}
    return reading is not None and reader in {reading.reader, *(s.reader for s in reading.signatures), *known}


def readings(case_folder: Path) -> list[Found]:
    """Return the readings of a case, the first one in the case's own folder; damaged files are passed over."""
    folders = [case_folder, *sorted(path.parent for path in case_folder.glob(f"{READINGS}/*/analysis.json"))]
    found = []
    for folder in folders:
        with suppress(VFQError):
            record = read_analysis(folder / "analysis.json")
            if reading_of(record):
                found.append(Found(folder, record))
    return found
