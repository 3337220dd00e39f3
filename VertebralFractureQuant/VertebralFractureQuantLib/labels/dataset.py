"""A label set: the cases, the readers and who reads what, as `dataset.json` in its folder.

Matrices map (i, j, k) to RAS mm; shapes are `[k, j, i]`. The readings themselves are kept by `store`. Every change goes
through `changing`, which holds the lock of the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..imaging.files import read_ct
from ..report.markups import POINT_NAMES
from ..spine.levels import NAMES
from ..spine.record import SAME_PLACE_MM
from .files import damaged, locked, read_json, write_json
from .reading import now

SCHEMA = "vfq-dataset/1"
FILE = "dataset.json"
LONGEST_READER = 80  # characters
LONGEST_FOLDER = 40
LONGEST_CASE = 200  # bytes


@dataclass(frozen=True, eq=False)
class Case:
    """A case of a label set.

    Attributes
    ----------
    name, patient : of the case, and of its patient, who may have several cases.
    ct : path of the CT, relative to the label set where possible; None for labels without their CT.
    ct_bytes : size of the file; None for a folder.
    sha256 : of the voxels and the matrix, see `fingerprint`; None without a CT.
    shape, ijk_to_ras : of the CT; without one the shape is None, and the matrix is that of the labels' voxels.
    imported : what the file it was imported from says of the case beside its labels, for the export.
    """

    name: str
    patient: str
    ct: str | None = None
    ct_bytes: int | None = None
    sha256: str | None = None
    shape: tuple[int, ...] | None = None
    ijk_to_ras: np.ndarray | None = None
    imported: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """A case that a reader is to read: in which session, not before when (days after the first one), if all read it."""

    case: str
    session: int = 1
    after_days: int = 0
    overlap: bool = False


@dataclass(frozen=True, eq=False)
class Dataset:
    """A label set.

    Attributes
    ----------
    folder, name, created_at : where it is, how it is called, since when it exists.
    protocol : `text` for the readers, `mode` ("blinded" or "assisted"), `levels` to be read (None: all), and `points`,
        the order in which the six points are clicked (absent: that of `POINT_NAMES`).
    seed : of the order of cases.
    cases : by name.
    readers : names of the readers.
    assignments : by reader, in the order in which they read.
    """

    folder: Path
    name: str
    created_at: str
    protocol: Mapping[str, Any]
    seed: int = 0
    cases: Mapping[str, Case] = field(default_factory=dict)
    readers: tuple[str, ...] = ()
    assignments: Mapping[str, tuple[Assignment, ...]] = field(default_factory=dict)

    @property
    def points_order(self) -> tuple[str, ...]:
        """The names of the six points in the order in which a reader clicks them."""
        return tuple(self.protocol.get("points") or POINT_NAMES)

    def case(self, name: str) -> Case:
        """Return the case of this name. VFQError `unknown_case`."""
        if name not in self.cases:
            known = ", ".join(sorted(self.cases)[:5])
            raise VFQError("unknown_case", f"The label set has no case {name!r}. It has {known or 'none'}.")
        return self.cases[name]

    def reader(self, name: str) -> str:
        """Return the name of a reader of the label set. VFQError `unknown_reader`."""
        if name not in self.readers:
            known = ", ".join(self.readers) or "none"
            raise VFQError("unknown_reader", f"The label set has no reader {name!r}. It has {known}.")
        return name

    def ct_path(self, case: Case) -> Path | None:
        """Return where the CT of a case is expected; None for a case without one."""
        return None if case.ct is None else Path(os.path.normpath(self.folder / case.ct))


def reader_folder(reader: str) -> str:
    """Return the name of a reader's folder: plain letters, and a digest, as different names never share one."""
    safe = re.sub(r"[^\w+-]+", "_", reader).strip("_").encode()[:LONGEST_FOLDER].decode(errors="ignore") or "reader"
    return f"{safe}-{hashlib.sha256(reader.encode()).hexdigest()[:8]}"


def checked_reader(name: str) -> str:
    """Return a reader's name without spaces around it. VFQError `no_reader` unless 1 to 80 printable characters."""
    name = name.strip()
    if not 0 < len(name) <= LONGEST_READER or not name.isprintable():
        raise VFQError(
            "no_reader", f"A reader needs a name of 1 to {LONGEST_READER} characters; {name[:20]!r} is none."
        )
    return name


def fingerprint(ct: CTVolume) -> str:
    """Return the SHA-256 of the voxels (int16, little endian) with shape and matrix (rounded to 0.0001 mm)."""
    digest = hashlib.sha256(repr((ct.voxels.shape, (np.round(ct.ijk_to_ras, 4) + 0.0).tolist())).encode())
    digest.update(np.ascontiguousarray(ct.voxels, "<i2").data)
    return digest.hexdigest()


def case_of(path: Path, name: str, patient: str, folder: Path, trust_header: bool = False) -> Case:
    """Read the CT at `path`, and return its case in the label set in `folder`. VFQError as `read_ct`."""
    ct = read_ct(path, trust_header=trust_header)
    try:
        where = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # another drive of Windows
        where = str(path.resolve())
    size = path.stat().st_size if path.is_file() else None
    return Case(name, patient, Path(where).as_posix(), size, fingerprint(ct), ct.voxels.shape, ct.ijk_to_ras)


def check_ct(case: Case, ct: CTVolume) -> None:
    """Raise VFQError `other_ct` unless `ct` is the CT that the label set was made for."""
    if case.sha256 != fingerprint(ct):
        message = (
            "The CT is not the one that the label set was made for. Restore that CT, or add this one as another case."
        )
        raise VFQError("other_ct", f"{case.name}: {message}")


def create(folder: Path, name: str, protocol: Mapping[str, Any], seed: int = 0) -> Dataset:
    """Make an empty label set in `folder`.

    Raises
    ------
    VFQError
        `output_exists` if there is one, or the folder holds other files; `bad_labels` for unknown levels or points.
    """
    check_new(folder, protocol)
    dataset = Dataset(folder, name, now(), {"text": "", "mode": "blinded", "levels": None, **protocol}, seed)
    with locked(folder):
        put(dataset)
    return dataset


def check_new(folder: Path, protocol: Mapping[str, Any]) -> None:
    """Raise VFQError as `create` does, before minutes of reading CTs."""
    unknown = [level for level in protocol.get("levels") or () if level not in NAMES]
    if unknown:
        raise VFQError("bad_labels", f"{', '.join(unknown)}: no vertebra has this name. Give levels such as T4 or L1.")
    points = protocol.get("points") or ()
    if not _is_order(points):
        message = (
            f"{' '.join(map(str, points))}: these are not the six points. Give {' '.join(POINT_NAMES)} in an order."
        )
        raise VFQError("bad_labels", message)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        message = f"{folder.name}: the folder exists and is not empty. Choose another one for a new label set."
        raise VFQError("output_exists", message)


def load(folder: Path) -> Dataset:
    """Read the label set in `folder`. VFQError `not_found`, `newer_schema` or `not_a_dataset`."""
    if not (folder / FILE).exists():
        message = f"{folder.name} holds no {FILE}. Give a folder that vfq dataset create made."
        raise VFQError("not_a_dataset" if folder.is_dir() else "not_found", message)
    data = read_json(folder / FILE, SCHEMA)
    try:
        return _from_json(data, folder)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged(folder / FILE, f"{type(error).__name__}: {error}") from error


@contextmanager
def changing(folder: Path) -> Iterator[list[Dataset]]:
    """Lock the label set, and yield a list with it; what the block puts there is written if it differs.

    Raises
    ------
    VFQError
        As `load`; `dataset_in_use`; `output_not_writable`.
    """
    load(folder)  # nothing is created in a folder that is no label set
    with locked(folder):
        held = [load(folder)]
        before = to_json(held[0])
        yield held
        if to_json(held[0]) != before:
            put(held[0])


def put(dataset: Dataset) -> None:
    """Write dataset.json, under the lock. VFQError `output_not_writable`."""
    write_json(dataset.folder / FILE, to_json(dataset))


def with_readers(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Return the label set with these readers too. VFQError `no_reader` for a name that cannot be one."""
    added = [checked_reader(name) for name in names]
    return replace(dataset, readers=tuple(dict.fromkeys((*dataset.readers, *added))))


def with_cases(dataset: Dataset, cases: Sequence[Case]) -> Dataset:
    """Return the label set with these cases too.

    Raises
    ------
    VFQError
        `other_ct` if a case of the same name, ignoring capitals, has another CT; `bad_labels` for a name that no file
        can have.
    """
    for case in cases:
        if not _is_name(case.name):
            message = f"{case.name!r:.60} cannot be the name of a case, as files are called after it. Use --case."
            raise VFQError("bad_labels", message)
    known = {name.lower(): case for name, case in dataset.cases.items()}
    for case in cases:
        there = known.get(case.name.lower())
        if there and not same_case(there, case):
            message = f"{case.name}: the label set has another CT of this name. Rename one of the files."
            raise VFQError("other_ct", message)
    fresh = {case.name: case for case in cases if case.name.lower() not in known}
    return replace(dataset, cases={**dataset.cases, **fresh})


def same_case(one: Case, other: Case) -> bool:
    """True if two cases have the same CT, or without one, the same voxels."""
    if one.sha256 or other.sha256 or one.ijk_to_ras is None or other.ijk_to_ras is None:
        return one.name == other.name and one.sha256 == other.sha256
    return one.name == other.name and bool(np.allclose(one.ijk_to_ras, other.ijk_to_ras, atol=SAME_PLACE_MM / 100))


def to_json(dataset: Dataset) -> dict[str, Any]:
    """Return the JSON object of schema `vfq-dataset/1`."""
    return {
        "schema": SCHEMA,
        "name": dataset.name,
        "created_at": dataset.created_at,
        "seed": dataset.seed,
        "protocol": dict(dataset.protocol),
        "readers": [{"name": name, "folder": reader_folder(name)} for name in dataset.readers],
        "cases": [_case_json(case) for case in dataset.cases.values()],
        "assignments": [{"reader": r, **vars(a)} for r, own in dataset.assignments.items() for a in own],
    }


def _case_json(case: Case) -> dict[str, Any]:
    matrix = None if case.ijk_to_ras is None else case.ijk_to_ras.tolist()
    return {
        **vars(case),
        "shape": case.shape and list(case.shape),
        "ijk_to_ras": matrix,
        "imported": dict(case.imported),
    }


def _from_json(data: dict[str, Any], folder: Path) -> Dataset:
    cases = [_case(entry) for entry in data["cases"]]
    readers = tuple(checked_reader(entry["name"]) for entry in data["readers"])
    if len({case.name.lower() for case in cases}) < len(cases) or len(set(readers)) < len(readers):
        raise ValueError("a case or a reader is listed twice")
    if not _is_order(data["protocol"].get("points")):
        raise ValueError("the points of the protocol are not the six points")
    assignments: dict[str, list[Assignment]] = {}
    for entry in data["assignments"]:
        keys = {key: entry[key] for key in ("case", "session", "after_days", "overlap")}
        assignments.setdefault(str(entry["reader"]), []).append(Assignment(**keys))
    return Dataset(
        folder=folder,
        name=str(data["name"]),
        created_at=str(data["created_at"]),
        protocol=dict(data["protocol"]),
        seed=int(data["seed"]),
        cases={case.name: case for case in cases},
        readers=readers,
        assignments={reader: tuple(own) for reader, own in assignments.items()},
    )


def _is_order(points: Any) -> bool:
    """True for the six points in any order, and for none."""
    return not points or (isinstance(points, (list, tuple)) and sorted(map(str, points)) == sorted(POINT_NAMES))


def _is_name(name: str) -> bool:
    """True if files can be called after this name, on every system."""
    return bool(re.fullmatch(r"[\w+-][\w.+-]*", name)) and len(name.encode()) <= LONGEST_CASE


def _case(data: dict[str, Any]) -> Case:
    matrix = None if data["ijk_to_ras"] is None else np.array(data["ijk_to_ras"], float)
    if matrix is not None and (matrix.shape != (4, 4) or not abs(np.linalg.det(matrix)) > 0):
        raise ValueError(f"the matrix of {data['name']} is invalid")
    name = str(data["name"])
    if not _is_name(name):
        raise ValueError(f"{name!r} cannot be the name of a case")
    shape = data["shape"] and tuple(int(n) for n in data["shape"])
    ct, size, digest = (data[key] for key in ("ct", "ct_bytes", "sha256"))
    return Case(name, str(data["patient"]), ct, size, digest, shape, matrix, dict(data["imported"]))
