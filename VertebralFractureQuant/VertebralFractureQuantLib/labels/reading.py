"""A reading: the labels that one reader gave to the vertebrae of one case, plain data.

Points are RAS mm: key points `(3, 2, 3)`, a centre `(3,)`, a plane `(2, 3)` as a point in it and its normal. Times are
ISO 8601 with their zone. A final reading never changes; a correction is another version of it (`store`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..evaluation.problems import as_points, fault
from ..spine.levels import NAMES
from .files import damaged

SCHEMA = "vfq-reading/1"
SPACE = "RAS_mm"
SAME_MM = 1e-6  # another program's file rounds
STATES = ("draft", "final")
MODES = ("blinded", "assisted", "adjudication", "unknown")
REASONS = ("cut_off", "metal", "artefact", "fused", "other")
SOURCES = ("reader", "automatic", "mask", "centroid")


@dataclass(frozen=True, eq=False)
class Label:
    """One vertebra of a reading.

    Attributes
    ----------
    level : its name; None if unknown.
    keypoints : `(3, 2, 3)`; None if it has no six points.
    center : `(3,)` of a vertebra without key points, to begin with; else None.
    plane : `(2, 3)`, the sagittal plane in which the reader placed the points; None for that of the view.
    not_assessable : why it has no key points, one of `REASONS`; else None.
    comment : of the reader.
    seconds : that the reader spent on it; None if not measured.
    machine_points_shown : whether the reader saw automatic points of it; None if not known.
    source : where the points come from, one of `SOURCES`.
    """

    level: str | None
    keypoints: np.ndarray | None = None
    center: np.ndarray | None = None
    plane: np.ndarray | None = None
    not_assessable: str | None = None
    comment: str = ""
    seconds: float | None = None
    machine_points_shown: bool | None = None
    source: str = "reader"


@dataclass(frozen=True, eq=False)
class LabelReading:
    """The labels of one case by one reader.

    Attributes
    ----------
    case, reader : names.
    session : 2 for a second reading, which measures how well a reader repeats.
    version : 1, and one more for each correction of a final reading.
    revision : number of saves of this version; tells that a draft was saved elsewhere in the meantime.
    state, mode : of `STATES` and `MODES`.
    started_at, saved_at, finished_at : times; None if not known.
    comment : of the reader, on the case.
    ct_sha256 : of the voxels that were read; None without a CT.
    imported_from : name of the file it was imported from; else None.
    labels : the vertebrae, in the reader's order.
    """

    case: str
    reader: str
    session: int = 1
    version: int = 1
    revision: int = 0
    state: str = "draft"
    mode: str = "unknown"
    started_at: str | None = None
    saved_at: str | None = None
    finished_at: str | None = None
    comment: str = ""
    ct_sha256: str | None = None
    imported_from: str | None = None
    labels: tuple[Label, ...] = ()

    @property
    def measured(self) -> tuple[Label, ...]:
        """The labels with six key points."""
        return tuple(label for label in self.labels if label.keypoints is not None)


def now() -> str:
    """Return the time, ISO 8601 with the zone of this computer."""
    return datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")


def correction(reading: LabelReading) -> LabelReading:
    """Return a draft of the next version of a final reading, to be changed and saved."""
    return replace(reading, version=reading.version + 1, revision=0, state="draft", finished_at=None, started_at=now())


def same_labels(one: LabelReading, other: LabelReading) -> bool:
    """True if two readings have the same labels and comments, whenever they were made; points to `SAME_MM`."""
    pairs = zip(one.labels, other.labels, strict=False)
    same = one.comment == other.comment and len(one.labels) == len(other.labels)
    return same and all(_same(vars(a)[key], value) for a, b in pairs for key, value in vars(b).items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.allclose(one, other, rtol=0, atol=SAME_MM))
    return not isinstance(one, np.ndarray) and not isinstance(other, np.ndarray) and bool(one == other)


def faults_of(reading: LabelReading) -> list[str]:
    """Return what is wrong with a reading, one sentence each; a draft may have vertebrae that are not finished yet."""
    names = Counter(label.level for label in reading.labels if label.level)
    found = [f"{name}: this level is given {count} times." for name, count in names.items() if count > 1]
    for i, label in enumerate(reading.labels):
        found += [f"{label.level or f'vertebra {i + 1}'}: {text}" for text in _label_faults(label, reading.state)]
    return found


def _label_faults(label: Label, state: str) -> Iterable[str]:
    if label.level is not None and label.level not in NAMES:
        yield "no vertebra has this name."
    if label.keypoints is not None and label.not_assessable:
        yield "it has key points, and is not assessable."
    if label.keypoints is None and state == "final" and not label.not_assessable:
        yield "it has no key points. Place them, or give the reason why it is not assessable."
    if label.not_assessable and not label.level:
        yield "a vertebra that is not assessable needs a level, or nobody knows which one it is."
    wrong = fault(label.keypoints) if label.keypoints is not None and state == "final" else None
    if wrong:
        yield wrong[1]


def to_json(reading: LabelReading) -> dict[str, Any]:
    """Return the JSON object of schema `vfq-reading/1`; all digits are kept."""
    plain = {name: value for name, value in vars(reading).items() if name != "labels"}
    return {"schema": SCHEMA, "space": SPACE, **plain, "vertebrae": [label_to_json(v) for v in reading.labels]}


def label_to_json(label: Label) -> dict[str, Any]:
    """Return the JSON object of one vertebra."""
    data = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(label).items()}
    plane = data["plane"]
    data["plane"] = plane and {"point": plane[0], "normal": plane[1]}
    return data


def from_json(data: dict[str, Any], path: Path) -> LabelReading:
    """Read the JSON object of the file at `path`. VFQError `not_a_dataset` if a part is missing or has another type."""
    try:
        if data["space"] != SPACE:
            raise ValueError(f"its space is {data['space']!r}")
        labels = tuple(_label(v) for v in data["vertebrae"])
        texts: dict[str, Any] = {key: _kind(str, data[key]) for key in ("case", "reader", "comment")}
        counts: dict[str, Any] = {key: _kind(int, data[key]) for key in ("session", "version", "revision")}
        if min(counts["session"], counts["version"]) < 1:
            raise ValueError("session and version begin with 1")
        times: dict[str, Any] = {
            key: data[key] and _time(data[key]) for key in ("started_at", "saved_at", "finished_at")
        }
        rest: dict[str, Any] = {key: _kind((str, type(None)), data[key]) for key in ("ct_sha256", "imported_from")}
        state, mode = _one_of(STATES, data["state"]), _one_of(MODES, data["mode"])
        return LabelReading(**texts, **counts, **times, **rest, state=state, mode=mode, labels=labels)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def _label(data: dict[str, Any]) -> Label:
    plane = data.get("plane")
    return Label(
        level=_kind((str, type(None)), data["level"]),
        keypoints=_points(data["keypoints"], (3, 2, 3)),
        center=_points(data.get("center"), (3,)),
        plane=_points(plane and [plane["point"], plane["normal"]], (2, 3)),
        not_assessable=_one_of((*REASONS, None), data.get("not_assessable")),
        comment=_kind(str, data.get("comment", "")),
        seconds=_kind((int, float, type(None)), data.get("seconds")),
        machine_points_shown=_kind((bool, type(None)), data.get("machine_points_shown")),
        source=_one_of(SOURCES, data.get("source", "reader")),
    )


def _points(raw: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if raw is None:
        return None
    points, code = as_points(raw, shape)
    if points is None:
        raise ValueError(f"points of shape {shape} are expected ({code})")
    return points


def _kind(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, (int, float, type(None)))):
        raise TypeError(f"{value!r:.40} has the wrong type")
    return value


def _one_of(options: tuple[Any, ...], value: Any) -> Any:
    if value not in options:
        raise ValueError(f"{value!r:.40} is none of {', '.join(map(str, options))}")
    return value


def _time(text: Any) -> str:
    if datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo is None:
        raise ValueError(f"the time {text!r:.40} has no zone")
    return str(text)


def refuse(name: str, sentences: list[str]) -> None:
    """Raise VFQError `bad_labels` with the first sentences, if there are any."""
    if sentences:
        shown = "".join(f"\n  {sentence}" for sentence in sentences[:6])
        more = f"\n  and {len(sentences) - 6} more" if len(sentences) > 6 else ""
        message = f"{name}: {len(sentences)} faults, so nothing was saved. Correct them and try again.{shown}{more}"
        raise VFQError("bad_labels", message)
