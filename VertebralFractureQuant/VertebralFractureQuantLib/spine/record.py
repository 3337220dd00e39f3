"""The record of one analysed case: vertebrae with six key points, their measurements and their origin.

It is plain data, and JSON of schema `vfq-analysis/1` that keeps every digit of coordinates and measurements. All
coordinates are RAS mm. A record never contains a patient's name, id, date, UID or a path.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..imaging.axes import voxel_size
from .genant import GRADES, SHAPES, Measurement, deciding_text, deformity_index, severity, worst_grade
from .levels import in_doubt

SCHEMA = "vfq-analysis/1"
SPACE = "RAS_mm"
ORIGINS = ("model", "reader")
REVIEWS = ("open", "confirmed", "rejected")
SAME_PLACE_MM = 0.05  # file formats round headers differently
SAME_SPACING_MM = 1e-3


@dataclass(frozen=True, eq=False)
class Vertebra:
    """One vertebra: its key points, what was measured on them, and the state of its review.

    Attributes
    ----------
    keypoints : `(3, 2, 3)` = [anterior, middle, posterior] x [superior, inferior] x RAS mm.
    measurement : heights, G, grade and shape of these key points.
    score : the detector's confidence, 0 to 1.
    level : name such as "T7"; None if nothing in view identifies it.
    origin : "model", or "reader" after a reader placed or moved the points.
    review : "open", "confirmed" or "rejected".
    spread : the network's own estimate of the standard deviation of G; None for a reader's points.
    level_probabilities : names with a probability of at least 1 %.
    machine_keypoints : the network's key points `(3, 2, 3)`, kept after a reader moved them; else None.
    pinned : True if a reader set the level.
    reviewer : name of the reader who confirmed or rejected it; None while it is open.
    reviewed_at : when that was, UTC, ISO 8601; None while it is open.
    """

    keypoints: np.ndarray
    measurement: Measurement
    score: float = 1.0
    level: str | None = None
    origin: str = "model"  # of ORIGINS
    review: str = "open"  # of REVIEWS
    spread: float | None = None
    level_probabilities: dict[str, float] = field(default_factory=dict)
    machine_keypoints: np.ndarray | None = None
    pinned: bool = False
    reviewer: str | None = None
    reviewed_at: str | None = None


@dataclass(frozen=True)
class ModelStamp:
    """The network that made a result: its role ("localizer" | "refiner" | "detector"), name and SHA-256 of its weights.

    `backend` is the engine that computed it.
    """

    role: str
    name: str
    sha256: str
    backend: str | None = None  # "torch" | "openvino"; None in older records


@dataclass(frozen=True, eq=False)
class SpineAnalysis:
    """The result of one case: its vertebrae, or the coded reason why there are none.

    Attributes
    ----------
    case : name of the case.
    status : "ok" or a failure code of `errors.CODES`; then `message` says what is wrong and what to do.
    shape, spacing_mm : of the CT, [k, j, i].
    ijk_to_ras : `(4, 4)` of the CT.
    models : the networks.
    curve : `(n, 3)` RAS mm, cranial to caudal.
    limits_mm : the arc lengths on the curve between which the spine was seen.
    vertebrae : from cranial to caudal.
    timing_s : seconds by step.
    """

    case: str
    status: str = "ok"
    message: str = ""
    shape: tuple[int, ...] | None = None  # [k, j, i]
    spacing_mm: tuple[float, ...] | None = None  # [k, j, i]
    ijk_to_ras: np.ndarray | None = None  # None in older records
    models: tuple[ModelStamp, ...] = ()
    curve: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    limits_mm: tuple[float, float] | None = None
    vertebrae: tuple[Vertebra, ...] = ()
    timing_s: dict[str, float] = field(default_factory=dict)

    @property
    def assessed(self) -> tuple[Vertebra, ...]:
        """All vertebrae that no reader rejected."""
        return tuple(v for v in self.vertebrae if v.review != "rejected")

    @property
    def patient_ratio(self) -> float | None:
        """The smallest Genant ratio of the assessed vertebrae; None if there are none."""
        return min((v.measurement.genant_ratio for v in self.assessed), default=None)

    @property
    def patient_grade(self) -> str | None:
        """The worst grade of the assessed vertebrae; None if there are none."""
        return worst_grade(v.measurement.grade for v in self.assessed)

    @property
    def spinal_deformity_index(self) -> int | None:
        """The spinal deformity index of the assessed vertebrae; None if there are none."""
        return deformity_index(v.measurement.grade for v in self.assessed) if self.assessed else None


def vertebra_name(vertebra: Vertebra, index: int) -> str:
    """Return the name of the level, or "V1", "V2", ... counted from the top if the level is unknown."""
    return vertebra.level or f"V{index + 1}"


def shown_names(vertebrae: Sequence[Vertebra]) -> list[str]:
    """Return the names as `vertebra_name` does, with a question mark after those in doubt."""
    doubts = in_doubt(
        [v.level for v in vertebrae], [v.level_probabilities for v in vertebrae], [v.pinned for v in vertebrae]
    )
    return [
        vertebra_name(v, i) + ("" if doubt is None else "?")
        for i, (v, doubt) in enumerate(zip(vertebrae, doubts, strict=True))
    ]


def worst_text(analysis: SpineAnalysis) -> str | None:
    """Describe the worst of the assessed vertebrae, "T9 severe 0.55"; None if there are none."""
    named = zip(shown_names(analysis.vertebrae), analysis.vertebrae, strict=True)
    assessed = [(name, v.measurement) for name, v in named if v.review != "rejected"]
    if not assessed:
        return None
    name, m = min(assessed, key=lambda a: severity(a[1]))
    return f"{name} {m.grade} {deciding_text(m)}"


def to_json(analysis: SpineAnalysis) -> dict[str, Any]:
    """Return `analysis` as a JSON object of schema `vfq-analysis/1`."""
    return {
        "schema": SCHEMA,
        "case": analysis.case,
        "status": analysis.status,
        "message": analysis.message,
        "space": SPACE,
        "source": {
            "shape": _list(analysis.shape),
            "spacing_mm": _list(analysis.spacing_mm),
            "ijk_to_ras": _list(analysis.ijk_to_ras),
        },
        "models": [vars(m) for m in analysis.models],
        "curve": np.asarray(analysis.curve, float).tolist(),
        "limits_mm": _list(analysis.limits_mm),
        "vertebrae": [vertebra_to_json(v) for v in analysis.vertebrae],
        "patient": {
            "genant_ratio": analysis.patient_ratio,
            "grade": analysis.patient_grade,
            "sdi": analysis.spinal_deformity_index,
            "assessed": [vertebra_name(v, i) for i, v in enumerate(analysis.vertebrae) if v.review != "rejected"],
        },
        "timing_s": {k: round(float(v), 4) for k, v in analysis.timing_s.items()},
    }


def from_json(data: Any) -> SpineAnalysis:
    """Return the record of a JSON object: the inverse of `to_json`; unknown keys are ignored.

    VFQError `newer_schema`; `not_an_analysis` for anything else that cannot be read.
    """
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise _other_schema(schema)
    try:
        return _from_json(data)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise VFQError(
            "not_an_analysis", f"The analysis is damaged ({type(error).__name__}: {error}). Analyse the scan again."
        ) from error


def read_analysis(path: Path) -> SpineAnalysis:
    """Read the record in a file. VFQError `not_found`, `newer_schema`, `not_an_analysis`."""
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise VFQError(
            "not_an_analysis", f"{path.name!r} cannot be read as an analysis. Give an analysis.json from vfq analyze."
        ) from error


def check_belongs(analysis: SpineAnalysis, ct_shape: Sequence[int], ct_ijk_to_ras: np.ndarray) -> None:
    """Raise VFQError `other_ct` unless a CT `[k, j, i]` has the shape, spacing and corners of the analysed one.

    For records without a matrix, only shape and spacing are compared.
    """
    spacing = voxel_size(np.asarray(ct_ijk_to_ras))
    same = analysis.shape is not None and tuple(analysis.shape) == tuple(ct_shape)
    same = same and np.allclose(analysis.spacing_mm or np.nan, spacing, rtol=0, atol=SAME_SPACING_MM)
    if same and analysis.ijk_to_ras is not None:
        corners = _corners(ct_shape)
        moved = np.linalg.norm((corners @ (analysis.ijk_to_ras - ct_ijk_to_ras).T)[:, :3], axis=1)
        same = bool(moved.max() <= SAME_PLACE_MM)
    if not same:
        raise VFQError(
            "other_ct",
            "The analysis belongs to another CT: shape, spacing or position differ. Give the CT that was analysed, or "
            "analyse this one into another output folder.",
        )


def _corners(shape: Sequence[int]) -> np.ndarray:
    """Return the corners `(8, 4)` of a volume `[k, j, i]`: homogeneous (i, j, k) of its outermost voxels."""
    last = np.array(shape[::-1]) - 1.0
    corners = np.array(np.meshgrid(*[(0.0, n) for n in last])).reshape(3, -1).T
    return np.c_[corners, np.ones(8)]


def _other_schema(schema: Any) -> VFQError:
    newer = re.fullmatch(r"vfq-analysis/(\d+)", str(schema))
    if newer and int(newer.group(1)) > 1:
        return VFQError("newer_schema", f"The analysis ({schema}) was written by a newer version. Update this program.")
    return VFQError(
        "not_an_analysis",
        f"The file is not an analysis: its schema is {schema!r}, not {SCHEMA}. Give an analysis.json from vfq analyze.",
    )


def _from_json(data: dict[str, Any]) -> SpineAnalysis:
    source = _typed(dict, data.get("source") or {})
    _one_of((SPACE,), data.get("space", SPACE))
    return SpineAnalysis(
        case=_text(data["case"]),
        status=_text(data["status"]),
        message=_text(data.get("message", "")),
        shape=_optional(_counts, source.get("shape")),
        spacing_mm=_optional(lambda v: _numbers(v, 3), source.get("spacing_mm")),
        ijk_to_ras=_optional(lambda v: _array(v, (4, 4)), source.get("ijk_to_ras")),
        models=tuple(_stamp(m) for m in _typed(list, data.get("models", []))),
        curve=_curve(data.get("curve")),
        limits_mm=_optional(lambda v: _numbers(v, 2), data.get("limits_mm")),
        vertebrae=tuple(vertebra_from_json(v) for v in _typed(list, data.get("vertebrae", []))),
        timing_s=_shares(data.get("timing_s")),
    )


def _stamp(data: Any) -> ModelStamp:
    role, name, sha256 = (_text(_typed(dict, data)[key]) for key in ("role", "name", "sha256"))
    return ModelStamp(role, name, sha256, _optional(_text, data.get("backend")))


def vertebra_to_json(vertebra: Vertebra) -> dict[str, Any]:
    """Return one entry of "vertebrae"."""
    m = vertebra.measurement
    return {
        "level": vertebra.level,
        "level_probabilities": {name: round(float(p), 4) for name, p in vertebra.level_probabilities.items()},
        "score": float(vertebra.score),
        "keypoints": np.asarray(vertebra.keypoints, float).tolist(),
        "heights_mm": [float(h) for h in m.heights_mm],
        "genant_ratio": float(m.genant_ratio),
        "genant_spread": _float(vertebra.spread),
        "grade": m.grade,
        "shape": m.shape,
        "borderline": bool(m.borderline),
        "crush_ratio": _float(m.crush_ratio),
        "origin": vertebra.origin,
        "machine_keypoints": _list(vertebra.machine_keypoints),
        "pinned": bool(vertebra.pinned),
        "review": vertebra.review,
        "reviewer": vertebra.reviewer,
        "reviewed_at": vertebra.reviewed_at,
    }


def vertebra_from_json(data: dict[str, Any]) -> Vertebra:
    """Return the vertebra of one entry: the inverse of `vertebra_to_json`.

    KeyError, TypeError, ValueError or OverflowError if the entry is damaged.
    """
    _typed(dict, data)
    measurement = Measurement(
        heights_mm=_numbers(data["heights_mm"], 3),
        genant_ratio=_number(data["genant_ratio"]),
        grade=_one_of(GRADES, data["grade"]),
        shape=_one_of((None, *SHAPES), data["shape"]),
        borderline=_typed(bool, data["borderline"]),
        crush_ratio=_optional(_number, data.get("crush_ratio")),
    )
    return Vertebra(
        keypoints=_keypoints(data["keypoints"]),
        measurement=measurement,
        score=_number(data["score"]),
        spread=_optional(_number, data.get("genant_spread")),
        level=_optional(_text, data["level"]),
        level_probabilities=_shares(data.get("level_probabilities")),
        origin=_one_of(ORIGINS, data.get("origin", "model")),
        review=_one_of(REVIEWS, data.get("review", "open")),
        machine_keypoints=_optional(_keypoints, data.get("machine_keypoints")),
        pinned=_typed(bool, data.get("pinned", False)),
        reviewer=_optional(_text, data.get("reviewer")),
        reviewed_at=_optional(_text, data.get("reviewed_at")),
    )


def _typed(kind: type, value: Any) -> Any:
    """Return `value`; TypeError unless it is a `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {value!r:.40}")
    return value


def _text(value: Any) -> str:
    return str(_typed(str, value))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(_typed(Real, value)):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value)


def _numbers(values: Any, count: int) -> Any:
    if len(values) != count:
        raise ValueError(f"expected {count} numbers, got {len(values)}")
    return tuple(_number(v) for v in values)


def _counts(values: Any) -> tuple[int, ...]:
    _numbers(values, 3)
    return tuple(_typed(int, v) for v in values)


def _shares(value: Any) -> dict[str, float]:
    return {_text(name): _number(v) for name, v in _typed(dict, value or {}).items()}


def _one_of(options: Sequence[Any], value: Any) -> Any:
    if value not in options:
        raise ValueError(f"expected one of {options}, got {value!r:.40}")
    return value


def _optional(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _array(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of finite numbers of this shape, where -1 is any length; text and booleans are no numbers."""
    array = np.asarray(value)
    fits = len(shape) == array.ndim and all(n in (-1, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in "iuf" or not fits or not np.isfinite(array).all():
        raise ValueError(f"expected finite numbers of shape {shape}")
    return array.astype(float)


def _curve(value: Any) -> np.ndarray:
    return _array(value, (-1, 3)) if value else np.empty((0, 3))


def _keypoints(value: Any) -> np.ndarray:
    return _array(value, (3, 2, 3))


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _list(value: Any) -> Any:
    return None if value is None else np.asarray(value).tolist()
