"""Labels in the forms of other programs: Slicer markups, CSV, centroids of the VerSe form, references, analyses.

Each form has a reader, which returns `Incoming`, and a writer. Points are RAS mm; CSV keeps every digit.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..evaluation.problems import as_points, known_level
from ..report.markups import markups_document, read_markups
from ..spine.genant import measure_column
from ..spine.keypoints import ENDPLATES, POSITIONS, centers
from ..spine.record import SpineAnalysis, Vertebra
from ..spine.record_json import read_analysis
from .dataset import Case
from .incoming import Incoming, level_of, read_data, unreadable
from .masks import VERSE
from .reading import REASONS, SPACE, Label, LabelReading

POINTS = tuple(f"{position}_{end}_{axis}_mm" for position in POSITIONS for end in ENDPLATES for axis in "ras")
COLUMNS = ("case", "reader", "session", "level", *POINTS, "not_assessable", "seconds", "comment")


def from_markups(path: Path, case: Case) -> list[Incoming]:
    """Read the six-point closed curves of a Slicer markups file; the level is the first word of a curve's name.

    The keypoints.mrk.json of a case is unreviewed while the analysis.json beside it is.
    """
    data = read_data(path)
    try:
        found = read_markups(path)
        labels = tuple(Label(level_of(f"{name} ".split(" ")[0], path), points) for name, points in found)
        others = len(data["markups"]) - len(found)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise unreadable(path, error) from error
    left = (f"{path.name}: {others} markups that are not closed curves of six points",) if others else ()
    return [Incoming(labels, left_out=left, unreviewed=_of_open_case(path))]


def _of_open_case(path: Path) -> bool:
    """True if the file is the key points of a case whose analysis waits for review, or cannot be read."""
    analysis = path.with_name("analysis.json")
    if path.name != "keypoints.mrk.json" or not analysis.exists():
        return False
    try:
        return from_analysis(analysis, Case("", ""))[0].unreviewed
    except VFQError:
        return True


def markups(reading: LabelReading) -> str:
    """Return the Slicer markups file of a reading."""
    kept = reading.measured
    measured = measure_column([v.keypoints for v in kept if v.keypoints is not None])
    vertebrae = tuple(
        Vertebra(np.asarray(v.keypoints), m, level=v.level, origin="reader")
        for v, m in zip(kept, measured, strict=True)
    )
    document = markups_document(SpineAnalysis(reading.case, vertebrae=vertebrae))
    return json.dumps(document, indent=1, allow_nan=False)


def from_csv(path: Path, case: Case) -> list[Incoming]:
    """Read a table as `table` writes it; a column may be missing if its cells would be empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
            missing = sorted({"level", *POINTS} - set(rows[0] if rows else ()))
        if missing:
            raise unreadable(path, f"the column {missing[0]!r} is missing")
        keys = dict.fromkeys(map(_key, rows))
        return [_of_rows([row for row in rows if _key(row) == key], path) for key in keys]
    except FileNotFoundError:
        raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.") from None
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(path, error) from error


def _key(row: dict[str, str]) -> tuple[str | None, ...]:
    return row.get("case"), row.get("reader"), row.get("session")


def _of_rows(rows: list[dict[str, str]], path: Path) -> Incoming:
    first = rows[0]
    labels = tuple(_of_row(row, path) for row in rows)
    return Incoming(labels, first.get("reader") or None, first.get("case") or None, int(first.get("session") or 1))


def _of_row(row: dict[str, str], path: Path) -> Label:
    cells = [row[name] for name in POINTS]
    reason = row.get("not_assessable") or None
    if reason and reason not in REASONS:
        raise ValueError(f"not_assessable is {reason!r:.40}, but should be one of {', '.join(REASONS)}")
    points, code = as_points([float(c) for c in cells], (18,)) if any(cells) else (None, "")
    if code:
        raise ValueError(f"points of {row['level']}: {code}")
    seconds = float(row["seconds"]) if row.get("seconds") else None
    if seconds is not None and not 0 <= seconds < np.inf:
        raise ValueError(f"the seconds of {row['level']} are {row['seconds']!r:.20}")
    return Label(
        level=level_of(row["level"], path),
        keypoints=None if points is None else points.reshape(3, 2, 3),
        not_assessable=reason,
        seconds=seconds,
        comment=row.get("comment") or "",
    )


def table(readings: Sequence[LabelReading]) -> str:
    """Return one CSV row for each vertebra of these readings."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for reading in readings:
        for label in reading.labels:
            points = [""] * 18 if label.keypoints is None else [repr(float(x)) for x in label.keypoints.ravel()]
            seconds = "" if label.seconds is None else repr(label.seconds)
            end = (label.not_assessable or "", seconds, label.comment)
            writer.writerow((reading.case, reading.reader, reading.session, label.level or "", *points, *end))
    return text.getvalue()


def from_centroids(path: Path, case: Case) -> list[Incoming]:
    """Read centroids of the VerSe form: [{"direction": [...]}, {"label", "X", "Y", "Z"}, ...] in voxels.

    They become vertebrae without key points. VFQError `bad_import`, or `no_voxel_size` without the CT.
    """
    data = read_data(path)
    try:
        given = [entry for entry in data if "direction" in entry]
        matrix = _directed(case, given[0]["direction"] if given else None)
        labels = []
        for entry in (e for e in data if "label" in e):
            point, code = as_points([entry[axis] for axis in "XYZ"], (3,))
            if point is None or entry["label"] not in VERSE:
                raise ValueError(f"label {entry['label']!r:.20} is faulty {code}")
            center = matrix[:3, :3] @ point + matrix[:3, 3]
            labels.append(Label(VERSE[entry["label"]], center=center, source="centroid"))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise unreadable(path, error) from error
    return [Incoming(tuple(labels))]


def centroids(case: Case, reading: LabelReading) -> tuple[str, list[str]]:
    """Return the centroids of a reading in voxels of the CT's own axes, and what cannot be said so.

    The centroid of a vertebra with key points is their mean. VFQError `no_voxel_size`.
    """
    numbers = {name: number for number, name in VERSE.items()}
    inverse = np.linalg.inv(_directed(case, None))
    entries: list[dict[str, Any]] = [{"direction": _letters(np.linalg.inv(inverse))}]
    left_out = []
    for label in reading.labels:
        center = label.center if label.keypoints is None else centers(label.keypoints)
        if center is None or label.level not in numbers:
            left_out.append(f"{reading.case}, {reading.reader}: {label.level or 'a vertebra without a level'}.")
            continue
        voxel = inverse[:3, :3] @ center + inverse[:3, 3]
        entries.append({"label": numbers[label.level], **dict(zip("XYZ", voxel.tolist(), strict=True))})
    return json.dumps(entries, indent=1), left_out


def _directed(case: Case, direction: Sequence[str] | None) -> np.ndarray:
    """Return the matrix to RAS mm of voxels counted along `direction`, such as ["L", "A", "S"]; None: the CT's axes."""
    if case.ijk_to_ras is None or (direction is not None and case.shape is None):
        message = f"{case.name}: centroids are in voxels, but the CT is not known. Add the CT to the label set first."
        raise VFQError("no_voxel_size", message)
    if direction is None:
        return case.ijk_to_ras
    own, matrix = _letters(case.ijk_to_ras), np.eye(4)
    for column, letter in enumerate(direction):
        axis = next(a for a, o in enumerate(own) if letter in _OPPOSITE and o in (letter, _OPPOSITE[letter]))
        turned = own[axis] != letter
        matrix[:3, column] = case.ijk_to_ras[:3, axis] * (-1 if turned else 1)
        last = (case.shape or (0, 0, 0))[::-1][axis] - 1
        matrix[:3, 3] += case.ijk_to_ras[:3, axis] * (last if turned else 0)
    matrix[:3, 3] += case.ijk_to_ras[:3, 3]
    if len(set(direction)) != 3 or not abs(np.linalg.det(matrix)) > 0:
        raise ValueError(f"the direction {direction!r:.40} names no three axes")
    return matrix


_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}


def _letters(matrix: np.ndarray) -> list[str]:
    """Return where the three voxel axes run to, such as ["L", "P", "S"]."""
    found = []
    for axis in matrix[:3, :3].T:
        largest = int(np.argmax(abs(axis)))
        found.append(("RAS" if axis[largest] > 0 else "LPI")[largest])
    return found


def from_reference(path: Path, case: Case) -> list[Incoming]:
    """Read a six-point reference (`vfq-reference/1`); a level that is not certain becomes unknown."""
    data = read_data(path)
    try:
        if data["space"] != SPACE:
            raise ValueError(f"its space is {data['space']!r}")
        labels = []
        for entry in data["vertebrae"]:
            points, code = as_points(entry["keypoints"], (3, 2, 3))
            if points is None:
                raise ValueError(f"points of {entry.get('level')}: {code}")
            sure = entry.get("level_certain", True)
            level, note = level_of(entry.get("level"), path), str(entry.get("note") or "")
            comment = note if sure or not level else f"{level}? {note}"
            labels.append(Label(level if sure else None, points, comment=comment))
        cut, left_out = _partial(data.get("partial", []), path)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise unreadable(path, error) from error
    return [Incoming((*labels, *cut), case=data.get("case"), left_out=left_out)]


def _partial(entries: list[dict[str, Any]], path: Path) -> tuple[tuple[Label, ...], tuple[str, ...]]:
    """Return the vertebrae that the border cuts, and a sentence for each whose level is not known."""
    labels, left_out = [], []
    for entry in entries:
        level = known_level(entry.get("level")) if entry.get("level_certain", True) else None
        center = as_points(entry["center"], (3,))[0]
        if level and center is not None:
            labels.append(Label(level, center=center, not_assessable="cut_off"))
        else:
            left_out.append(f"{path.name}: a vertebra that the border cuts, as it is not known to be one of C2 to L6")
    return tuple(labels), tuple(left_out)


def reference(reading: LabelReading, case: Case) -> str:
    """Return a reading as a six-point reference, for `vfq evaluate` and `vfq train`."""
    vertebrae = [
        {"level": v.level, "level_certain": v.level is not None, "keypoints": np.asarray(v.keypoints).tolist()}
        for v in reading.measured
    ]
    cut = [
        {"level": v.level, "level_certain": v.level is not None, "center": v.center.tolist()}
        for v in reading.labels
        if v.keypoints is None and v.center is not None
    ]
    line = sorted((centers(np.asarray(v.keypoints)).tolist() for v in reading.measured), key=lambda c: -c[2])
    name = "" if case.ct is None else Path(case.ct).name
    data = {
        "case": case.name,
        "space": SPACE,
        "ct_file": name,
        "vertebrae": vertebrae,
        "partial": cut,
        "centerline": line,
    }
    return json.dumps(data, indent=1, allow_nan=False)


def from_analysis(path: Path, case: Case) -> list[Incoming]:
    """Read the vertebrae that a review left in an analysis.json: those that were not rejected.

    Whose reading it is says `reading.reader`, else the first verdict. It is unreviewed while automatic points are open.
    VFQError as `read_analysis`.
    """
    found = read_analysis(path)
    if found.status != "ok":
        raise VFQError("bad_import", f"{path.name}: the analysis failed ({found.status}), so it holds no vertebrae.")
    reading = read_data(path).get("reading") or {}
    readers = [name for name in (reading.get("reader"), *(v.reviewer for v in found.assessed)) if name]
    labels = tuple(
        Label(v.level, v.keypoints, machine_points_shown=True, source="reader" if v.origin == "reader" else "automatic")
        for v in found.assessed
    )
    waiting = any(v.review == "open" and v.origin == "model" for v in found.assessed)
    return [Incoming(labels, readers[0] if readers else None, found.case, unreviewed=waiting)]
